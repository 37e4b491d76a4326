//! The kernel's keeper by itself, with virtual time: what it does while EC2 does not tell of a subnet. A silent EC2 is one with a small budget, which
//! others spend first: 5 s for each question about subnets.

use super::bed::FakeKernel;
use crate::agent::granted::Granted;
use crate::agent::nodework::{NodeParts, spawn};
use crate::agent::placement::tests::busy;
use crate::agent::status::{Health, NodeStatus};
use crate::agent::wanted::NodeInputs;
use crate::agent::wanted::tests::inputs;
use spur_cloud::fake::{FakeCloud, Fault, World};
use spur_cloud::{AddressRequest, Api, CardIndex, ClientToken, CreateEni, DeviceIndex, Eni, ErrorClass};
use spur_ipamd_core::{DatapathWanted, EniDatapath, Event};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longer than a repair may take.
const REPAIRED: Duration = Duration::from_secs(5);

struct Bed {
    cloud: FakeCloud,
    kernel: Arc<FakeKernel>,
    /// The primary ENI, and one in a subnet that nobody told of.
    enis: [Eni; 2],
    wanted: watch::Sender<DatapathWanted>,
    events: mpsc::UnboundedReceiver<Event>,
    status: watch::Receiver<NodeStatus>,
    _stop: DropGuard,
}

fn two_enis(world: &mut World) -> [Eni; 2] {
    let vpc = world.add_vpc("a", &["10.0.0.0/16".parse().unwrap()]);
    let home = world.add_subnet("home", &vpc, "zone-a", "10.0.1.0/24".parse().unwrap());
    let far = world.add_subnet("far", &vpc, "zone-a", "10.0.2.0/24".parse().unwrap());
    let instance = world.add_instance("a", "m5.large", &home).unwrap();
    let primary = world.true_enis().values().next().unwrap().clone();
    let wanted = CreateEni {
        subnet: far,
        security_groups: BTreeSet::new(),
        request: AddressRequest::Count(1),
        description: String::new(),
        tags: BTreeMap::new(),
        token: ClientToken("one".to_owned()),
    };
    let second = world.create_eni(&wanted).unwrap();
    world.attach_eni(&second.id, &instance, DeviceIndex(1), CardIndex(0)).unwrap();
    world.advance(Duration::from_secs(1));
    [primary, second]
}

impl Bed {
    /// After `ahead` questions of others about subnets, with this share of the API budget.
    async fn start(share_percent: u32, ahead: usize) -> Self {
        let mut world = World::new();
        let enis = two_enis(&mut world);
        let cloud = FakeCloud::new(world);
        let asked = busy(&cloud, share_percent, ahead).await;
        let kernel = Arc::new(FakeKernel::new(cloud.clone()));
        let (wanted, wanted_seen) = watch::channel(DatapathWanted::default());
        let (outcomes, events) = mpsc::unbounded_channel();
        let (status, seen) = watch::channel(NodeStatus::unknown());
        let stop = CancellationToken::new();
        let known = NodeInputs { primary_mac: enis[0].mac, subnets: BTreeMap::new(), ..inputs("") };
        spawn(NodeParts {
            kernel: Arc::clone(&kernel),
            cloud: asked,
            inputs: watch::channel(known).1,
            wanted: wanted_seen,
            granted: watch::channel(Granted::default()).1,
            outcomes,
            status,
            stop: stop.clone(),
        });
        Self { cloud, kernel, enis, wanted, events, status: seen, _stop: stop.drop_guard() }
    }

    /// As the pool wants it: the kernel shall know the first `count` ENIs.
    fn want(&self, count: u8) {
        let eni = |(ordinal, eni): (u8, &Eni)| EniDatapath {
            eni: eni.id.clone(),
            mac: eni.mac,
            ordinal,
            subnet: eni.subnet.clone(),
            primary: eni.primary,
            addresses: eni.addresses.clone(),
        };
        let enis = (0..count).zip(&self.enis).map(eni).collect();
        self.wanted.send_modify(|wanted| {
            *wanted = DatapathWanted { generation: wanted.generation + 1, enis };
        });
    }

    /// What the pool was told since the last look.
    fn told(&mut self) -> Vec<Result<usize, String>> {
        let told = std::iter::from_fn(|| self.events.try_recv().ok()).map(|event| match event {
            Event::DatapathApplied { ready, .. } => Ok(ready.len()),
            Event::DatapathFailed { message, .. } => Err(message),
            other => panic!("{other:?}"),
        });
        told.collect()
    }

    async fn assert_repairs(&self, what: &str) {
        self.kernel.with(|state| state.flushed = true);
        sleep(REPAIRED).await;
        assert!(self.kernel.with(|state| !state.flushed), "not repaired {what}");
    }

    /// Questions about subnets that EC2 answered.
    fn answered(&self) -> usize {
        let of_subnets = |call: &&spur_cloud::fake::Call| call.api == Api::DescribeSubnets;
        self.cloud.with(|world| world.calls().iter().filter(of_subnets).count())
    }
}

#[tokio::test(start_paused = true)]
async fn what_others_flush_is_repaired_while_ec2_is_silent_about_a_subnet() {
    let mut bed = Bed::start(1, 6).await;
    bed.want(1);
    sleep(REPAIRED).await;
    assert_eq!(bed.told(), [Ok(1)]);
    bed.want(2);
    sleep(Duration::from_secs(1)).await;
    bed.assert_repairs("while EC2 is silent").await;
    bed.assert_repairs("a second time").await;
    assert_eq!((bed.told(), bed.status.borrow().repairs), (Vec::new(), 2));
    assert!(bed.answered() < 6, "others are still before us");
    sleep(Duration::from_secs(30)).await;
    assert_eq!(bed.told(), [Ok(2)]);
    assert_eq!(
        (bed.answered(), bed.status.borrow().failed_updates),
        (7, 0),
        "asked once, and nothing failed"
    );
}

#[tokio::test(start_paused = true)]
async fn a_subnet_that_ec2_does_not_tell_of_is_named_with_the_reason_and_asked_for_less_and_less_often() {
    let mut bed = Bed::start(100, 0).await;
    bed.want(1);
    sleep(REPAIRED).await;
    assert_eq!(bed.told(), [Ok(1)]);
    let denied = || Fault::Refuse(ErrorClass::Denied);
    (0..12).for_each(|_| bed.cloud.with(|world| world.inject(Api::DescribeSubnets, denied())));
    bed.want(2);
    bed.assert_repairs("while EC2 refuses").await;
    let told = bed.told();
    let [Err(message)] = told.as_slice() else { panic!("{told:?}") };
    assert!(message.starts_with("the CIDR of subnet-far is not known yet: DescribeSubnets: "), "{message}");
    assert_eq!(bed.status.borrow().health, Health::Sound, "what was there is there");
    sleep(Duration::from_secs(470)).await;
    assert!((8..=12).contains(&bed.answered()), "{}", bed.answered());
    assert_eq!(bed.told(), [], "told once");
    bed.kernel.with(|state| state.broken = true);
    sleep(Duration::from_secs(5)).await;
    assert!(matches!(bed.status.borrow().health, Health::Failing { .. }), "the kernel cannot be kept");
    bed.kernel.with(|state| state.broken = false);
    sleep(Duration::from_secs(120)).await;
    assert_eq!((bed.told().last(), bed.answered()), (Some(&Ok(2)), 13));
}

#[tokio::test(start_paused = true)]
async fn a_question_that_ec2_never_answers_is_given_up_and_asked_again() {
    let mut bed = Bed::start(1, 12).await;
    bed.want(2);
    sleep(Duration::from_secs(30)).await;
    let unprepared = |health: &Health| match health {
        Health::Unprepared { reason } => reason.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(bed.told(), [], "EC2 may answer yet");
    assert_eq!(unprepared(&bed.status.borrow().health), "the CIDR of subnet-far is not known yet");
    sleep(Duration::from_secs(20)).await;
    let told = bed.told();
    let [Err(message)] = told.as_slice() else { panic!("{told:?}") };
    assert!(message.ends_with("no answer within 45 s"), "{message}");
    assert!(unprepared(&bed.status.borrow().health).ends_with(message));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(bed.told(), [Ok(2)]);
}

#[tokio::test(start_paused = true)]
async fn what_an_attempt_that_failed_left_behind_is_no_repair() {
    let mut bed = Bed::start(100, 0).await;
    bed.want(2);
    sleep(REPAIRED).await;
    assert_eq!(bed.told(), [Ok(2)]);
    bed.kernel.with(|state| state.broken = true);
    bed.want(1);
    sleep(REPAIRED).await;
    assert!(matches!(bed.told().as_slice(), [Err(_)]));
    bed.kernel.with(|state| (state.broken, state.flushed) = (false, true));
    bed.want(2);
    sleep(REPAIRED).await;
    assert_eq!((bed.told(), bed.status.borrow().repairs), (vec![Ok(2)], 0));
    bed.assert_repairs("what others changed").await;
    assert_eq!(bed.status.borrow().repairs, 1);
}
