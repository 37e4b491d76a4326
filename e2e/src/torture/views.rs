//! The views of a node that are compared, each from its own witness: the kernel by `ip` and `nft`, the store by `spur-ipamd store`, the pods by
//! what is in their namespaces, the spool by its directory.

use crate::cloud::addresses_of;
use crate::process::binary;
use crate::runtime::{IF_NAME, Pod};
use crate::snapshot::witness;
use crate::world::Node;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use spur_datapath::layout::{HOST_VETH_PREFIX, PODS_TABLE};
use spur_datapath::netns::NetNs;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The kernel of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelView {
    /// Addresses in the pods table, with the link that each leads to; a list, because two routes to one address are wrong.
    pub routes: Vec<(IpAddr, String)>,
    /// Host ends of pods' veths.
    pub veths: BTreeSet<String>,
    /// Links that ENIs are.
    pub eni_links: BTreeSet<String>,
    /// Priorities of our rules, and what they select as source.
    pub rules: Vec<(u64, Option<IpAddr>)>,
    /// Addresses that are translated when they leave the VPC.
    pub translated: BTreeSet<IpAddr>,
    /// Addresses that leave through a secondary ENI.
    pub marked: BTreeSet<IpAddr>,
}

/// The agent's book.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreView {
    /// Container and address of each pod.
    pub holdings: BTreeMap<String, IpAddr>,
    /// Changes of the cloud that are under way, but for addresses given back.
    pub intents: Vec<String>,
    /// Addresses that were given back, or are to be: for a while the agent remembers them, until EC2's reads show it, too.
    pub given_back: BTreeSet<IpAddr>,
}

/// What a pod's namespace has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodView {
    /// Addresses of its interface; none without one.
    pub addresses: Option<Vec<IpAddr>>,
}

impl KernelView {
    /// Reads it.
    ///
    /// # Errors
    /// When a witness fails.
    pub fn take(netns: &NetNs) -> Result<Self> {
        let names: BTreeSet<String> =
            witness(netns, &["ip", "-j", "link"])?.iter().filter_map(name_of).collect();
        let (veths, others) = names.into_iter().partition(|name| name.starts_with(HOST_VETH_PREFIX));
        let table = PODS_TABLE.number().to_string();
        let routes = witness(netns, &["ip", "-j", "-4", "route", "show", "table", &table])?;
        let rules = witness(netns, &["ip", "-j", "-4", "rule"])?;
        Ok(Self {
            routes: routes.iter().map(route).collect::<Result<_>>()?,
            veths,
            eni_links: BTreeSet::from_iter(others)
                .into_iter()
                .filter(|name| name.starts_with("eth"))
                .collect(),
            rules: rules.iter().filter_map(our_rule).collect(),
            translated: elements(netns, "set", "nat_local")?,
            marked: elements(netns, "map", "eni_of")?,
        })
    }
}

fn name_of(link: &Value) -> Option<String> {
    link["ifname"].as_str().map(str::to_owned)
}

fn route(route: &Value) -> Result<(IpAddr, String)> {
    let text = route["dst"].as_str().context("a route has no destination")?;
    let dst = text.parse().with_context(|| format!("{text:?} in the pods table is no address"))?;
    Ok((dst, route["dev"].as_str().unwrap_or("no link").to_owned()))
}

/// Rules that the kernel does not make by itself.
fn our_rule(rule: &Value) -> Option<(u64, Option<IpAddr>)> {
    let priority = rule["priority"].as_u64().filter(|priority| (1..32_766).contains(priority))?;
    Some((priority, rule["src"].as_str().and_then(|text| text.parse().ok())))
}

/// The addresses of a set or map, with those that lie in ranges.
fn elements(netns: &NetNs, kind: &str, name: &str) -> Result<BTreeSet<IpAddr>> {
    let listed = witness(netns, &["nft", "-j", "list", kind, "ip", "spur", name])?;
    let elements = listed.iter().find_map(|item| item[kind]["elem"].as_array()).cloned().unwrap_or_default();
    let mut addresses = BTreeSet::new();
    for element in elements {
        let key = if element.is_array() { element[0].clone() } else { element };
        let (first, last) = bounds(&key).with_context(|| format!("{key} in {name} is no address"))?;
        addresses.extend((first..=last).map(|number| IpAddr::from(Ipv4Addr::from(number))));
    }
    Ok(addresses)
}

fn bounds(key: &Value) -> Option<(u32, u32)> {
    let number = |value: &Value| value.as_str()?.parse::<Ipv4Addr>().ok().map(u32::from);
    if let Some(range) = key.get("range") {
        return Some((number(&range[0])?, number(&range[1])?));
    }
    if let Some(prefix) = key.get("prefix") {
        let first = number(&prefix["addr"])?;
        let hosts = u32::MAX.checked_shr(u32::try_from(prefix["len"].as_u64()?).ok()?).unwrap_or(0);
        return Some((first, first | hosts));
    }
    number(key).map(|address| (address, address))
}

impl StoreView {
    /// Reads the store of a node, whether its agent runs or not.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn take(node: &Node) -> Result<Self> {
        let shown = show(&node.dir().join("state/agent.redb"))?;
        let mut view = Self::default();
        for held in shown["holdings"].as_array().context("the store shows no holdings")? {
            let container = held["containerId"].as_str().context("a holding has no container")?;
            let address = held["holding"]["address"].as_str().context("a holding has no address")?;
            view.holdings.insert(container.to_owned(), address.parse()?);
        }
        for intent in shown["intents"].as_array().context("the store shows no intents")? {
            let released = &intent["intent"]["Unassign"];
            if released.is_null() {
                view.intents.push(intent["intent"].to_string());
                continue;
            }
            let texts = |key: &str| released[key].as_array().cloned().unwrap_or_default();
            let addresses = texts("addresses");
            view.given_back.extend(addresses.iter().filter_map(|a| a.as_str()?.parse::<IpAddr>().ok()));
            let prefixes = texts("prefixes");
            let prefixes = prefixes.iter().filter_map(|prefix| prefix.as_str()?.parse().ok());
            view.given_back.extend(prefixes.flat_map(addresses_of));
        }
        Ok(view)
    }
}

impl StoreView {
    /// Who holds what. The rest may change at any moment while an agent lives: it gives back what it found to be too much just then, and the
    /// next one goes on with it.
    #[must_use]
    pub fn holdings_only(self) -> Self {
        Self { holdings: self.holdings, ..Self::default() }
    }
}

/// What `spur-ipamd store` shows of a file.
///
/// # Errors
/// When it refuses.
pub fn show(file: &Path) -> Result<Value> {
    let output =
        Command::new(binary("spur-ipamd")?).arg("store").arg(file).output().context("show the store")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("read the shown store as JSON")
}

impl PodView {
    /// Looks into the pod's namespace.
    ///
    /// # Errors
    /// When a witness fails.
    pub fn take(pod: &Pod) -> Result<Self> {
        let links = witness(&pod.netns, &["ip", "-j", "-4", "address"])?;
        let Some(link) = links.iter().find(|link| link["ifname"] == IF_NAME) else {
            return Ok(Self::default());
        };
        let infos = link["addr_info"].as_array().cloned().unwrap_or_default();
        let addresses = infos.iter().filter_map(|info| info["local"].as_str()?.parse().ok()).collect();
        Ok(Self { addresses: Some(addresses) })
    }
}

/// How long what a killed plugin left half written in the spool may lie there: the agent takes it for the work of a live one for a minute, and
/// looks again when it reconciles.
const HALF_WRITTEN: Duration = Duration::from_secs(90);

/// Files in the node's spool: releases, and what was left half written long ago.
///
/// # Errors
/// When the directory cannot be listed.
pub fn spool(node: &Node) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(node.dir().join("spool")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context("list the spool"),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.context("list the spool")?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let young = || {
            entry
                .metadata()
                .and_then(|data| data.modified())
                .is_ok_and(|at| at.elapsed().unwrap_or_default() < HALF_WRITTEN)
        };
        if !(name.contains(".tmp-") && young()) {
            files.push(name);
        }
    }
    Ok(files)
}
