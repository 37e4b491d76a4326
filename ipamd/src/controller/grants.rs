//! The files that tell nodes what they have (`spur_ipamd_core::vpcroute`'s `NodeGrant` and `ClusterFacts`). Each is written whole or not at all,
//! and only when it changed. A node that left has no file any more; one whose block is still held has its file, even if it is not
//! on the list: the list may be wrong.

use spur_ipamd_core::vpcroute::{CLUSTER_FILE, Controller, NodeName};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file could not be written or removed.
#[derive(Debug, thiserror::Error)]
#[error("keep the grant {}", path.display())]
pub(super) struct GrantError {
    path: PathBuf,
    #[source]
    cause: io::Error,
}

/// The directory, and what is in it by our hand.
#[derive(Debug)]
pub(super) struct Grants {
    dir: PathBuf,
    /// Text of each file, by its path in the directory.
    written: BTreeMap<String, String>,
}

impl Grants {
    pub(super) const fn new(dir: PathBuf) -> Self {
        Self { dir, written: BTreeMap::new() }
    }

    /// What is to be in the directory, if it differs from what is there; to be written elsewhere, because it waits for a disk.
    /// Nothing before the controller knows better than the one before it.
    pub(super) fn pending(&mut self, controller: &Controller) -> Vec<(String, Option<String>)> {
        if !controller.is_observed() {
            return Vec::new();
        }
        let mut wanted = BTreeMap::from([(CLUSTER_FILE.to_owned(), controller.cluster_facts().text())]);
        wanted.extend(controller.grants().into_iter().map(|(node, grant)| (node.grant_file(), grant.text())));
        let there = files(&self.dir);
        // What somebody took away is written again, and an earlier controller's files are not known to say the right thing.
        self.written.retain(|file, _| there.contains(file));
        for file in there {
            self.written.entry(file).or_default();
        }
        let keep = |file: &String| {
            let node = file.strip_prefix("nodes/").and_then(|name| name.strip_suffix(".json"));
            let node: Option<NodeName> = node.and_then(|node| node.parse().ok());
            node.is_none_or(|node| controller.held(&node).next().is_some())
        };
        let gone = self.written.keys().filter(|file| !wanted.contains_key(*file) && !keep(file));
        let mut pending: Vec<_> = gone.map(|file| (file.clone(), None)).collect();
        let changed = wanted.into_iter().filter(|(file, text)| self.written.get(file) != Some(text));
        pending.extend(changed.map(|(file, text)| (file, Some(text))));
        pending
    }

    /// Remembers what was done.
    pub(super) fn done(&mut self, file: String, text: Option<String>) {
        match text {
            Some(text) => drop(self.written.insert(file, text)),
            None => drop(self.written.remove(&file)),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Grants and the common file, as far as they are in the directory.
fn files(dir: &Path) -> BTreeSet<String> {
    // Without the directory there are none; other errors show when it is written to.
    let entries = fs::read_dir(dir.join("nodes")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let nodes = names.filter_map(|name| name.strip_suffix(".json")?.parse::<NodeName>().ok());
    let cluster = dir.join(CLUSTER_FILE).exists().then(|| CLUSTER_FILE.to_owned());
    nodes.map(|node| node.grant_file()).chain(cluster).collect()
}

/// Puts a file in place, or takes it away.
pub(super) fn apply(dir: &Path, file: &str, text: Option<&str>) -> Result<(), GrantError> {
    let path = dir.join(file);
    let result = match text {
        Some(text) => write_whole(&path, text),
        None => match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        },
    };
    result.map_err(|cause| GrantError { path, cause })
}

/// Readers see the old file or the new one. The directory is not synced: what a crash undoes is written again at the next start.
pub(super) fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let parent = path.parent().unwrap_or_else(|| Path::new("/"));
    fs::create_dir_all(parent)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // There is one writer: what it left when it crashed it overwrites.
    let temporary = parent.join(format!(".{name}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
