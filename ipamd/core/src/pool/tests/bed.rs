//! A node with a shell that does everything at once.

use crate::{
    Action, AttachmentKey, CallDone, CloudCall, DatapathWanted, EniTemplate, Event, Finding, NodeFacts, Pool,
    PoolSettings, PoolView, Record, Reply, StoreChange, Targets, Ticket, Timestamp, Timings,
};
use spur_cloud::fake::World;
use spur_cloud::{Api, Assigned, CloudError, EniId, EniStatus, InstanceId, SubnetId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

const EPOCH: Duration = Duration::from_secs(1_700_000_000);

pub(super) struct Bed {
    pub(super) world: World,
    pub(super) pool: Pool,
    pub(super) record: Record,
    pub(super) node: NodeFacts,
    pub(super) settings: PoolSettings,
    /// Addresses to which connections are tracked; an error if the kernel does not tell.
    pub(super) flows: Result<BTreeSet<IpAddr>, String>,
    pub(super) probes: Vec<BTreeSet<IpAddr>>,
    /// The store takes no change of this kind.
    pub(super) refused: fn(&StoreChange) -> bool,
    /// EC2 assigns and does not say what.
    pub(super) is_mute: bool,
    /// Single addresses that were given back.
    pub(super) given_back: BTreeSet<IpAddr>,
    pub(super) found: Vec<Finding>,
    pub(super) pods: BTreeMap<String, IpAddr>,
    kernel: DatapathWanted,
    told: BTreeSet<EniId>,
    tickets: BTreeMap<Ticket, String>,
    last_ticket: u64,
    pub(super) steps: u64,
}

pub(super) fn subnet(world: &str) -> SubnetId {
    format!("subnet-{world}").parse().unwrap()
}

impl Bed {
    /// A node of this type in the first of these subnets, all in one zone.
    pub(super) fn new(instance_type: &str, cidrs: &[&str], targets: Targets) -> Self {
        let mut world = World::new();
        let vpc = world.add_vpc("main", &["10.0.0.0/8".parse().unwrap()]);
        let name = |at: usize| char::from(b'a' + u8::try_from(at).unwrap()).to_string();
        let subnets: Vec<SubnetId> = cidrs
            .iter()
            .enumerate()
            .map(|(at, cidr)| world.add_subnet(&name(at), &vpc, "zone-1a", cidr.parse().unwrap()))
            .collect();
        let instance: InstanceId = world.add_instance("node", instance_type, &subnets[0]).unwrap();
        world.set_delays(Duration::from_secs(2), Duration::from_secs(2));
        let node = NodeFacts {
            instance: instance.clone(),
            limits: spur_quotas::builtin(instance_type).unwrap(),
            primary: world.true_enis().keys().next().unwrap().clone(),
        };
        let eni = EniTemplate {
            subnets,
            security_groups: BTreeSet::new(),
            ownership: BTreeMap::from([("spur.dev/instance".to_owned(), instance.to_string())]),
            tags: BTreeMap::new(),
            description: String::new(),
        };
        let settings = PoolSettings { targets, eni, timings: Timings::default() };
        Self::start(world, node, settings, Record::default(), Ok(BTreeSet::new()))
    }

    fn start(
        world: World,
        node: NodeFacts,
        settings: PoolSettings,
        record: Record,
        flows: Result<BTreeSet<IpAddr>, String>,
    ) -> Self {
        let now = Timestamp::from_epoch(EPOCH + world.now());
        let pool = Pool::new(settings.clone(), node.clone(), record.clone(), 1, now);
        let mut bed = Self {
            world,
            pool,
            record,
            node,
            settings,
            flows,
            probes: Vec::new(),
            refused: |_| false,
            is_mute: false,
            given_back: BTreeSet::new(),
            found: Vec::new(),
            pods: BTreeMap::new(),
            kernel: DatapathWanted::default(),
            told: BTreeSet::new(),
            tickets: BTreeMap::new(),
            last_ticket: 0,
            steps: 0,
        };
        bed.step(Event::Tick);
        bed
    }

    /// The agent starts again, with this in its store.
    pub(super) fn restart(self, record: Record) -> Self {
        let Self { world, node, settings, pods, flows, .. } = self;
        Self { pods, ..Self::start(world, node, settings, record, flows) }
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_epoch(EPOCH + self.world.now())
    }

    pub(super) fn step(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        let begin = self.steps;
        while let Some(event) = events.pop_front() {
            self.steps += 1;
            assert!(self.steps < begin + 10_000, "the pool goes round in circles: {event:?}");
            for action in self.pool.step(self.now(), event) {
                events.extend(self.act(action));
            }
        }
    }

    fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Store { id, changes } if changes.iter().any(self.refused) => {
                Some(Event::StoreFailed(id, "disk full".to_owned()))
            }
            Action::Store { id, changes } => {
                changes.iter().for_each(|change| self.record.apply(change));
                Some(Event::Stored(id))
            }
            Action::Call { id, call, .. } => {
                if let CloudCall::Unassign { addresses, .. } = &call {
                    self.given_back.extend(addresses);
                }
                let mut result = execute(&mut self.world, &call);
                if let Ok(CallDone::Assigned(assigned)) = &mut result
                    && self.is_mute
                {
                    *assigned = Assigned::default();
                }
                Some(Event::CallFinished { call: id, result })
            }
            Action::Datapath(wanted) => {
                self.kernel = wanted;
                Some(self.applied())
            }
            Action::ProbeFlows { addresses } => {
                self.probes.push(addresses.clone());
                let busy = |busy: &BTreeSet<IpAddr>| busy.intersection(&addresses).copied().collect();
                Some(Event::FlowsSeen(self.flows.as_ref().map(busy).map_err(Clone::clone)))
            }
            Action::Reply { ticket, reply } => {
                if let (Some(pod), Reply::Granted { address, .. }) = (self.tickets.remove(&ticket), reply) {
                    assert!(self.pods.values().all(|held| *held != address), "{address} twice");
                    self.pods.insert(pod, address);
                }
                None
            }
            Action::Report(finding) => {
                self.found.push(finding);
                None
            }
        }
    }

    fn applied(&mut self) -> Event {
        self.told = self.ready();
        Event::DatapathApplied { generation: self.kernel.generation, ready: self.told.clone() }
    }

    fn ready(&self) -> BTreeSet<EniId> {
        let there =
            |id: &EniId| self.world.true_enis().get(id).is_some_and(|eni| eni.status == EniStatus::InUse);
        self.kernel.enis.iter().map(|eni| eni.eni.clone()).filter(there).collect()
    }

    /// Lets time pass, with all that happens in it.
    pub(super) fn pass(&mut self, seconds: u64) {
        let end = self.world.now() + Duration::from_secs(seconds);
        while self.world.now() < end {
            let wake = self.pool.next_wakeup().map_or(end, |at| at.since_epoch().saturating_sub(EPOCH));
            let moves = self.world.true_enis().values().any(|eni| eni.status == EniStatus::Attaching);
            let soon = if moves { self.world.now() + Duration::from_millis(500) } else { end };
            let until = wake.min(soon).min(end).max(self.world.now() + Duration::from_millis(1));
            self.world.advance(until - self.world.now());
            if self.kernel.generation > 0 && self.ready() != self.told {
                let event = self.applied();
                self.step(event);
            }
            self.step(Event::Tick);
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    pub(super) fn add(&mut self, pod: impl Into<String>) {
        let (ticket, pod) = (self.ticket(), pod.into());
        self.tickets.insert(ticket, pod.clone());
        self.step(Event::Add { ticket, attachment: key(&pod), pod: None, sandbox: None });
    }

    pub(super) fn add_many(&mut self, pods: std::ops::Range<usize>) {
        pods.for_each(|pod| self.add(pod.to_string()));
    }

    pub(super) fn del(&mut self, pod: &str) -> Option<IpAddr> {
        let ticket = self.ticket();
        let address = self.pods.remove(pod);
        self.step(Event::Del { ticket, attachment: key(pod) });
        address
    }

    pub(super) fn del_many(&mut self, pods: std::ops::Range<usize>) {
        for pod in pods {
            self.del(&pod.to_string());
        }
    }

    pub(super) fn reload(&mut self, change: impl FnOnce(&mut PoolSettings)) {
        change(&mut self.settings);
        self.step(Event::Reload(Box::new(self.settings.clone())));
    }

    pub(super) fn view(&self) -> PoolView {
        self.pool.view()
    }

    /// Addresses that the node's ENIs have beside their own: single ones, and prefixes.
    pub(super) fn real(&self) -> (usize, usize) {
        let ours = |eni: &&spur_cloud::Eni| {
            eni.attachment.as_ref().is_some_and(|at| at.instance.as_ref() == Some(&self.node.instance))
        };
        let enis = || self.world.true_enis().values().filter(ours);
        (enis().map(|eni| eni.addresses.len()).sum(), enis().map(|eni| eni.prefixes.len()).sum())
    }

    pub(super) fn count(&self, api: Api) -> usize {
        self.world.calls().iter().filter(|call| call.api == api).count()
    }

    pub(super) fn kinds(&self) -> BTreeSet<&'static str> {
        self.found.iter().map(Finding::kind).collect()
    }

    /// Every pod's address is on an ENI of the node, by itself or in a prefix.
    pub(super) fn check_pods(&self) {
        for (pod, address) in &self.pods {
            let there =
                self.world.true_enis().values().any(|eni| super::super::delegate::shows(eni, *address));
            assert!(there, "{address} of {pod} is on no ENI");
        }
    }
}

pub(super) fn key(pod: &str) -> AttachmentKey {
    AttachmentKey { network: "n".to_owned(), container_id: pod.to_owned(), if_name: "eth0".to_owned() }
}

fn execute(world: &mut World, call: &CloudCall) -> Result<CallDone, CloudError> {
    let done = |()| CallDone::Done;
    match call {
        CloudCall::ReadEnis(query) => world.enis(query).map(CallDone::Enis),
        CloudCall::CreateEni(create) => world.create_eni(create).map(|eni| CallDone::Created(Box::new(eni))),
        CloudCall::AttachEni { eni, instance, index, card } => {
            world.attach_eni(eni, instance, *index, *card).map(CallDone::Attached)
        }
        CloudCall::SetDeleteOnTermination { eni, attachment } => {
            world.set_delete_on_termination(eni, attachment, true).map(done)
        }
        CloudCall::DetachEni { attachment, .. } => world.detach_eni(attachment).map(done),
        CloudCall::DeleteEni { eni } => world.delete_eni(eni).map(done),
        CloudCall::Assign { eni, request } => world.assign(eni, request).map(CallDone::Assigned),
        CloudCall::Unassign { eni, addresses, prefixes } => {
            world.unassign(eni, addresses, prefixes).map(done)
        }
    }
}
