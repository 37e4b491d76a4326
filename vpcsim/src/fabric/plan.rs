//! What the fabric must carry, and the steps from what it carries now to that. Pure: no kernel, no clock.
//!
//! A [`Port`] is an attached ENI as the VPC's router sees it. The plan is computed from two whole pictures, never from
//! single API calls, so a call that changes several ENIs at once (an address that moves) or a missed wake-up cannot
//! leave the fabric out of step. Removals come before additions: an address or a netdev name that moves is never
//! in two places.

use ipnet::Ipv4Net;
use spur_datapath::MacAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// Whether the router compares a packet's addresses with those of the ENI (EC2's source/destination check).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressCheck {
    /// Packets from or to an address that is not on the ENI are dropped.
    On,
    /// The ENI may forward for others.
    Off,
}

/// An attached ENI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The node's name in the scenario.
    pub node: String,
    /// Network card; 0 on most instance types.
    pub card: u32,
    /// Device index on the card; 0 on card 0 is the primary ENI.
    pub device_index: u32,
    /// The ENI's MAC.
    pub mac: MacAddr,
    /// The subnet's addresses.
    pub subnet: Ipv4Net,
    /// The ENI's own primary address.
    pub primary: Ipv4Addr,
    /// All addresses on the ENI: the primary one, secondary ones, delegated prefixes.
    pub addresses: BTreeSet<Ipv4Net>,
    /// Source/destination check.
    pub check: AddressCheck,
    /// The route table of its subnet.
    pub table: String,
}

impl Port {
    /// True for the ENI that a node was born with.
    #[must_use]
    pub const fn is_primary_eni(&self) -> bool {
        self.device_index == 0 && self.card == 0
    }

    /// The netdev's name in the node: `eth1`, on a further card `eth1c2`, because each card counts for itself.
    #[must_use]
    pub fn netdev(&self) -> String {
        if self.card == 0 {
            format!("eth{}", self.device_index)
        } else {
            format!("eth{}c{}", self.device_index, self.card)
        }
    }

    /// True when both are the same netdev: what differs besides can be changed while it is plugged in.
    fn is_same_netdev(&self, other: &Self) -> bool {
        (&self.node, self.card, self.device_index, self.mac, self.primary, self.subnet)
            == (&other.node, other.card, other.device_index, other.mac, other.primary, other.subnet)
    }
}

/// All attached ENIs by ENI id.
pub type Ports = BTreeMap<String, Port>;

/// One step on the fabric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The netdev disappears from its node, and all routes to it.
    Unplug {
        /// The ENI.
        eni: String,
        /// As it was carried.
        port: Port,
    },
    /// Addresses leave an ENI that stays.
    Withdraw {
        /// The ENI.
        eni: String,
        /// Which.
        addresses: BTreeSet<Ipv4Net>,
    },
    /// The netdev appears in its node.
    Plug {
        /// The ENI.
        eni: String,
        /// As it is to be carried.
        port: Port,
    },
    /// Addresses come to an ENI that was there.
    Announce {
        /// The ENI.
        eni: String,
        /// Which.
        addresses: BTreeSet<Ipv4Net>,
    },
    /// The source/destination check is switched, or the subnet routes by another table.
    SetGuard {
        /// The ENI.
        eni: String,
        /// The check.
        check: AddressCheck,
        /// The route table.
        table: String,
    },
}

/// The steps from `current` to `wanted`, in the order in which they must be taken.
#[must_use]
pub fn plan(current: &Ports, wanted: &Ports) -> Vec<Step> {
    let mut removals = Vec::new();
    let mut additions = Vec::new();
    for (eni, port) in current {
        match wanted.get(eni).filter(|next| next.is_same_netdev(port)) {
            None => removals.push(Step::Unplug { eni: eni.clone(), port: port.clone() }),
            Some(next) => plan_kept(eni, port, next, &mut removals, &mut additions),
        }
    }
    for (eni, port) in wanted {
        if !current.get(eni).is_some_and(|before| before.is_same_netdev(port)) {
            additions.push(Step::Plug { eni: eni.clone(), port: port.clone() });
        }
    }
    removals.append(&mut additions);
    removals
}

fn plan_kept(eni: &str, port: &Port, next: &Port, removals: &mut Vec<Step>, additions: &mut Vec<Step>) {
    let gone: BTreeSet<_> = port.addresses.difference(&next.addresses).copied().collect();
    if !gone.is_empty() {
        removals.push(Step::Withdraw { eni: eni.to_owned(), addresses: gone });
    }
    let new: BTreeSet<_> = next.addresses.difference(&port.addresses).copied().collect();
    if !new.is_empty() {
        additions.push(Step::Announce { eni: eni.to_owned(), addresses: new });
    }
    if (port.check, &port.table) != (next.check, &next.table) {
        let (check, table) = (next.check, next.table.clone());
        additions.push(Step::SetGuard { eni: eni.to_owned(), check, table });
    }
}

/// The picture after `step`: what the fabric carries once the kernel has taken it.
pub fn advance(ports: &mut Ports, step: &Step) {
    match step {
        Step::Unplug { eni, .. } => {
            ports.remove(eni);
        }
        Step::Plug { eni, port } => {
            ports.insert(eni.clone(), port.clone());
        }
        Step::Withdraw { eni, addresses } => {
            if let Some(port) = ports.get_mut(eni) {
                port.addresses.retain(|address| !addresses.contains(address));
            }
        }
        Step::Announce { eni, addresses } => {
            if let Some(port) = ports.get_mut(eni) {
                port.addresses.extend(addresses);
            }
        }
        Step::SetGuard { eni, check, table } => {
            if let Some(port) = ports.get_mut(eni) {
                port.check = *check;
                port.table.clone_from(table);
            }
        }
    }
}

#[cfg(test)]
mod tests;
