//! The configuration while the agent runs: the file is looked at every [`POLL`] and at SIGHUP, and taken up when all of it is good.
//!
//! # Rules
//! - A file with a mistake changes nothing; every mistake is logged, once per version of the file.
//! - A file that changes by itself is read when it stayed the same for one look: an editor that writes in two steps, or a shell that
//!   empties the file first, must not make the defaults valid for a moment. SIGHUP reads at once.
//! - What cannot change while the agent runs keeps its value and is named in a warning; the rest is taken up.
//! - A file that is gone changes nothing either.

use crate::chain::chain;
use crate::config::{Config, Takes, differing, keep};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval};

/// Between two looks at the file: one system call.
const POLL: Duration = Duration::from_secs(2);

/// What tells one version of a file from another. Replacing by rename changes the inode, writing in place the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

/// Looks at the file.
struct Follower {
    path: PathBuf,
    config: watch::Sender<Arc<Config>>,
    /// What was read last, good or bad.
    read: Option<Stamp>,
    /// What the last look saw.
    seen: Option<Stamp>,
}

/// Follows the file until dropped, and publishes what is good. `asked` is notified to read it at once.
pub async fn follow(path: PathBuf, config: watch::Sender<Arc<Config>>, asked: Arc<Notify>) {
    let stamp = Stamp::of(&path);
    let mut follower = Follower { path, config, read: stamp, seen: stamp };
    let mut look = interval(POLL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = look.tick() => follower.look(),
            () = asked.notified() => follower.read(),
        }
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Some(Self { inode: metadata.ino(), length: metadata.len(), modified })
    }
}

impl Follower {
    fn look(&mut self) {
        let stamp = Stamp::of(&self.path);
        let settled = stamp == self.seen;
        self.seen = stamp;
        if stamp.is_some() && stamp != self.read && settled {
            self.read();
        }
    }

    fn read(&mut self) {
        self.read = Stamp::of(&self.path);
        match Config::load(&self.path) {
            Ok(new) => self.take(new),
            Err(error) => tracing::error!(
                error = %chain(&error),
                "the configuration is not taken up; what was read before stays in force"
            ),
        }
    }

    fn take(&self, mut new: Config) {
        let old = Arc::clone(&self.config.borrow());
        let (changed, kept) = (differing(&new, &old, Takes::Effect), differing(&new, &old, Takes::Restart));
        if !kept.is_empty() {
            tracing::warn!(keys = ?kept, "these keys cannot change while the agent runs; a restart takes them up");
        }
        if new.pool.mode != old.pool.mode || new.grant_dir != old.grant_dir {
            // What other keys mean depends on these: half of such a file would be another configuration than anybody wrote.
            return;
        }
        keep(&mut new, &old);
        if changed.is_empty() {
            tracing::info!("the configuration was read again; nothing to take up");
        } else {
            tracing::info!(keys = ?changed, "the configuration changed");
            self.config.send_replace(Arc::new(new));
        }
    }
}

#[cfg(test)]
mod tests;
