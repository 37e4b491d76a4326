//! What the agent wants of a node's kernel. Plain data, made from what the cloud and the configuration say.

use crate::MacAddr;
use crate::layout::EniOrdinal;
use ipnet::{Ipv4Net, Ipv6Net};
use std::net::Ipv4Addr;

/// Everything that the agent wants of the kernel beyond single pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeWanted {
    /// The ENI that the instance booted with; its address and routes are the operating system's.
    pub primary: PrimaryEni,
    /// The ENIs that the agent looks after, in the order of their ordinals.
    pub secondaries: Vec<SecondaryEni>,
    /// Translation of pods' traffic to where pod addresses are not known.
    pub nat: NatWanted,
    /// Whether pods are kept from the instance metadata service, and with it from the node's credentials.
    pub block_instance_metadata: bool,
}

/// The instance's first ENI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrimaryEni {
    /// Finds its link.
    pub mac: MacAddr,
    /// Its primary address: the source of translated traffic.
    pub address: Ipv4Addr,
}

/// A further ENI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecondaryEni {
    /// Its number: table, mark, rule priorities.
    pub ordinal: EniOrdinal,
    /// Finds its link.
    pub mac: MacAddr,
    /// Its primary address and the length of its subnet's prefix: put on the link.
    pub address: Ipv4Net,
    /// The subnet's router.
    pub gateway: Ipv4Addr,
    /// Addresses and prefixes assigned to it for pods: packets from them leave through it.
    pub pod_addresses: Vec<Ipv4Net>,
    /// MTU of the link; left as it is with `None`.
    pub mtu_bytes: Option<u32>,
}

/// Which pods' traffic to which destinations leaves with the node's primary address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatWanted {
    /// Addresses of this node's pods whose pool has outgoing translation, on whatever ENI.
    pub local: Vec<Ipv4Net>,
    /// Destinations never translated (VPC, cluster, excludes). Multicast and limited broadcast are added here.
    pub never: Vec<Ipv4Net>,
    /// Destinations always translated; beats `never`.
    pub force: Vec<Ipv4Net>,
    /// Source ports of translated TCP, UDP and SCTP.
    pub ports: PortRange,
    /// The same for IPv6.
    pub v6: Nat6Wanted,
}

/// The sets of translation for IPv6. Kept in the kernel like those for IPv4, and not asked before pods have IPv6 addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Nat6Wanted {
    /// Addresses of this node's pods whose pool has outgoing translation.
    pub local: Vec<Ipv6Net>,
    /// Destinations never translated. Link-local addresses and multicast are added.
    pub never: Vec<Ipv6Net>,
    /// Destinations always translated; beats `never`.
    pub force: Vec<Ipv6Net>,
}

/// A range of ports for translated flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// The range is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("port range {first}-{last} is too small: expected at least {minimum} ports from 1024 up", minimum = PortRange::MINIMUM)]
pub struct PortRangeError {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The fewest ports: when a destination's ports are used up, the kernel drops silently.
    pub const MINIMUM: u16 = 4096;

    /// Checks the range.
    ///
    /// # Errors
    /// When it begins below 1024 or holds fewer than [`PortRange::MINIMUM`] ports.
    pub const fn new(first: u16, last: u16) -> Result<Self, PortRangeError> {
        if first < 1024 || last < first || last - first < Self::MINIMUM - 1 {
            return Err(PortRangeError { first, last });
        }
        Ok(Self { first, last })
    }

    /// The lowest port.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }
}

impl Default for PortRange {
    /// All ports that are not privileged.
    fn default() -> Self {
        Self { first: 1024, last: 65535 }
    }
}
