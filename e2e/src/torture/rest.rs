//! The end of a round: leave everything in peace, and look until the views agree, for a bounded time.

use super::chaos;
use super::churn::Crew;
use super::stage::Stage;
use super::tables;
use super::verdict::{self, Live};
use super::views::{KernelView, PodView, StoreView, spool};
use crate::runtime::Pod;
use crate::traffic::{Echo, ask};
use crate::world::{Node, NodeMode};
use anyhow::{Context, Result, ensure};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long agents may take to bring everything in order once nothing disturbs them: cooldown, settle time, a search for an ENI that may exist, and
/// the sweep that finds veths of killed plugins.
const LIMIT: Duration = Duration::from_secs(120);

/// How long an agent may take from its start until it has brought back what EC2 lost of its pods.
const REPAIR: Duration = Duration::from_secs(60);

/// How long a GC may be refused after a start.
const GC_LIMIT: Duration = Duration::from_secs(60);

/// Everybody who lives, by node.
struct Census<'a> {
    pods: Vec<Vec<&'a Pod>>,
    live: Vec<Vec<Live>>,
    graves: Vec<&'a Pod>,
}

impl<'a> Census<'a> {
    fn take(anchors: &'a [(usize, Pod)], crews: &'a [Vec<Crew>]) -> Result<Self> {
        let of = |node: usize| {
            let anchors = anchors.iter().filter(move |(at, _)| *at == node).map(|(_, pod)| pod);
            anchors.chain(crews[node].iter().flat_map(|crew| &crew.live)).collect::<Vec<_>>()
        };
        let pods: Vec<Vec<&Pod>> = (0..crews.len()).map(of).collect();
        let live =
            pods.iter().map(|pods| pods.iter().map(|pod| live(pod)).collect()).collect::<Result<_>>()?;
        Ok(Self { pods, live, graves: crews.iter().flatten().flat_map(|crew| &crew.graves).collect() })
    }
}

fn live(pod: &Pod) -> Result<Live> {
    let address = pod.address.with_context(|| format!("{} has no address", pod.name))?;
    Ok(Live { container: pod.container_id.clone(), name: pod.name.clone(), address })
}

/// Brings the world to rest and compares. Agents run again afterwards.
///
/// # Errors
/// When something does not come to rest, or the harness itself fails; other differences are complaints.
pub fn settle(stage: &Stage<'_>, anchors: &[(usize, Pod)], crews: &[Vec<Crew>]) -> Result<()> {
    let begin = Instant::now();
    if stage.world.has_controller() {
        tables::settle(stage)?;
    }
    let census = Census::take(anchors, crews)?;
    // Fresh agents: what those before them had learnt to wait for is no matter here.
    (0..stage.sites.len()).try_for_each(|node| chaos::kill(stage, node))?;
    for (node, live) in census.live.iter().enumerate() {
        let lost = stage.plan.lost > 0 && chaos::lose_addresses(stage, node, stage.plan.lost)?;
        stage.world.launch_agent(node)?;
        if lost {
            // Before another node's agent may be given what pods of this one lost.
            brought_back(stage, node, live)?;
        }
    }
    stage.world.nodes.iter().try_for_each(Node::wait_ready)?;
    verdict::doubled(&census.live).into_iter().for_each(|line| stage.complain(line));
    pods(stage, &census)?;
    traffic(stage, &census)?;
    for node in 0..stage.sites.len() {
        collect(stage, node)?;
    }
    agree(stage, &census, begin)?;
    // Once more, after agents did all they wanted.
    traffic(stage, &census)?;
    stage.note(&format!("at rest after {:?}", begin.elapsed()));
    for (node, live) in census.live.iter().enumerate() {
        chaos::kill(stage, node)?;
        let at = &stage.world.nodes[node];
        let cloud = tables::with_blocks(stage.world, stage.world.cloud()?)?;
        let enis = cloud.nodes.get(&at.name).map(Vec::as_slice).unwrap_or_default();
        complain(stage, node, verdict::store(&StoreView::take(at)?.holdings_only(), live, enis));
        stage.world.launch_agent(node)?;
    }
    stage.world.nodes.iter().try_for_each(Node::wait_ready)
}

/// Waits until the cloud shows every pod's address on the node again.
fn brought_back(stage: &Stage<'_>, node: usize, live: &[Live]) -> Result<()> {
    let (begin, name) = (Instant::now(), &stage.world.nodes[node].name);
    loop {
        let cloud = stage.world.cloud()?;
        let Some(pod) = live.iter().find(|pod| cloud.owner(name, pod.address).is_none()) else {
            return Ok(());
        };
        ensure!(
            begin.elapsed() < REPAIR,
            "{} of {} is not brought back within {REPAIR:?}",
            pod.address,
            pod.name
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn complain(stage: &Stage<'_>, node: usize, lines: Vec<String>) {
    lines.into_iter().for_each(|line| stage.complain(format!("{}: {line}", stage.world.nodes[node].name)));
}

/// What was forgotten goes now.
fn collect(stage: &Stage<'_>, node: usize) -> Result<()> {
    let begin = Instant::now();
    while !chaos::collect(stage, node)? {
        ensure!(begin.elapsed() < GC_LIMIT, "GC on node {node} fails for {GC_LIMIT:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// What the pods see of themselves.
fn pods(stage: &Stage<'_>, census: &Census<'_>) -> Result<()> {
    for (node, (pods, live)) in census.pods.iter().zip(&census.live).enumerate() {
        let seen = pods.iter().zip(live).map(|(pod, live)| Ok((live.clone(), PodView::take(pod)?)));
        complain(stage, node, verdict::pods(&seen.collect::<Result<Vec<_>>>()?, &[]));
    }
    Ok(())
}

/// Every pod exchanges packets with every other one and with every node, and each sees the other's own address.
fn traffic(stage: &Stage<'_>, census: &Census<'_>) -> Result<()> {
    let nodes = &stage.world.nodes;
    let mut namespaces: Vec<_> = census.pods.iter().flatten().map(|pod| &pod.netns).collect();
    namespaces.extend(nodes.iter().map(|node| &node.netns));
    let _echo = Echo::start(&namespaces)?;
    let everybody: Vec<IpAddr> = census.live.iter().flatten().map(|pod| pod.address).collect();
    let everywhere: Vec<IpAddr> =
        everybody.iter().copied().chain(nodes.iter().map(|node| node.primary_address)).collect();
    for (pod, live) in census.pods.iter().flatten().zip(census.live.iter().flatten()) {
        let others: Vec<IpAddr> =
            everywhere.iter().copied().filter(|target| *target != live.address).collect();
        let seen = ask(&pod.netns, &others)?;
        for target in &others {
            if seen.get(target) != Some(&live.address) {
                let (name, own, saw) = (&live.name, live.address, seen.get(target));
                stage.complain(format!("cut off: {name} ({own}) asked {target}, which saw {saw:?}"));
            }
        }
    }
    for node in nodes {
        let seen = ask(&node.netns, &everybody)?;
        for target in everybody.iter().filter(|target| !seen.contains_key(*target)) {
            stage.complain(format!("cut off: {} got no answer from {target}", node.name));
        }
    }
    Ok(())
}

/// Looks until cloud, kernels, stores and spools have nothing that should not be.
fn agree(stage: &Stage<'_>, census: &Census<'_>, begin: Instant) -> Result<()> {
    loop {
        let lines = differences(stage, census)?;
        if lines.is_empty() {
            return Ok(());
        }
        ensure!(begin.elapsed() < LIMIT, "not in order after {LIMIT:?}:\n  {}", lines.join("\n  "));
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn differences(stage: &Stage<'_>, census: &Census<'_>) -> Result<Vec<String>> {
    let cloud = stage.world.cloud()?;
    let mut lines = Vec::new();
    if stage.world.has_controller() {
        lines.extend(tables::differences(stage.world, &stage.listed(), &cloud)?);
    }
    let cloud = tables::with_blocks(stage.world, cloud)?;
    let most = |node: &Node| (node.mode == NodeMode::Eni).then_some(stage.most);
    let nodes = stage.world.nodes.iter().zip(&census.live);
    let by_name: Vec<_> = nodes.map(|(node, live)| (node.name.clone(), live.clone(), most(node))).collect();
    lines.extend(verdict::cloud(&cloud, &by_name));
    for (node, (name, live, _)) in stage.world.nodes.iter().zip(&by_name) {
        let enis = cloud.nodes.get(name).map(Vec::as_slice).unwrap_or_default();
        let mut found = verdict::kernel(&KernelView::take(&node.netns)?, live, enis);
        match StoreView::take(node) {
            Ok(view) => found.extend(verdict::store(&view, live, enis)),
            // It is being written while it is read; the next look finds it whole.
            Err(error) => found.push(format!("{error:#}")),
        }
        found.extend(spool(node)?.into_iter().map(|file| format!("leaked: {file} in the spool")));
        lines.extend(found.into_iter().map(|line| format!("{name}: {line}")));
    }
    let graves = census.graves.iter().map(|pod| Ok((pod.name.clone(), PodView::take(pod)?)));
    lines.extend(verdict::pods(&[], &graves.collect::<Result<Vec<_>>>()?));
    Ok(lines)
}
