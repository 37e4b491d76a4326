//! `make demo`: the main job of Spur, shown with real kernel, real packets and real API calls on one machine.
//!
//! Order: a world by vpcsim, a controller if the mode needs one, an agent per node, pods by the real plugin, checks with traffic, pods away again, and the comparison of
//! kernel and cloud with the time before. Whatever goes wrong, and when interrupted, the world is taken down first; then the error is printed and
//! the exit status is not 0.

mod tables;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use spur_e2e::checks::{self, Check, Placed};
use spur_e2e::interrupt::Interrupt;
use spur_e2e::rest::Rest;
use spur_e2e::world::{Mode, NodeMode, World, WorldSpec};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tables::{call_table, check_table, pod_table};

/// Most nodes and pods that one small machine carries in reasonable time.
const MAX_NODES: u32 = 50;

/// What an IPv4 block of the controller's default size has for pods: all but the first and the last address.
const BLOCK_ADDRESSES: u32 = 126;

/// Shows Spur in a VPC on this machine.
#[derive(Debug, Parser)]
struct Arguments {
    /// Nodes in the VPC; they alternate between two subnets.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_NODES)))]
    nodes: u32,
    /// Where pods get their addresses from.
    #[arg(long, value_enum, default_value_t = Mode::Eni)]
    mode: Mode,
    /// Pods per node.
    #[arg(long, default_value_t = 12)]
    pods: u32,
    /// Instance type of the nodes.
    #[arg(long = "type", default_value = "m5.large")]
    instance_type: String,
    /// Name of the world: what its network namespaces begin with.
    #[arg(long, default_value = "spur-demo")]
    name: String,
}

/// Progress with the time since the start.
struct Progress(Instant);

impl Progress {
    fn say(&self, text: &str) {
        println!("[{:5.1} s] {text}", self.0.elapsed().as_secs_f64());
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match demo(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ndemo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(arguments: &Arguments) -> Result<()> {
    check_capacity(arguments)?;
    let (interrupt, progress) = (Interrupt::register()?, Progress(Instant::now()));
    let world = World::up(&spec(arguments))?;
    let outside = if world.outside.is_some() { " and a third without routes to pods" } else { "" };
    progress.say(&format!(
        "vpcsim: a VPC with 2 subnets in 2 zones{outside}, an internet side, {} nodes of type {}",
        arguments.nodes, arguments.instance_type
    ));
    let outcome = show(arguments, &world, &interrupt, &progress);
    if outcome.is_err() && interrupt.check().is_ok() {
        print_logs(&world);
    }
    let down = world.down().context("take the world down");
    outcome.and(down)?;
    nothing_left(&arguments.name)?;
    progress.say("agents stopped, namespaces and files gone: nothing is left behind");
    Ok(())
}

/// Everything between the world's coming up and its going down.
fn show(arguments: &Arguments, world: &World, interrupt: &Interrupt, progress: &Progress) -> Result<()> {
    if world.has_controller() {
        world.start_controller()?;
    }
    start_agents(world, interrupt)?;
    let before = Rest::reach(world, &|| interrupt.check())?;
    progress.say(match arguments.mode {
        Mode::Eni => "one spur-ipamd agent per node is ready, warm stock in place",
        Mode::VpcRoute => {
            "spur-ipamd controller wrote the routes of each node's block, and every agent is ready"
        }
        Mode::Mixed => {
            "every agent is ready: with a warm stock (eni), or with routes of the controller (vpcRoute)"
        }
    });
    let pods = add_pods(arguments, world, interrupt, progress)?;
    let checks = checks::all(world, &pods)?;
    interrupt.check()?;
    progress.say("checks done:");
    println!("\n{}", pod_table(world, &pods, &checks)?);
    println!("{}", check_table(&checks));
    fail_on(&checks)?;
    delete_pods(world, pods, interrupt)?;
    progress.say("pods deleted; waiting for cooldown and shrink");
    before.regain(world, &|| interrupt.check())?;
    progress.say("every address came back; kernel and cloud are as before the pods");
    println!("\n{}", call_table(world)?);
    Ok(())
}

fn spec(arguments: &Arguments) -> WorldSpec {
    // Short times, so that the way back can be watched; the targets are the defaults.
    let pool = [("cooldownSeconds", "3"), ("shrinkDelaySeconds", "1")];
    WorldSpec {
        name: arguments.name.clone(),
        nodes: arguments.nodes,
        modes: arguments.mode.of_nodes().to_vec(),
        spares: 0,
        instance_type: arguments.instance_type.clone(),
        pool: pool.into_iter().map(|(key, value)| (key, value.to_owned())).collect(),
        cni: BTreeMap::new(),
        agent: BTreeMap::new(),
        controller: BTreeMap::new(),
    }
}

/// Says before anything is built what would not fit.
fn check_capacity(arguments: &Arguments) -> Result<()> {
    let (name, modes) = (&arguments.instance_type, arguments.mode.of_nodes());
    ensure!(
        (1..=BLOCK_ADDRESSES).contains(&arguments.pods) || !modes.contains(&NodeMode::VpcRoute),
        "--pods {}: expected 1 to {BLOCK_ADDRESSES}, because a node in vpcRoute mode has one block of so many addresses",
        arguments.pods
    );
    let limits = spur_quotas::builtin(name).with_context(|| {
        format!("--type {name}: no such instance type; expected one of EC2's, for example m5.large")
    })?;
    let most = limits.enis() * (limits.ipv4_per_eni() - 1);
    ensure!(
        (1..=most).contains(&arguments.pods) || !modes.contains(&NodeMode::Eni),
        "--pods {}: expected 1 to {most}, because a {name} has {} ENIs with {} addresses each, of which the first is the ENI's own",
        arguments.pods,
        limits.enis(),
        limits.ipv4_per_eni()
    );
    Ok(())
}

fn start_agents(world: &World, interrupt: &Interrupt) -> Result<()> {
    for node in 0..world.nodes.len() {
        interrupt.check()?;
        world.launch_agent(node)?;
    }
    for node in &world.nodes {
        interrupt.check()?;
        node.wait_ready()?;
    }
    Ok(())
}

/// Adds the pods, node by node in parallel as kubelets would.
fn add_pods(
    arguments: &Arguments,
    world: &World,
    interrupt: &Interrupt,
    progress: &Progress,
) -> Result<Vec<Placed>> {
    let added: Vec<Result<Vec<Placed>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..world.nodes.len())
            .map(|node| scope.spawn(move || add_to_node(arguments, world, node, interrupt, progress)))
            .collect();
        let joined = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined.map(|result| result.unwrap_or_else(|_| bail!("a thread that adds pods failed"))).collect()
    });
    Ok(added.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

fn add_to_node(
    arguments: &Arguments,
    world: &World,
    node: usize,
    interrupt: &Interrupt,
    progress: &Progress,
) -> Result<Vec<Placed>> {
    let runtime = world.runtime(node)?;
    let (mut pods, mut fastest, start) = (Vec::new(), Duration::MAX, Instant::now());
    for number in 1..=arguments.pods {
        interrupt.check()?;
        let mut pod = world.pod(node, number)?;
        let one = Instant::now();
        runtime.add(&mut pod)?;
        fastest = fastest.min(one.elapsed());
        pods.push(Placed { node, pod });
    }
    let name = &world.nodes[node].name;
    let place = match world.nodes[node].mode {
        NodeMode::Eni => {
            let enis = world.cloud()?.nodes.get(name).map_or(0, Vec::len);
            format!("on {enis} ENI(s), of which 1 was there before")
        }
        NodeMode::VpcRoute => "from its block, without a call".to_owned(),
    };
    progress.say(&format!(
        "{name}: {} pods added in {:.1} s {place} (fastest ADD {:.1} ms)",
        pods.len(),
        start.elapsed().as_secs_f64(),
        fastest.as_secs_f64() * 1000.0
    ));
    Ok(pods)
}

fn fail_on(checks: &[Check]) -> Result<()> {
    let failed: Vec<_> = checks.iter().filter(|check| !check.failures.is_empty()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let lines = failed.iter().map(|check| {
        let shown: Vec<_> = check.failures.iter().take(5).map(|failure| format!("    {failure}")).collect();
        format!("  {} ({} of {}):\n{}", check.name, check.failures.len(), check.tried, shown.join("\n"))
    });
    bail!("these checks failed:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

fn delete_pods(world: &World, pods: Vec<Placed>, interrupt: &Interrupt) -> Result<()> {
    for placed in pods {
        interrupt.check()?;
        world.runtime(placed.node)?.del(&placed.pod)?;
    }
    Ok(())
}

/// The ends of all logs: the files go away with the world.
fn print_logs(world: &World) {
    for (name, tail) in world.log_tails() {
        eprintln!("\n── the last lines of {name}\n{tail}");
    }
}

fn nothing_left(name: &str) -> Result<()> {
    let left: Vec<_> = std::fs::read_dir("/run/netns")
        .context("list the named namespaces")?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|file| is_of(name, file))
        .collect();
    ensure!(left.is_empty(), "these namespaces were left behind: {}", left.join(", "));
    Ok(())
}

/// Whether a namespace is one of the world's, and not of another whose name begins like its name.
fn is_of(world: &str, namespace: &str) -> bool {
    let part = namespace.strip_prefix(world).and_then(|rest| rest.strip_prefix('-'));
    let parts = ["fabric", "inet", "node-", "outside", "pod-", "spare-"];
    part.is_some_and(|part| parts.iter().any(|own| part.starts_with(own)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_beside_is_not_left_behind() {
        let own = ["spur-demo-fabric", "spur-demo-inet", "spur-demo-node-1", "spur-demo-pod-0-1"];
        assert!(own.iter().all(|namespace| is_of("spur-demo", namespace)));
        let others = ["spur-demo2-node-1", "spur-demo-2-fabric", "spur-demo"];
        assert!(!others.iter().any(|namespace| is_of("spur-demo", namespace)));
    }
}
