//! Torture: a VPC with faults, agents, plugins and a controller that are killed at any instant, pods that come and go meanwhile; and after each
//! round the question whether anything was lost, doubled, leaked or cut off.
//!
//! A round: faults are switched on, workers add and delete pods on every node while agents and plugins die of SIGKILL (`churn`, `chaos`), and with
//! them the controller, whose list of nodes changes all the time (`tables`). Then everything is left in peace: faults off, a fresh agent, GC once.
//! Within a bounded time the views must agree (`views`, `verdict`): the agent's store, the kernel, the cloud with its route tables, the pods. Two
//! pods and their flows live as long as the run (`flows`).
//!
//! The schedule comes from the seed alone (`dice`, `plan`); how it falls together with the work of processes does not. A failing round
//! is tried again with the same seed, and says all it knows (`evidence`).

pub mod chaos;
pub mod churn;
pub mod dice;
pub mod evidence;
pub mod flows;
pub mod plan;
pub mod rest;
pub mod stage;
pub mod tables;
pub mod verdict;
pub mod views;

use crate::runtime::Pod;
use crate::world::{Mode, Node, World, WorldSpec};
use anyhow::{Context, Result, bail, ensure};
use churn::{Crew, Worker};
use flows::Flow;
use plan::RoundPlan;
use stage::Stage;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use verdict::Most;

/// Free addresses that each node keeps.
pub const STOCK: u32 = 3;

/// One more than it takes for packets to leave a node.
const NODES: u32 = 2;

/// Workers on each node.
const WORKERS: usize = 3;

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct Torture {
    /// Prefix of the world's namespaces.
    pub name: String,
    /// Of its two nodes.
    pub mode: Mode,
    /// The seed.
    pub seed: u64,
    /// The first round; later ones replay the end of a longer run.
    pub first: u64,
    /// Rounds.
    pub rounds: u64,
}

/// What a run has to show.
#[derive(Debug)]
pub struct Survived {
    /// Agents and plugins that were killed.
    pub kills: u64,
    /// All counts, in words.
    pub summary: String,
}

impl Torture {
    /// The world: short times, so that a round ends soon, and a small stock, so that agents have to do with EC2 all the time.
    fn spec(&self) -> WorldSpec {
        let stock = STOCK.to_string();
        let pool = [
            ("prefixDelegation", if self.delegated() { "auto" } else { "off" }),
            ("warmIpTarget", stock.as_str()),
            ("maxAboveWarm", "0"),
            ("cooldownSeconds", "1"),
            ("shrinkDelaySeconds", "1"),
        ];
        let agent = [("addWaitSeconds", "3"), ("reconcileSeconds", "10"), ("settleSeconds", "3")];
        // As many deletes as there is to do: what holds the controller back from more is tried elsewhere, and a round shall end.
        let controller = [
            ("reconcileSeconds", "10"),
            ("settleSeconds", "3"),
            ("cooldownSeconds", "3"),
            ("nodeGraceSeconds", "0"),
            ("allowDeletes", "1000"),
        ];
        WorldSpec {
            name: self.name.clone(),
            nodes: NODES,
            modes: self.mode.of_nodes().to_vec(),
            spares: if self.mode == Mode::Eni { 0 } else { tables::SPARES },
            instance_type: "m5.large".to_owned(),
            pool: pool.into_iter().map(|(key, value)| (key, value.to_owned())).collect(),
            cni: BTreeMap::new(),
            agent: agent.into_iter().map(|(key, value)| (key, value.to_owned())).collect(),
            controller: controller.into_iter().map(|(key, value)| (key, value.to_owned())).collect(),
        }
    }

    /// Whether nodes use prefixes: with an odd seed.
    const fn delegated(&self) -> bool {
        self.seed % 2 == 1
    }

    /// What a node may hold when it rests. Pods that come and go leave prefixes behind with one pod in each.
    const fn most(&self) -> Most {
        let stock = STOCK as usize;
        if self.delegated() {
            Most { per_pod: 16, beyond: stock + 15 }
        } else {
            Most { per_pod: 1, beyond: stock }
        }
    }

    /// Runs all rounds. `say` gets a line per round; `go_on` is asked between rounds, and its error ends the run.
    ///
    /// # Errors
    /// With everything that was found wrong in the first round in which something was, the place of the evidence, and how to repeat it.
    pub fn run(&self, say: &dyn Fn(&str), go_on: &dyn Fn() -> Result<()>) -> Result<Survived> {
        let world = World::up(&self.spec())?;
        let outcome = self.rounds(&world, say, go_on);
        let outcome = outcome.map_err(|error| {
            let kept = evidence::keep(&world, self.seed);
            error.context(format!("evidence: {}", kept.unwrap_or_else(|error| format!("none: {error:#}"))))
        });
        let down = world.down().context("take the world down");
        let survived = outcome?;
        down?;
        Ok(survived)
    }

    fn rounds(&self, world: &World, say: &dyn Fn(&str), go_on: &dyn Fn() -> Result<()>) -> Result<Survived> {
        let mut stage = Stage::new(world, self.seed, self.most()).context("write a journal")?;
        if world.has_controller() {
            world.start_controller()?;
        }
        for node in 0..world.nodes.len() {
            world.launch_agent(node)?;
        }
        world.nodes.iter().try_for_each(Node::wait_ready)?;
        let anchors = anchors(&stage)?;
        let flows = flows_between(&anchors)?;
        let mut crews: Vec<Vec<Crew>> =
            (0..world.nodes.len()).map(|_| (0..WORKERS).map(|_| Crew::default()).collect()).collect();
        for round in self.first..self.first + self.rounds {
            go_on()?;
            (stage.round, stage.plan) = (round, RoundPlan::draw(self.seed, round));
            stage.over.store(false, Ordering::Relaxed);
            stage.note(&format!("{:?}", stage.plan));
            let begin = Instant::now();
            let settled = churn(&stage, &mut crews).and_then(|()| rest::settle(&stage, &anchors, &crews));
            flows.iter().filter_map(Flow::complaint).for_each(|complaint| stage.complain(complaint));
            if let Err(error) = settled {
                stage.complain(format!("{error:#}"));
            }
            self.judge(&stage)?;
            crews.iter_mut().flatten().for_each(|crew| crew.graves.clear());
            say(&line(&stage, &flows, begin.elapsed()));
        }
        clear(&stage, &mut crews)?;
        rest::settle(&stage, &anchors, &crews)?;
        self.judge(&stage)?;
        Ok(Survived { kills: stage.tally.kills(), summary: summary(&stage, &flows) })
    }

    /// Ends the run when something is wrong.
    fn judge(&self, stage: &Stage<'_>) -> Result<()> {
        let complaints = stage.complaints();
        if complaints.is_empty() {
            return Ok(());
        }
        bail!(
            "round {round} of seed {seed}:\n  {}\n\nthe end of the schedule:\n  {}\n\nagain: make torture MODE={mode} SEED={seed} FIRST={round} ROUNDS=1 (the whole run: SEED={seed} ROUNDS={round})",
            complaints.join("\n  "),
            stage.tail().join("\n  "),
            mode = self.mode,
            seed = self.seed,
            round = stage.round,
        )
    }
}

/// A pod on each node that lives as long as the run, and a second one on the first node.
fn anchors(stage: &Stage<'_>) -> Result<Vec<(usize, Pod)>> {
    let mut anchors = Vec::new();
    for node in (0..stage.world.nodes.len()).chain([0]) {
        let mut pod = stage.world.pod(node, stage.sites[node].number())?;
        let runtime = stage.world.runtime(node)?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = runtime.add(&mut pod) {
            ensure!(Instant::now() < deadline, "the first pods: {error:#}");
            runtime.del(&pod)?;
        }
        stage.sites[node].know(&pod.container_id, pod.address);
        anchors.push((node, pod));
    }
    Ok(anchors)
}

/// From the first pod to each other: to the same node, and to another one.
fn flows_between(anchors: &[(usize, Pod)]) -> Result<Vec<Flow>> {
    let (_, first) = anchors.first().context("there is no pod to begin with")?;
    let mut flows = Vec::new();
    for (_, pod) in &anchors[1..] {
        flows.extend(Flow::between(first, pod)?);
    }
    Ok(flows)
}

/// One round of pods that come and go.
fn churn(stage: &Stage<'_>, crews: &mut [Vec<Crew>]) -> Result<()> {
    std::thread::scope(|scope| {
        let mut threads = vec![scope.spawn(|| chaos::disturb(stage))];
        if stage.world.has_controller() {
            threads.push(scope.spawn(|| tables::kill_controllers(stage)));
            threads.push(scope.spawn(|| tables::change_list(stage)));
        }
        for (node, crew) in crews.iter_mut().enumerate() {
            threads.push(scope.spawn(move || chaos::kill_agents(stage, node)));
            for (number, crew) in crew.iter_mut().enumerate() {
                threads.push(scope.spawn(move || Worker::new(stage, node, number as u64, crew)?.work()));
            }
        }
        let deadline = Instant::now() + Duration::from_millis(stage.plan.churn_millis);
        while Instant::now() < deadline && !threads.iter().any(std::thread::ScopedJoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(10));
        }
        stage.over.store(true, Ordering::Relaxed);
        // Deleting needs the cloud for nothing, but what follows does.
        let off = || stage.world.set_faults(&[]).context("switch the faults off");
        let faults = off();
        let joined: Vec<Result<()>> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread of the harness failed")))
            .collect();
        // Whoever let an ENI vanish just then has switched them on again.
        joined.into_iter().collect::<Result<()>>().and(faults).and_then(|()| off())
    })
}

/// Every pod but those that the flows are between goes.
fn clear(stage: &Stage<'_>, crews: &mut [Vec<Crew>]) -> Result<()> {
    stage.note("all pods go");
    for (node, crew) in crews.iter_mut().enumerate() {
        for (number, crew) in crew.iter_mut().enumerate() {
            Worker::new(stage, node, number as u64, crew)?.clear()?;
        }
    }
    Ok(())
}

fn line(stage: &Stage<'_>, flows: &[Flow], took: Duration) -> String {
    let kinds = |fault: &serde_json::Value| fault["kind"].as_str().unwrap_or_default().to_owned();
    let faults: Vec<_> = stage.plan.faults.iter().map(kinds).collect();
    let (sent, lost) = totals(flows);
    format!(
        "round {}: {:.1} s, {} kills so far, flows {lost} of {sent} lost; {}",
        stage.round,
        took.as_secs_f64(),
        stage.tally.kills(),
        if faults.is_empty() { "no faults".to_owned() } else { faults.join(", ") }
    )
}

fn summary(stage: &Stage<'_>, flows: &[Flow]) -> String {
    let (sent, lost) = totals(flows);
    let slowest = flows.iter().map(|flow| flow.seen().slowest).max().unwrap_or_default();
    format!(
        "{}; {} flows lived through it, {lost} of {sent} probes lost, the slowest answer after {:.0} ms",
        stage.tally,
        flows.len(),
        slowest.as_secs_f64() * 1000.0
    )
}

fn totals(flows: &[Flow]) -> (u64, u64) {
    flows.iter().map(Flow::seen).fold((0, 0), |(sent, lost), seen| (sent + seen.sent, lost + seen.lost))
}
