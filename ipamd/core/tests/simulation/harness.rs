//! One simulated node: its agent's pool, its disk, its kernel, its pods; and the world, which is with the node whose turn it is. What the
//! checks look at is here: the cloud, the disk, the kernel, and what each pod was told.

use crate::chaos::Chaos;
use ipnet::IpNet;
use spur_cloud::fake::{Fault, World};
use spur_cloud::{
    AddressRequest, CardIndex, ClientToken, CloudError, CreateEni, DeviceIndex, Eni, EniId, InstanceId,
    SubnetId,
};
use spur_ipamd_core::{
    AttachmentKey, CallDone, CallId, CloudCall, DatapathWanted, EniTemplate, Event, Jitter, NodeFacts, Pool,
    PoolSettings, PrefixDelegation, Record, Reply, StoreChange, StoreId, Targets, Ticket, Timestamp, Timings,
};
use spur_quotas::{Hypervisor, InstanceLimits, NetworkCard};
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
        /// What it had.
        address: Option<IpAddr>,
    },
}

/// Something that happens later.
#[derive(Debug, Clone)]
pub(crate) enum Due {
    /// A call reaches the cloud.
    Effect { life: u64, id: CallId, call: CloudCall, fault: Option<Fault>, late: bool },
    /// An answer reaches the shell.
    Answer { life: u64, id: CallId, result: Box<Result<CallDone, CloudError>> },
    /// A transaction ends.
    Commit { life: u64, id: StoreId, changes: Vec<StoreChange>, fails: bool },
    /// The kernel tells which of these addresses have connections, or that it cannot tell.
    Flows { life: u64, addresses: BTreeSet<IpAddr>, fails: bool },
    /// The kernel is changed.
    Kernel { life: u64, wanted: DatapathWanted },
}

/// The kernel of the node; it outlives the process.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    pub(crate) applied: DatapathWanted,
    pub(crate) life: u64,
    pub(crate) told: Option<(u64, BTreeSet<EniId>)>,
}

/// What the nodes have in common.
pub(crate) struct Site {
    /// Candidate subnets.
    pub(crate) subnets: Vec<SubnetId>,
    /// The primary ENI of an instance that is not ours.
    pub(crate) hog: EniId,
}

impl Site {
    /// A world with two subnets, and in it somebody who takes addresses.
    pub(crate) fn found(chaos: &Chaos) -> (World, Self) {
        let mut world = World::new();
        let vpc = world.add_vpc("main", &["10.0.0.0/16".parse().unwrap()]);
        let cidrs = match (chaos.cramped, chaos.nodes) {
            (false, _) => ["10.0.0.0/22", "10.0.4.0/22"],
            (true, 1) => ["10.0.0.0/26", "10.0.1.0/28"],
            (true, _) => ["10.0.0.0/25", "10.0.1.0/27"],
        };
        let home = world.add_subnet("a", &vpc, "zone-1a", cidrs[0].parse().unwrap());
        let next = world.add_subnet("b", &vpc, "zone-1a", cidrs[1].parse().unwrap());
        let hog = world.add_instance("hog", "m5.large", &home).unwrap();
        let hog = primary_of(&world, &hog);
        world.set_read_lag(chaos.lag);
        (world, Self { subnets: vec![home, next], hog })
    }
}

fn primary_of(world: &World, instance: &InstanceId) -> EniId {
    let of = |eni: &&Eni| eni.attachment.as_ref().is_some_and(|at| at.instance.as_ref() == Some(instance));
    world.true_enis().values().find(of).unwrap().id.clone()
}

/// Kinds of machines: common ones, a tiny one, and one with two network cards.
fn machine(kind: usize) -> InstanceLimits {
    match kind {
        0..=2 => spur_quotas::builtin("m5.large").unwrap(),
        3 => spur_quotas::builtin("c5.xlarge").unwrap(),
        4 => spur_quotas::builtin("t3.micro").unwrap(),
        _ => {
            let card = |index| NetworkCard { index, max_enis: 2 };
            InstanceLimits::new(4, 6, vec![card(0), card(1)], 0, Hypervisor::Nitro, false).unwrap()
        }
    }
}

pub(crate) struct Sim {
    pub(crate) rng: Jitter,
    pub(crate) chaos: Chaos,
    /// All of it if it is this node's turn, nothing otherwise.
    pub(crate) world: World,
    pub(crate) instance: InstanceId,
    pub(crate) hog: EniId,
    pub(crate) settings: PoolSettings,
    pub(crate) node: NodeFacts,
    /// What the instance may have in truth.
    pub(crate) limits: InstanceLimits,
    pub(crate) pool: Pool,
    pub(crate) disk: Record,
    pub(crate) kernel: Kernel,
    pub(crate) pods: BTreeMap<AttachmentKey, Pod>,
    /// When an address was last asked back from a pod.
    pub(crate) asked_back: BTreeMap<IpAddr, Duration>,
    /// Until when the kernel tracks connections to an address.
    pub(crate) flows: BTreeMap<IpAddr, Duration>,
    /// Addresses of which the kernel could not tell when it was last asked: then the cooldown alone may count.
    pub(crate) untold: BTreeSet<IpAddr>,
    /// Addresses that were handed out in this step.
    pub(crate) granted: Vec<IpAddr>,
    /// Addresses that somebody else took from an ENI.
    pub(crate) robbed: BTreeSet<(IpAddr, EniId)>,
    /// ENIs that somebody else detached.
    pub(crate) robbed_enis: BTreeSet<EniId>,
    /// ENIs that somebody else attached.
    pub(crate) foreign: BTreeSet<EniId>,
    pub(crate) broken: Vec<String>,
    /// Whether the pool can know all about its ENIs, so that it must never run into a quota.
    pub(crate) tidy: bool,
    /// Whether nobody else takes addresses, and no call comes late and does.
    pub(crate) innocent: bool,
    /// Whether the pool can know what is under way, so that it must never ask for too much.
    pub(crate) frugal: bool,
    pub(crate) queue: BTreeMap<(Duration, u64), Due>,
    pub(crate) last_commit: Duration,
    /// How far the clock of the node is ahead.
    pub(crate) skew: Duration,
    pub(crate) frozen_until: Duration,
    pub(crate) life: u64,
    serial: u64,
    pub(crate) steps: u64,
    /// Calls that the pool made.
    pub(crate) sent: u64,
    pub(crate) print: bool,
}

impl Sim {
    /// A node of a random kind with random targets, in a world of its own.
    pub(crate) fn join(seed: u64, chaos: Chaos, number: usize, site: &Site, world: World) -> Self {
        let mut rng = Jitter::new(seed.wrapping_add(u64::try_from(number).unwrap() << 40));
        let limits = machine(usize::try_from(rng.bits() % 6).unwrap());
        let targets = some_targets(&mut rng);
        // Short delays: more of everything in the same number of steps.
        let seconds = Duration::from_secs;
        let timings = Timings { shrink_delay: seconds(10), reconcile: seconds(15), ..Timings::default() };
        let frugal = chaos.name == "calm";
        let name = format!("node{number}");
        let mut sim = Self::start(&name, (limits, targets, timings), chaos, rng, site, world);
        sim.frugal = frugal;
        sim
    }

    /// An m5.large, alone.
    pub(crate) fn with(seed: u64, chaos: Chaos, targets: Targets, timings: Timings) -> Self {
        Self::of("m5.large", seed, chaos, targets, timings)
    }

    /// A machine of this type, alone.
    pub(crate) fn of(kind: &str, seed: u64, chaos: Chaos, targets: Targets, timings: Timings) -> Self {
        let (world, site) = Site::found(&chaos);
        let limits = spur_quotas::builtin(kind).unwrap();
        Self::start("node", (limits, targets, timings), chaos, Jitter::new(seed), &site, world)
    }

    fn start(
        name: &str,
        (limits, targets, timings): (InstanceLimits, Targets, Timings),
        chaos: Chaos,
        mut rng: Jitter,
        site: &Site,
        mut world: World,
    ) -> Self {
        let instance = world.add_machine(name, "sim.large", limits.clone(), &site.subnets[0]).unwrap();
        let primary = primary_of(&world, &instance);
        let node = NodeFacts { instance: instance.clone(), limits: limits.clone(), primary };
        let settings = PoolSettings { targets, eni: template(&instance, site.subnets.clone()), timings };
        let now = Timestamp::from_epoch(EPOCH + world.now());
        let pool = Pool::new(settings.clone(), node.clone(), Record::default(), rng.bits(), now);
        let tidy = chaos.meddle + chaos.late + chaos.crash + chaos.reload == 0 && chaos.lag.is_zero();
        let innocent = chaos.name != "calm" && chaos.meddle + chaos.late == 0;
        let mut sim = Self {
            rng,
            chaos,
            world,
            instance,
            hog: site.hog.clone(),
            settings,
            node,
            limits,
            pool,
            disk: Record::default(),
            kernel: Kernel::default(),
            pods: BTreeMap::new(),
            asked_back: BTreeMap::new(),
            flows: BTreeMap::new(),
            untold: BTreeSet::new(),
            granted: Vec::new(),
            robbed: BTreeSet::new(),
            robbed_enis: BTreeSet::new(),
            foreign: BTreeSet::new(),
            broken: Vec::new(),
            tidy,
            innocent,
            frugal: false,
            queue: BTreeMap::new(),
            last_commit: Duration::ZERO,
            skew: Duration::ZERO,
            frozen_until: Duration::ZERO,
            life: 0,
            serial: 0,
            steps: 0,
            sent: 0,
            print: false,
        };
        sim.feed(Event::Tick);
        sim
    }

    /// Somebody else makes an ENI and attaches it to our instance, if there is a place.
    pub(crate) fn foreign_eni(&mut self, subnet: &SubnetId) -> Option<EniId> {
        let create = CreateEni {
            subnet: subnet.clone(),
            security_groups: BTreeSet::new(),
            request: AddressRequest::Count(0),
            description: String::new(),
            tags: BTreeMap::new(),
            token: ClientToken(format!("foreign-{}", self.rng.bits())),
        };
        let eni = self.world.create_eni(&create).ok()?.id;
        let place = (1..4).find(|index| {
            self.world.attach_eni(&eni, &self.instance, DeviceIndex(*index), CardIndex(0)).is_ok()
        });
        if place.is_none() {
            self.world.delete_eni(&eni).unwrap();
            return None;
        }
        self.foreign.insert(eni.clone());
        Some(eni)
    }

    /// Whether somebody else took an address from one of our ENIs.
    pub(crate) fn is_robbed(&self, address: IpAddr) -> bool {
        self.robbed.iter().any(|(robbed, _)| *robbed == address)
    }

    pub(crate) fn now(&self) -> Duration {
        self.world.now()
    }

    pub(crate) fn stamp(&self) -> Timestamp {
        Timestamp::from_epoch(EPOCH + self.now() + self.skew)
    }

    pub(crate) fn chance(&mut self, permille: u32) -> bool {
        self.rng.bits() % 1000 < u64::from(permille)
    }

    /// One of so many; 0 if there are none.
    pub(crate) fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.rng.bits() % u64::try_from(count.max(1)).unwrap()).unwrap()
    }

    pub(crate) fn delay(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap().max(1);
        Duration::from_micros(1 + self.rng.bits() % micros)
    }

    pub(crate) fn schedule(&mut self, after: Duration, due: Due) {
        self.serial += 1;
        self.queue.insert((self.now() + after, self.serial), due);
    }

    /// Addresses that calls under way will bring.
    pub(crate) fn incoming(&self) -> u32 {
        let brings = |request: &AddressRequest| match request {
            AddressRequest::Count(count) => *count,
            AddressRequest::Prefixes(count) => 16 * count,
            AddressRequest::Addresses(_) => 0,
        };
        let asked = |due: &Due| match due {
            Due::Effect { call: CloudCall::Assign { request, .. }, .. } => brings(request),
            Due::Effect { call: CloudCall::CreateEni(create), .. } => brings(&create.request),
            _ => 0,
        };
        self.queue.values().map(asked).sum()
    }

    pub(crate) fn ticket(&mut self) -> Ticket {
        self.serial += 1;
        Ticket(self.serial)
    }

    pub(crate) fn answer(&mut self, ticket: Ticket, reply: Reply) {
        let asks = |pod: &Pod| matches!(pod, Pod::Adding { ticket: t } | Pod::Deleting { ticket: t, .. } if *t == ticket);
        let Some(key) = self.pods.iter().find(|(_, pod)| asks(pod)).map(|(key, _)| key.clone()) else {
            return self.broken.push(format!("{ticket} is answered, but nobody asked: {reply:?}"));
        };
        let (deleting, had) = match self.pods[&key] {
            Pod::Deleting { address, .. } => (true, address),
            _ => (false, None),
        };
        match reply {
            Reply::Granted { attachment, address, eni } if attachment == key && !deleting => {
                self.check_grant(address, &eni);
                self.granted.push(address);
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
            Reply::Released { addresses } if deleting => {
                if had.is_some_and(|had| addresses != [had]) {
                    self.broken.push(format!("{key} had {had:?} and released {addresses:?}"));
                }
                self.pods.remove(&key);
            }
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

/// Addresses for pods that an ENI carries, one by one or in prefixes.
pub(crate) fn carried(eni: &Eni) -> BTreeSet<IpAddr> {
    eni.addresses.iter().copied().chain(eni.prefixes.iter().flat_map(|prefix| within(*prefix))).collect()
}

/// Whether an ENI carries an address.
pub(crate) fn carries(eni: &Eni, address: IpAddr) -> bool {
    eni.addresses.contains(&address) || eni.prefixes.iter().any(|prefix| prefix.contains(&address))
}

/// All addresses of a prefix.
pub(crate) fn within(prefix: IpNet) -> impl Iterator<Item = IpAddr> {
    prefix.subnets(32).unwrap().map(|one| one.addr())
}

pub(crate) fn some_targets(rng: &mut Jitter) -> Targets {
    let mut below = |most: u64| u32::try_from(rng.bits() % most).unwrap();
    Targets {
        warm_ip_target: below(5),
        minimum_ip_target: below(8),
        warm_eni_target: u32::from(below(10) == 0),
        warm_prefix_target: below(6).saturating_sub(4),
        max_above_warm: below(10),
        max_enis: Some(1 + below(8)).filter(|most| *most <= 3),
        prefix_delegation: match below(5) {
            0 | 1 => PrefixDelegation::Off,
            2 | 3 => PrefixDelegation::On,
            _ => PrefixDelegation::Auto,
        },
    }
}
