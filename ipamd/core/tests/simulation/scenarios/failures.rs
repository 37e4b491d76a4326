//! What one failure does: who waits, for how long, what the pods are told, and that nothing is made twice.

use super::{calm, enis_in, first_live, live, pass, pod, told};
use crate::harness::Sim;
use crate::shell::calls;
use spur_cloud::fake::Fault;
use spur_cloud::{AddressRequest, Api, ErrorClass};
use spur_ipamd_core::{Event, Intent, IntentId, Reply, Targets};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

#[test]
fn a_full_subnet_is_left_for_the_next_one() {
    let mut sim = calm(Targets::default());
    pass(&mut sim, 5);
    sim.world.inject(Api::CreateNetworkInterface, Fault::Refuse(ErrorClass::SubnetFull));
    (0..12).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 8);
    assert_eq!((live(&sim), enis_in(&sim, "subnet-b").len()), (12, 1));
}

#[test]
fn the_last_addresses_of_a_tight_subnet_are_found() {
    let mut sim = calm(Targets { max_enis: Some(1), ..Targets::default() });
    for _ in 0..2 {
        sim.world.inject(Api::AssignPrivateIpAddresses, Fault::Refuse(ErrorClass::SubnetFull));
    }
    (0..5).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 60);
    assert_eq!(live(&sim), 5, "{:#?}", sim.pool.view());
}

#[test]
fn a_throttled_call_waits_and_the_pod_is_told_which() {
    let mut sim = calm(Targets::default());
    for _ in 0..3 {
        sim.world.inject(Api::AssignPrivateIpAddresses, Fault::Refuse(ErrorClass::Throttled));
    }
    sim.add(pod(1));
    pass(&mut sim, 3);
    assert_eq!((live(&sim), told(&sim)), (0, vec!["throttled"]));
    assert!(
        !calls(&sim.world).contains_key(&Api::CreateNetworkInterface),
        "throttling is no reason for an ENI"
    );
    pass(&mut sim, 10);
    assert_eq!(live(&sim), 1);
}

#[test]
fn a_missing_permission_is_tried_again_rarely_and_named() {
    let mut sim = calm(Targets::default());
    for _ in 0..3 {
        sim.world.inject(Api::AssignPrivateIpAddresses, Fault::Refuse(ErrorClass::Denied));
    }
    sim.add(pod(1));
    pass(&mut sim, 80);
    assert_eq!(calls(&sim.world)[&Api::AssignPrivateIpAddresses], 1);
    let view = sim.pool.view();
    let words = view.waiting[0].waits[0].to_string();
    assert!(words.starts_with("AssignPrivateIpAddresses is not permitted"), "{words}");
}

#[test]
fn a_creation_whose_answer_is_lost_makes_one_eni() {
    let mut sim = calm(Targets::default());
    sim.world.inject(Api::CreateNetworkInterface, Fault::LoseReply);
    (0..12).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 20);
    assert_eq!(live(&sim), 12);
    assert_eq!(sim.world.true_enis().values().filter(|eni| !eni.tags.is_empty()).count(), 1);
}

#[test]
fn an_assignment_whose_answer_is_lost_is_found_by_looking() {
    let mut sim = calm(Targets::default());
    sim.world.inject(Api::AssignPrivateIpAddresses, Fault::LoseReply);
    (0..5).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 10);
    assert_eq!((live(&sim), calls(&sim.world)[&Api::AssignPrivateIpAddresses]), (5, 1));
}

#[test]
fn an_attachment_whose_answer_is_lost_is_found_by_looking() {
    let mut sim = calm(Targets::default());
    sim.world.inject(Api::AttachNetworkInterface, Fault::LoseReply);
    (0..12).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 20);
    assert_eq!((live(&sim), calls(&sim.world)[&Api::AttachNetworkInterface]), (12, 1));
}

#[test]
fn an_eni_that_finds_no_place_is_deleted_and_the_limit_is_learnt() {
    let mut sim = calm(Targets::default());
    sim.world.inject(Api::AttachNetworkInterface, Fault::Refuse(ErrorClass::QuotaExceeded));
    (0..12).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 30);
    assert_eq!((live(&sim), sim.pool.view().max_enis, told(&sim)), (9, 1, vec!["full"]));
    assert!(sim.world.true_enis().values().all(|eni| eni.tags.is_empty()), "the ENI is deleted");
    pass(&mut sim, 700);
    assert_eq!(live(&sim), 12, "the limit is not believed for ever");
}

#[test]
fn a_device_index_that_another_took_is_left_for_the_next() {
    let mut sim = calm(Targets::default());
    pass(&mut sim, 5);
    let subnet = "subnet-a".parse().unwrap();
    let foreign = sim.foreign_eni(&subnet).unwrap();
    (0..12).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 30);
    assert_eq!(live(&sim), 12);
    let view = sim.pool.view();
    let made = view.enis.iter().find(|eni| eni.phase == "ready" && eni.place.unwrap().ordinal > 0).unwrap();
    assert_eq!(made.place.unwrap().index.0, 2);
    assert_eq!(view.enis.iter().find(|eni| eni.id == foreign).unwrap().phase, "foreign");
}

#[test]
fn a_store_that_fails_gives_nothing_away() {
    let mut sim = calm(Targets::default());
    pass(&mut sim, 5);
    sim.chaos.store_fails = 1000;
    sim.add(pod(1));
    pass(&mut sim, 1);
    assert_eq!((live(&sim), sim.disk.holdings.len()), (0, 0));
    sim.chaos.store_fails = 0;
    sim.pods.clear();
    sim.add(pod(2));
    pass(&mut sim, 1);
    assert_eq!(live(&sim), 1);
}

#[test]
fn an_attachment_is_served_once() {
    let mut sim = calm(Targets::default());
    pass(&mut sim, 5);
    sim.add(pod(1));
    pass(&mut sim, 1);
    let (ticket, stamp) = (sim.ticket(), sim.stamp());
    let actions = sim.pool.step(stamp, Event::Add { ticket, attachment: pod(1), pod: None, sandbox: None });
    let again = |action: &spur_ipamd_core::Action| {
        matches!(action, spur_ipamd_core::Action::Reply { reply: Reply::AlreadyHeld { .. }, .. })
    };
    assert!(actions.iter().any(again), "{actions:?}");
}

#[test]
fn an_address_that_cannot_be_given_back_stays_in_the_stock() {
    let mut sim = calm(Targets { max_above_warm: 0, ..Targets::default() });
    (0..6).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 5);
    sim.world.inject(Api::UnassignPrivateIpAddresses, Fault::Refuse(ErrorClass::Denied));
    for (key, state) in sim.pods.clone() {
        sim.delete(key, &state);
    }
    pass(&mut sim, 150);
    let view = sim.pool.view();
    assert_eq!((view.counts.free, view.counts.leaving), (8, 0));
    assert!(sim.disk.intents.is_empty());
}

#[test]
fn a_release_whose_end_could_not_be_stored_is_closed_on_a_node_at_rest_too() {
    let mut sim = calm(Targets { max_above_warm: 0, ..Targets::default() });
    (0..6).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 5);
    for (key, state) in sim.pods.clone() {
        sim.delete(key, &state);
    }
    while sim.disk.intents.is_empty() {
        pass(&mut sim, 1);
    }
    sim.chaos.store_fails = 1000;
    pass(&mut sim, 200);
    assert_eq!((sim.pool.view().counts.leaving, sim.disk.intents.len()), (0, 1));
    sim.chaos.store_fails = 0;
    pass(&mut sim, 90);
    assert!(sim.disk.intents.is_empty());
}

#[test]
fn an_address_that_a_clock_set_forward_let_go_is_not_handed_out_while_its_connections_live() {
    let mut sim = calm(Targets { max_enis: Some(1), ..Targets::default() });
    sim.add(pod(0));
    pass(&mut sim, 5);
    let (key, address, eni) = first_live(&sim);
    let state = sim.pods[&key].clone();
    sim.delete(key, &state);
    sim.flows.insert(address, sim.now() + Duration::from_secs(200));
    pass(&mut sim, 5);
    // A release from before names it still, because nobody knows what became of it.
    let release = Intent::Unassign {
        eni: eni.clone(),
        addresses: BTreeSet::from([address]),
        prefixes: BTreeSet::new(),
    };
    sim.disk.intents.insert(IntentId(1000), release);
    sim.world.unassign(&eni, &BTreeSet::from([address]), &BTreeSet::new()).unwrap();
    sim.set_clock(true, Duration::from_secs(3600));
    sim.crash();
    pass(&mut sim, 5);
    (1..=8).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 30);
    assert!(sim.world.true_enis()[&eni].addresses.contains(&address), "EC2 gives it again");
    assert_eq!((live(&sim), sim.pool.view().counts.cooling), (8, 1));
    pass(&mut sim, 300);
    assert_eq!(sim.pool.view().counts.cooling, 0);
}

#[test]
fn a_meddler_cannot_make_the_pool_exceed_a_quota() {
    let mut sim = calm(Targets { max_enis: Some(1), ..Targets::default() });
    pass(&mut sim, 5);
    let primary = sim.pool.view().enis[0].id.clone();
    let view = sim.pool.view();
    let room = view.enis[0].capacity - u32::try_from(view.enis[0].addresses.len()).unwrap();
    sim.world.assign(&primary, &AddressRequest::Count(room)).unwrap_or_default();
    (0..9).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 10);
    assert_eq!(live(&sim), 9, "what appeared is taken up");
}

#[test]
fn a_creation_that_may_have_worked_and_is_refused_later_is_searched() {
    let mut sim = calm(Targets::default());
    pass(&mut sim, 5);
    sim.world.inject(Api::CreateNetworkInterface, Fault::LoseReply);
    sim.world.inject(Api::CreateNetworkInterface, Fault::Refuse(ErrorClass::Bug));
    (0..12).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 40);
    assert_eq!((live(&sim), calls(&sim.world)[&Api::CreateNetworkInterface]), (12, 2));
    assert_eq!(sim.world.true_enis().values().filter(|eni| !eni.tags.is_empty()).count(), 1);
}

#[test]
fn addresses_that_an_unclear_call_may_still_take_are_not_handed_out_when_the_next_one_is_refused() {
    let mut sim = calm(Targets { max_above_warm: 0, ..Targets::default() });
    (0..6).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 5);
    sim.world.inject(Api::UnassignPrivateIpAddresses, Fault::Refuse(ErrorClass::Transient));
    sim.world.inject(Api::UnassignPrivateIpAddresses, Fault::Refuse(ErrorClass::Throttled));
    for (key, state) in sim.pods.clone() {
        sim.delete(key, &state);
    }
    while calls(&sim.world).get(&Api::UnassignPrivateIpAddresses) != Some(&2) {
        sim.pass(Duration::from_millis(100));
    }
    sim.pass(Duration::from_millis(300));
    let counts = sim.pool.view().counts;
    assert_eq!((counts.free, counts.leaving), (2, 6));
    pass(&mut sim, 120);
    assert_eq!(sim.leftovers(), Vec::<String>::new());
}

#[test]
fn an_address_that_comes_back_while_an_old_release_may_still_arrive_stays_out_of_the_kernel() {
    let mut sim = calm(Targets { max_above_warm: 0, ..Targets::default() });
    (0..6).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 5);
    sim.world.inject(Api::UnassignPrivateIpAddresses, Fault::Refuse(ErrorClass::Transient));
    for (key, state) in sim.pods.clone() {
        sim.delete(key, &state);
    }
    let there = |sim: &Sim| sim.world.true_enis()[&sim.pool.view().enis[0].id].addresses.clone();
    let all = there(&sim);
    while calls(&sim.world).get(&Api::UnassignPrivateIpAddresses) != Some(&2) {
        sim.pass(Duration::from_millis(100));
    }
    pass(&mut sim, 1);
    let gone: BTreeSet<IpAddr> = all.difference(&there(&sim)).copied().collect();
    (10..14).for_each(|number| sim.add(pod(number)));
    sim.pass(Duration::from_secs(5));
    let again: Vec<IpAddr> = there(&sim).intersection(&gone).copied().collect();
    let in_kernel = |sim: &Sim, address: &IpAddr| sim.kernel.applied.enis[0].addresses.contains(address);
    assert!(!again.is_empty() && !again.iter().any(|address| in_kernel(&sim, address)), "{again:?}");
    let cleared = (0..150).any(|_| {
        pass(&mut sim, 1);
        again.iter().all(|address| in_kernel(&sim, address))
    });
    assert!(cleared, "in doubt only for a time");
    assert_eq!(live(&sim), 4);
}
