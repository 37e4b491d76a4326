//! What things cost: calls and writes, in a world where nothing fails.

use super::{calm, live, pass, pod, told};
use crate::harness::{Pod, Sim};
use crate::shell::calls;
use spur_cloud::Api;
use spur_ipamd_core::{PrefixDelegation, Targets};
use std::collections::BTreeMap;

#[test]
fn an_m5_large_goes_from_0_to_27_pods_in_8_calls_when_they_come_at_once() {
    let mut sim = calm(Targets::default());
    (0..27).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 30);
    assert_eq!(live(&sim), 27);
    assert!(sim.world.calls().len() <= 8, "{:?}", calls(&sim.world));
}

#[test]
fn an_m5_large_goes_from_0_to_27_pods_in_8_calls_when_they_come_one_by_one() {
    let mut sim = calm(Targets::default());
    pass(&mut sim, 5);
    for number in 0..27 {
        sim.add(pod(number));
        pass(&mut sim, 1);
    }
    pass(&mut sim, 10);
    assert_eq!(live(&sim), 27);
    assert!(sim.world.calls().len() <= 8, "{:?}", calls(&sim.world));
}

#[test]
fn a_restart_costs_one_call_and_no_write_when_nothing_changed() {
    let mut sim = calm(Targets::default());
    (0..12).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 20);
    let (before, disk) = (sim.world.calls().len(), sim.disk.clone());
    sim.crash();
    pass(&mut sim, 20);
    assert_eq!(sim.world.calls().len() - before, 1, "{:?}", calls(&sim.world));
    assert_eq!(sim.disk, disk);
}

#[test]
fn a_restart_in_prefix_mode_costs_one_call_and_no_write_when_nothing_changed() {
    let mut sim = calm(Targets { prefix_delegation: PrefixDelegation::On, ..Targets::default() });
    (0..20).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 200);
    let (before, disk) = (sim.world.calls().len(), sim.disk.clone());
    sim.crash();
    pass(&mut sim, 20);
    assert_eq!(sim.world.calls().len() - before, 1, "{:?}", calls(&sim.world));
    assert_eq!(sim.disk, disk);
}

#[test]
fn a_new_eni_costs_three_calls() {
    let mut sim = calm(Targets::default());
    (0..7).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 30);
    let changes = |sim: &Sim| {
        let reads = |api: &Api| *api == Api::DescribeNetworkInterfaces;
        sim.world.calls().iter().filter(|call| !reads(&call.api)).count()
    };
    let before = changes(&sim);
    (7..14).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 30);
    assert_eq!((live(&sim), sim.pool.view().enis.len()), (14, 2));
    assert!(changes(&sim) - before <= 3, "{:?}", calls(&sim.world));
}

#[test]
fn an_idle_node_asks_once_a_minute() {
    let mut sim = calm(Targets::default());
    (0..12).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 200);
    let before = calls(&sim.world);
    pass(&mut sim, 1200);
    let after = calls(&sim.world);
    let reads = after[&Api::DescribeNetworkInterfaces] - before[&Api::DescribeNetworkInterfaces];
    assert!((15..=25).contains(&reads), "{reads}");
    let others = |calls: &BTreeMap<Api, usize>| calls.values().sum::<usize>();
    assert_eq!(others(&after) - others(&before), reads, "{after:?}");
}

#[test]
fn the_28th_pod_is_told_that_the_node_is_full() {
    let mut sim = calm(Targets::default());
    (0..28).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 30);
    assert_eq!(live(&sim), 27);
    let view = sim.pool.view();
    let waits: Vec<String> = view.waiting[0].waits.iter().map(ToString::to_string).collect();
    assert_eq!(waits, ["the node is full: 3 ENIs with 9 pod addresses each"]);
}

#[test]
fn a_pod_that_waits_gets_the_address_of_a_deleted_one_after_its_rest() {
    let mut sim = calm(Targets::default());
    (0..28).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 30);
    let (gone, state) = sim.pods.iter().find(|(_, pod)| matches!(pod, Pod::Live { .. })).unwrap();
    let (gone, state) = (gone.clone(), state.clone());
    sim.delete(gone, &state);
    pass(&mut sim, 25);
    assert_eq!(live(&sim), 26);
    assert!(told(&sim).contains(&"cooldown"));
    pass(&mut sim, 10);
    assert_eq!(live(&sim), 27);
}

#[test]
fn when_all_pods_are_gone_the_enis_go_too() {
    let mut sim = calm(Targets::default());
    (0..27).for_each(|number| sim.add(pod(number)));
    pass(&mut sim, 30);
    for (key, state) in sim.pods.clone() {
        sim.delete(key, &state);
    }
    pass(&mut sim, 300);
    let view = sim.pool.view();
    assert_eq!((view.enis.len(), view.counts.free), (1, 9), "{view:#?}");
    assert_eq!(sim.leftovers(), Vec::<String>::new());
}
