use super::bed::{Bed, subnet};
use super::delegated;
use crate::record::{Intent, StoreChange};
use crate::settings::{PrefixDelegation, Targets};
use crate::time::Jitter;
use spur_cloud::{AddressRequest, Api, Eni, EniId};
use std::collections::BTreeSet;
use std::time::Duration;

use PrefixDelegation::{Auto, Off, On};

const ROOMY: &[&str] = &["10.0.0.0/20"];

#[test]
fn a_node_with_prefixes_begins_with_one_and_serves_sixteen_pods_without_a_call() {
    let mut bed = Bed::new("m5.large", ROOMY, delegated(On));
    assert_eq!(bed.real(), (0, 1));
    let before = bed.world.calls().len();
    bed.add_many(0..14);
    assert_eq!((bed.pods.len(), bed.world.calls().len()), (14, before));
    bed.add_many(14..110);
    bed.pass(10);
    assert_eq!(bed.pods.len(), 110);
    bed.check_pods();
    assert!(bed.real().1 <= 8, "{:?}", bed.real());
}

#[test]
fn pods_are_packed_and_whole_prefixes_go_back_soon_after_their_rest() {
    let mut bed = Bed::new("m5.large", ROOMY, delegated(On));
    bed.add_many(0..46);
    bed.pass(5);
    assert_eq!(bed.real().1, 3);
    bed.del_many(0..40);
    bed.pass(29);
    assert_eq!(bed.real().1, 3, "they rest");
    bed.pass(80);
    bed.check_pods();
    let view = bed.view();
    assert!(bed.real().1 <= 2, "{view:#?}");
    let partly = view.counts.used_prefixes;
    assert_eq!(view.counts.free_prefixes + partly, u32::try_from(bed.real().1).unwrap());
    bed.add_many(100..110);
    assert_eq!(bed.view().counts.used_prefixes, partly, "the used one is filled first");
}

#[test]
fn several_prefixes_go_back_in_one_call() {
    let mut bed = Bed::new("m5.large", ROOMY, delegated(On));
    bed.add_many(0..120);
    bed.pass(20);
    bed.del_many(0..120);
    bed.pass(200);
    assert_eq!(bed.real(), (0, 1));
    assert!(bed.count(Api::UnassignPrivateIpAddresses) <= 3, "one call per ENI at most");
}

#[test]
fn auto_begins_with_single_addresses_and_takes_prefixes_when_they_are_worth_it() {
    let mut bed = Bed::new("m5.large", ROOMY, delegated(Auto));
    assert_eq!(bed.real(), (2, 0), "a warm stock of two is not worth a prefix");
    bed.add_many(0..10);
    bed.pass(5);
    assert_eq!((bed.pods.len(), bed.real()), (10, (2, 1)));
}

#[test]
fn a_type_without_nitro_has_no_prefixes_whatever_is_set() {
    let mut bed = Bed::new("t2.medium", ROOMY, delegated(On));
    bed.add_many(0..4);
    bed.pass(5);
    assert_eq!(bed.real().1, 0);
    assert_eq!(bed.pods.len(), 4);
}

/// Takes every second address of a subnet, so that no /28 is free.
fn fragment(bed: &mut Bed, name: &str) -> Vec<EniId> {
    let home = subnet(name);
    let base: u32 = match name {
        "a" => u32::from(std::net::Ipv4Addr::new(10, 0, 0, 0)),
        _ => u32::from(std::net::Ipv4Addr::new(10, 0, 1, 0)),
    };
    let other = bed.world.add_instance(&format!("hog{name}"), "m5.24xlarge", &home).unwrap();
    let of = |eni: &&Eni| eni.attachment.as_ref().is_some_and(|at| at.instance.as_ref() == Some(&other));
    let hog = bed.world.true_enis().values().find(of).unwrap().id.clone();
    let taken: BTreeSet<std::net::IpAddr> = bed
        .world
        .true_enis()
        .values()
        .flat_map(|eni| eni.addresses.iter().copied().chain([eni.primary]))
        .collect();
    let every: BTreeSet<std::net::IpAddr> = (1..8)
        .map(|block| std::net::IpAddr::from(std::net::Ipv4Addr::from(base + block * 16 + 5)))
        .filter(|address| !taken.contains(address))
        .collect();
    bed.world.assign(&hog, &AddressRequest::Addresses(every)).unwrap();
    vec![hog]
}

#[test]
fn a_subnet_without_a_free_28_gives_single_addresses_until_it_has_one() {
    let mut bed = Bed::new("m5.large", &["10.0.0.0/25"], Targets { warm_ip_target: 1, ..delegated(Off) });
    let hogs = fragment(&mut bed, "a");
    let targets = Targets { max_enis: Some(1), warm_ip_target: 4, ..delegated(On) };
    bed.reload(|settings| settings.targets = targets);
    bed.add_many(0..5);
    bed.pass(5);
    assert_eq!((bed.pods.len(), bed.real().1), (5, 0));
    let view = bed.view();
    assert!(view.blocked.iter().any(|wait| wait.kind() == "no_free_prefix"), "{:?}", view.blocked);
    assert!(bed.kinds().contains("subnet_fragmented"));
    let hogged = bed.world.true_enis()[&hogs[0]].addresses.clone();
    bed.world.unassign(&hogs[0], &hogged, &BTreeSet::new()).unwrap();
    bed.pass(400);
    assert_eq!(bed.real().1, 1, "it recovers");
    bed.check_pods();
    bed.pass(300);
    assert_eq!(bed.real(), (5, 1), "free single addresses went back, those of pods stay");
    assert!(bed.view().findings.is_empty(), "{:?}", bed.view().findings);
}

#[test]
fn a_full_eni_gives_up_one_free_address_and_not_its_stock_to_ask_for_a_prefix_again() {
    let mut bed = Bed::new("m5.large", &["10.0.0.0/25"], delegated(Off));
    fragment(&mut bed, "a");
    bed.reload(|settings| settings.targets = Targets { max_enis: Some(1), ..delegated(On) });
    bed.pass(1500);
    assert_eq!(bed.real(), (8, 0));
    assert_eq!(bed.given_back.len(), 1, "a place is enough: {:?}", bed.given_back);
    assert!(bed.count(Api::AssignPrivateIpAddresses) >= 6, "it is asked again");
}

#[test]
fn a_fragmented_subnet_is_no_finding_any_more_when_no_prefixes_are_used() {
    let mut bed = Bed::new("m5.large", &["10.0.0.0/25"], delegated(Off));
    fragment(&mut bed, "a");
    bed.reload(|settings| settings.targets.prefix_delegation = On);
    bed.add_many(0..10);
    bed.pass(5);
    assert_eq!(bed.view().findings.len(), 1, "{:?}", bed.view().findings);
    bed.reload(|settings| settings.targets.prefix_delegation = Off);
    assert_eq!(bed.view().findings, []);
}

#[test]
fn a_store_that_takes_no_release_is_asked_again_later_and_not_at_once() {
    let mut bed =
        Bed::new("m5.large", ROOMY, Targets { warm_ip_target: 7, max_enis: Some(1), ..Targets::default() });
    bed.refused = |change| matches!(change, StoreChange::PutIntent(_, Intent::Unassign { .. }));
    bed.reload(|settings| settings.targets.prefix_delegation = On);
    let steps = bed.steps;
    bed.pass(100);
    assert!(bed.steps < steps + 200, "{} steps in 100 s", bed.steps - steps);
    bed.refused = |_| false;
    bed.pass(150);
    assert_eq!(bed.real(), (0, 1));
}

#[test]
fn a_sibling_subnet_with_a_free_28_comes_before_single_addresses() {
    let mut bed = Bed::new("m5.large", &["10.0.0.0/25", "10.0.1.0/24"], Targets::default());
    fragment(&mut bed, "a");
    bed.reload(|settings| settings.targets = Targets { warm_ip_target: 12, ..delegated(On) });
    bed.pass(60);
    let second = bed.world.true_enis().values().find(|eni| eni.subnet == subnet("b")).cloned();
    assert_eq!(second.map(|eni| eni.prefixes.len()), Some(1));
}

#[test]
fn a_live_node_is_switched_over_and_back_without_touching_a_pod() {
    let mut bed = Bed::new("m5.large", ROOMY, Targets::default());
    bed.add_many(0..6);
    bed.pass(5);
    let pods = bed.pods.clone();
    bed.reload(|settings| settings.targets.prefix_delegation = On);
    bed.pass(150);
    let (singles, prefixes) = bed.real();
    assert_eq!((&bed.pods, singles, prefixes), (&pods, 6, 1), "only pods' single addresses are left");
    bed.add_many(6..16);
    bed.del_many(0..6);
    bed.pass(150);
    assert_eq!(bed.real(), (0, 1));
    let pods = bed.pods.clone();
    bed.reload(|settings| settings.targets.prefix_delegation = Off);
    bed.pass(150);
    assert_eq!((&bed.pods, bed.real().1), (&pods, 1), "pods live in the prefix");
    bed.check_pods();
    bed.add_many(20..24);
    bed.del_many(6..16);
    bed.pass(200);
    let (singles, prefixes) = bed.real();
    assert_eq!(prefixes, 0);
    assert!((6..=14).contains(&singles), "{singles}");
    bed.check_pods();
}

#[test]
fn a_full_node_is_switched_over_when_its_free_addresses_leave_no_room() {
    let mut bed =
        Bed::new("m5.large", ROOMY, Targets { warm_ip_target: 7, max_enis: Some(1), ..Targets::default() });
    bed.add_many(0..2);
    assert_eq!(bed.real(), (9, 0));
    bed.reload(|settings| settings.targets.prefix_delegation = On);
    bed.pass(150);
    assert_eq!(bed.real(), (2, 1));
    assert_eq!(bed.pods.len(), 2);
}

#[test]
fn whole_prefixes_are_kept_ready_as_asked() {
    let mut bed = Bed::new("m5.large", ROOMY, Targets { warm_prefix_target: 1, ..delegated(On) });
    bed.add("one");
    bed.pass(200);
    assert_eq!((bed.real(), bed.view().counts.free_prefixes), ((0, 2), 1));
}

#[test]
fn a_restart_with_prefixes_costs_one_call_and_no_write() {
    let mut bed = Bed::new("m5.large", ROOMY, delegated(On));
    bed.add_many(0..20);
    bed.pass(70);
    let (before, record) = (bed.world.calls().len(), bed.record.clone());
    let mut bed = bed.restart(record.clone());
    bed.pass(10);
    assert_eq!((bed.world.calls().len() - before, &bed.record), (1, &record));
    assert_eq!(bed.view().counts.held, 20);
    let view = bed.view();
    let (singles, prefixes) = bed.real();
    let shown: usize = view.enis.iter().map(|eni| eni.addresses.len()).sum();
    assert_eq!(shown, singles + 16 * prefixes, "{view:#?}");
}

#[test]
fn a_crash_while_a_prefix_goes_back_is_finished_by_the_next_start() {
    let mut bed = Bed::new("m5.large", ROOMY, delegated(On));
    bed.add_many(0..40);
    bed.pass(5);
    bed.world.inject(Api::UnassignPrivateIpAddresses, spur_cloud::fake::Fault::LoseReply);
    bed.del_many(0..40);
    while bed.record.intents.is_empty() {
        bed.pass(1);
    }
    let record = bed.record.clone();
    let mut bed = bed.restart(record);
    bed.pass(300);
    assert!(bed.record.intents.is_empty(), "{:?}", bed.record.intents);
    assert_eq!(bed.real(), (0, 1));
}

/// Pods come and live for an hour, at random around a mean, for a day; how many addresses the node holds on average.
fn held_under_churn(mean: u32, delegation: PrefixDelegation) -> f64 {
    let mut bed = Bed::new("m5.large", &["10.0.0.0/18"], delegated(delegation));
    let (mut dice, life) = (Jitter::new(7), Duration::from_secs(3600));
    let mut exponential = |mean: Duration| {
        let uniform = (f64::from(u32::try_from(dice.bits() >> 33).unwrap()) + 1.0) / 2_147_483_649.0;
        mean.mul_f64(-uniform.ln())
    };
    let end = bed.world.now() + Duration::from_secs(86_400);
    let mut leaves: BTreeSet<(Duration, String)> = BTreeSet::new();
    let (mut next, mut number, mut held, mut time) = (Duration::ZERO, 0_u64, 0.0, 0.0);
    let warm = Duration::from_secs(7200);
    while bed.world.now() < end {
        let now = bed.world.now();
        let until = leaves.first().map_or(next, |(at, _)| next.min(*at)).max(now + Duration::from_secs(1));
        bed.pass((until - now).as_secs().max(1));
        let spent = (bed.world.now() - now).as_secs_f64();
        if now > warm {
            let (singles, prefixes) = bed.real();
            held += spent * f64::from(u32::try_from(singles + 16 * prefixes).unwrap());
            time += spent;
        }
        while let Some((at, pod)) = leaves.first().cloned().filter(|(at, _)| *at <= bed.world.now()) {
            leaves.remove(&(at, pod.clone()));
            bed.del(&pod);
        }
        while next <= bed.world.now() {
            let pod = number.to_string();
            number += 1;
            bed.add(pod.clone());
            leaves.insert((bed.world.now() + exponential(life), pod));
            next += exponential(life / mean);
        }
    }
    held / time
}

#[test]
fn few_addresses_are_held_beyond_the_pods_under_churn() {
    let rows = [(60, On, 83.0), (140, On, 169.0)];
    for (mean, delegation, most) in rows {
        let held = held_under_churn(mean, delegation);
        assert!(held <= most, "{mean} pods, {delegation:?}: {held:.1} addresses");
    }
}
