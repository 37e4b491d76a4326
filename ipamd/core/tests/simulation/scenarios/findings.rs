//! What EC2 shows against our book: reported, repaired where a pod is concerned, never obeyed against one.

use super::{calm, findings, first_live, live, pass, pod};
use crate::chaos::Chaos;
use crate::harness::Sim;
use crate::shell::calls;
use spur_cloud::{AddressRequest, Api};
use spur_ipamd_core::{Targets, Timings};
use std::collections::BTreeSet;
use std::time::Duration;

#[test]
fn an_address_taken_from_a_pod_is_brought_back() {
    let mut sim = calm(Targets::default());
    (0..5).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 100);
    let (_, address, eni) = first_live(&sim);
    sim.world.unassign(&eni, &BTreeSet::from([address]), &BTreeSet::new()).unwrap();
    sim.robbed.insert((address, eni.clone()));
    pass(&mut sim, 80);
    assert!(sim.world.true_enis()[&eni].addresses.contains(&address));
    pass(&mut sim, 80);
    assert_eq!((live(&sim), findings(&sim)), (5, vec![]));
}

#[test]
fn an_address_of_a_pod_that_moved_to_another_eni_is_kept_and_reported() {
    let mut sim = calm(Targets::default());
    (0..5).for_each(|number| sim.add(pod(number)));
    (5..14).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 100);
    let (key, address, eni) = first_live(&sim);
    let other = sim.pool.view().enis.iter().map(|eni| eni.id.clone()).find(|id| *id != eni).unwrap();
    let spare = sim.pool.view().enis.iter().find(|view| view.id == other).unwrap().addresses.clone();
    let spare = spare.iter().find(|address| address.state == "free").unwrap().address;
    sim.world.unassign(&other, &BTreeSet::from([spare]), &BTreeSet::new()).unwrap();
    sim.world.unassign(&eni, &BTreeSet::from([address]), &BTreeSet::new()).unwrap();
    sim.world.assign(&other, &AddressRequest::Addresses(BTreeSet::from([address]))).unwrap();
    sim.robbed.insert((address, eni.clone()));
    pass(&mut sim, 130);
    assert!(findings(&sim).contains(&"held_address_elsewhere"), "{:?}", findings(&sim));
    assert_eq!(sim.disk.holdings[&key].address, address);
}

#[test]
fn a_free_address_that_vanished_is_forgotten_and_replaced() {
    let mut sim = calm(Targets { warm_ip_target: 5, ..Targets::default() });
    pass(&mut sim, 100);
    let eni = sim.pool.view().enis[0].clone();
    let all: BTreeSet<_> = eni.addresses.iter().map(|address| address.address).collect();
    sim.world.unassign(&eni.id, &all, &BTreeSet::new()).unwrap();
    pass(&mut sim, 90);
    assert!(sim.pool.view().counts.free >= 5);
    assert_eq!(sim.leftovers(), Vec::<String>::new());
}

#[test]
fn a_foreign_eni_is_left_alone_and_counted() {
    let mut sim = calm(Targets::default());
    let foreign = sim.foreign_eni(&"subnet-a".parse().unwrap()).unwrap();
    (0..28).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 60);
    assert_eq!((live(&sim), findings(&sim)), (18, vec!["foreign_eni"]));
    let calls = calls(&sim.world);
    // One attachment is the foreign one's.
    assert_eq!((calls[&Api::AttachNetworkInterface], calls.get(&Api::DetachNetworkInterface)), (2, None));
    assert!(sim.world.true_enis().contains_key(&foreign));
}

#[test]
fn an_eni_with_pods_that_is_detached_by_somebody_is_kept_in_the_book() {
    let mut sim = calm(Targets::default());
    (0..14).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 100);
    let view = sim.pool.view();
    let second = view.enis.iter().find(|eni| eni.place.unwrap().ordinal > 0).unwrap().id.clone();
    let attachment = sim.world.true_enis()[&second].attachment.clone().unwrap().id;
    for address in sim.world.true_enis()[&second].addresses.clone() {
        sim.robbed.insert((address, second.clone()));
    }
    sim.robbed_enis.insert(second.clone());
    sim.world.detach_eni(&attachment).unwrap();
    pass(&mut sim, 200);
    assert_eq!(live(&sim), 14, "no pod lost its address in the book");
    assert_eq!(findings(&sim), ["held_eni_gone"]);
    let kernel: BTreeSet<_> = sim.kernel.applied.enis.iter().map(|eni| eni.eni.clone()).collect();
    assert!(kernel.contains(&second), "the kernel keeps it");
}

#[test]
fn an_unused_eni_that_somebody_detached_is_deleted() {
    let mut sim = calm(Targets { warm_ip_target: 12, ..Targets::default() });
    pass(&mut sim, 100);
    let view = sim.pool.view();
    let second = view.enis.iter().find(|eni| eni.place.unwrap().ordinal > 0).unwrap().id.clone();
    let attachment = sim.world.true_enis()[&second].attachment.clone().unwrap().id;
    sim.world.detach_eni(&attachment).unwrap();
    pass(&mut sim, 300);
    assert_eq!(sim.leftovers(), Vec::<String>::new());
    assert!(!sim.world.true_enis().contains_key(&second));
}

#[test]
fn an_eni_that_was_detached_under_its_pods_is_deleted_when_nothing_rests_on_it() {
    let mut sim = calm(Targets::default());
    (0..14).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 100);
    let view = sim.pool.view();
    let second = view.enis.iter().find(|eni| eni.place.unwrap().ordinal > 0).unwrap().id.clone();
    let eni = sim.world.true_enis()[&second].clone();
    sim.robbed.extend(eni.addresses.iter().map(|address| (*address, second.clone())));
    sim.robbed_enis.insert(second.clone());
    sim.world.detach_eni(&eni.attachment.unwrap().id).unwrap();
    pass(&mut sim, 200);
    for (key, state) in sim.pods.clone() {
        sim.delete(key, &state);
    }
    pass(&mut sim, 300);
    assert!(!sim.world.true_enis().contains_key(&second), "{:#?}", sim.pool.view());
    assert_eq!(sim.leftovers(), Vec::<String>::new());
}

#[test]
fn a_resting_address_that_vanishes_and_comes_back_still_rests() {
    let timings = Timings { reconcile: Duration::from_secs(4), ..Timings::default() };
    let mut sim = Sim::with(1, Chaos::calm(), Targets::default(), timings);
    (0..3).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 100);
    let (key, address, eni) = first_live(&sim);
    let state = sim.pods[&key].clone();
    sim.delete(key, &state);
    pass(&mut sim, 1);
    sim.world.unassign(&eni, &BTreeSet::from([address]), &BTreeSet::new()).unwrap();
    let of = |sim: &Sim| {
        let view = sim.pool.view().enis[0].addresses.clone();
        view.iter().find(|shown| shown.address == address).map(|shown| shown.state)
    };
    pass(&mut sim, 8);
    assert_eq!(of(&sim), None);
    sim.world.assign(&eni, &AddressRequest::Addresses(BTreeSet::from([address]))).unwrap();
    pass(&mut sim, 8);
    assert_eq!(of(&sim), Some("cooling"));
}
