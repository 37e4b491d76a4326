//! The destinations of the acceptance matrix of natOutgoing, and a node of either mode that is prepared for them.
//!
//! In `eni` mode the node's pods A and B have outgoing translation, A on the primary ENI and B on another; C has none. In `vpcRoute` mode it has a block.

use super::world::{World, net, wanted, wiring, world};
use super::{PATIENCE, TestNs};
use spur_datapath::node::NodeWanted;
use spur_datapath::pod::{self, every_step};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};

pub(crate) const NODE: &str = "10.0.0.10";
/// The second ENI's own address.
pub(crate) const ENI: &str = "10.0.1.10";
/// An address of the node's on its primary ENI beside the primary one.
pub(crate) const NODE_SECOND: &str = "10.0.0.11";
pub(crate) const COVERED: &str = "10.0.9.9";
pub(crate) const UNCOVERED: &str = "10.0.8.8";
pub(crate) const SECONDARY_CIDR: &str = "10.7.0.7";
pub(crate) const EXCLUDED: &str = "192.168.5.5";
pub(crate) const FORCED_IN_EXCLUDED: &str = "192.168.9.9";
pub(crate) const OTHER_NODE: &str = "10.0.3.30";
pub(crate) const OTHER_POD: &str = "10.200.4.4";
pub(crate) const RESOLVER: &str = "10.0.0.2";
pub(crate) const LINK_LOCAL: &str = "169.254.20.10";
pub(crate) const INTERNET: &str = "198.51.100.9";

/// As in a `vpcRoute` pool: what is covered, excluded, a node or a pod knows pod addresses; what is link-local or the resolver does not.
pub(crate) fn matrix() -> NodeWanted {
    let mut wanted = wanted();
    wanted.nat.never = [
        "10.0.9.0/24",
        "10.7.0.0/16",
        "192.168.0.0/16",
        "192.168.5.0/24",
        "10.0.3.30/32",
        "10.0.0.10/32",
        "10.200.0.0/16",
    ]
    .map(net)
    .to_vec();
    wanted.nat.force = ["169.254.0.0/16", "10.0.0.2/32", "192.168.9.0/24"].map(net).to_vec();
    wanted
}

pub(crate) fn settled(wanted: &NodeWanted) -> World {
    let mut world = world();
    let hosts = [
        UNCOVERED,
        SECONDARY_CIDR,
        EXCLUDED,
        FORCED_IN_EXCLUDED,
        OTHER_NODE,
        OTHER_POD,
        RESOLVER,
        LINK_LOCAL,
    ];
    for host in hosts {
        world.router.ip(&format!("addr add {host}/32 dev lo"));
    }
    world.node.ip(&format!("addr add {NODE_SECOND}/24 dev eth0"));
    world.settle(wanted);
    world.add_pods();
    world
}

pub(crate) fn seen(world: &World, pod: usize, target: &str) -> String {
    world.source_seen(pod, target).map_or_else(|| "nothing".to_owned(), |seen| seen.ip().to_string())
}

pub(crate) fn bind(ns: &TestNs, address: &str) -> UdpSocket {
    let socket = ns.ns.run(|| UdpSocket::bind(address)).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The TCP side of an endpoint.
pub(crate) fn listen(ns: &TestNs) -> TcpListener {
    ns.ns.run(|| TcpListener::bind("0.0.0.0:7777")).unwrap().unwrap()
}

/// Asks a service from a socket; who the endpoint saw.
pub(crate) fn through_service(client: &UdpSocket, service: &str, endpoint: &UdpSocket) -> String {
    client.send_to(b"ping", service).unwrap();
    let (_, from) = endpoint.recv_from(&mut [0; 8]).unwrap_or_else(|error| panic!("{service}: {error}"));
    endpoint.send_to(b"pong", from).unwrap();
    let (_, seen) = client.recv_from(&mut [0; 8]).unwrap_or_else(|error| panic!("{service}: {error}"));
    assert_eq!(seen.to_string(), service, "the answer comes from whom was asked");
    from.ip().to_string()
}

pub(crate) const BLOCK_PODS: [&str; 3] = ["10.200.0.5", "10.200.0.6", "10.200.0.7"];

pub(crate) fn block_matrix() -> NodeWanted {
    let mut wanted = matrix();
    wanted.secondaries.clear();
    wanted.nat.local = vec![net("10.200.0.0/25")];
    wanted
}

/// A node of a `vpcRoute` pool: one ENI, unchecked, and the VPC leads the node's block to it.
pub(crate) fn block_world() -> World {
    let mut world = world();
    world.router.exec("nft flush chain ip vpc raw");
    world.router.ip("route add 10.200.0.0/25 via 10.0.0.10 dev to-eth0");
    for host in [UNCOVERED, OTHER_POD, RESOLVER, LINK_LOCAL] {
        world.router.ip(&format!("addr add {host}/32 dev lo"));
    }
    world.settle(&block_matrix());
    for address in BLOCK_PODS {
        let pod = TestNs::new("pod");
        pod::add(&mut world.node.netlink(), &pod.ns, &wiring(address), &mut every_step).unwrap();
        world.pods.push(pod);
    }
    world
}

/// A TCP connection between two sockets that are asked, one after the other, whether it still works.
pub(crate) struct Flow {
    client: TcpStream,
    server: TcpStream,
    pub(crate) seen: String,
}

impl Flow {
    pub(crate) fn open(world: &World, pod: usize, target: &str) -> Self {
        let listener = world.router.ns.run(|| TcpListener::bind(format!("{target}:0"))).unwrap().unwrap();
        Self::through(&world.pods[pod], &listener.local_addr().unwrap().to_string(), &listener)
    }

    /// From a namespace to an address that leads to the listener.
    pub(crate) fn through(client: &TestNs, service: &str, listener: &TcpListener) -> Self {
        let address = service.parse().unwrap();
        let connect = || TcpStream::connect_timeout(&address, PATIENCE);
        let client = client.ns.run(connect).unwrap().unwrap_or_else(|error| panic!("{service}: {error}"));
        let (server, peer) = listener.accept().unwrap();
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        Self { client, server, seen: peer.ip().to_string() }
    }

    pub(crate) fn works(&mut self) {
        let mut byte = [0];
        self.client.write_all(b"a").unwrap();
        self.server.read_exact(&mut byte).unwrap();
        self.server.write_all(b"b").unwrap();
        self.client.read_exact(&mut byte).unwrap();
    }
}
