//! From what the pool, the configuration and the VPC say to what the kernel shall be. Pure: the same inputs give the same
//! [`NodeWanted`].

use super::granted::Granted;
use crate::config::{Mode, NatOptions, VpcDestinations};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use spur_cloud::{MacAddr, SubnetId};
use spur_datapath::layout::EniOrdinal;
use spur_datapath::node::{Nat6Wanted, NatWanted, NodeWanted, PortRange, PrimaryEni, SecondaryEni};
use spur_ipamd_core::{DatapathWanted, EniDatapath};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What does not come from the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeInputs {
    /// Hardware address of the primary ENI.
    pub(super) primary_mac: MacAddr,
    /// The node's primary address.
    pub(super) primary_address: Ipv4Addr,
    /// CIDRs of the VPC as last read.
    pub(super) vpc_cidrs: Vec<IpNet>,
    /// CIDRs of subnets.
    pub(super) subnets: BTreeMap<SubnetId, Ipv4Net>,
    /// Where pod addresses come from.
    pub(super) mode: Mode,
    /// What the controller tells, if there is one.
    pub(super) granted: Granted,
    /// Translation.
    pub(super) nat: NatOptions,
    /// Whether pods are kept from the instance metadata.
    pub(super) block_instance_metadata: bool,
}

/// Why the wanted state cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WantedError {
    /// The subnet's CIDR was not learned yet.
    #[error("the CIDR of {0} is not known yet")]
    UnknownSubnet(SubnetId),
    /// The ordinal is beyond what tables and rules are laid out for.
    #[error("{eni} cannot be laid out")]
    Ordinal {
        /// The ENI.
        eni: spur_cloud::EniId,
        /// Why.
        #[source]
        cause: spur_datapath::layout::OrdinalError,
    },
    /// The port range is too small.
    #[error("pool.natPortRange cannot be used")]
    Ports(#[source] spur_datapath::node::PortRangeError),
    /// An ENI's own address is not IPv4.
    #[error("{0} has no primary IPv4 address")]
    NoIpv4(spur_cloud::EniId),
}

/// The subnets of secondary ENIs whose CIDR is not known.
#[must_use]
pub(super) fn unknown_subnets(pool: &DatapathWanted, inputs: &NodeInputs) -> BTreeSet<SubnetId> {
    let secondaries = pool.enis.iter().filter(|eni| eni.ordinal > 0).map(|eni| &eni.subnet);
    secondaries.filter(|subnet| !inputs.subnets.contains_key(subnet)).cloned().collect()
}

/// What the kernel shall be.
///
/// # Errors
/// When an input is missing or makes no sense; the kernel stays as it is then.
pub(super) fn node_wanted(pool: &DatapathWanted, inputs: &NodeInputs) -> Result<NodeWanted, WantedError> {
    let secondaries = pool.enis.iter().filter(|eni| eni.ordinal > 0).map(|eni| secondary(eni, inputs));
    let nat = &inputs.nat;
    let local = if nat.outgoing { pool.enis.iter().flat_map(pod_addresses).collect() } else { Vec::new() };
    Ok(NodeWanted {
        primary: PrimaryEni { mac: kernel_mac(inputs.primary_mac), address: inputs.primary_address },
        secondaries: secondaries.collect::<Result<_, _>>()?,
        nat: NatWanted {
            local,
            never: never(inputs).iter().filter_map(v4).collect(),
            force: force(inputs),
            ports: PortRange::new(nat.first_port, nat.last_port).map_err(WantedError::Ports)?,
            v6: nat6(inputs),
        },
        block_instance_metadata: inputs.block_instance_metadata,
    })
}

/// The sets for IPv6: pods have no such address yet, so nobody is local.
fn nat6(inputs: &NodeInputs) -> Nat6Wanted {
    let force = match inputs.mode {
        Mode::Eni => Vec::new(),
        // EC2's own services, which know addresses of ENIs only.
        Mode::VpcRoute => vec![Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32)],
    };
    Nat6Wanted { local: Vec::new(), never: never(inputs).iter().filter_map(v6).collect(), force }
}

/// Destinations that know pod addresses, of both families.
fn never(inputs: &NodeInputs) -> Vec<IpNet> {
    let mut never: Vec<IpNet> = inputs.nat.exclude.iter().copied().map(IpNet::V4).collect();
    match inputs.nat.vpc_destinations {
        VpcDestinations::AllCidrs => never.extend(&inputs.vpc_cidrs),
        VpcDestinations::Covered => {
            never.extend(inputs.granted.grant.iter().flat_map(|grant| grant.covered_subnets.values()));
        }
        VpcDestinations::None => {}
    }
    if let Some(cluster) = &inputs.granted.cluster {
        never.extend(&cluster.pool_cidrs);
        never.extend(cluster.node_addresses.values().flatten().copied().map(IpNet::from));
    }
    never
}

/// Destinations that know addresses of ENIs only, whatever else is said of them.
fn force(inputs: &NodeInputs) -> Vec<Ipv4Net> {
    let mut force: Vec<Ipv4Net> = inputs.nat.force.iter().copied().collect();
    if inputs.mode == Mode::VpcRoute {
        force.push(Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16));
        // The resolver answers at the base of the VPC's first CIDR plus two.
        let resolver = |cidr: Ipv4Net| Ipv4Addr::from_bits(cidr.network().to_bits().saturating_add(2));
        force.extend(inputs.vpc_cidrs.first().and_then(v4).map(|cidr| Ipv4Net::from(resolver(cidr))));
    }
    force
}

fn v4(net: &IpNet) -> Option<Ipv4Net> {
    match net {
        IpNet::V4(net) => Some(*net),
        IpNet::V6(_) => None,
    }
}

fn v6(net: &IpNet) -> Option<Ipv6Net> {
    match net {
        IpNet::V4(_) => None,
        IpNet::V6(net) => Some(*net),
    }
}

fn secondary(eni: &EniDatapath, inputs: &NodeInputs) -> Result<SecondaryEni, WantedError> {
    let ordinal = EniOrdinal::new(eni.ordinal.into())
        .map_err(|cause| WantedError::Ordinal { eni: eni.eni.clone(), cause })?;
    let subnet = inputs.subnets.get(&eni.subnet);
    let subnet = subnet.ok_or_else(|| WantedError::UnknownSubnet(eni.subnet.clone()))?;
    let IpAddr::V4(primary) = eni.primary else { return Err(WantedError::NoIpv4(eni.eni.clone())) };
    let address = Ipv4Net::new(primary, subnet.prefix_len());
    Ok(SecondaryEni {
        ordinal,
        mac: kernel_mac(eni.mac),
        address: address.expect("the prefix length comes from an IPv4 CIDR"),
        // EC2's router is the first address after the subnet's own.
        gateway: Ipv4Addr::from_bits(subnet.network().to_bits().saturating_add(1)),
        pod_addresses: pod_addresses(eni).collect(),
        mtu_bytes: None,
    })
}

/// The IPv4 addresses of an ENI that pods may have.
pub(super) fn pod_addresses(eni: &EniDatapath) -> impl Iterator<Item = Ipv4Net> {
    eni.addresses.iter().filter_map(|address| match address {
        IpAddr::V4(address) => Some(Ipv4Net::from(*address)),
        IpAddr::V6(_) => None,
    })
}

/// The kernel's type for a hardware address: the datapath knows nothing of clouds.
#[must_use]
pub(super) const fn kernel_mac(mac: MacAddr) -> spur_datapath::MacAddr {
    spur_datapath::MacAddr::new(mac.octets())
}

#[cfg(test)]
pub(super) mod tests;
