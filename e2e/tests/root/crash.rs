//! Agents that are killed, stopped and started again under live pods: no address lost, doubled or leaked, no packet of a live pod in danger.

use crate::common::{add_pods, quick_world};
use spur_e2e::checks::Placed;
use spur_e2e::rest::Rest;
use spur_e2e::traffic::{Echo, ask};
use spur_e2e::world::World;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Adds pods until `wanted` have an address, as kubelet does: a failed ADD is followed by a DEL and tried again in a new sandbox.
fn add_stubbornly(world: &World, wanted: usize) -> Vec<Placed> {
    let runtime = world.runtime(0).unwrap();
    let (mut pods, mut number, deadline) = (Vec::new(), 0, Instant::now() + Duration::from_secs(60));
    while pods.len() < wanted {
        assert!(Instant::now() < deadline, "only {} of {wanted} pods in a minute", pods.len());
        number += 1;
        let mut pod = world.pod(0, number).unwrap();
        match runtime.add(&mut pod) {
            Ok(_) => pods.push(Placed { node: 0, pod }),
            Err(_) => runtime.del(&pod).unwrap(),
        }
    }
    pods
}

/// Every pod answers from its own address, and no two have the same.
fn assert_sound(world: &World, pods: &[Placed]) {
    let addresses: Vec<_> = pods.iter().map(|placed| placed.pod.address.unwrap()).collect();
    let distinct: BTreeSet<_> = addresses.iter().collect();
    assert_eq!(distinct.len(), addresses.len(), "an address was given twice: {addresses:?}");
    let namespaces: Vec<_> = pods.iter().map(|placed| &placed.pod.netns).collect();
    let _echo = Echo::start(&namespaces).unwrap();
    let seen = ask(&world.nodes[0].netns, &addresses).unwrap();
    let silent: Vec<_> = addresses.iter().filter(|address| !seen.contains_key(*address)).collect();
    assert!(silent.is_empty(), "these pods do not answer: {silent:?}");
    let cloud = world.cloud().unwrap();
    for address in addresses {
        assert!(cloud.owner(&world.nodes[0].name, address).is_some(), "{address} is on no ENI of the node");
    }
}

#[test]
#[ignore = "needs root"]
fn an_agent_killed_again_and_again_loses_and_doubles_no_address() {
    let world = quick_world("kill", 1);
    world.start_agent(0).unwrap();
    let before = Rest::reach(&world, &|| Ok(())).unwrap();
    let pods = std::thread::scope(|scope| {
        // The world is shared with the thread that adds pods, so the agent is killed by its process id and started again below.
        let adding = scope.spawn(|| add_stubbornly(&world, 16));
        for round in 0..8_u64 {
            std::thread::sleep(Duration::from_millis(40 + 37 * round));
            world.crash_agent(0).unwrap();
        }
        adding.join().unwrap()
    });
    assert_sound(&world, &pods);
    for placed in &pods {
        world.runtime(0).unwrap().del(&placed.pod).unwrap();
    }
    before.regain(&world, &|| Ok(())).unwrap();
    world.down().unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_restart_costs_two_calls_and_no_write_and_pods_go_on() {
    let world = quick_world("restart", 1);
    world.start_agent(0).unwrap();
    let pods = add_pods(&world, 0, 1..=5);
    Rest::reach(&world, &|| Ok(())).unwrap();
    let calls = world.record().unwrap().len();
    world.nodes[0].stop_agent().unwrap();
    assert_sound(&world, &pods);
    world.start_agent(0).unwrap();
    assert_sound(&world, &pods);
    Rest::reach(&world, &|| Ok(())).unwrap();
    let made: Vec<_> =
        world.record().unwrap()[calls..].iter().map(|call| call["action"].to_string()).collect();
    assert!(
        made.len() <= 2 && made.iter().all(|action| action.contains("Describe")),
        "a restart made {made:?}"
    );
    world.down().unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_release_without_an_agent_is_not_lost() {
    let world = quick_world("spool", 1);
    world.start_agent(0).unwrap();
    let before = Rest::reach(&world, &|| Ok(())).unwrap();
    let pods = add_pods(&world, 0, 1..=4);
    world.nodes[0].kill_agent().unwrap();
    for placed in &pods {
        world.runtime(0).unwrap().del(&placed.pod).unwrap();
    }
    world.start_agent(0).unwrap();
    before.regain(&world, &|| Ok(())).unwrap();
    world.down().unwrap();
}
