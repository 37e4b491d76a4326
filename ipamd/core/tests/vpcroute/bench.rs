//! A controller, the cloud it works on, and the time between them. A call has its effect half its latency after it was begun, and its
//! answer comes another half later. Everything is a function of the seed.

use crate::oracle::Oracle;
use ipnet::IpNet;
use spur_cloud::fake::World;
use spur_cloud::{
    Api, Association, CloudError, Destination, EniId, ErrorClass, InstanceId, Route, RouteOrigin, RouteState,
    RouteTable, RouteTableId, RouteTarget, SubnetId, VpcId,
};
use spur_ipamd_core::vpcroute::{
    Action, BlockState, BlocksFrom, Controller, Event, NodeGrant, NodeName, NodeSpec, Nodes, PoolSpec, Quota,
    Record, RouteCall, RouteDone, Settings, TableChoice, Timings,
};
use spur_ipamd_core::{CallId, Jitter, StoreId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(crate) fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

/// Time of the bench's start; wall clocks do not begin at nothing.
const EPOCH: Duration = Duration::from_secs(1_800_000_000);

/// Steps at one moment that nothing explains.
const BUSY: u32 = 2000;

/// What goes wrong, in permille of calls.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) throttled: u64,
    pub(crate) lost: u64,
    pub(crate) refused: u64,
    pub(crate) denied: u64,
    /// Answers take up to so much longer.
    pub(crate) delay: Duration,
}

#[derive(Debug)]
enum Due {
    Effect(CallId, RouteCall),
    Answer(CallId, Result<RouteDone, CloudError>),
    Stored(StoreId, bool),
}

/// A call that was begun.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) at: Duration,
    pub(crate) call: RouteCall,
    pub(crate) outcome: Option<Result<(), ErrorClass>>,
}

pub(crate) struct Bench {
    pub(crate) world: World,
    pub(crate) vpc: VpcId,
    pub(crate) settings: Settings,
    pub(crate) controller: Controller,
    /// What the store holds.
    pub(crate) record: Record,
    pub(crate) nodes: Nodes,
    pub(crate) now: Duration,
    pub(crate) latency: Duration,
    pub(crate) faults: Faults,
    pub(crate) store_fails: bool,
    pub(crate) made: Vec<Made>,
    pub(crate) oracle: Oracle,
    /// Refuses calls by a rule of the test.
    pub(crate) refuse: Option<fn(&RouteCall) -> Option<ErrorClass>>,
    ids: BTreeMap<CallId, usize>,
    stores: BTreeMap<StoreId, Vec<spur_ipamd_core::vpcroute::Change>>,
    due: BTreeMap<(Duration, u64), Due>,
    serial: u64,
    jitter: Jitter,
    lives: u64,
    /// When each controller after the first began.
    begun: Vec<Duration>,
}

pub(crate) fn settings(vpc: &VpcId) -> Settings {
    Settings {
        cluster: "test".to_owned(),
        vpc: vpc.clone(),
        pool: PoolSpec {
            cidrs: BTreeSet::from([net("10.200.0.0/16")]),
            block_v4: 25,
            block_v6: 80,
            blocks_from: BlocksFrom::Pool,
            service_cidrs: BTreeSet::from([net("172.20.0.0/16")]),
            accepted_routes: BTreeSet::new(),
        },
        tables: TableChoice::default(),
        quota: Quota::default(),
        fallback: None,
        allow_deletes: None,
        budget_percent: 60,
        // Who leaves is believed at once, so that tests of what comes then need not wait.
        timings: Timings { node_grace: Duration::ZERO, ..Timings::default() },
    }
}

/// A VPC with a main table (`rtb-main`, subnet `subnet-a`) and one table for each further name, with a subnet of that name.
pub(crate) fn vpc(world: &mut World, tables: &[&str]) -> VpcId {
    let vpc = world.add_vpc("v", &["10.0.0.0/16".parse().unwrap()]);
    world.add_subnet("a", &vpc, "eu-a", "10.0.0.0/20".parse().unwrap());
    world.add_route_table("main", &vpc, &[Association::Main], &[]);
    for (number, table) in tables.iter().enumerate() {
        let cidr = format!("10.0.{}.0/20", (number + 1) * 16).parse().unwrap();
        let subnet = world.add_subnet(table, &vpc, "eu-a", cidr);
        world.add_route_table(table, &vpc, &[Association::Subnet(subnet)], &[]);
    }
    vpc
}

impl Bench {
    pub(crate) fn new(tables: &[&str]) -> Self {
        let mut world = World::new();
        let vpc = vpc(&mut world, tables);
        let settings = settings(&vpc);
        Self::with(world, settings, Record::default())
    }

    pub(crate) fn with(world: World, settings: Settings, record: Record) -> Self {
        let vpc = settings.vpc.clone();
        let controller = Controller::new(settings.clone(), record.clone(), 1, Timestamp::from_epoch(EPOCH));
        Self {
            world,
            vpc,
            settings,
            controller,
            record,
            nodes: Nodes::new(),
            now: Duration::ZERO,
            latency: Duration::from_millis(200),
            faults: Faults::default(),
            store_fails: false,
            made: Vec::new(),
            oracle: Oracle::default(),
            refuse: None,
            ids: BTreeMap::new(),
            stores: BTreeMap::new(),
            due: BTreeMap::new(),
            serial: 0,
            jitter: Jitter::new(7),
            lives: 1,
            begun: Vec::new(),
        }
    }

    /// A bench with a node in each subnet, in sync.
    pub(crate) fn synced(tables: &[&str]) -> Self {
        let mut bench = Self::new(tables);
        bench.add_node("n-a", "a");
        for table in tables {
            bench.add_node(&format!("n-{table}"), table);
        }
        bench.tell_nodes();
        bench.run(secs(10));
        assert_eq!(bench.unready(), BTreeSet::new(), "{:?}", bench.controller.view().problems);
        bench
    }

    /// A bench with room for the routes of `n1`, and `n2` in the fallback pool.
    pub(crate) fn crowded() -> Self {
        let mut bench = Self::new(&[]);
        bench.settings.quota.v4 = 2;
        bench.settings.quota.admission_percent = 100;
        bench.settings.fallback = Some("eni-pool".to_owned());
        bench.reload();
        bench.add_node("n1", "a");
        bench.add_node("n2", "a");
        bench.tell_nodes();
        bench.run(secs(10));
        bench
    }

    pub(crate) fn seed(&mut self, seed: u64) {
        self.jitter = Jitter::new(seed);
    }

    pub(crate) fn time(&self) -> Timestamp {
        Timestamp::from_epoch(EPOCH + self.now)
    }

    /// Starts a machine and puts it on the list, which is not told yet.
    pub(crate) fn add_node(&mut self, node: &str, subnet: &str) -> InstanceId {
        self.lives += 1;
        let subnet: SubnetId = format!("subnet-{subnet}").parse().unwrap();
        let machine = format!("{}{}", node.replace(['-', '.'], ""), self.lives);
        let instance = self.world.add_instance(&machine, "m5.large", &subnet).expect("the subnet has room");
        let spec = NodeSpec {
            instance: instance.clone(),
            address: None,
            eni: None,
            blocks: 1,
            pod_cidrs: BTreeSet::new(),
        };
        self.nodes.insert(name(node), spec);
        instance
    }

    /// Tells the controller the list of nodes as it is now.
    pub(crate) fn tell_nodes(&mut self) {
        self.oracle.told(&self.nodes, self.now);
        self.step(Event::Nodes(self.nodes.clone()));
    }

    pub(crate) fn reload(&mut self) {
        self.step(Event::Reload(Box::new(self.settings.clone())));
    }

    /// The controller dies at this moment; calls that were begun have their effect all the same.
    pub(crate) fn crash(&mut self) {
        self.due.retain(|_, due| matches!(due, Due::Effect(..)));
        // What was handed to the store and not committed is gone.
        self.stores.clear();
        self.lives += 1;
        self.begun.push(self.now);
        let (settings, record) = (self.settings.clone(), self.record.clone());
        self.controller = Controller::new(settings, record, self.lives, self.time());
        self.ids.clear();
        self.step(Event::Nodes(self.nodes.clone()));
    }

    pub(crate) fn step(&mut self, event: Event) {
        let actions = self.controller.step(self.time(), event);
        for action in actions {
            self.begin(action);
        }
    }

    fn later(&mut self, after: Duration, due: Due) {
        self.serial += 1;
        self.due.insert((self.now + after, self.serial), due);
    }

    fn begin(&mut self, action: Action) {
        match action {
            Action::Store { id, changes } => {
                assert!(self.stores.is_empty(), "one transaction at a time");
                self.stores.insert(id, changes);
                let fails = self.store_fails;
                self.later(Duration::from_millis(5), Due::Stored(id, !fails));
            }
            Action::Call { id, call, .. } => {
                self.ids.insert(id, self.made.len());
                self.made.push(Made { at: self.now, call: call.clone(), outcome: None });
                let half = self.latency / 2;
                self.later(half, Due::Effect(id, call));
            }
        }
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        let mut busy = (self.now, 0);
        loop {
            let due = self.due.keys().next().map(|(at, _)| *at);
            let wake = self.controller.next_wakeup().map(|at| at.since(Timestamp::from_epoch(EPOCH)));
            let next = due.into_iter().chain(wake).min().unwrap_or(until).max(self.now);
            if next > until {
                break;
            }
            busy = if next == busy.0 { (next, busy.1 + 1) } else { (next, 0) };
            assert!(busy.1 < BUSY, "the controller spins at {next:?}: {:?}", self.controller.plan());
            self.advance(next);
            match self.due.first_key_value().filter(|((at, _), _)| *at <= next) {
                Some(_) => {
                    let (_, due) = self.due.pop_first().unwrap();
                    self.happen(due);
                }
                None if next >= until => break,
                None => self.step(Event::Tick),
            }
        }
        self.advance(until);
    }

    fn advance(&mut self, to: Duration) {
        self.world.advance(to - self.now);
        self.now = to;
    }

    /// Lets time pass until something holds.
    pub(crate) fn run_until(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) -> Duration {
        let begun = self.now;
        while !holds(self) {
            assert!(self.now < begun + limit, "not within {limit:?}: {:?}", self.controller.view().problems);
            self.run(Duration::from_millis(100));
        }
        self.now - begun
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Effect(id, call) => {
                let result = self.perform(&call);
                let outcome = result.as_ref().map(|_| ()).map_err(CloudError::class);
                if let Some(at) = self.ids.get(&id) {
                    self.made[*at].outcome = Some(outcome);
                    let wait = self.latency / 2 + self.chance(self.faults.delay);
                    self.later(wait, Due::Answer(id, result));
                }
            }
            Due::Answer(call, result) => self.step(Event::CallFinished { call, result }),
            Due::Stored(id, fine) => {
                let changes = self.stores.remove(&id).unwrap_or_default();
                if fine {
                    for change in &changes {
                        let tables = self.world.true_route_tables();
                        self.oracle.stored(&self.record, change, &tables);
                        self.record.apply(change);
                    }
                    self.step(Event::Stored(id));
                } else {
                    self.step(Event::StoreFailed(id, "no space left".to_owned()));
                }
            }
        }
    }

    fn chance(&mut self, longest: Duration) -> Duration {
        let millis = u64::try_from(longest.as_millis()).unwrap();
        Duration::from_millis(self.jitter.bits() % (millis + 1))
    }

    fn perform(&mut self, call: &RouteCall) -> Result<RouteDone, CloudError> {
        let error = |class| CloudError {
            api: call.api(),
            class,
            code: None,
            message: format!("the test says {class:?}"),
            request_id: None,
        };
        if let Some(class) = self.refuse.and_then(|refuse| refuse(call)) {
            return Err(error(class));
        }
        let dice = self.jitter.bits() % 1000;
        let faults = self.faults;
        let mut edge = faults.throttled;
        if dice < edge {
            return Err(error(ErrorClass::Throttled));
        }
        edge += faults.refused;
        if dice < edge {
            return Err(error(ErrorClass::Transient));
        }
        edge += faults.denied;
        if dice < edge {
            return Err(error(ErrorClass::Denied));
        }
        edge += faults.lost;
        let tables = self.world.true_route_tables();
        self.oracle.effect(call, self.now, &tables, &self.record, &self.world);
        let result = perform(&mut self.world, call);
        if dice < edge { result.and_then(|_| Err(error(ErrorClass::Transient))) } else { result }
    }

    // ---- what a test looks at -----------------------------------------------------------------------------------

    pub(crate) fn eni(&self, node: &str) -> EniId {
        let instance = &self.nodes[&name(node)].instance;
        let of = |eni: &&spur_cloud::Eni| {
            eni.attachment
                .as_ref()
                .is_some_and(|at| at.instance.as_ref() == Some(instance) && at.device_index.0 == 0)
        };
        self.world.true_enis().values().find(of).map(|eni| eni.id.clone()).expect("a node has an ENI")
    }

    pub(crate) fn grant(&self, node: &str) -> NodeGrant {
        self.controller.grants().remove(&name(node)).expect("the node is on the list")
    }

    pub(crate) fn unready(&self) -> BTreeSet<NodeName> {
        let grants = self.controller.grants();
        grants.into_iter().filter(|(_, grant)| !grant.ready).map(|(node, _)| node).collect()
    }

    pub(crate) fn block(&self, node: &str) -> IpNet {
        self.controller.held(&name(node)).next().expect("the node has a block")
    }

    pub(crate) fn table(&self, table: &str) -> RouteTable {
        self.there(table).expect("the table exists")
    }

    /// The table, if it exists.
    pub(crate) fn there(&self, table: &str) -> Option<RouteTable> {
        self.world.true_route_tables().into_iter().find(|at| at.id == Self::id(table))
    }

    /// Whether the calls of every action fit into the share of its bucket, whichever stretch of time one looks at.
    pub(crate) fn within_budget(&self) {
        let share = f64::from(self.settings.budget_percent) / 100.0;
        for (api, capacity, refill) in [
            (Api::CreateRoute, 50.0, 5.0),
            (Api::ReplaceRoute, 50.0, 5.0),
            (Api::DeleteRoute, 50.0, 5.0),
            (Api::ModifyNetworkInterfaceAttribute, 100.0, 5.0),
            (Api::DescribeRouteTables, 100.0, 20.0),
            (Api::DescribeNetworkInterfaces, 100.0, 20.0),
        ] {
            // One after the other through a bucket of that size: none may find it empty.
            let (mut level, mut last) = (capacity * share, Duration::ZERO);
            for (number, made) in self.made_of(api).enumerate() {
                // What was spent is not durable: a new controller begins with a full bucket of its own.
                if self.begun.iter().any(|begun| (last..=made.at).contains(begun)) {
                    level = capacity * share;
                }
                level = (capacity * share).min(level + (made.at - last).as_secs_f64() * refill * share);
                last = made.at;
                level -= 1.0;
                assert!(
                    level > -0.01 * capacity,
                    "{api}: call {number} at {:?} is beyond the share",
                    made.at
                );
            }
        }
    }

    /// Where a table leads a block.
    pub(crate) fn leads(&self, table: &str, block: IpNet) -> Option<RouteTarget> {
        self.table(table).route(block).map(|route| route.target.clone())
    }

    pub(crate) fn id(table: &str) -> RouteTableId {
        format!("rtb-{table}").parse().unwrap()
    }

    /// Puts a route into a table behind the controller's back.
    pub(crate) fn put(&mut self, table: &str, destination: IpNet, target: RouteTarget, origin: RouteOrigin) {
        let route =
            Route { destination: Destination::Cidr(destination), target, origin, state: RouteState::Active };
        self.world.put_route(&Self::id(table), route);
        self.oracle.foreign(&Self::id(table), destination, self.now);
    }

    /// A route of somebody else: to a transit gateway.
    pub(crate) fn put_foreign(&mut self, table: &str, destination: IpNet) {
        self.put(table, destination, RouteTarget::Other("tgw-1".to_owned()), RouteOrigin::CreateRoute);
    }

    pub(crate) fn made_of(&self, api: Api) -> impl Iterator<Item = &Made> {
        self.made.iter().filter(move |made| made.call.api() == api)
    }

    pub(crate) fn count(&self, api: Api) -> usize {
        self.made_of(api).count()
    }

    pub(crate) fn kinds(&self) -> BTreeSet<&'static str> {
        self.controller.view().problems.iter().map(spur_ipamd_core::vpcroute::Problem::kind).collect()
    }

    pub(crate) fn states(&self) -> BTreeMap<IpNet, BlockState> {
        self.record.blocks().iter().map(|(block, known)| (*block, known.state)).collect()
    }
}

fn perform(world: &mut World, call: &RouteCall) -> Result<RouteDone, CloudError> {
    let done = |()| RouteDone::Done;
    match call {
        RouteCall::ReadTables(query) => world.route_tables(query).map(RouteDone::Tables),
        RouteCall::ReadEnis(query) => world.enis(query).map(RouteDone::Enis),
        RouteCall::ReadSubnets(query) => world.subnets(query).map(RouteDone::Subnets),
        RouteCall::ReadVpc(vpc) => world.vpc(vpc).map(RouteDone::Vpc),
        RouteCall::Create { table, block, target } => world.create_route(table, *block, target).map(done),
        RouteCall::Replace { table, block, target } => world.replace_route(table, *block, target).map(done),
        RouteCall::Delete { table, block } => world.delete_route(table, *block).map(done),
        RouteCall::CheckOff { eni } => world.set_source_dest_check(eni, false).map(done),
        RouteCall::Claim { table, tags } => world.tag_route_table(table, tags).map(done),
        RouteCall::Unclaim { table, keys } => world.untag_route_table(table, keys).map(done),
    }
}
