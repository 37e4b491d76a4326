//! Links: what is read of them, how they are created, changed and deleted.
//!
//! A veth pair is one message. Its *outer* end (`name`, in `netns`) may be set up by the same message; the *peer* end cannot
//! (the kernel answers ENOTCONN, its other end not being there yet), so the pod's end is the outer one.

use super::{Errno, Request};
use crate::codec::{Attributes, F_CREATE, F_DUMP, F_EXCL, Message, text, u16_at, u32_at};
use crate::netns::NetNs;
use crate::socket::Ask;
use crate::{IfName, LinkIndex, MacAddr};
use std::os::fd::{AsFd, AsRawFd};

pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
/// Statistics are most of a link's bytes in a dump.
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
const IFF_UP: u32 = 1;
/// `struct ifinfomsg`.
pub(super) const HEADER: usize = 16;

/// A link as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in this namespace.
    pub index: LinkIndex,
    /// Its name.
    pub name: IfName,
    /// Its hardware address, if it has one of six bytes.
    pub mac: Option<MacAddr>,
    /// Its MTU.
    pub mtu_bytes: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// `veth`, `bridge`, …; `None` for hardware and loopback.
    pub kind: Option<String>,
    /// The lower link or the other end of the pair, in whatever namespace that is.
    pub lower: Option<u32>,
    /// The number by which several links are treated as one; 0 unless somebody set it.
    pub group: u32,
}

/// Which link a request means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkId {
    /// By number.
    Index(LinkIndex),
    /// By name, when the number is not known yet.
    Name(IfName),
}

impl From<LinkIndex> for LinkId {
    fn from(index: LinkIndex) -> Self {
        Self::Index(index)
    }
}

impl From<&IfName> for LinkId {
    fn from(name: &IfName) -> Self {
        Self::Name(name.clone())
    }
}

impl std::fmt::Display for LinkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Index(index) => write!(f, "{index}"),
            Self::Name(name) => write!(f, "interface {name}"),
        }
    }
}

/// A veth pair to create. The peer is down, in `peer_netns` or else in the socket's namespace.
#[derive(Debug, Clone, Copy)]
pub struct VethSpec<'a> {
    /// Name of the outer end.
    pub name: &'a IfName,
    /// Its hardware address; the kernel's choice with `None`.
    pub mac: Option<MacAddr>,
    /// Where it is born; the socket's namespace with `None`.
    pub netns: Option<&'a NetNs>,
    /// Whether it is up at once.
    pub up: bool,
    /// Name of the peer.
    pub peer_name: &'a IfName,
    /// Its hardware address.
    pub peer_mac: Option<MacAddr>,
    /// Where the peer is born; the socket's namespace with `None`.
    pub peer_netns: Option<&'a NetNs>,
    /// MTU of both ends.
    pub mtu_bytes: u32,
    /// Transmit and receive queues of each end. The kernel's default is one per CPU, which makes creation slow.
    pub queues: u32,
}

/// What to change of a link; `None` leaves as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkChange<'a> {
    /// Up or down.
    pub up: Option<bool>,
    /// A new MTU.
    pub mtu_bytes: Option<u32>,
    /// A new hardware address.
    pub mac: Option<MacAddr>,
    /// A new name (only while it is down, before Linux 6.2).
    pub name: Option<&'a IfName>,
    /// Another group.
    pub group: Option<u32>,
    /// Another namespace.
    pub netns: Option<&'a NetNs>,
}

impl Request {
    /// Creates a veth pair; fails when one of the names is taken.
    #[must_use]
    pub fn create_veth(spec: &VethSpec<'_>) -> Self {
        let flags = if spec.up { IFF_UP } else { 0 };
        let mut message = Message::new(RTM_NEWLINK, F_CREATE | F_EXCL, &header(0, flags));
        put_end(&mut message, spec, spec.name, spec.mac, spec.netns);
        message.nest(IFLA_LINKINFO, |info| {
            info.put(IFLA_INFO_KIND, b"veth").nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |peer| {
                    peer.raw(&header(0, 0));
                    put_end(peer, spec, spec.peer_name, spec.peer_mac, spec.peer_netns);
                });
            });
        });
        Self::new(format!("create veth pair {} and {}", spec.name, spec.peer_name), message)
    }

    /// Changes a link.
    #[must_use]
    pub fn set_link(link: impl Into<LinkId>, change: &LinkChange<'_>) -> Self {
        let link = link.into();
        let (flags, mask) = match change.up {
            Some(true) => (IFF_UP, IFF_UP),
            Some(false) => (0, IFF_UP),
            None => (0, 0),
        };
        let mut head = header(index_in(&link), flags);
        head[12..16].copy_from_slice(&mask.to_ne_bytes());
        let mut message = Message::new(RTM_NEWLINK, 0, &head);
        match (&link, change.name) {
            (LinkId::Name(name), _) => message.put_str(IFLA_IFNAME, name.as_str()),
            (LinkId::Index(_), Some(name)) => message.put_str(IFLA_IFNAME, name.as_str()),
            (LinkId::Index(_), None) => &mut message,
        };
        if let Some(mac) = change.mac {
            message.put(IFLA_ADDRESS, &mac.octets());
        }
        if let Some(mtu) = change.mtu_bytes {
            message.put_u32(IFLA_MTU, mtu);
        }
        if let Some(group) = change.group {
            message.put_u32(IFLA_GROUP, group);
        }
        if let Some(ns) = change.netns {
            put_netns(&mut message, ns);
        }
        Self::new(format!("change {link}"), message)
    }

    /// Deletes a link.
    #[must_use]
    pub fn remove_link(link: impl Into<LinkId>) -> Self {
        let link = link.into();
        let mut message = Message::new(RTM_DELLINK, 0, &header(index_in(&link), 0));
        if let LinkId::Name(name) = &link {
            message.put_str(IFLA_IFNAME, name.as_str());
        }
        Self::new(format!("delete {link}"), message)
    }

    /// Deletes all links of a group, which takes hardly longer than deleting one.
    #[must_use]
    pub fn remove_link_group(group: u32) -> Self {
        let mut message = Message::new(RTM_DELLINK, 0, &header(0, 0));
        message.put_u32(IFLA_GROUP, group);
        Self::new(format!("delete the links of group {group}"), message)
    }
}

fn put_end(
    message: &mut Message,
    spec: &VethSpec<'_>,
    name: &IfName,
    mac: Option<MacAddr>,
    ns: Option<&NetNs>,
) {
    message.put_str(IFLA_IFNAME, name.as_str()).put_u32(IFLA_MTU, spec.mtu_bytes);
    message.put_u32(IFLA_NUM_TX_QUEUES, spec.queues).put_u32(IFLA_NUM_RX_QUEUES, spec.queues);
    if let Some(mac) = mac {
        message.put(IFLA_ADDRESS, &mac.octets());
    }
    if let Some(ns) = ns {
        put_netns(message, ns);
    }
}

fn put_netns(message: &mut Message, ns: &NetNs) {
    message.put_u32(IFLA_NET_NS_FD, ns.as_fd().as_raw_fd().cast_unsigned());
}

pub(super) fn get(name: &IfName) -> Ask {
    let mut message = Message::new(RTM_GETLINK, 0, &header(0, 0));
    message.put_str(IFLA_IFNAME, name.as_str()).put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    Ask { what: format!("look for interface {name}"), message, tolerated: &[Errno::NODEV] }
}

pub(super) fn dump() -> Ask {
    let mut message = Message::new(RTM_GETLINK, F_DUMP, &header(0, 0));
    message.put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    Ask { what: "list the links".into(), message, tolerated: &[] }
}

/// Reads `RTM_NEWLINK` or `RTM_DELLINK`; `None` for bytes that are none, or a name that we could not use.
pub(super) fn decode(payload: &[u8]) -> Option<Link> {
    let index = LinkIndex(u32_at(payload, 4)?);
    let flags = u32_at(payload, 8)?;
    u16_at(payload, 2)?;
    let attributes = Attributes::after(payload, HEADER);
    let info = attributes.find(IFLA_LINKINFO).map(Attributes);
    Some(Link {
        index,
        name: text(attributes.find(IFLA_IFNAME)?).parse().ok()?,
        mac: attributes.find(IFLA_ADDRESS).and_then(|bytes| bytes.try_into().ok()).map(MacAddr::new),
        mtu_bytes: attributes.find(IFLA_MTU).and_then(|bytes| u32_at(bytes, 0)).unwrap_or_default(),
        up: flags & IFF_UP != 0,
        kind: info.and_then(|info| info.find(IFLA_INFO_KIND)).map(text),
        lower: attributes.find(IFLA_LINK).and_then(|bytes| u32_at(bytes, 0)),
        group: attributes.find(IFLA_GROUP).and_then(|bytes| u32_at(bytes, 0)).unwrap_or_default(),
    })
}

fn index_in(link: &LinkId) -> u32 {
    match link {
        LinkId::Index(index) => index.number(),
        LinkId::Name(_) => 0,
    }
}

fn header(index: u32, flags: u32) -> [u8; HEADER] {
    let mut head = [0; HEADER];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head[8..12].copy_from_slice(&flags.to_ne_bytes());
    // The change mask. Creation takes the flags as they are; there 0xffff_ffff and 0 mean the same.
    head
}
