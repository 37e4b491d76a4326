//! Neighbours: permanent entries, which spare a pod and its host every ARP, and proxy entries, by which a host answers for
//! others. Entries that the kernel learned by itself are not shown.

use super::Request;
use super::route::{address, family, octets};
use crate::codec::{Attributes, F_CREATE, F_DUMP, F_REPLACE, Message, u8_at, u16_at, u32_at};
use crate::socket::Ask;
use crate::{LinkIndex, MacAddr};
use std::net::IpAddr;

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;
const NTF_PROXY: u8 = 0x08;
/// `struct ndmsg`.
const HEADER: usize = 12;

/// A neighbour on a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NeighbourSpec {
    /// The link.
    pub link: LinkIndex,
    /// Whose.
    pub address: IpAddr,
    /// Where: a permanent entry. `None` is a proxy entry: this host answers for the address.
    pub mac: Option<MacAddr>,
}

impl Request {
    /// Adds a neighbour or replaces the one of that address.
    #[must_use]
    pub fn replace_neighbour(spec: &NeighbourSpec) -> Self {
        Self::new(format!("set {}", words(spec)), message(RTM_NEWNEIGH, F_CREATE | F_REPLACE, spec))
    }

    /// Removes a neighbour.
    #[must_use]
    pub fn remove_neighbour(spec: &NeighbourSpec) -> Self {
        Self::new(format!("remove {}", words(spec)), message(RTM_DELNEIGH, 0, spec))
    }
}

fn words(spec: &NeighbourSpec) -> String {
    let kind = if spec.mac.is_some() { "neighbour" } else { "proxy neighbour" };
    format!("{kind} {} on {}", spec.address, spec.link)
}

fn message(kind: u16, flags: u16, spec: &NeighbourSpec) -> Message {
    let mut head = [0; HEADER];
    head[0] = family(spec.address);
    head[4..8].copy_from_slice(&spec.link.number().to_ne_bytes());
    let state = if spec.mac.is_some() { NUD_PERMANENT } else { 0 };
    head[8..10].copy_from_slice(&state.to_ne_bytes());
    head[10] = if spec.mac.is_some() { 0 } else { NTF_PROXY };
    let mut message = Message::new(kind, flags, &head);
    message.put(NDA_DST, &octets(spec.address));
    if let Some(mac) = spec.mac {
        message.put(NDA_LLADDR, &mac.octets());
    }
    message
}

/// Neighbours and proxy entries are two lists.
pub(super) fn dumps() -> Vec<Ask> {
    let dump = |flags| {
        let mut head = [0; HEADER];
        head[10] = flags;
        Ask {
            what: "list the neighbours".into(),
            message: Message::new(RTM_GETNEIGH, F_DUMP, &head),
            tolerated: &[],
        }
    };
    vec![dump(0), dump(NTF_PROXY)]
}

pub(super) fn decode(payload: &[u8]) -> Option<NeighbourSpec> {
    let attributes = Attributes::after(payload, HEADER);
    let address = address(u8_at(payload, 0)?, attributes.find(NDA_DST)?)?;
    let link = LinkIndex(u32_at(payload, 4)?);
    if u8_at(payload, 10)? & NTF_PROXY != 0 {
        return Some(NeighbourSpec { link, address, mac: None });
    }
    if u16_at(payload, 8)? & NUD_PERMANENT == 0 {
        return None;
    }
    let mac = MacAddr::new(attributes.find(NDA_LLADDR)?.try_into().ok()?);
    Some(NeighbourSpec { link, address, mac: Some(mac) })
}
