//! Deletes connection-tracking entries of an address that is given back: its next owner must not meet flows, translations and
//! marks of the one before. And tells which addresses have any: while somebody still sends to it, it is not to have a next owner.
//! How many flows of pods are translated, and to where, is in [`translated`].
//!
//! The kernel does most of the search: a delete request with a filter (Linux 5.8) removes every entry whose *original* source or
//! destination is the address, so nothing is listed to user space. A flow that was sent to the address by DNAT (a Service) names
//! it only in its reply, and the kernel's filter by reply matches nothing when there is none by original (seen on 6.18): these,
//! and only these thanks to a filter by status (Linux 5.12), are listed and deleted one by one.

mod translated;

pub use translated::{Destination, Translated};

use crate::codec::{Attributes, F_DUMP, Message, Received};
use crate::netlink::{Errno, NetlinkError};
use crate::netns::NetNs;
use crate::socket::{Ask, Socket};
use netlink_sys::protocols::NETLINK_NETFILTER;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET`.
const CT_GET: u16 = 1 << 8 | 1;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE`.
const CT_DELETE: u16 = 1 << 8 | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_STATUS_MASK: u16 = 26;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
/// `IPS_SRC_NAT`.
const STATUS_SRC_NAT: u32 = 0x10;
/// `IPS_DST_NAT`.
const STATUS_DST_NAT: u32 = 0x20;
/// `NLA_F_NESTED`, for an attribute that is copied whole.
const NESTED: u16 = 0x8000;
/// Length of `nfgenmsg`.
const HEADER: usize = 4;
const CTA_TUPLE_IP: u16 = 1;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const FILTER_IP_SRC: u32 = 1;
const FILTER_IP_DST: u32 = 2;

/// A socket to the connection tracker of one namespace.
#[derive(Debug)]
pub struct Conntrack {
    pub(crate) socket: Socket,
}

impl Conntrack {
    /// A socket in the calling thread's namespace.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self { socket: Socket::open(NETLINK_NETFILTER)? })
    }

    /// A socket in `ns`.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the kernel gives no socket.
    pub fn open_in(ns: &NetNs) -> Result<Self, NetlinkError> {
        Ok(Self { socket: Socket::open_in(NETLINK_NETFILTER, ns)? })
    }

    /// Deletes every entry that has one of the addresses as source or destination, before or after translation.
    ///
    /// # Errors
    /// When the kernel refuses; a kernel without connection tracking has nothing to delete, and that is no error.
    pub fn delete_addresses(&mut self, addresses: &[IpAddr]) -> Result<(), NetlinkError> {
        let mut asks = Vec::new();
        for ipv6 in [false, true] {
            if addresses.iter().any(|address| address.is_ipv6() == ipv6) {
                let ask = list_translated(ipv6, STATUS_DST_NAT);
                asks.extend(self.socket.dump_some(&ask, |entry| delete_translated(&entry, addresses))?);
            }
        }
        self.socket.ask_all(asks)?.into_iter().try_for_each(|done| done.map(drop))?;
        self.delete_untranslated(addresses)
    }

    /// Those of the addresses that an entry has as source or destination, before or after translation. One walk over the whole table,
    /// however many addresses; for IPv4 and IPv6 one each.
    ///
    /// # Errors
    /// When the kernel refuses; a kernel without connection tracking has no entries, and that is no error.
    pub fn busy(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<BTreeSet<IpAddr>, NetlinkError> {
        let mut busy = BTreeSet::new();
        for ipv6 in [false, true] {
            if addresses.iter().any(|address| address.is_ipv6() == ipv6) {
                // A tracker has room for some hundred thousand entries.
                let met = |entry| {
                    let met: Vec<_> = ends(&entry).filter(|end| addresses.contains(end)).collect();
                    (!met.is_empty()).then_some(met)
                };
                busy.extend(self.socket.dump_some(&list(ipv6), met)?.into_iter().flatten());
            }
        }
        Ok(busy)
    }

    /// Deletes every entry whose original source or destination is one of the addresses. The kernel walks its table, but takes no lock
    /// per bucket, as it does when it lists: 0.15 ms per request for an empty table of usual size instead of 10 to 20.
    fn delete_untranslated(&mut self, addresses: &[IpAddr]) -> Result<(), NetlinkError> {
        let by_original = addresses
            .iter()
            .flat_map(|address| [delete(*address, End::Source), delete(*address, End::Destination)]);
        self.socket.ask_all(by_original.collect())?.into_iter().try_for_each(|done| done.map(drop))
    }
}

/// The entry has gone by itself, or the kernel does not track connections.
const NOTHING_THERE: &[Errno] = &[Errno::NOENT, Errno::OPNOTSUPP, Errno::PROTONOSUPPORT];

#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

fn delete(address: IpAddr, end: End) -> Ask {
    let (family, attribute, bytes) = match (address, end) {
        (IpAddr::V4(address), End::Source) => (2, CTA_IP_V4_SRC, address.octets().to_vec()),
        (IpAddr::V4(address), End::Destination) => (2, CTA_IP_V4_DST, address.octets().to_vec()),
        (IpAddr::V6(address), End::Source) => (10, CTA_IP_V6_SRC, address.octets().to_vec()),
        (IpAddr::V6(address), End::Destination) => (10, CTA_IP_V6_DST, address.octets().to_vec()),
    };
    let flag = match end {
        End::Source => FILTER_IP_SRC,
        End::Destination => FILTER_IP_DST,
    };
    let mut message = Message::new(CT_DELETE, 0, &[family, 0, 0, 0]);
    message.nest(CTA_TUPLE_ORIG, |tuple| {
        tuple.nest(CTA_TUPLE_IP, |ip| {
            ip.put(attribute, &bytes);
        });
    });
    message.nest(CTA_FILTER, |filter| {
        filter.put_u32(CTA_FILTER_ORIG_FLAGS, flag).put_u32(CTA_FILTER_REPLY_FLAGS, 0);
    });
    let what = format!("delete connection-tracking entries of {address}");
    Ask { what, message, tolerated: NOTHING_THERE }
}

/// Entries that have this bit of their status.
fn list_translated(ipv6: bool, status: u32) -> Ask {
    let family = if ipv6 { 10 } else { 2 };
    let mut message = Message::new(CT_GET, F_DUMP, &[family, 0, 0, 0]);
    message.put_be32(CTA_STATUS, status).put_be32(CTA_STATUS_MASK, status);
    Ask { what: "list the translated connection-tracking entries".into(), message, tolerated: NOTHING_THERE }
}

fn list(ipv6: bool) -> Ask {
    let message = Message::new(CT_GET, F_DUMP, &[if ipv6 { 10 } else { 2 }, 0, 0, 0]);
    Ask { what: "list the connection-tracking entries".into(), message, tolerated: NOTHING_THERE }
}

/// Sources and destinations of an entry, of both directions.
fn ends(entry: &Received) -> impl Iterator<Item = IpAddr> {
    let attributes = Attributes::after(&entry.payload, HEADER);
    let tuples =
        [CTA_TUPLE_ORIG, CTA_TUPLE_REPLY].into_iter().filter_map(move |tuple| attributes.find(tuple));
    let ips = tuples.filter_map(|tuple| Attributes(tuple).find(CTA_TUPLE_IP)).map(Attributes);
    ips.flat_map(|ip| {
        let v4 = [CTA_IP_V4_SRC, CTA_IP_V4_DST]
            .into_iter()
            .filter_map(move |kind| Some(IpAddr::from(<[u8; 4]>::try_from(ip.find(kind)?).ok()?)));
        let v6 = [CTA_IP_V6_SRC, CTA_IP_V6_DST]
            .into_iter()
            .filter_map(move |kind| Some(IpAddr::from(<[u8; 16]>::try_from(ip.find(kind)?).ok()?)));
        v4.chain(v6)
    })
}

/// Deletes the entry if its reply comes from one of the addresses.
fn delete_translated(entry: &Received, addresses: &[IpAddr]) -> Option<Ask> {
    let attributes = Attributes::after(&entry.payload, HEADER);
    let reply = Attributes(Attributes(attributes.find(CTA_TUPLE_REPLY)?).find(CTA_TUPLE_IP)?);
    let address = match reply.find(CTA_IP_V4_SRC) {
        Some(bytes) => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        None => IpAddr::from(<[u8; 16]>::try_from(reply.find(CTA_IP_V6_SRC)?).ok()?),
    };
    if !addresses.contains(&address) {
        return None;
    }
    let mut message = Message::new(CT_DELETE, 0, entry.payload.get(..HEADER)?);
    message.put(CTA_TUPLE_ORIG | NESTED, attributes.find(CTA_TUPLE_ORIG)?);
    for kind in [CTA_ID, CTA_ZONE] {
        if let Some(value) = attributes.find(kind) {
            message.put(kind, value);
        }
    }
    let what = format!("delete a connection-tracking entry that leads to {address}");
    Some(Ask { what, message, tolerated: NOTHING_THERE })
}
