//! The agent's configuration while it runs: a file that changes, SIGHUP, a file with mistakes. Nothing is restarted, no pod notices.

use crate::common::{add_pods, quick_spec, wait_until};
use spur_e2e::world::{World, WorldSpec};
use std::collections::BTreeMap;

fn settings(spec: &WorldSpec, changed: &[(&'static str, &str)]) -> BTreeMap<&'static str, String> {
    let mut pool = spec.pool.clone();
    pool.extend(changed.iter().map(|(key, value)| (*key, (*value).to_owned())));
    pool
}

/// Addresses for pods that the node has.
fn stock(world: &World) -> usize {
    world.cloud().unwrap().nodes["node-1"].iter().map(|eni| eni.addresses.len()).sum()
}

#[test]
#[ignore = "needs root"]
fn a_configuration_that_changes_is_taken_up_whole_or_not_at_all() {
    let spec = quick_spec("reload", 1);
    let world = World::up(&spec).unwrap();
    world.start_agent(0).unwrap();
    let log = || std::fs::read_to_string(world.nodes[0].log()).unwrap();
    let pods = add_pods(&world, 0, 1..=2);
    wait_until(&world, "the first stock", || stock(&world) == 5);

    // The file changes, and nobody says so.
    world.configure_agent(0, &settings(&spec, &[("warmIpTarget", "5")])).unwrap();
    wait_until(&world, "the larger stock", || stock(&world) == 7);

    // Good and bad in one file: nothing of it is taken up, and every mistake is named.
    let bad = [("warmIpTarget", "9"), ("maxEnis", "none"), ("natPortRange", "1-2")];
    world.configure_agent(0, &settings(&spec, &bad)).unwrap();
    world.nodes[0].hang_up_agent().unwrap();
    wait_until(&world, "the mistakes", || log().contains("pool.natPortRange"));
    assert!(log().contains("pool.maxEnis: is \\\"none\\\"; expected a whole number"), "{}", log());
    assert_eq!(stock(&world), 7);

    // At once, with what a restart only could change; and the kernel is told too.
    world
        .configure_agent(0, &settings(&spec, &[("warmIpTarget", "6"), ("blockInstanceMetadata", "true")]))
        .unwrap();
    let text = std::fs::read_to_string(world.nodes[0].config()).unwrap();
    std::fs::write(world.nodes[0].config(), text.replace("/state\n", "/elsewhere\n")).unwrap();
    world.nodes[0].hang_up_agent().unwrap();
    wait_until(&world, "the stock after SIGHUP", || stock(&world) == 8);
    wait_until(&world, "the kernel's part", || {
        let listed = world.nodes[0]
            .netns
            .run(|| std::process::Command::new("nft").args(["list", "table", "ip", "spur"]).output());
        String::from_utf8_lossy(&listed.unwrap().unwrap().stdout).contains("169.254.169.254")
    });
    assert!(log().contains("stateDir") && log().contains("a restart takes them up"), "{}", log());
    for placed in &pods {
        world.runtime(0).unwrap().del(&placed.pod).unwrap();
    }
    world.down().unwrap();
}
