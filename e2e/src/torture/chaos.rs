//! What happens to a node beside its runtime's work: its agent is killed and comes back, GC runs, an ENI without pods vanishes. And to the cloud: its
//! faults, and the end of a machine.

use super::dice::Dice;
use super::stage::{Stage, Tally};
use super::tables;
use crate::runtime::Pod;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long after an ENI vanished the agent may take to see it: until then it might hand out an address of it, which no agent can help. So
/// many short sleeps: a machine that stands still ends one of them, and not all.
const SIGHT: (u32, Duration) = (40, Duration::from_millis(50));

/// Kills the agent of a node again and again until the round's churn is over. An agent runs at the end.
///
/// # Errors
/// When an agent cannot be started, or ended by itself.
pub fn kill_agents(stage: &Stage<'_>, node: usize) -> Result<()> {
    let mut dice = Dice::of(stage.seed, &[stage.round, node as u64, 100]);
    let plan = &stage.plan;
    while !stage.over.load(Ordering::Relaxed) {
        stage.sleep(dice.millis(plan.agent_lives.0, plan.agent_lives.1));
        kill(stage, node)?;
        stage.sleep(dice.millis(plan.agent_away.0, plan.agent_away.1));
        stage.world.launch_agent(node)?;
    }
    Ok(())
}

/// Kills the agent of a node; it must not have ended by itself before.
///
/// # Errors
/// When it had.
pub fn kill(stage: &Stage<'_>, node: usize) -> Result<()> {
    if let Some(ended) = stage.world.nodes[node].agent_ended()? {
        bail!("the agent of node {node} ended by itself: {ended}");
    }
    stage.world.nodes[node].kill_agent()?;
    stage.note(&format!("node {node} agent KILLED"));
    Tally::count(&stage.tally.agent_kills);
    Ok(())
}

/// Runs GC on some node, and lets an ENI vanish and a machine end if the plan says so, at times of the round.
///
/// # Errors
/// When the harness itself fails.
pub fn disturb(stage: &Stage<'_>) -> Result<()> {
    let mut dice = Dice::of(stage.seed, &[stage.round, 200]);
    stage.world.set_faults(&stage.plan.faults).context("set the round's faults")?;
    let (mut vanish, mut ends) = (stage.plan.vanish, stage.plan.ends);
    while !stage.over.load(Ordering::Relaxed) {
        stage.sleep(dice.millis(300, 1500));
        let node = dice.below(stage.sites.len());
        if vanish && dice.chance(50) {
            vanish = !let_vanish(stage, node, &mut dice)?;
        } else if ends && dice.chance(50) {
            ends = !tables::let_end(stage, &mut dice)?;
        } else if dice.chance(40) {
            collect(stage, node)?;
        }
    }
    Ok(())
}

/// One GC, with all that the runtime knows. Tells whether it succeeded: with the agent away or starting it may not.
///
/// # Errors
/// When the plugin cannot be executed.
pub fn collect(stage: &Stage<'_>, node: usize) -> Result<bool> {
    let site = &stage.sites[node];
    let _gate = site.gate.write().unwrap_or_else(PoisonError::into_inner);
    let attachment =
        |container: &String| json!({"containerID": container, "ifname": crate::runtime::IF_NAME});
    let valid: Vec<Value> = site.known().keys().map(attachment).collect();
    let runtime = stage.world.runtime(node)?.with_conf("cni.dev/valid-attachments", json!(valid));
    // GC is about no pod; the namespace is not looked at.
    let nobody = Pod::create(&format!("{}-gc-{node}", stage.world.name()), "none", "gc", &"0".repeat(64))?;
    let outcome = runtime.execute("GC", &nobody, &nobody.netns_path())?;
    let words = if outcome.success { "ok".to_owned() } else { outcome.failure() };
    stage.note(&format!("node {node} GC with {} valid: {words}", valid.len()));
    if outcome.success {
        Tally::count(&stage.tally.gcs);
    }
    Ok(outcome.success)
}

/// Lets a secondary ENI vanish that no pod is on; false if there is none.
fn let_vanish(stage: &Stage<'_>, node: usize, dice: &mut Dice) -> Result<bool> {
    let site = &stage.sites[node];
    let _gate = site.gate.write().unwrap_or_else(PoisonError::into_inner);
    let held: Vec<_> = site.known().into_values().flatten().collect();
    let name = &stage.world.nodes[node].name;
    let cloud = stage.world.cloud()?;
    let enis = cloud.nodes.get(name).map(Vec::as_slice).unwrap_or_default();
    let free: Vec<_> = enis
        .iter()
        .filter(|eni| eni.device_index > 0 && !eni.addresses.iter().any(|address| held.contains(address)))
        .collect();
    if free.is_empty() {
        return Ok(false);
    }
    let eni = free[dice.below(free.len())].id.clone();
    strike(stage, json!({"kind": "vanish", "name": "vanish", "eni": eni}))?;
    stage.note(&format!("node {node}: {eni} vanishes"));
    let deadline = Instant::now() + Duration::from_secs(30);
    while stage.world.cloud()?.nodes.get(name).is_some_and(|enis| enis.iter().any(|other| other.id == eni)) {
        if Instant::now() > deadline {
            // It was in the middle of an attachment; then it is not there to vanish.
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    (0..SIGHT.0).for_each(|_| std::thread::sleep(SIGHT.1));
    Tally::count(&stage.tally.vanished);
    Ok(true)
}

/// Lets one more fault strike, beside the round's.
///
/// # Errors
/// When vpcsim does not take it.
pub fn strike(stage: &Stage<'_>, fault: Value) -> Result<()> {
    let mut faults = stage.plan.faults.clone();
    faults.push(fault);
    stage.world.set_faults(&faults)
}

/// A node that has no agent just now loses some addresses of a secondary ENI, if it has any there. Tells whether it did.
///
/// # Errors
/// When vpcsim cannot be asked.
pub fn lose_addresses(stage: &Stage<'_>, node: usize, count: usize) -> Result<bool> {
    let name = &stage.world.nodes[node].name;
    let secondary = || -> Result<usize> {
        let enis = stage.world.cloud()?.nodes.remove(name).unwrap_or_default();
        Ok(enis.iter().filter(|eni| eni.device_index > 0).map(|eni| eni.addresses.len()).sum())
    };
    let before = secondary()?;
    if before == 0 {
        return Ok(false);
    }
    stage.world.set_faults(&[json!({"kind": "loseAddresses", "node": name, "count": count})])?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while secondary()? >= before {
        ensure!(Instant::now() < deadline, "{name} loses none of its {before} addresses");
        std::thread::sleep(Duration::from_millis(10));
    }
    stage.world.set_faults(&[])?;
    stage.note(&format!("node {node}: {count} addresses are lost"));
    Tally::count(&stage.tally.lost);
    Ok(true)
}
