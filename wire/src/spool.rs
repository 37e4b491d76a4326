//! Releases that the agent could not take. When a pod is deleted while the agent is down, the plugin cleans the kernel, writes
//! one file per attachment here and succeeds; the agent reads the directory when it starts and whenever it reconciles.
//!
//! # Rules
//! - A file appears whole or not at all: written under a temporary name, synced, renamed, directory synced.
//! - The name is derived from network, container id and interface name, so a repeated DEL replaces its own file.
//! - The reader removes a file only *after* it made the release durable. Releasing twice is harmless, losing one is not.
//! - An attachment may be added again after its DEL. A release that is older than the grant it would end must be dropped, not
//!   obeyed: [`SpooledRelease::released_unix_ms`] is there to tell.
//! - Files that make no sense are reported, and left for a person to look at.
//! - What a writer that was killed left half written is no release: its DEL never succeeded, and the runtime repeats it. The reader
//!   removes it when no writer can be at it any more ([`SpooledRelease::tidy`]).

use crate::{Attachment, DelRequest};
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Where releases wait unless configured otherwise. Next to the agent's store and not below `/run`: whatever clears one of the
/// two must clear both.
pub const DEFAULT_SPOOL: &str = "/var/lib/spur/spool";

/// Longest file that is read: a container id is the only part without a bound of its own, and it came in a frame or would have.
const MAX_FILE: u64 = crate::MAX_FRAME as u64;

/// Only files with this ending are releases; temporary names have another.
const SUFFIX: &str = "json";

/// What temporary names end with, before the writer's process id.
const TEMPORARY: &str = "tmp-";

/// A writer needs milliseconds. One that is slower than this finds its file gone, fails, and is asked again by the runtime.
const WRITER_LIMIT: Duration = Duration::from_secs(60);

/// A release that waits for the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpooledRelease {
    /// [`crate::VERSION`] of the writer.
    pub version: u32,
    /// The name of the CNI network.
    pub network: String,
    /// What the plugin would have sent.
    pub request: DelRequest,
    /// When the plugin gave up on the agent, in milliseconds since 1970.
    pub released_unix_ms: u64,
}

/// What a directory of releases holds.
#[derive(Debug, Default)]
pub struct Spool {
    /// The releases and their files, oldest first.
    pub releases: Vec<(PathBuf, SpooledRelease)>,
    /// Files that could not be understood.
    pub broken: Vec<SpoolError>,
}

/// The spool could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The directory is not there and cannot be made.
    #[error("create the spool directory {}", .0.display())]
    Create(PathBuf, #[source] io::Error),
    /// The directory cannot be listed.
    #[error("list the spool directory {}", .0.display())]
    List(PathBuf, #[source] io::Error),
    /// A file cannot be written durably.
    #[error("write the spooled release {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
    /// A file cannot be read.
    #[error("read the spooled release {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// A file is longer than any release.
    #[error("spooled release {} is longer than {MAX_FILE} bytes", .0.display())]
    TooLong(PathBuf),
    /// A file is no release.
    #[error("spooled release {} is not what the plugin writes", .0.display())]
    Json(PathBuf, #[source] serde_json::Error),
    /// A file cannot be removed.
    #[error("remove the spooled release {}", .0.display())]
    Remove(PathBuf, #[source] io::Error),
}

impl SpooledRelease {
    /// The file of this attachment's release in the spool directory.
    #[must_use]
    pub fn path(dir: &Path, network: &str, attachment: &Attachment) -> PathBuf {
        let mut hash = Sha1::new();
        for part in [network, &attachment.container_id, &attachment.if_name] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let name: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        dir.join(name).with_extension(SUFFIX)
    }

    /// Makes the release durable in the directory, which is created if need be.
    ///
    /// *Guarantees*: after success the release survives a power loss; after failure no half-written release is visible. Idempotent.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write(&self, dir: &Path) -> Result<PathBuf, SpoolError> {
        create_durably(dir).map_err(|cause| SpoolError::Create(dir.to_owned(), cause))?;
        let path = Self::path(dir, &self.network, &self.request.attachment);
        let temporary = path.with_extension(format!("{TEMPORARY}{}", std::process::id()));
        let written = self.write_through(dir, &temporary, &path);
        if written.is_err() {
            // The error that matters is the one above; a leftover has a name that no reader looks at.
            let _ = fs::remove_file(&temporary);
        }
        written.map_err(|cause| SpoolError::Write(path.clone(), cause))?;
        Ok(path)
    }

    fn write_through(&self, dir: &Path, temporary: &Path, path: &Path) -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(temporary)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(temporary, path)?;
        File::open(dir)?.sync_all()
    }

    /// All releases in the directory; none if the directory is not there.
    ///
    /// # Errors
    /// When the directory cannot be listed. A file that cannot be understood is in [`Spool::broken`].
    pub fn read_all(dir: &Path) -> Result<Spool, SpoolError> {
        let mut spool = Spool::default();
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(spool),
            Err(error) => return Err(SpoolError::List(dir.to_owned(), error)),
        };
        for entry in entries {
            let path = entry.map_err(|cause| SpoolError::List(dir.to_owned(), cause))?.path();
            if path.extension().is_none_or(|extension| extension != SUFFIX) {
                continue;
            }
            match Self::read(&path) {
                Ok(Some(release)) => spool.releases.push((path, release)),
                Ok(None) => {}
                Err(error) => spool.broken.push(error),
            }
        }
        spool.releases.sort_by(|(a_path, a), (b_path, b)| {
            (a.released_unix_ms, a_path).cmp(&(b.released_unix_ms, b_path))
        });
        Ok(spool)
    }

    /// Removes what writers that were killed left half written; tells how many files. `now` is the time by the file system's clock.
    ///
    /// # Errors
    /// When the directory cannot be listed, or a file cannot be removed.
    pub fn tidy(dir: &Path, now: SystemTime) -> Result<usize, SpoolError> {
        let list = |cause| SpoolError::List(dir.to_owned(), cause);
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(list(error)),
        };
        let mut removed = 0;
        for entry in entries {
            let entry = entry.map_err(list)?;
            let path = entry.path();
            let temporary = path.extension().is_some_and(|e| e.to_string_lossy().starts_with(TEMPORARY));
            // A file without a time, or from the future, is younger than any limit.
            let written = entry.metadata().and_then(|metadata| metadata.modified()).ok();
            let age = written.and_then(|written| now.duration_since(written).ok());
            if temporary && age.is_some_and(|age| age > WRITER_LIMIT) {
                removed += usize::from(Self::remove(&path)?);
            }
        }
        Ok(removed)
    }

    /// One release; `None` if the file is gone.
    ///
    /// # Errors
    /// When the file cannot be read or is no release.
    pub fn read(path: &Path) -> Result<Option<Self>, SpoolError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SpoolError::Read(path.to_owned(), error)),
        };
        let mut bytes = Vec::new();
        let read = file.take(MAX_FILE + 1).read_to_end(&mut bytes);
        read.map_err(|cause| SpoolError::Read(path.to_owned(), cause))?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(SpoolError::TooLong(path.to_owned()));
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|cause| SpoolError::Json(path.to_owned(), cause))
    }

    /// Removes a release that is done with; `false` if it was not there.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove(path: &Path) -> Result<bool, SpoolError> {
        match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(SpoolError::Remove(path.to_owned(), error)),
        }
    }
}

/// Creates the directory and makes its name durable, and the names of those above it that were missing, too.
fn create_durably(dir: &Path) -> io::Result<()> {
    let missing: Vec<_> = dir.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for parent in missing.iter().filter_map(|made| made.parent()) {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
