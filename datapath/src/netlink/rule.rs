//! Policy rules. `FRA_PROTOCOL` says who made a rule: ours are recognised by it and nobody else's is ever touched.

use super::Request;
use super::route::{AF_INET, AF_INET6, address, family, octets};
use crate::codec::{Attributes, F_CREATE, F_DUMP, F_EXCL, Message, text, u8_at, u32_at};
use crate::socket::Ask;
use crate::{IfName, Mark, RulePriority, TableId};
use ipnet::IpNet;

const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_PROTOCOL: u16 = 21;
const FR_ACT_TO_TBL: u8 = 1;
/// `struct fib_rule_hdr`.
const HEADER: usize = 12;

/// A rule that looks a packet up in a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleSpec {
    /// Lower is asked first.
    pub priority: RulePriority,
    /// True for IPv6.
    pub ipv6: bool,
    /// Source prefix; any with `None`.
    pub source: Option<IpNet>,
    /// Destination prefix; any with `None`.
    pub destination: Option<IpNet>,
    /// Packet mark; any with `None`.
    pub mark: Option<Mark>,
    /// Incoming interface; any with `None`.
    pub input: Option<IfName>,
    /// The table to look in.
    pub table: TableId,
    /// Who made it; [`crate::layout::PROTOCOL`] is ours.
    pub protocol: u8,
}

impl RuleSpec {
    /// An IPv4 rule of ours for every packet.
    #[must_use]
    pub const fn all(priority: RulePriority, table: TableId) -> Self {
        Self {
            priority,
            ipv6: false,
            source: None,
            destination: None,
            mark: None,
            input: None,
            table,
            protocol: crate::layout::PROTOCOL,
        }
    }

    /// An IPv4 rule of ours for packets with a mark.
    #[must_use]
    pub const fn marked(priority: RulePriority, mark: Mark, table: TableId) -> Self {
        let mut rule = Self::all(priority, table);
        rule.mark = Some(mark);
        rule
    }

    /// A rule of ours for packets from a source.
    #[must_use]
    pub const fn from_source(priority: RulePriority, source: IpNet, table: TableId) -> Self {
        let mut rule = Self::all(priority, table);
        rule.ipv6 = matches!(source, IpNet::V6(_));
        rule.source = Some(source);
        rule
    }

    /// A rule of ours for packets that came in by an interface.
    #[must_use]
    pub fn from_interface(priority: RulePriority, input: IfName, table: TableId) -> Self {
        Self { input: Some(input), ..Self::all(priority, table) }
    }
}

impl Request {
    /// Adds a rule; fails when the same one exists.
    #[must_use]
    pub fn add_rule(spec: &RuleSpec) -> Self {
        Self::new(format!("add {}", words(spec)), message(RTM_NEWRULE, F_CREATE | F_EXCL, spec))
    }

    /// Removes a rule.
    #[must_use]
    pub fn remove_rule(spec: &RuleSpec) -> Self {
        Self::new(format!("remove {}", words(spec)), message(RTM_DELRULE, 0, spec))
    }
}

fn words(spec: &RuleSpec) -> String {
    let mut words = format!("rule {}", spec.priority.number());
    if let Some(source) = spec.source {
        words.push_str(&format!(" from {source}"));
    }
    if let Some(mark) = spec.mark {
        words.push_str(&format!(" fwmark {mark}"));
    }
    words + &format!(" lookup {}", spec.table)
}

fn message(kind: u16, flags: u16, spec: &RuleSpec) -> Message {
    let mut head = [0; HEADER];
    head[0] = if spec.ipv6 { AF_INET6 } else { AF_INET };
    head[1] = spec.destination.map_or(0, |prefix| prefix.prefix_len());
    head[2] = spec.source.map_or(0, |prefix| prefix.prefix_len());
    head[4] = u8::try_from(spec.table.number()).unwrap_or(0);
    head[7] = FR_ACT_TO_TBL;
    let mut message = Message::new(kind, flags, &head);
    message.put_u32(FRA_PRIORITY, spec.priority.number()).put_u32(FRA_TABLE, spec.table.number());
    for (attribute, prefix) in [(FRA_DST, spec.destination), (FRA_SRC, spec.source)] {
        if let Some(prefix) = prefix.filter(|prefix| prefix.prefix_len() > 0) {
            debug_assert_eq!(family(prefix.addr()), head[0], "a rule has one family");
            message.put(attribute, &octets(prefix.network()));
        }
    }
    if let Some(mark) = spec.mark {
        message.put_u32(FRA_FWMARK, mark.value).put_u32(FRA_FWMASK, mark.mask);
    }
    if let Some(input) = &spec.input {
        message.put_str(FRA_IIFNAME, input.as_str());
    }
    message.put_u8(FRA_PROTOCOL, spec.protocol);
    message
}

pub(super) fn dumps() -> Vec<Ask> {
    let dump = |family| {
        let mut head = [0; HEADER];
        head[0] = family;
        let message = Message::new(RTM_GETRULE, F_DUMP, &head);
        // A kernel without IPv6 has no rules for it.
        let tolerated =
            if family == AF_INET6 { &[super::Errno::AFNOSUPPORT, super::Errno::OPNOTSUPP][..] } else { &[] };
        Ask { what: "list the routing rules".into(), message, tolerated }
    };
    vec![dump(AF_INET), dump(AF_INET6)]
}

/// Reads a rule; those that do something else than look a packet up in a table are nobody's that we know, and skipped.
pub(super) fn decode(payload: &[u8]) -> Option<RuleSpec> {
    let attributes = Attributes::after(payload, HEADER);
    let family = u8_at(payload, 0)?;
    if u8_at(payload, 7)? != FR_ACT_TO_TBL {
        return None;
    }
    let number = |kind| attributes.find(kind).and_then(|bytes| u32_at(bytes, 0));
    let prefix = |kind, length: u8| -> Option<IpNet> {
        IpNet::new(address(family, attributes.find(kind)?)?, length).ok()
    };
    // A value of 0 is not shown, nor is no mask.
    let mark = match (number(FRA_FWMARK), number(FRA_FWMASK)) {
        (None, None) => None,
        (value, mask) => Some(Mark { value: value.unwrap_or(0), mask: mask.unwrap_or(u32::MAX) }),
    };
    Some(RuleSpec {
        priority: RulePriority::new(number(FRA_PRIORITY).unwrap_or_default()),
        ipv6: family == AF_INET6,
        source: prefix(FRA_SRC, u8_at(payload, 2)?),
        destination: prefix(FRA_DST, u8_at(payload, 1)?),
        mark: mark.filter(|mark| mark.mask != 0),
        input: attributes.find(FRA_IIFNAME).and_then(|bytes| text(bytes).parse().ok()),
        table: TableId::new(number(FRA_TABLE).unwrap_or_else(|| payload[4].into())),
        protocol: attributes.find(FRA_PROTOCOL).and_then(|bytes| u8_at(bytes, 0)).unwrap_or_default(),
    })
}
