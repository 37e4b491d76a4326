//! The world of an upgrade, and what is done and looked at in each of its steps; its flows are in [`super::flows`].

use super::Build;
use super::granted::Granted;
use crate::checks::{self, Placed};
use crate::runtime::{self, IF_NAME, Runtime};
use crate::torture::flows::Flow;
use crate::torture::tables;
use crate::torture::views::{KernelView, PodView, StoreView};
use crate::world::World;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Pods of each node: in `eni` mode so many need a second ENI.
pub(super) const PODS: usize = 12;
/// How long an agent may take to serve, and a controller until everything is as its list says.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How a daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// In order.
    Term,
    /// At once.
    Kill,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Term => "SIGTERM",
            Self::Kill => "SIGKILL",
        })
    }
}

/// A world under live flows.
#[derive(Debug)]
pub struct Stage<'w> {
    /// The world.
    pub world: &'w World,
    /// Every pod that lives.
    pub pods: Vec<Placed>,
    /// What ADD printed, by container.
    results: BTreeMap<String, Value>,
    pub(super) flows: Vec<Flow>,
    /// What flows lost that nobody is to blame for, in their order.
    pub(super) excused: Vec<u64>,
    /// The number of the next pod.
    next: u32,
    /// What the controller must leave alone, if there is one.
    granted: Option<Granted>,
    /// Spare machines on its list.
    listed: BTreeSet<usize>,
}

impl<'w> Stage<'w> {
    /// Controller, agents and pods of `build`.
    ///
    /// # Errors
    /// When a daemon or a pod does not come up.
    pub fn begin(world: &'w World, build: &Build) -> Result<Self> {
        let mut stage = Self {
            world,
            pods: Vec::new(),
            results: BTreeMap::new(),
            flows: Vec::new(),
            excused: Vec::new(),
            next: 1,
            granted: None,
            listed: BTreeSet::new(),
        };
        if world.has_controller() {
            world.start_controller_of(&build.ipamd)?;
        }
        for node in 0..world.nodes.len() {
            world.launch_agent_of(node, &build.ipamd)?;
            world.nodes[node].wait_ready()?;
        }
        if world.has_controller() {
            stage.wait_routed()?;
            stage.granted = Some(Granted::take(world)?);
        }
        for node in 0..world.nodes.len() {
            let runtime = stage.runtime(node, build)?;
            (0..PODS).try_for_each(|_| stage.add(node, &runtime))?;
        }
        Ok(stage)
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
        self.each_verb_with(node, runtime).with_context(|| format!("with the {} plugin", build.version))
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
    pub(super) fn replace_agent(&self, node: usize, build: &Build, how: How) -> Result<()> {
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
        self.world.launch_agent_of(node, &build.ipamd)?;
        self.world.nodes[node].wait_ready().with_context(|| format!("the {} agent", build.version))?;
        self.wait_served(&self.runtime(node, build)?)
    }

    /// Ends the controller and starts that of `build`, which finds that a spare machine joined its list, or left it.
    ///
    /// # Errors
    /// When the one does not end, or the other does not do what is to be done, or more.
    pub(super) fn replace_controller(&mut self, build: &Build, how: How) -> Result<()> {
        match how {
            How::Term => self.world.stop_controller()?,
            How::Kill => self.world.kill_controller()?,
        }
        if !self.listed.remove(&0) {
            self.listed.insert(0);
        }
        self.world.list_nodes(&self.listed)?;
        self.world.start_controller_of(&build.ipamd)?;
        self.wait_routed()
    }

    /// Until every listed machine, and no other, is led to and has its grant.
    fn wait_routed(&self) -> Result<()> {
        let (world, deadline) = (self.world, Instant::now() + PATIENCE);
        loop {
            self.granted_stays()?;
            let missing = tables::differences(world, &self.listed, &world.cloud()?)?;
            if missing.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "not within {PATIENCE:?}: {}", missing.join("; "));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn granted_stays(&self) -> Result<()> {
        let changes = self.granted.as_ref().map(|granted| granted.changes(self.world));
        let changes = changes.transpose()?.unwrap_or_default();
        ensure!(changes.is_empty(), "{}", changes.join("; "));
        Ok(())
    }

    /// A pod of this build comes and takes the place of one of the other build, which goes.
    ///
    /// # Errors
    /// When the plugin fails.
    pub(super) fn turn_over(&mut self, node: usize, build: &Build) -> Result<()> {
        // The first one has flows.
        let at = self.pods.iter().position(|placed| placed.node == node).context("the node has no pod")?;
        let runtime = self.runtime(node, build)?;
        self.add(node, &runtime)?;
        let gone = self.pods.swap_remove(at + 1);
        runtime.del(&gone.pod)
    }

    /// Everything that must hold after each step; the nodes have the plugins of these builds.
    ///
    /// # Errors
    /// With what does not hold.
    pub(super) fn look(&mut self, plugins: &[&Build]) -> Result<()> {
        plugins.iter().enumerate().try_for_each(|(node, build)| self.verbs(node, build))?;
        self.check_all()?;
        self.granted_stays()?;
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
        let kernels = self.world.nodes.iter().map(|node| KernelView::take(&node.netns));
        let kernels = kernels.collect::<Result<Vec<_>>>()?;
        for Placed { node, pod } in &self.pods {
            let address = pod.address.context("a pod has no address")?;
            let own = PodView::take(pod)?.addresses;
            ensure!(own == Some(vec![address]), "{} has {own:?} instead of {address}", pod.name);
            let led = kernels[*node].routes.iter().any(|(to, _)| *to == address);
            ensure!(led, "no route leads to {}", pod.name);
        }
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
