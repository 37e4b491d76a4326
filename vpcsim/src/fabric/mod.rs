//! The network of a world: a router namespace, an internet, one namespace per node, and a veth per attached ENI.
//!
//! [`Fabric::sync`] makes the kernel carry exactly the wanted [`Ports`]; the steps come from [`plan`], the kernel work is
//! in [`place`] (namespaces), [`port`] (one ENI) and [`firewall`] (what EC2 drops). The fabric believes its own picture and
//! does not read the kernel back: nobody else writes in the router's namespace. A step that fails is undone, reported, and
//! tried again by the next sync, because the picture advances only with what worked.

pub mod firewall;
pub mod place;
pub mod plan;
mod port;
pub mod worker;

use firewall::{DropCount, Firewall};
use place::{Layout, Place};
use plan::{Ports, Step};
use spur_datapath::netlink::NetlinkError;
use spur_datapath::netns::{NetNs, NsError};
use spur_datapath::sysctl::SysctlError;
use spur_datapath::{IfName, LinkIndex, MacAddr};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

/// EC2's jumbo frames. On both ends: a veth drops what is larger than its receiver's MTU.
pub const MTU_BYTES: u32 = 9001;
/// The VPC router's MAC, the same in every subnet.
pub const ROUTER_MAC: MacAddr = MacAddr::new([0x0e, 0xff, 0xff, 0xff, 0xff, 0x01]);

/// The network of a world.
#[derive(Debug)]
pub struct Fabric {
    router: Place,
    internet: Place,
    nodes: BTreeMap<String, Place>,
    firewall: Firewall,
    plugged: BTreeMap<String, Plugged>,
    ports: Ports,
}

#[derive(Debug, Clone)]
struct Plugged {
    link: LinkIndex,
    name: IfName,
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
    Firewall(#[source] std::io::Error),
    /// An identifier that gives no interface name.
    #[error("{eni:?} gives no interface name")]
    EniName {
        /// The ENI.
        eni: String,
    },
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

impl Fabric {
    /// Makes all namespaces of `layout` and what connects them. On failure some may exist: the caller has their names.
    ///
    /// # Errors
    /// The first step that the kernel refused.
    pub fn build(layout: &Layout) -> Result<Self, FabricError> {
        let mut router = place::make_fabric(layout)?;
        let firewall = Firewall::install(&router.ns)?;
        let internet = place::make_internet(layout, &mut router)?;
        let mut nodes = BTreeMap::new();
        for node in &layout.nodes {
            nodes.insert(node.clone(), place::make_node(layout, node)?);
        }
        Ok(Self { router, internet, nodes, firewall, plugged: BTreeMap::new(), ports: Ports::new() })
    }

    /// Makes the kernel carry `wanted`. Independent steps go on after a failure.
    ///
    /// # Errors
    /// All steps that failed; the next sync tries them again.
    pub fn sync(&mut self, wanted: &Ports) -> Result<(), Vec<(Step, FabricError)>> {
        let mut failed = Vec::new();
        for step in plan::plan(&self.ports, wanted) {
            match self.take(&step) {
                Ok(()) => plan::advance(&mut self.ports, &step),
                Err(error) => failed.push((step, error)),
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }

    fn take(&mut self, step: &Step) -> Result<(), FabricError> {
        match step {
            Step::Plug { eni, port } => self.plug(eni, port),
            Step::Unplug { eni, port } => {
                let Some(plugged) = self.plugged.get(eni).cloned() else { return Ok(()) };
                self.firewall.disown(&plugged.name, port.addresses.iter().copied())?;
                self.firewall.forget(&plugged.name, port)?;
                // Routes and neighbours go with the link.
                self.router.netlink.remove_link(plugged.link).map_err(FabricError::Kernel)?;
                self.plugged.remove(eni);
                Ok(())
            }
            Step::Withdraw { eni, addresses } => {
                let (Some(plugged), Some(port)) = (self.plugged.get(eni), self.ports.get(eni)) else {
                    return Ok(());
                };
                self.firewall.disown(&plugged.name, addresses.iter().copied())?;
                port::withdraw(&mut self.router, plugged.link, port, addresses)
            }
            Step::Announce { eni, addresses } => {
                let (Some(plugged), Some(port)) = (self.plugged.get(eni), self.ports.get(eni)) else {
                    return Ok(());
                };
                self.firewall.own(&plugged.name, addresses.iter().copied())?;
                port::announce(&mut self.router, plugged.link, port, addresses)
            }
            Step::SetCheck { eni, check } => {
                self.plugged.get(eni).map_or(Ok(()), |plugged| self.firewall.set_check(&plugged.name, *check))
            }
        }
    }

    fn plug(&mut self, eni: &str, port: &plan::Port) -> Result<(), FabricError> {
        let name = port::router_end(eni)?;
        let missing = || FabricError::NoNode { node: port.node.clone() };
        let node = self.nodes.get_mut(&port.node).ok_or_else(missing)?;
        // The rules first: the node may send as soon as it sees the netdev.
        self.firewall.admit(&name, port)?;
        self.firewall.own(&name, port.addresses.iter().copied())?;
        match port::plug(&mut self.router, node, eni, port) {
            Ok(link) => {
                self.plugged.insert(eni.to_owned(), Plugged { link, name });
                Ok(())
            }
            Err(error) => {
                self.undo_plug(&name, port);
                Err(error)
            }
        }
    }

    /// Best effort: what could not be undone is reported by the next attempt to plug.
    fn undo_plug(&mut self, name: &IfName, port: &plan::Port) {
        let _ = self.router.netlink.remove_link(name);
        let _ = self.firewall.disown(name, port.addresses.iter().copied());
        let _ = self.firewall.forget(name, port);
    }

    /// What was dropped so far, per ENI and reason.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub fn drops(&mut self) -> Result<Vec<DropCount>, FabricError> {
        let names = self.plugged.iter().map(|(eni, plugged)| (plugged.name.as_str().to_owned(), eni.clone()));
        let names: BTreeMap<String, String> = names.collect();
        self.firewall.drops(&names)
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
