//! The network configuration on standard input: from bytes to a [`NetConf`] with every mistake found, not only the first.
//! Keys of others are tolerated (`args`, `capabilities`, `cni.dev/*`, anything unknown): libcni and runtimes add them.
//! The keys are documented in `docs/cni.md`; verbs that need more than [`NetConf`] (a previous result, a list of attachments) take it
//! from [`NetConf::raw`] with their own checks.

use crate::log::Level;
use crate::mistake::{Mistake, note};
use crate::names::NetworkName;
use crate::result::Dns;
use crate::version::{SpecVersion, VersionError, is_version};
use serde_json::{Map, Value};
use spur_datapath::MacAddr;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A network configuration without mistakes.
#[derive(Debug)]
pub(crate) struct NetConf {
    pub(crate) version: SpecVersion,
    pub(crate) network: NetworkName,
    pub(crate) socket: PathBuf,
    pub(crate) spool_dir: PathBuf,
    pub(crate) timeout: Duration,
    pub(crate) dns: Dns,
    /// What the runtime wants the pod's interface to have, where that capability is declared.
    pub(crate) mac: Option<MacAddr>,
    /// The whole object, for the verbs that need more.
    pub(crate) raw: Map<String, Value>,
}

/// Where the log goes; usable even if the rest of the configuration is not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LogConf {
    pub(crate) level: Level,
    pub(crate) file: Option<PathBuf>,
}

/// Seconds that one invocation may take; kubelet gives up on a runtime call after four minutes.
pub(crate) const TIMEOUT_SECONDS: std::ops::RangeInclusive<u64> = 1..=200;
/// Above the agent's own bounded wait for an address (15 s), below every runtime's patience.
pub(crate) const DEFAULT_TIMEOUT_SECONDS: u64 = 30;

/// Longest path of a Unix socket: `sun_path` less its terminating zero.
const MAX_SOCKET_PATH: usize = 107;

/// The outermost object; the first step, so that an answer can carry the caller's version whatever else is wrong.
pub(crate) fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, Mistake> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Mistake::Json("it is another kind of JSON value".to_owned())),
        Err(error) => Err(Mistake::Json(error.to_string())),
    }
}

/// The version that an answer carries: the caller's if it is one, spoken here or not.
pub(crate) fn version_to_echo(object: &Map<String, Value>) -> &str {
    match object.get("cniVersion") {
        None => SpecVersion::WHEN_ABSENT,
        Some(Value::String(text)) if is_version(text) => text,
        Some(_) => SpecVersion::LATEST.as_str(),
    }
}

/// The log's place, with defaults for what is wrong: [`parse`] reports that.
pub(crate) fn parse_log(object: &Map<String, Value>) -> LogConf {
    let mut ignored = Vec::new();
    let mut keys = Keys { object, mistakes: &mut ignored };
    LogConf { level: keys.level("logLevel"), file: keys.path("logFile") }
}

/// Everything but the log.
pub(crate) fn parse(object: Map<String, Value>, mistakes: &mut Vec<Mistake>) -> Option<NetConf> {
    let before = mistakes.len();
    let version = note(parse_version(&object), mistakes);
    let mut keys = Keys { object: &object, mistakes };
    let network = keys.network();
    keys.text("type");
    let (socket, spool_dir) = (keys.socket(), keys.path("spoolDir"));
    let timeout = keys.timeout();
    let (dns, runtime_dns) = (keys.dns(), keys.runtime_dns());
    let mac = keys.runtime_mac();
    keys.level("logLevel");
    keys.path("logFile");
    keys.refuse_unsupported();
    if mistakes.len() > before {
        return None;
    }
    Some(NetConf {
        version: version?,
        network: network?,
        socket: socket.unwrap_or_else(|| spur_wire::DEFAULT_SOCKET.into()),
        spool_dir: spool_dir.unwrap_or_else(|| spur_wire::DEFAULT_SPOOL.into()),
        timeout,
        dns: runtime_dns.unwrap_or(dns),
        mac,
        raw: object,
    })
}

fn parse_version(object: &Map<String, Value>) -> Result<SpecVersion, Mistake> {
    let text = match object.get("cniVersion") {
        None => SpecVersion::WHEN_ABSENT,
        Some(Value::String(text)) => text,
        Some(other) => return Err(Mistake::UnparsableVersion(shown(other))),
    };
    SpecVersion::parse(text).map_err(|error| match error {
        VersionError::Unparsable => Mistake::UnparsableVersion(format!("{text:?}")),
        VersionError::Unsupported => Mistake::UnsupportedVersion(text.to_owned()),
    })
}

/// Reads one key after the other and notes what is wrong with each.
struct Keys<'a> {
    object: &'a Map<String, Value>,
    mistakes: &'a mut Vec<Mistake>,
}

impl<'a> Keys<'a> {
    /// `null` counts as absent: Go's encoder writes it for empty optional fields.
    fn value(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn refuse(&mut self, key: &'static str, value: &Value, why: &str) {
        self.mistakes.push(Mistake::Value { key, value: shown(value), why: why.to_owned() });
    }

    fn text(&mut self, key: &'static str) -> Option<&'a str> {
        let value = self.value(key)?;
        if value.as_str().is_none() {
            self.refuse(key, value, "expected a string");
        }
        value.as_str()
    }

    fn network(&mut self) -> Option<NetworkName> {
        if self.value("name").is_none() {
            self.mistakes.push(Mistake::NoNetworkName);
        }
        note(NetworkName::parse(self.text("name")?), self.mistakes)
    }

    fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let text = self.text(key)?;
        if text.starts_with('/') && !text.contains('\0') {
            return Some(text.into());
        }
        self.refuse(key, &self.object[key], "expected an absolute path");
        None
    }

    fn socket(&mut self) -> Option<PathBuf> {
        let path = self.path("socket")?;
        if path.as_os_str().len() > MAX_SOCKET_PATH {
            self.refuse("socket", &self.object["socket"], "the path of a socket has at most 107 bytes");
        }
        Some(path)
    }

    fn timeout(&mut self) -> Duration {
        let seconds = match self.value("timeoutSeconds") {
            None => DEFAULT_TIMEOUT_SECONDS,
            Some(value) => {
                value.as_u64().filter(|seconds| TIMEOUT_SECONDS.contains(seconds)).unwrap_or_else(|| {
                    self.refuse("timeoutSeconds", value, "expected a whole number of seconds from 1 to 200");
                    DEFAULT_TIMEOUT_SECONDS
                })
            }
        };
        Duration::from_secs(seconds)
    }

    fn level(&mut self, key: &'static str) -> Level {
        let Some(text) = self.text(key) else { return Level::default() };
        Level::parse(text).unwrap_or_else(|| {
            self.refuse(key, &self.object[key], "expected error, warn, info or debug");
            Level::default()
        })
    }

    /// Features of other plugins that a reader of the configuration would believe to be in force.
    fn refuse_unsupported(&mut self) {
        let empty = |value: &Value| {
            value.as_object().is_some_and(|ipam| ipam.get("type").is_none_or(|kind| kind == ""))
        };
        if let Some(ipam) = self.value("ipam").filter(|ipam| !empty(ipam)) {
            let why = "addresses come from Spur's agent alone";
            self.mistakes.push(Mistake::Unsupported { key: "ipam", value: shown(ipam), why });
        }
        if let Some(masquerade) = self.value("ipMasq").filter(|value| **value != false) {
            let why = "address translation is a property of the pool (natOutgoing)";
            self.mistakes.push(Mistake::Unsupported { key: "ipMasq", value: shown(masquerade), why });
        }
    }

    fn dns(&mut self) -> Dns {
        let Some(value) = self.value("dns") else { return Dns::default() };
        let Some(dns) = value.as_object() else {
            self.refuse("dns", value, "expected an object");
            return Dns::default();
        };
        Dns {
            nameservers: self.servers("dns.nameservers", dns.get("nameservers")),
            domain: self.domain(dns.get("domain")),
            search: self.texts("dns.search", dns.get("search")),
            options: self.texts("dns.options", dns.get("options")),
        }
    }

    /// The `dns` capability: other names for the same lists.
    fn runtime_dns(&mut self) -> Option<Dns> {
        let value = self.value("runtimeConfig")?;
        let Some(runtime) = value.as_object() else {
            self.refuse("runtimeConfig", value, "expected an object");
            return None;
        };
        let value = runtime.get("dns").filter(|dns| !dns.is_null())?;
        let Some(dns) = value.as_object() else {
            self.refuse("runtimeConfig.dns", value, "expected an object");
            return None;
        };
        Some(Dns {
            nameservers: self.servers("runtimeConfig.dns.servers", dns.get("servers")),
            domain: None,
            search: self.texts("runtimeConfig.dns.searches", dns.get("searches")),
            options: self.texts("runtimeConfig.dns.options", dns.get("options")),
        })
    }

    /// Who does not declare the capability passes the key on for another plugin.
    fn runtime_mac(&mut self) -> Option<MacAddr> {
        if self.value("capabilities")?.get("mac")? != true {
            return None;
        }
        let value = self.value("runtimeConfig")?.get("mac").filter(|mac| !mac.is_null())?;
        let mac: Option<MacAddr> = value.as_str().and_then(|text| text.parse().ok());
        let usable = mac.filter(|mac| mac.is_unicast());
        if usable.is_none() {
            self.refuse("runtimeConfig.mac", value, "expected the hardware address of one interface");
        }
        usable
    }

    fn domain(&mut self, value: Option<&Value>) -> Option<String> {
        let value = value.filter(|value| !value.is_null())?;
        if value.as_str().is_none() {
            self.refuse("dns.domain", value, "expected a string");
        }
        value.as_str().filter(|domain| !domain.is_empty()).map(str::to_owned)
    }

    fn servers(&mut self, key: &'static str, value: Option<&Value>) -> Vec<String> {
        let servers = self.texts(key, value);
        for server in &servers {
            if server.parse::<IpAddr>().is_err() {
                self.refuse(key, &Value::from(server.as_str()), "expected an IP address");
            }
        }
        servers
    }

    fn texts(&mut self, key: &'static str, value: Option<&Value>) -> Vec<String> {
        let Some(value) = value.filter(|value| !value.is_null()) else { return Vec::new() };
        let texts = value.as_array().and_then(|list| {
            list.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()
        });
        texts.unwrap_or_else(|| {
            self.refuse(key, value, "expected a list of strings");
            Vec::new()
        })
    }
}

/// A value as it goes into a message: never longer than a line.
pub(crate) fn shown(value: &Value) -> String {
    const LONGEST: usize = 120;
    let text = value.to_string();
    if text.chars().count() <= LONGEST {
        text
    } else {
        text.chars().take(LONGEST).chain("…".chars()).collect()
    }
}

#[cfg(test)]
mod tests;
