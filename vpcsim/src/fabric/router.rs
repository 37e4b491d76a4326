//! The kernel's side of routing: rules that lead a marked packet to its table, the tables' routes, and the VPC's ranges in
//! the main table and on the internet. It remembers what the kernel has; what a link takes with it is forgotten here, too.

use super::place::{INTERNET_PORT, Place, gateway_of};
use super::plan::Ports;
use super::routing::{Detour, Routing, Way, Ways, renumber};
use super::{FabricError, ROUTER_MAC};
use ipnet::{IpNet, Ipv4Net};
use spur_datapath::netlink::{Request, RouteKind, RouteScope, RouteSpec, RuleSpec};
use spur_datapath::{LinkIndex, Mark, RulePriority, TableId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// Before the main table, behind the local one.
const PRIORITY: RulePriority = RulePriority::new(100);
/// Kernel tables of route tables begin behind this number.
const TABLES: u32 = 10_000;
/// The bits of a mark that say which table.
const MASK: u32 = 0xffff;
/// `RTN_THROW`: the lookup goes on behind this table.
const THROW: RouteKind = RouteKind::Other(9);

/// The mark of packets that are routed by this table.
pub(super) fn mark(number: u16) -> Mark {
    Mark { value: number.into(), mask: MASK }
}

fn table(number: u16) -> TableId {
    TableId::new(TABLES + u32::from(number))
}

/// What the kernel has.
#[derive(Debug)]
pub(super) struct Router {
    /// Of each route table.
    pub(super) numbers: BTreeMap<String, u16>,
    ruled: BTreeSet<u16>,
    ways: Ways,
    ranges: BTreeSet<Ipv4Net>,
    internet: Ipv4Addr,
    internet_port: LinkIndex,
    loopback: LinkIndex,
}

impl Router {
    /// A router that has the ranges and nothing else.
    pub(super) fn new(
        fabric: &mut Place,
        ranges: &[Ipv4Net],
        internet: Ipv4Addr,
    ) -> Result<Self, FabricError> {
        Ok(Self {
            numbers: BTreeMap::new(),
            ruled: BTreeSet::new(),
            ways: Ways::new(),
            ranges: ranges.iter().copied().collect(),
            internet,
            internet_port: fabric.index_of(INTERNET_PORT)?,
            loopback: fabric.index_of("lo")?,
        })
    }

    /// Numbers the tables, for the marks.
    pub(super) fn number(&mut self, routing: &Routing) {
        renumber(&mut self.numbers, routing);
    }

    /// The routes to an ENI went with its link.
    pub(super) fn forget(&mut self, eni: &str) {
        self.ways.retain(|_, way| !matches!(way, Way::Eni(id) if id == eni));
    }

    /// Makes the kernel route like this. Removals come last: a route that moves to a wider one has no gap.
    pub(super) fn sync(
        &mut self,
        fabric: &mut Place,
        routing: &Routing,
        ports: &Ports,
        links: &BTreeMap<String, LinkIndex>,
    ) -> Result<(), FabricError> {
        let wanted = routing.ways(&self.numbers, |eni| links.contains_key(eni));
        let spec = |key: &(u16, Ipv4Net), way: &Way| self.spec(*key, way, ports, links);
        let changed = wanted.iter().filter(|(key, way)| self.ways.get(key) != Some(way));
        let mut requests: Vec<Request> =
            changed.filter_map(|(key, way)| Some(Request::replace_route(&spec(key, way)?))).collect();
        let gone = self.ways.iter().filter(|(key, _)| !wanted.contains_key(key));
        requests
            .extend(gone.filter_map(|(key, way)| Some(Request::remove_route(&spec(key, way)?).or_gone())));
        fabric.netlink.run_all(requests).map_err(FabricError::Kernel)?;
        self.ways = wanted;
        self.sync_rules(fabric)
    }

    /// Leads single destinations elsewhere, in tables that the kernel has: what that costs does not grow with the tables.
    pub(super) fn detour(
        &mut self,
        fabric: &mut Place,
        detours: &[Detour],
        ports: &Ports,
        links: &BTreeMap<String, LinkIndex>,
    ) -> Result<(), FabricError> {
        // The last word on a destination counts.
        let mut wanted = BTreeMap::new();
        for Detour { table, to, hop } in detours {
            let way = match hop {
                Some(hop) => Some(Way::to(hop, |eni| links.contains_key(eni))),
                None => Way::without_route(*to),
            };
            wanted.extend(self.numbers.get(table).map(|number| ((*number, *to), way)));
        }
        let requests = wanted.iter().filter_map(|(key, way)| match (way, self.ways.get(key)) {
            (Some(way), _) => Some(Request::replace_route(&self.spec(*key, way, ports, links)?)),
            (None, Some(old)) => Some(Request::remove_route(&self.spec(*key, old, ports, links)?).or_gone()),
            (None, None) => None,
        });
        fabric.netlink.run_all(requests.collect()).map_err(FabricError::Kernel)?;
        for (key, way) in wanted {
            match way {
                Some(way) => drop(self.ways.insert(key, way)),
                None => drop(self.ways.remove(&key)),
            }
        }
        Ok(())
    }

    fn sync_rules(&mut self, fabric: &mut Place) -> Result<(), FabricError> {
        let wanted: BTreeSet<u16> = self.numbers.values().copied().collect();
        let rule = |number: &u16| RuleSpec::marked(PRIORITY, mark(*number), table(*number));
        let new = wanted.difference(&self.ruled).map(|number| Request::add_rule(&rule(number)).or_exists());
        let gone = self.ruled.difference(&wanted).map(|number| Request::remove_rule(&rule(number)).or_gone());
        fabric.netlink.run_all(new.chain(gone).collect()).map_err(FabricError::Kernel)?;
        self.ruled = wanted;
        Ok(())
    }

    /// The kernel's route; none to a link that is not there.
    fn spec(
        &self,
        (number, to): (u16, Ipv4Net),
        way: &Way,
        ports: &Ports,
        links: &BTreeMap<String, LinkIndex>,
    ) -> Option<RouteSpec> {
        let (table, to) = (table(number), IpNet::V4(to));
        let through = |gateway: Ipv4Addr, link| {
            let via = RouteSpec::via(table, to, gateway.into(), link);
            Some(RouteSpec { onlink: true, ..via })
        };
        match way {
            Way::Main => Some(RouteSpec { kind: THROW, ..RouteSpec::blackhole(table, to) }),
            Way::Internet => through(self.internet, self.internet_port),
            Way::Eni(eni) => through(ports.get(eni)?.primary, *links.get(eni)?),
            Way::Nowhere => {
                Some(RouteSpec { scope: RouteScope::Link, ..RouteSpec::on_link(table, to, self.loopback) })
            }
        }
    }

    /// Holds the VPC's ranges: an address of theirs that nobody has is nobody's, and the internet knows the way to them.
    pub(super) fn sync_ranges(
        &mut self,
        fabric: &mut Place,
        internet: &mut Place,
        wanted: &BTreeSet<Ipv4Net>,
    ) -> Result<(), FabricError> {
        let hole = |range: &Ipv4Net| RouteSpec::blackhole(TableId::MAIN, IpNet::V4(*range));
        for range in self.ranges.clone().difference(wanted) {
            fabric.netlink.remove_route(&hole(range)).map_err(FabricError::Kernel)?;
            let link = internet.index_of("eth0")?;
            let via = RouteSpec::via(TableId::MAIN, IpNet::V4(*range), gateway_of(*range).into(), link);
            internet.netlink.remove_route(&via).map_err(FabricError::Kernel)?;
            self.ranges.remove(range);
        }
        for range in wanted.difference(&self.ranges.clone()) {
            fabric.netlink.replace_route(&hole(range)).map_err(FabricError::Kernel)?;
            let link = internet.index_of("eth0")?;
            internet.route_through(*range, (gateway_of(*range), ROUTER_MAC), link)?;
            self.ranges.insert(*range);
        }
        Ok(())
    }
}
