//! Between the agent's word and the datapath: checks that a grant makes sense before the kernel sees any of it, runs the
//! datapath's plan, and finds what a removal is about. Changes the kernel only through `spur_datapath::pod`.
//!
//! The host's veth is named after the pod and its hardware address after the container, so a removal needs no memory: not the
//! agent, not a previous result, not the pod's namespace.

use crate::failure::causes;
use crate::gate::{Gate, Point};
use crate::log::Log;
use crate::request::{AddRequest, Subject};
use crate::result::Wired;
use spur_datapath::conntrack::Conntrack;
use spur_datapath::netlink::{Netlink, NetlinkError};
use spur_datapath::netns::NetNs;
use spur_datapath::pod::{self, AddFailure, PodError, PodRemoval, PodWiring, Removed};
use spur_datapath::{TableId, layout, names};
use spur_wire::{AddReply, Attachment};
use std::net::{IpAddr, Ipv6Addr};

/// The kernel could not be brought where the verb wants it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WiringError {
    #[error("the agent's grant makes no sense: {0}")]
    Grant(String),
    #[error("talk to the kernel")]
    Netlink(#[source] NetlinkError),
    #[error(transparent)]
    Add(Box<AddFailure>),
    #[error(transparent)]
    Remove(PodError),
}

/// A plan that was made from a sensible grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wiring(PodWiring);

/// Least that a link of each family must carry (RFC 791, RFC 8200), and most that Linux takes.
const MTU_V4: u32 = 576;
const MTU_V6: u32 = 1280;
const MTU_MAX: u32 = 65_535;

/// `default`, `main` and `local` belong to the host; 0 means unspecified.
const FOREIGN_TABLES: [u32; 4] = [0, 253, 254, 255];

/// One queue each way: the kernel's default, one per CPU, makes creation several times slower, and a pod's veth is served by
/// whatever CPU sends.
const QUEUES: u32 = 1;

/// The datapath's plan for a grant.
pub(crate) fn plan(request: &AddRequest, grant: &AddReply) -> Result<Wiring, WiringError> {
    check_grant(grant).map_err(WiringError::Grant)?;
    let (container_id, if_name) = (request.subject.container_id.as_str(), request.subject.if_name.as_str());
    Ok(Wiring(PodWiring {
        pod_name: request.subject.if_name.clone(),
        pod_mac: request.conf.mac.unwrap_or_else(|| names::pod_mac(container_id, if_name)),
        host_name: request.subject.host_if_name(),
        host_mac: names::host_mac(container_id, if_name),
        addresses: grant.addresses.clone(),
        mtu_bytes: grant.mtu_bytes,
        pods_table: TableId::new(grant.pods_table),
        node_address: grant.node_address,
        queues: QUEUES,
    }))
}

fn check_grant(grant: &AddReply) -> Result<(), String> {
    let (v4, v6): (Vec<&IpAddr>, Vec<&IpAddr>) =
        grant.addresses.iter().partition(|address| address.is_ipv4());
    if grant.addresses.is_empty() {
        return Err("addresses is empty".to_owned());
    }
    if v4.len() > 1 || v6.len() > 1 {
        return Err(format!("addresses {:?} has two of one family", grant.addresses));
    }
    if let Some(odd) =
        grant.addresses.iter().chain([&grant.node_address]).find(|address| !is_unicast(**address))
    {
        return Err(format!("{odd} is no unicast address"));
    }
    let least = if v6.is_empty() { MTU_V4 } else { MTU_V6 };
    if !(least..=MTU_MAX).contains(&grant.mtu_bytes) {
        return Err(format!("mtuBytes is {}, expected {least} to {MTU_MAX}", grant.mtu_bytes));
    }
    if FOREIGN_TABLES.contains(&grant.pods_table) {
        return Err(format!("podsTable is {}, which is not ours", grant.pods_table));
    }
    Ok(())
}

fn is_unicast(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast)
}

impl Wiring {
    /// Wires the pod; a failure was undone already, unless it says otherwise.
    pub(crate) fn apply(&self, netns: &NetNs, gate: Gate<'_>) -> Result<(), WiringError> {
        let mut host = Netlink::open().map_err(WiringError::Netlink)?;
        let mut gate = |step| gate(Point::Wire(step));
        pod::add(&mut host, netns, &self.0, &mut gate).map(drop).map_err(WiringError::Add)
    }

    /// Takes apart what [`Wiring::apply`] wired.
    pub(crate) fn undo(&self) -> Result<(), WiringError> {
        let mut host = Netlink::open().map_err(WiringError::Netlink)?;
        pod::remove(&mut host, &PodRemoval::of(&self.0)).map(drop).map_err(WiringError::Remove)
    }

    /// What the result tells.
    pub(crate) fn wired(&self, request: &AddRequest) -> Wired {
        let gateway = |address: IpAddr| match address {
            IpAddr::V4(_) => IpAddr::from(layout::POD_GATEWAY),
            IpAddr::V6(_) => IpAddr::from(POD_GATEWAY_V6),
        };
        Wired {
            host_if_name: self.0.host_name.to_string(),
            host_mac: self.0.host_mac.to_string(),
            pod_if_name: self.0.pod_name.to_string(),
            pod_mac: self.0.pod_mac.to_string(),
            sandbox: request.sandbox.clone(),
            mtu_bytes: self.0.mtu_bytes,
            addresses: self.0.addresses.iter().map(|address| (*address, gateway(*address))).collect(),
        }
    }
}

/// The gateway that a pod sees in IPv6, as the datapath wires it.
const POD_GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// What detaching found.
#[derive(Debug, Default)]
pub(crate) struct Detached {
    /// The addresses that the host had routes to.
    pub(crate) addresses: Vec<IpAddr>,
    /// There was a pair, which now waits to be deleted.
    pub(crate) veth: bool,
}

/// Takes away what leads to the pod, and leaves the pair for later. Already gone is fine, a newer container's is left alone.
pub(crate) fn detach(subject: &Subject, log: &Log) -> Result<Detached, WiringError> {
    match take_apart(subject, log, pod::detach)? {
        Removed::Now { addresses } => Ok(Detached { addresses, veth: true }),
        Removed::AlreadyGone | Removed::Newer { .. } => Ok(Detached::default()),
    }
}

/// Deletes the pair, whatever still leads to it. Takes the kernel some 20 ms.
pub(crate) fn remove(subject: &Subject, log: &Log) -> Result<(), WiringError> {
    take_apart(subject, log, pod::remove).map(drop)
}

/// [`pod::detach`] or [`pod::remove`].
type TakeApart = fn(&mut Netlink, &PodRemoval) -> Result<Removed, PodError>;

fn take_apart(subject: &Subject, log: &Log, take: TakeApart) -> Result<Removed, WiringError> {
    let mut host = Netlink::open().map_err(WiringError::Netlink)?;
    let removal = PodRemoval {
        host_name: subject.host_if_name(),
        host_mac: names::host_mac(subject.container_id.as_str(), subject.if_name.as_str()),
        pods_table: layout::PODS_TABLE,
    };
    let removed = match take(&mut host, &removal).map_err(WiringError::Remove)? {
        // A runtime that does not name the pod now may have named it for ADD: then the veth is called otherwise.
        Removed::AlreadyGone if subject.pod.is_none() => take_apart_by_mac(&mut host, &removal, take)?,
        removed => removed,
    };
    log.debug(format_args!("{}: {removed:?}", removal.host_name));
    Ok(removed)
}

fn take_apart_by_mac(
    host: &mut Netlink,
    removal: &PodRemoval,
    take: TakeApart,
) -> Result<Removed, WiringError> {
    let link = host.link_by_mac(removal.host_mac).map_err(WiringError::Netlink)?;
    let Some(link) = link.filter(|link| link.name.as_str().starts_with(layout::HOST_VETH_PREFIX)) else {
        return Ok(Removed::AlreadyGone);
    };
    let removal = PodRemoval { host_name: link.name, ..removal.clone() };
    take(host, &removal).map_err(WiringError::Remove)
}

/// Makes the kernel forget the flows of addresses that are given back: their next owner must not meet them. The cooldown keeps
/// the addresses from a next owner for a while, so a failure is worth a warning and no more.
pub(crate) fn forget_flows(addresses: &[IpAddr], log: &Log) {
    if addresses.is_empty() {
        return;
    }
    let forgotten = Conntrack::open().and_then(|mut conntrack| conntrack.delete_addresses(addresses));
    if let Err(error) = forgotten {
        log.warn(format_args!("flows of {addresses:?} stay known: {error}: {}", causes(&error)));
    }
}

/// Detaches an attachment of which nothing else is known.
pub(crate) fn detach_stale(attachment: &Attachment) -> Result<(), WiringError> {
    let mut host = Netlink::open().map_err(WiringError::Netlink)?;
    let removal = PodRemoval {
        host_name: names::host_veth_name(None, &attachment.container_id, &attachment.if_name),
        host_mac: names::host_mac(&attachment.container_id, &attachment.if_name),
        pods_table: layout::PODS_TABLE,
    };
    take_apart_by_mac(&mut host, &removal, pod::detach).map(drop)
}

/// Deletes all pairs that are detached, at once.
pub(crate) fn reap() -> Result<usize, WiringError> {
    Netlink::open().and_then(|mut host| pod::reap(&mut host)).map_err(WiringError::Netlink)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> AddReply {
        AddReply {
            addresses: vec!["10.0.1.7".parse().unwrap()],
            mtu_bytes: 9001,
            pods_table: 5000,
            node_address: "10.0.1.4".parse().unwrap(),
        }
    }

    #[test]
    fn a_grant_that_makes_no_sense_is_refused_by_name() {
        assert_eq!(check_grant(&grant()), Ok(()));
        let with = |change: fn(&mut AddReply)| {
            let mut grant = grant();
            change(&mut grant);
            check_grant(&grant).unwrap_err()
        };
        assert_eq!(with(|grant| grant.addresses.clear()), "addresses is empty");
        assert!(
            with(|grant| grant.addresses.push("10.0.1.8".parse().unwrap())).contains("two of one family")
        );
        for odd in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
            let mut grant = grant();
            grant.addresses = vec![odd.parse().unwrap()];
            assert_eq!(check_grant(&grant), Err(format!("{odd} is no unicast address")));
        }
        assert!(with(|grant| grant.node_address = "0.0.0.0".parse().unwrap()).contains("0.0.0.0"));
        assert!(with(|grant| grant.mtu_bytes = 575).contains("mtuBytes is 575"));
        assert!(with(|grant| grant.mtu_bytes = 65_536).contains("mtuBytes"));
        assert!(with(|grant| grant.pods_table = 254).contains("podsTable is 254"));
    }
}
