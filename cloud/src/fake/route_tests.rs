//! Route tables of the fake: quotas, refusals, blackholes, and reads that flip-flop.

use super::*;
use crate::{Api, Association, Destination, ErrorClass, Route, RouteOrigin, RouteState, RouteTarget};
use std::time::Duration;

struct Bench {
    world: World,
    table: RouteTableId,
    eni: EniId,
    instance: InstanceId,
}

fn bench() -> Bench {
    let mut world = World::new();
    let vpc = world.add_vpc("a", &["10.0.0.0/16".parse().unwrap()]);
    let subnet = world.add_subnet("a", &vpc, "eu-a", "10.0.1.0/24".parse().unwrap());
    let instance = world.add_instance("a", "m5.large", &subnet).unwrap();
    let eni = world.true_enis().keys().next().unwrap().clone();
    let table = world.add_route_table("a", &vpc, &[Association::Main], &[("role", "pods")]);
    Bench { world, table, eni, instance }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

impl Bench {
    fn create(&mut self, destination: &str) -> Result<(), CloudError> {
        self.world.create_route(&self.table, net(destination), &self.eni)
    }

    fn read(&mut self) -> RouteTable {
        let query = RouteTableQuery::ByIds(BTreeSet::from([self.table.clone()]));
        self.world.route_tables(&query).unwrap().remove(0)
    }
}

fn class<T>(result: Result<T, CloudError>) -> Option<ErrorClass> {
    result.err().map(|error| error.class())
}

#[test]
fn a_route_is_made_once_replaced_in_place_and_deleted_once() {
    let mut bench = bench();
    let (table, eni) = (bench.table.clone(), bench.eni.clone());
    let pods = net("10.4.0.0/25");
    assert_eq!(class(bench.world.replace_route(&table, pods, &eni)), Some(ErrorClass::NoRoute));
    bench.create("10.4.0.0/25").unwrap();
    assert_eq!(class(bench.create("10.4.0.0/25")), Some(ErrorClass::Conflict));
    bench.world.replace_route(&table, pods, &eni).unwrap();
    assert_eq!(bench.read().route(pods).unwrap().target, RouteTarget::Eni(eni));
    bench.world.delete_route(&table, pods).unwrap();
    assert_eq!(class(bench.world.delete_route(&table, pods)), Some(ErrorClass::NoRoute));
}

#[test]
fn each_family_has_its_own_quota_and_propagated_routes_do_not_count() {
    let mut bench = bench();
    bench.world.set_route_quota(2);
    let propagated = Route {
        destination: Destination::Cidr(net("192.168.0.0/16")),
        target: RouteTarget::Other("vgw-1".to_owned()),
        origin: RouteOrigin::EnableVgwRoutePropagation,
        state: RouteState::Active,
    };
    bench.world.put_route(&bench.table.clone(), propagated);
    bench.create("10.4.0.0/25").unwrap();
    assert_eq!(class(bench.create("10.4.0.128/25")), Some(ErrorClass::QuotaExceeded), "local and one more");
    bench.create("2001:db8::/80").unwrap();
    bench.create("2001:db8:1::/80").unwrap();
    assert_eq!(class(bench.create("2001:db8:2::/80")), Some(ErrorClass::QuotaExceeded));
}

#[test]
fn the_vpcs_own_and_ec2s_own_addresses_are_refused() {
    let mut bench = bench();
    for taken in ["10.0.7.0/25", "10.0.0.0/16", "169.254.169.0/24", "fd00:ec2::/40"] {
        assert!(
            matches!(class(bench.create(taken)), Some(ErrorClass::Bug | ErrorClass::Conflict)),
            "{taken}"
        );
    }
    bench.create("10.0.0.0/8").unwrap();
}

#[test]
fn a_route_to_an_eni_that_is_gone_is_a_blackhole_and_a_new_one_is_refused() {
    let mut bench = bench();
    bench.create("10.4.0.0/25").unwrap();
    assert_eq!(bench.read().routes[1].state, RouteState::Active);
    bench.world.terminate(&bench.instance.clone());
    assert_eq!(bench.read().routes[1].state, RouteState::Blackhole);
    assert_eq!(class(bench.create("10.4.0.128/25")), Some(ErrorClass::NotFound));
}

#[test]
fn reads_flip_flop_until_a_write_has_settled() {
    let mut bench = bench();
    bench.world.set_read_lag(Duration::from_secs(5));
    bench.create("10.4.0.0/25").unwrap();
    let seen = [(); 4].map(|()| bench.read().routes.len());
    assert_eq!(seen, [1, 2, 1, 2]);
    bench.world.advance(Duration::from_secs(5));
    assert_eq!([(); 3].map(|()| bench.read().routes.len()), [2; 3]);
}

#[test]
fn tables_are_found_by_tag_and_those_that_are_gone_are_left_out() {
    let mut bench = bench();
    let (table, key) = (bench.table.clone(), "owner".to_owned());
    bench.world.tag_route_table(&table, &BTreeMap::from([(key.clone(), "spur".to_owned())])).unwrap();
    let vpc = bench.read().vpc;
    let query = RouteTableQuery::Tagged(vpc, BTreeMap::from([(key.clone(), "spur".to_owned())]));
    assert_eq!(bench.world.route_tables(&query).unwrap().len(), 1);
    bench.world.untag_route_table(&table, &BTreeSet::from([key])).unwrap();
    assert!(bench.world.route_tables(&query).unwrap().is_empty());
    bench.world.lose_route_table(&table);
    let by_id = RouteTableQuery::ByIds(BTreeSet::from([table.clone()]));
    assert!(bench.world.route_tables(&by_id).unwrap().is_empty());
    assert_eq!(class(bench.create("10.4.0.0/25")), Some(ErrorClass::NotFound));
    assert_eq!(bench.world.calls().last().map(|call| call.api), Some(Api::CreateRoute));
}
