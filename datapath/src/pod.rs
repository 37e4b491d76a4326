//! Wires a pod to its node, and takes it apart again.
//!
//! A pod's packet finds no neighbour to ask for: its only route leads to 169.254.1.1 (fe80::1), whose hardware address, that of
//! the veth's host end, is a permanent neighbour. The host finds the pod by one route in the pods' table, and the pod's hardware
//! address is a permanent neighbour there, too. So neither side ever sends ARP.
//!
//! Few messages: the pair is born by one, the pod's end outer (it can be set up at once) and in the pod's namespace; the rest is one batch
//! per namespace. The host's route comes last, so nothing reaches a pod that is half wired. Deleting the pair takes
//! addresses, routes and neighbours of both ends with it, so undoing is short: the route, then the pair. A removal that must not wait
//! for the kernel to delete the pair detaches it and leaves the rest to who reaps.
//!
//! The veth's name tells the pod, its hardware address tells the container: a late removal for an older container of the same
//! pod finds another hardware address and leaves everything alone.

mod removal;

pub use removal::{PodLink, PodRemoval, Removed, detach, links, mark, reap, remove};

use crate::netlink::{
    AddressSpec, Errno, Link, LinkChange, NeighbourSpec, Netlink, NetlinkError, Request, RouteScope,
    RouteSpec, RuleSpec, VethSpec,
};
use crate::netns::NetNs;
use crate::{IfName, LinkIndex, MacAddr, TableId, layout};
use ipnet::{IpNet, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Routes of a pod's further interfaces: worse than 1024, IPv6's default.
const SECONDARY_METRIC: u32 = 2048;
/// The gateway that a pod sees in IPv6.
const POD_GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// How a pod's interface is wired: everything is known before the kernel is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodWiring {
    /// Name of the pod's end.
    pub pod_name: IfName,
    /// Its hardware address, [`crate::names::pod_mac`].
    pub pod_mac: MacAddr,
    /// Name of the host's end, [`crate::names::host_veth_name`].
    pub host_name: IfName,
    /// Its hardware address, [`crate::names::host_mac`].
    pub host_mac: MacAddr,
    /// The pod's addresses, at most one per family.
    pub addresses: Vec<IpAddr>,
    /// MTU of both ends.
    pub mtu_bytes: u32,
    /// The table for the host's route to the pod.
    pub pods_table: TableId,
    /// Preferred source of the host's own packets to the pod; used for its family.
    pub node_address: IpAddr,
    /// Transmit and receive queues of each end.
    pub queues: u32,
}

/// A message to the kernel while a pod is wired, in this order; those from `PodAddress` on once per address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The pair is created.
    CreateVeth,
    /// The pod gets its address.
    PodAddress,
    /// The pod's route to its gateway.
    PodGatewayRoute,
    /// The pod's default route.
    PodDefaultRoute,
    /// The pod's permanent neighbour.
    PodNeighbour,
    /// The host's end is set up.
    HostUp,
    /// The host's permanent neighbour.
    HostNeighbour,
    /// The host's route to the pod.
    HostRoute,
    /// What was done is undone, after a failure; not part of [`Step::ALL`].
    Undo,
}

impl Step {
    /// All steps of an ADD without failure, in order.
    pub const ALL: [Self; 8] = [
        Self::CreateVeth,
        Self::PodAddress,
        Self::PodGatewayRoute,
        Self::PodDefaultRoute,
        Self::PodNeighbour,
        Self::HostUp,
        Self::HostNeighbour,
        Self::HostRoute,
    ];
}

/// Asked before each step whether it may happen; a test that answers `false` makes it fail there.
pub type StepGate<'a> = &'a mut dyn FnMut(Step) -> bool;

/// A gate that is always open.
pub fn every_step(_: Step) -> bool {
    true
}

/// What the kernel answered when the pod was wired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wired {
    /// The host's end, in the host's namespace.
    pub host_link: LinkIndex,
    /// The pod's end, in the pod's namespace.
    pub pod_link: LinkIndex,
}

/// A pod could not be wired or taken apart.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// The pod has an interface of that name; it is untouched.
    #[error("interface {name} exists already in network namespace {netns}")]
    InterfaceExists {
        /// Its name.
        name: IfName,
        /// The pod's namespace.
        netns: String,
    },
    /// The host has an interface of that name which is no veth, so it is not an older pod's.
    #[error("interface {name} on the host is in the way and is no veth pair")]
    HostNameTaken {
        /// Its name.
        name: IfName,
    },
    /// The host and the pod have the same namespace.
    #[error("network namespace {netns} is the host's own")]
    HostNamespace {
        /// The pod's namespace.
        netns: String,
    },
    /// The kernel refused.
    #[error("wire interface {name} of the pod")]
    Wire {
        /// The pod's end.
        name: IfName,
        /// Why.
        #[source]
        cause: NetlinkError,
    },
    /// The kernel refused.
    #[error("remove interface {name} of a pod from the host")]
    Remove {
        /// The host's end.
        name: IfName,
        /// Why.
        #[source]
        cause: NetlinkError,
    },
    /// The gate was shut.
    #[error("stopped before step {0:?}")]
    Stopped(Step),
}

/// An ADD that failed, after everything it did was undone.
#[derive(Debug, thiserror::Error)]
#[error("{error}{}", .undo.as_ref().map(|_| ", and what was done could not be undone").unwrap_or_default())]
pub struct AddFailure {
    /// Why.
    #[source]
    pub error: PodError,
    /// Why undoing failed, if it did: something is left in the kernel.
    pub undo: Option<PodError>,
}

/// Wires a pod. On failure what was done is undone, in reverse.
///
/// # Guarantees
/// An interface that is already in the pod's namespace is not touched. A veth of the same name on the host (of an older
/// sandbox of the same pod) is replaced.
///
/// # Errors
/// See [`PodError`].
pub fn add(
    host: &mut Netlink,
    pod_ns: &NetNs,
    wiring: &PodWiring,
    gate: StepGate<'_>,
) -> Result<Wired, Box<AddFailure>> {
    let untouched = |error| Box::new(AddFailure { error, undo: None });
    let wire = |cause| PodError::Wire { name: wiring.pod_name.clone(), cause };
    let mut pod = open_pod(pod_ns, wire).map_err(untouched)?;
    create_veth(host, &mut pod, pod_ns, wiring, &mut *gate).map_err(untouched)?;
    configure(host, &mut pod, wiring, gate).map_err(|error| {
        let undo = if gate(Step::Undo) {
            remove(host, &PodRemoval::of(wiring)).err()
        } else {
            Some(PodError::Stopped(Step::Undo))
        };
        Box::new(AddFailure { error, undo })
    })
}

/// A socket in the pod's namespace, which must not be the caller's own.
fn open_pod(pod_ns: &NetNs, wire: impl Fn(NetlinkError) -> PodError) -> Result<Netlink, PodError> {
    let home = NetNs::current().map_err(|cause| wire(NetlinkError::Namespace(cause)))?;
    if home.is_same(pod_ns) {
        return Err(PodError::HostNamespace { netns: pod_ns.path().display().to_string() });
    }
    Netlink::open_visiting(pod_ns, &home).map_err(wire)
}

fn create_veth(
    host: &mut Netlink,
    pod: &mut Netlink,
    pod_ns: &NetNs,
    wiring: &PodWiring,
    gate: StepGate<'_>,
) -> Result<(), PodError> {
    let wire = |cause| PodError::Wire { name: wiring.pod_name.clone(), cause };
    let netns = || pod_ns.path().display().to_string();
    if !gate(Step::CreateVeth) {
        return Err(PodError::Stopped(Step::CreateVeth));
    }
    let spec = veth_spec(pod_ns, wiring);
    match host.create_veth(&spec) {
        Ok(()) => return Ok(()),
        Err(refused) if refused.errno() == Some(Errno::EXIST) => {}
        Err(other) => return Err(wire(other)),
    }
    // One of the two names is taken. Looking only now keeps the common case at one message.
    if let Some(found) = pod.link_by_name(&wiring.pod_name).map_err(wire)? {
        if !is_leftover(host, &found, wiring).map_err(wire)? {
            return Err(PodError::InterfaceExists { name: wiring.pod_name.clone(), netns: netns() });
        }
        pod.remove_link(found.index).map_err(wire)?;
    }
    if let Some(stale) = host.link_by_name(&wiring.host_name).map_err(wire)? {
        if stale.kind.as_deref() != Some("veth") {
            return Err(PodError::HostNameTaken { name: wiring.host_name.clone() });
        }
        host.remove_link(stale.index).map_err(wire)?;
    }
    host.create_veth(&spec).map_err(wire)
}

/// True when the pod's interface is one that a removal left for later: its other end is on the host, marked; or it is this
/// very attachment's, which has just been granted anew and so cannot be alive.
fn is_leftover(host: &mut Netlink, found: &Link, wiring: &PodWiring) -> Result<bool, NetlinkError> {
    if found.kind.as_deref() != Some("veth") {
        return Ok(false);
    }
    let is_peer =
        |link: &Link| Some(link.index.number()) == found.lower && link.lower == Some(found.index.number());
    let marked = |link: &Link| is_peer(link) && link.group == layout::LEAVING_GROUP;
    Ok(found.mac == Some(wiring.pod_mac) || host.links()?.iter().any(marked))
}

fn veth_spec<'a>(pod_ns: &'a NetNs, wiring: &'a PodWiring) -> VethSpec<'a> {
    VethSpec {
        name: &wiring.pod_name,
        mac: Some(wiring.pod_mac),
        netns: Some(pod_ns),
        up: true,
        peer_name: &wiring.host_name,
        peer_mac: Some(wiring.host_mac),
        peer_netns: None,
        mtu_bytes: wiring.mtu_bytes,
        queues: wiring.queues,
    }
}

fn configure(
    host: &mut Netlink,
    pod: &mut Netlink,
    wiring: &PodWiring,
    gate: StepGate<'_>,
) -> Result<Wired, PodError> {
    let wire = |cause| PodError::Wire { name: wiring.pod_name.clone(), cause };
    let pod_link = pod.index_of(&wiring.pod_name).map_err(wire)?;
    run_steps(pod, pod_steps(wiring, pod_link), &mut *gate, wire)?;
    let host_link = host.index_of(&wiring.host_name).map_err(wire)?;
    run_steps(host, host_steps(wiring, host_link), gate, wire)?;
    // The pod's end got its carrier just now, and sends nothing before the kernel's link watch has seen that (milliseconds,
    // more under load). Asking for the link makes the kernel look at once (Linux 6.8), so the pod's first packet is not lost.
    pod.link_by_name(&wiring.pod_name).map_err(wire)?;
    Ok(Wired { host_link, pod_link })
}

/// Runs the steps as one batch; when the gate shuts in the middle, those before it are still run.
fn run_steps(
    netlink: &mut Netlink,
    steps: Vec<(Step, Request)>,
    gate: StepGate<'_>,
    wire: impl Fn(NetlinkError) -> PodError,
) -> Result<(), PodError> {
    let mut stopped = None;
    let mut open = Vec::with_capacity(steps.len());
    for (step, request) in steps {
        if !gate(step) {
            stopped = Some(step);
            break;
        }
        open.push(request);
    }
    netlink.run_all(open).map_err(wire)?;
    stopped.map_or(Ok(()), |step| Err(PodError::Stopped(step)))
}

fn pod_steps(wiring: &PodWiring, link: LinkIndex) -> Vec<(Step, Request)> {
    let mut steps = Vec::new();
    for address in &wiring.addresses {
        let gateway = gateway(*address);
        let mut to_gateway = RouteSpec::on_link(TableId::MAIN, gateway.into(), link);
        let mut default = RouteSpec::via(TableId::MAIN, any(*address), gateway, link);
        // In the pod the routes are like an administrator's (RTPROT_BOOT, as `ip route` writes): nothing of ours reads them.
        (to_gateway.protocol, default.protocol) = (3, 3);
        // A pod may have more than one interface from us, and all have the same routes: those of the first are used, the others'
        // are there for who binds to the interface.
        (to_gateway.metric, default.metric) = (metric(wiring, link), metric(wiring, link));
        let neighbour = NeighbourSpec { link, address: gateway, mac: Some(wiring.host_mac) };
        let own = AddressSpec::new(link, (*address).into());
        steps.push((Step::PodAddress, Request::add_address(&own)));
        steps.push((Step::PodGatewayRoute, Request::add_route(&to_gateway)));
        steps.push((Step::PodDefaultRoute, Request::add_route(&default)));
        if !is_main(wiring) {
            steps.extend(own_way_out(*address, link));
        }
        steps.push((Step::PodNeighbour, Request::replace_neighbour(&neighbour)));
    }
    steps
}

/// What is sent from the address of a further interface leaves through that interface: the host accepts an address only from
/// the veth that it routes it to. The rule stays when the interface goes, and means nothing then.
fn own_way_out(address: IpAddr, link: LinkIndex) -> [(Step, Request); 3] {
    let table = TableId::new(layout::PODS_TABLE.number().saturating_add(link.number()));
    let gateway = gateway(address);
    let mut to_gateway = RouteSpec::on_link(table, gateway.into(), link);
    let mut default = RouteSpec::via(table, any(address), gateway, link);
    (to_gateway.protocol, default.protocol) = (3, 3);
    let mut rule = RuleSpec::from_source(layout::PODS_RULE, address.into(), table);
    rule.protocol = 3;
    [
        (Step::PodGatewayRoute, Request::add_route(&to_gateway)),
        (Step::PodDefaultRoute, Request::add_route(&default)),
        (Step::PodDefaultRoute, Request::add_rule(&rule).or_exists()),
    ]
}

/// 0 (the kernel's choice) for the pod's main interface, else one that is the interface's own and worse than any default.
fn metric(wiring: &PodWiring, link: LinkIndex) -> u32 {
    if is_main(wiring) { 0 } else { SECONDARY_METRIC.saturating_add(link.number()) }
}

fn is_main(wiring: &PodWiring) -> bool {
    wiring.pod_name.as_str() == crate::names::MAIN_IF_NAME
}

fn host_steps(wiring: &PodWiring, link: LinkIndex) -> Vec<(Step, Request)> {
    let up = LinkChange { up: Some(true), group: Some(layout::POD_GROUP), ..LinkChange::default() };
    let mut steps = vec![(Step::HostUp, Request::set_link(link, &up))];
    for address in &wiring.addresses {
        let neighbour = NeighbourSpec { link, address: *address, mac: Some(wiring.pod_mac) };
        steps.push((Step::HostNeighbour, Request::replace_neighbour(&neighbour)));
        steps.push((Step::HostRoute, Request::replace_route(&host_route(wiring, *address, link))));
    }
    steps
}

/// The host's route to a pod's address.
fn host_route(wiring: &PodWiring, address: IpAddr, link: LinkIndex) -> RouteSpec {
    let mut route = RouteSpec::on_link(wiring.pods_table, address.into(), link);
    // Without a preferred source the kernel searches one among all addresses, which grows with their number.
    route.source = (address.is_ipv4() == wiring.node_address.is_ipv4()).then_some(wiring.node_address);
    if address.is_ipv6() {
        route.scope = RouteScope::Universe;
    }
    route
}

fn gateway(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => layout::POD_GATEWAY.into(),
        IpAddr::V6(_) => POD_GATEWAY_V6.into(),
    }
}

fn any(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(_) => IpNet::from(ipnet::Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
        IpAddr::V6(_) => IpNet::from(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
    }
}
