//! Addresses of links. The kernel adds a route for the address's prefix unless told not to; Spur always tells, because
//! on a node with several interfaces in one subnet that route would catch traffic of the others.

use super::Request;
use crate::LinkIndex;
use crate::codec::{Attributes, F_CREATE, F_DUMP, F_EXCL, Message, u8_at, u32_at};
use crate::socket::Ask;
use ipnet::IpNet;
use std::net::IpAddr;

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_PROTO: u16 = 11;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
/// `struct ifaddrmsg`.
const HEADER: usize = 8;

/// How far an address is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum AddressScope {
    /// Everywhere.
    #[default]
    Global,
    /// On the link.
    Link,
    /// On this host.
    Host,
}

/// An address on a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressSpec {
    /// The link.
    pub link: LinkIndex,
    /// The address (host bits kept) and the length of its prefix.
    pub address: IpNet,
    /// How far it is valid.
    pub scope: AddressScope,
    /// Do not make a route for the prefix.
    pub no_prefix_route: bool,
    /// IPv6: use it at once, without duplicate address detection.
    pub no_dad: bool,
    /// Who put it there (`IFA_PROTO`, Linux 5.18; older kernels show 0); [`crate::layout::PROTOCOL`] is ours.
    pub protocol: u8,
}

impl AddressSpec {
    /// A global address without prefix route, usable at once.
    #[must_use]
    pub const fn new(link: LinkIndex, address: IpNet) -> Self {
        let protocol = crate::layout::PROTOCOL;
        Self { link, address, scope: AddressScope::Global, no_prefix_route: true, no_dad: true, protocol }
    }
}

impl Request {
    /// Puts an address on a link.
    #[must_use]
    pub fn add_address(spec: &AddressSpec) -> Self {
        let mut message = message(RTM_NEWADDR, F_CREATE | F_EXCL, spec);
        let mut flags = if spec.no_prefix_route { IFA_F_NOPREFIXROUTE } else { 0 };
        if spec.no_dad && spec.address.addr().is_ipv6() {
            flags |= IFA_F_NODAD;
        }
        message.put_u32(IFA_FLAGS, flags).put_u8(IFA_PROTO, spec.protocol);
        Self::new(format!("add address {} to {}", spec.address, spec.link), message)
    }

    /// Takes an address off a link.
    #[must_use]
    pub fn remove_address(spec: &AddressSpec) -> Self {
        let message = message(RTM_DELADDR, 0, spec);
        Self::new(format!("remove address {} from {}", spec.address, spec.link), message)
    }
}

fn message(kind: u16, flags: u16, spec: &AddressSpec) -> Message {
    let scope = match spec.scope {
        AddressScope::Global => 0,
        AddressScope::Link => 253,
        AddressScope::Host => 254,
    };
    let mut head =
        [super::route::family(spec.address.addr()), spec.address.prefix_len(), 0, scope, 0, 0, 0, 0];
    head[4..8].copy_from_slice(&spec.link.number().to_ne_bytes());
    let mut message = Message::new(kind, flags, &head);
    let bytes = super::route::octets(spec.address.addr());
    message.put(IFA_LOCAL, &bytes).put(IFA_ADDRESS, &bytes);
    message
}

pub(super) fn dump() -> Ask {
    Ask {
        what: "list the addresses".into(),
        message: Message::new(RTM_GETADDR, F_DUMP, &[0; HEADER]),
        tolerated: &[],
    }
}

pub(super) fn decode(payload: &[u8]) -> Option<AddressSpec> {
    let attributes = Attributes::after(payload, HEADER);
    let local = attributes.find(IFA_LOCAL).or_else(|| attributes.find(IFA_ADDRESS))?;
    let address: IpAddr = super::route::address(u8_at(payload, 0)?, local)?;
    let flags = attributes.find(IFA_FLAGS).and_then(|bytes| u32_at(bytes, 0));
    let flags = flags.unwrap_or_else(|| u32::from(payload.get(2).copied().unwrap_or_default()));
    Some(AddressSpec {
        link: LinkIndex(u32_at(payload, 4)?),
        address: IpNet::new(address, u8_at(payload, 1)?).ok()?,
        scope: match u8_at(payload, 3)? {
            0..=199 => AddressScope::Global,
            254 => AddressScope::Host,
            _ => AddressScope::Link,
        },
        no_prefix_route: flags & IFA_F_NOPREFIXROUTE != 0,
        // IPv4 has no such detection; saying yes makes the default of AddressSpec::new() compare equal.
        no_dad: address.is_ipv4() || flags & IFA_F_NODAD != 0,
        protocol: attributes.find(IFA_PROTO).and_then(|bytes| u8_at(bytes, 0)).unwrap_or_default(),
    })
}
