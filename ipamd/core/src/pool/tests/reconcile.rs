use super::bed::Bed;
use super::delegated;
use crate::record::Record;
use crate::settings::{NO_MANAGE_TAG, PrefixDelegation, Targets};
use spur_cloud::fake::Fault;
use spur_cloud::{AddressRequest, Api, Eni, ErrorClass};
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn an_address_whose_prefix_was_lost_is_brought_back_by_itself() {
    let mut bed = Bed::new("m5.large", &["10.0.0.0/24"], delegated(PrefixDelegation::On));
    bed.add_many(0..3);
    bed.pass(70);
    let primary = bed.node.primary.clone();
    let lost = bed.world.true_enis()[&primary].prefixes.clone();
    bed.world.unassign(&primary, &BTreeSet::new(), &lost).unwrap();
    bed.pass(70);
    bed.check_pods();
    assert!(bed.kinds().contains("held_address_missing"));
    assert_eq!(bed.real(), (3, 1), "and a new prefix for the next ones");
    bed.pass(70);
    assert!(bed.view().findings.is_empty(), "{:?}", bed.view().findings);
}

#[test]
fn a_pod_whose_address_somebody_else_took_has_a_broken_network_until_it_is_back() {
    let mut bed = Bed::new("m5.large", &["10.0.0.0/24"], Targets::default());
    bed.add("a");
    bed.pass(70);
    let (primary, address) = (bed.node.primary.clone(), BTreeSet::from([bed.pods["a"]]));
    let other = bed.world.add_instance("other", "m5.large", &super::bed::subnet("a")).unwrap();
    let of = |eni: &&Eni| eni.attachment.as_ref().unwrap().instance.as_ref() == Some(&other);
    let thief = bed.world.true_enis().values().find(of).unwrap().id.clone();
    bed.world.unassign(&primary, &address, &BTreeSet::new()).unwrap();
    bed.world.assign(&thief, &AddressRequest::Addresses(address.clone())).unwrap();
    bed.pass(90);
    assert!(bed.view().findings.iter().any(|finding| finding.kind() == "pod_network_broken"));
    assert_eq!(bed.record.holdings.len(), 1, "it is kept");
    bed.world.unassign(&thief, &address, &BTreeSet::new()).unwrap();
    bed.pass(300);
    bed.check_pods();
    assert!(bed.view().findings.is_empty(), "{:?}", bed.view().findings);
}

#[test]
fn an_eni_that_cannot_be_attached_is_deleted_again() {
    let mut bed = Bed::new("m5.large", &["10.0.0.0/24"], Targets::default());
    for _ in 0..4 {
        bed.world.inject(Api::AttachNetworkInterface, Fault::Refuse(ErrorClass::Denied));
    }
    bed.add_many(0..12);
    bed.pass(250);
    assert!(bed.count(Api::DeleteNetworkInterface) >= 1);
    assert!(bed.kinds().contains("attach_timed_out"));
    bed.pass(1200);
    assert_eq!(bed.pods.len(), 12, "it works in the end");
    let loose = bed.world.true_enis().values().filter(|eni| eni.attachment.is_none()).count();
    assert_eq!((loose, bed.record.intents.len()), (0, 0), "nothing leaks");
}

/// A node whose store is lost between the creation of an ENI and its attachment.
fn forgetful() -> Bed {
    let mut bed = Bed::new("m5.large", &["10.0.0.0/24"], Targets::default());
    bed.world.inject(Api::AttachNetworkInterface, Fault::Refuse(ErrorClass::Throttled));
    bed.add_many(0..12);
    assert_eq!(bed.world.true_enis().len(), 2);
    bed.del_many(0..12);
    bed.restart(Record::default())
}

#[test]
fn an_eni_that_nobody_remembers_is_found_by_its_tags_and_deleted() {
    let mut bed = forgetful();
    let before = bed.world.calls().len();
    bed.pass(50);
    assert_eq!(bed.world.calls().len(), before, "no hurry");
    bed.pass(80);
    assert!(bed.kinds().contains("leftover_eni"), "{:?}", bed.found);
    assert_eq!((bed.world.true_enis().len(), bed.record.intents.len()), (1, 0));
}

#[test]
fn an_eni_that_nobody_remembers_is_taken_into_use_when_it_is_needed() {
    let mut bed = forgetful();
    bed.world.inject(Api::CreateNetworkInterface, Fault::Refuse(ErrorClass::Denied));
    bed.add_many(20..32);
    bed.pass(100);
    assert_eq!((bed.pods.len(), bed.world.true_enis().len()), (12, 2));
    assert_eq!(bed.count(Api::DeleteNetworkInterface), 0);
}

#[test]
fn an_eni_that_an_operator_takes_out_of_our_hands_keeps_its_pods_and_gets_no_more() {
    let mut bed = Bed::new("m5.large", &["10.0.0.0/24"], Targets::default());
    bed.add_many(0..12);
    bed.pass(10);
    let second = bed.world.true_enis().keys().find(|id| **id != bed.node.primary).unwrap().clone();
    bed.world.tag_eni(&second, &BTreeMap::from([(NO_MANAGE_TAG.to_owned(), "true".to_owned())])).unwrap();
    bed.pass(70);
    let before = bed.world.true_enis()[&second].clone();
    bed.add_many(20..29);
    bed.pass(20);
    bed.check_pods();
    assert_eq!(bed.world.true_enis()[&second], before);
    assert_eq!(bed.pods.len(), 21, "another ENI serves them");
    for pod in 0..12 {
        bed.del(&pod.to_string());
    }
    bed.pass(200);
    assert!(bed.world.true_enis().contains_key(&second), "it is left alone");
    assert!(bed.view().enis.iter().any(|eni| eni.id == second && eni.phase == "foreign"));
    assert!(bed.view().found["foreign_eni"] >= 1);
}

#[test]
fn an_eni_without_an_address_is_never_ours_whatever_its_tags() {
    let mut bed = Bed::new("m5.large", &["10.0.0.0/24"], Targets::default());
    bed.add_many(0..12);
    bed.pass(10);
    let mut second = bed.world.true_enis().values().find(|eni| eni.id != bed.node.primary).unwrap().clone();
    assert!(bed.settings.eni.owns(&second));
    second.primary = Eni::NO_ADDRESS;
    assert!(!bed.settings.eni.owns(&second));
}

#[test]
fn what_ec2_gave_without_saying_so_is_found_by_looking_and_not_asked_for_again() {
    let mut bed = Bed::new("m5.large", &["10.0.0.0/24"], Targets { warm_ip_target: 0, ..Targets::default() });
    bed.is_mute = true;
    bed.add_many(0..5);
    bed.pass(10);
    assert_eq!(bed.pods.len(), 5);
    assert_eq!(bed.count(Api::AssignPrivateIpAddresses), 1);
    assert!(bed.kinds().contains("bad_answer") && !bed.kinds().contains("address_adopted"));
}
