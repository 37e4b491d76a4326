//! Stores that were set aside: kept beside the one in use, for a person to look at (`spur-ipamd store FILE` shows what can be read), but not
//! so many that they fill the disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// How many are kept.
pub(super) const KEPT: usize = 4;

/// What their names have, before the time.
const MARK: &str = "unusable-";

/// Moves the store to a name of its own, and removes the oldest of its predecessors.
pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let mut kept = path.with_extension(format!("redb.{MARK}{millis:016}"));
    while kept.exists() {
        // Two in one millisecond; the later one sorts later.
        kept.as_mut_os_string().push("-");
    }
    fs::rename(path, &kept)?;
    let dir = path.parent().unwrap_or_else(|| Path::new("/"));
    for old in all(dir)?.iter().rev().skip(KEPT) {
        // Tidying only; the next time tries again. A directory that somebody put there stays.
        let _ = fs::remove_file(old);
    }
    Ok(kept)
}

/// The one that was set aside last.
pub(super) fn newest(dir: &Path) -> Option<PathBuf> {
    // A directory that cannot be listed cannot be written to either, which is said elsewhere.
    all(dir).ok()?.pop()
}

/// All of them, oldest first.
fn all(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let is_aside = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().contains(&format!(".redb.{MARK}")))
    };
    let mut found: Vec<PathBuf> =
        fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.path())).filter(is_aside).collect();
    found.sort();
    Ok(found)
}
