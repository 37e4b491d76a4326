//! Rule expressions as Spur uses them: what a rule matches and does. Each becomes a few of the kernel's expressions, which pass
//! values through register 1; `nft list` shows each as the line that its documentation quotes (a golden test compares).
//! The vocabulary is closed: what Spur and its test fabric do not use is not here.

use super::encode::*;
use crate::codec::Message;
use crate::{IfName, Mark};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

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
    /// `oifname . ip daddr != @set`
    OutputDestinationNotIn(String),
    /// `meta l4proto tcp`
    Protocol(u8),
    /// `th sport`; after [`Expr::Protocol`].
    SourcePort(u16),
    /// `th dport`; after [`Expr::Protocol`].
    DestinationPort(u16),
    /// `meta nfproto`, in an `inet` table: 2 is IPv4, 10 is IPv6.
    NfProto(u8),
    /// `meta mark set meta mark & ~mask | value`
    SetMark(Mark),
    /// `ct state new`
    CtNew,
    /// `ct direction reply`
    CtReply,
    /// `fib saddr . iif oif missing`: no route leads to the source, or it leads elsewhere than to where the packet came from.
    /// Before routing only. For sources in 0.0.0.0/8 to broadcast and local multicast the kernel says that all is well.
    SourceNotFromHere,
    /// `ip saddr vmap @map`
    SourceVerdict(String),
    /// `ip daddr vmap @map`
    DestinationVerdict(String),
    /// `ct original ip daddr vmap @map`: whom the flow was opened to, before anybody translated that.
    CtOriginalDestinationVerdict(String),
    /// `ct reply ip daddr vmap @map`: to whom the flow's replies are addressed, which is the address that its source was translated to.
    CtReplyDestinationVerdict(String),
    /// `iifname vmap @map`
    InputVerdict(String),
    /// `oifname vmap @map`
    OutputVerdict(String),
    /// `counter name "…"`: a counter of the table.
    Count(String),
    /// `snat to address[:ports]`
    Snat(Ipv4Addr, Option<Ports>),
    /// `masquerade [to :ports]`
    Masquerade(Option<Ports>),
    /// `accept`, `drop`, `return`, `jump …`, `goto …`
    Verdict(Verdict),
}

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
            Self::InputSourceIn(set) => match_pair(list, META_IIFNAME, SADDR, set, false),
            Self::InputSourceNotIn(set) => match_pair(list, META_IIFNAME, SADDR, set, true),
            Self::OutputDestinationNotIn(set) => match_pair(list, META_OIFNAME, DADDR, set, true),
            Self::Protocol(number) => {
                meta(list, META_L4PROTO, REG_1);
                compare(list, EQ, &[*number]);
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
            Self::SetMark(mark) => {
                meta(list, META_MARK, REG_1);
                change_bits(list, *mark);
                expression(list, "meta", |data| {
                    data.put_be32(2, META_MARK).put_be32(3, REG_1);
                });
            }
            Self::CtNew => match_ct_state(list, CT_STATE_NEW),
            Self::CtReply => {
                ct(list, CT_DIRECTION);
                compare(list, EQ, &[CT_REPLY]);
            }
            Self::SourceNotFromHere => {
                expression(list, "fib", |data| {
                    // Result OIF of the flags SADDR, IIF, PRESENT: whether there is one. The kernel loads one byte and clears the
                    // rest of the register; nft compares all four, and shows nothing readable for one.
                    data.put_be32(1, REG_1).put_be32(2, 1).put_be32(3, 1 | 8 | 32);
                });
                compare(list, EQ, &[0; 4]);
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
            Self::CtOriginalDestinationVerdict(map) => ct_destination_verdict(list, CT_ORIGINAL, map),
            Self::CtReplyDestinationVerdict(map) => ct_destination_verdict(list, CT_REPLY, map),
            Self::InputVerdict(map) => match_verdict(list, META_IIFNAME, map),
            Self::OutputVerdict(map) => match_verdict(list, META_OIFNAME, map),
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
