//! Tests of recovering holdings from the kernel.

use super::*;
use spur_cloud::fake::World;
use std::time::Duration;

fn pod(container: &str, address: &str) -> WiredPod {
    let host_mac = names::host_mac(container, "eth0");
    WiredPod { address: address.parse().unwrap(), host_mac, host_if_name: format!("eni{container}") }
}

fn key(container: &str) -> AttachmentKey {
    AttachmentKey {
        network: "spur".to_owned(),
        container_id: container.to_owned(),
        if_name: "eth0".to_owned(),
    }
}

fn enis() -> Vec<Eni> {
    let mut world = World::new();
    let vpc = world.add_vpc("a", &["10.0.0.0/16".parse().unwrap()]);
    let subnet = world.add_subnet("a", &vpc, "zone-a", "10.0.1.0/24".parse().unwrap());
    world.add_instance("a", "m5.large", &subnet).unwrap();
    world.add_instance("b", "m5.large", &subnet).unwrap();
    let mut enis: Vec<Eni> = world.true_enis().values().cloned().collect();
    enis[1].addresses.insert("10.0.1.50".parse().unwrap());
    enis
}

fn times() -> (Timestamp, Timestamp) {
    (Timestamp::default(), Timestamp::from_epoch(Duration::from_secs(30)))
}

#[test]
fn addresses_that_nobody_is_seen_to_hold_rest_first() {
    let enis = enis();
    let mut record = Record::default();
    recover(&mut record, &[], &enis, &enis[0].id, times());
    assert_eq!(record.cooling, [("10.0.1.50".parse().unwrap(), times().1)].into());
}

#[test]
fn a_recovered_pod_is_found_again_by_its_container() {
    let enis = enis();
    let mut record = Record::default();
    record.cooling.insert("10.0.1.50".parse().unwrap(), Timestamp::default());
    let pods = [pod("c1", "10.0.1.50"), pod("c2", "10.0.9.9")];
    recover(&mut record, &pods, &enis, &enis[0].id, times());
    let recovered = Recovered::in_record(&record);
    let found = |container| record.holdings.get(&recovered.resolve(key(container)));
    assert_eq!(found("c1").map(|holding| &holding.eni), Some(&enis[1].id));
    assert_eq!(found("c2").map(|holding| &holding.eni), Some(&enis[0].id), "no ENI shows it: held is held");
    assert!(found("c3").is_none() && recovered.resolve(key("c3")) == key("c3"));
    assert!(record.cooling.is_empty(), "what is held does not rest");
}

#[test]
fn a_pod_in_a_prefix_is_found_on_the_eni_that_carries_the_prefix_and_the_rest_of_it_rests() {
    let mut enis = enis();
    enis[1].addresses.clear();
    enis[1].prefixes.insert("10.0.1.64/28".parse().unwrap());
    let mut record = Record::default();
    recover(&mut record, &[pod("c1", "10.0.1.70")], &enis, &enis[0].id, times());
    let held: Vec<_> = record.holdings.values().map(|holding| &holding.eni).collect();
    assert_eq!(held, [&enis[1].id]);
    assert_eq!(record.cooling.len(), 15, "{:?}", record.cooling);
}

#[test]
fn pods_that_the_record_knows_are_not_recovered_twice() {
    let enis = enis();
    let mut record = Record::default();
    let pods = vec![pod("c1", "10.0.1.50"), pod("c2", "10.0.1.51")];
    recover(&mut record, &pods[..1], &enis, &enis[0].id, times());
    assert_eq!(unknown_pods(&record, pods.clone()), pods[1..]);
    assert_eq!(Recovered::in_record(&Record::default()), Recovered::default());
}
