//! What happens to the controller: it is killed and comes back, while machines join its list and leave it, or end, so that there are routes to make and
//! to remove. At the end of a round every table must lead each listed node's one block to that node, and nothing else.

use super::chaos::strike;
use super::dice::Dice;
use super::stage::{Stage, Tally};
use super::verdict::{self, Target};
use crate::cloud::CloudView;
use crate::routes::{Route, RouteTables};
use crate::world::{MANAGED_TABLES, NodeMode, POD_CIDR, World};
use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Machines that join and leave.
pub const SPARES: u32 = 6;

/// So many of them do not end.
const LASTING: usize = 3;

/// Kills the controller again and again until the round's churn is over. A controller runs at the end.
///
/// # Errors
/// When it cannot be started, or ended by itself.
pub fn kill_controllers(stage: &Stage<'_>) -> Result<()> {
    let mut dice = Dice::of(stage.seed, &[stage.round, 300]);
    let plan = &stage.plan;
    while !stage.over.load(Ordering::Relaxed) {
        stage.sleep(dice.millis(plan.agent_lives.0, plan.agent_lives.1));
        restart(stage, dice.millis(plan.agent_away.0, plan.agent_away.1))?;
    }
    Ok(())
}

/// Kills the controller and starts it again after a while; it must not have ended by itself before.
///
/// # Errors
/// When it had, or cannot be started.
pub fn restart(stage: &Stage<'_>, away: Duration) -> Result<()> {
    if let Some(ended) = stage.world.controller_ended()? {
        bail!("the controller ended by itself: {ended}");
    }
    stage.world.kill_controller()?;
    stage.note("controller KILLED");
    Tally::count(&stage.tally.controller_kills);
    stage.sleep(away);
    stage.world.start_controller()
}

/// Changes the controller's list until the round's churn is over.
///
/// # Errors
/// When the list cannot be written.
pub fn change_list(stage: &Stage<'_>) -> Result<()> {
    let mut dice = Dice::of(stage.seed, &[stage.round, 400]);
    while !stage.over.load(Ordering::Relaxed) {
        stage.sleep(dice.millis(200, 1500));
        // Those that ended, too: whoever writes the list may not know yet.
        list(stage, (0..stage.world.spares.len()).filter(|_| dice.chance(50)).collect())?;
    }
    Ok(())
}

fn list(stage: &Stage<'_>, spares: BTreeSet<usize>) -> Result<()> {
    stage.world.list_nodes(&spares)?;
    stage.note(&format!("listed beside the nodes: {spares:?}"));
    Tally::count(&stage.tally.lists);
    *stage.listed() = spares;
    Ok(())
}

/// Lets a listed machine end that has routes, which lead nowhere from then on; false if there is none to end.
///
/// # Errors
/// When it does not end.
pub fn let_end(stage: &Stage<'_>, dice: &mut Dice) -> Result<bool> {
    let (world, listed) = (stage.world, stage.listed().clone());
    if stage.ended().len() + LASTING >= world.spares.len() {
        return Ok(false);
    }
    let (cloud, routes) = (world.cloud()?, pods(&world.routes()?, MANAGED_TABLES[0]));
    let is_led_to = |spare: &usize| {
        let eni = primary(&cloud, &world.spares[*spare].name);
        eni.is_ok_and(|eni| routes.iter().any(|route| route.target == eni))
    };
    let mortal: Vec<usize> = listed.into_iter().filter(is_led_to).collect();
    if mortal.is_empty() {
        return Ok(false);
    }
    let spare = mortal[dice.below(mortal.len())];
    let name = &world.spares[spare].name;
    strike(stage, json!({"kind": "terminate", "name": "terminate", "node": name}))?;
    stage.note(&format!("{name} ends"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while world.cloud()?.nodes.contains_key(name) {
        ensure!(Instant::now() < deadline, "{name} does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
    Tally::count(&stage.tally.ended);
    stage.ended().insert(spare);
    Ok(true)
}

/// Machines that ended leave the list, as their nodes leave a cluster, and a fresh controller starts.
///
/// # Errors
/// As [`restart`], or when the list cannot be written.
pub fn settle(stage: &Stage<'_>) -> Result<()> {
    let lasting = &*stage.listed() - &*stage.ended();
    list(stage, lasting)?;
    restart(stage, Duration::ZERO)
}

/// What is not yet as the list wants it, which names these spare machines beside the nodes.
///
/// # Errors
/// When a view cannot be taken.
pub fn differences(world: &World, listed: &BTreeSet<usize>, cloud: &CloudView) -> Result<Vec<String>> {
    let nodes = world.nodes.iter().filter(|node| node.mode == NodeMode::VpcRoute).map(|node| &node.name);
    let names = nodes.chain(listed.iter().map(|spare| &world.spares[*spare].name));
    let targets = names.map(|name| Ok(Target { name: name.clone(), eni: primary(cloud, name)?.to_owned() }));
    let targets: Vec<Target> = targets.collect::<Result<_>>()?;
    let tables = world.routes()?;
    let tables = MANAGED_TABLES.map(|table| (table, pods(&tables, table)));
    let mut lines = verdict::routes(&tables, &targets);
    let ready = grants(world)?.into_iter().map(|(name, grant)| (name, grant["ready"] == true)).collect();
    lines.extend(verdict::grants(&ready, &targets));
    Ok(lines)
}

/// The cloud with the addresses of each block on the primary ENI of the node that the tables lead it to, where a node in `eni` mode has its own.
///
/// # Errors
/// When vpcsim does not answer.
pub fn with_blocks(world: &World, mut cloud: CloudView) -> Result<CloudView> {
    if !world.has_controller() {
        return Ok(cloud);
    }
    let blocks: BTreeMap<String, IpNet> = pods(&world.routes()?, MANAGED_TABLES[0])
        .into_iter()
        .map(|route| (route.target, route.destination))
        .collect();
    for node in world.nodes.iter().filter(|node| node.mode == NodeMode::VpcRoute) {
        let primary = cloud.nodes.get_mut(&node.name).and_then(|enis| enis.first_mut());
        let primary = primary.with_context(|| format!("{} has no ENI", node.name))?;
        let block = blocks.get(&primary.id);
        primary.addresses = match block {
            // All that pods may have: all of these are translated, whoever has them.
            Some(IpNet::V4(block)) => block.hosts().map(IpAddr::V4).collect(),
            _ => Vec::new(),
        };
    }
    Ok(cloud)
}

fn primary<'a>(cloud: &'a CloudView, name: &str) -> Result<&'a str> {
    let primary = cloud.nodes.get(name).and_then(|enis| enis.first());
    primary.map(|eni| eni.id.as_str()).with_context(|| format!("{name} has no ENI"))
}

/// The routes to pods of one table.
pub(crate) fn pods(tables: &RouteTables, table: &str) -> Vec<Route> {
    let range = POD_CIDR.parse().expect("a CIDR");
    tables.within(table, &range).cloned().collect()
}

/// What each machine was granted, by its name.
pub(crate) fn grants(world: &World) -> Result<BTreeMap<String, Value>> {
    let mut grants = BTreeMap::new();
    for entry in std::fs::read_dir(world.grant_dir().join("nodes")).context("list the grants")? {
        let path = entry.context("list the grants")?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")) else {
            continue;
        };
        // One that is gone meanwhile is none.
        let Ok(text) = std::fs::read(&path) else { continue };
        let grant = serde_json::from_slice(&text).with_context(|| format!("read the grant of {name}"))?;
        grants.insert(name.to_owned(), grant);
    }
    Ok(grants)
}
