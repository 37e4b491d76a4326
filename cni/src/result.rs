//! The CNI result of ADD in the shape of each spec version: up to 0.2.0 one address per family, then lists, until 1.0.0 with the
//! family of each address, since 1.1.0 with the MTU. Pure: what was wired goes in, a serialisable value comes out.
//! The container's interface is listed second and each address points at it: chained plugins (bandwidth, portmap) look for
//! the host end as the interface without a sandbox. The link-scope route to the gateway is not listed, because only 1.1 could
//! say that it has no next hop; older readers would take it for a route via the gateway itself.

use crate::version::SpecVersion;
use serde::Serialize;
use serde_json::{Map, Value};
use std::net::IpAddr;

/// What ADD achieved, in the terms of the specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wired {
    pub(crate) host_if_name: String,
    pub(crate) host_mac: String,
    pub(crate) pod_if_name: String,
    pub(crate) pod_mac: String,
    /// `CNI_NETNS`, verbatim.
    pub(crate) sandbox: String,
    pub(crate) mtu_bytes: u32,
    /// Each address with the gateway of its family.
    pub(crate) addresses: Vec<(IpAddr, IpAddr)>,
}

/// `dns` of configuration and result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Dns {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) nameservers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) domain: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) search: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) options: Vec<String>,
}

/// A result as it is printed.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum CniResult {
    Legacy(LegacyResult),
    Lists(ListsResult),
}

/// Up to 0.2.0.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LegacyResult {
    cni_version: SpecVersion,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip4: Option<LegacyIp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip6: Option<LegacyIp>,
    dns: Dns,
}

#[derive(Debug, Serialize)]
struct LegacyIp {
    ip: String,
    gateway: IpAddr,
    routes: [Route; 1],
}

/// From 0.3.0 on.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListsResult {
    cni_version: SpecVersion,
    interfaces: Vec<Interface>,
    ips: Vec<Ip>,
    routes: Vec<Route>,
    dns: Dns,
}

#[derive(Debug, Serialize)]
struct Interface {
    name: String,
    mac: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    sandbox: String,
}

#[derive(Debug, Serialize)]
struct Ip {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    interface: usize,
    address: String,
    gateway: IpAddr,
}

#[derive(Debug, Serialize)]
struct Route {
    dst: &'static str,
    gw: IpAddr,
}

/// Index of the container's interface in our own list.
const CONTAINER_SIDE: usize = 1;

impl CniResult {
    pub(crate) fn new(version: SpecVersion, wired: &Wired, dns: &Dns) -> Self {
        if version.has_legacy_result() {
            return Self::Legacy(legacy(version, wired, dns));
        }
        let mtu = (version >= SpecVersion::V1_1_0).then_some(wired.mtu_bytes);
        let interface = |name: &str, mac: &str, sandbox: &str| Interface {
            name: name.to_owned(),
            mac: mac.to_owned(),
            mtu,
            sandbox: sandbox.to_owned(),
        };
        let ip = |&(address, gateway): &(IpAddr, IpAddr)| Ip {
            version: (version < SpecVersion::V1_0_0).then_some(if address.is_ipv4() { "4" } else { "6" }),
            interface: CONTAINER_SIDE,
            address: host_prefix(address),
            gateway,
        };
        Self::Lists(ListsResult {
            cni_version: version,
            interfaces: vec![
                interface(&wired.host_if_name, &wired.host_mac, ""),
                interface(&wired.pod_if_name, &wired.pod_mac, &wired.sandbox),
            ],
            ips: wired.addresses.iter().map(ip).collect(),
            routes: wired
                .addresses
                .iter()
                .map(|(address, gateway)| default_route(*address, *gateway))
                .collect(),
            dns: dns.clone(),
        })
    }

    /// The result of a chain in which others came before: theirs, untouched, and ours behind it. `previous` has our shape.
    pub(crate) fn after(self, previous: Option<&Map<String, Value>>) -> Result<Value, serde_json::Error> {
        let ours = serde_json::to_value(&self)?;
        let (Some(previous), Value::Object(mut ours)) = (previous, ours.clone()) else { return Ok(ours) };
        let mut merged = previous.clone();
        let offset = list_length(previous, "interfaces");
        if let Some(Value::Array(ips)) = ours.get_mut("ips") {
            for ip in ips {
                ip["interface"] = Value::from(CONTAINER_SIDE + offset);
            }
        }
        for key in ["interfaces", "ips", "routes"] {
            let Some(Value::Array(mut added)) = ours.remove(key) else { continue };
            match merged.get_mut(key) {
                Some(Value::Array(list)) => list.append(&mut added),
                _ => _ = merged.insert(key.to_owned(), Value::Array(added)),
            }
        }
        merged.insert("cniVersion".to_owned(), ours.remove("cniVersion").unwrap_or_default());
        // What is left has room for one: the families of the old shape, and the names.
        for (key, value) in ours {
            merged.entry(key).or_insert(value);
        }
        Ok(Value::Object(merged))
    }
}

fn legacy(version: SpecVersion, wired: &Wired, dns: &Dns) -> LegacyResult {
    let of_family = |is_ipv4: bool| {
        let found = wired.addresses.iter().find(|(address, _)| address.is_ipv4() == is_ipv4);
        found.map(|&(address, gateway)| LegacyIp {
            ip: host_prefix(address),
            gateway,
            routes: [default_route(address, gateway)],
        })
    };
    LegacyResult { cni_version: version, ip4: of_family(true), ip6: of_family(false), dns: dns.clone() }
}

fn host_prefix(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

fn default_route(address: IpAddr, gw: IpAddr) -> Route {
    Route { dst: if address.is_ipv4() { "0.0.0.0/0" } else { "::/0" }, gw }
}

fn list_length(object: &Map<String, Value>, key: &str) -> usize {
    object.get(key).and_then(Value::as_array).map_or(0, Vec::len)
}

#[cfg(test)]
mod tests;
