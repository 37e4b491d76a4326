use super::bed::Bed;
use crate::settings::Targets;
use std::collections::BTreeSet;

fn one_pod_gone() -> (Bed, std::net::IpAddr) {
    let mut bed = Bed::new("m5.large", &["10.0.0.0/24"], Targets::default());
    bed.add("a");
    let address = bed.del("a").unwrap();
    (bed, address)
}

fn state(bed: &Bed, address: std::net::IpAddr) -> &'static str {
    let view = bed.view();
    let mut addresses = view.enis.iter().flat_map(|eni| &eni.addresses);
    addresses.find(|shown| shown.address == address).unwrap().state
}

#[test]
fn an_address_rests_until_the_kernel_knows_no_flow_to_it() {
    let (mut bed, address) = one_pod_gone();
    bed.flows = Ok(BTreeSet::from([address]));
    bed.pass(29);
    assert!(bed.probes.is_empty(), "not before its time");
    bed.pass(60);
    assert_eq!(state(&bed, address), "cooling");
    assert!((3..=6).contains(&bed.probes.len()), "less and less often: {:?}", bed.probes);
    assert!(bed.record.cooling.contains_key(&address), "a restart would let it rest too");
    assert!(!bed.kinds().contains("flows_linger"));
    bed.pass(600);
    assert_eq!(bed.kinds().iter().filter(|kind| **kind == "flows_linger").count(), 1);
    assert!(bed.probes.len() <= 14, "{}", bed.probes.len());
    bed.flows = Ok(BTreeSet::new());
    bed.pass(160);
    assert_eq!(state(&bed, address), "free");
    assert!(bed.view().findings.is_empty());
    assert!(bed.view().found["flows_linger"] == 1);
}

#[test]
fn a_restart_does_not_cut_the_rest_of_a_busy_address_short() {
    let (mut bed, address) = one_pod_gone();
    bed.flows = Ok(BTreeSet::from([address]));
    bed.pass(40);
    let record = bed.record.clone();
    let mut bed = bed.restart(record);
    bed.pass(30);
    assert_eq!(state(&bed, address), "cooling");
    assert!(!bed.probes.is_empty());
}

#[test]
fn many_addresses_are_asked_about_at_once() {
    let mut bed = Bed::new("m5.24xlarge", &["10.0.0.0/20"], Targets::default());
    bed.add_many(0..100);
    bed.pass(20);
    bed.del_many(0..100);
    bed.pass(31);
    assert_eq!(bed.probes.iter().map(BTreeSet::len).collect::<Vec<_>>(), [100]);
    assert_eq!(bed.view().counts.cooling, 0);
}

#[test]
fn when_nobody_can_tell_the_cooldown_alone_counts_and_that_is_said() {
    let (mut bed, address) = one_pod_gone();
    bed.flows = Err("no permission".to_owned());
    bed.pass(33);
    assert_eq!(state(&bed, address), "cooling", "it is tried again first");
    bed.pass(20);
    assert_eq!((state(&bed, address), bed.probes.len()), ("free", 3));
    assert!(bed.kinds().contains("flows_unknown"));
}
