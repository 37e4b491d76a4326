//! The world of an upgrade, and what is done and looked at in each of its steps.

use super::Build;
use crate::checks::{self, Placed};
use crate::runtime::{self, IF_NAME, Runtime};
use crate::torture::flows::{End, Flow};
use crate::torture::views::{KernelView, PodView, StoreView};
use crate::world::World;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Pods of the first node: so many need a second ENI.
const PODS: u32 = 12;
/// How long an agent may take to serve.
const PATIENCE: Duration = Duration::from_secs(30);

/// How an agent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// In order.
    Term,
    /// At once.
    Kill,
}

/// A world under live flows.
#[derive(Debug)]
pub struct Stage<'w> {
    /// The world.
    pub world: &'w World,
    /// Every pod that lives, those that flows are between first.
    pub pods: Vec<Placed>,
    /// What ADD printed, by container.
    results: BTreeMap<String, Value>,
    flows: Vec<Flow>,
    /// The number of the next pod.
    next: u32,
}

impl<'w> Stage<'w> {
    /// Agents and pods of `build`.
    ///
    /// # Errors
    /// When an agent or a pod does not come up.
    pub fn begin(world: &'w World, build: &Build) -> Result<Self> {
        for node in 0..world.nodes.len() {
            world.launch_agent_of(node, &build.agent)?;
            world.nodes[node].wait_ready()?;
        }
        let mut stage =
            Self { world, pods: Vec::new(), results: BTreeMap::new(), flows: Vec::new(), next: 1 };
        for node in [1].into_iter().chain(std::iter::repeat_n(0, PODS as usize)) {
            let runtime = stage.runtime(node, build)?;
            stage.add(node, &runtime)?;
        }
        // What flows are between comes first.
        stage.pods.swap(2, PODS as usize);
        Ok(stage)
    }

    /// From the first node's first and last pod, which are on different ENIs: to a pod of the same node, to one of the other node, to the internet; and to
    /// both from the other node itself.
    ///
    /// # Errors
    /// When a flow does not come about, or is seen with another address than it should.
    pub fn open_flows(&mut self) -> Result<()> {
        let world = self.world;
        let [other, near, far] = [0, 1, 2].map(|at| &self.pods[at].pod);
        let (other, near, far) = (End::of(other)?, End::of(near)?, End::of(far)?);
        let internet = End { name: "internet", netns: &world.internet, address: world.internet_address };
        let (node, other_node) = (&world.nodes[0], &world.nodes[1]);
        let other_node =
            End { name: &other_node.name, netns: &other_node.netns, address: other_node.primary_address };
        let cloud = world.cloud()?;
        let [first, second] = [near, far].map(|end| cloud.owner(&node.name, end.address));
        ensure!(first != second, "all pods are on {first:?}");
        let raw = [(near, far), (near, other), (far, other), (other_node, near), (other_node, far)];
        let translated = [(near, internet), (far, internet)];
        let wanted = raw.map(|ends| (ends, ends.0.address)).into_iter();
        for ((from, to), source) in wanted.chain(translated.map(|ends| (ends, node.primary_address))) {
            let flows = Flow::open(from, to)?;
            ensure!(flows[0].source == source, "{}: seen as {}", flows[0].name, flows[0].source);
            self.flows.extend(flows);
        }
        Ok(())
    }

    /// A runtime on the node, with the plugin of `build`.
    ///
    /// # Errors
    /// When the node's namespace is gone.
    pub fn runtime(&self, node: usize, build: &Build) -> Result<Runtime> {
        Ok(self.world.runtime(node)?.with_plugin(build.plugin.clone()))
    }

    /// A new pod, at the end of the list.
    fn add(&mut self, node: usize, runtime: &Runtime) -> Result<()> {
        let mut pod = self.world.pod(node, self.next)?;
        self.next += 1;
        let result = runtime.add(&mut pod)?;
        self.results.insert(pod.container_id.clone(), result);
        self.pods.push(Placed { node, pod });
        Ok(())
    }

    /// Every verb, with the plugin of `build` and whatever agent runs.
    ///
    /// # Errors
    /// With the verb that fails.
    pub fn verbs(&mut self, node: usize, build: &Build) -> Result<()> {
        let runtime = self.runtime(node, build)?;
        for placed in self.pods.iter().filter(|placed| placed.node == node) {
            self.check(placed, &runtime)?;
        }
        self.each_verb_with(node, runtime).with_context(|| format!("with the {} plugin", build.name))
    }

    /// Every verb once, for a pod that comes and goes.
    ///
    /// # Errors
    /// With the verb that fails.
    pub fn each_verb_with(&mut self, node: usize, runtime: Runtime) -> Result<()> {
        self.wait_served(&runtime)?;
        self.add(node, &runtime)?;
        let added = self.pods.pop().context("no pod was added")?;
        self.check(&added, &runtime)?;
        runtime.del(&added.pod)?;
        self.gc(node, runtime)
    }

    /// GC that names every pod of the node, and so must collect nothing.
    fn gc(&self, node: usize, runtime: Runtime) -> Result<()> {
        let valid: Vec<_> = self
            .pods
            .iter()
            .filter(|placed| placed.node == node)
            .map(|placed| json!({"containerID": placed.pod.container_id, "ifname": IF_NAME}))
            .collect();
        let runtime = runtime.with_conf("cni.dev/valid-attachments", valid.into());
        let outcome = runtime.execute("GC", &self.pods[0].pod, "")?;
        ensure!(outcome.success, "GC: {}", outcome.failure());
        Ok(())
    }

    /// CHECK with the result of whichever plugin made the pod.
    fn check(&self, Placed { pod, .. }: &Placed, runtime: &Runtime) -> Result<()> {
        let result = &self.results[&pod.container_id];
        let started = runtime.start_after("CHECK", pod, &pod.netns_path(), result)?;
        let outcome = runtime::finish("CHECK", started)?;
        ensure!(outcome.success, "CHECK of {}: {}", pod.name, outcome.failure());
        Ok(())
    }

    /// Until STATUS succeeds.
    fn wait_served(&self, runtime: &Runtime) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = runtime.execute("STATUS", &self.pods[0].pod, "")?;
            if status.success {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "not served within {PATIENCE:?}: {}", status.failure());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Ends a node's agent and starts that of `build`.
    ///
    /// # Errors
    /// When the one does not end or the other does not serve.
    pub fn replace_agent(&self, node: usize, build: &Build, how: How) -> Result<()> {
        match how {
            How::Term => self.world.nodes[node].stop_agent()?,
            How::Kill => self.world.nodes[node].kill_agent()?,
        }
        self.start_agent(node, build)
    }

    /// Starts the agent of `build` on a node that has none, and waits until it serves.
    ///
    /// # Errors
    /// When it does not serve in time.
    pub fn start_agent(&self, node: usize, build: &Build) -> Result<()> {
        self.world.launch_agent_of(node, &build.agent)?;
        self.world.nodes[node].wait_ready().with_context(|| format!("the {} agent", build.name))?;
        self.wait_served(&self.runtime(node, build)?)
    }

    /// A pod of the other build goes and one of this build comes.
    ///
    /// # Errors
    /// When the plugin fails.
    pub fn turn_over(&mut self, node: usize, build: &Build) -> Result<()> {
        let at = (3..self.pods.len()).find(|at| self.pods[*at].node == node).context("no pod to spare")?;
        let gone = self.pods.remove(at);
        let runtime = self.runtime(node, build)?;
        runtime.del(&gone.pod)?;
        self.add(node, &runtime)
    }

    /// Everything that must hold after each step.
    ///
    /// # Errors
    /// With what does not hold.
    pub fn look(&self) -> Result<()> {
        self.flows_go_on()?;
        self.pods_keep_addresses()?;
        for (number, node) in self.world.nodes.iter().enumerate() {
            let held: BTreeMap<String, IpAddr> = StoreView::take(node)?.holdings;
            for Placed { pod, .. } in self.pods.iter().filter(|placed| placed.node == number) {
                let kept = held.get(&pod.container_id);
                ensure!(kept == pod.address.as_ref(), "the store holds {kept:?} for {}", pod.name);
            }
        }
        Ok(())
    }

    /// Every pod has its address, and the node's kernel leads there.
    ///
    /// # Errors
    /// With what does not hold.
    pub fn pods_keep_addresses(&self) -> Result<()> {
        for Placed { node, pod } in &self.pods {
            let address = pod.address.context("a pod has no address")?;
            let own = PodView::take(pod)?.addresses;
            ensure!(own == Some(vec![address]), "{} has {own:?} instead of {address}", pod.name);
            let routes = KernelView::take(&self.world.nodes[*node].netns)?.routes;
            ensure!(routes.iter().any(|(to, _)| *to == address), "no route leads to {}", pod.name);
        }
        Ok(())
    }

    /// The next probes of all flows are answered: a connection that leads nowhere looks sound until then.
    ///
    /// # Errors
    /// With the flows that do not.
    pub fn flows_go_on(&self) -> Result<()> {
        let sent = || self.flows.iter().map(|flow| flow.seen().sent);
        let before: Vec<_> = sent().collect();
        let deadline = Instant::now() + PATIENCE;
        while sent().zip(&before).any(|(now, before)| now < before + 3) {
            let complaints: Vec<_> = self.flows.iter().filter_map(Flow::complaint).collect();
            ensure!(complaints.is_empty(), "{}", complaints.join("; "));
            ensure!(Instant::now() < deadline, "a flow hangs");
            std::thread::sleep(Duration::from_millis(10));
        }
        let lost: Vec<_> =
            self.flows.iter().filter(|flow| flow.seen().lost > 0).map(|flow| &flow.name).collect();
        ensure!(lost.is_empty(), "probes were lost of {lost:?}");
        Ok(())
    }

    /// All checks of the demo.
    ///
    /// # Errors
    /// With the first that fails.
    pub fn check_all(&self) -> Result<()> {
        for check in checks::all(self.world, &self.pods)? {
            ensure!(check.failures.is_empty(), "{}: {}", check.name, check.failures.join("; "));
        }
        Ok(())
    }

    /// What was seen of the flows, for people.
    #[must_use]
    pub fn line(&self) -> String {
        let seen: Vec<_> = self.flows.iter().map(Flow::seen).collect();
        let sent: u64 = seen.iter().map(|seen| seen.sent).sum();
        let slowest = seen.iter().map(|seen| seen.slowest).max().unwrap_or_default();
        format!(
            "{} pods, {} flows alive, 0 of {sent} probes lost, slowest answer {} ms",
            self.pods.len(),
            seen.len(),
            slowest.as_millis()
        )
    }

    /// Every pod goes, and nothing is left of them.
    ///
    /// # Errors
    /// When something is left.
    pub fn end(mut self, build: &Build) -> Result<String> {
        let line = self.line();
        self.flows.clear();
        for placed in &self.pods {
            self.runtime(placed.node, build)?.del(&placed.pod)?;
        }
        let deadline = Instant::now() + PATIENCE;
        for node in &self.world.nodes {
            while !(StoreView::take(node)?.holdings.is_empty()
                && KernelView::take(&node.netns)?.veths.is_empty())
            {
                ensure!(Instant::now() < deadline, "something is left of pods on {}", node.name);
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        Ok(line)
    }
}
