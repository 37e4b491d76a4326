//! The table against hand-made ports: who is in which set, and which rules an ENI has.

use super::*;
use crate::fabric::plan::Ports;
use crate::fabric::routing::Routing;
use spur_datapath::MacAddr;
use std::collections::BTreeSet;

fn port(index: u32, addresses: &[&str], check: AddressCheck) -> Port {
    let addresses: BTreeSet<Ipv4Net> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Port {
        node: "a".to_owned(),
        card: 0,
        device_index: index,
        mac: MacAddr::new([2, 0, 0, 0, 0, 1]),
        subnet: "10.0.0.0/24".parse().unwrap(),
        primary: addresses.first().unwrap().addr(),
        addresses,
        check,
        table: "rtb-1".to_owned(),
    }
}

fn table() -> Table {
    let rules = Rules { gateways: vec!["10.0.0.1".parse().unwrap()] };
    let ports = Ports::from([
        ("eni-1".to_owned(), port(0, &["10.0.0.4/32", "10.0.0.9/32"], AddressCheck::On)),
        ("eni-2".to_owned(), port(1, &["10.0.0.5/32", "10.0.0.16/28"], AddressCheck::Off)),
    ]);
    let ranges = BTreeSet::from(["10.0.0.0/16".parse().unwrap()]);
    let picture = Picture { ports, routing: Routing { ranges, tables: BTreeMap::new() } };
    rules.table(&picture, &BTreeMap::from([("rtb-1".to_owned(), 3)])).unwrap()
}

fn content(name: &str) -> Content {
    table().sets.into_iter().find(|set| set.name == name).unwrap().content
}

#[test]
fn an_eni_owns_its_addresses_and_every_address_of_its_prefixes() {
    let Content::InterfaceAddresses(owned) = content(OWNED) else { panic!("{:?}", content(OWNED)) };
    let of = |name: &str| owned.iter().filter(|(end, _)| end.as_str() == name).count();
    assert_eq!((of("e1"), of("e2")), (2, 17));
}

#[test]
fn only_the_primary_enis_primary_address_may_leave() {
    assert_eq!(content(PRIMARIES), Content::Prefixes(vec!["10.0.0.4/32".parse().unwrap()]));
}

#[test]
fn gateways_count_as_assigned() {
    let Content::Prefixes(assigned) = content(ASSIGNED) else { panic!("{:?}", content(ASSIGNED)) };
    assert_eq!(assigned.len(), 5);
    assert!(assigned.contains(&"10.0.0.1/32".parse().unwrap()));
}

#[test]
fn the_check_decides_whether_the_source_is_looked_at() {
    let table = table();
    let rules = |name: &str| table.chains.iter().find(|chain| chain.name == name).unwrap().rules.len();
    assert_eq!((rules("from-e1"), rules("from-e2")), (4, 3));
}

#[test]
fn every_counted_reason_has_a_counter() {
    let table = table();
    for rule in table.chains.iter().flat_map(|chain| &chain.rules) {
        for expression in &rule.expressions {
            if let Expr::Count(name) = expression {
                assert!(table.counters.contains(name), "{name}");
            }
        }
    }
    assert_eq!(table.counters.len(), 12);
}

#[test]
fn the_cost_of_a_packet_does_not_grow_with_the_enis() {
    let base = |table: &Table| {
        let hooked = table.chains.iter().filter(|chain| chain.base.is_some());
        hooked.map(|chain| chain.rules.len()).sum::<usize>()
    };
    let empty = Rules { gateways: Vec::new() }.table(&Picture::default(), &BTreeMap::new()).unwrap();
    assert_eq!(base(&table()), base(&empty));
}

#[test]
fn only_an_eni_with_its_check_on_is_guarded() {
    let guarded = ("e1".parse().unwrap(), Verdict::Goto(GUARDING.to_owned()));
    assert_eq!(content(GUARDED), Content::InterfaceVerdicts(vec![guarded]));
}

#[test]
fn a_packet_is_marked_with_the_table_of_its_enis_subnet() {
    let chains = table().chains;
    let from = chains.iter().find(|chain| chain.name == "from-e1").unwrap();
    assert_eq!(from.rules.last().unwrap().expressions, [Expr::SetMark(mark(3))]);
}
