//! Route tables: what is in them, who routes by them, and what a reader gets to see. Local routes are not kept but follow
//! from the VPC's CIDRs. A route says where it leads; whether it works is found out at each look, from the ENI's attachment.
//!
//! After a write, reads flip-flop for the scenario's settle time: each shows the table as it is or as it was before one of
//! the writes that have not settled, by chance. What writes are checked against is always the truth.

mod association;
mod cidr;
mod write;

pub(crate) use association::{Associated, Association};
pub(crate) use cidr::{Cidr, CidrState};
pub(crate) use write::Wanted;

use super::{Tags, World};
use crate::error::{ApiError, Code};
use crate::id::{EniId, GatewayId, RouteTableId, SubnetId};
use crate::random::{Random, seal};
use crate::scenario::{RouteOrigin, Scenario};
use crate::time::SimTime;
use ipnet::IpNet;
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// All routing of the VPC.
#[derive(Debug, Clone)]
pub(crate) struct Routing {
    pub(crate) tables: BTreeMap<RouteTableId, RouteTable>,
    /// The VPC's gateway to the internet.
    pub(crate) internet: GatewayId,
    /// Client tokens of tables that were created.
    pub(crate) tokens: BTreeMap<String, RouteTableId>,
    /// Routes of a family that a table may have.
    quota: usize,
    settle: Duration,
    /// How many reads there were: what chance is drawn from.
    reads: u64,
    random: Random,
}

/// A route table.
#[derive(Debug, Clone)]
pub(crate) struct RouteTable {
    pub(crate) id: RouteTableId,
    /// In the scenario; empty for one that was made by a call.
    pub(crate) name: String,
    pub(crate) associations: Vec<Association>,
    pub(crate) tags: Tags,
    content: Content,
    /// The writes that have not settled, in their order.
    unsettled: VecDeque<Write>,
}

/// The routes of a table, without the local ones.
type Content = BTreeMap<IpNet, Slot>;

/// The routes of a table to one destination.
#[derive(Debug, Clone, Default)]
struct Slot {
    /// Made by a call.
    written: Option<Target>,
    /// Propagated or advertised: a written route hides it.
    learnt: Option<(Target, RouteOrigin)>,
}

/// A write, and what it overwrote.
#[derive(Debug, Clone)]
struct Write {
    at: SimTime,
    to: IpNet,
    before: Slot,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Local,
    Eni(EniId),
    Internet,
    /// Something outside this world, by its id.
    Foreign(String),
}

/// A route as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) destination: IpNet,
    pub(crate) target: Target,
    pub(crate) origin: RouteOrigin,
    pub(crate) is_active: bool,
}

/// A read of route tables: each has its own luck, whether it looks at the present or at the past.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Read {
    at: SimTime,
    luck: u64,
}

impl Routing {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        // A stream of its own: tables must not change which ids and addresses the rest of the world has.
        let mut random = Random::new(scenario.seed ^ 0x0072_6f75_7465_7300);
        Self {
            tables: BTreeMap::new(),
            internet: GatewayId::draw(&mut random),
            tokens: BTreeMap::new(),
            quota: scenario.quotas.routes_per_table,
            settle: scenario.delays.route_settle,
            reads: 0,
            random,
        }
    }

    /// Begins a read.
    pub(crate) fn begin_read(&mut self, now: SimTime) -> Read {
        self.reads += 1;
        Read { at: now, luck: seal(self.reads, b"routes") }
    }
}

/// Puts what is left of a slot into a table.
fn put(content: &mut Content, to: IpNet, slot: Slot) {
    if slot.written.is_none() && slot.learnt.is_none() {
        content.remove(&to);
    } else {
        content.insert(to, slot);
    }
}

impl RouteTable {
    fn new(id: RouteTableId, name: String, tags: Tags) -> Self {
        let (associations, unsettled) = (Vec::new(), VecDeque::new());
        Self { id, name, associations, tags, content: Content::default(), unsettled }
    }

    /// Whether a call made a route to this destination.
    fn has_written(&self, to: IpNet) -> bool {
        self.content.get(&to).is_some_and(|slot| slot.written.is_some())
    }

    pub(crate) fn is_main(&self) -> bool {
        self.associations.iter().any(|association| association.of == Associated::Main)
    }

    /// What a read shows of it now: the truth, or what was before some write that has not settled.
    fn shown(&self, settle: Duration, read: Read) -> Cow<'_, Content> {
        let settled = self.unsettled.partition_point(|write| write.at.after(settle) <= read.at);
        let unsettled = self.unsettled.len() - settled;
        let drawn = seal(read.luck, self.id.as_str().as_bytes());
        // Every second read is right, so that a reader who waits gets there.
        if unsettled == 0 || !drawn.is_multiple_of(2) {
            return Cow::Borrowed(&self.content);
        }
        let first = settled + usize::try_from(drawn >> 1).unwrap_or_default() % unsettled;
        let mut content = self.content.clone();
        for write in self.unsettled.range(first..).rev() {
            put(&mut content, write.to, write.before.clone());
        }
        Cow::Owned(content)
    }
}

impl World {
    /// The scenario's tables; a main one if it names none.
    pub(crate) fn found_tables(&mut self, scenario: &Scenario) {
        for spec in &scenario.route_tables {
            let id = self.new_table(spec.name.clone(), spec.tags.clone());
            if spec.is_main {
                self.found_association(&id, Associated::Main);
            }
            let named = self.subnets.values().filter(|subnet| spec.subnets.contains(&subnet.name));
            let subnets: Vec<SubnetId> = named.map(|subnet| subnet.id.clone()).collect();
            for subnet in subnets {
                self.found_association(&id, Associated::Subnet(subnet));
            }
            if spec.has_internet {
                self.found_route(&id, all(), Target::Internet, RouteOrigin::CreateRoute);
            }
            for route in &spec.routes {
                let target = self.target_of(&route.target);
                self.found_route(&id, route.destination, target, route.origin);
            }
        }
        if !self.routing.tables.values().any(RouteTable::is_main) {
            let id = self.new_table(String::new(), Tags::new());
            self.found_association(&id, Associated::Main);
            self.found_route(&id, all(), Target::Internet, RouteOrigin::CreateRoute);
        }
    }

    fn new_table(&mut self, name: String, tags: Tags) -> RouteTableId {
        let id = RouteTableId::draw(&mut self.routing.random);
        self.routing.tables.insert(id.clone(), RouteTable::new(id.clone(), name, tags));
        id
    }

    /// Puts a route where it is, whoever made it, without a check.
    fn found_route(&mut self, table: &RouteTableId, to: IpNet, target: Target, origin: RouteOrigin) {
        let Some(table) = self.routing.tables.get_mut(table) else { return };
        let slot = table.content.entry(to).or_default();
        if origin.is_learnt() {
            slot.learnt = Some((target, origin));
        } else {
            slot.written = Some(target);
        }
    }

    /// The target that a scenario means: the internet, a node's primary ENI, or an id.
    pub(crate) fn target_of(&self, text: &str) -> Target {
        if text == "internet" {
            return Target::Internet;
        }
        if let Some(id) = EniId::parse(text) {
            return Target::Eni(id);
        }
        let primary = self.node(text).and_then(|instance| self.enis_of(&instance.id).first().copied());
        primary.map_or_else(|| Target::Foreign(text.to_owned()), |eni| Target::Eni(eni.id.clone()))
    }

    pub(crate) fn table(&self, id: &RouteTableId) -> Result<&RouteTable, ApiError> {
        self.routing.tables.get(id).ok_or_else(|| no_table(id))
    }

    pub(crate) fn table_mut(&mut self, id: &RouteTableId) -> Result<&mut RouteTable, ApiError> {
        self.routing.tables.get_mut(id).ok_or_else(|| no_table(id))
    }

    /// The routes of a table as they are.
    pub(crate) fn routes(&self, table: &RouteTable) -> Vec<Route> {
        self.list(&table.content)
    }

    /// The routes of a table as a read shows them.
    pub(crate) fn shown_routes(&self, table: &RouteTable, read: Read) -> Vec<Route> {
        self.list(&table.shown(self.routing.settle, read))
    }

    fn list(&self, content: &Content) -> Vec<Route> {
        let route = |destination, target: &Target, origin| Route {
            destination,
            target: target.clone(),
            origin,
            is_active: self.is_active(target),
        };
        let local = self.vpc.ranges();
        let local = local.map(|range| route(range.into(), &Target::Local, RouteOrigin::CreateRouteTable));
        let written = content.iter().filter_map(|(to, slot)| Some((to, slot.written.as_ref()?)));
        let written = written.map(|(to, target)| route(*to, target, RouteOrigin::CreateRoute));
        let learnt = content.iter().filter(|(_, slot)| slot.written.is_none());
        let learnt = learnt.filter_map(|(to, slot)| Some((to, slot.learnt.as_ref()?)));
        let learnt = learnt.map(|(to, (target, origin))| route(*to, target, *origin));
        local.chain(written).chain(learnt).collect()
    }

    /// A route to an ENI works while that is attached.
    fn is_active(&self, target: &Target) -> bool {
        match target {
            Target::Local | Target::Internet | Target::Foreign(_) => true,
            Target::Eni(id) => self.enis.get(id).is_some_and(|eni| eni.attachment.is_some()),
        }
    }

    /// The table that a subnet routes by: its own, otherwise the main one.
    pub(crate) fn table_of(&self, subnet: &SubnetId) -> Option<&RouteTable> {
        let own = |table: &&RouteTable| {
            let mut of = table.associations.iter().map(|association| &association.of);
            of.any(|of| matches!(of, Associated::Subnet(id) if id == subnet))
        };
        let tables = || self.routing.tables.values();
        tables().find(own).or_else(|| tables().find(|table| table.is_main()))
    }
}

/// All addresses of IPv4.
fn all() -> IpNet {
    IpNet::V4(ipnet::Ipv4Net::default())
}

fn no_table(id: &RouteTableId) -> ApiError {
    Code::RouteTableNotFound.because(format!("The routeTable ID '{id}' does not exist"))
}
