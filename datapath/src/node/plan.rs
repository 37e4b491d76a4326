//! The pure comparison of what a node's kernel has with what is wanted.
//!
//! Order of changes: what a new ENI needs comes first (sysctls, link, address, routes, rules), then the nft table, whose marks
//! send packets there, then what an old ENI no longer needs: no packet is marked for a table that is not filled.

use super::{NodeObserved, NodeWanted, SecondaryEni, guard, table::table};
use crate::netlink::{AddressSpec, Link, Request, RouteSpec, RuleSpec};
use crate::nft::{Family, Table, TableDiff};
use crate::sysctl::SysctlKey;
use crate::{IfName, LinkIndex, MacAddr, TableId, layout};
use ipnet::{IpNet, Ipv4Net};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

/// A change to the kernel.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Write a sysctl.
    SetSysctl {
        /// Which.
        key: SysctlKey,
        /// The value.
        value: String,
    },
    /// Set a link up, with an MTU.
    SetLink {
        /// Which.
        link: LinkIndex,
        /// Its name.
        name: IfName,
        /// The MTU, when it changes.
        mtu_bytes: Option<u32>,
    },
    /// Put an address on a link.
    AddAddress(AddressSpec),
    /// Take an address off.
    RemoveAddress(AddressSpec),
    /// Add or replace a route.
    SetRoute(RouteSpec),
    /// Remove a route.
    RemoveRoute(RouteSpec),
    /// Add a rule.
    AddRule(RuleSpec),
    /// Remove a rule.
    RemoveRule(RuleSpec),
    /// Change what differs in the nft table, or put a new one there.
    UpdateTable {
        /// The table as wanted.
        table: Box<Table>,
        /// What differs.
        diff: TableDiff,
    },
    /// Delete the nft table of a family.
    DeleteTable(Family),
}

impl Action {
    /// The kind of thing that it changes, for counting repairs.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::SetSysctl { .. } => "sysctl",
            Self::SetLink { .. } => "link",
            Self::AddAddress(_) | Self::RemoveAddress(_) => "address",
            Self::SetRoute(_) | Self::RemoveRoute(_) => "route",
            Self::AddRule(_) | Self::RemoveRule(_) => "rule",
            Self::UpdateTable { .. } | Self::DeleteTable(_) => "nft",
        }
    }
}

impl Action {
    /// True when both put the same thing there.
    fn puts_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::UpdateTable { table: mine, .. }, Self::UpdateTable { table: theirs, .. }) => {
                mine.family == theirs.family
            }
            (
                Self::RemoveAddress(_) | Self::RemoveRoute(_) | Self::RemoveRule(_) | Self::DeleteTable(_),
                _,
            ) => false,
            _ => self == other,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetSysctl { key, value } => write!(f, "set sysctl {key} to {value}"),
            Self::SetLink { name, mtu_bytes: Some(mtu), .. } => write!(f, "set {name} up with MTU {mtu}"),
            Self::SetLink { name, .. } => write!(f, "set {name} up"),
            Self::AddAddress(address) => f.write_str(Request::add_address(address).what()),
            Self::RemoveAddress(address) => f.write_str(Request::remove_address(address).what()),
            Self::SetRoute(route) => f.write_str(Request::replace_route(route).what()),
            Self::RemoveRoute(route) => f.write_str(Request::remove_route(route).what()),
            Self::AddRule(rule) => f.write_str(Request::add_rule(rule).what()),
            Self::RemoveRule(rule) => f.write_str(Request::remove_rule(rule).what()),
            Self::UpdateTable { table, .. } => write!(f, "update nft table {} {}", table.family, table.name),
            Self::DeleteTable(family) => write!(f, "delete nft table {family} {}", layout::NFT_TABLE),
        }
    }
}

/// A change and why it is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What.
    pub action: Action,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.action, self.reason)
    }
}

/// What to change, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NodePlan {
    /// The changes; empty when the kernel is as wanted.
    pub changes: Vec<Change>,
    /// ENIs that are wanted and whose links are not there (yet). When it is the primary one's, the nft table `ip spur` is left as it is.
    pub missing: Vec<MacAddr>,
}

pub(super) fn ip_forward() -> SysctlKey {
    SysctlKey::new("ipv4/ip_forward")
}

pub(super) fn rp_filter(name: &IfName) -> SysctlKey {
    SysctlKey::ipv4_conf(name, "rp_filter")
}

/// Whether what comes in by the link goes on to others. Not the same as [`ip_forward`], which sets all of them when it is written.
pub(super) fn forwarding(name: &IfName) -> SysctlKey {
    SysctlKey::ipv4_conf(name, "forwarding")
}

/// What links that come later begin with, those of pods among them.
pub(super) fn default_forwarding() -> SysctlKey {
    SysctlKey::new("ipv4/conf/default/forwarding")
}

pub(super) fn is_pod_veth(link: &Link) -> bool {
    link.kind.as_deref() == Some("veth") && link.name.as_str().starts_with(layout::HOST_VETH_PREFIX)
}

impl NodePlan {
    /// Compares. Equal inputs give equal plans.
    #[must_use]
    pub fn new(observed: &NodeObserved, wanted: &NodeWanted) -> Self {
        let mut plan = Self::default();
        let primary = plan.link(observed, wanted.primary.mac);
        let mut present = Vec::new();
        for eni in &wanted.secondaries {
            present.extend(plan.link(observed, eni.mac).map(|link| (eni, link)));
        }
        plan.set_sysctls(observed, primary.into_iter().chain(present.iter().map(|(_, link)| *link)));
        plan.set_links(&present);
        let addresses: Vec<_> = present.iter().map(|(eni, link)| own_address(eni, link)).collect();
        let routes: Vec<_> = present.iter().flat_map(|(eni, link)| eni_routes(eni, link)).collect();
        let rules = wanted_rules(wanted.primary.address, &present);
        plan.add(observed, &addresses, &routes, &rules);
        plan.update_table(observed, guard::ipv6_table(&wanted.nat.v6));
        let present: Vec<&SecondaryEni> = present.iter().map(|(eni, _)| *eni).collect();
        plan.update_table(observed, table(wanted, &present));
        plan.remove(observed, &addresses, &routes, &rules, "no ENI that is wanted needs it");
        plan
    }

    /// The plan that takes away everything of ours, for a node that Spur leaves. Sysctls and links stay as they are.
    #[must_use]
    pub fn removal(observed: &NodeObserved) -> Self {
        let mut plan = Self::default();
        for family in observed.tables.keys() {
            plan.push(Action::DeleteTable(*family), "Spur leaves the node");
        }
        plan.remove(observed, &[], &[], &[], "Spur leaves the node");
        plan
    }

    /// True when there is nothing to change and nothing is missing.
    #[must_use]
    pub fn is_in_sync(&self) -> bool {
        self.changes.is_empty() && self.missing.is_empty()
    }

    /// True when both plans put something there that is missing. When the change from what one of them is about to what the other is about fails, that
    /// something is not half of the change: it was there before it, and somebody took it away.
    #[must_use]
    pub fn shares_a_loss_with(&self, other: &Self) -> bool {
        let lost =
            |mine: &Change| other.changes.iter().any(|theirs| mine.action.puts_the_same(&theirs.action));
        self.changes.iter().any(lost)
    }

    fn push(&mut self, action: Action, reason: impl Into<String>) {
        self.changes.push(Change { action, reason: reason.into() });
    }

    fn link<'a>(&mut self, observed: &'a NodeObserved, mac: MacAddr) -> Option<&'a Link> {
        let found = observed.links.iter().find(|link| link.mac == Some(mac) && !is_pod_veth(link));
        if found.is_none() {
            self.missing.push(mac);
        }
        found
    }

    fn set_sysctls<'a>(&mut self, observed: &NodeObserved, enis: impl Iterator<Item = &'a Link>) {
        // Loose: a reply may come in by another ENI than the route back would take. The kernel uses the larger of this
        // value and that of "all", so 2 wins.
        let mut wanted = vec![(ip_forward(), "1")];
        let mut forwarding = vec![default_forwarding()];
        for link in enis {
            wanted.push((rp_filter(&link.name), "2"));
            forwarding.push(self::forwarding(&link.name));
        }
        let found = |key: &SysctlKey| observed.sysctls.get(key).cloned().flatten();
        // Writing ip_forward sets these; somebody who manages links may have set one back since.
        let set_back = |key: &SysctlKey| found(key).is_some_and(|value| value != "1");
        if found(&ip_forward()).as_deref() == Some("1") {
            wanted.extend(forwarding.into_iter().filter(set_back).map(|key| (key, "1")));
        }
        for (key, value) in wanted {
            let found = found(&key);
            if found.as_deref() != Some(value) {
                let reason = found.map_or_else(|| "not read".into(), |found| format!("is {found}"));
                self.push(Action::SetSysctl { key, value: value.into() }, reason);
            }
        }
    }

    fn set_links(&mut self, present: &[(&SecondaryEni, &Link)]) {
        for (eni, link) in present {
            let mtu_bytes = eni.mtu_bytes.filter(|mtu| *mtu != link.mtu_bytes);
            if link.up && mtu_bytes.is_none() {
                continue;
            }
            let reason = if link.up {
                format!("its MTU is {}", link.mtu_bytes)
            } else {
                format!("{} is down", eni.ordinal)
            };
            self.push(Action::SetLink { link: link.index, name: link.name.clone(), mtu_bytes }, reason);
        }
    }

    fn add(
        &mut self,
        observed: &NodeObserved,
        addresses: &[AddressSpec],
        routes: &[RouteSpec],
        rules: &[RuleSpec],
    ) {
        let on_links: BTreeSet<_> =
            observed.addresses.iter().map(|spec| (spec.link, spec.address.addr())).collect();
        for address in addresses.iter().filter(|spec| !on_links.contains(&(spec.link, spec.address.addr()))) {
            self.push(Action::AddAddress(address.clone()), "missing");
        }
        let found: BTreeMap<_, _> = observed.routes.iter().map(|route| (route_key(route), route)).collect();
        for route in routes {
            match found.get(&route_key(route)) {
                Some(same) if *same == route => {}
                Some(_) => self.push(Action::SetRoute(route.clone()), "leads elsewhere"),
                None => self.push(Action::SetRoute(route.clone()), "missing"),
            }
        }
        for rule in rules.iter().filter(|rule| !observed.rules.contains(rule)) {
            self.push(Action::AddRule(rule.clone()), "missing");
        }
    }

    fn update_table(&mut self, observed: &NodeObserved, table: Table) {
        let diff = table.diff(observed.tables.get(&table.family));
        let reason = match &diff {
            TableDiff::InSync => return,
            TableDiff::Replace { why } => why.clone(),
            TableDiff::Parts(parts) => parts.to_string(),
        };
        self.push(Action::UpdateTable { table: Box::new(table), diff }, reason);
    }

    fn remove(
        &mut self,
        observed: &NodeObserved,
        addresses: &[AddressSpec],
        routes: &[RouteSpec],
        rules: &[RuleSpec],
        reason: &str,
    ) {
        let ours = |protocol: u8| protocol == layout::PROTOCOL;
        for rule in observed.rules.iter().filter(|rule| ours(rule.protocol) && !rules.contains(rule)) {
            self.push(Action::RemoveRule(rule.clone()), reason);
        }
        let wanted: BTreeSet<_> = routes.iter().map(route_key).collect();
        // The route through a gateway goes before the route to the gateway.
        let mut old: Vec<_> = observed.routes.iter().filter(|route| ours(route.protocol)).collect();
        old.retain(|route| !wanted.contains(&route_key(route)));
        old.sort_by_key(|route| route.gateway.is_none());
        for route in old {
            self.push(Action::RemoveRoute(route.clone()), reason);
        }
        let kept: BTreeSet<_> = addresses.iter().map(|spec| (spec.link, spec.address.addr())).collect();
        for address in observed.addresses.iter().filter(|spec| ours(spec.protocol)) {
            if !kept.contains(&(address.link, address.address.addr())) {
                self.push(Action::RemoveAddress(address.clone()), reason);
            }
        }
    }
}

/// What makes two routes the same to the kernel.
fn route_key(route: &RouteSpec) -> (TableId, IpNet, u32) {
    (route.table, route.destination, route.metric)
}

fn own_address(eni: &SecondaryEni, link: &Link) -> AddressSpec {
    AddressSpec::new(link.index, eni.address.into())
}

/// The gateway on the link, then everything through it.
fn eni_routes(eni: &SecondaryEni, link: &Link) -> [RouteSpec; 2] {
    let table = eni.ordinal.table();
    let any = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);
    let gateway = Ipv4Net::from(eni.gateway);
    let mut default = RouteSpec::via(table, any.into(), eni.gateway.into(), link.index);
    // The link's address makes no route, so the kernel would not believe that the gateway is on the link.
    default.onlink = true;
    [RouteSpec::on_link(table, gateway.into(), link.index), default]
}

fn wanted_rules(primary: Ipv4Addr, present: &[(&SecondaryEni, &Link)]) -> Vec<RuleSpec> {
    let mut rules = vec![
        RuleSpec::all(layout::PODS_RULE, layout::PODS_TABLE),
        RuleSpec::marked(layout::PRIMARY_RULE, layout::PRIMARY_MARK, TableId::MAIN),
    ];
    rules.extend(layout::shortcut_rules(primary));
    for (eni, _) in present {
        let (ordinal, table) = (eni.ordinal, eni.ordinal.table());
        let own = Ipv4Net::from(eni.address.addr());
        rules.push(RuleSpec::marked(ordinal.mark_rule(), ordinal.mark(), table));
        rules.push(RuleSpec::from_source(ordinal.source_rule(), own.into(), table));
    }
    rules
}
