//! What must be true of pods that live: each check sends real packets and compares what their receiver saw.

use crate::runtime::Pod;
use crate::snapshot::node_spoof_drops;
use crate::traffic::{Echo, ask, forge, transfer};
use crate::world::{NodeMode, World};
use anyhow::{Context, Result, ensure};
use spur_datapath::netns::NetNs;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// Datagrams that a forger sends.
const FORGED_PACKETS: u32 = 5;

/// Bytes of a TCP transfer: enough for full-size segments.
const TRANSFER_BYTES: usize = 1 << 20;

/// A pod and the node it runs on, by index.
#[derive(Debug)]
pub struct Placed {
    /// The node.
    pub node: usize,
    /// The pod.
    pub pod: Pod,
}

/// The outcome of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What must be true.
    pub name: &'static str,
    /// How many times it was tried.
    pub tried: usize,
    /// Each time it was not true, in words.
    pub failures: Vec<String>,
    /// By the name of the pod, or of the node, that it concerns: how often it was true, and how often it was tried.
    pub by_name: BTreeMap<String, (u32, u32)>,
}

impl Check {
    const fn new(name: &'static str) -> Self {
        Self { name, tried: 0, failures: Vec::new(), by_name: BTreeMap::new() }
    }

    /// Notes one trial.
    fn expect(&mut self, concerns: &str, passed: bool, failure: impl FnOnce() -> String) {
        self.tried += 1;
        let (good, tried) = self.by_name.entry(concerns.to_owned()).or_default();
        *good += u32::from(passed);
        *tried += 1;
        if !passed {
            self.failures.push(failure());
        }
    }

    /// Asks the echoes at `targets` from `netns` and compares the source that each of them saw with the wanted one.
    fn ask(&mut self, netns: &NetNs, who: &str, targets: &[(IpAddr, &Pod)], want: IpAddr) -> Result<()> {
        let addresses: Vec<_> = targets.iter().map(|(target, _)| *target).collect();
        let seen = ask(netns, &addresses)?;
        for (target, pod) in targets {
            match seen.get(target) {
                None => self.expect(&pod.name, false, || format!("{who} got no answer from {target}")),
                Some(source) => {
                    self.expect(&pod.name, *source == want, || {
                        format!("{target} saw {source} instead of {want} from {who}")
                    });
                }
            }
        }
        Ok(())
    }
}

fn address(placed: &Placed) -> Result<IpAddr> {
    placed.pod.address.with_context(|| format!("pod {} has no address", placed.pod.name))
}

/// Every check, over all these pods, in the order in which they are shown.
///
/// # Errors
/// When a check cannot be carried out; a check that fails is a [`Check`] with failures.
pub fn all(world: &World, pods: &[Placed]) -> Result<Vec<Check>> {
    let mut namespaces: Vec<&NetNs> = pods.iter().map(|placed| &placed.pod.netns).collect();
    namespaces.extend(world.nodes.iter().map(|node| &node.netns));
    namespaces.push(&world.internet);
    namespaces.extend(world.outside.iter().map(|host| &host.netns));
    let echo = Echo::start(&namespaces)?;
    let [local, remote] = pod_to_pod(pods)?;
    let [to_pod, to_node] = node_and_pod(world, pods)?;
    let mut checks = vec![local, remote, to_pod, to_node, full_size(pods)?, internet(world, pods)?];
    checks.extend(outside(world, pods)?);
    let [by_pods, by_nodes] = forged(world, pods, &echo)?;
    checks.push(by_pods);
    // EC2 does not look at what a node in vpcRoute mode sends.
    checks.extend(Some(by_nodes).filter(|_| world.nodes.iter().any(|node| node.mode == NodeMode::Eni)));
    Ok(checks)
}

fn pod_to_pod(pods: &[Placed]) -> Result<[Check; 2]> {
    let mut checks = [
        Check::new("pod → pod, same node: the receiver sees the pod's own address"),
        Check::new("pod → pod, across nodes: the receiver sees the pod's own address"),
    ];
    for from in pods {
        let own = address(from)?;
        let mut targets = [Vec::new(), Vec::new()];
        for to in pods.iter().filter(|to| to.pod.name != from.pod.name) {
            targets[usize::from(to.node != from.node)].push((address(to)?, &from.pod));
        }
        for (check, targets) in checks.iter_mut().zip(&targets) {
            check.ask(&from.pod.netns, &from.pod.name, targets, own)?;
        }
    }
    Ok(checks)
}

fn node_and_pod(world: &World, pods: &[Placed]) -> Result<[Check; 2]> {
    let mut to_pod = Check::new("node → pod, own and other nodes' pods");
    let mut to_node = Check::new("pod → node, own and other nodes: the node sees the pod's own address");
    let to_pods: Result<Vec<_>> = pods.iter().map(|placed| Ok((address(placed)?, &placed.pod))).collect();
    let to_pods = to_pods?;
    for node in &world.nodes {
        to_pod.ask(&node.netns, &node.name, &to_pods, node.primary_address)?;
    }
    for (own, pod) in to_pods {
        let nodes: Vec<_> = world.nodes.iter().map(|node| (node.primary_address, pod)).collect();
        to_node.ask(&pod.netns, &pod.name, &nodes, own)?;
    }
    Ok([to_pod, to_node])
}

/// The first and the last pod of each node are on different ENIs when the node needed more than one.
fn ends(pods: &[Placed]) -> Vec<&Placed> {
    let mut by_node: BTreeMap<usize, Vec<&Placed>> = BTreeMap::new();
    for placed in pods {
        by_node.entry(placed.node).or_default().push(placed);
    }
    by_node.values().flat_map(|on_node| [on_node.first(), on_node.last()]).flatten().copied().collect()
}

fn full_size(pods: &[Placed]) -> Result<Check> {
    let mut check = Check::new("TCP with full-size segments, 1 MiB each way between first and last pods");
    let ends = ends(pods);
    for from in &ends {
        for to in ends.iter().filter(|to| to.pod.name != from.pod.name) {
            let (own, target) = (address(from)?, address(to)?);
            match transfer(&from.pod.netns, &to.pod.netns, target, TRANSFER_BYTES) {
                Ok(peer) => check
                    .expect(&from.pod.name, peer == own, || format!("{target} saw {peer} instead of {own}")),
                Err(error) => {
                    check.expect(&from.pod.name, false, || format!("{} → {target}: {error:#}", from.pod.name))
                }
            }
        }
    }
    Ok(check)
}

fn internet(world: &World, pods: &[Placed]) -> Result<Check> {
    let mut check = Check::new("pod → internet leaves with the node's primary address");
    for placed in pods {
        let target = [(world.internet_address, &placed.pod)];
        let node = world.nodes[placed.node].primary_address;
        check.ask(&placed.pod.netns, &placed.pod.name, &target, node)?;
    }
    Ok(check)
}

/// A host whose subnet has no route to blocks can answer the node only; an address on an ENI it can answer anyway.
fn outside(world: &World, pods: &[Placed]) -> Result<Option<Check>> {
    let Some(host) = &world.outside else { return Ok(None) };
    let mut check = Check::new(
        "pod → host in a subnet without routes to pods: it sees the node (vpcRoute), or the pod (eni)",
    );
    for placed in pods {
        let node = &world.nodes[placed.node];
        let want = match node.mode {
            NodeMode::Eni => address(placed)?,
            NodeMode::VpcRoute => node.primary_address,
        };
        check.ask(&placed.pod.netns, &placed.pod.name, &[(host.address, &placed.pod)], want)?;
    }
    Ok(Some(check))
}

/// TEST-NET-2: it belongs to nobody in this world.
const NOBODY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 66);

/// The first and the last pod of each node forge, with an address that nobody has and with a neighbour's; so does a process in the
/// own namespace of a node in `eni` mode, which only the VPC can stop.
fn forged(world: &World, pods: &[Placed], echo: &Echo) -> Result<[Check; 2]> {
    let mut by_pods = Check::new("a pod's forged source address is dropped by its own node");
    let mut by_nodes = Check::new("a hostNetwork pod's forged source address is dropped by the fabric");
    for placed in ends(pods) {
        let Some(target) = pods.iter().find(|other| other.node != placed.node) else { continue };
        let IpAddr::V4(target) = address(target)? else { continue };
        let node = &world.nodes[placed.node];
        let neighbour =
            pods.iter().find(|other| other.node == placed.node && other.pod.name != placed.pod.name);
        let neighbour = neighbour.map(address).transpose()?;
        for source in [Some(NOBODY.into()), neighbour].into_iter().flatten() {
            let IpAddr::V4(source) = source else { continue };
            let count = || node_spoof_drops(&node.netns);
            let forge = || forge(&placed.pod.netns, source, target, FORGED_PACKETS);
            expect_dropped(&mut by_pods, echo, &placed.pod.name, count, forge)?;
        }
        if node.mode == NodeMode::VpcRoute {
            continue;
        }
        let count = || world.spoof_drops();
        let forge = || forge(&node.netns, NOBODY, target, FORGED_PACKETS);
        expect_dropped(&mut by_nodes, echo, &node.name, count, forge)?;
    }
    Ok([by_pods, by_nodes])
}

/// Forges, and expects that whoever should drop counted every packet and that none arrived anywhere.
fn expect_dropped(
    check: &mut Check,
    echo: &Echo,
    who: &str,
    count: impl Fn() -> Result<u64>,
    forge: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let (before, arrived) = (count()?, echo.forged());
    forge()?;
    std::thread::sleep(std::time::Duration::from_millis(30));
    let (after, arrived) = (count()?, echo.forged() - arrived);
    ensure!(after >= before, "the counters of drops went backwards");
    check.expect(who, arrived == 0, || format!("{arrived} packets that {who} forged arrived"));
    let dropped = after - before;
    check.expect(who, dropped >= u64::from(FORGED_PACKETS), || {
        format!("{dropped} drops were counted of {FORGED_PACKETS} packets that {who} forged")
    });
    Ok(())
}
