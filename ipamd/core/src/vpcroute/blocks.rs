//! Free blocks: the lowest one of the pool that the record does not know and that no managed table shows any part of.

use super::Family;
use super::settings::PoolSpec;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::BTreeSet;

/// Networks that are taken, in a form that answers quickly whether another one is free of them.
#[derive(Debug, Default)]
pub(super) struct Taken(BTreeSet<IpNet>);

impl Taken {
    /// Takes a network.
    pub(super) fn add(&mut self, net: IpNet) {
        self.0.insert(net.trunc());
    }

    /// Whether no address of the network is taken.
    fn is_free(&self, net: IpNet) -> bool {
        let covering = (0..=net.prefix_len()).filter_map(|length| shortened(net, length));
        if covering.into_iter().any(|wider| self.0.contains(&wider)) {
            return false;
        }
        // Networks are ordered by their first address, so one inside is the next.
        !self.0.range(net..).next().is_some_and(|next| net.contains(next))
    }

    /// The lowest free block of a family.
    pub(super) fn free(&self, pool: &PoolSpec, family: Family) -> Option<IpNet> {
        let length = pool.block_length(family);
        let cidrs = pool.cidrs.iter().filter(|cidr| Family::of(**cidr) == family);
        let mut blocks = cidrs.filter_map(|cidr| cidr.subnets(length).ok()).flatten();
        blocks.find(|block| self.is_free(*block))
    }
}

/// The network that covers this one with a prefix so short.
fn shortened(net: IpNet, length: u8) -> Option<IpNet> {
    Some(match net {
        IpNet::V4(net) => IpNet::V4(Ipv4Net::new(net.addr(), length).ok()?.trunc()),
        IpNet::V6(net) => IpNet::V6(Ipv6Net::new(net.addr(), length).ok()?.trunc()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::settings::BlocksFrom;
    use super::*;

    fn pool(cidrs: &[&str]) -> PoolSpec {
        PoolSpec {
            cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
            block_v4: 25,
            block_v6: 80,
            blocks_from: BlocksFrom::Pool,
            service_cidrs: BTreeSet::new(),
            accepted_routes: BTreeSet::new(),
        }
    }

    #[test]
    fn a_block_is_free_only_without_any_overlap() {
        let pool = pool(&["10.200.0.0/22"]);
        let mut taken = Taken::default();
        for (net, next) in [
            ("10.200.0.0/25", Some("10.200.0.128/25")),
            ("10.200.0.130/32", Some("10.200.1.0/25")),
            ("10.200.1.0/24", Some("10.200.2.0/25")),
            ("10.200.2.0/23", None),
        ] {
            taken.add(net.parse().unwrap());
            assert_eq!(taken.free(&pool, Family::V4), next.map(|next| next.parse().unwrap()), "after {net}");
        }
    }

    #[test]
    fn families_have_blocks_of_their_own() {
        let pool = pool(&["10.200.0.0/24", "fd12:3456::/56"]);
        assert_eq!(Taken::default().free(&pool, Family::V6), Some("fd12:3456::/80".parse().unwrap()));
        assert_eq!(Taken::default().free(&pool, Family::V4), Some("10.200.0.0/25".parse().unwrap()));
    }
}
