//! A worker: a part of a node's runtime, with pods of its own that it adds, checks and deletes, as kubelet would; and the plugin that it executes is
//! killed every so often at any instant.
//!
//! What a runtime owes the plugin is kept: one verb at a time per container, and a DEL after an ADD that failed or died, again and again until it
//! succeeds. Now and then a pod is forgotten without a DEL, which is what GC is for.

use super::dice::Dice;
use super::stage::{Site, Stage, Tally};
use crate::runtime::{Outcome, Pod, Runtime, ending};
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a DEL may fail. An agent that is away is no reason: the release is spooled then.
const DEL_LIMIT: Duration = Duration::from_secs(30);

/// Most kills of one pod's DEL: it must be allowed to succeed at some time.
const DEL_KILLS: u32 = 3;

/// Namespaces of deleted pods that are kept until the round's end, to see that nothing stays in them.
const GRAVES: usize = 3;

/// The pods of a worker; they outlive the rounds.
#[derive(Debug, Default)]
pub struct Crew {
    /// Those whose ADD succeeded and that live.
    pub live: Vec<Pod>,
    /// Namespaces whose pods were deleted.
    pub graves: Vec<Pod>,
}

/// A worker of one node in one round.
pub struct Worker<'a> {
    stage: &'a Stage<'a>,
    node: usize,
    site: &'a Site,
    runtime: Runtime,
    dice: Dice,
    crew: &'a mut Crew,
}

impl<'a> Worker<'a> {
    /// The worker of this number.
    ///
    /// # Errors
    /// When the plugin is not built.
    pub fn new(stage: &'a Stage<'a>, node: usize, number: u64, crew: &'a mut Crew) -> Result<Self> {
        let dice = Dice::of(stage.seed, &[stage.round, node as u64, number]);
        let runtime = stage.world.runtime(node)?;
        Ok(Self { stage, node, site: &stage.sites[node], runtime, dice, crew })
    }

    /// Works until the round's churn is over.
    ///
    /// # Errors
    /// When the harness itself fails; what the product does wrong is a complaint.
    pub fn work(mut self) -> Result<()> {
        while !self.stage.over.load(Ordering::Relaxed) {
            let (have, want) = (self.crew.live.len(), self.stage.plan.pods);
            let add = self.dice.chance(if have < want { 75 } else { 15 });
            match self.dice.below(10) {
                0 if have > 0 => self.check()?,
                _ if add => self.add()?,
                _ if have > 0 => self.remove()?,
                _ => std::thread::sleep(self.dice.millis(0, 30)),
            }
        }
        Ok(())
    }

    /// Deletes every pod, without killing anything.
    ///
    /// # Errors
    /// As [`Worker::work`].
    pub fn clear(mut self) -> Result<()> {
        while let Some(pod) = self.crew.live.pop() {
            self.bury(pod, 0)?;
        }
        Ok(())
    }

    fn add(&mut self) -> Result<()> {
        let mut pod = self.stage.world.pod(self.node, self.site.number())?;
        self.site.know(&pod.container_id, None);
        match self.execute("ADD", &pod, &Value::Null, self.stage.plan.plugin_kills)? {
            Some(outcome) if outcome.success => {
                let address = outcome.address()?;
                pod.address = Some(address);
                self.site.know(&pod.container_id, Some(address));
                Tally::count(&self.stage.tally.adds);
                self.crew.live.push(pod);
                Ok(())
            }
            other => {
                if let Some(outcome) = other {
                    Tally::count(&self.stage.tally.refused);
                    self.expect_code(&pod, "ADD", &outcome, &[11]);
                    std::thread::sleep(self.dice.millis(10, 120));
                }
                self.bury(pod, self.stage.plan.plugin_kills)
            }
        }
    }

    fn remove(&mut self) -> Result<()> {
        let chosen = self.dice.below(self.crew.live.len());
        let pod = self.crew.live.swap_remove(chosen);
        if self.dice.chance(6) {
            self.stage.note(&format!("node {} forgets {}", self.node, pod.name));
            Tally::count(&self.stage.tally.forgotten);
            self.site.forget(&pod.container_id);
            return Ok(());
        }
        if self.dice.chance(10) {
            // The namespace goes first, as after a crash of the runtime.
            pod.delete_netns();
        }
        self.bury(pod, self.stage.plan.plugin_kills)
    }

    /// DEL until it succeeds, and sometimes once more.
    fn bury(&mut self, pod: Pod, kills: usize) -> Result<()> {
        let (begin, mut killed) = (Instant::now(), 0);
        loop {
            let chance = if killed < DEL_KILLS { kills } else { 0 };
            match self.execute("DEL", &pod, &Value::Null, chance)? {
                Some(outcome) if outcome.success => {
                    Tally::count(&self.stage.tally.dels);
                    if !self.dice.chance(15) {
                        break;
                    }
                }
                Some(outcome) if begin.elapsed() > DEL_LIMIT => {
                    let (name, words) = (&pod.name, outcome.failure());
                    self.stage.complain(format!("DEL of {name} fails for {DEL_LIMIT:?}: {words}"));
                    break;
                }
                Some(_) => std::thread::sleep(Duration::from_millis(50)),
                None => killed += 1,
            }
        }
        self.site.forget(&pod.container_id);
        if self.crew.graves.len() < GRAVES {
            self.crew.graves.push(pod);
        }
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        let chosen = self.dice.below(self.crew.live.len());
        let pod = self.crew.live.swap_remove(chosen);
        let outcome = self.execute("CHECK", &pod, &previous(&pod), 0)?;
        match outcome {
            Some(outcome) if outcome.success => Tally::count(&self.stage.tally.checks),
            Some(outcome) => self.expect_code(&pod, "CHECK", &outcome, &[11]),
            None => {}
        }
        self.crew.live.push(pod);
        Ok(())
    }

    /// A refusal is right when it asks to try again; everything else is wrong with this configuration and this runtime.
    fn expect_code(&self, pod: &Pod, verb: &str, outcome: &Outcome, codes: &[u64]) {
        if !outcome.output["code"].as_u64().is_some_and(|code| codes.contains(&code)) {
            self.stage.complain(format!("{verb} of {}: {}", pod.name, outcome.failure()));
        }
    }

    /// Executes a verb; none if it was killed before its end.
    fn execute(&mut self, verb: &str, pod: &Pod, previous: &Value, kills: usize) -> Result<Option<Outcome>> {
        let _gate = self.site.gate.read().unwrap_or_else(PoisonError::into_inner);
        let fuse =
            self.dice.chance(kills).then(|| self.dice.millis(self.stage.plan.fuse.0, self.stage.plan.fuse.1));
        let begin = Instant::now();
        let mut child = self.runtime.start_after(verb, pod, &pod.netns_path(), previous)?;
        if let Some(fuse) = fuse {
            std::thread::sleep(fuse.saturating_sub(begin.elapsed()));
            child.kill()?;
        }
        let outcome = ending(verb, child)?;
        let words = match &outcome {
            None => format!("KILLED after {:?}", begin.elapsed()),
            Some(outcome) if outcome.success => {
                format!("ok {} in {:?}", outcome.output["ips"][0]["address"], begin.elapsed())
            }
            Some(outcome) => format!("refused: {}", outcome.failure()),
        };
        self.stage.note(&format!("node {} {verb} {}: {words}", self.node, pod.name));
        if outcome.is_none() {
            if fuse.is_none() {
                bail!("{verb} of {} died of a signal that nobody here sent", pod.name);
            }
            Tally::count(&self.stage.tally.plugin_kills);
        }
        Ok(outcome)
    }
}

/// The result that a runtime remembers of the pod's ADD.
fn previous(pod: &Pod) -> Value {
    let Some(address) = pod.address else { return Value::Null };
    json!({
        "cniVersion": "1.1.0",
        "interfaces": [{"name": crate::runtime::IF_NAME, "sandbox": pod.netns_path()}],
        "ips": [{"address": format!("{address}/32"), "interface": 0}],
    })
}
