//! Rule expressions: what a rule matches and does, each a few kernel expressions that pass values through register 1.
//!
//! Constants are those of linux/netfilter/nf_tables.h. Numbers in attributes are in network order; values that are
//! compared with a register are in the order in which the kernel loads it (marks, ct state and address types: the machine's).

use crate::codec::Message;
use crate::{IfName, Mark};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

const LIST_ELEM: u16 = 1;
const REG_VERDICT: u32 = 0;
const REG_1: u32 = 1;
const REG_2: u32 = 2;
const REG_3: u32 = 3;
/// The first of the four-byte registers, and the one behind an interface name in it.
const REG32_00: u32 = 8;
const REG32_04: u32 = 12;

/// Where a packet goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// On to the next base chain.
    Accept,
    /// Nowhere.
    Drop,
    /// Back to the calling chain, or the base chain's policy.
    Return,
    /// To a chain, and back.
    Jump(String),
    /// To a chain, and then back to where this one was called.
    Goto(String),
}

/// How an interface's name is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameMatch {
    /// It is this.
    Is(IfName),
    /// It is not this.
    IsNot(IfName),
    /// It begins so (`eni*`).
    StartsWith(String),
    /// It does not begin so.
    StartsNotWith(String),
}

/// Source ports for a translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
    /// Chosen at random, not by the source port.
    pub fully_random: bool,
}

/// One part of a rule. Matches let the rule go on or end it; statements act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// `iifname …`
    Input(NameMatch),
    /// `oifname …`
    Output(NameMatch),
    /// `ip saddr 10.0.0.0/8`
    Source(Ipv4Net),
    /// `ip saddr != 10.0.0.0/8`
    SourceNot(Ipv4Net),
    /// `ip daddr 10.0.0.0/8`
    Destination(Ipv4Net),
    /// `ip daddr != 10.0.0.0/8`
    DestinationNot(Ipv4Net),
    /// `ip saddr @set`
    SourceIn(String),
    /// `ip saddr != @set`
    SourceNotIn(String),
    /// `ip daddr @set`
    DestinationIn(String),
    /// `ip daddr != @set`
    DestinationNotIn(String),
    /// `iifname . ip saddr @set`
    InputSourceIn(String),
    /// `iifname . ip saddr != @set`
    InputSourceNotIn(String),
    /// `meta l4proto tcp`
    Protocol(u8),
    /// `meta l4proto @set`
    ProtocolIn(String),
    /// `th sport`; after [`Expr::Protocol`].
    SourcePort(u16),
    /// `th dport`; after [`Expr::Protocol`].
    DestinationPort(u16),
    /// `meta nfproto`, in an `inet` table: 2 is IPv4, 10 is IPv6.
    NfProto(u8),
    /// `meta mark & mask == value`
    MarkIs(Mark),
    /// `ct mark & mask == value`
    CtMarkIs(Mark),
    /// `meta mark set meta mark & ~mask | value`
    SetMark(Mark),
    /// `ct mark set ct mark & ~mask | value`
    SetCtMark(Mark),
    /// `ct state new`
    CtNew,
    /// `ct state established,related`
    CtEstablished,
    /// `ct direction reply`
    CtReply,
    /// `fib daddr type local`
    DestinationIsLocal,
    /// `ip saddr vmap @map`
    SourceVerdict(String),
    /// `ip daddr vmap @map`
    DestinationVerdict(String),
    /// `iifname vmap @map`
    InputVerdict(String),
    /// `counter name "…"`: a counter of the table.
    Count(String),
    /// `snat to address[:ports]`
    Snat(Ipv4Addr, Option<Ports>),
    /// `masquerade [to :ports]`
    Masquerade(Option<Ports>),
    /// `accept`, `drop`, `return`, `jump …`, `goto …`
    Verdict(Verdict),
}

const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const BASE_NETWORK: u32 = 1;
const BASE_TRANSPORT: u32 = 2;
const SADDR: (u32, u32, u32) = (BASE_NETWORK, 12, 4);
const DADDR: (u32, u32, u32) = (BASE_NETWORK, 16, 4);
const SPORT: (u32, u32, u32) = (BASE_TRANSPORT, 0, 2);
const DPORT: (u32, u32, u32) = (BASE_TRANSPORT, 2, 2);
const CT_STATE: u32 = 0;
const CT_DIRECTION: u32 = 1;
const CT_MARK: u32 = 3;
const CT_STATE_NEW: u32 = 8;
const CT_STATE_ESTABLISHED_RELATED: u32 = 2 | 4;
const CT_DIRECTION_REPLY: u8 = 1;
const RTN_LOCAL: u32 = 2;
const EQ: u32 = 0;
const NE: u32 = 1;

impl Expr {
    /// Appends the kernel's expressions to a list of them.
    pub(super) fn encode(&self, list: &mut Message) {
        match self {
            Self::Input(name) => match_name(list, META_IIFNAME, name),
            Self::Output(name) => match_name(list, META_OIFNAME, name),
            Self::Source(prefix) => match_prefix(list, SADDR, *prefix, EQ),
            Self::SourceNot(prefix) => match_prefix(list, SADDR, *prefix, NE),
            Self::Destination(prefix) => match_prefix(list, DADDR, *prefix, EQ),
            Self::DestinationNot(prefix) => match_prefix(list, DADDR, *prefix, NE),
            Self::SourceIn(set) => match_set(list, SADDR, set, false),
            Self::SourceNotIn(set) => match_set(list, SADDR, set, true),
            Self::DestinationIn(set) => match_set(list, DADDR, set, false),
            Self::DestinationNotIn(set) => match_set(list, DADDR, set, true),
            Self::InputSourceIn(set) => match_input_source(list, set, false),
            Self::InputSourceNotIn(set) => match_input_source(list, set, true),
            Self::Protocol(number) => {
                meta(list, META_L4PROTO, REG_1);
                compare(list, EQ, &[*number]);
            }
            Self::ProtocolIn(set) => {
                meta(list, META_L4PROTO, REG_1);
                lookup(list, set, REG_1, false, None);
            }
            Self::SourcePort(port) => match_port(list, SPORT, *port),
            Self::DestinationPort(port) => match_port(list, DPORT, *port),
            Self::NfProto(number) => {
                meta(list, META_NFPROTO, REG_1);
                compare(list, EQ, &[*number]);
            }
            other => other.encode_state(list),
        }
    }

    /// Marks, connection tracking, routing.
    fn encode_state(&self, list: &mut Message) {
        match self {
            Self::MarkIs(mark) => {
                meta(list, META_MARK, REG_1);
                match_bits(list, *mark);
            }
            Self::CtMarkIs(mark) => {
                ct(list, CT_MARK);
                match_bits(list, *mark);
            }
            Self::SetMark(mark) => {
                meta(list, META_MARK, REG_1);
                change_bits(list, *mark);
                expression(list, "meta", |data| {
                    data.put_be32(2, META_MARK).put_be32(3, REG_1);
                });
            }
            Self::SetCtMark(mark) => {
                ct(list, CT_MARK);
                change_bits(list, *mark);
                expression(list, "ct", |data| {
                    data.put_be32(2, CT_MARK).put_be32(4, REG_1);
                });
            }
            Self::CtNew => match_ct_state(list, CT_STATE_NEW),
            Self::CtEstablished => match_ct_state(list, CT_STATE_ESTABLISHED_RELATED),
            Self::CtReply => {
                ct(list, CT_DIRECTION);
                compare(list, EQ, &[CT_DIRECTION_REPLY]);
            }
            Self::DestinationIsLocal => {
                expression(list, "fib", |data| {
                    // Result ADDRTYPE of the flag DADDR.
                    data.put_be32(1, REG_1).put_be32(2, 3).put_be32(3, 2);
                });
                compare(list, EQ, &RTN_LOCAL.to_ne_bytes());
            }
            other => other.encode_statement(list),
        }
    }

    fn encode_statement(&self, list: &mut Message) {
        match self {
            Self::SourceVerdict(map) => {
                payload(list, SADDR, REG_1);
                lookup(list, map, REG_1, false, Some(REG_VERDICT));
            }
            Self::DestinationVerdict(map) => {
                payload(list, DADDR, REG_1);
                lookup(list, map, REG_1, false, Some(REG_VERDICT));
            }
            Self::InputVerdict(map) => {
                meta(list, META_IIFNAME, REG_1);
                lookup(list, map, REG_1, false, Some(REG_VERDICT));
            }
            Self::Count(name) => expression(list, "objref", |data| {
                // NFT_OBJECT_COUNTER.
                data.put_be32(1, 1).put_str(2, name);
            }),
            Self::Snat(address, ports) => snat(list, *address, *ports),
            Self::Masquerade(ports) => {
                let flags = load_ports(list, *ports, REG_1, REG_2);
                expression(list, "masq", |data| {
                    if ports.is_some() {
                        data.put_be32(1, flags).put_be32(2, REG_1).put_be32(3, REG_2);
                    }
                });
            }
            Self::Verdict(verdict) => expression(list, "immediate", |data| {
                data.put_be32(1, REG_VERDICT).nest(2, |value| verdict.encode(value));
            }),
            // encode() has the rest.
            _ => {}
        }
    }
}

impl Verdict {
    /// Appends `NFTA_DATA_VERDICT`.
    pub(super) fn encode(&self, data: &mut Message) {
        let (code, chain) = match self {
            Self::Drop => (0, None),
            Self::Accept => (1, None),
            Self::Jump(chain) => (-3_i32, Some(chain)),
            Self::Goto(chain) => (-4, Some(chain)),
            Self::Return => (-5, None),
        };
        data.nest(2, |verdict| {
            verdict.put_be32(1, code.cast_unsigned());
            if let Some(chain) = chain {
                verdict.put_str(2, chain);
            }
        });
    }

    /// The verdict of that code.
    pub(super) fn from_code(code: u32, chain: Option<String>) -> Option<Self> {
        match (code.cast_signed(), chain) {
            (0, _) => Some(Self::Drop),
            (1, _) => Some(Self::Accept),
            (-3, Some(chain)) => Some(Self::Jump(chain)),
            (-4, Some(chain)) => Some(Self::Goto(chain)),
            (-5, _) => Some(Self::Return),
            _ => None,
        }
    }
}

fn expression(list: &mut Message, name: &str, data: impl FnOnce(&mut Message)) {
    list.nest(LIST_ELEM, |element| {
        element.put_str(1, name).nest(2, data);
    });
}

fn meta(list: &mut Message, key: u32, register: u32) {
    expression(list, "meta", |data| {
        data.put_be32(1, register).put_be32(2, key);
    });
}

fn ct(list: &mut Message, key: u32) {
    expression(list, "ct", |data| {
        data.put_be32(1, REG_1).put_be32(2, key);
    });
}

fn payload(list: &mut Message, (base, offset, length): (u32, u32, u32), register: u32) {
    expression(list, "payload", |data| {
        data.put_be32(1, register).put_be32(2, base).put_be32(3, offset).put_be32(4, length);
    });
}

fn compare(list: &mut Message, operator: u32, value: &[u8]) {
    expression(list, "cmp", |data| {
        data.put_be32(1, REG_1).put_be32(2, operator).nest(3, |constant| {
            constant.put(1, value);
        });
    });
}

fn bitwise(list: &mut Message, mask: [u8; 4], xor: [u8; 4]) {
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

fn lookup(list: &mut Message, set: &str, register: u32, inverted: bool, into: Option<u32>) {
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

fn immediate(list: &mut Message, register: u32, value: &[u8]) {
    expression(list, "immediate", |data| {
        data.put_be32(1, register).nest(2, |constant| {
            constant.put(1, value);
        });
    });
}

fn match_name(list: &mut Message, key: u32, name: &NameMatch) {
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

fn match_prefix(list: &mut Message, field: (u32, u32, u32), prefix: Ipv4Net, operator: u32) {
    payload(list, field, REG_1);
    if prefix.prefix_len() < 32 {
        bitwise(list, prefix.netmask().octets(), [0; 4]);
    }
    compare(list, operator, &prefix.network().octets());
}

fn match_set(list: &mut Message, field: (u32, u32, u32), set: &str, inverted: bool) {
    payload(list, field, REG_1);
    lookup(list, set, REG_1, inverted, None);
}

fn match_input_source(list: &mut Message, set: &str, inverted: bool) {
    meta(list, META_IIFNAME, REG32_00);
    payload(list, SADDR, REG32_04);
    lookup(list, set, REG32_00, inverted, None);
}

fn match_port(list: &mut Message, field: (u32, u32, u32), port: u16) {
    payload(list, field, REG_1);
    compare(list, EQ, &port.to_be_bytes());
}

fn match_bits(list: &mut Message, mark: Mark) {
    bitwise(list, mark.mask.to_ne_bytes(), [0; 4]);
    compare(list, EQ, &mark.value.to_ne_bytes());
}

fn change_bits(list: &mut Message, mark: Mark) {
    bitwise(list, (!mark.mask).to_ne_bytes(), mark.value.to_ne_bytes());
}

fn match_ct_state(list: &mut Message, bits: u32) {
    ct(list, CT_STATE);
    bitwise(list, bits.to_ne_bytes(), [0; 4]);
    compare(list, NE, &[0; 4]);
}

const NAT_PROTO_SPECIFIED: u32 = 2;
const NAT_PROTO_RANDOM_FULLY: u32 = 16;

/// Loads the two ports into registers; the flags that go with them.
fn load_ports(list: &mut Message, ports: Option<Ports>, first: u32, last: u32) -> u32 {
    let Some(ports) = ports else { return 0 };
    immediate(list, first, &ports.first.to_be_bytes());
    immediate(list, last, &ports.last.to_be_bytes());
    if ports.fully_random { NAT_PROTO_SPECIFIED | NAT_PROTO_RANDOM_FULLY } else { NAT_PROTO_SPECIFIED }
}

fn snat(list: &mut Message, address: Ipv4Addr, ports: Option<Ports>) {
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
