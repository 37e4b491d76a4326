//! The fake is product code: what it promises to tests is tested here.

use super::*;
use crate::{Api, AttachmentStatus, ClientToken, EniStatus, ErrorClass, SubnetId};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

struct Bench {
    world: World,
    vpc: VpcId,
    subnet: SubnetId,
    group: SecurityGroupId,
    instance: InstanceId,
}

fn bench(cidr: &str) -> Bench {
    let mut world = World::new();
    let vpc = world.add_vpc("a", &["10.0.0.0/16".parse().unwrap()]);
    let subnet = world.add_subnet("a", &vpc, "eu-a", cidr.parse().unwrap());
    let group = world.add_security_group("a", &vpc, &[("role", "pods")]);
    let instance = world.add_instance("a", "m5.large", &subnet).unwrap();
    Bench { world, vpc, subnet, group, instance }
}

impl Bench {
    fn wanted(&self, token: &str, request: AddressRequest) -> CreateEni {
        CreateEni {
            subnet: self.subnet.clone(),
            security_groups: BTreeSet::from([self.group.clone()]),
            request,
            description: "pods".to_owned(),
            tags: BTreeMap::from([("owner".to_owned(), "spur".to_owned())]),
            token: ClientToken(token.to_owned()),
        }
    }

    fn create(&mut self, token: &str, count: u32) -> Eni {
        let wanted = self.wanted(token, AddressRequest::Count(count));
        self.world.create_eni(&wanted).unwrap()
    }

    fn attach(&mut self, eni: &EniId, index: u32) -> Result<AttachmentId, CloudError> {
        let instance = self.instance.clone();
        self.world.attach_eni(eni, &instance, DeviceIndex(index), CardIndex(0))
    }

    fn free(&mut self) -> u32 {
        let query = SubnetQuery::ByIds(BTreeSet::from([self.subnet.clone()]));
        self.world.subnets(&query).unwrap()[0].free_addresses
    }
}

fn class<T>(result: Result<T, CloudError>) -> Option<ErrorClass> {
    result.err().map(|error| error.class())
}

#[test]
fn an_attachment_takes_its_time_and_is_visible_meanwhile() {
    let mut bench = bench("10.0.1.0/24");
    bench.world.set_delays(SECOND * 3, SECOND);
    let eni = bench.create("t", 2).id;
    let attachment = bench.attach(&eni, 1).unwrap();
    let status = |bench: &Bench| bench.world.true_enis()[&eni].attachment.as_ref().map(|at| at.status);
    assert_eq!(status(&bench), Some(AttachmentStatus::Attaching));
    assert_eq!(class(bench.world.detach_eni(&attachment)), Some(ErrorClass::Conflict));
    bench.world.advance(SECOND * 3);
    assert_eq!(status(&bench), Some(AttachmentStatus::Attached));
    let of_instance = bench.world.enis(&EniQuery::OfInstance(bench.instance.clone())).unwrap();
    assert_eq!(of_instance.len(), 2);

    assert_eq!(class(bench.world.delete_eni(&eni)), Some(ErrorClass::Conflict));
    bench.world.detach_eni(&attachment).unwrap();
    assert_eq!(status(&bench), Some(AttachmentStatus::Detaching));
    assert_eq!(class(bench.world.delete_eni(&eni)), Some(ErrorClass::Conflict));
    bench.world.advance(SECOND);
    assert_eq!(bench.world.true_enis()[&eni].status, EniStatus::Available);
    bench.world.delete_eni(&eni).unwrap();
    assert_eq!(class(bench.world.delete_eni(&eni)), Some(ErrorClass::NotFound));
}

#[test]
fn an_instance_has_no_more_enis_than_its_type_allows() {
    let mut bench = bench("10.0.1.0/24");
    for index in 1..3 {
        let eni = bench.create(&index.to_string(), 0).id;
        bench.attach(&eni, index).unwrap();
    }
    let eni = bench.create("one too many", 0).id;
    assert_eq!(class(bench.attach(&eni, 3)), Some(ErrorClass::QuotaExceeded));
    assert_eq!(class(bench.attach(&eni, 1)), Some(ErrorClass::Conflict), "the index is taken");
}

#[test]
fn cards_are_counted_one_by_one() {
    let mut bench = bench("10.0.0.0/20");
    let instance = bench.world.add_instance("cards", "hpc7a.12xlarge", &bench.subnet.clone()).unwrap();
    let attach = |bench: &mut Bench, token: &str, index, card| {
        let eni = bench.create(token, 0).id;
        bench.world.attach_eni(&eni, &instance, DeviceIndex(index), CardIndex(card))
    };
    attach(&mut bench, "a", 1, 0).unwrap();
    assert_eq!(class(attach(&mut bench, "b", 2, 0)), Some(ErrorClass::QuotaExceeded));
    attach(&mut bench, "c", 0, 1).unwrap();
    attach(&mut bench, "d", 1, 1).unwrap();
    assert_eq!(class(attach(&mut bench, "e", 2, 1)), Some(ErrorClass::QuotaExceeded));
    assert_eq!(class(attach(&mut bench, "f", 0, 2)), Some(ErrorClass::Bug), "there is no such card");
}

#[test]
fn an_eni_has_no_more_addresses_than_its_instance_allows_and_a_prefix_counts_as_one() {
    let mut bench = bench("10.0.1.0/24");
    let eni = bench.create("t", 7).id;
    bench.attach(&eni, 1).unwrap();
    assert_eq!(bench.world.assign(&eni, &AddressRequest::Prefixes(1)).unwrap().prefixes.len(), 1);
    assert_eq!(class(bench.world.assign(&eni, &AddressRequest::Count(2))), Some(ErrorClass::QuotaExceeded));
    assert_eq!(bench.world.assign(&eni, &AddressRequest::Count(1)).unwrap().addresses.len(), 1);

    let big = bench.create("big", 20).id;
    assert_eq!(class(bench.attach(&big, 2)), Some(ErrorClass::QuotaExceeded));
}

#[test]
fn a_subnet_gives_what_it_has_and_a_refusal_takes_nothing() {
    let mut bench = bench("10.0.1.0/28");
    assert_eq!(bench.free(), 10);
    let eni = bench.create("t", 4);
    assert_eq!(eni.primary, "10.0.1.5".parse::<IpAddr>().unwrap());
    assert_eq!(bench.free(), 5);
    assert_eq!(class(bench.world.assign(&eni.id, &AddressRequest::Count(6))), Some(ErrorClass::SubnetFull));
    assert_eq!(
        class(bench.world.assign(&eni.id, &AddressRequest::Prefixes(1))),
        Some(ErrorClass::SubnetFull)
    );
    assert_eq!(bench.free(), 5);
    let wanted = bench.wanted("u", AddressRequest::Count(5));
    assert_eq!(
        class(bench.world.create_eni(&wanted)),
        Some(ErrorClass::SubnetFull),
        "no room for its primary"
    );
    assert_eq!(bench.free(), 5);
    bench.world.delete_eni(&eni.id).unwrap();
    assert_eq!(bench.free(), 10);
}

#[test]
fn prefixes_need_a_whole_free_block() {
    let mut bench = bench("10.0.1.0/26");
    let eni = bench.create("t", 0).id;
    let here = AddressRequest::Addresses(BTreeSet::from(["10.0.1.20".parse().unwrap()]));
    bench.world.assign(&eni, &here).unwrap();
    // Of four blocks the first and the last have reserved addresses, the second is used in part.
    let assigned = bench.world.assign(&eni, &AddressRequest::Prefixes(1)).unwrap();
    assert_eq!(assigned.prefixes, BTreeSet::from(["10.0.1.32/28".parse().unwrap()]));
    assert_eq!(class(bench.world.assign(&eni, &AddressRequest::Prefixes(1))), Some(ErrorClass::SubnetFull));
    let free = bench.free();
    bench.world.unassign(&eni, &BTreeSet::new(), &assigned.prefixes).unwrap();
    assert_eq!(bench.free(), free + 16);
}

#[test]
fn addresses_come_and_go_by_name_and_a_foreign_one_is_refused() {
    let mut bench = bench("10.0.1.0/24");
    let eni = bench.create("t", 0).id;
    let wanted: BTreeSet<IpAddr> = ["10.0.1.50", "10.0.1.51"].map(|text| text.parse().unwrap()).into();
    let request = AddressRequest::Addresses(wanted.clone());
    assert_eq!(bench.world.assign(&eni, &request).unwrap().addresses, wanted);
    let free = bench.free();
    assert_eq!(bench.world.assign(&eni, &request).unwrap().addresses, wanted, "EC2 confirms what is there");
    assert_eq!(bench.free(), free);
    let other = bench.create("u", 0).id;
    assert_eq!(class(bench.world.assign(&other, &request)), Some(ErrorClass::Conflict));
    for outside in ["10.0.2.5", "10.0.1.1", "10.0.1.255", "fd00::1"] {
        let request = AddressRequest::Addresses(BTreeSet::from([outside.parse().unwrap()]));
        assert_eq!(class(bench.world.assign(&eni, &request)), Some(ErrorClass::Conflict), "{outside}");
    }
    bench.world.unassign(&eni, &wanted, &BTreeSet::new()).unwrap();
    let again = bench.world.unassign(&eni, &wanted, &BTreeSet::new());
    assert_eq!(class(again), Some(ErrorClass::NotFound));
}

#[test]
fn a_repeated_token_gives_the_first_eni_and_another_request_with_it_is_refused() {
    let mut bench = bench("10.0.1.0/24");
    let first = bench.create("t", 2);
    let free = bench.free();
    assert_eq!(bench.create("t", 2), first);
    assert_eq!(bench.free(), free);
    let other = bench.wanted("t", AddressRequest::Count(3));
    assert_eq!(class(bench.world.create_eni(&other)), Some(ErrorClass::Bug));
}

#[test]
fn reads_lag_behind_effects_and_catch_up() {
    let mut bench = bench("10.0.1.0/24");
    bench.world.set_read_lag(SECOND * 5);
    bench.world.advance(SECOND * 10);
    let eni = bench.create("t", 1).id;
    let by_id = EniQuery::ByIds(BTreeSet::from([eni.clone()]));
    let tagged =
        EniQuery::Tagged(bench.vpc.clone(), BTreeMap::from([("owner".to_owned(), "spur".to_owned())]));
    assert_eq!(class(bench.world.enis(&by_id)), Some(ErrorClass::NotFound));
    bench.world.advance(SECOND * 4);
    bench.world.assign(&eni, &AddressRequest::Count(1)).unwrap();
    assert_eq!(bench.world.enis(&tagged).unwrap(), []);
    bench.world.advance(SECOND);
    assert_eq!(bench.world.enis(&by_id).unwrap()[0].addresses.len(), 1);
    bench.world.advance(SECOND * 4);
    assert_eq!(bench.world.enis(&tagged).unwrap()[0].addresses.len(), 2);
}

#[test]
fn an_injected_fault_meets_one_call_and_a_lost_reply_leaves_its_effect() {
    let mut bench = bench("10.0.1.0/24");
    bench.world.inject(Api::CreateNetworkInterface, Fault::Refuse(ErrorClass::Throttled));
    bench.world.inject(Api::CreateNetworkInterface, Fault::LoseReply);
    let wanted = bench.wanted("t", AddressRequest::Count(1));
    assert_eq!(class(bench.world.create_eni(&wanted)), Some(ErrorClass::Throttled));
    assert_eq!(bench.world.true_enis().len(), 1);
    assert_eq!(class(bench.world.create_eni(&wanted)), Some(ErrorClass::Transient));
    assert_eq!(bench.world.true_enis().len(), 2);
    assert!(bench.world.create_eni(&wanted).is_ok(), "the token finds it");
    assert_eq!(bench.world.true_enis().len(), 2);
    let outcomes: Vec<_> = bench.world.calls().iter().map(|call| call.outcome).collect();
    assert_eq!(outcomes, [Err(ErrorClass::Throttled), Err(ErrorClass::Transient), Ok(())]);
}

#[test]
fn termination_takes_the_enis_that_die_with_the_instance() {
    let mut bench = bench("10.0.1.0/24");
    let (dies, stays) = (bench.create("a", 0).id, bench.create("b", 0).id);
    let attachment = bench.attach(&dies, 1).unwrap();
    bench.attach(&stays, 2).unwrap();
    bench.world.set_delete_on_termination(&dies, &attachment, true).unwrap();
    let instance = bench.instance.clone();
    bench.world.terminate(&instance);
    assert_eq!(bench.world.true_enis().keys().collect::<Vec<_>>(), [&stays]);
    assert_eq!(bench.world.true_enis()[&stays].status, EniStatus::Available);
    assert_eq!(class(bench.world.instance(&instance)), Some(ErrorClass::NotFound));
}

#[test]
fn the_rest_of_the_facts_is_there() {
    let mut bench = bench("10.0.1.0/24");
    let (vpc, instance) = (bench.vpc.clone(), bench.instance.clone());
    assert_eq!(bench.world.vpc(&vpc).unwrap().cidrs, ["10.0.0.0/16".parse().unwrap()]);
    assert_eq!(bench.world.instance(&instance).unwrap().enis.len(), 1);
    let tags = BTreeMap::from([("role".to_owned(), "pods".to_owned())]);
    let groups = bench.world.security_groups(&vpc, &tags).unwrap();
    assert_eq!(groups, BTreeSet::from([bench.group.clone()]));
    let types = BTreeSet::from(["m5.large".parse().unwrap()]);
    assert_eq!(bench.world.instance_limits(&types).unwrap()[&"m5.large".parse().unwrap()].enis(), 3);
    let eni = bench.create("t", 0).id;
    bench.world.set_source_dest_check(&eni, false).unwrap();
    bench.world.tag_eni(&eni, &tags).unwrap();
    let truth = &bench.world.true_enis()[&eni];
    assert!(!truth.source_dest_check);
    assert_eq!(truth.tags.len(), 2);
    let primary = bench.world.enis(&EniQuery::OfInstance(instance)).unwrap()[0].attachment.clone().unwrap();
    assert_eq!(class(bench.world.detach_eni(&primary.id)), Some(ErrorClass::Denied));
}

#[test]
fn clones_of_the_shared_cloud_see_one_world_through_the_trait() {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};
    let bench = bench("10.0.1.0/24");
    let (instance, cloud) = (bench.instance.clone(), FakeCloud::new(bench.world));
    let twin = cloud.clone();
    let mut ask = std::pin::pin!(async { twin.instance(&instance).await });
    let answer = ask.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(answer, Poll::Ready(Ok(_))), "the fake never waits");
    assert_eq!(cloud.with(|world| world.calls().len()), 1);
}
