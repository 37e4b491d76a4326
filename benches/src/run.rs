//! One run: routers of both layouts, then a world with two Spur nodes beside a node for the reference, level by level.
//!
//! The run owns everything that it makes and takes it down on every way out; what is left of it is [`Results`].

use crate::exec::status_kib;
use crate::layouts::{self, Layout, Router};
use crate::machine;
use crate::node::{Node, OwnNetns};
use crate::packets::{Flow, lookup, spread};
use crate::parts::{self, Part};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::rounds::{Nodes, Point, Side};
use crate::samples::Samples;
use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use spur_datapath::IfName;
use spur_datapath::netlink::{LinkChange, Netlink};
use spur_e2e::process::binary;
use spur_e2e::world::{World, WorldSpec};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The version of the CNI specification that both sides speak; the reference knows no newer one.
const CNI_VERSION: &str = "1.0.0";

/// Scheduling priority of everything that is measured: both sides' processes inherit it.
const NICE: i32 = -19;

/// How long the cloud must not have changed before a level is measured, and how long that may take.
const QUIET: Duration = Duration::from_secs(1);
const QUIET_TIMEOUT: Duration = Duration::from_secs(60);

/// What routing cost somewhere.
#[derive(Debug, Clone, Default)]
pub struct Routing {
    /// Nanoseconds to look up the route to a pod of the node.
    pub to_pod: Samples,
    /// Nanoseconds to look up the route to elsewhere.
    pub elsewhere: Samples,
    /// Small packets per second from pod to pod.
    pub packets: Samples,
}

/// Routing on a router of one layout.
#[derive(Debug, Clone)]
pub struct LayoutPoint {
    /// The layout.
    pub layout: Layout,
    /// Pods of the router.
    pub pods: u32,
    /// What was measured.
    pub routing: Routing,
}

/// Routing on Spur's nodes, with the agent's rules and packet filter.
#[derive(Debug, Clone)]
pub struct NodePoint {
    /// Pods of the node.
    pub pods: u32,
    /// On that node.
    pub routing: Routing,
    /// On the node with few pods, in the same rounds.
    pub small: Routing,
}

/// Resident memory in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// The most that Spur's plugin had in ADD.
    pub plugin: u64,
    /// The most that the reference's plugin had in ADD, without the address plugin that it executes.
    pub reference: u64,
    /// What the agent has.
    pub agent: u64,
    /// Of that, what is not backed by files: heap and stacks.
    pub agent_anonymous: u64,
    /// Pods on the agent's node then.
    pub pods: u32,
}

/// Everything that was measured.
#[derive(Debug)]
pub struct Results {
    /// The plan.
    pub plan: Plan,
    /// The machine.
    pub machine: Vec<(&'static str, String)>,
    /// ADD and DEL, by level, one at a time before many at once.
    pub points: Vec<Point>,
    /// Routers by pods, Spur's layout before the other.
    pub layouts: Vec<LayoutPoint>,
    /// Spur's nodes.
    pub nodes: Vec<NodePoint>,
    /// Memory.
    pub memory: Memory,
    /// Parts of ADD and DEL.
    pub parts: Vec<Part>,
}

/// Where ADD and DEL are measured.
struct Place<'a> {
    world: &'a World,
    /// The reference's plugin.
    reference: &'a Path,
    /// Where it keeps its files.
    files: &'a Path,
    /// How names of namespaces begin.
    prefix: &'a str,
    progress: &'a Progress,
}

/// Measures everything. An interrupted run ends with an error, and with everything taken down.
///
/// # Errors
/// When something cannot be measured: a program is missing, a privilege, or a plugin fails.
pub fn run(plan: &Plan, progress: &Progress) -> Result<Results> {
    let mut results = Results {
        plan: plan.clone(),
        machine: Vec::new(),
        points: Vec::new(),
        layouts: Vec::new(),
        nodes: Vec::new(),
        memory: Memory::default(),
        parts: Vec::new(),
    };
    in_place(plan, progress, |place| {
        results.machine = machine::facts(place.files);
        progress.say("routing: layouts");
        results.layouts = measure_layouts(plan, place.prefix, progress)?;
        measure_world(&mut results, place)
    })?;
    Ok(results)
}

/// Measures ADD and DEL alone, at the plan's levels.
///
/// # Errors
/// As [`run`].
pub fn run_verbs(plan: &Plan, progress: &Progress) -> Result<Vec<Point>> {
    let mut points = Vec::new();
    in_place(plan, progress, |place| {
        let mut nodes = nodes(place)?;
        plan.levels.iter().try_for_each(|pods| measure_level(&mut points, &mut nodes, place, plan, *pods))
    })?;
    Ok(points)
}

fn in_place(plan: &Plan, progress: &Progress, measure: impl FnOnce(&Place<'_>) -> Result<()>) -> Result<()> {
    let reference = reference_dir()?.join("ptp");
    ensure!(reference.is_file(), "{} is missing: run testbed/containerd/fetch", reference.display());
    // Other work on the machine would cost the side with more processes more.
    rustix::process::setpriority_process(None, NICE).context("raise the priority: it needs root")?;
    let files = tempfile::Builder::new().prefix("spur-bench-").tempdir().context("make a directory")?;
    let prefix = format!("spur-bench-{}", std::process::id());
    let spec = WorldSpec {
        name: prefix.clone(),
        nodes: 2,
        modes: Vec::new(),
        spares: 0,
        instance_type: plan.instance_type.to_owned(),
        pool: pool(plan).into(),
        cni: BTreeMap::new(),
        agent: BTreeMap::new(),
        controller: BTreeMap::new(),
    };
    let world = World::up(&spec)?;
    let place =
        Place { world: &world, reference: &reference, files: files.path(), prefix: &prefix, progress };
    let outcome = measure(&place);
    if outcome.is_err() && progress.check().is_ok() {
        world.log_tails().iter().for_each(|(name, tail)| eprintln!("-- {name}:\n{tail}"));
    }
    let down = world.down().context("take the world down");
    outcome.and(down)
}

/// Where Debian's CNI plugins are unpacked.
fn reference_dir() -> Result<PathBuf> {
    let cache = std::env::var_os("SPUR_CACHE").map(PathBuf::from);
    let cache = match cache {
        Some(cache) => cache,
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache/spur"),
    };
    Ok(cache.join("testbed/root/usr/lib/cni"))
}

/// Enough in stock that ADD waits for no EC2 call, and nothing given back: that is not what is measured here.
fn pool(plan: &Plan) -> [(&'static str, String); 4] {
    [
        ("warmIpTarget", plan.warm.to_string()),
        ("maxAboveWarm", "1000".to_owned()),
        ("cooldownSeconds", "1".to_owned()),
        ("shrinkDelaySeconds", "86400".to_owned()),
    ]
}

fn measure_layouts(plan: &Plan, prefix: &str, progress: &Progress) -> Result<Vec<LayoutPoint>> {
    let mut routers = Vec::new();
    for pods in plan.layout_pods {
        for layout in Layout::ALL {
            progress.check()?;
            routers.push(layouts::build(&format!("{prefix}-l{}", routers.len()), layout, *pods)?);
        }
    }
    let flows: Result<Vec<_>> = routers.iter().map(flow).collect();
    let flows = flows?;
    let mut points: Vec<_> = routers
        .iter()
        .map(|router| LayoutPoint { layout: router.layout, pods: router.pods, routing: Routing::default() })
        .collect();
    for round in 0..plan.packet_rounds as usize {
        progress.check()?;
        for at in 0..routers.len() {
            let at = (at + round) % routers.len();
            let pods: Vec<_> = routers[at].addresses().collect();
            // TEST-NET-1: nobody's, so it takes the default route.
            let elsewhere = Ipv4Addr::new(192, 0, 2, 200);
            points[at].routing.sample(plan, &routers[at].netns.netns, &pods, elsewhere, &flows[at])?;
        }
    }
    Ok(points)
}

fn flow(router: &Router) -> Result<Flow<'_>> {
    Flow::open(&router.sender.netns, &router.receiver.netns, router.receiver_address())
}

impl Routing {
    fn sample(
        &mut self,
        plan: &Plan,
        netns: &spur_datapath::netns::NetNs,
        pods: &[Ipv4Addr],
        elsewhere: Ipv4Addr,
        flow: &Flow<'_>,
    ) -> Result<()> {
        self.to_pod.push(lookup(netns, &spread(pods), plan.lookups)?);
        self.elsewhere.push(lookup(netns, &[elsewhere], plan.lookups)?);
        self.packets.push(flow.rate(plan.flood)?);
        Ok(())
    }
}

fn measure_world(results: &mut Results, place: &Place<'_>) -> Result<()> {
    let (plan, world) = (results.plan.clone(), place.world);
    let mut nodes = nodes(place)?;
    for pods in &plan.levels {
        measure_level(&mut results.points, &mut nodes, place, &plan, *pods)?;
        if *pods == plan.memory_at {
            results.memory = measure_memory(&mut nodes, world, *pods)?;
        }
        if *pods > plan.small {
            place.progress.say(&format!("routing on a node with {pods} pods"));
            results.nodes.push(measure_nodes(&plan, &nodes, world.internet_address, *pods)?);
        }
    }
    place.progress.say("parts of ADD and DEL");
    results.parts = parts::measure(&mut nodes, world.dir(), plan.rounds)?;
    Ok(())
}

/// Both of Spur's nodes with their agents, and the reference's.
fn nodes<'a>(place: &Place<'a>) -> Result<Nodes<'a>> {
    let Place { world, prefix, .. } = place;
    (0..world.nodes.len()).try_for_each(|node| world.start_agent(node))?;
    let reference_netns = OwnNetns::create(format!("{prefix}-ptp"))?;
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    Netlink::open_in(&reference_netns.netns)?.set_link(&"lo".parse::<IfName>()?, &up)?;
    let plugin = binary("spur")?;
    let spur = |node: usize| -> Result<Node> {
        let conf = spur_conf(world.nodes[node].dir())?;
        Node::new(&format!("{prefix}-p{node}"), &world.nodes[node].netns, plugin.clone(), conf)
    };
    let conf = reference_conf(place.files);
    let reference =
        Node::new(&format!("{prefix}-pr"), &reference_netns.netns, place.reference.to_owned(), conf)?;
    Ok(Nodes::new([spur(0)?, reference, spur(1)?], place.progress))
}

fn measure_level(
    points: &mut Vec<Point>,
    nodes: &mut Nodes<'_>,
    place: &Place<'_>,
    plan: &Plan,
    pods: u32,
) -> Result<()> {
    place.progress.say(&format!("ADD and DEL with {pods} pods present"));
    nodes.reach(plan, pods)?;
    quiet(place)?;
    points.push(nodes.rounds(pods, 1, plan.rounds)?);
    points.push(nodes.rounds(pods, plan.at_once, plan.rounds_at_once)?);
    Ok(())
}

/// What libcni would write to the plugin: from the conflist that the agent wrote.
fn spur_conf(dir: &Path) -> Result<Map<String, Value>> {
    let path = dir.join("net.d/10-spur.conflist");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let list: Value = serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))?;
    let mut conf = list["plugins"][0].as_object().context("the conflist has no plugin")?.clone();
    conf.insert("name".to_owned(), list["name"].clone());
    conf.insert("cniVersion".to_owned(), json!(CNI_VERSION));
    Ok(conf)
}

/// Without masquerading, for which ptp would execute iptables several times; Spur's is part of the node and needs nothing per pod.
fn reference_conf(files: &Path) -> Map<String, Value> {
    let conf = json!({
        "cniVersion": CNI_VERSION,
        "name": "reference",
        "type": "ptp",
        "ipMasq": false,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.64.0.0/16"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": files.join("host-local"),
        },
    });
    conf.as_object().cloned().unwrap_or_default()
}

/// Waits until the agents have what they want, so that no EC2 call runs beside a measurement.
fn quiet(place: &Place<'_>) -> Result<()> {
    let world = place.world;
    let (begin, mut since, mut before) = (Instant::now(), Instant::now(), world.cloud()?);
    while since.elapsed() < QUIET {
        ensure!(begin.elapsed() < QUIET_TIMEOUT, "the cloud did not come to rest within {QUIET_TIMEOUT:?}");
        std::thread::sleep(Duration::from_millis(50));
        place.progress.check()?;
        let now = world.cloud()?;
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
    Ok(())
}

fn measure_memory(nodes: &mut Nodes<'_>, world: &World, pods: u32) -> Result<Memory> {
    let mut peak = |side: Side| -> Result<u64> {
        let (peak, pod) = nodes.side(side).add_for_memory()?;
        nodes.side(side).del(vec![pod])?;
        Ok(peak)
    };
    let (plugin, reference) = (peak(Side::Spur)?, peak(Side::Reference)?);
    let agent = agent_pid(&world.nodes[0].dir().join("agent.sock"))?;
    Ok(Memory {
        plugin,
        reference,
        agent: status_kib(agent, "VmRSS")?,
        agent_anonymous: status_kib(agent, "RssAnon")?,
        pods,
    })
}

/// The process that listens on the socket.
fn agent_pid(socket: &Path) -> Result<u32> {
    let stream = UnixStream::connect(socket).context("connect to the agent")?;
    let peer = rustix::net::sockopt::socket_peercred(&stream).context("ask who the agent is")?;
    Ok(peer.pid.as_raw_nonzero().get().unsigned_abs())
}

fn measure_nodes(plan: &Plan, nodes: &Nodes<'_>, internet: IpAddr, pods: u32) -> Result<NodePoint> {
    let IpAddr::V4(internet) = internet else { anyhow::bail!("the internet has no IPv4 address") };
    let (spur, small) = (nodes.look(Side::Spur), nodes.look(Side::Small));
    let ends = |node: &'_ Node| -> Result<Vec<Ipv4Addr>> {
        node.pods().iter().map(crate::node::Pod::address).collect()
    };
    let addresses = [ends(spur)?, ends(small)?];
    let flows = [last_flow(spur)?, last_flow(small)?];
    let mut point = NodePoint { pods, routing: Routing::default(), small: Routing::default() };
    for round in 0..plan.packet_rounds {
        let mut order = [0, 1];
        order.rotate_left(round as usize % 2);
        for at in order {
            let (node, routing) =
                if at == 0 { (spur, &mut point.routing) } else { (small, &mut point.small) };
            routing.sample(plan, node.netns(), &addresses[at], internet, &flows[at])?;
        }
    }
    Ok(point)
}

/// From the last pod but one to the last: those that every list has at its end.
fn last_flow(node: &Node) -> Result<Flow<'_>> {
    let [.., from, to] = node.pods() else { anyhow::bail!("the node has too few pods") };
    Flow::open(from.netns(), to.netns(), to.address()?)
}
