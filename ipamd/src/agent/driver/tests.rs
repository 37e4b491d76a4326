//! Tests of the driver with virtual time: the pool's timers, bounded waits, many ADDs, a slow cloud, a store that fails.

use super::*;
use crate::agent::gc;
use crate::agent::grants::Grants;
use crate::agent::handle::Stopping;
use crate::agent::kernel::NodeKernel;
use crate::agent::reaper::Reaper;
use crate::agent::recovered::Recovered;
use crate::agent::status::{NodeStatus, Running};
use crate::store::{Rows, Store, Table, spawn_forgetful_writer, spawn_writer};
use spur_cloud::EniId;
use spur_cloud::budget::Terms;
use spur_cloud::fake::{FakeCloud, World};
use spur_ipamd_core::{AttachmentKey, EniTemplate, NodeFacts, PoolSettings, Record, Targets, Timings};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::Instant;

struct Bed {
    _dir: TempDir,
    cloud: FakeCloud,
    handle: PoolHandle,
    stop: CancellationToken,
    driver: JoinHandle<()>,
}

fn key(number: usize) -> AttachmentKey {
    AttachmentKey {
        network: "spur".to_owned(),
        container_id: format!("c{number}"),
        if_name: "eth0".to_owned(),
    }
}

impl Bed {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, _, _) = Store::open(dir.path(), |rows: &Rows| Ok(rows.clone())).unwrap();
        Self::on(dir, spawn_writer(store).0)
    }

    /// With this store, which is in `dir`.
    fn on(dir: TempDir, store: StoreHandle) -> Self {
        let mut world = World::new();
        let vpc = world.add_vpc("a", &["10.0.0.0/16".parse().unwrap()]);
        let subnet = world.add_subnet("a", &vpc, "zone-a", "10.0.1.0/24".parse().unwrap());
        let instance = world.add_instance("a", "m5.large", &subnet).unwrap();
        world.set_delays(Duration::from_secs(6), Duration::from_secs(3));
        let facts = NodeFacts {
            instance,
            limits: spur_quotas::builtin("m5.large").unwrap(),
            primary: world.true_enis().keys().next().unwrap().clone(),
        };
        let settings = PoolSettings {
            targets: Targets { warm_ip_target: 1, max_above_warm: 2, ..Targets::default() },
            eni: EniTemplate {
                subnets: vec![subnet],
                security_groups: BTreeSet::new(),
                ownership: BTreeMap::from([("owner".to_owned(), "me".to_owned())]),
                tags: BTreeMap::new(),
                description: "test".to_owned(),
            },
            timings: Timings::default(),
        };
        Self::run(dir, store, FakeCloud::new(world), settings, facts)
    }

    fn run(
        dir: TempDir,
        store: StoreHandle,
        cloud: FakeCloud,
        settings: PoolSettings,
        facts: NodeFacts,
    ) -> Self {
        let clock = Clock::starting_at(Duration::from_secs(1_700_000_000));
        let pool = Pool::new(settings, facts, Record::default(), 1, clock.now());
        let (wanted, wanted_seen) = watch::channel(DatapathWanted::default());
        let stop = CancellationToken::new();
        let shared = Budgeted::new(cloud.clone(), Terms::default());
        let parts = Parts {
            pool,
            clock,
            store,
            cloud: shared,
            kernel: Arc::new(NodeKernel::new()),
            wanted,
            subnet_full: Arc::default(),
            stop: stop.clone(),
        };
        let (handle, feedback, driver) = spawn(parts);
        tokio::spawn(prepare_whatever_is_attached(cloud.clone(), wanted_seen, feedback));
        Self { _dir: dir, cloud, handle, stop, driver }
    }

    async fn add(&self, number: usize, seconds: u64) -> Result<Reply, Stopping> {
        self.handle.add(key(number), Client::default(), Duration::from_secs(seconds)).await
    }
}

/// A kernel that knows every attached ENI, and the time that passes in the cloud.
async fn prepare_whatever_is_attached(
    cloud: FakeCloud,
    wanted: watch::Receiver<DatapathWanted>,
    feedback: mpsc::UnboundedSender<Event>,
) {
    let mut told = (0, BTreeSet::new());
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cloud.with(|world| world.advance(Duration::from_millis(100)));
        let wanted = wanted.borrow().clone();
        let attached = |id: &EniId| {
            cloud.with(|world| {
                let at = world.true_enis().get(id).and_then(|eni| eni.attachment.clone());
                at.is_some_and(|at| at.status == spur_cloud::AttachmentStatus::Attached)
            })
        };
        let ready: BTreeSet<EniId> = wanted.enis.iter().map(|eni| eni.eni.clone()).filter(attached).collect();
        if wanted.generation > 0 && told != (wanted.generation, ready.clone()) {
            told = (wanted.generation, ready.clone());
            let event = Event::DatapathApplied { generation: wanted.generation, ready };
            if feedback.send(event).is_err() {
                return;
            }
        }
    }
}

fn granted(reply: Result<Reply, Stopping>) -> IpAddr {
    match reply {
        Ok(Reply::Granted { address, .. }) => address,
        other => panic!("expected a grant, got {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn adds_at_the_same_time_wait_for_one_attach_and_not_for_each_other() {
    let bed = Arc::new(Bed::start());
    let started = Instant::now();
    let adds: Vec<_> = (0..20)
        .map(|number| {
            let bed = Arc::clone(&bed);
            tokio::spawn(async move { granted(bed.add(number, 60).await) })
        })
        .collect();
    let mut addresses = BTreeSet::new();
    for add in adds {
        addresses.insert(add.await.unwrap());
    }
    assert_eq!(addresses.len(), 20);
    assert!(started.elapsed() < Duration::from_secs(20), "two attaches of 6 s: {:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_bounded_and_its_end_says_what_it_waited_for() {
    let bed = Bed::start();
    for number in 0..27 {
        granted(bed.add(number, 60).await);
    }
    let started = Instant::now();
    let Ok(Reply::Refused { waits }) = bed.add(27, 15).await else { panic!("27 is all there is") };
    assert_eq!(started.elapsed().as_secs(), 15);
    assert!(waits.iter().any(|wait| wait.kind() == "full"), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_released_address_rests_and_is_granted_again_by_the_pools_own_timer() {
    let bed = Bed::start();
    for number in 0..27 {
        granted(bed.add(number, 60).await);
    }
    let Ok(Reply::Released { addresses }) = bed.handle.del(key(3)).await else { panic!() };
    let started = Instant::now();
    assert_eq!(addresses, [granted(bed.add(99, 60).await)]);
    let rested = started.elapsed().as_secs_f64();
    assert!((29.5..31.0).contains(&rested), "rested {rested} s");
}

#[tokio::test(start_paused = true)]
async fn an_add_whose_future_is_dropped_leaves_no_trace() {
    let bed = Bed::start();
    for number in 0..27 {
        granted(bed.add(number, 60).await);
    }
    assert!(tokio::time::timeout(Duration::from_secs(1), bed.add(50, 60)).await.is_err());
    let Ok(Reply::Released { .. }) = bed.handle.del(key(0)).await else { panic!() };
    // One rest of 30 s, not two: nobody had the address in between.
    granted(bed.add(51, 45).await);
    let Ok(Reply::Released { addresses }) = bed.handle.del(key(50)).await else { panic!() };
    assert_eq!(addresses, [] as [IpAddr; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_nobody_waits_for_any_more_when_it_is_granted_is_taken_back() {
    let bed = Bed::start();
    for number in 0..26 {
        granted(bed.add(number, 60).await);
    }
    bed.handle.add_and_leave(key(50));
    tokio::time::sleep(Duration::from_secs(20)).await;
    let view = bed.handle.view().await.unwrap();
    assert_eq!((view.counts.held, view.counts.cooling), (26, 1), "{view:?}");
    granted(bed.add(51, 45).await);
}

#[tokio::test(start_paused = true)]
async fn an_add_that_is_dropped_with_its_grant_unread_gives_the_address_back() {
    let bed = Bed::start();
    {
        let mut add = std::pin::pin!(bed.add(0, 60));
        assert!(tokio::time::timeout(Duration::ZERO, add.as_mut()).await.is_err());
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(bed.handle.view().await.unwrap().counts.held, 1);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let counts = bed.handle.view().await.unwrap().counts;
    assert_eq!((counts.held, counts.cooling), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_waits_and_the_task_ends_with_its_last_handle() {
    let bed = Bed::start();
    for number in 0..27 {
        granted(bed.add(number, 60).await);
    }
    let handle = bed.handle.clone();
    let waiting =
        tokio::spawn(async move { handle.add(key(30), Client::default(), Duration::from_secs(60)).await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    let started = Instant::now();
    bed.stop.cancel();
    assert!(matches!(waiting.await.unwrap(), Ok(Reply::Refused { .. })));
    assert!(matches!(bed.add(31, 60).await, Ok(Reply::Refused { .. })), "a late one is refused at once");
    assert!(started.elapsed() < Duration::from_secs(1));
    let Ok(Reply::Released { addresses }) = bed.handle.del(key(1)).await else { panic!() };
    assert_eq!(addresses.len(), 1, "a release in flight is still done");
    drop(bed.handle);
    bed.driver.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_pool_asks_ec2_once_a_minute() {
    let bed = Bed::start();
    tokio::time::sleep(Duration::from_secs(120)).await;
    let before = bed.cloud.with(|world| world.calls().len());
    tokio::time::sleep(Duration::from_secs(600)).await;
    let spent = bed.cloud.with(|world| world.calls().len()) - before;
    assert!((8..=12).contains(&spent), "{spent} calls in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn c58_gc_goes_on_when_the_store_refuses_and_says_at_the_end_what_remained() {
    let refused = |write: &crate::store::Write| {
        let release = write.table == Table::Assignments && write.value.is_none();
        release && (write.key.contains("/c1/") || write.key.contains("/c3/"))
    };
    let bed = Bed::on(tempfile::tempdir().unwrap(), spawn_forgetful_writer(refused));
    for number in 0..5 {
        granted(bed.add(number, 60).await);
    }
    let clock = Clock::starting_at(Duration::from_secs(1_700_000_000));
    let grants = Arc::new(Grants::of(&Record::default(), clock));
    let reaper = Reaper::new(Arc::new(NodeKernel::new()), Arc::clone(&grants));
    let running = Running {
        granted: None,
        pool: bed.handle.clone(),
        node: watch::channel(NodeStatus::unknown()).1,
        wanted: watch::channel(DatapathWanted::default()).1,
        node_address: Ipv4Addr::LOCALHOST,
        recovered: Recovered::default(),
    };
    let view = bed.handle.view().await.unwrap();
    let request = spur_wire::GcRequest { valid: Vec::new(), started_unix_ms: u64::MAX };
    let reply = gc::collect(&running, &reaper, &grants, ("spur", &view, &request)).await;
    let released: Vec<_> = reply.released.iter().map(|attachment| attachment.container_id.as_str()).collect();
    assert_eq!(released, ["c0", "c2", "c4"], "those after a failure too");
    assert_eq!(reply.problems.len(), 2, "{:?}", reply.problems);
    for (problem, container) in reply.problems.iter().zip(["c1", "c3"]) {
        assert!(problem.contains(container) && problem.contains("could not be stored"), "{problem}");
    }
}
