//! Routes of all tables. A [`RouteSpec`] holds what Spur sets and compares; what else a route may have (metrics, several next
//! hops) is neither set nor read.

use super::{Errno, Request};
use crate::codec::{Attributes, F_CREATE, F_DUMP, F_EXCL, F_REPLACE, Message, u8_at, u32_at};
use crate::socket::Ask;
use crate::{LinkIndex, TableId};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;
const RTNH_F_ONLINK: u32 = 4;
const RTM_F_CLONED: u32 = 0x200;
/// `struct rtmsg`.
const HEADER: usize = 12;
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;

/// What a route does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum RouteKind {
    /// Forwards it.
    #[default]
    Unicast,
    /// Delivers it here.
    Local,
    /// Drops it silently.
    Blackhole,
    /// Drops it and says so.
    Unreachable,
    /// Something else (broadcast, multicast, NAT, …).
    Other(u8),
}

/// How far the destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum RouteScope {
    /// Behind a gateway.
    #[default]
    Universe,
    /// On the link.
    Link,
    /// On this host.
    Host,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteSpec {
    /// The table.
    pub table: TableId,
    /// The destination; a prefix length of 0 is the default route.
    pub destination: IpNet,
    /// What happens to the packet.
    pub kind: RouteKind,
    /// How far the destination is (IPv4; always universe in IPv6).
    pub scope: RouteScope,
    /// The next hop.
    pub gateway: Option<IpAddr>,
    /// The link.
    pub link: Option<LinkIndex>,
    /// Preferred source address of the host's own packets.
    pub source: Option<IpAddr>,
    /// The gateway counts as reachable on the link although no address of the link says so.
    pub onlink: bool,
    /// Of routes with the same destination, the lowest wins; 0 is IPv4's default.
    pub metric: u32,
    /// Who made it (`rtm_protocol`); [`crate::layout::PROTOCOL`] is ours.
    pub protocol: u8,
}

impl RouteSpec {
    /// A route of ours to what is on the link itself.
    #[must_use]
    pub const fn on_link(table: TableId, destination: IpNet, link: LinkIndex) -> Self {
        Self {
            table,
            destination,
            kind: RouteKind::Unicast,
            scope: RouteScope::Link,
            gateway: None,
            link: Some(link),
            source: None,
            onlink: false,
            metric: 0,
            protocol: crate::layout::PROTOCOL,
        }
    }

    /// A route of ours through a gateway.
    #[must_use]
    pub const fn via(table: TableId, destination: IpNet, gateway: IpAddr, link: LinkIndex) -> Self {
        let mut route = Self::on_link(table, destination, link);
        route.scope = RouteScope::Universe;
        route.gateway = Some(gateway);
        route
    }

    /// A route of ours that drops.
    #[must_use]
    pub const fn blackhole(table: TableId, destination: IpNet) -> Self {
        let mut route = Self::on_link(table, destination, LinkIndex(0));
        route.link = None;
        route.kind = RouteKind::Blackhole;
        route.scope = RouteScope::Universe;
        route
    }
}

impl Request {
    /// Adds a route; fails when one with the same destination and metric is in the table.
    #[must_use]
    pub fn add_route(spec: &RouteSpec) -> Self {
        Self::new(format!("add route to {}", words(spec)), message(RTM_NEWROUTE, F_CREATE | F_EXCL, spec))
    }

    /// Adds a route or replaces the one with the same destination and metric.
    #[must_use]
    pub fn replace_route(spec: &RouteSpec) -> Self {
        Self::new(format!("set route to {}", words(spec)), message(RTM_NEWROUTE, F_CREATE | F_REPLACE, spec))
    }

    /// Removes the route that matches the specification.
    #[must_use]
    pub fn remove_route(spec: &RouteSpec) -> Self {
        Self::new(format!("remove route to {}", words(spec)), message(RTM_DELROUTE, 0, spec))
    }
}

fn words(spec: &RouteSpec) -> String {
    let mut words = format!("{} in {}", spec.destination, spec.table);
    if let Some(gateway) = spec.gateway {
        words.push_str(&format!(" via {gateway}"));
    }
    if let Some(link) = spec.link {
        words.push_str(&format!(" on {link}"));
    }
    words
}

fn message(kind: u16, flags: u16, spec: &RouteSpec) -> Message {
    let scope = match spec.scope {
        RouteScope::Universe => 0,
        RouteScope::Link => 253,
        RouteScope::Host => 254,
    };
    // The old field holds one byte; the attribute counts.
    let short_table = u8::try_from(spec.table.number()).unwrap_or(0);
    let mut head = [0; HEADER];
    head[0] = family(spec.destination.addr());
    head[1] = spec.destination.prefix_len();
    head[4] = short_table;
    head[5] = spec.protocol;
    head[6] = if spec.destination.addr().is_ipv6() { 0 } else { scope };
    head[7] = kind_number(spec.kind);
    head[8..12].copy_from_slice(&if spec.onlink { RTNH_F_ONLINK } else { 0 }.to_ne_bytes());
    let mut message = Message::new(kind, flags, &head);
    if spec.destination.prefix_len() > 0 {
        message.put(RTA_DST, &octets(spec.destination.network()));
    }
    message.put_u32(RTA_TABLE, spec.table.number());
    if let Some(gateway) = spec.gateway {
        message.put(RTA_GATEWAY, &octets(gateway));
    }
    if let Some(link) = spec.link {
        message.put_u32(RTA_OIF, link.number());
    }
    if let Some(source) = spec.source {
        message.put(RTA_PREFSRC, &octets(source));
    }
    if spec.metric > 0 {
        message.put_u32(RTA_PRIORITY, spec.metric);
    }
    message
}

const fn kind_number(kind: RouteKind) -> u8 {
    match kind {
        RouteKind::Unicast => 1,
        RouteKind::Local => 2,
        RouteKind::Blackhole => 6,
        RouteKind::Unreachable => 7,
        RouteKind::Other(number) => number,
    }
}

/// One dump per family: a filter is refused for "any family".
pub(super) fn dumps(table: Option<TableId>, link: Option<LinkIndex>) -> Vec<Ask> {
    let dump = |family| {
        let mut head = [0; HEADER];
        head[0] = family;
        let mut message = Message::new(RTM_GETROUTE, F_DUMP, &head);
        if let Some(table) = table {
            message.put_u32(RTA_TABLE, table.number());
        }
        if let Some(link) = link {
            message.put_u32(RTA_OIF, link.number());
        }
        let what =
            table.map_or_else(|| "list the routes".into(), |table| format!("list the routes of {table}"));
        // ENOENT: nobody has put a route into that table yet.
        Ask { what, message, tolerated: &[Errno::NOENT] }
    };
    vec![dump(AF_INET), dump(AF_INET6)]
}

pub(super) fn decode(payload: &[u8]) -> Option<RouteSpec> {
    let attributes = Attributes::after(payload, HEADER);
    let family = u8_at(payload, 0)?;
    let flags = u32_at(payload, 8)?;
    let any =
        if family == AF_INET6 { Ipv6Addr::UNSPECIFIED.into() } else { IpAddr::from(Ipv4Addr::UNSPECIFIED) };
    if flags & RTM_F_CLONED != 0 {
        return None;
    }
    let destination = attributes.find(RTA_DST).map_or(Some(any), |bytes| address(family, bytes))?;
    let number = |kind| attributes.find(kind).and_then(|bytes| u32_at(bytes, 0));
    let ip = |kind| attributes.find(kind).and_then(|bytes| address(family, bytes));
    Some(RouteSpec {
        table: TableId::new(number(RTA_TABLE).unwrap_or_else(|| payload[4].into())),
        destination: IpNet::new(destination, u8_at(payload, 1)?).ok()?,
        kind: match u8_at(payload, 7)? {
            1 => RouteKind::Unicast,
            2 => RouteKind::Local,
            6 => RouteKind::Blackhole,
            7 => RouteKind::Unreachable,
            other => RouteKind::Other(other),
        },
        scope: match u8_at(payload, 6)? {
            0..=199 => RouteScope::Universe,
            254 => RouteScope::Host,
            _ => RouteScope::Link,
        },
        gateway: ip(RTA_GATEWAY),
        link: number(RTA_OIF).map(LinkIndex),
        source: ip(RTA_PREFSRC),
        onlink: flags & RTNH_F_ONLINK != 0,
        metric: number(RTA_PRIORITY).unwrap_or_default(),
        protocol: u8_at(payload, 5)?,
    })
}

pub(super) const fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub(super) fn address(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        AF_INET6 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => None,
    }
}
