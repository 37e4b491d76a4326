//! Two ways to tell a node where its pods are, on otherwise equal routers: Spur's (one rule to a table of all pods, two rules per
//! ENI), and the older one with rules per pod (`to <pod> lookup main`, and `from <pod> lookup <table of its ENI>`).
//!
//! A router has two real pods, wired by the product's own code, in the middle of all: a rule per pod is found after half of them on the
//! average. The other pods are routes and rules without an interface of their own, which is all that a lookup sees of them. No packet filter is
//! in the way: it would cost both the same and hide the difference.

use crate::node::OwnNetns;
use anyhow::{Context, Result};
use ipnet::IpNet;
use spur_datapath::layout::{EniOrdinal, PODS_RULE, PODS_TABLE, PRIMARY_MARK, PRIMARY_RULE, shortcut_rules};
use spur_datapath::netlink::{AddressSpec, LinkChange, Netlink, Request, RouteSpec, RuleSpec, VethSpec};
use spur_datapath::pod::{self, PodWiring};
use spur_datapath::sysctl::{self, SysctlKey};
use spur_datapath::{IfName, LinkIndex, RulePriority, TableId, names};
use std::net::{IpAddr, Ipv4Addr};

/// Pods per ENI, as on the largest instances.
const PODS_PER_ENI: u32 = 63;

/// Messages per system call; all at once would overflow the socket with acknowledgements.
const BATCH: usize = 100;

/// Rule priorities of the layout with rules per pod, those that amazon-vpc-cni-k8s uses.
const TO_POD: RulePriority = RulePriority::new(512);
const FROM_POD: RulePriority = RulePriority::new(1536);

/// The router's own address, outside of the pods' ranges: the preferred source of routes to pods, as on a node.
const OWN_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 1);

/// Every pod's MTU.
const MTU_BYTES: u32 = 1500;

/// Where rules and routes of pods are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Spur's.
    PodsTable,
    /// One with rules per pod.
    RulesPerPod,
}

impl Layout {
    /// Both.
    pub const ALL: [Self; 2] = [Self::PodsTable, Self::RulesPerPod];
}

/// A router with pods.
#[derive(Debug)]
pub struct Router {
    /// Its layout.
    pub layout: Layout,
    /// How many pods it has.
    pub pods: u32,
    /// Its namespace.
    pub netns: OwnNetns,
    /// The pod that sends.
    pub sender: OwnNetns,
    /// The pod that receives.
    pub receiver: OwnNetns,
}

/// Builds a router; its namespaces' names begin with `prefix`.
///
/// # Errors
/// When the kernel refuses.
pub fn build(prefix: &str, layout: Layout, pods: u32) -> Result<Router> {
    let own = |role: &str| OwnNetns::create(format!("{prefix}-{role}"));
    let router = Router { layout, pods, netns: own("router")?, sender: own("from")?, receiver: own("to")? };
    let mut kernel = Netlink::open_in(&router.netns.netns)?;
    let elsewhere = uplink(&mut kernel)?;
    let key = |name: &str| SysctlKey::new(name);
    sysctl::write(&router.netns.netns, &[(key("ipv4/ip_forward"), "1".to_owned())])?;
    for (pod, index) in [(&router.sender, router.sender_index()), (&router.receiver, router.receiver_index())]
    {
        wire(&mut kernel, &router, pod, index)?;
    }
    let mut requests = match layout {
        Layout::PodsTable => pods_table(pods, elsewhere),
        Layout::RulesPerPod => rules_per_pod(pods, elsewhere),
    };
    requests.extend(other_pods(&router, elsewhere));
    while !requests.is_empty() {
        let rest = requests.split_off(BATCH.min(requests.len()));
        kernel.run_all(std::mem::replace(&mut requests, rest)).context("build the layout")?;
    }
    Ok(router)
}

impl Router {
    const fn sender_index(&self) -> u32 {
        self.pods / 2 - 1
    }

    const fn receiver_index(&self) -> u32 {
        self.pods / 2
    }

    /// The receiving pod's address.
    #[must_use]
    pub const fn receiver_address(&self) -> Ipv4Addr {
        pod_address(self.receiver_index())
    }

    /// The addresses of all pods.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        (0..self.pods).map(pod_address)
    }

    /// The table with the routes to pods.
    const fn pods_table(&self) -> TableId {
        match self.layout {
            Layout::PodsTable => PODS_TABLE,
            Layout::RulesPerPod => TableId::MAIN,
        }
    }
}

/// The address of the pod with this number; 250 to each /24.
const fn pod_address(index: u32) -> Ipv4Addr {
    #[expect(clippy::cast_possible_truncation, reason = "fewer than 64,000 pods")]
    Ipv4Addr::new(10, 77, (index / 250) as u8, (index % 250 + 1) as u8)
}

fn host(address: Ipv4Addr) -> IpNet {
    IpAddr::V4(address).into()
}

fn default_route() -> IpNet {
    ipnet::Ipv4Net::default().into()
}

/// What stands for the uplinks: a pair of interfaces, so that there is a link that is up.
fn uplink(kernel: &mut Netlink) -> Result<LinkIndex> {
    let (name, peer_name): (IfName, IfName) = ("uplink".parse()?, "uplink-peer".parse()?);
    kernel.create_veth(&VethSpec {
        name: &name,
        mac: None,
        netns: None,
        up: true,
        peer_name: &peer_name,
        peer_mac: None,
        peer_netns: None,
        mtu_bytes: MTU_BYTES,
        queues: 1,
    })?;
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    kernel.set_link(&peer_name, &up)?;
    kernel.set_link(&"lo".parse::<IfName>()?, &up)?;
    let link = kernel.index_of(&name)?;
    kernel.ensure_address(&AddressSpec::new(link, IpAddr::V4(OWN_ADDRESS).into()))?;
    kernel.ensure_route(&RouteSpec::on_link(TableId::MAIN, default_route(), link))?;
    Ok(link)
}

fn wire(kernel: &mut Netlink, router: &Router, pod: &OwnNetns, index: u32) -> Result<()> {
    let (id, eth0): (String, &str) = (format!("pod-{index}"), "eth0");
    let wiring = PodWiring {
        pod_name: eth0.parse()?,
        pod_mac: names::pod_mac(&id, eth0),
        host_name: names::host_veth_name(None, &id, eth0),
        host_mac: names::host_mac(&id, eth0),
        addresses: vec![pod_address(index).into()],
        mtu_bytes: MTU_BYTES,
        pods_table: router.pods_table(),
        node_address: OWN_ADDRESS.into(),
        queues: 1,
    };
    pod::add(kernel, &pod.netns, &wiring, &mut pod::every_step).context("wire a pod to the router")?;
    Ok(())
}

/// Routes to the pods that have no interface of their own.
fn other_pods(router: &Router, elsewhere: LinkIndex) -> Vec<Request> {
    (0..router.pods)
        .filter(|index| ![router.sender_index(), router.receiver_index()].contains(index))
        .map(|index| {
            let mut route = RouteSpec::on_link(router.pods_table(), host(pod_address(index)), elsewhere);
            route.source = Some(OWN_ADDRESS.into());
            Request::add_route(&route)
        })
        .collect()
}

fn pods_table(pods: u32, elsewhere: LinkIndex) -> Vec<Request> {
    let mut requests = vec![
        Request::add_rule(&RuleSpec::all(PODS_RULE, PODS_TABLE)),
        Request::add_rule(&RuleSpec::marked(PRIMARY_RULE, PRIMARY_MARK, TableId::MAIN)),
    ];
    requests.extend(shortcut_rules(OWN_ADDRESS).iter().map(Request::add_rule));
    // The primary ENI has no other rules of its own.
    for ordinal in (1..pods.div_ceil(PODS_PER_ENI)).filter_map(|number| EniOrdinal::new(number).ok()) {
        let own = Ipv4Addr::new(10, 78, 0, ordinal.number());
        requests.push(Request::add_rule(&RuleSpec::marked(
            ordinal.mark_rule(),
            ordinal.mark(),
            ordinal.table(),
        )));
        requests.push(Request::add_rule(&RuleSpec::from_source(
            ordinal.source_rule(),
            host(own),
            ordinal.table(),
        )));
        requests.push(Request::add_route(&RouteSpec::on_link(ordinal.table(), default_route(), elsewhere)));
    }
    requests
}

fn rules_per_pod(pods: u32, elsewhere: LinkIndex) -> Vec<Request> {
    let table = |index: u32| TableId::new(2 + index / PODS_PER_ENI);
    let tables = (0..pods.div_ceil(PODS_PER_ENI)).map(|eni| table(eni * PODS_PER_ENI));
    let mut requests: Vec<_> = tables
        .map(|table| Request::add_route(&RouteSpec::on_link(table, default_route(), elsewhere)))
        .collect();
    for index in 0..pods {
        let pod = host(pod_address(index));
        let to = RuleSpec { destination: Some(pod), ..RuleSpec::all(TO_POD, TableId::MAIN) };
        requests.push(Request::add_rule(&to));
        requests.push(Request::add_rule(&RuleSpec::from_source(FROM_POD, pod, table(index))));
    }
    requests
}
