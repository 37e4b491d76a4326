//! The first pods, end to end: two nodes whose pods need more than one ENI, checked with real traffic, and gone without a trace.

use crate::common::{add_pods, check_and_delete, quick_world};
use spur_e2e::rest::Rest;

#[test]
#[ignore = "needs root"]
fn pods_reach_everything_they_should_over_every_eni_and_leave_no_trace() {
    let world = quick_world("first", 2);
    for node in 0..2 {
        world.start_agent(node).unwrap();
    }
    let before = Rest::reach(&world, &|| Ok(())).unwrap();
    let pods: Vec<_> = (0..2).flat_map(|node| add_pods(&world, node, 1..=12)).collect();
    for (node, enis) in world.cloud().unwrap().nodes {
        assert!(enis.len() >= 2, "12 pods and {} ENI on {node}", enis.len());
    }
    check_and_delete(&world, &pods, &before);
    world.down().unwrap();
}

#[test]
#[ignore = "needs root"]
fn the_last_pod_beyond_the_quota_is_told_which_limit_it_met() {
    let mut spec = crate::common::quick_spec("quota", 1);
    spec.instance_type = "t3.nano".to_owned(); // 2 ENIs with 2 addresses each: two pods.
    let world = spur_e2e::world::World::up(&spec).unwrap();
    world.start_agent(0).unwrap();
    let _pods = add_pods(&world, 0, 1..=2);
    let pod = world.pod(0, 3).unwrap();
    let outcome = world.runtime(0).unwrap().execute("ADD", &pod, &pod.netns_path()).unwrap();
    assert!(!outcome.success);
    assert_eq!(outcome.output["code"], 11, "{}", outcome.failure());
    let words = outcome.failure();
    assert!(words.contains("the node is full: 2 ENIs with 1 pod addresses each"), "{words}");
    world.down().unwrap();
}
