//! How many flows of pods are translated to the node's address, and where they go. Each flow to a destination holds one port of that address; when
//! all are held, the kernel drops the next flow and tells nobody. So they are counted by destination: what fills up is one destination's ports.
//!
//! A destination is what the packets reach: behind a service it is the endpoint, since ports are taken once destinations were translated.
//!
//! # Cost
//! The kernel walks its whole table (a filter by status, Linux 5.12, keeps it from sending the rest; an older one sends all of it), so this is
//! nothing to do often. Of each flow nothing is held but where it goes, eight bytes, and that only while they are counted.

use super::{
    CTA_IP_V4_DST, CTA_IP_V4_SRC, CTA_TUPLE_IP, CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, Conntrack, HEADER,
    STATUS_SRC_NAT, list_translated,
};
use crate::codec::{Attributes, Received, u8_at};
use crate::netlink::NetlinkError;
use crate::nft::aggregate;
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;

/// Where a flow goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    /// The address.
    pub address: Ipv4Addr,
    /// Its port; 0 where the protocol has none.
    pub port: u16,
    /// IP's number of the protocol.
    pub protocol: u8,
}

/// Translated flows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Translated {
    /// How many there are.
    pub flows: u64,
    /// To how many destinations they go.
    pub destinations: u64,
    /// The destinations with most flows, and how many those are, most first.
    pub busiest: Vec<(Destination, u64)>,
}

impl Conntrack {
    /// Flows from `pods` that are translated to `address`, with at most `most` destinations.
    ///
    /// # Errors
    /// When the kernel refuses; a kernel without connection tracking translates nothing, and that is no error.
    pub fn translated(
        &mut self,
        pods: &[Ipv4Net],
        address: Ipv4Addr,
        most: usize,
    ) -> Result<Translated, NetlinkError> {
        let pods = aggregate(pods);
        let ask = list_translated(false, STATUS_SRC_NAT);
        let flows = self.socket.dump_some(&ask, |entry| destination(&entry, &pods, address))?;
        Ok(Translated::of(flows, most))
    }
}

impl Translated {
    fn of(mut flows: Vec<Destination>, most: usize) -> Self {
        flows.sort_unstable();
        let mut busiest: Vec<(Destination, u64)> = Vec::new();
        let mut destinations = 0;
        for same in flows.chunk_by(|one, other| one == other) {
            destinations += 1;
            let count = same.len() as u64;
            let place = busiest.partition_point(|(_, more)| *more >= count);
            if place < most {
                busiest.insert(place, (same[0], count));
                busiest.truncate(most);
            }
        }
        Self { flows: flows.len() as u64, destinations, busiest }
    }
}

/// Where the flow goes, if it comes from a pod and its replies come to `address`. `pods` are in order and apart from each other.
fn destination(entry: &Received, pods: &[Ipv4Net], address: Ipv4Addr) -> Option<Destination> {
    let attributes = Attributes::after(&entry.payload, HEADER);
    let tuple = |kind| attributes.find(kind).map(Attributes);
    let ip = |tuple: Attributes<'_>, kind| {
        let bytes = Attributes(tuple.find(CTA_TUPLE_IP)?).find(kind)?;
        <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
    };
    let (original, reply) = (tuple(CTA_TUPLE_ORIG)?, tuple(CTA_TUPLE_REPLY)?);
    let source = ip(original, CTA_IP_V4_SRC)?;
    let before = pods.partition_point(|net| net.network() <= source);
    let from_pod = pods[..before].last().is_some_and(|net| net.contains(&source));
    if !from_pod || ip(reply, CTA_IP_V4_DST)? != address {
        return None;
    }
    let protocol = Attributes(reply.find(CTA_TUPLE_PROTO)?);
    Some(Destination {
        address: ip(reply, CTA_IP_V4_SRC)?,
        port: protocol.find(CTA_PROTO_SRC_PORT).and_then(port).unwrap_or(0),
        protocol: protocol.find(CTA_PROTO_NUM).and_then(|bytes| u8_at(bytes, 0))?,
    })
}

fn port(bytes: &[u8]) -> Option<u16> {
    bytes.try_into().ok().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{F_DUMP, Message, split};

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn at(last: u8) -> Destination {
        Destination { address: Ipv4Addr::new(203, 0, 113, last), port: 443, protocol: 6 }
    }

    /// An entry as the kernel sends it: from `source`, its replies from the destination to `back`.
    fn entry(source: [u8; 4], back: [u8; 4], to: Destination) -> Received {
        let mut message = Message::new(0x100, F_DUMP, &[2, 0, 0, 0]);
        let mut tuple = |kind, source: [u8; 4], destination: [u8; 4], ports: [u16; 2]| {
            message.nest(kind, |tuple| {
                tuple.nest(CTA_TUPLE_IP, |ip| {
                    ip.put(CTA_IP_V4_SRC, &source).put(CTA_IP_V4_DST, &destination);
                });
                tuple.nest(CTA_TUPLE_PROTO, |proto| {
                    proto.put_u8(CTA_PROTO_NUM, to.protocol);
                    proto.put(CTA_PROTO_SRC_PORT, &ports[0].to_be_bytes());
                    proto.put(3, &ports[1].to_be_bytes());
                });
            });
        };
        tuple(CTA_TUPLE_ORIG, source, to.address.octets(), [40_000, to.port]);
        tuple(CTA_TUPLE_REPLY, to.address.octets(), back, [to.port, 50_000]);
        let mut bytes = Vec::new();
        assert!(message.finish_into(1, &mut bytes));
        split(&bytes).unwrap().remove(0)
    }

    #[test]
    fn only_flows_of_pods_to_the_nodes_address_count_by_where_they_go() {
        let pods = aggregate(&[net("10.200.0.0/25"), net("10.0.0.9/32"), net("10.0.0.20/31")]);
        let node = Ipv4Addr::new(10, 0, 0, 10);
        for (source, back, counts) in [
            ([10, 0, 0, 9], [10, 0, 0, 10], true),
            ([10, 0, 0, 21], [10, 0, 0, 10], true),
            ([10, 200, 0, 127], [10, 0, 0, 10], true),
            ([10, 200, 0, 128], [10, 0, 0, 10], false),
            ([10, 0, 0, 8], [10, 0, 0, 10], false),
            ([10, 0, 0, 22], [10, 0, 0, 10], false),
            // Somebody else's translation, to another address.
            ([10, 0, 0, 9], [10, 0, 0, 11], false),
        ] {
            let found = destination(&entry(source, back, at(1)), &pods, node);
            assert_eq!(found, counts.then(|| at(1)), "{source:?} {back:?}");
        }
        assert_eq!(destination(&entry([10, 0, 0, 9], [10, 0, 0, 10], at(1)), &[], node), None);
    }

    #[test]
    fn the_busiest_come_first_and_no_more_than_are_asked_for() {
        let mut flows = Vec::new();
        for (destination, count) in [(at(1), 2), (at(2), 5), (at(3), 2), (at(4), 9), (at(2), 1)] {
            flows.extend(vec![destination; count]);
        }
        let result = Translated::of(flows.clone(), 3);
        assert_eq!((result.flows, result.destinations), (19, 4));
        assert_eq!(result.busiest, [(at(4), 9), (at(2), 6), (at(1), 2)]);
        assert_eq!(Translated::of(flows, 0).busiest, []);
        assert_eq!(Translated::of(Vec::new(), 3), Translated::default());
    }

    #[test]
    fn a_cut_entry_counts_for_nothing_and_nothing_panics() {
        let whole = entry([10, 0, 0, 9], [10, 0, 0, 10], at(1));
        for length in 0..whole.payload.len() {
            let payload = whole.payload[..length].to_vec();
            let cut = Received { payload, ..whole.clone() };
            let _ = destination(&cut, &[net("10.0.0.9/32")], Ipv4Addr::new(10, 0, 0, 10));
        }
    }
}
