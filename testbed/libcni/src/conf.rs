//! The network configuration list (`*.conflist`) and what each plugin of it gets on its standard input.
//!
//! Owns the choice of the version: the highest of `cniVersions` and `cniVersion` that this caller implements. Unknown keys are kept, in the list and in each
//! plugin's part. Not here: the directory of `*.conf` files beside the list, which libcni 1.3 reads too; Spur's list holds its plugins.

use crate::cache::Attachment;
use crate::result::CniResult;
use crate::version::{CURRENT, SpecVersion};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a list cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfError {
    /// The file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// It is not JSON.
    #[error("read the network configuration list as JSON")]
    Json(#[source] serde_json::Error),
    /// A key has no usable value.
    #[error("the network configuration list has no usable {0:?}")]
    Key(&'static str),
}

/// A network: its plugins, in the order of ADD.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkList {
    /// Name of the network.
    pub name: String,
    /// The version that every plugin of the list is called with.
    pub version: SpecVersion,
    /// The runtime is not to call CHECK.
    pub disable_check: bool,
    /// The runtime is not to call GC.
    pub disable_gc: bool,
    /// The plugins.
    pub plugins: Vec<PluginConf>,
    /// What the list was read from; the cache keeps it.
    pub bytes: Vec<u8>,
}

/// One plugin of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginConf {
    /// The name of its binary.
    pub kind: String,
    object: Map<String, Value>,
}

impl NetworkList {
    /// Reads a list from a file.
    ///
    /// # Errors
    /// When it cannot be read or makes no sense.
    pub fn load(path: &Path) -> Result<Self, ConfError> {
        let bytes = std::fs::read(path).map_err(|cause| ConfError::Read { path: path.to_owned(), cause })?;
        Self::parse(&bytes)
    }

    /// Reads a list.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfError> {
        let list: Map<String, Value> = serde_json::from_slice(bytes).map_err(ConfError::Json)?;
        let name = list.get("name").and_then(Value::as_str).ok_or(ConfError::Key("name"))?;
        let plugins = list.get("plugins").and_then(Value::as_array).ok_or(ConfError::Key("plugins"))?;
        if plugins.is_empty() {
            return Err(ConfError::Key("plugins"));
        }
        Ok(Self {
            name: name.to_owned(),
            version: choose_version(&list)?,
            disable_check: flag(&list, "disableCheck")?,
            disable_gc: flag(&list, "disableGC")?,
            plugins: plugins.iter().map(PluginConf::parse).collect::<Result<_, _>>()?,
            bytes: bytes.to_owned(),
        })
    }

    /// What a plugin gets on its standard input, before a verb adds its own keys.
    pub(crate) fn config(&self, plugin: &PluginConf) -> Map<String, Value> {
        let mut object = plugin.object.clone();
        object.insert("name".to_owned(), Value::from(self.name.as_str()));
        object.insert("cniVersion".to_owned(), Value::from(self.version.as_str()));
        object
    }

    /// The same for the verbs that are about one attachment.
    pub(crate) fn config_for(
        &self,
        plugin: &PluginConf,
        previous: Option<&CniResult>,
        attachment: &Attachment,
    ) -> Map<String, Value> {
        let mut object = self.config(plugin);
        if let Some(previous) = previous {
            object.insert("prevResult".to_owned(), previous.to_value());
        }
        let wanted = |key: &String| plugin.capabilities().any(|capability| capability == key);
        let args = attachment.capability_args.clone();
        let args: Map<_, _> = args.into_iter().filter(|(key, _)| wanted(key)).collect();
        if !args.is_empty() {
            object.insert("runtimeConfig".to_owned(), Value::Object(args));
        }
        object
    }
}

impl PluginConf {
    fn parse(value: &Value) -> Result<Self, ConfError> {
        let object = value.as_object().ok_or(ConfError::Key("plugins"))?;
        let kind = object.get("type").and_then(Value::as_str).filter(|kind| !kind.is_empty());
        Ok(Self { kind: kind.ok_or(ConfError::Key("type"))?.to_owned(), object: object.clone() })
    }

    /// The capabilities that it declares: only their arguments are passed to it.
    pub fn capabilities(&self) -> impl Iterator<Item = &String> {
        let declared = self.object.get("capabilities").and_then(Value::as_object);
        declared.into_iter().flatten().filter(|(_, supported)| **supported == true).map(|(name, _)| name)
    }
}

fn choose_version(list: &Map<String, Value>) -> Result<SpecVersion, ConfError> {
    const KEY: ConfError = ConfError::Key("cniVersion");
    const LIST: ConfError = ConfError::Key("cniVersions");
    let parse = |value: &Value| value.as_str().and_then(SpecVersion::parse);
    // Without any version a list is of 0.1.0, by the specification.
    let absent = Value::from("0.1.0");
    let single = list.get("cniVersion").map(|value| parse(value).ok_or(KEY)).transpose()?;
    let Some(offered) = list.get("cniVersions") else {
        return single.map_or_else(|| parse(&absent).ok_or(KEY), Ok);
    };
    let offered = offered.as_array().ok_or(LIST)?.iter().map(|value| parse(value).ok_or(LIST));
    let offered = offered.collect::<Result<Vec<_>, _>>()?;
    let current = SpecVersion::parse(CURRENT).expect("the constant is a version");
    let usable = offered.into_iter().chain(single.clone()).filter(|version| *version <= current);
    let highest = usable.reduce(|best, next| if next > best { next } else { best });
    highest.or(single).ok_or(LIST)
}

/// A truth value, which older lists write as text.
fn flag(list: &Map<String, Value>, key: &'static str) -> Result<bool, ConfError> {
    match list.get(key) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => Err(ConfError::Key(key)),
    }
}

#[cfg(test)]
mod tests;
