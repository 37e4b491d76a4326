//! The flows of an upgrade: who talks to whom, and that all of them go on.

use super::stage::{PATIENCE, PODS, Stage};
use crate::torture::flows::{End, Flow};
use crate::world::NodeMode;
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

impl Stage<'_> {
    /// Between the first and the last pod of each node, which are on different ENIs in `eni` mode; from them to the internet and to a host in a subnet
    /// whose table nobody manages, if there is one; to them from each node.
    ///
    /// # Errors
    /// When a flow does not come about, or is seen with another address than it should.
    pub fn open_flows(&mut self) -> Result<()> {
        let world = self.world;
        let cloud = world.cloud()?;
        let mut ends = Vec::new();
        let mut flows = Vec::new();
        for (node, pods) in world.nodes.iter().zip(self.pods.chunks(PODS)) {
            let [first, last] = [End::of(&pods[0].pod)?, End::of(&pods[PODS - 1].pod)?];
            let enis = [first, last].map(|end| cloud.owner(&node.name, end.address));
            ensure!(node.mode == NodeMode::VpcRoute || enis[0] != enis[1], "all pods are on {:?}", enis[0]);
            ends.extend([(node, first), (node, last)]);
        }
        let internet = End { name: "internet", netns: &world.internet, address: world.internet_address };
        let outside = world.outside.as_ref();
        let outside = outside.map(|host| End { name: "outside", netns: &host.netns, address: host.address });
        for (at, (node, pod)) in ends.iter().enumerate() {
            let own = pod.address;
            flows.extend(ends[at + 1..].iter().map(|(_, other)| (*pod, *other, own)));
            flows.push((*pod, internet, node.primary_address));
            let seen = if node.mode == NodeMode::Eni { own } else { node.primary_address };
            flows.extend(outside.map(|outside| (*pod, outside, seen)));
            flows.extend(world.nodes.iter().map(|node| {
                let from = End { name: &node.name, netns: &node.netns, address: node.primary_address };
                (from, *pod, node.primary_address)
            }));
        }
        for (from, to, source) in flows {
            let flows = Flow::open(from, to)?;
            ensure!(flows[0].source == source, "{}: seen as {}", flows[0].name, flows[0].source);
            self.flows.extend(flows);
        }
        Ok(())
    }

    /// The next probes of all flows are answered: a connection that leads nowhere looks sound until then.
    ///
    /// # Errors
    /// With the flows that do not.
    pub fn flows_go_on(&self) -> Result<()> {
        self.await_probes()?;
        let excused = self.excused.iter().copied().chain(std::iter::repeat(0));
        let lost = self.flows.iter().zip(excused).filter(|(flow, excused)| flow.seen().lost > *excused);
        let names: Vec<_> = lost.map(|(flow, _)| &flow.name).collect();
        ensure!(names.is_empty(), "probes were lost of {names:?}");
        Ok(())
    }

    /// What was lost up to now does not count: whoever changed the node was no agent of this version. More than single probes does count.
    ///
    /// # Errors
    /// When a flow broke, or lost more.
    pub fn excuse_losses(&mut self) -> Result<()> {
        self.await_probes()?;
        let complaints: Vec<_> = self.flows.iter().filter_map(Flow::complaint).collect();
        ensure!(complaints.is_empty(), "{}", complaints.join("; "));
        self.excused = self.flows.iter().map(|flow| flow.seen().lost).collect();
        Ok(())
    }

    /// Until each flow has sent a few more probes: then those before are answered or lost.
    fn await_probes(&self) -> Result<()> {
        let sent = || self.flows.iter().map(|flow| flow.seen().sent);
        let before: Vec<_> = sent().collect();
        let deadline = Instant::now() + PATIENCE;
        while sent().zip(&before).any(|(now, before)| now < before + 3) {
            let broken = self.flows.iter().find_map(|flow| Some((&flow.name, flow.seen().broken?)));
            ensure!(broken.is_none(), "a flow broke: {broken:?}");
            ensure!(Instant::now() < deadline, "a flow hangs");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// What was seen of the flows, for people.
    #[must_use]
    pub fn line(&self) -> String {
        let seen: Vec<_> = self.flows.iter().map(Flow::seen).collect();
        let (sent, lost) =
            seen.iter().fold((0, 0), |(sent, lost), seen| (sent + seen.sent, lost + seen.lost));
        let slowest = seen.iter().map(|seen| seen.slowest).max().unwrap_or_default();
        format!(
            "{} pods, {} flows alive, {lost} of {sent} probes lost, slowest answer {} ms",
            self.pods.len(),
            seen.len(),
            slowest.as_millis()
        )
    }
}
