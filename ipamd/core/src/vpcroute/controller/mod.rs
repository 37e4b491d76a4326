//! The controller as a state machine: events in, actions out, each with its reason. See the crate's first page for what the shell has to
//! do; it is the same as for the pool of a node.
//!
//! One step: take in the event; bring the book up to date (who left, which tables, which blocks); begin the reads that are due
//! and the calls of the plan that nothing holds back and the budget allows; store what changed. A block's routes are written, and its
//! grant is given, when it is durable, not before.

mod book;
mod counts;
mod departures;
mod holds;
mod nodes;
mod outcome;
mod readiness;
mod reads;
mod report;

pub use counts::NodeCounts;
pub use report::{CallCounts, Condition, Counters, DriftCounts, TableView, View};

use super::call::{Action, Event, Reason, RouteCall, Subject};
use super::discovery::{Discovery, discover};
use super::plan::Hold;
use super::problem::Problem;
use super::record::Record;
use super::settings::{Nodes, Settings};
use super::sight::Sights;
use super::targets::Targets;
use super::{Family, NodeName, PoolMistake};
use crate::action::CallId;
use crate::backoff::Backoffs;
use crate::time::{Jitter, Timestamp};
use book::Book;
use departures::Departures;
use ipnet::IpNet;
use reads::Reads;
use spur_cloud::budget::{Budget, Meter, Priority, Terms, Turn};
use spur_cloud::{Api, EniId, RouteTableId, SubnetId, Vpc};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Calls under way at most: more would not be faster, because the buckets allow a few a second.
const RUNNING_MAX: usize = 32;

/// What failed, and waits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// An action as a whole.
    Api(Api),
    /// An action in one table.
    Table(RouteTableId, Api),
    /// One thing.
    Subject(Subject),
    /// A table that takes no more routes of a family.
    Full(RouteTableId, Family),
    /// The store.
    Store,
}

#[derive(Debug)]
struct Running {
    call: RouteCall,
    begun: Timestamp,
}

/// The state machine.
#[derive(Debug)]
pub struct Controller {
    pub(super) settings: Settings,
    now: Timestamp,
    jitter: Jitter,
    pub(super) record: Record,
    book: Book,
    nodes: Option<Nodes>,
    /// When each node came, as a number that grows.
    pub(super) arrivals: BTreeMap<NodeName, u64>,
    departures: Departures,
    /// Nodes that were ready once.
    pub(super) served: BTreeSet<NodeName>,
    pub(super) targets: Targets,
    pub(super) sights: Sights,
    vpc: Option<Vpc>,
    subnets: Option<BTreeMap<SubnetId, IpNet>>,
    discovery: Discovery,
    pool_mistakes: Vec<PoolMistake>,
    /// Why nodes have no block, or not all that they want.
    refusals: BTreeMap<NodeName, BTreeSet<Problem>>,
    reads: Reads,
    calls: BTreeMap<CallId, Running>,
    backoffs: Backoffs<Key, Problem>,
    budget: Budget,
    /// So many routes a table held when EC2 took no more, and when that was.
    learned: BTreeMap<(RouteTableId, Family), (u32, Timestamp)>,
    /// When routes were deleted lately.
    deleted: BTreeMap<RouteTableId, Vec<Timestamp>>,
    /// Routes that were as they should be, and where they led.
    synced: BTreeMap<(RouteTableId, IpNet), EniId>,
    claimed: BTreeSet<RouteTableId>,
    claims_written: BTreeMap<RouteTableId, Timestamp>,
    counters: Counters,
    serial: u64,
    /// When the budget has a token again.
    refill: Option<Timestamp>,
    out: Vec<Action>,
}

impl Controller {
    /// A controller that begins with what survived of its predecessor. `seed` spreads retries.
    ///
    /// Blocks that rest begin their rest anew: the clock may have been set meanwhile, in either direction.
    #[must_use]
    pub fn new(settings: Settings, mut record: Record, seed: u64, now: Timestamp) -> Self {
        record.rest_until(now.after(settings.timings.cooldown));
        let budget = Budget::new(terms(&settings));
        Self {
            settings,
            now,
            jitter: Jitter::new(seed),
            record,
            book: Book::default(),
            nodes: None,
            arrivals: BTreeMap::new(),
            departures: Departures::new(),
            served: BTreeSet::new(),
            targets: Targets::default(),
            sights: Sights::default(),
            vpc: None,
            subnets: None,
            discovery: Discovery::default(),
            pool_mistakes: Vec::new(),
            refusals: BTreeMap::new(),
            reads: Reads::new(now),
            calls: BTreeMap::new(),
            backoffs: Backoffs::default(),
            budget,
            learned: BTreeMap::new(),
            deleted: BTreeMap::new(),
            synced: BTreeMap::new(),
            claimed: BTreeSet::new(),
            claims_written: BTreeMap::new(),
            counters: Counters::default(),
            serial: 0,
            refill: None,
            out: Vec::new(),
        }
    }

    /// Takes in an event and says what to do. A clock that steps back stands still.
    pub fn step(&mut self, now: Timestamp, event: Event) -> Vec<Action> {
        self.now = self.now.max(now);
        self.absorb(event);
        self.update();
        self.begin_reads();
        self.begin_calls();
        self.flush();
        std::mem::take(&mut self.out)
    }

    /// When to step again if nothing happens.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        let reads = self.nodes.is_some().then(|| self.reads.next()).flatten();
        let times = [reads, self.backoffs.next(self.now), self.refill, self.next_departure()];
        times.into_iter().flatten().min()
    }

    fn absorb(&mut self, event: Event) {
        match event {
            Event::Tick => {}
            Event::Reload(settings) => {
                if settings.budget_percent != self.settings.budget_percent {
                    self.budget = Budget::new(terms(&settings));
                }
                if settings.pool.cidrs != self.settings.pool.cidrs {
                    // The claims say something else now; the next read tells which are right.
                    self.claimed.clear();
                    self.claims_written.clear();
                }
                self.settings = *settings;
                self.reads.discover(self.now);
            }
            Event::Nodes(nodes) => self.take_nodes(nodes),
            Event::Stored(id) => {
                if self.book.stored(id) {
                    self.backoffs.clear(&Key::Store);
                }
            }
            Event::StoreFailed(id, message) => self.store_failed(id, message),
            Event::CallFinished { call, result } => {
                if let Some(running) = self.calls.remove(&call) {
                    self.finished(&running.call, running.begun, result);
                }
            }
        }
    }

    /// Brings the book up to date.
    fn update(&mut self) {
        if self.not_observed().is_some() {
            return;
        }
        self.update_tables();
        let managed: Vec<_> = self.managed().cloned().collect();
        self.pool_mistakes = self.settings.pool.mistakes();
        let vpc = self.vpc.as_ref();
        let collisions = super::pool::collisions(&self.settings, vpc, &self.sights, managed.iter());
        self.pool_mistakes.extend(collisions);
        self.pool_mistakes.sort_unstable();
        self.pool_mistakes.dedup();
        self.update_blocks();
        self.note_ready();
    }

    /// Whether everything was read that a plan needs. Before it, grants say of every node that it is not ready.
    #[must_use]
    pub fn is_observed(&self) -> bool {
        self.not_observed().is_none()
    }

    /// Whether the nodes were never told.
    #[must_use]
    pub const fn nodes_unknown(&self) -> bool {
        self.nodes.is_none()
    }

    /// What has to be read before anything is allocated or deleted (R3).
    pub(super) fn not_observed(&self) -> Option<Problem> {
        let unread = |what| Some(Problem::NotObserved { what });
        match &self.nodes {
            None => Some(Problem::NodesUnknown),
            Some(_) if self.vpc.is_none() => unread("the VPC's CIDRs"),
            Some(_) if self.subnets.is_none() => unread("the subnets"),
            Some(_) if !self.reads.tables_were_read() => unread("the route tables"),
            Some(nodes) if !nodes.is_empty() && !self.reads.enis_were_read() => {
                unread("the ENIs of the nodes")
            }
            Some(_) => None,
        }
    }

    /// The list of nodes is empty and there is something to lose.
    pub(super) fn no_nodes(&self) -> Option<Problem> {
        let empty = self.nodes.as_ref().is_some_and(Nodes::is_empty);
        let held = self.record.blocks.len();
        let allowed = self.settings.allow_deletes.is_some_and(|allowed| allowed > 0);
        (empty && held > 0 && !allowed).then_some(Problem::NoNodes { held })
    }

    /// Finds the tables anew, and notes in the record which are needed.
    fn update_tables(&mut self) {
        let subnets: BTreeSet<SubnetId> =
            self.targets.iter().map(|(_, target)| target.subnet.clone()).collect();
        if self.reads.subnets_changed(&subnets) {
            self.reads.discover(self.now);
        }
        self.discovery = discover(self.sights.tables(), &subnets, &self.settings.tables);
        if self.no_nodes().is_some() {
            return;
        }
        let grace = self.settings.timings.table_grace;
        for table in self.discovery.managed.keys() {
            let known = self.record.tables.get(table);
            if known.is_none_or(|known| known.unneeded.is_some()) {
                self.book.needs_table(&mut self.record, table);
            }
        }
        let left: Vec<_> = self
            .record
            .tables
            .keys()
            .filter(|table| !self.discovery.managed.contains_key(*table))
            .cloned()
            .collect();
        // A node whose ENI is not known may be in any subnet.
        let all_found = self.all_found();
        for table in left {
            let since = self.record.tables.get(&table).and_then(|known| known.unneeded);
            let gone = self.sights.get(&table).is_none();
            let over = since.is_some_and(|since| self.now >= since.after(grace));
            if gone || (over && self.ours_in(&table) == 0 && !self.is_claimed(&table)) {
                self.book.drop_table(&mut self.record, &table);
            } else if since.is_none() && all_found {
                self.book.leave_table(&mut self.record, &table, self.now);
            }
        }
    }

    /// Whether the ENI of every node on the list is known.
    pub(super) fn all_found(&self) -> bool {
        self.nodes.iter().flat_map(Nodes::keys).all(|node| self.targets.get(node).is_some())
    }

    /// Tables that every node has its routes in: those that are needed, and those that were until lately.
    pub(super) fn managed(&self) -> impl Iterator<Item = &RouteTableId> {
        self.record.tables.keys().filter(|table| !self.is_retiring(table))
    }

    /// Tables that our routes have to go from.
    pub(super) fn retiring(&self) -> impl Iterator<Item = &RouteTableId> {
        self.record.tables.keys().filter(|table| self.is_retiring(table))
    }

    fn is_retiring(&self, table: &RouteTableId) -> bool {
        let since = self.record.tables.get(table).and_then(|known| known.unneeded);
        since.is_some_and(|since| self.now >= since.after(self.settings.timings.table_grace))
    }

    pub(super) fn is_claimed(&self, table: &RouteTableId) -> bool {
        self.claimed.contains(table)
    }

    pub(super) fn is_block_durable(&self, block: IpNet) -> bool {
        self.book.is_block_durable(block)
    }

    pub(super) fn is_table_durable(&self, table: &RouteTableId) -> bool {
        self.book.is_table_durable(table)
    }

    pub(super) fn recent_deletes(&self, table: &RouteTableId) -> usize {
        let since = |at: &&Timestamp| self.now.since(**at) < self.settings.timings.reconcile;
        self.deleted.get(table).map_or(0, |times| times.iter().filter(since).count())
    }

    /// Begins the calls of the plan that nothing holds back, as far as the budget goes.
    fn begin_calls(&mut self) {
        self.refill = None;
        let mut spent = BTreeSet::new();
        for planned in self.plan() {
            match planned.hold {
                None => {}
                Some(Hold::NotFresh) => {
                    self.reads.look(self.now);
                    continue;
                }
                Some(Hold::Running | Hold::Problem(_)) => continue,
            }
            let api = planned.call.api();
            if self.calls.len() >= RUNNING_MAX {
                break;
            }
            // Whoever comes later in the plan must not overtake.
            if spent.contains(&api) {
                continue;
            }
            match self.pays(api, priority(&planned.reason)) {
                Ok(()) => drop(self.begin(planned.call, planned.reason)),
                Err(until) => {
                    spent.insert(api);
                    self.refill = Some(self.refill.map_or(until, |refill| refill.min(until)));
                }
            }
        }
        // A look that was just asked for begins now, not at the next event.
        self.begin_reads();
    }

    /// Takes a token for a call, or says when there will be one.
    fn pays(&mut self, api: Api, priority: Priority) -> Result<(), Timestamp> {
        let now = self.now.since_epoch();
        let ticket = self.budget.request(now, Meter::of(api), priority);
        match self.budget.turn(now, ticket) {
            Turn::Go => Ok(()),
            Turn::Wait { until } | Turn::Refused { until } => {
                self.budget.give_up(ticket);
                Err(Timestamp::from_epoch(until))
            }
        }
    }

    fn begin(&mut self, call: RouteCall, reason: Reason) -> CallId {
        self.serial += 1;
        let id = CallId(self.serial);
        self.counters.calls.entry(call.api()).or_default().begun += 1;
        self.calls.insert(id, Running { call: call.clone(), begun: self.now });
        self.out.push(Action::Call { id, call, reason });
        id
    }

    fn flush(&mut self) {
        if self.backoffs.blocks(&Key::Store, self.now) {
            return;
        }
        self.out.extend(self.book.flush());
    }

    fn store_failed(&mut self, id: crate::action::StoreId, message: String) {
        if self.book.failed(id) {
            let problem = |_| Problem::Store { message };
            let policy = self.policy(false);
            self.backoffs.fail(Key::Store, self.now, policy, &mut self.jitter, problem);
        }
    }

    fn policy(&self, long: bool) -> crate::backoff::Policy {
        let timings = &self.settings.timings;
        let first = if long { timings.backoff_denied } else { timings.backoff };
        crate::backoff::Policy { first, cap: timings.backoff_cap }
    }
}

/// Refused rather than queued: the plan is made anew each time, and knows better what comes first.
fn terms(settings: &Settings) -> Terms {
    Terms { share_percent: settings.budget_percent, longest_wait: Duration::ZERO }
}

const fn priority(reason: &Reason) -> Priority {
    match reason {
        Reason::NewNode { .. } | Reason::NoClaim | Reason::CheckOn { .. } | Reason::FindEnis => {
            Priority::Route
        }
        Reason::NodeLeft { .. } | Reason::TableLeft => Priority::Release,
        _ => Priority::Stock,
    }
}
