//! The network of a world: a router namespace, an internet, one namespace per node, and a veth per attached ENI.
//!
//! [`Fabric::sync`] makes the kernel carry exactly the wanted [`Picture`]; the steps come from [`plan`] and [`routing`], the
//! kernel work is in [`place`] (namespaces), `port` (one ENI), `router` (route tables) and [`firewall`] (what EC2 drops). The fabric believes its own picture and
//! does not read the kernel back: nobody else writes in the router's namespace. A step that fails is undone, reported, and
//! tried again by the next sync, because the picture advances only with what worked.

pub mod firewall;
pub mod place;
pub mod plan;
mod port;
mod router;
pub mod routing;
pub mod worker;

use firewall::{DropCount, Firewall};
use place::{Layout, Place};
use plan::{Ports, Step};
use router::Router;
use routing::{Detour, Routing};
use spur_datapath::netlink::NetlinkError;
use spur_datapath::netns::{NetNs, NsError};
use spur_datapath::nft::NftError;
use spur_datapath::sysctl::SysctlError;
use spur_datapath::{LinkIndex, MacAddr};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

/// EC2's jumbo frames. On both ends: a veth drops what is larger than its receiver's MTU.
pub const MTU_BYTES: u32 = 9001;
/// The VPC router's MAC, the same in every subnet.
pub const ROUTER_MAC: MacAddr = MacAddr::new([0x0e, 0xff, 0xff, 0xff, 0xff, 0x01]);

/// What the fabric is to carry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Picture {
    /// The attached ENIs.
    pub ports: Ports,
    /// How packets are routed.
    pub routing: Routing,
}

/// The network of a world.
#[derive(Debug)]
pub struct Fabric {
    router: Place,
    internet: Place,
    nodes: BTreeMap<String, Place>,
    firewall: Firewall,
    routes: Router,
    plugged: BTreeMap<String, LinkIndex>,
    ports: Ports,
}

/// What could not be done to the network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FabricError {
    /// A namespace.
    #[error("work on a network namespace")]
    Namespace(#[source] NsError),
    /// A link, address, route or neighbour.
    #[error("work on the fabric's network")]
    Kernel(#[source] NetlinkError),
    /// A sysctl.
    #[error("set up a network namespace")]
    Sysctl(#[source] SysctlError),
    /// The rules that drop what EC2 drops.
    #[error("work on the fabric's firewall")]
    Firewall(#[source] NftError),
    /// An identifier that gives no interface name.
    #[error("{eni:?} gives no interface name")]
    EniName {
        /// The ENI.
        eni: String,
    },
    /// Steps of one sync; each has been undone.
    #[error("follow the model in {} of its steps, the first: {}", .0.len(), first_of(.0))]
    Steps(Vec<(Option<Step>, FabricError)>),
    /// The thread that does the work has ended.
    #[error("the fabric's thread has ended")]
    Ended,
    /// The model speaks of a node that the scenario did not have.
    #[error("no node {node:?} in this world")]
    NoNode {
        /// The node.
        node: String,
    },
    /// A listening socket inside a namespace.
    #[error("listen on {address} in {}", .place.display())]
    Listen {
        /// Where.
        address: SocketAddrV4,
        /// In which namespace.
        place: std::path::PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
}

fn first_of(failed: &[(Option<Step>, FabricError)]) -> String {
    failed
        .first()
        .map(|(step, error)| format!("{step:?}: {}", crate::error::Chain(error)))
        .unwrap_or_default()
}

impl Fabric {
    /// Makes all namespaces of `layout` and what connects them. On failure some may exist: the caller has their names.
    ///
    /// # Errors
    /// The first step that the kernel refused.
    pub fn build(layout: &Layout) -> Result<Self, FabricError> {
        let mut router = place::make_fabric(layout)?;
        let firewall = Firewall::install(&router.ns, layout)?;
        let internet = place::make_internet(layout, &mut router)?;
        let routes = Router::new(&mut router, &layout.vpc_ranges, layout.internet)?;
        let mut nodes = BTreeMap::new();
        for node in &layout.nodes {
            nodes.insert(node.clone(), place::make_node(layout, node)?);
        }
        let (plugged, ports) = (BTreeMap::new(), Ports::new());
        Ok(Self { router, internet, nodes, firewall, routes, plugged, ports })
    }

    /// Makes the kernel carry `wanted`. Independent steps go on after a failure.
    ///
    /// # Errors
    /// Everything that failed; the next sync tries it again.
    pub fn sync(&mut self, wanted: &Picture) -> Result<(), FabricError> {
        let mut failed = Vec::new();
        self.routes.number(&wanted.routing);
        // First, because a node may send as soon as it sees the netdev.
        if let Err(error) = self.firewall.guard(wanted, &self.routes.numbers) {
            failed.push((None, error));
        }
        for step in plan::plan(&self.ports, &wanted.ports) {
            match self.take(&step) {
                Ok(()) => plan::advance(&mut self.ports, &step),
                Err(error) => failed.push((Some(step), error)),
            }
        }
        // Last, because routes lead to links.
        let ranges = self.routes.sync_ranges(&mut self.router, &mut self.internet, &wanted.routing.ranges);
        let routed = self.routes.sync(&mut self.router, &wanted.routing, &self.ports, &self.plugged);
        failed.extend([ranges, routed].into_iter().filter_map(Result::err).map(|error| (None, error)));
        if failed.is_empty() { Ok(()) } else { Err(FabricError::Steps(failed)) }
    }

    /// Leads single destinations of route tables elsewhere; the firewall and the ports are not concerned.
    ///
    /// # Errors
    /// The kernel refused; nobody tries it again before the next [`Fabric::sync`].
    pub fn detour(&mut self, detours: &[Detour]) -> Result<(), FabricError> {
        self.routes.detour(&mut self.router, detours, &self.ports, &self.plugged)
    }

    fn take(&mut self, step: &Step) -> Result<(), FabricError> {
        match step {
            Step::Plug { eni, port } => self.plug(eni, port),
            Step::Unplug { eni, .. } => {
                let Some(link) = self.plugged.get(eni).copied() else { return Ok(()) };
                // Routes and neighbours go with the link.
                self.router.netlink.remove_link(link).map_err(FabricError::Kernel)?;
                self.plugged.remove(eni);
                self.routes.forget(eni);
                Ok(())
            }
            Step::Withdraw { eni, addresses } => match (self.plugged.get(eni), self.ports.get(eni)) {
                (Some(link), Some(port)) => port::withdraw(&mut self.router, *link, port, addresses),
                _ => Ok(()),
            },
            Step::Announce { eni, addresses } => match (self.plugged.get(eni), self.ports.get(eni)) {
                (Some(link), Some(port)) => port::announce(&mut self.router, *link, port, addresses),
                _ => Ok(()),
            },
            // The firewall's and the router's.
            Step::SetGuard { .. } => Ok(()),
        }
    }

    fn plug(&mut self, eni: &str, port: &plan::Port) -> Result<(), FabricError> {
        let missing = || FabricError::NoNode { node: port.node.clone() };
        let node = self.nodes.get_mut(&port.node).ok_or_else(missing)?;
        match port::plug(&mut self.router, node, eni, port) {
            Ok(link) => {
                self.plugged.insert(eni.to_owned(), link);
                Ok(())
            }
            Err(error) => {
                // Best effort: what stays is reported by the next attempt to plug.
                let _ = self.router.netlink.remove_link(&port::router_end(eni)?);
                Err(error)
            }
        }
    }

    /// What was dropped so far, per ENI and reason.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub fn drops(&mut self) -> Result<Vec<DropCount>, FabricError> {
        self.firewall.drops()
    }

    /// A socket in a node's namespace that listens for the metadata service.
    ///
    /// # Errors
    /// The node does not exist or the port is taken.
    pub fn listen_for_metadata(&self, node: &str) -> Result<TcpListener, FabricError> {
        let place = self.nodes.get(node).ok_or_else(|| FabricError::NoNode { node: node.to_owned() })?;
        listen(&place.ns, SocketAddrV4::new(place::IMDS_ADDRESS, 80))
    }

    /// A socket on the internet that listens for the EC2 API.
    ///
    /// # Errors
    /// The port is taken.
    pub fn listen_for_api(&self, address: Ipv4Addr, port: u16) -> Result<TcpListener, FabricError> {
        listen(&self.internet.ns, SocketAddrV4::new(address, port))
    }
}

/// A socket belongs to the namespace of the thread that opens it, wherever it is used later.
fn listen(ns: &NetNs, address: SocketAddrV4) -> Result<TcpListener, FabricError> {
    let opened = ns.run(|| {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    let failed = |cause| FabricError::Listen { address, place: ns.path().to_owned(), cause };
    opened.map_err(FabricError::Namespace)?.map_err(failed)
}
