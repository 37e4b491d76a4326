//! What libcni remembers between ADD and DEL: one file `results/<network>-<container>-<interface>` per attachment, in libcni's own
//! format (`cniCacheV1`), so that files of either are read by the other.
//!
//! The name of the network is part of the key: a conflist that changes its name loses its attachments. A file that cannot be read is as none.

use crate::conf::NetworkList;
use crate::result::{CniResult, ResultError};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// One interface of one container: what a runtime asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_NETNS`.
    pub netns: String,
    /// `CNI_IFNAME`.
    pub if_name: String,
    /// `CNI_ARGS`, in order.
    pub args: Vec<(String, String)>,
    /// What the runtime has for plugins that declare the capability.
    pub capability_args: Map<String, Value>,
}

/// Why the cache failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CacheError {
    /// A file or directory cannot be used.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// The cached result cannot be used.
    #[error("use the cached result in {}", path.display())]
    Result {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: ResultError,
    },
}

/// The directory.
#[derive(Debug, Clone)]
pub struct Cache {
    results: PathBuf,
}

const KIND: &str = "cniCacheV1";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    kind: String,
    container_id: String,
    config: String,
    if_name: String,
    network_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    netns: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cni_args: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    capability_args: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    result: Map<String, Value>,
}

impl Attachment {
    /// An attachment without arguments.
    #[must_use]
    pub fn new(container_id: &str, netns: &str, if_name: &str) -> Self {
        Self {
            container_id: container_id.to_owned(),
            netns: netns.to_owned(),
            if_name: if_name.to_owned(),
            args: Vec::new(),
            capability_args: Map::new(),
        }
    }
}

impl Cache {
    /// A cache beneath `dir`; nothing is made before something is stored.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { results: dir.join("results") }
    }

    /// Where an attachment is remembered.
    #[must_use]
    pub fn file(&self, network: &str, attachment: &Attachment) -> PathBuf {
        self.results.join(format!("{network}-{}-{}", attachment.container_id, attachment.if_name))
    }

    pub(crate) fn store(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
        result: &CniResult,
    ) -> Result<(), CacheError> {
        let Value::Object(result) = result.to_value() else { unreachable!("a result is an object") };
        let entry = Entry {
            kind: KIND.to_owned(),
            container_id: attachment.container_id.clone(),
            config: BASE64_STANDARD.encode(&list.bytes),
            if_name: attachment.if_name.clone(),
            network_name: list.name.clone(),
            netns: attachment.netns.clone(),
            cni_args: attachment.args.clone(),
            capability_args: attachment.capability_args.clone(),
            result,
        };
        let text = serde_json::to_vec(&entry).expect("text and JSON values are JSON");
        let path = self.file(&list.name, attachment);
        std::fs::create_dir_all(&self.results).map_err(io("make", &self.results))?;
        std::fs::write(&path, text).map_err(io("write", &path))
    }

    /// The result of an attachment's ADD in the version of the list, if there is one.
    pub(crate) fn result(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
    ) -> Result<Option<CniResult>, CacheError> {
        let path = self.file(&list.name, attachment);
        let Some(entry) = read(&path) else { return Ok(None) };
        let result = CniResult::from_object(entry.result, &list.version)
            .and_then(|result| result.in_version(&list.version));
        result.map(Some).map_err(|cause| CacheError::Result { path, cause })
    }

    pub(crate) fn forget(&self, list: &NetworkList, attachment: &Attachment) {
        // Gone already, or never written: both are what is wanted.
        let _ = std::fs::remove_file(self.file(&list.name, attachment));
    }

    /// All attachments of a network, in the order of their files' names.
    ///
    /// # Errors
    /// When the directory cannot be read; one that is not there holds nothing.
    pub fn attachments(&self, network: &str) -> Result<Vec<Attachment>, CacheError> {
        let entries = match std::fs::read_dir(&self.results) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(cause) => return Err(io("list", &self.results)(cause)),
        };
        let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        let of_network =
            paths.iter().filter_map(|path| read(path)).filter(|entry| entry.network_name == network);
        Ok(of_network.map(Entry::into_attachment).collect())
    }
}

impl Entry {
    fn into_attachment(self) -> Attachment {
        Attachment {
            container_id: self.container_id,
            netns: self.netns,
            if_name: self.if_name,
            args: self.cni_args,
            capability_args: self.capability_args,
        }
    }
}

fn read(path: &Path) -> Option<Entry> {
    let entry: Entry = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    (entry.kind == KIND).then_some(entry)
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> CacheError {
    let path = path.to_owned();
    move |cause| CacheError::Io { doing, path, cause }
}
