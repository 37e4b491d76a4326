//! Tests of what is told again, with virtual time: what asks EC2 and how often, and what reaches the pool and the kernel's keeper.

use super::super::placement::tests::{busy, cloud, identity};
use super::*;
use crate::store::spawn_forgetful_writer;
use spur_cloud::fake::{FakeCloud, Fault};
use spur_cloud::{Api, ErrorClass};
use std::collections::BTreeMap;

struct Bed {
    cloud: FakeCloud,
    config: watch::Sender<Arc<Config>>,
    events: mpsc::UnboundedReceiver<Event>,
    inputs: watch::Receiver<NodeInputs>,
    subnet_full: Arc<Notify>,
}

impl Bed {
    async fn start(pool: &str) -> Self {
        Self::behind(0, pool).await
    }

    /// Behind so many questions of others about subnets, each of which takes 5 s.
    async fn behind(others: usize, pool: &str) -> Self {
        let cloud = cloud();
        let asked = busy(&cloud, if others == 0 { 100 } else { 1 }, others).await;
        let current = Arc::new(Config::parse(&format!("pool: {pool}")).unwrap());
        let (config, seen) = watch::channel(Arc::clone(&current));
        let (events, received) = mpsc::unbounded_channel();
        let placement = find(&cloud, &identity(), &current.pool).await.unwrap();
        let (inputs, inputs_seen) = watch::channel(NodeInputs {
            primary_mac: identity().primary.mac,
            primary_address: [10, 0, 1, 10].into(),
            vpc_cidrs: Vec::new(),
            subnets: BTreeMap::new(),
            mode: current.pool.mode,
            granted: Default::default(),
            nat: current.pool.nat.clone(),
            block_instance_metadata: false,
        });
        let subnet_full = Arc::new(Notify::new());
        let reload = Reload {
            config: seen,
            told: settings(&current, &identity(), &placement),
            current,
            cloud: asked,
            identity: identity(),
            store: spawn_forgetful_writer(|_| false),
            events,
            inputs: Arc::new(inputs),
            subnet_full: Arc::clone(&subnet_full),
            placement,
        };
        tokio::spawn(reload.live());
        Self { cloud, config, events: received, inputs: inputs_seen, subnet_full }
    }

    fn reconfigure(&self, pool: &str) {
        self.config.send_replace(Arc::new(Config::parse(&format!("pool: {pool}")).unwrap()));
    }

    fn calls(&self) -> usize {
        self.cloud.with(|world| world.calls().len())
    }

    /// The settings that the pool was told since the last look, if it was told any.
    fn told(&mut self) -> Option<PoolSettings> {
        match self.events.try_recv() {
            Ok(Event::Reload(settings)) => Some(*settings),
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        }
    }
}

fn names(settings: &PoolSettings) -> Vec<&str> {
    settings.eni.subnets.iter().map(|subnet| subnet.as_str()).collect()
}

async fn minutes(number: u64) {
    sleep(Duration::from_secs(60 * number)).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_value_reaches_the_pool_and_the_kernels_keeper_and_asks_nobody() {
    let mut bed = Bed::start("{}").await;
    bed.reconfigure(
        "{warmIpTarget: 9, maxEnis: 2, blockInstanceMetadata: true, natExclude: [192.168.0.0/16]}",
    );
    minutes(1).await;
    let told = bed.told().expect("new settings");
    assert_eq!((told.targets.warm_ip_target, told.targets.max_enis), (9, Some(2)));
    let inputs = bed.inputs.borrow_and_update().clone();
    assert!(inputs.block_instance_metadata && inputs.nat.exclude.len() == 1);
    bed.reconfigure(
        "{warmIpTarget: 9, maxEnis: 2, blockInstanceMetadata: false, natExclude: [192.168.0.0/16]}",
    );
    minutes(1).await;
    assert_eq!(bed.told(), None, "that is no matter of the pool's");
    assert!(!bed.inputs.borrow().block_instance_metadata);
    assert_eq!(bed.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn another_selection_is_looked_up_at_once_and_a_failure_keeps_the_last() {
    let mut bed = Bed::start("{}").await;
    bed.cloud.with(|world| world.inject(Api::DescribeSubnets, Fault::Refuse(ErrorClass::Throttled)));
    bed.reconfigure("{subnetTags: {role: pods}, warmIpTarget: 9}");
    sleep(Duration::from_secs(1)).await;
    let told = bed.told().expect("the rest of it need not wait");
    assert_eq!((names(&told), told.targets.warm_ip_target), (vec!["subnet-home"], 9));
    sleep(RETRY).await;
    assert_eq!(names(&bed.told().expect("looked up again")), ["subnet-large"]);
    assert_eq!(bed.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_changes_does_not_wait_for_ec2() {
    let mut bed = Bed::behind(6, "{}").await;
    bed.reconfigure("{subnetTags: {role: pods}}");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(bed.told(), None, "EC2 is silent");
    bed.reconfigure("{subnetTags: {role: pods}, warmIpTarget: 9}");
    sleep(Duration::from_secs(2)).await;
    let told = bed.told().expect("EC2 has nothing to say to this");
    assert_eq!((names(&told), told.targets.warm_ip_target), (vec!["subnet-home"], 9));
    minutes(1).await;
    assert_eq!(names(&bed.told().expect("EC2 answered")), ["subnet-large"]);
    assert_eq!(bed.calls(), 6 + 1, "it was asked once");
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_question_that_nobody_asks_any_more_does_not_count() {
    let mut bed = Bed::behind(6, "{}").await;
    bed.reconfigure("{subnetTags: {role: pods}}");
    sleep(Duration::from_secs(2)).await;
    bed.reconfigure("{subnets: [subnet-small]}");
    minutes(1).await;
    assert_eq!(names(&bed.told().expect("EC2 answered")), ["subnet-small"]);
    assert_eq!(bed.told(), None);
}

#[tokio::test(start_paused = true)]
async fn what_ec2_refuses_is_asked_for_less_and_less_often() {
    let bed = Bed::start("{subnetTags: {role: pods}}").await;
    bed.cloud.with(|world| {
        for _ in 0..100 {
            world.inject(Api::DescribeSubnets, Fault::Refuse(ErrorClass::Denied));
        }
    });
    let before = bed.calls();
    minutes(30 + 120).await;
    let spent = bed.calls() - before;
    assert!((8..=12).contains(&spent), "{spent} calls in two hours of refusals");
}

#[tokio::test(start_paused = true)]
async fn a_full_subnet_asks_for_others_once_in_a_while_and_a_subnet_that_was_tagged_is_found() {
    let mut bed = Bed::start("{subnetTags: {role: pods}}").await;
    let before = bed.calls();
    bed.cloud.with(|world| {
        let vpc = "vpc-a".parse().unwrap();
        let added = world.add_subnet("added", &vpc, "zone-a", "10.0.8.0/21".parse().unwrap());
        world.tag_subnet(&added, "role", "pods");
    });
    for _ in 0..20 {
        bed.subnet_full.notify_one();
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(bed.calls(), before, "not so soon after the last time");
    minutes(1).await;
    assert_eq!(names(&bed.told().expect("found")), ["subnet-added", "subnet-large"]);
    assert_eq!(bed.inputs.borrow().subnets.len(), 3, "with its CIDR, which costs no call later");
    assert_eq!(bed.calls(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_node_asks_rarely() {
    let mut bed = Bed::start("{subnetTags: {role: pods}, securityGroupTags: {role: pods}}").await;
    let before = bed.calls();
    minutes(6 * 60 + 1).await;
    assert_eq!(bed.calls() - before, 2 * 12, "two calls in half an hour");
    assert_eq!(bed.told(), None);
    let plain = Bed::start("{}").await;
    minutes(6 * 60).await;
    assert_eq!(plain.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn limits_that_ec2_tells_late_are_told_to_the_pool() {
    let cloud = cloud();
    let mut builtin = spur_quotas::builtin("m5.large").unwrap();
    cloud.with(|world| world.inject(Api::DescribeInstanceTypes, Fault::Refuse(ErrorClass::Denied)));
    let store = || spawn_forgetful_writer(|_| false);
    let (events, mut received) = mpsc::unbounded_channel();
    confirm_limits(Arc::new(cloud.clone()), store(), identity(), (builtin.clone(), events.clone())).await;
    assert!(received.try_recv().is_err(), "EC2 confirms them");
    builtin = spur_quotas::builtin("m5.xlarge").unwrap();
    confirm_limits(Arc::new(cloud), store(), identity(), (builtin.clone(), events)).await;
    let Ok(Event::Limits(limits)) = received.try_recv() else { panic!("the pool is not told") };
    assert_eq!(Some(*limits), spur_quotas::builtin("m5.large"));
}
