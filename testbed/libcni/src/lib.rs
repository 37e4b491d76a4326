//! What libcni does between a container runtime and its CNI plugins, as a small blocking library for tests.
//!
//! Owns: the list and its version, VERSION before anything else, each plugin's configuration (name, version, `prevResult`, `runtimeConfig` by declared
//! capability), the order (ADD forwards, DEL backwards), the cache of results, GC with the list of what is valid. It follows libcni 1.3 (CNI
//! 1.1.0), whose calls are recorded in `tests/recorded` and compared with ours. libcni's own `cnitool` is not used, because Debian 12
//! has neither it nor a Go that could build it. Refuses to be a runtime: it makes no namespace, and no verb has a time limit.
//! One known difference: a program that is still being written after the last try is an error here; libcni takes it for an empty answer.

mod cache;
mod conf;
mod exec;
mod result;
mod version;

pub use cache::{Attachment, Cache, CacheError};
pub use conf::{ConfError, NetworkList, PluginConf};
pub use exec::{ExecError, PluginError};
pub use result::{CniResult, ResultError};
pub use version::{CURRENT, SpecVersion};

use exec::Call;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// What the name of a network is called in errors; it has another code than the names that come from the environment.
const NETWORK: &str = "network name";

/// Why a verb failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LibcniError {
    /// A name is none by the specification's rules.
    #[error("{value:?} is no {what}")]
    Name {
        /// Which name.
        what: &'static str,
        /// What was given.
        value: String,
    },
    /// A plugin failed.
    #[error("plugin {plugin} ({verb})")]
    Plugin {
        /// Its `type`.
        plugin: String,
        /// `CNI_COMMAND`.
        verb: &'static str,
        /// Why.
        #[source]
        cause: ExecError,
    },
    /// A plugin's output is no result.
    #[error("plugin {plugin} printed no result")]
    Output {
        /// Its `type`.
        plugin: String,
        /// Why not.
        #[source]
        cause: ResultError,
    },
    /// A plugin does not list the version of the network.
    #[error("plugin {plugin} does not speak {version}, only {spoken:?}")]
    Version {
        /// Its `type`.
        plugin: String,
        /// The network's version.
        version: SpecVersion,
        /// What it lists.
        spoken: Vec<String>,
    },
    /// CHECK came with 0.4.0.
    #[error("a network of {0} has no CHECK")]
    NoCheck(SpecVersion),
    /// The cache failed.
    #[error("use the cache")]
    Cache(#[source] CacheError),
    /// Several things failed, and the sweep went on.
    #[error("{} failures, the first: {}", .0.len(), .0[0])]
    Several(Vec<LibcniError>),
}

impl LibcniError {
    /// The code of the specification: the plugin's if one failed, of several the first. Zero is a plugin that said nothing readable.
    #[must_use]
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Plugin { cause: ExecError::Refused { error, .. }, .. } => Some(error.code),
            Self::Name { what: NETWORK, .. } => Some(7),
            Self::Name { .. } => Some(4),
            Self::Several(errors) => errors.iter().find_map(Self::code),
            _ => None,
        }
    }
}

/// The library: where plugins are, and what is remembered.
#[derive(Debug, Clone)]
pub struct Libcni {
    path: Vec<PathBuf>,
    cache: Cache,
    busy_pause: Duration,
}

/// What a plugin answers to VERSION.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct VersionInfo {
    supported_versions: Vec<String>,
}

impl Default for VersionInfo {
    fn default() -> Self {
        // A plugin that lists nothing is from the time of 0.1.0 and 0.2.0.
        Self { supported_versions: vec!["0.1.0".to_owned(), "0.2.0".to_owned()] }
    }
}

impl Libcni {
    /// Plugins are looked for in the directories of `path`, in this order.
    #[must_use]
    pub const fn new(path: Vec<PathBuf>, cache: Cache) -> Self {
        // libcni's own pause.
        Self { path, cache, busy_pause: Duration::from_secs(1) }
    }

    /// Another pause before a program that is being written is tried again.
    #[must_use]
    pub const fn with_busy_pause(mut self, pause: Duration) -> Self {
        self.busy_pause = pause;
        self
    }

    /// What is remembered.
    #[must_use]
    pub const fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Asks every plugin of the list whether it speaks the list's version, and returns the capabilities that they declare together.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub fn validate(&self, list: &NetworkList) -> Result<BTreeSet<String>, LibcniError> {
        let mut errors = Vec::new();
        for plugin in &list.plugins {
            errors.extend(self.validate_plugin(plugin, &list.version).err());
        }
        several(errors)?;
        Ok(list.plugins.iter().flat_map(PluginConf::capabilities).cloned().collect())
    }

    fn validate_plugin(&self, plugin: &PluginConf, version: &SpecVersion) -> Result<(), LibcniError> {
        // Plugins of old required these variables, whatever they were.
        let dummy = Attachment::new("", "dummy", "dummy");
        let mut env = self.env("VERSION", &dummy);
        env.retain(|(key, _)| *key != "CNI_PATH");
        env.push(("CNI_PATH", "dummy".to_owned()));
        let stdout = self.call(plugin, "VERSION", env, &json!({"cniVersion": CURRENT}))?;
        let info: VersionInfo = serde_json::from_slice(&stdout).map_err(|cause| LibcniError::Output {
            plugin: plugin.kind.clone(),
            cause: ResultError::Json(cause),
        })?;
        if info.supported_versions.iter().any(|spoken| spoken == version.as_str()) {
            return Ok(());
        }
        Err(LibcniError::Version {
            plugin: plugin.kind.clone(),
            version: version.clone(),
            spoken: info.supported_versions,
        })
    }

    /// ADD of every plugin in order, each with the result of the one before it; the last result is remembered.
    /// A failure undoes nothing: that is the runtime's DEL.
    ///
    /// # Errors
    /// Of the first plugin that fails.
    pub fn add(&self, list: &NetworkList, attachment: &Attachment) -> Result<CniResult, LibcniError> {
        validate_names(list, attachment)?;
        let mut previous = None;
        for plugin in &list.plugins {
            let stdout = self.call_for("ADD", list, plugin, previous.as_ref(), attachment)?;
            let result = CniResult::parse(&stdout, &list.version)
                .map_err(|cause| LibcniError::Output { plugin: plugin.kind.clone(), cause })?;
            previous = Some(result);
        }
        let result = previous.expect("a list has at least one plugin");
        self.cache.store(list, attachment, &result).map_err(LibcniError::Cache)?;
        Ok(result)
    }

    /// CHECK of every plugin in order, each with the remembered result of the whole list.
    ///
    /// # Errors
    /// Of the first plugin that fails; nothing is called when the list forbids it.
    pub fn check(&self, list: &NetworkList, attachment: &Attachment) -> Result<(), LibcniError> {
        if !list.version.is_at_least(0, 4) {
            return Err(LibcniError::NoCheck(list.version.clone()));
        }
        if list.disable_check {
            return Ok(());
        }
        let cached = self.cache.result(list, attachment).map_err(LibcniError::Cache)?;
        for plugin in &list.plugins {
            self.call_for("CHECK", list, plugin, cached.as_ref(), attachment)?;
        }
        Ok(())
    }

    /// DEL of every plugin, last first, each with the remembered result of the whole list, which is then forgotten.
    ///
    /// # Errors
    /// Of the first plugin that fails; then the result is kept for the next try.
    pub fn del(&self, list: &NetworkList, attachment: &Attachment) -> Result<(), LibcniError> {
        let mut cached = None;
        if list.version.is_at_least(0, 4) {
            cached = self.cache.result(list, attachment).unwrap_or_else(|_| {
                self.cache.forget(list, attachment);
                None
            });
        }
        for plugin in list.plugins.iter().rev() {
            self.call_for("DEL", list, plugin, cached.as_ref(), attachment)?;
        }
        self.cache.forget(list, attachment);
        Ok(())
    }

    /// STATUS of every plugin in order. Before 1.1.0 there is none, and nothing is called.
    ///
    /// # Errors
    /// Of the first plugin that fails, the rest is not asked.
    pub fn status(&self, list: &NetworkList) -> Result<(), LibcniError> {
        if !list.version.is_at_least(1, 1) {
            return Ok(());
        }
        for plugin in &list.plugins {
            self.call(plugin, "STATUS", self.env("STATUS", &nobody()), &Value::Object(list.config(plugin)))?;
        }
        Ok(())
    }

    /// DEL of every remembered attachment of the network that is not in `valid`, then (since 1.1.0) GC of every plugin.
    /// `None` is a runtime that has no list, as `cnitool gc`: everything that is remembered goes, and plugins get no list.
    ///
    /// # Errors
    /// Everything that failed; the sweep goes on.
    pub fn gc(&self, list: &NetworkList, valid: Option<&[Attachment]>) -> Result<(), LibcniError> {
        if list.disable_gc {
            return Ok(());
        }
        let mut errors = Vec::new();
        let is_valid = |known: &Attachment| {
            valid
                .into_iter()
                .flatten()
                .any(|valid| valid.container_id == known.container_id && valid.if_name == known.if_name)
        };
        let remembered = self.cache.attachments(&list.name).map_err(LibcniError::Cache)?;
        for stale in remembered.iter().filter(|known| !is_valid(known)) {
            errors.extend(self.del(list, stale).err());
        }
        for plugin in list.plugins.iter().filter(|_| list.version.is_at_least(1, 1)) {
            let config = with_valid(list.config(plugin), valid);
            let called = self.call(plugin, "GC", self.env("GC", &nobody()), &Value::Object(config));
            errors.extend(called.err());
        }
        several(errors)
    }

    fn call_for(
        &self,
        verb: &'static str,
        list: &NetworkList,
        plugin: &PluginConf,
        previous: Option<&CniResult>,
        attachment: &Attachment,
    ) -> Result<Vec<u8>, LibcniError> {
        let config = list.config_for(plugin, previous, attachment);
        self.call(plugin, verb, self.env(verb, attachment), &Value::Object(config))
    }

    fn call(
        &self,
        plugin: &PluginConf,
        verb: &'static str,
        env: Vec<(&'static str, String)>,
        config: &Value,
    ) -> Result<Vec<u8>, LibcniError> {
        let stdin = config.to_string();
        exec::find(&plugin.kind, &self.path)
            .and_then(|program| {
                exec::run(&Call { program, env, stdin: stdin.as_bytes(), busy_pause: self.busy_pause })
            })
            .map_err(|cause| LibcniError::Plugin { plugin: plugin.kind.clone(), verb, cause })
    }

    fn env(&self, verb: &'static str, attachment: &Attachment) -> Vec<(&'static str, String)> {
        let args: Vec<_> = attachment.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let path: Vec<_> = self.path.iter().map(|dir| dir.to_string_lossy()).collect();
        vec![
            ("CNI_COMMAND", verb.to_owned()),
            ("CNI_CONTAINERID", attachment.container_id.clone()),
            ("CNI_NETNS", attachment.netns.clone()),
            ("CNI_ARGS", args.join(";")),
            ("CNI_IFNAME", attachment.if_name.clone()),
            ("CNI_PATH", path.join(":")),
        ]
    }
}

/// Where `testbed/containerd/fetch` puts Debian's CNI reference plugins. containerd needs `loopback` of them beside any plugin.
#[must_use]
pub fn reference_plugins() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/spur");
    std::env::var_os("SPUR_CACHE").map_or_else(home, PathBuf::from).join("testbed/root/usr/lib/cni")
}

/// For the verbs that are about no attachment: the variables are there and empty.
fn nobody() -> Attachment {
    Attachment::new("", "", "")
}

/// Both keys: the specification's, and the one that its text once had by mistake.
fn with_valid(mut config: Map<String, Value>, valid: Option<&[Attachment]>) -> Map<String, Value> {
    if let Some(valid) = valid {
        let entry = |valid: &Attachment| json!({"containerID": valid.container_id, "ifname": valid.if_name});
        let valid: Value = valid.iter().map(entry).collect();
        config.insert("cni.dev/attachments".to_owned(), valid.clone());
        config.insert("cni.dev/valid-attachments".to_owned(), valid);
    }
    config
}

fn validate_names(list: &NetworkList, attachment: &Attachment) -> Result<(), LibcniError> {
    let is_word = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    };
    let is_if_name = |text: &str| {
        (1..=15).contains(&text.len())
            && ![".", ".."].contains(&text)
            && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace())
    };
    for (what, value, good) in [
        (NETWORK, &list.name, is_word(&list.name)),
        ("container id", &attachment.container_id, is_word(&attachment.container_id)),
        ("interface name", &attachment.if_name, is_if_name(&attachment.if_name)),
    ] {
        if !good {
            return Err(LibcniError::Name { what, value: value.clone() });
        }
    }
    Ok(())
}

fn several(mut errors: Vec<LibcniError>) -> Result<(), LibcniError> {
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => Err(LibcniError::Several(errors)),
    }
}
