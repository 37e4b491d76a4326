//! The namespaces of a world as they are before any ENI is plugged in: the VPC's router, the internet, the nodes.
//!
//! ```text
//!   internet  eth0 --------- inet  fabric  e<eni> --------- eth0, eth1 …  node
//!   203.0.113.10, 192.0.2.1        lo: gateways .1                        lo: 169.254.169.254
//! ```
//!
//! The fabric answers ARP for everything that it routes (`proxy_arp`), so an address that nobody has must not be routed:
//! a blackhole for each VPC range stands below the host routes of the ports. Nothing in the fabric ever asks by ARP.

use super::port::IFAPROT_UNSPEC;
use super::{FabricError, MTU_BYTES, ROUTER_MAC};
use ipnet::{IpNet, Ipv4Net};
use spur_datapath::netlink::{
    AddressScope, AddressSpec, LinkChange, NeighbourSpec, Netlink, RouteSpec, VethSpec,
};
use spur_datapath::netns::NetNs;
use spur_datapath::sysctl::{self, SysctlKey};
use spur_datapath::{IfName, LinkIndex, MacAddr, TableId};
use std::net::{IpAddr, Ipv4Addr};

/// The metadata service's address.
pub const IMDS_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The fabric's end of the link to the internet.
pub const INTERNET_PORT: &str = "inet";
/// Where the internet's end of that link sits on the wire.
const INTERNET_MAC: MacAddr = MacAddr::new([0x0e, 0xff, 0xff, 0xff, 0xff, 0x02]);
/// What no VPC routes: "this network", loopback, link-local, multicast and reserved addresses.
pub(crate) const UNROUTABLE: [&str; 5] =
    ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"];

/// What the namespaces need to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The world's name; every namespace begins with it.
    pub name: String,
    /// All ranges of all VPCs.
    pub vpc_ranges: Vec<Ipv4Net>,
    /// All subnets; the router has the first address of each.
    pub subnets: Vec<Ipv4Net>,
    /// The nodes' names.
    pub nodes: Vec<String>,
    /// The internet host.
    pub internet: Ipv4Addr,
    /// Where nodes reach the EC2 API.
    pub api: Ipv4Addr,
}

impl Layout {
    /// The router's namespace.
    #[must_use]
    pub fn fabric_netns(&self) -> String {
        format!("{}-fabric", self.name)
    }

    /// The internet's namespace.
    #[must_use]
    pub fn internet_netns(&self) -> String {
        format!("{}-inet", self.name)
    }

    /// A node's namespace.
    #[must_use]
    pub fn node_netns(&self, node: &str) -> String {
        format!("{}-{node}", self.name)
    }

    /// All of them.
    #[must_use]
    pub fn namespaces(&self) -> Vec<String> {
        let nodes = self.nodes.iter().map(|node| self.node_netns(node));
        [self.fabric_netns(), self.internet_netns()].into_iter().chain(nodes).collect()
    }
}

/// The router's address in a subnet: the first after the network's own.
#[must_use]
pub fn gateway_of(subnet: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from_bits(subnet.network().to_bits().saturating_add(1))
}

/// A namespace and a socket in it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) ns: NetNs,
    pub(crate) netlink: Netlink,
}

impl Place {
    /// Makes the namespace `name` with its loopback up, IPv6 off and `settings` written.
    pub(crate) fn make(name: &str, settings: &[(&str, &str)]) -> Result<Self, FabricError> {
        let ns = NetNs::create_pinned(name).map_err(FabricError::Namespace)?;
        // "default" rules interfaces to come, "all" those of now: lo.
        let ipv6_off = [("ipv6/conf/all/disable_ipv6", "1"), ("ipv6/conf/default/disable_ipv6", "1")];
        let has_ipv6 = std::path::Path::new("/proc/sys/net/ipv6").exists();
        let ipv6_off = ipv6_off.iter().filter(|_| has_ipv6);
        let values: Vec<_> =
            ipv6_off.chain(settings).map(|(key, value)| (SysctlKey::new(key), (*value).to_owned())).collect();
        sysctl::write(&ns, &values).map_err(FabricError::Sysctl)?;
        let mut netlink = Netlink::open_in(&ns).map_err(FabricError::Kernel)?;
        netlink.set_link(&name_of("lo"), &up()).map_err(FabricError::Kernel)?;
        Ok(Self { ns, netlink })
    }

    /// The link of that name, which is there because we just made it.
    pub(crate) fn index_of(&mut self, name: &'static str) -> Result<LinkIndex, FabricError> {
        self.netlink.index_of(&name_of(name)).map_err(FabricError::Kernel)
    }

    /// An address without a route of its own, on the loopback.
    fn answer_for(&mut self, address: Ipv4Addr, scope: AddressScope) -> Result<(), FabricError> {
        let lo = self.index_of("lo")?;
        let spec = AddressSpec { scope, protocol: IFAPROT_UNSPEC, ..AddressSpec::new(lo, host(address)) };
        self.netlink.ensure_address(&spec).map_err(FabricError::Kernel).map(drop)
    }

    /// `destination` through the neighbour `gateway`, which sits at `mac`: no ARP, no address of our own needed.
    pub(crate) fn route_through(
        &mut self,
        destination: Ipv4Net,
        (gateway, mac): (Ipv4Addr, MacAddr),
        link: LinkIndex,
    ) -> Result<(), FabricError> {
        let neighbour = NeighbourSpec { link, address: gateway.into(), mac: Some(mac) };
        self.netlink.ensure_neighbour(&neighbour).map_err(FabricError::Kernel)?;
        let via = RouteSpec::via(TableId::MAIN, destination.into(), gateway.into(), link);
        self.netlink.replace_route(&RouteSpec { onlink: true, ..via }).map_err(FabricError::Kernel)
    }
}

/// A node before its first ENI: a machine with a loopback and a metadata service.
pub(crate) fn make_node(layout: &Layout, node: &str) -> Result<Place, FabricError> {
    // A new namespace inherits what the machine has; a freshly booted instance does not forward.
    let settings =
        [("ipv4/ip_forward", "0"), ("ipv4/conf/all/rp_filter", "0"), ("ipv4/conf/default/rp_filter", "0")];
    let mut place = Place::make(&layout.node_netns(node), &settings)?;
    place.answer_for(IMDS_ADDRESS, AddressScope::Host)?;
    Ok(place)
}

/// The router, without ports.
pub(crate) fn make_fabric(layout: &Layout) -> Result<Place, FabricError> {
    let settings = [
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
        // The gateways' addresses are on the loopback; the machine may be set not to answer for those.
        ("ipv4/conf/all/arp_ignore", "0"),
        ("ipv4/conf/default/arp_ignore", "0"),
        ("ipv4/conf/all/proxy_arp", "1"),
        ("ipv4/ip_forward", "1"),
    ];
    let mut fabric = Place::make(&layout.fabric_netns(), &settings)?;
    let unroutable = UNROUTABLE.map(|net| net.parse().expect("constants are networks"));
    for range in layout.vpc_ranges.iter().copied().chain(unroutable) {
        let hole = RouteSpec::blackhole(TableId::MAIN, IpNet::V4(range));
        fabric.netlink.replace_route(&hole).map_err(FabricError::Kernel)?;
    }
    for subnet in &layout.subnets {
        fabric.answer_for(gateway_of(*subnet), AddressScope::Global)?;
    }
    Ok(fabric)
}

/// The internet: hosts that know the VPC's ranges behind the fabric, as if each address were public.
pub(crate) fn make_internet(layout: &Layout, fabric: &mut Place) -> Result<Place, FabricError> {
    let mut internet = Place::make(&layout.internet_netns(), &[("ipv4/ip_forward", "0")])?;
    for address in [layout.internet, layout.api] {
        internet.answer_for(address, AddressScope::Global)?;
    }
    let spec = VethSpec {
        name: &name_of("eth0"),
        mac: Some(INTERNET_MAC),
        netns: None,
        up: true,
        peer_name: &name_of(INTERNET_PORT),
        peer_mac: Some(ROUTER_MAC),
        peer_netns: Some(&fabric.ns),
        mtu_bytes: MTU_BYTES,
        queues: 1,
    };
    internet.netlink.create_veth(&spec).map_err(FabricError::Kernel)?;
    let port = fabric.index_of(INTERNET_PORT)?;
    fabric.netlink.set_link(port, &up()).map_err(FabricError::Kernel)?;
    fabric.route_through(Ipv4Net::default(), (layout.internet, INTERNET_MAC), port)?;
    let link = internet.index_of("eth0")?;
    // As for a primary ENI: its carrier came just now.
    internet.netlink.link_by_name(&name_of("eth0")).map_err(FabricError::Kernel)?;
    for range in &layout.vpc_ranges {
        internet.route_through(*range, (gateway_of(*range), ROUTER_MAC), link)?;
    }
    Ok(internet)
}

pub(crate) fn up() -> LinkChange<'static> {
    LinkChange { up: Some(true), ..LinkChange::default() }
}

pub(crate) fn name_of(name: &'static str) -> IfName {
    name.parse().expect("constants are interface names")
}

pub(crate) fn host(address: Ipv4Addr) -> IpNet {
    IpNet::from(IpAddr::from(address))
}
