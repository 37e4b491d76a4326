//! The shell with virtual time. A slow cloud is one with a small budget of its own below the budget under test.

use super::*;
use spur_cloud::budget::Meter;
use spur_cloud::fake::{FakeCloud, Fault, World};
use spur_cloud::{AddressRequest, Api, EniId, EniQuery, ErrorClass, InstanceId, SubnetQuery};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

struct Bed {
    fake: FakeCloud,
    instance: InstanceId,
    eni: EniId,
}

impl Bed {
    fn new() -> Self {
        let mut world = World::new();
        let vpc = world.add_vpc("a", &["10.0.0.0/16".parse().unwrap()]);
        let subnet = world.add_subnet("a", &vpc, "zone-a", "10.0.1.0/24".parse().unwrap());
        let instance = world.add_instance("a", "m5.large", &subnet).unwrap();
        let eni = world.true_enis().keys().next().unwrap().clone();
        Self { fake: FakeCloud::new(world), instance, eni }
    }

    fn budgeted(&self, share_percent: u32) -> Budgeted<FakeCloud> {
        let terms = Terms { share_percent, longest_wait: Duration::from_secs(5) };
        Budgeted::new(self.fake.clone(), terms)
    }

    /// A cloud in which a read of ENIs takes five seconds, an assignment twenty, after the first of each.
    async fn slow(&self) -> Budgeted<Prioritized<FakeCloud>> {
        let terms = Terms { share_percent: 1, longest_wait: Duration::from_secs(3600) };
        let slow = Budgeted::new(self.fake.clone(), terms).with_priority(Priority::Pod);
        slow.enis(&self.mine()).await.unwrap();
        slow.assign(&self.eni, &one()).await.unwrap();
        Budgeted::new(slow, Terms { share_percent: 100, longest_wait: Duration::from_secs(5) })
    }

    fn mine(&self) -> EniQuery {
        EniQuery::OfInstance(self.instance.clone())
    }

    fn calls(&self, api: Api) -> usize {
        self.fake.with(|world| world.calls().iter().filter(|call| call.api == api).count())
    }
}

const READ: Api = Api::DescribeNetworkInterfaces;
const ASSIGN: Api = Api::AssignPrivateIpAddresses;

fn one() -> AddressRequest {
    AddressRequest::Count(1)
}

#[tokio::test(start_paused = true)]
async fn equal_reads_that_overlap_are_one_call_and_others_are_not() {
    let bed = Bed::new();
    let budget = bed.slow().await;
    let read = |query: EniQuery| {
        let cloud = budget.with_priority(Priority::Stock);
        tokio::spawn(async move { cloud.enis(&query).await.unwrap().len() })
    };
    let reads: Vec<_> = (0..5).map(|_| read(bed.mine())).collect();
    let other = read(EniQuery::ByIds(BTreeSet::from([bed.eni.clone()])));
    for read in reads {
        assert_eq!(read.await.unwrap(), 1);
    }
    assert_eq!(other.await.unwrap(), 1);
    assert_eq!(bed.calls(READ), 1 + 2, "one before, one for five, one for the other");
    let usage = budget.usage();
    assert_eq!((usage.calls[&READ].folded, usage.calls[&READ].succeeded), (4, 2));
    assert_eq!(budget.with_priority(Priority::Stock).enis(&bed.mine()).await.unwrap().len(), 1);
    assert_eq!(bed.calls(READ), 4, "ENIs are read anew when nobody reads them");
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_a_read_that_began_before_his_own_write_ended() {
    let bed = Bed::new();
    let budget = bed.slow().await;
    let early = budget.with_priority(Priority::Stock);
    let query = bed.mine();
    let early = tokio::spawn(async move { early.enis(&query).await.unwrap().len() });
    tokio::time::sleep(Duration::from_secs(1)).await;
    // This write is quick: another action than those that were slowed.
    let cloud = budget.with_priority(Priority::Pod);
    cloud.tag_eni(&bed.eni, &[("a".to_owned(), "b".to_owned())].into()).await.unwrap();
    assert_eq!(cloud.enis(&bed.mine()).await.unwrap()[0].tags["a"], "b");
    early.await.unwrap();
    let reads = &budget.usage().calls[&READ];
    assert_eq!((reads.succeeded, reads.folded), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn what_hardly_changes_is_given_again_for_a_moment_unless_something_was_written() {
    let bed = Bed::new();
    let budget = bed.budgeted(100);
    let cloud = budget.with_priority(Priority::Stock);
    let vpc = bed.fake.with(|world| world.true_enis()[&bed.eni].vpc.clone());
    let all = SubnetQuery::Tagged(vpc, [].into());
    for (wait, expected) in [(0, 1), (100, 1), (950, 2), (10, 2)] {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        cloud.subnets(&all).await.unwrap();
        assert_eq!(bed.calls(Api::DescribeSubnets), expected, "after {wait} ms more");
    }
    let before = cloud.subnets(&all).await.unwrap()[0].free_addresses;
    cloud.assign(&bed.eni, &one()).await.unwrap();
    assert_eq!(cloud.subnets(&all).await.unwrap()[0].free_addresses, before - 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_read_is_told_to_all_who_share_it_and_not_kept() {
    let bed = Bed::new();
    let budget = bed.budgeted(100);
    let cloud = budget.with_priority(Priority::Stock);
    bed.fake.with(|world| world.inject(READ, Fault::Refuse(ErrorClass::Transient)));
    let query = bed.mine();
    let (one, two) = tokio::join!(cloud.enis(&query), cloud.enis(&query));
    assert_eq!(one.unwrap_err().class(), ErrorClass::Transient);
    assert_eq!(two.unwrap_err().class(), ErrorClass::Transient);
    cloud.enis(&query).await.unwrap();
    assert_eq!(bed.calls(READ), 2);
}

#[tokio::test(start_paused = true)]
async fn a_read_goes_on_for_others_when_the_one_who_began_it_leaves() {
    let bed = Bed::new();
    let budget = bed.slow().await;
    let (first, second) = (budget.with_priority(Priority::Pod), budget.with_priority(Priority::Pod));
    let query = bed.mine();
    let leaves = tokio::time::timeout(Duration::from_secs(1), first.enis(&query));
    let (left, stayed) = tokio::join!(leaves, second.enis(&query));
    assert!(left.is_err());
    assert_eq!(stayed.unwrap().len(), 1);
    assert_eq!(bed.calls(READ), 2);
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_learns_for_how_long_and_nothing_is_sent() {
    let bed = Bed::new();
    let budget = bed.budgeted(1);
    let cloud = budget.with_priority(Priority::Pod);
    cloud.assign(&bed.eni, &one()).await.unwrap();
    let started = Instant::now();
    let error = cloud.assign(&bed.eni, &one()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::OverBudget { wait: Duration::from_secs(20) });
    assert_eq!(error.api, ASSIGN);
    assert_eq!(started.elapsed(), Duration::ZERO, "at once, because it would be in vain");
    assert_eq!((bed.calls(ASSIGN), budget.usage().calls[&ASSIGN].refused), (1, 1));
    tokio::time::sleep(Duration::from_secs(20)).await;
    cloud.assign(&bed.eni, &one()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_in_the_order_of_urgency_and_is_counted() {
    let bed = Bed::new();
    // One assignment a second; nine addresses are there for nine of them.
    let budget = bed.budgeted(20);
    let cloud = budget.with_priority(Priority::Pod);
    let nothing = [("a".to_owned(), "b".to_owned())].into();
    for _ in 0..20 {
        cloud.tag_eni(&bed.eni, &nothing).await.unwrap();
    }
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for (number, priority) in [Priority::Pod, Priority::Pod, Priority::Pod].into_iter().enumerate() {
        let (cloud, order) = (budget.with_priority(priority), Arc::clone(&order));
        let (eni, nothing) = (bed.eni.clone(), nothing.clone());
        tasks.push(tokio::spawn(async move {
            cloud.tag_eni(&eni, &nothing).await.unwrap();
            order.lock().unwrap().push(number);
        }));
        tokio::task::yield_now().await;
    }
    // The second gives up; its place is nobody's.
    tasks[1].abort();
    let started = Instant::now();
    for (number, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.is_ok(), number != 1);
    }
    assert_eq!(*order.lock().unwrap(), [0, 2]);
    assert_eq!(started.elapsed().as_millis(), 1000, "two a second");
    let usage = budget.usage();
    let tags = &usage.calls[&Api::CreateTags];
    assert_eq!((tags.waited, tags.waiting.as_millis(), tags.succeeded), (2, 1500, 22));
    assert_eq!(usage.headroom[&Meter::of(Api::CreateTags)].waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_answer_slows_its_action_down() {
    let bed = Bed::new();
    let budget = bed.budgeted(100);
    let cloud = budget.with_priority(Priority::Pod);
    bed.fake.with(|world| world.inject(ASSIGN, Fault::Refuse(ErrorClass::Throttled)));
    cloud.assign(&bed.eni, &one()).await.unwrap_err();
    let usage = budget.usage();
    assert_eq!((usage.calls[&ASSIGN].throttled(), usage.sent()), (1, 1));
    let left = usage.headroom[&Meter::of(ASSIGN)];
    assert_eq!((left.tokens, left.rate_percent), (0, 50));
    let started = Instant::now();
    cloud.assign(&bed.eni, &one()).await.unwrap();
    let waited = started.elapsed().as_millis();
    assert!((300..=400).contains(&waited), "half of five a second: {waited} ms");
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_caller_leaves_is_counted_and_ends_the_sharing_of_reads() {
    let bed = Bed::new();
    let budget = bed.slow().await;
    let cloud = budget.with_priority(Priority::Pod);
    let slow_write = cloud.assign(&bed.eni, &AddressRequest::Count(1));
    assert!(tokio::time::timeout(Duration::from_secs(1), slow_write).await.is_err());
    assert_eq!(budget.usage().calls[&ASSIGN].abandoned, 1);
    assert_eq!(budget.usage().sent(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_an_answer_told_of_subnets_is_kept_for_who_asks_later() {
    let bed = Bed::new();
    let budget = bed.budgeted(20);
    assert_eq!(budget.usage().free_addresses, BTreeMap::new(), "nobody asks for its sake");
    let cloud = budget.with_priority(Priority::Stock);
    let ids = bed.fake.with(|world| world.true_enis().values().map(|eni| eni.subnet.clone()).collect());
    let subnets = cloud.subnets(&SubnetQuery::ByIds(ids)).await.unwrap();
    let told: BTreeMap<_, _> = subnets.into_iter().map(|subnet| (subnet.id, subnet.free_addresses)).collect();
    assert!(told.values().all(|free| *free > 200), "{told:?}");
    assert_eq!(budget.usage().free_addresses, told);
}

/// With the clock of the machine, which is never the same twice.
#[tokio::test]
async fn a_call_whose_turn_it_is_did_not_wait() {
    let bed = Bed::new();
    let budget = bed.budgeted(20);
    budget.with_priority(Priority::Pod).assign(&bed.eni, &one()).await.unwrap();
    let usage = &budget.usage().calls[&ASSIGN];
    assert_eq!((usage.succeeded, usage.waited, usage.waiting), (1, 0, Duration::ZERO));
}
