//! Waiting until the world has come to rest, and comparing it with what it was.
//!
//! Agents, EC2 and kernels work on their own time; a test or the demo looks until what must become true is true, or says what was not.

use crate::cloud::CloudView;
use crate::routes::RouteTables;
use crate::snapshot::Snapshot;
use crate::world::World;
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

/// How long coming to rest may take: a cooldown, a detach and the calls between.
const TIMEOUT: Duration = Duration::from_secs(90);

/// How many looks must find no change to call it rest, and the pause before each: a second. Looks, and not a clock: while the machine stands
/// still, nothing changes either.
const LOOKS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// A world at rest: what its cloud holds and what its kernels show.
#[derive(Debug)]
pub struct Rest {
    cloud: CloudView,
    routes: RouteTables,
    kernels: Vec<Snapshot>,
}

impl Rest {
    /// Waits until the cloud has not changed for a second. `go_on` is asked between looks; its error ends the wait.
    ///
    /// # Errors
    /// When the cloud does not come to rest, or a look fails.
    pub fn reach(world: &World, go_on: &impl Fn() -> Result<()>) -> Result<Self> {
        let look = || -> Result<_> { Ok((world.cloud()?, world.routes()?)) };
        let (mut cloud, mut unchanged) = (look()?, 0);
        let deadline = Instant::now() + TIMEOUT;
        while unchanged < LOOKS {
            go_on()?;
            ensure!(Instant::now() < deadline, "the cloud did not come to rest within {TIMEOUT:?}");
            std::thread::sleep(PAUSE);
            let now = look()?;
            unchanged = if now == cloud { unchanged + 1 } else { 0 };
            cloud = now;
        }
        let (cloud, routes) = cloud;
        Ok(Self { cloud, routes, kernels: kernels(world)? })
    }

    /// Waits until cloud and kernels are as they were: the same ENIs with as many addresses, as many free addresses in each subnet, the same routes
    /// of the VPC, the same links, addresses, rules, routes and nft rules. Which addresses make up the warm stock may differ.
    ///
    /// # Errors
    /// When they do not become so; the error says what differs.
    pub fn regain(&self, world: &World, go_on: &impl Fn() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            go_on()?;
            let different = self.differences(world)?;
            if different.is_empty() {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "not as before within {TIMEOUT:?}:\n  {}",
                different.join("\n  ")
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn differences(&self, world: &World) -> Result<Vec<String>> {
        let now = world.cloud()?;
        let mut lines = Vec::new();
        let mut compare = |what: &str, before: String, now: String| {
            if before != now {
                lines.push(format!("{what}: before {before}, now {now}"));
            }
        };
        let shape = |view: &CloudView| format!("{:?}", view.shape());
        compare("ENIs as (device index, subnet, secondary addresses)", shape(&self.cloud), shape(&now));
        compare("free addresses", format!("{:?}", self.cloud.free), format!("{:?}", now.free));
        compare("unattached ENIs", format!("{:?}", self.cloud.unattached), format!("{:?}", now.unattached));
        let routes = world.routes()?;
        for (name, before) in &self.routes.0 {
            compare(
                &format!("route table {name}"),
                format!("{:?}", Some(before)),
                format!("{:?}", routes.0.get(name)),
            );
        }
        for ((node, before), after) in world.nodes.iter().zip(&self.kernels).zip(kernels(world)?) {
            lines.extend(before.difference(&after).into_iter().map(|line| format!("{}: {line}", node.name)));
        }
        Ok(lines)
    }
}

fn kernels(world: &World) -> Result<Vec<Snapshot>> {
    world.nodes.iter().map(|node| Snapshot::take(&node.netns, false)).collect()
}
