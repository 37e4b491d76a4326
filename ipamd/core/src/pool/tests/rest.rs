use super::bed::Bed;
use crate::record::{Intent, IntentId};
use crate::settings::Targets;
use spur_cloud::AddressRequest;
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
fn an_old_release_does_not_take_an_address_that_rests() {
    let (mut bed, address) = one_pod_gone();
    bed.pass(5);
    let mut record = bed.record.clone();
    let (eni, addresses) = (bed.node.primary.clone(), BTreeSet::from([address]));
    record.intents.insert(IntentId(1000), Intent::Unassign { eni, addresses, prefixes: BTreeSet::new() });
    let mut bed = bed.restart(record);
    bed.pass(15);
    let carried = |bed: &Bed| bed.world.true_enis()[&bed.node.primary].addresses.contains(&address);
    assert_eq!((carried(&bed), state(&bed, address)), (true, "cooling"));
    bed.pass(200);
    assert_eq!((state(&bed, address), bed.record.intents.len()), ("free", 0));
}

#[test]
fn an_address_that_was_given_back_after_a_restart_and_comes_again_is_asked_about_first() {
    let (mut bed, address) = one_pod_gone();
    bed.flows = Ok(BTreeSet::from([address]));
    bed.pass(40);
    let mut record = bed.record.clone();
    assert!(record.cooling[&address] < bed.now(), "its time is over, by this clock at least");
    // An older release names it still, because nobody knew what became of it.
    let (eni, addresses) = (bed.node.primary.clone(), BTreeSet::from([address]));
    record.intents.insert(IntentId(1000), Intent::Unassign { eni, addresses, prefixes: BTreeSet::new() });
    let one = BTreeSet::from([address]);
    bed.world.unassign(&bed.node.primary, &one, &BTreeSet::new()).unwrap();
    let mut bed = bed.restart(record);
    bed.pass(1);
    let carried = |bed: &Bed| bed.world.true_enis()[&bed.node.primary].addresses.contains(&address);
    bed.add_many(0..9);
    bed.pass(15);
    assert!(carried(&bed), "EC2 gives it again");
    assert_eq!((bed.pods.len(), state(&bed, address)), (9, "cooling"));
    bed.flows = Ok(BTreeSet::new());
    bed.pass(160);
    assert_eq!(state(&bed, address), "free");
}

#[test]
fn an_address_that_left_is_asked_about_until_no_flow_is_known_and_free_when_it_comes_again() {
    let (mut bed, address) = one_pod_gone();
    bed.flows = Ok(BTreeSet::from([address]));
    let (primary, one) = (bed.node.primary.clone(), BTreeSet::from([address]));
    bed.world.unassign(&primary, &one, &BTreeSet::new()).unwrap();
    bed.pass(300);
    assert!(bed.record.cooling.contains_key(&address), "long over, but busy");
    let asked = bed.probes.len();
    bed.flows = Ok(BTreeSet::new());
    bed.pass(200);
    assert!(bed.probes.len() > asked, "it is asked about though it is not here");
    bed.add("b");
    assert!(!bed.record.cooling.contains_key(&address), "forgotten with the next transaction");
    bed.world.assign(&primary, &AddressRequest::Addresses(one)).unwrap();
    bed.pass(70);
    assert_eq!(state(&bed, address), "free");
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
