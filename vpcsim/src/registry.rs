//! Which worlds exist on this machine: one record per world name under `/run/vpcsim`.
//!
//! A record lists the network namespaces of a world and is written before the first of them is made, so that whatever
//! a killed process leaves behind can be found and removed by name. The process that runs a world holds a lock on
//! its record; the kernel drops the lock with the process, so a record without a lock is a leftover and one with a
//! lock is somebody's running world, which is never touched. This module removes no namespace itself.

use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where records live unless a test says otherwise.
pub const RECORDS: &str = "/run/vpcsim";

/// Longest record that is read: 1,000 nodes fit.
const MAX_RECORD_BYTES: u64 = 1 << 20;

/// What a record says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The process that wrote it.
    pub pid: u32,
    /// Names of the world's network namespaces below `/run/netns`.
    pub namespaces: Vec<String>,
}

/// The exclusive right to a world's name, until it is dropped or the process ends.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    file: File,
    found: Record,
}

/// Why a name cannot be had or a record not be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Another process runs this world.
    #[error("world {name:?} is running as process {pid}: stop that one first (SIGTERM)")]
    Running {
        /// The world.
        name: String,
        /// Its process.
        pid: u32,
    },
    /// The record could not be opened, locked, read or written.
    #[error("{doing} the record {path}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// The record.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
}

impl Claim {
    /// Claims `name`; what an earlier process left under it is in [`Claim::leftovers`].
    ///
    /// # Errors
    /// [`RegistryError::Running`] while another process holds the name.
    pub fn take(records: &Path, name: &str) -> Result<Self, RegistryError> {
        let path = records.join(format!("{name}.json"));
        let file_error = |doing, cause| RegistryError::File { doing, path: path.clone(), cause };
        loop {
            std::fs::create_dir_all(records).map_err(|cause| file_error("make the directory of", cause))?;
            let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            let mut file = match opened {
                // The last world's end removed the directory in between: make it again.
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.map_err(|cause| file_error("open", cause))?,
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let pid = read(&mut file).unwrap_or_default().pid;
                    return Err(RegistryError::Running { name: name.to_owned(), pid });
                }
                Err(TryLockError::Error(cause)) => return Err(file_error("lock", cause)),
            }
            // Whoever held the lock before may have removed the file that we opened: then the lock means nothing.
            if is_same_file(&file, &path) {
                let found = read(&mut file).map_err(|cause| file_error("read", cause))?;
                return Ok(Self { path, file, found });
            }
        }
    }

    /// The namespaces that the record named when it was claimed.
    #[must_use]
    pub fn leftovers(&self) -> &[String] {
        &self.found.namespaces
    }

    /// Records `namespaces` as this world's. Must come before the first of them is made.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn record(&mut self, namespaces: &[String]) -> Result<(), RegistryError> {
        let record = Record { pid: std::process::id(), namespaces: namespaces.to_vec() };
        self.write(&record).map_err(|cause| RegistryError::File {
            doing: "write",
            path: self.path.clone(),
            cause,
        })
    }

    fn write(&mut self, record: &Record) -> std::io::Result<()> {
        let text = serde_json::to_vec(record)?;
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(&text)
    }

    /// Removes the record: nothing of the world is left.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn release(self) -> Result<(), RegistryError> {
        std::fs::remove_file(&self.path).map_err(|cause| RegistryError::File {
            doing: "remove",
            path: self.path.clone(),
            cause,
        })?;
        if let Some(records) = self.path.parent() {
            // Fails while other worlds have records there, as it should.
            let _ = std::fs::remove_dir(records);
        }
        Ok(())
    }
}

fn is_same_file(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

fn read(file: &mut File) -> std::io::Result<Record> {
    let mut text = Vec::new();
    file.rewind()?;
    file.take(MAX_RECORD_BYTES).read_to_end(&mut text)?;
    if text.is_empty() { Ok(Record::default()) } else { Ok(serde_json::from_slice(&text)?) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_held_once_and_free_again_after_release() {
        let dir = tempfile::tempdir().unwrap();
        let records = dir.path().join("records");
        let mut claim = Claim::take(&records, "demo").unwrap();
        assert!(claim.leftovers().is_empty());
        claim.record(&["demo-fabric".to_owned()]).unwrap();
        let refused = Claim::take(&records, "demo").unwrap_err();
        assert!(
            matches!(refused, RegistryError::Running { pid, .. } if pid == std::process::id()),
            "{refused}"
        );
        Claim::take(&records, "other").unwrap().release().unwrap();
        claim.release().unwrap();
        assert!(!records.exists());
        Claim::take(&records, "demo").unwrap().release().unwrap();
    }

    #[test]
    fn a_record_without_its_process_names_what_was_left() {
        let dir = tempfile::tempdir().unwrap();
        let mut claim = Claim::take(dir.path(), "demo").unwrap();
        claim.record(&["demo-fabric".to_owned(), "demo-a".to_owned()]).unwrap();
        drop(claim);
        assert_eq!(Claim::take(dir.path(), "demo").unwrap().leftovers(), ["demo-fabric", "demo-a"]);
    }

    #[test]
    fn a_damaged_record_is_reported_and_not_taken_for_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("demo.json"), "{\"pid\":").unwrap();
        let error = Claim::take(dir.path(), "demo").unwrap_err();
        assert!(error.to_string().starts_with("read the record"), "{error}");
    }
}
