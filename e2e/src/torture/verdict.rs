//! The comparison, pure: what the runtime knows to live against the views of the node and of the cloud. Each difference is a line; a node at rest has none.
//!
//! What belongs to pods must be so at any time. What agents need time for (addresses that rest, surplus, ENIs on their way) is asked for when
//! they had it, which is why the caller looks again and again for a bounded time.

use super::views::{KernelView, PodView, StoreView};
use crate::cloud::{AttachedEni, CloudView};
use crate::routes::Route;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;

/// A pod that lives, as the runtime was told by its ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Its container.
    pub container: String,
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

/// No address is held by two pods, wherever they are.
#[must_use]
pub fn doubled(nodes: &[Vec<Live>]) -> Vec<String> {
    let mut holders: BTreeMap<IpAddr, Vec<&str>> = BTreeMap::new();
    for pod in nodes.iter().flatten() {
        holders.entry(pod.address).or_default().push(&pod.name);
    }
    let shared = holders.iter().filter(|(_, names)| names.len() > 1);
    shared.map(|(address, names)| format!("doubled: {address} is held by {}", names.join(" and "))).collect()
}

/// The pods' own view: those that live have exactly their address, those that are gone have nothing.
#[must_use]
pub fn pods(live: &[(Live, PodView)], gone: &[(String, PodView)]) -> Vec<String> {
    let lost = live.iter().filter(|(pod, view)| view.addresses.as_deref() != Some(&[pod.address])).map(
        |(pod, view)| {
            format!(
                "lost: {} should have {} and its namespace has {:?}",
                pod.name, pod.address, view.addresses
            )
        },
    );
    let left = gone.iter().filter(|(_, view)| view.addresses.is_some());
    let left = left
        .map(|(name, view)| format!("leaked: {name} is deleted and its namespace has {:?}", view.addresses));
    lost.chain(left).collect()
}

/// The node's kernel against its pods and its ENIs.
#[must_use]
pub fn kernel(view: &KernelView, live: &[Live], enis: &[AttachedEni]) -> Vec<String> {
    let mut lines = Vec::new();
    for pod in live {
        let to: Vec<_> = view.routes.iter().filter(|(address, _)| *address == pod.address).collect();
        if to.len() != 1 {
            lines.push(format!("{} routes lead to {} of {}", to.len(), pod.address, pod.name));
        }
    }
    let held: BTreeSet<IpAddr> = live.iter().map(|pod| pod.address).collect();
    for (address, link) in view.routes.iter().filter(|(address, _)| !held.contains(address)) {
        lines.push(format!("leaked: a route leads to {address} over {link}, which no pod has"));
    }
    let routed: BTreeSet<&String> = view.routes.iter().map(|(_, link)| link).collect();
    for veth in view.veths.iter().filter(|veth| !routed.contains(veth)) {
        lines.push(format!("leaked: no route leads over the veth {veth}"));
    }
    for link in routed.into_iter().filter(|link| !view.veths.contains(*link)) {
        lines.push(format!("lost: a route leads over {link}, which is no veth of a pod"));
    }
    let secondary = || enis.iter().filter(|eni| eni.device_index > 0);
    let all = enis.iter().flat_map(|eni| eni.addresses.iter().copied()).collect();
    lines.extend(differences("set of translated addresses", &view.translated, &all));
    let marked = secondary().flat_map(|eni| eni.addresses.iter().copied()).collect();
    lines.extend(differences("map from address to ENI", &view.marked, &marked));
    let links: BTreeSet<String> = enis.iter().map(|eni| format!("eth{}", eni.device_index)).collect();
    lines.extend(differences("links of ENIs", &view.eni_links, &links));
    lines.extend(rules(&view.rules, secondary()));
    lines
}

/// Priorities of the rules that each secondary ENI has; the others are the node's own, and come and go with the configuration.
const OF_ENIS: Range<u64> = 1100..1300;

/// Two rules per secondary ENI, by mark and by the ENI's own address, and none twice.
fn rules<'a>(
    rules: &[(u64, Option<IpAddr>)],
    secondary: impl Iterator<Item = &'a AttachedEni>,
) -> Vec<String> {
    let primaries: BTreeSet<IpAddr> = secondary.map(|eni| eni.primary).collect();
    let of_enis: Vec<_> = rules.iter().filter(|(priority, _)| OF_ENIS.contains(priority)).collect();
    let sources: BTreeSet<IpAddr> = of_enis.iter().filter_map(|(_, source)| *source).collect();
    let mut lines = differences("sources of rules", &sources, &primaries);
    let wanted = 2 * primaries.len();
    if of_enis.len() != wanted {
        lines.push(format!("{} rules of ENIs and not {wanted}: {of_enis:?}", of_enis.len()));
    }
    let mut seen = BTreeSet::new();
    let twice = rules.iter().filter(|(priority, _)| !seen.insert(*priority));
    lines.extend(twice.map(|rule| format!("doubled: the rule {rule:?}")));
    lines
}

fn differences<T: Ord + std::fmt::Debug>(
    what: &str,
    there: &BTreeSet<T>,
    wanted: &BTreeSet<T>,
) -> Vec<String> {
    let leaked: Vec<_> = there.difference(wanted).collect();
    let lost: Vec<_> = wanted.difference(there).collect();
    let line = |kind: &str, items: Vec<&T>| (!items.is_empty()).then(|| format!("{kind}: {what}: {items:?}"));
    line("leaked", leaked).into_iter().chain(line("lost", lost)).collect()
}

/// How many addresses a node may hold when it rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// For each pod.
    pub per_pod: usize,
    /// Beyond them.
    pub beyond: usize,
}

/// The cloud against the pods: every address on an ENI of its own node, no ENI without a node, no more addresses than the node may hold, where
/// that is limited.
#[must_use]
pub fn cloud(view: &CloudView, nodes: &[(String, Vec<Live>, Option<Most>)]) -> Vec<String> {
    let mut lines = Vec::new();
    for (node, live, most) in nodes {
        let enis = view.nodes.get(node).map(Vec::as_slice).unwrap_or_default();
        for pod in live {
            let owners = enis.iter().filter(|eni| eni.addresses.contains(&pod.address)).count();
            if owners != 1 {
                lines.push(format!("lost: {} of {} is on {owners} ENIs of {node}", pod.address, pod.name));
            }
        }
        let assigned: usize = enis.iter().map(|eni| eni.addresses.len()).sum();
        let most = most.map_or(usize::MAX, |most| live.len() * most.per_pod + most.beyond);
        if assigned > most {
            let pods = live.len();
            lines.push(format!("leaked: {node} has {assigned} addresses for {pods} pods; at most {most}"));
        }
    }
    lines.extend(view.unattached.iter().map(|eni| format!("leaked: {eni} is attached to nothing")));
    lines
}

/// A machine that every table must lead a block to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its primary ENI.
    pub eni: String,
}

/// Routes to pods, by table: one to each machine, active, the same in every table, and no other.
#[must_use]
pub fn routes(tables: &[(&str, Vec<Route>)], targets: &[Target]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut blocks: BTreeMap<&str, BTreeSet<IpNet>> = BTreeMap::new();
    for (table, routes) in tables {
        for target in targets {
            let led: Vec<_> = routes.iter().filter(|route| route.target == target.eni).collect();
            if led.len() != 1 || led[0].state != "active" {
                lines.push(format!("{} has {led:?} in {table}; it needs one active route", target.name));
            }
            blocks.entry(&target.name).or_default().extend(led.iter().map(|route| route.destination));
        }
        let known = |route: &&Route| targets.iter().any(|target| target.eni == route.target);
        let others = routes.iter().filter(|route| !known(route));
        lines.extend(
            others.map(|route| format!("leaked: {table} leads {} to {}", route.destination, route.target)),
        );
    }
    let several = blocks.iter().filter(|(_, blocks)| blocks.len() > 1);
    lines.extend(
        several.map(|(name, blocks)| format!("doubled: {name} has other blocks by table: {blocks:?}")),
    );
    lines
}

/// Every machine has a grant that says ready, and nobody else has one.
#[must_use]
pub fn grants(grants: &BTreeMap<String, bool>, targets: &[Target]) -> Vec<String> {
    let wanted: BTreeSet<&String> = targets.iter().map(|target| &target.name).collect();
    let mut lines = differences("grants", &grants.keys().collect(), &wanted);
    let waiting = grants.iter().filter(|(_, ready)| !**ready);
    lines.extend(waiting.map(|(name, _)| format!("{name} is not ready by its grant")));
    lines
}

/// The agent's book against the pods and the node's ENIs.
#[must_use]
pub fn store(view: &StoreView, live: &[Live], enis: &[AttachedEni]) -> Vec<String> {
    let held = view.holdings.iter().map(|(container, address)| (container.clone(), *address)).collect();
    let wanted = live.iter().map(|pod| (pod.container.clone(), pod.address)).collect();
    let mut lines = differences("assignments in the store", &held, &wanted);
    lines.extend(view.intents.iter().map(|intent| format!("leaked: an intent in the store: {intent}")));
    let assigned: BTreeSet<IpAddr> = enis.iter().flat_map(|eni| eni.addresses.iter().copied()).collect();
    let kept = view.given_back.intersection(&assigned);
    lines.extend(kept.map(|address| format!("leaked: {address} is to be given back and is not")));
    lines
}

#[cfg(test)]
mod tests;
