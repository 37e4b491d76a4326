//! The shell of the simulation: executes the pool's actions with delays and failures, plays pods and runtime, and can be killed. Its state is what the
//! checks look at: the cloud, the disk, the kernel, and what each pod was told.

use crate::chaos::Chaos;
use spur_cloud::fake::{Fault, World};
use spur_cloud::{
    AddressRequest, Api, CardIndex, ClientToken, CloudError, CreateEni, DeviceIndex, Eni, EniId, EniStatus,
    ErrorClass, InstanceId, SubnetId,
};
use spur_ipamd_core::{
    Action, AttachmentKey, CallDone, CallId, CloudCall, DatapathWanted, EniTemplate, Event, Jitter,
    NodeFacts, Pool, PoolSettings, Record, Reply, StoreChange, StoreId, Targets, Ticket, Timestamp, Timings,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

pub(crate) const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// What a pod knows about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pod {
    Adding {
        ticket: Ticket,
    },
    /// The runtime does not know what became of an ADD; it will send DEL.
    Unknown,
    Live {
        address: IpAddr,
        eni: EniId,
    },
    Deleting {
        ticket: Ticket,
    },
}

/// Something that happens later.
#[derive(Debug, Clone)]
enum Due {
    /// A call reaches the cloud.
    Effect { life: u64, id: CallId, call: CloudCall, fault: Option<Fault>, late: bool },
    /// An answer reaches the shell.
    Answer { life: u64, id: CallId, result: Box<Result<CallDone, CloudError>> },
    /// A transaction ends.
    Commit { life: u64, id: StoreId, changes: Vec<StoreChange>, fails: bool },
    /// The kernel is changed.
    Kernel { life: u64, wanted: DatapathWanted },
}

/// The kernel of the node; it outlives the process.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    pub(crate) applied: DatapathWanted,
    life: u64,
    told: Option<(u64, BTreeSet<EniId>)>,
}

pub(crate) struct Sim {
    pub(crate) rng: Jitter,
    pub(crate) chaos: Chaos,
    pub(crate) world: World,
    pub(crate) instance: InstanceId,
    pub(crate) hog: EniId,
    pub(crate) settings: PoolSettings,
    node: NodeFacts,
    pub(crate) pool: Pool,
    pub(crate) disk: Record,
    pub(crate) kernel: Kernel,
    pub(crate) pods: BTreeMap<AttachmentKey, Pod>,
    /// When an address was last asked back from a pod.
    pub(crate) asked_back: BTreeMap<IpAddr, Duration>,
    /// Addresses that somebody else took from an ENI.
    pub(crate) robbed: BTreeMap<IpAddr, EniId>,
    /// ENIs that somebody else detached.
    pub(crate) robbed_enis: BTreeSet<EniId>,
    pub(crate) broken: Vec<String>,
    /// Whether the pool can know all about its ENIs, so that it must never run into a quota.
    pub(crate) tidy: bool,
    /// Whether nobody else takes addresses, and no call comes late and does.
    pub(crate) innocent: bool,
    /// Whether the pool can know what is under way, so that it must never ask for too much.
    frugal: bool,
    queue: BTreeMap<(Duration, u64), Due>,
    last_commit: Duration,
    life: u64,
    serial: u64,
    pub(crate) steps: u64,
    pub(crate) print: bool,
}

impl Sim {
    pub(crate) fn new(seed: u64, chaos: Chaos) -> Self {
        let mut rng = Jitter::new(seed);
        let targets = Targets {
            warm_ip_target: u32::try_from(rng.bits() % 5).unwrap(),
            minimum_ip_target: u32::try_from(rng.bits() % 8).unwrap(),
            max_above_warm: u32::try_from(rng.bits() % 10).unwrap(),
            ..Targets::default()
        };
        // Short delays: more of everything in the same number of steps.
        let seconds = Duration::from_secs;
        let timings = Timings { shrink_delay: seconds(10), reconcile: seconds(15), ..Timings::default() };
        let frugal = chaos.name == "calm";
        Self { frugal, ..Self::with(seed, chaos, targets, timings, rng) }
    }

    pub(crate) fn with(seed: u64, chaos: Chaos, targets: Targets, timings: Timings, rng: Jitter) -> Self {
        let mut world = World::new();
        let vpc = world.add_vpc("main", &["10.0.0.0/16".parse().unwrap()]);
        let cidrs =
            if chaos.cramped { ["10.0.0.0/27", "10.0.1.0/28"] } else { ["10.0.0.0/24", "10.0.1.0/24"] };
        let home = world.add_subnet("a", &vpc, "zone-1a", cidrs[0].parse().unwrap());
        let next = world.add_subnet("b", &vpc, "zone-1a", cidrs[1].parse().unwrap());
        let instance = world.add_instance("node", "m5.large", &home).unwrap();
        let hog = world.add_instance("hog", "m5.large", &home).unwrap();
        let primary_of = |world: &World, instance: &InstanceId| {
            let of = |eni: &&Eni| eni.attachment.as_ref().unwrap().instance.as_ref() == Some(instance);
            world.true_enis().values().find(of).unwrap().id.clone()
        };
        world.set_read_lag(chaos.lag);
        world.set_delays(Duration::from_secs(2), Duration::from_secs(3));
        let node = NodeFacts {
            instance: instance.clone(),
            limits: spur_quotas::builtin("m5.large").unwrap(),
            primary: primary_of(&world, &instance),
        };
        let settings = PoolSettings { targets, eni: template(&instance, vec![home, next]), timings };
        let pool =
            Pool::new(settings.clone(), node.clone(), Record::default(), seed, Timestamp::from_epoch(EPOCH));
        let hog = primary_of(&world, &hog);
        let tidy = chaos.meddle + chaos.late + chaos.crash == 0 && chaos.lag.is_zero();
        let innocent = chaos.name != "calm" && chaos.meddle + chaos.late == 0;
        let mut sim = Self {
            rng,
            chaos,
            world,
            instance,
            hog,
            settings,
            node,
            pool,
            disk: Record::default(),
            kernel: Kernel::default(),
            pods: BTreeMap::new(),
            asked_back: BTreeMap::new(),
            robbed: BTreeMap::new(),
            robbed_enis: BTreeSet::new(),
            broken: Vec::new(),
            tidy,
            innocent,
            frugal: false,
            queue: BTreeMap::new(),
            last_commit: Duration::ZERO,
            life: 0,
            serial: 0,
            steps: 0,
            print: false,
        };
        sim.feed(Event::Tick);
        sim
    }

    /// Somebody else makes an ENI and attaches it to our instance.
    pub(crate) fn foreign_eni(&mut self, subnet: &SubnetId) -> EniId {
        let create = CreateEni {
            subnet: subnet.clone(),
            security_groups: BTreeSet::new(),
            request: AddressRequest::Count(0),
            description: String::new(),
            tags: BTreeMap::new(),
            token: ClientToken("foreign".into()),
        };
        let eni = self.world.create_eni(&create).unwrap().id;
        self.world.attach_eni(&eni, &self.instance.clone(), DeviceIndex(1), CardIndex(0)).unwrap();
        eni
    }

    pub(crate) fn now(&self) -> Duration {
        self.world.now()
    }

    pub(crate) fn stamp(&self) -> Timestamp {
        Timestamp::from_epoch(EPOCH + self.now())
    }

    pub(crate) fn chance(&mut self, permille: u32) -> bool {
        self.rng.bits() % 1000 < u64::from(permille)
    }

    fn delay(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap().max(1);
        Duration::from_micros(1 + self.rng.bits() % micros)
    }

    fn schedule(&mut self, after: Duration, due: Due) {
        self.serial += 1;
        self.queue.insert((self.now() + after, self.serial), due);
    }

    /// Addresses that calls under way will bring.
    pub(crate) fn incoming(&self) -> u32 {
        let asked = |due: &Due| match due {
            Due::Effect { call: CloudCall::Assign { request: AddressRequest::Count(count), .. }, .. } => {
                *count
            }
            Due::Effect { call: CloudCall::CreateEni(create), .. } => match create.request {
                AddressRequest::Count(count) => count,
                _ => 0,
            },
            _ => 0,
        };
        self.queue.values().map(asked).sum()
    }

    /// Gives the pool an event and begins its actions.
    pub(crate) fn feed(&mut self, event: Event) {
        self.steps += 1;
        if self.print {
            eprintln!("{:10.3} > {event:?}", self.now().as_secs_f64());
        }
        let actions = self.pool.step(self.stamp(), event);
        // A creation is decided before its intent is durable, and pods may give up in between.
        let assigns = |call: &CloudCall| matches!(call, CloudCall::Assign { .. });
        let grows = actions.iter().any(|action| matches!(action, Action::Call { call, .. } if assigns(call)));
        for action in actions {
            if self.print {
                eprintln!("           {action:?}");
            }
            self.begin(action);
        }
        if grows && self.frugal {
            self.check_growth();
        }
    }

    fn begin(&mut self, action: Action) {
        let life = self.life;
        match action {
            Action::Store { id, changes } => {
                let fails = self.chance(self.chaos.store_fails);
                let at = (self.now() + self.delay(Duration::from_millis(5))).max(self.last_commit);
                self.last_commit = at;
                self.schedule(at - self.now(), Due::Commit { life, id, changes, fails });
            }
            Action::Call { id, call, .. } => {
                let (fault, late) = self.fault(&call);
                let after = self.delay(self.chaos.call);
                if late {
                    let lost = CloudError {
                        api: call.api(),
                        class: ErrorClass::Transient,
                        code: None,
                        message: "given up".into(),
                        request_id: None,
                    };
                    self.schedule(after, Due::Answer { life, id, result: Box::new(Err(lost)) });
                }
                let extra = if late { self.delay(Duration::from_secs(15)) } else { Duration::ZERO };
                self.schedule(after + extra, Due::Effect { life, id, call, fault, late });
            }
            Action::Datapath(wanted) => {
                let after = self.delay(Duration::from_millis(50));
                self.schedule(after, Due::Kernel { life, wanted });
            }
            Action::Reply { ticket, reply } => self.answer(ticket, reply),
            Action::Report(finding) => self.check_finding(&finding),
        }
    }

    fn fault(&mut self, call: &CloudCall) -> (Option<Fault>, bool) {
        let read = matches!(call, CloudCall::ReadEnis(_));
        if self.chance(self.chaos.refuse) {
            let classes = [
                ErrorClass::Throttled,
                ErrorClass::Throttled,
                ErrorClass::Transient,
                ErrorClass::Transient,
                ErrorClass::Denied,
                ErrorClass::Bug,
            ];
            let at = usize::try_from(self.rng.bits() % 6).unwrap();
            return (Some(Fault::Refuse(classes[at])), false);
        }
        if self.chance(self.chaos.lose) {
            return (Some(Fault::LoseReply), false);
        }
        (None, !read && self.chance(self.chaos.late))
    }

    /// Lets the next thing happen that is due, or the pool's next wake-up, or some time pass.
    pub(crate) fn next(&mut self) {
        self.next_within(Duration::from_secs(30));
    }

    pub(crate) fn next_within(&mut self, most: Duration) {
        let wake = self.pool.next_wakeup().map(|at| at.since_epoch().saturating_sub(EPOCH));
        let due = self.queue.first_key_value().map(|((at, _), _)| *at);
        // A netdev comes or goes without anybody asking.
        let moving = |eni: &Eni| matches!(eni.status, EniStatus::Attaching | EniStatus::Detaching);
        let moves = self.world.true_enis().values().any(moving);
        let link = Some(self.now() + if moves { most.min(Duration::from_secs(1)) } else { most });
        let Some(at) = [wake, due, link].into_iter().flatten().min() else { return };
        self.world.advance(at.saturating_sub(self.now()));
        if due == Some(at)
            && let Some((_, due)) = self.queue.pop_first()
        {
            self.happen(due);
        } else if wake == Some(at) {
            self.feed(Event::Tick);
        }
        self.tell_links();
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Effect { life, id, call, fault, late } => {
                if let Some(fault) = fault {
                    self.world.inject(call.api(), fault);
                }
                self.before_effect(&call, fault, late);
                // The world keeps its past as far as the longest lag; each read sees another part of it.
                let lag = self.delay(self.chaos.lag).min(self.chaos.lag);
                if matches!(call, CloudCall::ReadEnis(_)) {
                    self.world.set_read_lag(lag);
                }
                let result = execute(&mut self.world, &call);
                self.world.set_read_lag(self.chaos.lag);
                self.note(&call, &result, fault);
                if !late {
                    let after = self.delay(self.chaos.call / 4);
                    self.schedule(after, Due::Answer { life, id, result: Box::new(result) });
                }
            }
            Due::Answer { life, id, result } if life == self.life => {
                self.feed(Event::CallFinished { call: id, result: *result });
            }
            Due::Commit { life, id, changes, fails } if life == self.life => {
                if fails {
                    return self.feed(Event::StoreFailed(id, "no space".into()));
                }
                changes.iter().for_each(|change| self.disk.apply(change));
                self.feed(Event::Stored(id));
            }
            Due::Kernel { life, wanted }
                if life == self.life
                    && (self.kernel.life != life || self.kernel.applied.generation < wanted.generation) =>
            {
                self.kernel = Kernel { applied: wanted, life, told: None };
            }
            _ => {}
        }
    }

    /// The kernel tells the process which ENIs are ready.
    fn tell_links(&mut self) {
        if self.kernel.life != self.life || self.kernel.applied.generation == 0 {
            return;
        }
        let there = |eni: &EniId| {
            let eni = self.world.true_enis().get(eni);
            eni.is_some_and(|eni| eni.status == EniStatus::InUse || eni.status == EniStatus::Detaching)
        };
        let ready: BTreeSet<EniId> =
            self.kernel.applied.enis.iter().map(|eni| eni.eni.clone()).filter(there).collect();
        let now = (self.kernel.applied.generation, ready.clone());
        if self.kernel.told.as_ref() != Some(&now) {
            self.kernel.told = Some(now);
            self.feed(Event::DatapathApplied { generation: self.kernel.applied.generation, ready });
        }
    }

    /// The process dies. Calls on the wire still arrive, or not; of the transactions under way some are durable.
    pub(crate) fn crash(&mut self) {
        if self.print {
            eprintln!("{:10.3} crash", self.now().as_secs_f64());
        }
        let mut survives = true;
        for (at, due) in std::mem::take(&mut self.queue) {
            match due {
                Due::Commit { changes, fails, .. } => {
                    survives = survives && self.chance(500);
                    if survives && !fails {
                        changes.iter().for_each(|change| self.disk.apply(change));
                    }
                }
                Due::Effect { .. } if self.chance(700) => drop(self.queue.insert(at, due)),
                _ => {}
            }
        }
        self.life += 1;
        for pod in self.pods.values_mut() {
            if matches!(pod, Pod::Adding { .. } | Pod::Deleting { .. }) {
                *pod = Pod::Unknown;
            }
        }
        let seed = self.rng.bits();
        self.pool =
            Pool::new(self.settings.clone(), self.node.clone(), self.disk.clone(), seed, self.stamp());
        self.feed(Event::Tick);
    }

    pub(crate) fn ticket(&mut self) -> Ticket {
        self.serial += 1;
        Ticket(self.serial)
    }

    fn answer(&mut self, ticket: Ticket, reply: Reply) {
        let asks = |pod: &Pod| matches!(pod, Pod::Adding { ticket: t } | Pod::Deleting { ticket: t } if *t == ticket);
        let Some(key) = self.pods.iter().find(|(_, pod)| asks(pod)).map(|(key, _)| key.clone()) else {
            return self.broken.push(format!("{ticket} is answered, but nobody asked: {reply:?}"));
        };
        let deleting = matches!(self.pods[&key], Pod::Deleting { .. });
        match reply {
            Reply::Granted { attachment, address, eni } if attachment == key && !deleting => {
                self.check_grant(address, &eni);
                self.pods.insert(key, Pod::Live { address, eni });
            }
            Reply::Refused { waits } if !deleting => {
                if waits.is_empty() {
                    self.broken.push(format!("{key} is refused without a reason"));
                }
                // A runtime sends DEL after a failed ADD.
                self.pods.insert(key, Pod::Unknown);
            }
            Reply::Busy { .. } if !deleting => drop(self.pods.insert(key, Pod::Unknown)),
            Reply::Released { .. } if deleting => drop(self.pods.remove(&key)),
            Reply::StoreFailed { .. } => drop(self.pods.insert(key, Pod::Unknown)),
            other => self.broken.push(format!("{key} got {other:?}")),
        }
    }
}

fn template(instance: &InstanceId, subnets: Vec<SubnetId>) -> EniTemplate {
    EniTemplate {
        subnets,
        security_groups: BTreeSet::new(),
        ownership: BTreeMap::from([("spur.dev/instance".to_owned(), instance.to_string())]),
        tags: BTreeMap::new(),
        description: "spur".to_owned(),
    }
}

fn execute(world: &mut World, call: &CloudCall) -> Result<CallDone, CloudError> {
    match call {
        CloudCall::ReadEnis(query) => world.enis(query).map(CallDone::Enis),
        CloudCall::CreateEni(create) => world.create_eni(create).map(|eni| CallDone::Created(Box::new(eni))),
        CloudCall::AttachEni { eni, instance, index, card } => {
            world.attach_eni(eni, instance, *index, *card).map(CallDone::Attached)
        }
        CloudCall::SetDeleteOnTermination { eni, attachment } => {
            world.set_delete_on_termination(eni, attachment, true).map(|()| CallDone::Done)
        }
        CloudCall::DetachEni { attachment, .. } => world.detach_eni(attachment).map(|()| CallDone::Done),
        CloudCall::DeleteEni { eni } => world.delete_eni(eni).map(|()| CallDone::Done),
        CloudCall::Assign { eni, request } => world.assign(eni, request).map(CallDone::Assigned),
        CloudCall::Unassign { eni, addresses } => {
            world.unassign(eni, addresses, &BTreeSet::new()).map(|()| CallDone::Done)
        }
    }
}

/// Calls so far by action.
pub(crate) fn calls(world: &World) -> BTreeMap<Api, usize> {
    let mut calls = BTreeMap::new();
    for call in world.calls() {
        *calls.entry(call.api).or_default() += 1;
    }
    calls
}
