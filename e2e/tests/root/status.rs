//! STATUS of a node whose kernel was changed by somebody who keeps the agent from repairing it. An nft table with an owner is such
//! a thing: while its owner lives, the kernel lets nobody else change it.

use crate::common::{add_pods, quick_spec, quick_world};
use spur_datapath::netns::NetNs;
use spur_e2e::rest::Rest;
use spur_e2e::world::World;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Above the time for which repairs must fail, and some tries.
const PATIENCE: Duration = Duration::from_secs(60);

/// Replaces the agent's table by an empty one of its own, until its input is closed.
fn seize(node: &NetNs) -> Child {
    let mut nft = Command::new("nft");
    nft.arg("-i").stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = node.run(move || nft.spawn()).unwrap().unwrap();
    let input = child.stdin.as_mut().unwrap();
    input.write_all(b"delete table ip spur; add table ip spur { flags owner; }\n").unwrap();
    child
}

#[test]
#[ignore = "needs root"]
fn c49_c51_a_table_that_cannot_be_repaired_is_51_until_it_can_be_and_add_goes_on() {
    seized("broken", |_| {});
}

#[test]
#[ignore = "needs root"]
fn c49_a_table_that_cannot_be_repaired_is_51_also_when_something_else_is_wanted_meanwhile() {
    seized("changed", |world| {
        let mut pool = quick_spec("changed", 1).pool;
        pool.insert("natExclude", "[198.18.0.0/15]".to_owned());
        world.configure_agent(0, &pool).unwrap();
    });
}

/// A node whose table somebody has seized, and what else happens then.
fn seized(name: &str, meanwhile: impl FnOnce(&World)) {
    let world = quick_world(name, 1);
    world.start_agent(0).unwrap();
    let pods = add_pods(&world, 0, 1..=1);
    let runtime = world.runtime(0).unwrap();
    let status = || runtime.execute("STATUS", &pods[0].pod, "").unwrap();
    assert!(status().success, "{}", status().failure());
    // A change that the pool just asked for is no repair when it fails: let it be done first.
    Rest::reach(&world, &|| Ok(())).unwrap();

    let mut owner = seize(&world.nodes[0].netns);
    meanwhile(&world);
    let start = Instant::now();
    let broken = loop {
        let seen = status();
        if !seen.success {
            break seen;
        }
        assert!(start.elapsed() < PATIENCE, "nobody notices");
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(broken.output["code"], 51, "{}", broken.failure());
    assert!(broken.failure().contains("could not be prepared"), "{}", broken.failure());
    assert!(start.elapsed() > Duration::from_secs(15), "a repair gets its time: {:?}", start.elapsed());
    let more = add_pods(&world, 0, 2..=2);
    runtime.del(&more[0].pod).unwrap();

    drop(owner.stdin.take());
    owner.wait().unwrap();
    let start = Instant::now();
    while !status().success {
        assert!(start.elapsed() < PATIENCE, "it is not repaired: {}", status().failure());
        std::thread::sleep(Duration::from_millis(200));
    }
    runtime.del(&pods[0].pod).unwrap();
    world.down().unwrap();
}
