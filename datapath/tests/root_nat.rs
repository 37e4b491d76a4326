//! What is translated and what is not: the cells of the acceptance matrix of natOutgoing, by real packets. What the receiver sees is what counts.
//!
//! The node's pods A and B have outgoing translation, A on the primary ENI and B on another; C has none.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::net::UdpSocket;
use support::matrix::{
    BLOCK_PODS, COVERED, ENI, EXCLUDED, FORCED_IN_EXCLUDED, Flow, INTERNET, LINK_LOCAL, NODE, NODE_SECOND,
    OTHER_NODE, OTHER_POD, RESOLVER, SECONDARY_CIDR, UNCOVERED, bind, block_world, matrix, seen, settled,
    through_service,
};
use support::world::{POD_A, POD_B, POD_C, World, assert_nothing_left_by_the_wrong_eni, net};
use support::{PATIENCE, TestNs};

#[test]
#[ignore = "needs root"]
fn destinations_that_know_pod_addresses_see_them() {
    let world = settled(&matrix());
    let raw = [
        ("a host in a covered subnet", COVERED),
        ("a host in a secondary CIDR", SECONDARY_CIDR),
        ("an excluded destination, excluded twice", EXCLUDED),
        ("another node", OTHER_NODE),
        ("a pod of another node", OTHER_POD),
    ];
    for (what, target) in raw {
        assert_eq!(seen(&world, 0, target), POD_A, "{what}");
        assert_eq!(seen(&world, 1, target), POD_B, "{what}");
    }
    let node = bind(&world.node, "0.0.0.0:7777");
    let neighbour = bind(&world.pods[2], "0.0.0.0:7777");
    for (pod, own) in [POD_A, POD_B].iter().enumerate() {
        bind(&world.pods[pod], "0.0.0.0:0").send_to(b"ping", format!("{NODE}:7777")).unwrap();
        let (_, from) = node.recv_from(&mut [0; 8]).unwrap();
        assert_eq!(from.ip().to_string(), *own, "the pod's own node");
        bind(&world.pods[pod], "0.0.0.0:0").send_to(b"ping", format!("{POD_C}:7777")).unwrap();
        let (_, from) = neighbour.recv_from(&mut [0; 8]).unwrap();
        assert_eq!(from.ip().to_string(), *own, "a pod of the same node");
    }
}

#[test]
#[ignore = "needs root"]
fn destinations_that_do_not_see_the_nodes_primary_address() {
    let world = settled(&matrix());
    let translated = [
        ("a host in an uncovered subnet", UNCOVERED),
        ("the internet", INTERNET),
        ("the resolver, although it is in the VPC", RESOLVER),
        ("a link-local service", LINK_LOCAL),
        ("a forced destination, although it is excluded", FORCED_IN_EXCLUDED),
    ];
    for (what, target) in translated {
        for pod in [0, 1] {
            let from = world.source_seen(pod, target).unwrap();
            assert_eq!(from.ip().to_string(), NODE, "{what}: not another address of the ENI");
            assert!((40_000..=50_000).contains(&from.port()), "{what}: {from}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_pod_without_outgoing_translation_is_seen_as_it_is_everywhere() {
    let world = settled(&matrix());
    for target in [COVERED, UNCOVERED, INTERNET, RESOLVER, LINK_LOCAL, OTHER_POD, FORCED_IN_EXCLUDED] {
        assert_eq!(seen(&world, 2, target), POD_C, "{target}");
    }
}

#[test]
#[ignore = "needs root"]
fn transit_traffic_and_host_processes_are_never_translated() {
    let world = settled(&matrix());
    let server = bind(&world.router, &format!("{INTERNET}:0"));
    let client = bind(&world.node, &format!("{NODE_SECOND}:0"));
    client.send_to(b"ping", server.local_addr().unwrap()).unwrap();
    assert_eq!(server.recv_from(&mut [0; 8]).unwrap().1, client.local_addr().unwrap());
    // Something else that runs behind the node: its source is in no pool of ours.
    let guest = TestNs::new("guest");
    world.node.ip(&format!("link add vm0 type veth peer name eth0 netns {}", guest.name));
    world.node.ip("link set vm0 up");
    world.node.ip("addr add 10.0.0.129/30 dev vm0");
    guest.ip("link set eth0 up");
    guest.ip("addr add 10.0.0.130/30 dev eth0");
    guest.ip("route add default via 10.0.0.129");
    world.router.ip("neigh add 10.0.0.130 lladdr 02:00:00:00:01:00 dev to-eth0 nud permanent");
    let client = bind(&guest, "0.0.0.0:0");
    client.send_to(b"ping", server.local_addr().unwrap()).unwrap();
    assert_eq!(server.recv_from(&mut [0; 8]).unwrap().1.ip().to_string(), "10.0.0.130");
}

#[test]
#[ignore = "needs root"]
fn multicast_broadcast_and_link_local_are_never_translated() {
    let world = settled(&matrix());
    let never = world.node.exec("nft list set ip spur nat_never");
    for range in ["224.0.0.0/4", "255.255.255.255"] {
        assert!(never.contains(range), "{never}");
    }
    let never = world.node.exec("nft list set ip6 spur nat_never");
    for range in ["fe80::/10", "ff00::/8"] {
        assert!(never.contains(range), "{never}");
    }
}

/// Counts on the router what arrives from whom.
fn count_arrivals(world: &World, protocol: &str) {
    world.router.exec("nft add table ip seen");
    world.router.exec("nft add chain ip seen input { type filter hook input priority 0 ; }");
    for source in [NODE, POD_B] {
        world
            .router
            .exec(&format!("nft add rule ip seen input ip saddr {source} ip protocol {protocol} counter"));
    }
}

/// Packets from the node's address, and from pod B's.
fn arrivals(world: &World) -> [u64; 2] {
    let rules = world.router.nft_json("list chain ip seen input");
    let counts = rules.iter().filter_map(|item| item["rule"]["expr"].as_array());
    let packets = counts.filter_map(|list| list.iter().find_map(|one| one["counter"]["packets"].as_u64()));
    packets.collect::<Vec<_>>().try_into().unwrap()
}

#[test]
#[ignore = "needs root"]
fn a_ping_is_translated_like_anything_else() {
    let world = settled(&matrix());
    count_arrivals(&world, "icmp");
    assert!(world.pods[1].pings(INTERNET) && world.pods[1].pings(UNCOVERED));
    assert_eq!(arrivals(&world), [2, 0]);
    assert!(world.pods[1].pings(COVERED));
    assert_eq!(arrivals(&world), [2, 1]);
}

#[test]
#[ignore = "needs root"]
fn fragments_follow_their_datagram() {
    let world = settled(&matrix());
    for (target, source) in [(INTERNET, NODE), (COVERED, POD_B)] {
        let server = bind(&world.router, &format!("{target}:0"));
        let client = bind(&world.pods[1], "0.0.0.0:0");
        let payload = vec![7; 30_000];
        client.send_to(&payload, server.local_addr().unwrap()).unwrap();
        let mut buffer = vec![0; 40_000];
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!((length, from.ip().to_string()), (payload.len(), source.to_owned()), "four fragments");
        server.send_to(&buffer[..length], from).unwrap();
        assert_eq!(client.recv_from(&mut buffer).unwrap().0, payload.len(), "and back");
    }
}

/// An SCTP packet that opens an association: common header, and an INIT chunk.
fn sctp_init() -> Vec<u8> {
    let mut packet = vec![0x9c, 0x40, 0x1e, 0x61, 0, 0, 0, 0, 0, 0, 0, 0];
    packet.extend([1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
    let checksum = crc32c(&packet);
    packet[8..12].copy_from_slice(&checksum.to_le_bytes());
    packet
}

fn crc32c(bytes: &[u8]) -> u32 {
    let shift = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| shift(crc)))
}

#[test]
#[ignore = "needs root"]
fn sctp_is_translated_with_a_port_of_the_range() {
    let world = settled(&matrix());
    let raw = |ns: &TestNs| {
        let protocol = rustix::net::RawProtocol::new(132).map(rustix::net::Protocol::from_raw);
        let (family, kind) = (rustix::net::AddressFamily::INET, rustix::net::SocketType::RAW);
        ns.ns.run(|| rustix::net::socket(family, kind, protocol)).unwrap().unwrap()
    };
    let (server, client) = (UdpSocket::from(raw(&world.router)), UdpSocket::from(raw(&world.pods[1])));
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    for (target, source, ports) in [(INTERNET, NODE, 40_000..=50_000), (COVERED, POD_B, 40_000..=40_000)] {
        client.send_to(&sctp_init(), format!("{target}:0")).unwrap();
        let mut buffer = [0; 128];
        let (_, from) = server.recv_from(&mut buffer).unwrap();
        let port = u16::from_be_bytes([buffer[20], buffer[21]]);
        assert_eq!(from.ip().to_string(), source, "{target}");
        assert!(ports.contains(&port), "{target} saw port {port}");
    }
}

#[test]
#[ignore = "needs root"]
fn live_flows_keep_their_address_across_every_change_and_new_ones_follow_it() {
    let mut world = settled(&matrix());
    let mut translated = Flow::open(&world, 1, INTERNET);
    let mut raw = Flow::open(&world, 1, COVERED);
    assert_eq!((translated.seen.as_str(), raw.seen.as_str()), (NODE, POD_B));
    let mut both = |what: &str| {
        eprintln!("{what}");
        translated.works();
        raw.works();
    };
    both("at first");
    let mut turned = matrix();
    turned.nat.never.retain(|net| *net != support::world::net("10.0.9.0/24"));
    turned.nat.never.push(net("198.51.100.0/24"));
    world.settle(&turned);
    both("the exclude list changed");
    assert_eq!((seen(&world, 1, INTERNET).as_str(), seen(&world, 1, COVERED).as_str()), (POD_B, NODE));
    world.node.exec("nft flush ruleset");
    world.settle(&matrix());
    both("somebody flushed every table, and it was repaired");
    let mut none = matrix();
    none.nat.local.clear();
    world.settle(&none);
    both("the pool's translation was switched off");
    assert_eq!(seen(&world, 1, INTERNET), POD_B);
}

/// What portmap writes for port 8080 of the node and port 7777 of a pod.
fn host_port(pod: &str) -> String {
    format!(
        "*nat\n:CNI-HOSTPORT-DNAT - [0:0]\n:CNI-HOSTPORT-SETMARK - [0:0]\n:CNI-HOSTPORT-MASQ - [0:0]\n:CNI-DN-0123456789abcdef01234 - [0:0]\n\
         -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n\
         -A POSTROUTING -m comment --comment \"CNI portfwd requiring masquerade\" -j CNI-HOSTPORT-MASQ\n\
         -A CNI-HOSTPORT-SETMARK -m comment --comment \"CNI portfwd masquerade mark\" -j MARK --set-xmark 0x2000/0x2000\n\
         -A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE\n\
         -A CNI-HOSTPORT-DNAT -p udp -m comment --comment \"dnat name: spur\" -m multiport --destination-ports 8080 -j CNI-DN-0123456789abcdef01234\n\
         -A CNI-DN-0123456789abcdef01234 -s {pod}/32 -p udp -m udp --dport 8080 -j CNI-HOSTPORT-SETMARK\n\
         -A CNI-DN-0123456789abcdef01234 -s 127.0.0.1/32 -p udp -m udp --dport 8080 -j CNI-HOSTPORT-SETMARK\n\
         -A CNI-DN-0123456789abcdef01234 -p udp -m udp --dport 8080 -j DNAT --to-destination {pod}:7777\nCOMMIT\n"
    )
}

#[test]
#[ignore = "needs root"]
fn a_host_port_answers_through_the_eni_that_it_was_asked_by_in_both_modes() {
    // Of pods on either ENI, asked by the address of either.
    for (is_block, index, pod) in [(false, 0, POD_A), (false, 1, POD_B), (true, 1, BLOCK_PODS[1])] {
        let world = if is_block { block_world() } else { settled(&matrix()) };
        let asked: &[&str] = if is_block { &[NODE] } else { &[NODE, ENI] };
        world.node.feed("iptables-nft-restore --noflush", &host_port(pod));
        let endpoint = bind(&world.pods[index], "0.0.0.0:7777");
        for address in asked {
            let service = format!("{address}:8080");
            for client_address in [COVERED, UNCOVERED, INTERNET] {
                let client = bind(&world.router, &format!("{client_address}:0"));
                let seen = through_service(&client, &service, &endpoint);
                assert_eq!(seen, client_address, "{pod} by {address}");
            }
            let itself = bind(&world.pods[index], "0.0.0.0:0");
            assert_ne!(through_service(&itself, &service, &endpoint), pod, "hairpin by {address}");
        }
        assert_nothing_left_by_the_wrong_eni(&world);
    }
}

#[test]
#[ignore = "needs root"]
fn pods_of_a_block_are_seen_as_the_matrix_says() {
    let world = block_world();
    for (pod, own) in BLOCK_PODS.iter().enumerate() {
        for target in [COVERED, OTHER_POD] {
            assert_eq!(seen(&world, pod, target), *own, "{target} knows the way back");
        }
        for target in [UNCOVERED, RESOLVER, LINK_LOCAL, INTERNET] {
            assert_eq!(seen(&world, pod, target), NODE, "{target} knows the node only");
        }
    }
}
