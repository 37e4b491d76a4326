//! Every filter that an action accepts must have values: one that is accepted and never matches would silently hide
//! everything. Each list of filters is asked against a world in which each of them applies. What filters then do is tested
//! through the API in `tests/reads.rs`.

use super::*;
use crate::scenario::Scenario;
use crate::time::SimTime;
use crate::world::eni::{NewEni, Wanted};
use crate::world::routing::Associated;
use std::time::Duration;

fn world() -> World {
    let scenario = "
name: test
vpc: {cidrs: [10.0.0.0/16]}
subnets: [{name: a, zone: eu-central-1a, cidr: 10.0.0.0/24}]
routeTables:
  - name: all
    main: true
    subnets: [a]
    routes:
      - {destination: 192.168.0.0/16, target: n1}
      - {destination: '2001:db8::/32', target: n1}
      - {destination: 192.0.0.0/28, target: nat-0123456789abcdef0}
      - {destination: 192.0.0.16/28, target: tgw-0123456789abcdef0}
      - {destination: 192.0.0.32/28, target: pcx-0123456789abcdef0}
      - {destination: '::/0', target: eigw-0123456789abcdef0}
nodes: [{name: n1, type: m5.large, subnet: a}]
";
    World::new(&Scenario::parse(scenario).unwrap(), SimTime(Duration::from_secs(1_780_000_000)))
}

fn without_values<'f>(filters: &[&'f str], values: impl Fn(&str) -> Vec<String>) -> Vec<&'f str> {
    filters.iter().copied().filter(|name| *name != "tag-key" && values(name).is_empty()).collect()
}

#[test]
fn every_known_filter_has_values() {
    let mut world = world();
    let instance = world.node("n1").unwrap().clone();
    let new = NewEni {
        description: "x".to_owned(),
        wanted: Wanted::Count(1),
        ..NewEni::plain(instance.subnet.clone(), instance.groups.clone())
    };
    let eni = world.create_eni(new).unwrap();
    world.attach(&eni, &instance.id, 1, None, SimTime::default()).unwrap();
    let (eni, subnet) = (world.eni(&eni).unwrap(), world.subnets.values().next().unwrap());
    let group = world.groups.values().next().unwrap();
    let limits = spur_quotas::builtin("m5.large").unwrap();
    let none: [&str; 0] = [];
    assert_eq!(without_values(interfaces::FILTERS, |name| interfaces::values(&world, eni, name)), none);
    assert_eq!(without_values(instances::FILTERS, |name| instances::values(&world, &instance, name)), none);
    assert_eq!(without_values(subnets::FILTERS, |name| subnets::values(&world, subnet, name)), none);
    assert_eq!(without_values(groups::FILTERS, |name| groups::values(&world, group, name)), none);
    assert_eq!(without_values(vpcs::FILTERS, |name| vpcs::values(&world, name)), none);
    let table = world.routing.tables.keys().next().unwrap().clone();
    world.associate(&table, Associated::Internet).unwrap();
    let table = world.table(&table).unwrap();
    let seen = (table, world.routes(table));
    let of_tables = without_values(route_tables::FILTERS, |name| route_tables::values(&world, &seen, name));
    // No route of this world has a prefix list for a destination.
    assert_eq!(of_tables, ["route.destination-prefix-list-id"]);
    let types =
        without_values(instance_types::FILTERS, |name| instance_types::values("m5.large", &limits, name));
    assert_eq!(types, none);
}
