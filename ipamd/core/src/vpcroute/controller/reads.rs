//! When to read what. All tables once a reconcile interval, with one call for the managed ones; every table, the subnets and the CIDRs of the
//! VPC once a discovery interval and whenever node subnets change; the ENIs of the nodes once a reconcile interval, and all of
//! the VPC's when one is not found. A look after writes comes soon, and later each time that it does not help.

use super::super::call::{Reason, RouteCall};
use super::{Controller, Key};
use crate::action::CallId;
use crate::time::{Jitter, Timestamp};
use spur_cloud::{EniId, EniQuery, RouteTableQuery, SubnetId, SubnetQuery};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Two reads of the tables are at least so far apart: a look answers for all writes before it.
const GAP: Duration = Duration::from_secs(2);
/// ENIs that EC2 accepts by id in one read.
const IDS_MAX: usize = 1000;

/// One kind of read.
#[derive(Debug, Default)]
struct Kind {
    running: Option<CallId>,
    /// When the last one that succeeded began.
    begun: Option<Timestamp>,
    due: Timestamp,
    /// Not before this: the action backs off, or the budget is spent.
    held: Timestamp,
}

impl Kind {
    fn at(due: Timestamp) -> Self {
        Self { due, ..Self::default() }
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.running.is_none() && now >= self.due.max(self.held)
    }

    fn next(&self) -> Option<Timestamp> {
        self.running.is_none().then_some(self.due.max(self.held))
    }
}

/// The reads.
#[derive(Debug)]
pub(super) struct Reads {
    tables: Kind,
    enis: Kind,
    subnets: Kind,
    vpc: Kind,
    /// When all tables of the VPC are read instead of the managed ones.
    discovery: Timestamp,
    discovered: bool,
    /// A look that is wanted, and how many did not help.
    look: Option<Timestamp>,
    looks: u32,
    /// All ENIs of the VPC are read, because some node's is not known.
    listing: bool,
    node_subnets: BTreeSet<SubnetId>,
}

impl Reads {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            tables: Kind::at(now),
            enis: Kind::at(now),
            subnets: Kind::at(now),
            vpc: Kind::at(now),
            discovery: now,
            discovered: false,
            look: None,
            looks: 0,
            listing: false,
            node_subnets: BTreeSet::new(),
        }
    }

    pub(super) const fn tables_were_read(&self) -> bool {
        self.discovered
    }

    pub(super) const fn enis_were_read(&self) -> bool {
        self.enis.begun.is_some()
    }

    /// All tables, subnets and CIDRs are read again soon.
    pub(super) fn discover(&mut self, now: Timestamp) {
        for due in [&mut self.discovery, &mut self.tables.due, &mut self.subnets.due, &mut self.vpc.due] {
            *due = (*due).min(now);
        }
    }

    /// ENIs are read again at once.
    pub(super) fn find_enis(&mut self, now: Timestamp) {
        self.enis.due = self.enis.due.min(now);
    }

    /// ENIs are read again at once, all of the VPC.
    pub(super) fn list_enis(&mut self, now: Timestamp) {
        self.listing = true;
        self.find_enis(now);
    }

    /// The tables are read at this moment, or soon after it.
    pub(super) fn look(&mut self, at: Timestamp) {
        self.look = Some(self.look.map_or(at, |look| look.min(at)));
    }

    /// A write was made: the next looks come soon again.
    pub(super) fn look_after_write(&mut self, at: Timestamp) {
        self.looks = 0;
        self.look(at);
    }

    /// Whether nodes are in other subnets than at the last question.
    pub(super) fn subnets_changed(&mut self, subnets: &BTreeSet<SubnetId>) -> bool {
        let changed = self.node_subnets != *subnets;
        // The first discovery has every table, whatever the subnets.
        let first = self.node_subnets.is_empty();
        self.node_subnets.clone_from(subnets);
        changed && !first
    }

    fn tables_due(&self) -> Option<Timestamp> {
        let earliest = self.tables.begun.map_or_else(Timestamp::default, |begun| begun.after(GAP));
        let wanted = self.look.map_or(self.tables.due, |look| look.min(self.tables.due));
        self.tables.running.is_none().then(|| wanted.max(earliest).max(self.tables.held))
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        let kinds = [&self.enis, &self.subnets, &self.vpc];
        kinds.into_iter().filter_map(Kind::next).chain(self.tables_due()).min()
    }

    fn kind_of(&mut self, call: &RouteCall) -> Option<&mut Kind> {
        match call {
            RouteCall::ReadTables(_) => Some(&mut self.tables),
            RouteCall::ReadEnis(_) => Some(&mut self.enis),
            RouteCall::ReadSubnets(_) => Some(&mut self.subnets),
            RouteCall::ReadVpc(_) => Some(&mut self.vpc),
            _ => None,
        }
    }
}

/// Once an interval at most, and not all controllers of an account at the same moment.
fn later(begun: Timestamp, interval: Duration, jitter: &mut Jitter) -> Timestamp {
    let permille = u32::try_from(jitter.bits() % 50).unwrap_or(0);
    begun.after(interval + interval * permille / 1000)
}

impl Controller {
    pub(super) fn begin_reads(&mut self) {
        if self.nodes.is_none() {
            return;
        }
        let now = self.now;
        if self.reads.tables_due().is_some_and(|due| now >= due) {
            let (query, reason) = self.tables_query();
            self.read(RouteCall::ReadTables(query), reason);
        }
        if self.reads.enis.is_due(now) {
            let (query, reason) = self.enis_query();
            match query {
                Some(query) => self.read(RouteCall::ReadEnis(query), reason),
                None => self.reads.enis.due = now.after(self.settings.timings.reconcile),
            }
        }
        if self.reads.subnets.is_due(now) {
            let query = SubnetQuery::Tagged(self.settings.vpc.clone(), BTreeMap::new());
            self.read(RouteCall::ReadSubnets(query), Reason::Discover);
        }
        if self.reads.vpc.is_due(now) {
            self.read(RouteCall::ReadVpc(self.settings.vpc.clone()), Reason::Discover);
        }
    }

    fn read(&mut self, call: RouteCall, reason: Reason) {
        let api = call.api();
        let held = match self.backoffs.until(&Key::Api(api), self.now) {
            Some(until) => Err(until),
            None => self.pays(api, super::priority(&reason)),
        };
        let begun = held.map(|()| self.begin(call.clone(), reason));
        if let Some(kind) = self.reads.kind_of(&call) {
            match begun {
                Ok(id) => kind.running = Some(id),
                Err(until) => kind.held = until,
            }
        }
    }

    fn tables_query(&mut self) -> (RouteTableQuery, Reason) {
        let known: BTreeSet<_> = self.record.tables.keys().cloned().collect();
        if self.now >= self.reads.discovery || known.is_empty() {
            return (RouteTableQuery::Tagged(self.settings.vpc.clone(), BTreeMap::new()), Reason::Discover);
        }
        let is_look = self.now < self.reads.tables.due;
        (RouteTableQuery::ByIds(known), if is_look { Reason::Look } else { Reason::Reconcile })
    }

    /// The ENIs of the nodes by id, as far as ids are known or were told; else all of the VPC.
    fn enis_query(&self) -> (Option<EniQuery>, Reason) {
        let Some(nodes) = self.nodes.as_ref().filter(|nodes| !nodes.is_empty()) else {
            return (None, Reason::Reconcile);
        };
        let all = || Some(EniQuery::Tagged(self.settings.vpc.clone(), BTreeMap::new()));
        let ids: Option<BTreeSet<EniId>> = nodes
            .iter()
            .map(|(node, spec)| {
                self.targets.get(node).map(|target| target.eni.clone()).or_else(|| spec.eni.clone())
            })
            .collect();
        let unknown = nodes.keys().any(|node| self.targets.get(node).is_none());
        let reason = if unknown { Reason::FindEnis } else { Reason::Reconcile };
        match ids {
            Some(ids) if !self.reads.listing && ids.len() <= IDS_MAX => (Some(EniQuery::ByIds(ids)), reason),
            _ => (all(), reason),
        }
    }

    /// A read ended; its kind is due again after the interval, or sooner when it failed.
    pub(super) fn read_ended(&mut self, call: &RouteCall, begun: Timestamp, succeeded: bool) {
        let timings = &self.settings.timings;
        let (interval, discovery) = (timings.reconcile, timings.discovery);
        let is_discovery = matches!(call, RouteCall::ReadTables(RouteTableQuery::Tagged(..)));
        let due = match call {
            RouteCall::ReadSubnets(_) | RouteCall::ReadVpc(_) => later(begun, discovery, &mut self.jitter),
            _ => later(begun, interval, &mut self.jitter),
        };
        let again = later(begun, discovery, &mut self.jitter);
        let Some(kind) = self.reads.kind_of(call) else { return };
        kind.running = None;
        if !succeeded {
            // The action backs off; what is due stays due.
            return;
        }
        (kind.begun, kind.due) = (Some(begun), due);
        if is_discovery {
            (self.reads.discovered, self.reads.discovery) = (true, again);
        }
    }

    /// After a read of the tables: whether another one is needed soon.
    pub(super) fn plan_look(&mut self) {
        self.reads.look = None;
        if self.record.tables.keys().filter_map(|id| self.sights.get(id)).any(|sight| sight.wants_look()) {
            let pause = self.settings.timings.look.saturating_mul(1 << self.reads.looks.min(5));
            self.reads.looks += 1;
            self.reads.look(self.now.after(pause));
        }
    }

    /// After a read of ENIs: nodes whose ENI it did not show are looked for in a listing, once at once and then each interval.
    pub(super) fn plan_listing(&mut self, was_listing: bool) {
        let Some(nodes) = &self.nodes else { return };
        let unknown = nodes.keys().any(|node| self.targets.get(node).is_none());
        self.reads.listing = unknown;
        if unknown && !was_listing {
            self.reads.find_enis(self.now);
        }
    }
}
