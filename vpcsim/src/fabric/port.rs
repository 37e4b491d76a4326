//! One port of the fabric: the veth that is an attached ENI, from the router's end to the node's.
//!
//! The pair is made directly in the node's namespace under its final name, as hotplug does. The router reaches all of an
//! ENI's addresses through one permanent neighbour, the ENI's primary address at the ENI's MAC. Only the primary ENI is
//! configured in the node, as an instance's image does; what to do with the others is the business of whoever runs there.

use super::place::{Place, gateway_of, up};
use super::plan::Port;
use super::{FabricError, MTU_BYTES, ROUTER_MAC};
use ipnet::{IpNet, Ipv4Net};
use spur_datapath::netlink::{AddressSpec, NeighbourSpec, Request, RouteSpec, VethSpec};
use spur_datapath::sysctl::{self, SysctlKey};
use spur_datapath::{IfName, LinkIndex, TableId};
use std::collections::BTreeSet;

/// The router's end of an ENI: `e` and the last 12 characters of the ENI's id, which is enough to tell a world's ENIs
/// apart and fits an interface name.
pub(crate) fn router_end(eni: &str) -> Result<IfName, FabricError> {
    let digits = eni.strip_prefix("eni-").unwrap_or(eni);
    let tail = digits.char_indices().rev().nth(11).map_or(digits, |(start, _)| &digits[start..]);
    format!("e{tail}").parse().map_err(|_| FabricError::EniName { eni: eni.to_owned() })
}

/// Plugs the ENI into its node; returns the router's end.
pub(crate) fn plug(
    fabric: &mut Place,
    node: &mut Place,
    eni: &str,
    port: &Port,
) -> Result<LinkIndex, FabricError> {
    let outside = router_end(eni)?;
    let inside: IfName = port.netdev().parse().map_err(|_| FabricError::EniName { eni: eni.to_owned() })?;
    let spec = VethSpec {
        name: &inside,
        mac: Some(port.mac),
        netns: None,
        up: false,
        peer_name: &outside,
        peer_mac: Some(ROUTER_MAC),
        peer_netns: Some(&fabric.ns),
        mtu_bytes: MTU_BYTES,
        queues: 1,
    };
    node.netlink.create_veth(&spec).map_err(FabricError::Kernel)?;
    let link = fabric.netlink.index_of(&outside).map_err(FabricError::Kernel)?;
    // Proxied answers wait up to 0.8 s by default; a new interface takes the machine's setting, not the namespace's.
    let no_delay = SysctlKey::new(&format!("ipv4/neigh/{outside}/proxy_delay"));
    sysctl::write(&fabric.ns, &[(no_delay, "0".to_owned())]).map_err(FabricError::Sysctl)?;
    fabric.netlink.set_link(link, &up()).map_err(FabricError::Kernel)?;
    let neighbour = NeighbourSpec { link, address: port.primary.into(), mac: Some(port.mac) };
    fabric.netlink.ensure_neighbour(&neighbour).map_err(FabricError::Kernel)?;
    announce(fabric, link, port, &port.addresses)?;
    if port.is_primary_eni() {
        configure_primary(node, &inside, port)?;
        // Both ends have got their carrier just now, and send nothing before the kernel's link watch has seen that (milliseconds,
        // more under load). Reading a link makes it look at once; asking for its index alone does not.
        node.netlink.link_by_name(&inside).map_err(FabricError::Kernel)?;
        fabric.netlink.link_by_name(&outside).map_err(FabricError::Kernel)?;
    }
    Ok(link)
}

/// Routes `addresses` to the port.
pub(crate) fn announce(
    fabric: &mut Place,
    link: LinkIndex,
    port: &Port,
    addresses: &BTreeSet<Ipv4Net>,
) -> Result<(), FabricError> {
    let requests = addresses.iter().map(|address| Request::replace_route(&route(link, port, *address)));
    fabric.netlink.run_all(requests.collect()).map_err(FabricError::Kernel)
}

/// Takes the routes of `addresses` away.
pub(crate) fn withdraw(
    fabric: &mut Place,
    link: LinkIndex,
    port: &Port,
    addresses: &BTreeSet<Ipv4Net>,
) -> Result<(), FabricError> {
    let requests =
        addresses.iter().map(|address| Request::remove_route(&route(link, port, *address)).or_gone());
    fabric.netlink.run_all(requests.collect()).map_err(FabricError::Kernel)
}

fn route(link: LinkIndex, port: &Port, address: Ipv4Net) -> RouteSpec {
    if address == Ipv4Net::from(port.primary) {
        return RouteSpec::on_link(TableId::MAIN, address.into(), link);
    }
    let via = RouteSpec::via(TableId::MAIN, address.into(), port.primary.into(), link);
    RouteSpec { onlink: true, ..via }
}

/// What an image's DHCP client does for the first interface.
fn configure_primary(node: &mut Place, name: &IfName, port: &Port) -> Result<(), FabricError> {
    let link = node.netlink.index_of(name).map_err(FabricError::Kernel)?;
    let address =
        Ipv4Net::new(port.primary, port.subnet.prefix_len()).unwrap_or_else(|_| port.primary.into());
    let address = AddressSpec {
        no_prefix_route: false,
        protocol: IFAPROT_UNSPEC,
        ..AddressSpec::new(link, IpNet::V4(address))
    };
    let gateway = gateway_of(port.subnet).into();
    node.netlink
        .set_link(link, &up())
        .and_then(|()| node.netlink.ensure_address(&address))
        .and_then(|_| {
            let default = RouteSpec::via(TableId::MAIN, IpNet::V4(Ipv4Net::default()), gateway, link);
            node.netlink.replace_route(&RouteSpec { protocol: RTPROT_DHCP, ..default })
        })
        .map_err(FabricError::Kernel)
}

/// `RTPROT_DHCP`: so that nobody takes the image's route for a route of Spur's.
const RTPROT_DHCP: u8 = 16;

/// `IFAPROT_UNSPEC`: so that nobody takes the image's addresses for addresses of Spur's.
pub(crate) const IFAPROT_UNSPEC: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn router_ends_fit_an_interface_name_and_keep_the_end_of_the_id() {
        assert_eq!(router_end("eni-0123456789abcdef0").unwrap().as_str(), "e56789abcdef0");
        assert_eq!(router_end("eni-1").unwrap().as_str(), "e1");
        assert!(router_end("eni-a/b").is_err());
    }
}
