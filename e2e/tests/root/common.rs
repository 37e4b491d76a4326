//! What the tests of the whole share.

use spur_e2e::checks::{self, Placed};
use spur_e2e::rest::Rest;
use spur_e2e::world::{World, WorldSpec};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// What agents and controllers do by themselves is done after so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A world with short times; its name carries the process id, so that runs do not meet.
pub(crate) fn quick_spec(name: &str, nodes: u32) -> WorldSpec {
    let pool =
        [("warmIpTarget", "3"), ("maxAboveWarm", "0"), ("cooldownSeconds", "1"), ("shrinkDelaySeconds", "1")];
    WorldSpec {
        name: format!("t{}-{name}", std::process::id()),
        nodes,
        modes: Vec::new(),
        spares: 0,
        instance_type: "m5.large".to_owned(),
        cni: BTreeMap::new(),
        pool: pool.into_iter().map(|(key, value)| (key, value.to_owned())).collect(),
        // What is surplus shall go back soon.
        agent: BTreeMap::from([("settleSeconds", "2".to_owned())]),
        controller: BTreeMap::new(),
    }
}

/// The world of [`quick_spec`].
pub(crate) fn quick_world(name: &str, nodes: u32) -> World {
    World::up(&quick_spec(name, nodes)).unwrap()
}

/// Adds pods with these numbers, one after the other.
pub(crate) fn add_pods(world: &World, node: usize, numbers: RangeInclusive<u32>) -> Vec<Placed> {
    let runtime = world.runtime(node).unwrap();
    numbers
        .map(|number| {
            let mut pod = world.pod(node, number).unwrap();
            runtime.add(&mut pod).unwrap();
            Placed { node, pod }
        })
        .collect()
}

/// Every check was tried and holds; then the pods go, and everything is as it was before them.
pub(crate) fn check_and_delete(world: &World, pods: &[Placed], before: &Rest) {
    for check in checks::all(world, pods).unwrap() {
        assert!(check.tried > 0, "{} was never tried", check.name);
        assert_eq!(check.failures, Vec::<String>::new(), "{}", check.name);
    }
    for placed in pods {
        world.runtime(placed.node).unwrap().del(&placed.pod).unwrap();
    }
    before.regain(world, &|| Ok(())).unwrap();
}

/// Looks until it is so.
#[track_caller]
pub(crate) fn wait_until(world: &World, what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}\n{:#?}", world.log_tails());
        std::thread::sleep(Duration::from_millis(50));
    }
}
