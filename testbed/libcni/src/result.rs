//! The result of ADD as libcni reads it from a plugin and writes it into the next plugin's configuration.
//!
//! libcni does not hand on a plugin's text: it reads the fields that the specification has, drops others and empty ones, and writes them anew.
//! A field of the wrong type ends the ADD. Two shapes are known: before 1.0.0 an address has a `version` and an interface
//! only name, MAC and sandbox; results from before 0.3.0 (`ip4`, `ip6`) are handed on as they are and converted to nothing.

use crate::version::SpecVersion;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::net::IpAddr;
use thiserror::Error;

/// Why a plugin's output is no result.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ResultError {
    /// It is not JSON, or a field has the wrong type.
    #[error("read the result as JSON of the specification's types")]
    Json(#[source] serde_json::Error),
    /// An address is not `ADDRESS/LENGTH`.
    #[error("{0:?} is no address with a prefix length")]
    Cidr(String),
    /// Its version is none.
    #[error("{0:?} is no version of the specification")]
    Version(String),
    /// libcni has rules for this; this caller has not.
    #[error("a result of {from} cannot be turned into one of {to}")]
    Conversion {
        /// The version of the result.
        from: SpecVersion,
        /// The version that the list wants.
        to: SpecVersion,
    },
}

/// A result.
#[derive(Debug, Clone, PartialEq)]
pub struct CniResult {
    version: SpecVersion,
    shape: Shape,
}

#[derive(Debug, Clone, PartialEq)]
enum Shape {
    /// Before 0.3.0.
    Opaque(Map<String, Value>),
    Fields(Fields),
}

/// A result since 0.3.0. Everything else that a plugin prints is dropped on the way.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
struct Fields {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<Interface>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<Ip>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
    #[serde(skip_serializing_if = "is_default")]
    dns: Dns,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Interface {
    name: String,
    #[serde(skip_serializing_if = "is_default")]
    mac: String,
    #[serde(skip_serializing_if = "is_default")]
    mtu: u32,
    #[serde(skip_serializing_if = "is_default")]
    sandbox: String,
    #[serde(skip_serializing_if = "is_default")]
    socket_path: String,
    #[serde(rename = "pciID", skip_serializing_if = "is_default")]
    pci_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Ip {
    #[serde(default, skip_serializing_if = "is_default")]
    version: String,
    #[serde(default, skip_serializing_if = "is_default")]
    interface: Option<usize>,
    address: String,
    #[serde(default, skip_serializing_if = "is_default")]
    gateway: Option<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Route {
    dst: String,
    #[serde(default, skip_serializing_if = "is_default")]
    gw: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "is_default")]
    mtu: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    advmss: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    priority: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    table: Option<u32>,
    #[serde(default, skip_serializing_if = "is_default")]
    scope: Option<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
struct Dns {
    #[serde(skip_serializing_if = "is_default")]
    nameservers: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    domain: String,
    #[serde(skip_serializing_if = "is_default")]
    search: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    options: Vec<String>,
}

impl CniResult {
    /// Reads what a plugin printed. A result that names no version is one of `assumed`, the configuration's.
    ///
    /// # Errors
    /// When it is no result.
    pub fn parse(stdout: &[u8], assumed: &SpecVersion) -> Result<Self, ResultError> {
        let object = serde_json::from_slice(stdout).map_err(ResultError::Json)?;
        Self::from_object(object, assumed)
    }

    pub(crate) fn from_object(
        mut object: Map<String, Value>,
        assumed: &SpecVersion,
    ) -> Result<Self, ResultError> {
        let text = object.remove("cniVersion").and_then(|version| version.as_str().map(str::to_owned));
        let version = match text.filter(|text| !text.is_empty()) {
            None => assumed.clone(),
            Some(text) => SpecVersion::parse(&text).ok_or(ResultError::Version(text))?,
        };
        if !version.is_at_least(0, 3) {
            return Ok(Self { version, shape: Shape::Opaque(object) });
        }
        let fields: Fields = serde_json::from_value(Value::Object(object)).map_err(ResultError::Json)?;
        let networks =
            fields.ips.iter().map(|ip| &ip.address).chain(fields.routes.iter().map(|route| &route.dst));
        if let Some(text) = networks.into_iter().find(|text| address_of(text).is_none()) {
            return Err(ResultError::Cidr(text.clone()));
        }
        Ok(Self { shape: Shape::Fields(fields.shaped_for(&version)), version })
    }

    /// The version of its shape.
    #[must_use]
    pub const fn version(&self) -> &SpecVersion {
        &self.version
    }

    /// The result in the shape of another version.
    ///
    /// # Errors
    /// Across 0.3.0: this caller knows no rules for results from before it.
    pub fn in_version(self, to: &SpecVersion) -> Result<Self, ResultError> {
        match self.shape {
            Shape::Fields(fields) if to.is_at_least(0, 3) => {
                Ok(Self { shape: Shape::Fields(fields.shaped_for(to)), version: to.clone() })
            }
            Shape::Opaque(_) if self.version == *to => Ok(self),
            _ => Err(ResultError::Conversion { from: self.version, to: to.clone() }),
        }
    }

    /// As it stands in `prevResult`, and on a runtime's screen.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut value = match &self.shape {
            Shape::Opaque(object) => Value::Object(object.clone()),
            Shape::Fields(fields) => serde_json::to_value(fields).expect("text, numbers and lists are JSON"),
        };
        value["cniVersion"] = Value::from(self.version.as_str());
        // libcni writes an empty dns before 1.0.0 and none from then on.
        if self.version.is_at_least(0, 3) && !self.version.is_at_least(1, 0) && value.get("dns").is_none() {
            value["dns"] = Value::Object(Map::new());
        }
        value
    }
}

impl Fields {
    fn shaped_for(mut self, version: &SpecVersion) -> Self {
        let old = !version.is_at_least(1, 0);
        for ip in &mut self.ips {
            let family = if ip.address.contains(':') { "6" } else { "4" };
            ip.version = if old { family.to_owned() } else { String::new() };
        }
        if old {
            for interface in &mut self.interfaces {
                let Interface { name, mac, sandbox, .. } = std::mem::take(interface);
                *interface = Interface { name, mac, sandbox, ..Interface::default() };
            }
        }
        self
    }
}

fn address_of(text: &str) -> Option<IpAddr> {
    let (address, length) = text.split_once('/')?;
    let (address, length) = (address.parse::<IpAddr>().ok()?, length.parse::<u8>().ok()?);
    (length <= if address.is_ipv4() { 32 } else { 128 }).then_some(address)
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
