//! Delegated prefixes: a /28 takes one place of an ENI and brings sixteen addresses, the first and the last included. Prefixes of another
//! size, and IPv6, are nobody's here: what is not understood is neither handed out nor given back.

use ipnet::{IpNet, Ipv4Net};
use spur_cloud::Eni;
use std::net::{IpAddr, Ipv4Addr};

/// Addresses of a prefix.
pub(crate) const SIZE: u32 = 16;

const LEN: u8 = 28;

/// Whether the prefix is one that brings addresses for pods.
pub(crate) fn understood(prefix: IpNet) -> bool {
    matches!(prefix, IpNet::V4(net) if net.prefix_len() == LEN)
}

/// The addresses of a prefix; none if it is not understood.
pub(crate) fn addresses(prefix: IpNet) -> impl Iterator<Item = IpAddr> {
    let base = match prefix {
        IpNet::V4(net) if understood(prefix) => Some(u32::from(net.network())),
        _ => None,
    };
    base.into_iter().flat_map(|base| (base..=base | (SIZE - 1)).map(|bits| IpAddr::V4(Ipv4Addr::from(bits))))
}

/// The addresses for pods that EC2 shows on an ENI, by themselves or in prefixes.
pub fn carried(eni: &Eni) -> impl Iterator<Item = IpAddr> {
    eni.addresses.iter().copied().chain(eni.prefixes.iter().copied().flat_map(addresses))
}

/// The prefix that an address would come in.
pub(crate) fn around(address: IpAddr) -> Option<IpNet> {
    match address {
        IpAddr::V4(address) => Ipv4Net::new(address, LEN).ok().map(|net| IpNet::V4(net.trunc())),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_sixteen_addresses_with_both_ends() {
        let prefix: IpNet = "255.255.255.240/28".parse().unwrap();
        let all: Vec<IpAddr> = addresses(prefix).collect();
        assert_eq!(all.len(), 16);
        assert_eq!(
            (all[0].to_string(), all[15].to_string()),
            ("255.255.255.240".into(), "255.255.255.255".into())
        );
        assert!(all.iter().all(|address| around(*address) == Some(prefix)));
    }

    #[test]
    fn other_sizes_are_nobodys() {
        for other in ["10.0.0.0/27", "10.0.0.0/32", "2001:db8::/80"] {
            assert_eq!(addresses(other.parse().unwrap()).count(), 0, "{other}");
        }
    }
}
