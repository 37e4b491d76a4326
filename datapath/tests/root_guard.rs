//! What pods may not send: forged packets by raw sockets in real pods, with `nft -j` as witness of the counters and a
//! receiver behind the guard as witness that nothing came through. Each forgery is first shown to arrive without the guard, where the
//! kernel alone would let it.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use rustix::net::{AddressFamily, RawProtocol, SendFlags, SocketType, sendto, socket};
use spur_datapath::layout;
use spur_datapath::nft::{Family, Nft};
use spur_datapath::node::NodeWanted;
use spur_datapath::pod::{self, PodRemoval, every_step};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::time::Duration;
use support::world::{POD_A, POD_B, POD_C, World, wanted, wiring, world};
use support::{PATIENCE, TestNs};

const PORT: u16 = 7070;
const NODE: &str = "10.0.0.10";

/// A counter, by our own reader and by the witness before and after, since pods' kernels send IPv6 whenever they like.
fn counted(node: &TestNs, family: Family, name: &str) -> u64 {
    let witness = || {
        let listed = node.nft_json(&format!("list counters table {family} spur"));
        let counter = listed.iter().find(|item| item["counter"]["name"] == name).unwrap();
        counter["counter"]["packets"].as_u64().unwrap()
    };
    let before = witness();
    let own = Nft::open_in(&node.ns).unwrap().counters(family, layout::NFT_TABLE).unwrap()[name].packets;
    let after = witness();
    assert!((before..=after).contains(&own), "nft says {before} and then {after}, we {own} between");
    own
}

fn spoofed(node: &TestNs) -> u64 {
    counted(node, Family::Ip, layout::SPOOFED_COUNTER)
}

fn bind(ns: &TestNs, address: &str) -> UdpSocket {
    let socket = ns.ns.run(|| UdpSocket::bind(address)).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_broadcast(true).unwrap();
    socket
}

/// Sends a UDP datagram with any source from a raw socket of a pod.
fn forge(pod: &TestNs, source: Ipv4Addr, target: Ipv4Addr) {
    let raw = RawProtocol::new(255).map(rustix::net::Protocol::from_raw);
    let socket = pod.ns.run(|| socket(AddressFamily::INET, SocketType::RAW, raw)).unwrap().unwrap();
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(source.octets());
    packet.extend(target.octets());
    for word in [40_000, PORT, 8 + 6, 0] {
        packet.extend(word.to_be_bytes());
    }
    packet.extend(b"forged");
    let to = SocketAddr::V4(SocketAddrV4::new(target, 0));
    sendto(&socket, &packet, SendFlags::empty(), &to).unwrap();
}

/// The payload that arrives first, the last one sent being an honest one.
fn first_arrival(receiver: &UdpSocket, honest: &UdpSocket, target: &str) -> String {
    honest.send_to(b"honest", format!("{target}:{PORT}")).unwrap();
    let mut buffer = [0; 16];
    let mut first = None;
    loop {
        let (length, _) = receiver.recv_from(&mut buffer).expect("the honest datagram arrives");
        let payload = String::from_utf8_lossy(&buffer[..length]).into_owned();
        first.get_or_insert_with(|| payload.clone());
        if payload == "honest" {
            return first.unwrap();
        }
    }
}

fn settled() -> World {
    let mut world = world();
    world.settle(&wanted());
    world.add_pods();
    world
}

#[test]
#[ignore = "needs root"]
fn a_pod_cannot_send_from_an_ipv4_address_that_is_not_its_own() {
    let mut world = settled();
    let receivers = [
        (NODE, bind(&world.node, &format!("{NODE}:{PORT}"))),
        (POD_C, bind(&world.pods[2], &format!("{POD_C}:{PORT}"))),
    ];
    let honest = bind(&world.pods[1], &format!("{POD_B}:0"));
    let forgeries = [
        (POD_A, true, "another pod's on the node"),
        ("10.0.9.7", true, "another node's pod's"),
        ("10.0.1.99", true, "nobody's"),
        ("198.51.100.7", true, "the internet's"),
        (NODE, false, "the node's own"),
        ("127.0.0.1", false, "loopback"),
    ];
    for (source, kernel_lets_pass, whose) in forgeries {
        for (target, receiver) in &receivers {
            let (source, address) = (source.parse().unwrap(), target.parse().unwrap());
            world.node.exec("nft delete chain ip spur guard");
            forge(&world.pods[1], source, address);
            let expected = if kernel_lets_pass { "forged" } else { "honest" };
            assert_eq!(first_arrival(receiver, &honest, target), expected, "unguarded, {whose} to {target}");
            world.settle(&wanted());
            let before = spoofed(&world.node);
            forge(&world.pods[1], source, address);
            assert_eq!(first_arrival(receiver, &honest, target), "honest", "{whose} to {target}");
            assert_eq!(spoofed(&world.node), before + 1, "{whose} to {target}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_pod_cannot_send_from_the_unspecified_address_not_even_to_broadcast() {
    let world = settled();
    let receiver = bind(&world.node, &format!("0.0.0.0:{PORT}"));
    let honest = bind(&world.pods[1], &format!("{POD_B}:0"));
    // A raw socket has the kernel fill in a source of zero, so the pod rewrites it on the way out.
    for rule in ["add table ip t", "add chain ip t c { type filter hook postrouting priority 0 ; }"] {
        world.pods[1].exec(&format!("nft {rule}"));
    }
    for target in ["255.255.255.255", NODE] {
        world.pods[1].exec("nft add rule ip t c ip saddr set 0.0.0.0");
        let before = spoofed(&world.node);
        honest.send_to(b"forged", format!("{target}:{PORT}")).unwrap();
        world.pods[1].exec("nft flush chain ip t c");
        assert_eq!(first_arrival(&receiver, &honest, NODE), "honest", "{target}");
        assert_eq!(spoofed(&world.node), before + 1, "{target}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_pod_cannot_send_ipv6_at_all_not_even_link_local() {
    let mut world = settled();
    let veth = wiring(POD_B).host_name;
    world.node.ip(&format!("-6 addr add fe80::aa/64 dev {veth} nodad"));
    world.pods[1].ip("-6 addr add fe80::bb/64 dev eth0 nodad");
    world.pods[1].ip(&format!("-6 neigh add fe80::aa dev eth0 lladdr {}", wiring(POD_B).host_mac));
    let link = world.pods[1].netlink().index_of(&"eth0".parse().unwrap()).unwrap();
    let receiver = bind(&world.node, &format!("[::]:{PORT}"));
    receiver.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let sender = bind(&world.pods[1], "[::]:0");
    let send = || {
        let to = SocketAddrV6::new("fe80::aa".parse().unwrap(), PORT, 0, link.number());
        sender.send_to(b"forged", to).unwrap();
        receiver.recv_from(&mut [0; 16]).is_ok()
    };
    let dropped = |world: &World| counted(&world.node, Family::Ip6, layout::SPOOFED_COUNTER);
    let before = dropped(&world);
    assert!(!send());
    assert!(dropped(&world) > before);
    world.node.exec("nft delete table ip6 spur");
    // A new address is usable a moment after it was set.
    assert!((0..10).any(|_| send()), "without the guard it arrives, so the test can fail");
    world.settle(&wanted());
    assert!(!send(), "the guard is repaired");
}

#[test]
#[ignore = "needs root"]
fn a_pod_that_is_detached_cannot_send_with_its_old_address() {
    let world = settled();
    let receiver = bind(&world.node, &format!("{NODE}:{PORT}"));
    let old = bind(&world.pods[1], "0.0.0.0:0");
    old.send_to(b"alive", format!("{NODE}:{PORT}")).unwrap();
    assert_eq!(receiver.recv_from(&mut [0; 16]).unwrap().0, 5);
    pod::detach(&mut world.node.netlink(), &PodRemoval::of(&wiring(POD_B))).unwrap();
    let before = spoofed(&world.node);
    assert!(old.send_to(b"late", format!("{NODE}:{PORT}")).is_ok(), "the pod's interface is still there");
    let honest = bind(&world.pods[0], &format!("{POD_A}:0"));
    assert_eq!(first_arrival(&receiver, &honest, NODE), "honest");
    assert_eq!(spoofed(&world.node), before + 1);
}

#[test]
#[ignore = "needs root"]
fn each_interface_of_a_pod_sends_with_its_own_address() {
    let world = settled();
    let mut second = wiring("10.0.1.30");
    second.pod_name = "net1".parse().unwrap();
    pod::add(&mut world.node.netlink(), &world.pods[1].ns, &second, &mut every_step).unwrap();
    let receiver = bind(&world.node, &format!("{NODE}:{PORT}"));
    for own in [POD_B, "10.0.1.30"] {
        let sender = bind(&world.pods[1], &format!("{own}:0"));
        sender.send_to(b"ping", format!("{NODE}:{PORT}")).unwrap();
        let (_, from) = receiver.recv_from(&mut [0; 8]).unwrap();
        assert_eq!(from.ip().to_string(), own);
        receiver.send_to(b"pong", from).unwrap();
        sender.recv_from(&mut [0; 8]).unwrap();
    }
    assert_eq!(spoofed(&world.node), 0);
}

#[test]
#[ignore = "needs root"]
fn everyday_traffic_passes_the_guard() {
    let world = settled();
    assert!(world.pods[0].pings(POD_B) && world.pods[2].pings(NODE) && world.pods[2].pings("10.0.9.9"));
    assert!(world.pods[0].pings("198.51.100.9") && world.router.pings(POD_C) && world.node.pings(POD_A));
    assert_eq!(spoofed(&world.node), 0);
}

#[test]
#[ignore = "needs root"]
fn instance_metadata_answers_the_node_and_pods_only_where_that_is_wanted() {
    let mut world = settled();
    // The service answers on the node itself, as vpcsim's does, and behind the node's router, as EC2's does.
    for on_node in [true, false] {
        let host = if on_node { &world.node } else { &world.router };
        host.ip("addr add 169.254.169.254/32 dev lo");
        let service = bind(host, &format!("169.254.169.254:{PORT}"));
        let asks_for = |ns: &TestNs, time: Duration| {
            let client = bind(ns, "0.0.0.0:0");
            client.set_read_timeout(Some(time)).unwrap();
            service.set_read_timeout(Some(time)).unwrap();
            client.send_to(b"role?", format!("169.254.169.254:{PORT}")).unwrap();
            let Ok((_, from)) = service.recv_from(&mut [0; 8]) else { return false };
            service.send_to(b"role!", from).unwrap();
            client.recv_from(&mut [0; 8]).is_ok()
        };
        let asks = |ns: &TestNs| asks_for(ns, PATIENCE);
        let asks_in_vain = |ns: &TestNs| !asks_for(ns, Duration::from_millis(300));
        let open = wanted();
        let blocked = NodeWanted { block_instance_metadata: true, ..wanted() };
        world.settle(&open);
        assert!(asks(&world.pods[0]) && asks(&world.pods[1]), "open by default");
        world.settle(&blocked);
        assert!(asks_in_vain(&world.pods[0]) && asks_in_vain(&world.pods[1]));
        assert_eq!(counted(&world.node, Family::Ip, layout::METADATA_COUNTER), 2);
        assert!(asks(&world.node), "the node needs it");
        assert!(world.pods[1].pings("10.0.9.9"), "nothing else is blocked");
        world.settle(&open);
        assert!(asks(&world.pods[1]), "and open again");
        let host = if on_node { &world.node } else { &world.router };
        host.ip("addr del 169.254.169.254/32 dev lo");
    }
    assert_eq!(spoofed(&world.node), 0);
}
