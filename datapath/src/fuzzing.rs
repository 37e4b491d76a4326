//! For the fuzzer in `fuzz/` alone, absent from every other build: the readers of kernel bytes, with bytes that no kernel wrote.
//!
//! A "kernel" is a second user-space netlink socket that has sent everything it will ever say before it is asked; silence
//! after that is an error at once instead of after the usual patience. Everything runs as in life: sequence numbers, torn lists,
//! acknowledgements, decoders. Beyond "no panic, no endless loop", what was read must survive being written and read again,
//! since planners compare observed with wanted in that form. Nothing here reaches the real kernel's tables.

use crate::codec::split;
use crate::conntrack::Conntrack;
use crate::netlink::{
    AddressSpec, LinkChange, LinkWatcher, NeighbourSpec, Netlink, NetlinkError, Request, RouteScope,
    RouteSpec, RuleSpec,
};
use crate::nft::{Family, Nft, Shape};
use crate::pod::{self, PodRemoval};
use crate::socket::Socket;
use crate::{IfName, LinkIndex, MacAddr, layout};
use ipnet::IpNet;
use netlink_sys::SocketAddr;
use netlink_sys::protocols::NETLINK_USERSOCK;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};

/// What is asked of the scripted kernel, in the order of the input's first byte (modulo their number).
const OPERATIONS: [fn(Socket) -> Outcome; 14] = [
    |socket| Ok(Netlink { socket }.links().map(drop)?),
    |socket| Ok(Netlink { socket }.link_by_name(&name()).map(drop)?),
    |socket| Ok(Netlink { socket }.addresses()?.iter().for_each(check_address)),
    |socket| Ok(Netlink { socket }.routes(None)?.iter().for_each(check_route)),
    |socket| Ok(Netlink { socket }.routes_on(layout::PODS_TABLE, LinkIndex(7))?.iter().for_each(check_route)),
    |socket| Ok(Netlink { socket }.rules()?.iter().for_each(check_rule)),
    |socket| Ok(Netlink { socket }.neighbours()?.iter().for_each(check_neighbour)),
    |socket| Ok(Nft::over(socket).read(Family::Ip, layout::NFT_TABLE)?.iter().for_each(check_shape)),
    |socket| Ok(Nft::over(socket).counters(Family::Ip, layout::NFT_TABLE).map(drop)?),
    |socket| Ok(Conntrack { socket }.delete_addresses(&[pod_address()])?),
    |socket| {
        let down = LinkChange { up: Some(false), ..LinkChange::default() };
        let requests = (1..=3).map(|index| Request::set_link(LinkIndex(index), &down).or_gone());
        Ok(Netlink { socket }.run_all(requests.collect())?)
    },
    |socket| Ok(LinkWatcher { socket }.next_events().map(drop)?),
    |socket| Ok(Nft::over(socket).delete_table(Family::Ip, layout::NFT_TABLE)?),
    |socket| {
        let removal = PodRemoval {
            host_name: name(),
            host_mac: MacAddr::new([2, 0, 0, 0, 0, 1]),
            pods_table: layout::PODS_TABLE,
        };
        Ok(pod::remove(&mut Netlink { socket }, &removal).map(drop)?)
    },
];

type Outcome = Result<(), Box<dyn Error>>;

/// Asks a kernel that answers with `input`: a byte that chooses the question, then datagrams, each behind its length as two
/// bytes, little-endian. True when there was an answer.
#[must_use]
pub fn kernel(input: &[u8]) -> bool {
    let Some((operation, script)) = input.split_first() else { return false };
    let operation = OPERATIONS[usize::from(*operation) % OPERATIONS.len()];
    let (socket, _kernel) = scripted(&datagrams(script));
    let outcome = operation(socket);
    if let Err(error) = &outcome {
        let mut next: Option<&dyn Error> = Some(&**error);
        while let Some(error) = next {
            assert!(!error.to_string().is_empty(), "an error says something");
            next = error.source();
        }
    }
    outcome.is_ok()
}

fn datagrams(mut script: &[u8]) -> Vec<&[u8]> {
    let mut datagrams = Vec::new();
    while let [low, high, rest @ ..] = script {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (datagram, rest) = rest.split_at(length);
        // A netlink socket of the kernel never sends nothing.
        if !datagram.is_empty() {
            datagrams.push(datagram);
        }
        script = rest;
    }
    datagrams
}

/// A socket in whose queue the answers are already, and the kernel that gave them, which must live as long as it is asked.
fn scripted(answers: &[&[u8]]) -> (Socket, netlink_sys::Socket) {
    let script = "two user-space netlink sockets can talk to each other";
    let mut kernel = netlink_sys::Socket::new(NETLINK_USERSOCK).expect(script);
    let place = kernel.bind_auto().expect(script);
    let socket = Socket::open(NETLINK_USERSOCK).expect(script);
    let mut own = SocketAddr::new(0, 0);
    socket.inner.get_address(&mut own).expect(script);
    socket.inner.connect(&place).expect(script);
    socket.inner.set_non_blocking(true).expect(script);
    kernel.set_non_blocking(true).expect(script);
    for answer in answers {
        // A full queue ends the script early, as lost answers would.
        if kernel.send_to(answer, &own, 0).is_err() {
            break;
        }
    }
    (socket, kernel)
}

fn name() -> IfName {
    "eni0123456789a".parse().expect("14 bytes")
}

fn pod_address() -> IpAddr {
    Ipv4Addr::new(10, 0, 1, 7).into()
}

/// What the reader makes of our own request for the object.
fn read_back<T>(
    request: &Request,
    lists: u32,
    read: impl FnOnce(Netlink) -> Result<Vec<T>, NetlinkError>,
) -> Vec<T> {
    let mut object = Vec::new();
    assert!(request.ask.message.finish_into(1, &mut object), "an object that was read fits a message");
    assert_eq!(split(&object).map(|all| all.len()), Some(1), "a message is one message");
    let done = |sequence: u32| {
        let mut done = vec![20, 0, 0, 0, 3, 0, 2, 0];
        done.extend_from_slice(&sequence.to_ne_bytes());
        done.extend_from_slice(&[0; 8]);
        done
    };
    let ends: Vec<Vec<u8>> = (1..=lists).map(done).collect();
    let answers: Vec<&[u8]> = std::iter::once(&object[..]).chain(ends.iter().map(Vec::as_slice)).collect();
    let (socket, _kernel) = scripted(&answers);
    read(Netlink { socket }).expect("a list that is whole")
}

fn check_route(found: &RouteSpec) {
    let mut expected = found.clone();
    expected.destination = expected.destination.trunc();
    if expected.destination.addr().is_ipv6() {
        expected.scope = RouteScope::Universe;
    }
    let read = read_back(&Request::add_route(found), 2, |mut netlink| netlink.routes(None));
    assert_eq!(read, [expected]);
}

fn check_address(found: &AddressSpec) {
    let read = read_back(&Request::add_address(found), 1, |mut netlink| netlink.addresses());
    assert_eq!(read, std::slice::from_ref(found));
}

fn check_rule(found: &RuleSpec) {
    let mut expected = found.clone();
    for prefix in [&mut expected.source, &mut expected.destination] {
        *prefix = prefix.filter(|prefix: &IpNet| prefix.prefix_len() > 0).map(|prefix| prefix.trunc());
    }
    let read = read_back(&Request::add_rule(found), 2, |mut netlink| netlink.rules());
    assert_eq!(read, [expected]);
}

fn check_neighbour(found: &NeighbourSpec) {
    let read = read_back(&Request::replace_neighbour(found), 2, |mut netlink| netlink.neighbours());
    assert_eq!(read, std::slice::from_ref(found));
}

/// Entries of ranges are sorted and apart: the normal form in which tables are compared.
fn check_shape(shape: &Shape) {
    let read = shape.sets.values().filter_map(|(kind, entries)| Some((kind, entries.as_ref()?)));
    for (kind, entries) in read {
        assert!(entries.iter().all(|entry| entry.first <= entry.last), "{entries:?}");
        let apart = entries.windows(2).all(|pair| pair[0].last < pair[1].first);
        assert!(!kind.interval || apart, "{entries:?}");
    }
}
