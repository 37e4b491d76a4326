//! Takes a pod's wiring apart: at once ([`remove`]), or in two parts ([`detach`], then [`reap`] by somebody else), because the
//! kernel takes 16 to 20 ms to delete a veth, and hardly longer to delete fifty.
//!
//! A detached veth carries nothing: no route leads to it, so nothing reaches the pod, and what the pod still sends is dropped by
//! the node's guard, which asks that same route. It is marked by its link group; whoever finds the mark may delete
//! it, so nothing has to be remembered across a crash. Every function here tolerates that somebody else was faster.

use super::{PodError, PodWiring};
use crate::netlink::{Errno, Link, LinkChange, NeighbourSpec, Netlink, NetlinkError, Request, RouteSpec};
use crate::{IfName, LinkIndex, MacAddr, TableId, layout};
use std::net::IpAddr;

/// What a removal is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRemoval {
    /// Name of the host's end.
    pub host_name: IfName,
    /// Its hardware address if it is this container's.
    pub host_mac: MacAddr,
    /// The pods' table.
    pub pods_table: TableId,
}

impl PodRemoval {
    /// The removal of what was wired so.
    #[must_use]
    pub fn of(wiring: &PodWiring) -> Self {
        Self { host_name: wiring.host_name.clone(), host_mac: wiring.host_mac, pods_table: wiring.pods_table }
    }
}

/// What a removal found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// The pair is gone now, or detached; the host had routes to these addresses.
    Now {
        /// The pod's addresses.
        addresses: Vec<IpAddr>,
    },
    /// There is no such veth any more.
    AlreadyGone,
    /// The veth of that name is of a newer container of the same pod; it is untouched.
    Newer {
        /// Its hardware address.
        mac: Option<MacAddr>,
    },
}

/// Takes a pod apart: its routes at once (the address is unreachable from then on), then the pair.
///
/// # Guarantees
/// Tolerates everything already gone, and never touches a veth with another hardware address.
///
/// # Errors
/// When the kernel refuses, after everything was tried.
pub fn remove(host: &mut Netlink, removal: &PodRemoval) -> Result<Removed, PodError> {
    take_apart(host, removal, |link, routes| {
        let mut requests: Vec<Request> =
            routes.iter().map(|route| Request::remove_route(route).or_gone()).collect();
        requests.push(Request::remove_link(link.index).or_gone());
        requests
    })
}

/// Takes away what makes the pod's address reachable and marks the veth for [`reap`]. Does not wait for the kernel.
///
/// # Guarantees
/// As [`remove`], but for the pair, which exists until it is reaped.
///
/// # Errors
/// When the kernel refuses, after everything was tried.
pub fn detach(host: &mut Netlink, removal: &PodRemoval) -> Result<Removed, PodError> {
    take_apart(host, removal, |link, routes| {
        let mut requests = Vec::with_capacity(2 * routes.len() + 1);
        for route in routes {
            let address = route.destination.addr();
            // Whatever hardware address it has.
            let neighbour = NeighbourSpec { link: link.index, address, mac: Some(removal.host_mac) };
            requests.push(Request::remove_route(route).or_gone());
            requests.push(Request::remove_neighbour(&neighbour).or_gone());
        }
        // The mark comes last: a veth that is still routed to is not somebody else's to delete.
        requests.push(leaving(link.index).or_gone());
        requests
    })
}

fn take_apart(
    host: &mut Netlink,
    removal: &PodRemoval,
    requests: impl FnOnce(&Link, &[RouteSpec]) -> Vec<Request>,
) -> Result<Removed, PodError> {
    let failed = |cause| PodError::Remove { name: removal.host_name.clone(), cause };
    let Some(link) = host.link_by_name(&removal.host_name).map_err(failed)? else {
        return Ok(Removed::AlreadyGone);
    };
    if link.mac != Some(removal.host_mac) {
        return Ok(Removed::Newer { mac: link.mac });
    }
    let (routes, requests) = match host.routes_on(removal.pods_table, link.index) {
        Ok(routes) => {
            let requests = requests(&link, &routes);
            (routes, requests)
        }
        // A route table that cannot be read must not keep the address reachable: its routes go with the pair.
        Err(_) => (Vec::new(), vec![Request::remove_link(link.index).or_gone()]),
    };
    host.run_all(requests).map_err(failed)?;
    Ok(Removed::Now { addresses: routes.iter().map(|route| route.destination.addr()).collect() })
}

fn leaving(link: LinkIndex) -> Request {
    Request::set_link(link, &LinkChange { group: Some(layout::LEAVING_GROUP), ..LinkChange::default() })
}

/// The host's end of a pod's veth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLink {
    /// Its name.
    pub name: IfName,
    /// Its hardware address, which tells the container.
    pub mac: Option<MacAddr>,
}

/// The host ends of pods that were wired by us and are not detached.
///
/// # Errors
/// When the kernel's list cannot be read.
pub fn links(host: &mut Netlink) -> Result<Vec<PodLink>, NetlinkError> {
    let ours = |link: &Link| is_pod_veth(link) && link.group == layout::POD_GROUP;
    let all = host.links()?.into_iter().filter(ours);
    Ok(all.map(|link| PodLink { name: link.name, mac: link.mac }).collect())
}

/// Detaches these: their routes go, and they are marked for [`reap`].
///
/// # Errors
/// When the kernel refuses one; the others were tried all the same.
pub fn mark(host: &mut Netlink, links: &[PodLink]) -> Result<(), NetlinkError> {
    let mut requests = Vec::new();
    for wanted in links {
        // A new sandbox of the same pod may have taken the name meanwhile.
        let found = host.link_by_name(&wanted.name)?;
        let Some(link) = found.filter(|link| link.mac == wanted.mac) else { continue };
        let routes = host.routes_on(layout::PODS_TABLE, link.index)?;
        requests.extend(routes.iter().map(|route| Request::remove_route(route).or_gone()));
        requests.push(leaving(link.index).or_gone());
    }
    host.run_all(requests)
}

/// Deletes every veth that is marked, all at once; how many there were. Takes some 20 ms when there are any.
///
/// # Errors
/// When the kernel refuses.
pub fn reap(host: &mut Netlink) -> Result<usize, NetlinkError> {
    let marked: Vec<Link> =
        host.links()?.into_iter().filter(|link| link.group == layout::LEAVING_GROUP).collect();
    let (ours, foreign): (Vec<&Link>, Vec<&Link>) = marked.iter().partition(|link| is_pod_veth(link));
    if ours.is_empty() {
        return Ok(0);
    }
    if foreign.is_empty() {
        match host.run(Request::remove_link_group(layout::LEAVING_GROUP)) {
            Ok(_) => {}
            // The last of them went with its namespace meanwhile.
            Err(error) if error.errno() == Some(Errno::NODEV) => {}
            Err(error) => return Err(error),
        }
    } else {
        // Somebody uses the same number for links of his own: ours go one by one.
        let requests = ours.iter().map(|link| Request::remove_link(link.index).or_gone()).collect();
        host.run_all(requests)?;
    }
    Ok(ours.len())
}

fn is_pod_veth(link: &Link) -> bool {
    link.kind.as_deref() == Some("veth") && link.name.as_str().starts_with(layout::HOST_VETH_PREFIX)
}
