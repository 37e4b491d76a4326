//! The pool itself: one state, one `step`. An event changes the state; then the plan looks at the whole state and
//! begins what can be begun, so that a decision never depends on which event led to it.
//!
//! Where to find what: `requests` serves pods, `rest` lets addresses rest, `calls` takes outcomes in, `delegate` takes up prefixes, `observe`
//! compares ENIs with EC2 and `compare` their addresses, `lifecycle` moves ENIs, `stock` counts, `grow` and `shrink` decide on size, `blocks` takes their place in
//! `vpcRoute` mode, `restore` begins after a crash, `report` shows.
//!
//! A step costs what the ENIs and what changed are: nothing here looks at all addresses but the comparison with EC2.

mod blocks;
mod calls;
mod compare;
mod create;
mod delegate;
mod grow;
mod lifecycle;
mod observe;
mod report;
mod requests;
mod rest;
mod restore;
mod shrink;
mod stock;
mod store;

use crate::action::{Action, CallId, CloudCall, EniDatapath, StoreId};
use crate::backoff::Backoffs;
use crate::eni::{EniState, Look};
use crate::event::{Event, Ticket};
use crate::finding::Finding;
use crate::kernel::Kernel;
use crate::placement::Ask;
use crate::prefix;
use crate::record::{AttachmentKey, IntentId, Place, PodName, StoreChange};
use crate::settings::{NodeFacts, PoolSettings};
use crate::table::AddressTable;
use crate::time::{Jitter, Timestamp};
use ipnet::IpNet;
use spur_cloud::{CreateEni, EniId, SubnetId, VpcId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

/// The address pool of one node.
#[derive(Debug)]
pub struct Pool {
    settings: PoolSettings,
    node: NodeFacts,
    jitter: Jitter,
    now: Timestamp,
    /// Counts steps, to tell what was known when.
    step: u64,
    last_id: u64,
    enis: BTreeMap<EniId, EniState>,
    creations: BTreeMap<IntentId, Creation>,
    releases: BTreeMap<IntentId, Release>,
    table: AddressTable,
    /// Resting addresses that are not in the table as such: from before the start and not shown yet, or gone. Until the kernel was
    /// asked, they rest on if they come back.
    resting: BTreeMap<IpAddr, rest::Rest>,
    probe: rest::Probe,
    waiters: VecDeque<Waiter>,
    backoffs: Backoffs,
    /// Subnets that refused a number of addresses: ask for this many next time.
    tight: BTreeMap<SubnetId, u32>,
    /// The same for prefixes.
    tight_prefixes: BTreeMap<SubnetId, u32>,
    calls: BTreeMap<CallId, Running>,
    stores: BTreeMap<StoreId, store::Pending>,
    /// Changes that can wait for the next transaction.
    dirty: Vec<StoreChange>,
    kernel: Kernel,
    /// The ENIs, their places and the revisions of their addresses that the kernel was told.
    told: Vec<(EniId, Place, u64)>,
    sight: Sight,
    surplus: Option<shrink::Surplus>,
    /// ENIs that EC2 allowed when it refused one more, believed until then.
    learned_enis: Option<(u32, Timestamp)>,
    /// In `vpcRoute` mode, what the controller granted; none in `eni` mode.
    blocks: Option<blocks::Blocks>,
    findings: BTreeSet<Finding>,
    /// How often each kind of finding was made.
    counters: BTreeMap<&'static str, u64>,
    out: Vec<Action>,
}

/// An ENI that is being made.
#[derive(Debug)]
struct Creation {
    create: CreateEni,
    since: Timestamp,
    ask: Ask,
    phase: Making,
    /// Whether it may exist already, because an earlier call had no clear outcome.
    uncertain: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Making {
    /// The intent is being made durable.
    Storing,
    /// To be called.
    Due,
    /// Being called.
    Calling,
    /// Perhaps made, and not to be repeated: searched by its tags.
    Searched {
        /// Since when.
        since: Timestamp,
        /// When next.
        at: Timestamp,
    },
}

/// Addresses, or prefixes, on their way back to the subnet.
#[derive(Debug)]
struct Release {
    eni: EniId,
    addresses: BTreeSet<IpAddr>,
    prefixes: BTreeSet<IpNet>,
    phase: Releasing,
    /// Whether a call may still take effect: then nothing else may become of the addresses.
    unclear: bool,
}

impl Release {
    /// Whether it is about any of these.
    fn concerns(&self, addresses: &BTreeSet<IpAddr>, prefixes: &BTreeSet<IpNet>) -> bool {
        !self.addresses.is_disjoint(addresses) || !self.prefixes.is_disjoint(prefixes)
    }

    /// All addresses that go.
    fn all(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses
            .iter()
            .copied()
            .chain(self.prefixes.iter().flat_map(|prefix| prefix::addresses(*prefix)))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Releasing {
    /// The intent is being made durable.
    Storing,
    /// To be taken out of the kernel, then to be called.
    Going,
    /// Gone. Until EC2's reads show it too, these addresses are not taken up again.
    Gone(Timestamp),
}

/// A pod that waits.
#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    key: AttachmentKey,
    pod: Option<PodName>,
    sandbox: Option<String>,
    since: Timestamp,
}

/// A call under way.
#[derive(Debug)]
struct Running {
    call: CloudCall,
    step: u64,
    at: Timestamp,
}

/// When EC2 was read.
#[derive(Debug)]
struct Sight {
    observed: Option<Timestamp>,
    reading: Option<CallId>,
    searching: Option<CallId>,
    next: Timestamp,
    /// The VPC of the node, once its primary ENI was seen.
    vpc: Option<VpcId>,
    /// When to search by tags for ENIs made before, because nothing survived that would tell of them.
    recall: Option<Timestamp>,
}

impl Pool {
    /// Takes one event in and says what to do. `now` comes from a clock that does not step: wall time at the start of the
    /// process plus monotonic time since.
    pub fn step(&mut self, now: Timestamp, event: Event) -> Vec<Action> {
        self.now = self.now.max(now);
        self.step += 1;
        self.take(event);
        self.expire();
        // What came just now is to count as on its way.
        self.tell_kernel();
        if self.blocks.is_some() {
            self.serve();
        } else {
            self.read();
            self.move_enis();
            self.serve();
            self.repair();
            self.grow();
            self.shrink();
        }
        self.tell_kernel();
        std::mem::take(&mut self.out)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Tick => {}
            Event::Reload(settings) => {
                self.settings = *settings;
                self.drop_prefix_findings();
            }
            Event::Limits(limits) => {
                self.node.limits = *limits;
                self.drop_prefix_findings();
            }
            Event::Blocks(grant) => self.grant_blocks(grant),
            Event::Add { ticket, attachment, pod, sandbox } => self.add(ticket, attachment, pod, sandbox),
            Event::Cancel { ticket } => self.cancel(ticket),
            Event::Del { ticket, attachment } => self.del(ticket, &attachment),
            Event::Stored(id) => self.stored(id),
            Event::StoreFailed(id, message) => self.store_failed(id, &message),
            Event::CallFinished { call, result } => self.call_finished(call, result),
            Event::FlowsSeen(result) => self.flows_seen(result),
            Event::DatapathApplied { generation, ready } => self.kernel.applied(generation, ready),
            Event::DatapathFailed { message, .. } => self.kernel.failed(message),
        }
    }

    /// Ends what lasts only for a time.
    fn expire(&mut self) {
        let now = self.now;
        self.end_rests();
        if self.learned_enis.is_some_and(|(_, until)| until <= now) {
            self.learned_enis = None;
            self.findings.retain(|finding| !matches!(finding, Finding::LowerEniLimit { .. }));
        }
        let settle = self.settings.timings.settle;
        // A reading that began before may be answered at any time later, and show them still.
        let reads = self.calls.values().filter(|running| matches!(running.call, CloudCall::ReadEnis(_)));
        let read = reads.map(|running| running.at).fold(now, Timestamp::min);
        let shown =
            |release: &Release| matches!(release.phase, Releasing::Gone(at) if at.after(settle) <= read);
        let shown: Vec<IntentId> =
            self.releases.iter().filter(|(_, r)| shown(r)).map(|(id, _)| *id).collect();
        for intent in shown {
            self.releases.remove(&intent);
            self.store(vec![StoreChange::DropIntent(intent)], store::Then::Nothing);
        }
    }

    /// The ENIs that the kernel shall know, each with its place and the revision of its addresses.
    fn wish(&self) -> impl Iterator<Item = (&EniId, Place, u64)> {
        self.enis.values().filter(|eni| eni.in_kernel()).filter_map(|eni| {
            let id = &eni.record.id;
            Some((id, eni.record.place?, self.table.shelf(id).revision()))
        })
    }

    fn tell_kernel(&mut self) {
        let told = || self.told.iter().map(|(id, place, revision)| (id, *place, *revision));
        if self.sight.observed.is_none() || self.kernel.told() && self.wish().eq(told()) {
            return;
        }
        self.told = self.wish().map(|(id, place, revision)| (id.clone(), place, revision)).collect();
        let mut enis: Vec<EniDatapath> = self.enis.values().filter_map(|eni| self.datapath_of(eni)).collect();
        enis.sort_by_key(|eni| eni.ordinal);
        if let Some(wanted) = self.kernel.want(enis) {
            // The newest replaces all before it.
            self.out.retain(|action| !matches!(action, Action::Datapath(_)));
            self.out.push(Action::Datapath(wanted));
        }
    }

    fn datapath_of(&self, eni: &EniState) -> Option<EniDatapath> {
        let place = eni.record.place.filter(|_| eni.in_kernel())?;
        let stays = self.table.on(&eni.record.id).filter(|(_, slot)| slot.in_kernel());
        Some(EniDatapath {
            eni: eni.record.id.clone(),
            mac: eni.record.mac,
            ordinal: place.ordinal,
            subnet: eni.record.subnet.clone(),
            primary: eni.record.primary,
            addresses: stays.map(|(address, _)| address).collect(),
        })
    }

    /// When to come back with [`Event::Tick`] at the latest.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        let timings = &self.settings.timings;
        let gone = self.releases.values().filter_map(|release| match release.phase {
            Releasing::Gone(at) => Some(at.after(timings.settle)),
            _ => None,
        });
        let searches = self.creations.values().filter_map(|creation| match creation.phase {
            Making::Searched { at, .. } => Some(at),
            _ => None,
        });
        let looks = self.enis.values().filter_map(|eni| eni.look.as_ref().map(|Look { at, .. }| *at));
        let attaching =
            self.enis.values().filter_map(EniState::waits_since).map(|at| at.after(timings.attach));
        gone.chain(self.next_rested())
            .chain(searches)
            .chain(looks)
            .chain(attaching)
            .chain(self.backoffs.next(self.now))
            .chain(self.sight.reading.is_none().then_some(self.sight.next))
            .chain(self.surplus.iter().flat_map(|surplus| [surplus.prefixes, surplus.due]))
            .chain(self.learned_enis.map(|(_, until)| until))
            .chain(self.sight.recall)
            .filter(|at| *at > self.now)
            .min()
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Shows a finding that stands until it is taken back.
    fn raise(&mut self, finding: Finding) {
        if self.findings.insert(finding.clone()) {
            self.report(finding);
        }
    }

    /// Shows and counts what was found.
    fn report(&mut self, finding: Finding) {
        *self.counters.entry(finding.kind()).or_default() += 1;
        self.out.push(Action::Report(finding));
    }
}

#[cfg(test)]
mod tests;
