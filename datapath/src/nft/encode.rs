//! The kernel's expressions, one function each, and the pairs of them that make a match.
//!
//! Constants are those of linux/netfilter/nf_tables.h. Numbers in attributes are in network order; values that are
//! compared with a register are in the order in which the kernel loads it (marks, ct state and address types: the machine's).

use super::expr::{NameMatch, Ports};
use crate::Mark;
use crate::codec::Message;
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

pub(super) const LIST_ELEM: u16 = 1;
pub(super) const REG_VERDICT: u32 = 0;
pub(super) const REG_1: u32 = 1;
pub(super) const REG_2: u32 = 2;
pub(super) const REG_3: u32 = 3;
/// The first of the four-byte registers, and the one behind an interface name in it.
pub(super) const REG32_00: u32 = 8;
pub(super) const REG32_04: u32 = 12;

pub(super) const META_MARK: u32 = 3;
pub(super) const META_IIFNAME: u32 = 6;
pub(super) const META_OIFNAME: u32 = 7;
pub(super) const META_NFPROTO: u32 = 15;
pub(super) const META_L4PROTO: u32 = 16;
pub(super) const BASE_NETWORK: u32 = 1;
pub(super) const BASE_TRANSPORT: u32 = 2;
pub(super) const SADDR: (u32, u32, u32) = (BASE_NETWORK, 12, 4);
pub(super) const DADDR: (u32, u32, u32) = (BASE_NETWORK, 16, 4);
pub(super) const SPORT: (u32, u32, u32) = (BASE_TRANSPORT, 0, 2);
pub(super) const DPORT: (u32, u32, u32) = (BASE_TRANSPORT, 2, 2);
pub(super) const CT_STATE: u32 = 0;
pub(super) const CT_DIRECTION: u32 = 1;
pub(super) const CT_DST_IP: u32 = 20;
pub(super) const CT_STATE_NEW: u32 = 8;
pub(super) const CT_ORIGINAL: u8 = 0;
pub(super) const CT_REPLY: u8 = 1;
pub(super) const EQ: u32 = 0;
pub(super) const NE: u32 = 1;

pub(super) fn expression(list: &mut Message, name: &str, data: impl FnOnce(&mut Message)) {
    list.nest(LIST_ELEM, |element| {
        element.put_str(1, name).nest(2, data);
    });
}

pub(super) fn meta(list: &mut Message, key: u32, register: u32) {
    expression(list, "meta", |data| {
        data.put_be32(1, register).put_be32(2, key);
    });
}

pub(super) fn ct(list: &mut Message, key: u32) {
    expression(list, "ct", |data| {
        data.put_be32(1, REG_1).put_be32(2, key);
    });
}

/// What a map says of an address of the flow, as its first packet had it (`CT_ORIGINAL`), or as its replies have it (`CT_REPLY`).
pub(super) fn ct_destination_verdict(list: &mut Message, direction: u8, map: &str) {
    expression(list, "ct", |data| {
        data.put_be32(1, REG_1).put_be32(2, CT_DST_IP).put_u8(3, direction);
    });
    lookup(list, map, REG_1, false, Some(REG_VERDICT));
}

pub(super) fn payload(list: &mut Message, (base, offset, length): (u32, u32, u32), register: u32) {
    expression(list, "payload", |data| {
        data.put_be32(1, register).put_be32(2, base).put_be32(3, offset).put_be32(4, length);
    });
}

pub(super) fn compare(list: &mut Message, operator: u32, value: &[u8]) {
    expression(list, "cmp", |data| {
        data.put_be32(1, REG_1).put_be32(2, operator).nest(3, |constant| {
            constant.put(1, value);
        });
    });
}

pub(super) fn bitwise(list: &mut Message, mask: [u8; 4], xor: [u8; 4]) {
    expression(list, "bitwise", |data| {
        data.put_be32(1, REG_1).put_be32(2, REG_1).put_be32(3, 4);
        data.nest(4, |value| {
            value.put(1, &mask);
        });
        data.nest(5, |value| {
            value.put(1, &xor);
        });
    });
}

pub(super) fn lookup(list: &mut Message, set: &str, register: u32, inverted: bool, into: Option<u32>) {
    expression(list, "lookup", |data| {
        data.put_str(1, set).put_be32(2, register);
        if let Some(into) = into {
            data.put_be32(3, into);
        }
        if inverted {
            data.put_be32(5, 1);
        }
    });
}

pub(super) fn immediate(list: &mut Message, register: u32, value: &[u8]) {
    expression(list, "immediate", |data| {
        data.put_be32(1, register).nest(2, |constant| {
            constant.put(1, value);
        });
    });
}

pub(super) fn match_name(list: &mut Message, key: u32, name: &NameMatch) {
    meta(list, key, REG_1);
    match name {
        NameMatch::Is(name) => compare(list, EQ, &name_bytes(name.as_str())),
        NameMatch::IsNot(name) => compare(list, NE, &name_bytes(name.as_str())),
        // Without the terminating zero only the beginning is compared.
        NameMatch::StartsWith(start) => compare(list, EQ, start.as_bytes()),
        NameMatch::StartsNotWith(start) => compare(list, NE, start.as_bytes()),
    }
}

/// An interface name as the kernel loads it: 16 bytes.
pub(super) fn name_bytes(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (slot, byte) in bytes.iter_mut().zip(name.bytes().take(15)) {
        *slot = byte;
    }
    bytes
}

pub(super) fn match_prefix(list: &mut Message, field: (u32, u32, u32), prefix: Ipv4Net, operator: u32) {
    payload(list, field, REG_1);
    if prefix.prefix_len() < 32 {
        bitwise(list, prefix.netmask().octets(), [0; 4]);
    }
    compare(list, operator, &prefix.network().octets());
}

pub(super) fn match_set(list: &mut Message, field: (u32, u32, u32), set: &str, inverted: bool) {
    payload(list, field, REG_1);
    lookup(list, set, REG_1, inverted, None);
}

/// An interface's name and an address of the packet, together in a set.
pub(super) fn match_pair(list: &mut Message, name: u32, field: (u32, u32, u32), set: &str, inverted: bool) {
    meta(list, name, REG32_00);
    payload(list, field, REG32_04);
    lookup(list, set, REG32_00, inverted, None);
}

/// What a map says of an interface's name.
pub(super) fn match_verdict(list: &mut Message, name: u32, map: &str) {
    meta(list, name, REG_1);
    lookup(list, map, REG_1, false, Some(REG_VERDICT));
}

pub(super) fn match_port(list: &mut Message, field: (u32, u32, u32), port: u16) {
    payload(list, field, REG_1);
    compare(list, EQ, &port.to_be_bytes());
}

pub(super) fn change_bits(list: &mut Message, mark: Mark) {
    bitwise(list, (!mark.mask).to_ne_bytes(), mark.value.to_ne_bytes());
}

pub(super) fn match_ct_state(list: &mut Message, bits: u32) {
    ct(list, CT_STATE);
    bitwise(list, bits.to_ne_bytes(), [0; 4]);
    compare(list, NE, &[0; 4]);
}

const NAT_PROTO_SPECIFIED: u32 = 2;
const NAT_PROTO_RANDOM_FULLY: u32 = 16;

/// Loads the two ports into registers; the flags that go with them.
pub(super) fn load_ports(list: &mut Message, ports: Option<Ports>, first: u32, last: u32) -> u32 {
    let Some(ports) = ports else { return 0 };
    immediate(list, first, &ports.first.to_be_bytes());
    immediate(list, last, &ports.last.to_be_bytes());
    if ports.fully_random { NAT_PROTO_SPECIFIED | NAT_PROTO_RANDOM_FULLY } else { NAT_PROTO_SPECIFIED }
}

pub(super) fn snat(list: &mut Message, address: Ipv4Addr, ports: Option<Ports>) {
    immediate(list, REG_1, &address.octets());
    let flags = load_ports(list, ports, REG_2, REG_3);
    expression(list, "nat", |data| {
        // NFT_NAT_SNAT, NFPROTO_IPV4.
        data.put_be32(1, 0).put_be32(2, 2).put_be32(3, REG_1);
        if ports.is_some() {
            data.put_be32(5, REG_2).put_be32(6, REG_3).put_be32(7, flags);
        }
    });
}
