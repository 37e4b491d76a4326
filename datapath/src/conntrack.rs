//! Deletes connection-tracking entries of an address that is given back: its next owner must not meet flows, translations and
//! marks of the one before.
//!
//! The kernel does the search: a delete request with a filter (Linux 5.8) removes every entry whose original or reply
//! source or destination is the address, so nothing is listed to user space.

use crate::codec::Message;
use crate::netlink::{Errno, NetlinkError};
use crate::netns::NetNs;
use crate::socket::{Ask, Socket};
use netlink_sys::protocols::NETLINK_NETFILTER;
use std::net::IpAddr;

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE`.
const CT_DELETE: u16 = 1 << 8 | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
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
    socket: Socket,
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
        let asks = addresses.iter().flat_map(|address| {
            [CTA_TUPLE_ORIG, CTA_TUPLE_REPLY].into_iter().flat_map(move |tuple| {
                [End::Source, End::Destination].map(|end| delete(*address, tuple, end))
            })
        });
        self.socket.ask_all(asks.collect())?.into_iter().try_for_each(|done| done.map(drop))
    }
}

#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

fn delete(address: IpAddr, tuple: u16, end: End) -> Ask {
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
    let (orig, reply) = if tuple == CTA_TUPLE_ORIG { (flag, 0) } else { (0, flag) };
    let mut message = Message::new(CT_DELETE, 0, &[family, 0, 0, 0]);
    message.nest(tuple, |tuple| {
        tuple.nest(CTA_TUPLE_IP, |ip| {
            ip.put(attribute, &bytes);
        });
    });
    message.nest(CTA_FILTER, |filter| {
        filter.put_u32(CTA_FILTER_ORIG_FLAGS, orig).put_u32(CTA_FILTER_REPLY_FLAGS, reply);
    });
    let what = format!("delete connection-tracking entries of {address}");
    Ask { what, message, tolerated: &[Errno::NOENT, Errno::OPNOTSUPP, Errno::PROTONOSUPPORT] }
}
