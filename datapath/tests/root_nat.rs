//! What is translated and what is not: the cells of the acceptance matrix of natOutgoing, by real packets. What the receiver sees is what counts.
//!
//! The node's pods A and B have outgoing translation, A on the primary ENI and B on another; C has none.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use spur_datapath::node::NodeWanted;
use spur_datapath::pod::{self, every_step};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;
use support::TestNs;
use support::world::{POD_A, POD_B, POD_C, World, net, wanted, wiring, world};

const NODE: &str = "10.0.0.10";
/// An address of the node's on its primary ENI beside the primary one.
const NODE_SECOND: &str = "10.0.0.11";
const COVERED: &str = "10.0.9.9";
const UNCOVERED: &str = "10.0.8.8";
const SECONDARY_CIDR: &str = "10.7.0.7";
const EXCLUDED: &str = "192.168.5.5";
const FORCED_IN_EXCLUDED: &str = "192.168.9.9";
const OTHER_NODE: &str = "10.0.3.30";
const OTHER_POD: &str = "10.200.4.4";
const RESOLVER: &str = "10.0.0.2";
const LINK_LOCAL: &str = "169.254.20.10";
const INTERNET: &str = "198.51.100.9";

/// As in a `vpcRoute` pool: what is covered, excluded, a node or a pod knows pod addresses; what is link-local or the resolver does not.
fn matrix() -> NodeWanted {
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

fn settled(wanted: &NodeWanted) -> World {
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

fn seen(world: &World, pod: usize, target: &str) -> String {
    world.source_seen(pod, target).map_or_else(|| "nothing".to_owned(), |seen| seen.ip().to_string())
}

fn bind(ns: &TestNs, address: &str) -> UdpSocket {
    let socket = ns.ns.run(|| UdpSocket::bind(address)).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    socket
}

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
    server.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    for (target, source, ports) in [(INTERNET, NODE, 40_000..=50_000), (COVERED, POD_B, 40_000..=40_000)] {
        client.send_to(&sctp_init(), format!("{target}:0")).unwrap();
        let mut buffer = [0; 128];
        let (_, from) = server.recv_from(&mut buffer).unwrap();
        let port = u16::from_be_bytes([buffer[20], buffer[21]]);
        assert_eq!(from.ip().to_string(), source, "{target}");
        assert!(ports.contains(&port), "{target} saw port {port}");
    }
}

/// A TCP connection between two sockets that are asked, one after the other, whether it still works.
struct Flow {
    pod: TcpStream,
    outside: TcpStream,
    seen: String,
}

impl Flow {
    fn open(world: &World, pod: usize, target: &str) -> Self {
        let listener = world.router.ns.run(|| TcpListener::bind(format!("{target}:0"))).unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        let pod = world.pods[pod].ns.run(move || TcpStream::connect(address)).unwrap().unwrap();
        let (outside, peer) = listener.accept().unwrap();
        for stream in [&pod, &outside] {
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        }
        Self { pod, outside, seen: peer.ip().to_string() }
    }

    fn works(&mut self) {
        let mut byte = [0];
        self.pod.write_all(b"a").unwrap();
        self.outside.read_exact(&mut byte).unwrap();
        self.outside.write_all(b"b").unwrap();
        self.pod.read_exact(&mut byte).unwrap();
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

/// Feeds the rules of kube-proxy to the program that it uses.
fn start_proxy(world: &World, program: &[&str], rules: &str) {
    use std::process::{Command, Stdio};
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = world.node.ns.run(|| command.spawn()).unwrap().unwrap();
    child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Asks a service from a socket; who the endpoint saw.
fn through_service(client: &UdpSocket, service: &str, endpoint: &UdpSocket) -> String {
    client.send_to(b"ping", service).unwrap();
    let (_, from) = endpoint.recv_from(&mut [0; 8]).unwrap_or_else(|error| panic!("{service}: {error}"));
    endpoint.send_to(b"pong", from).unwrap();
    let (_, seen) = client.recv_from(&mut [0; 8]).unwrap_or_else(|error| panic!("{service}: {error}"));
    assert_eq!(seen.to_string(), service, "the answer comes from whom was asked");
    from.ip().to_string()
}

/// A node of a `vpcRoute` pool: one ENI, unchecked, and the VPC leads the node's block to it.
fn block_world() -> World {
    let mut world = world();
    world.router.exec("nft flush chain ip vpc raw");
    world.router.ip("route add 10.200.0.0/25 via 10.0.0.10 dev to-eth0");
    for host in [UNCOVERED, OTHER_POD, RESOLVER, LINK_LOCAL] {
        world.router.ip(&format!("addr add {host}/32 dev lo"));
    }
    let mut wanted = matrix();
    wanted.secondaries.clear();
    wanted.nat.local = vec![net("10.200.0.0/25")];
    world.settle(&wanted);
    for address in BLOCK_PODS {
        let pod = TestNs::new("pod");
        pod::add(&mut world.node.netlink(), &pod.ns, &wiring(address), &mut every_step).unwrap();
        world.pods.push(pod);
    }
    world
}

const BLOCK_PODS: [&str; 3] = ["10.200.0.5", "10.200.0.6", "10.200.0.7"];

/// Services of the cluster, as pods, the node and hosts outside use them. The second pod is the local endpoint.
fn services_work(world: &World, pods: [&str; 3]) {
    let remote = bind(&world.router, &format!("{COVERED}:7777"));
    let local = bind(&world.pods[1], "0.0.0.0:7777");
    for (pod, own) in pods.iter().enumerate() {
        let client = bind(&world.pods[pod], "0.0.0.0:0");
        assert_eq!(through_service(&client, "172.20.0.1:80", &remote), *own, "a remote endpoint");
    }
    for pod in [0, 2] {
        let client = bind(&world.pods[pod], "0.0.0.0:0");
        let seen = through_service(&client, "172.20.0.2:80", &local);
        assert_eq!(seen, pods[pod], "an endpoint on this node");
    }
    let hairpin = through_service(&bind(&world.pods[1], "0.0.0.0:0"), "172.20.0.2:80", &local);
    assert_ne!(hairpin, pods[1], "who reaches itself must see somebody else");
    assert_eq!(through_service(&bind(&world.node, "0.0.0.0:0"), "172.20.0.1:80", &remote), NODE);

    // NodePort from outside, to a pod on another ENI than the one it came in by, if there is another.
    for client_address in [COVERED, INTERNET] {
        let client = bind(&world.router, &format!("{client_address}:0"));
        let masqueraded = through_service(&client, &format!("{NODE}:30080"), &local);
        assert_ne!(masqueraded, client_address, "externalTrafficPolicy: Cluster");
        let kept = through_service(&client, &format!("{NODE}:30081"), &local);
        assert_eq!(kept, client_address, "externalTrafficPolicy: Local");
    }
    assert_eq!(seen(world, 1, INTERNET), NODE, "and the internet still sees the node");
}

fn beside_kube_proxy(program: &[&str], rules: &str) {
    let world = settled(&matrix());
    start_proxy(&world, program, rules);
    services_work(&world, [POD_A, POD_B, POD_C]);
    let dropped = world.router.exec("nft list table ip vpc");
    let counts = dropped.lines().filter(|line| line.contains("counter packets 0 ")).count();
    assert_eq!(counts, 2, "nothing left by the wrong ENI: {dropped}");

    let world = block_world();
    start_proxy(&world, program, &rules.replace(POD_B, BLOCK_PODS[1]));
    services_work(&world, BLOCK_PODS);
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
    for (world, pod) in [(settled(&matrix()), POD_B), (block_world(), BLOCK_PODS[1])] {
        start_proxy(&world, &["iptables-nft-restore", "--noflush"], &host_port(pod));
        let endpoint = bind(&world.pods[1], "0.0.0.0:7777");
        let service = format!("{NODE}:8080");
        for client_address in [COVERED, UNCOVERED, INTERNET] {
            let client = bind(&world.router, &format!("{client_address}:0"));
            assert_eq!(through_service(&client, &service, &endpoint), client_address, "{pod}");
        }
        assert_ne!(through_service(&bind(&world.pods[1], "0.0.0.0:0"), &service, &endpoint), pod, "hairpin");
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

#[test]
#[ignore = "needs root"]
fn services_of_kube_proxy_in_iptables_mode_work_beside_translation() {
    beside_kube_proxy(&["iptables-nft-restore", "--noflush"], include_str!("proxy/iptables.rules"));
}

#[test]
#[ignore = "needs root"]
fn services_of_kube_proxy_in_nftables_mode_work_beside_translation() {
    beside_kube_proxy(&["nft", "-f", "-"], include_str!("proxy/nftables.rules"));
}

#[test]
#[ignore = "needs root"]
fn a_masquerader_that_covers_pods_is_found_and_kube_proxy_is_not_one() {
    let world = settled(&matrix());
    start_proxy(&world, &["iptables-nft-restore", "--noflush"], include_str!("proxy/iptables.rules"));
    start_proxy(&world, &["nft", "-f", "-"], include_str!("proxy/nftables.rules"));
    let found = || {
        let mut nft = spur_datapath::nft::Nft::open_in(&world.node.ns).unwrap();
        nft.masqueraders("spur", &matrix().nat.local).unwrap().len()
    };
    assert_eq!(found(), 0);
    world.node.exec("iptables-nft -t nat -A POSTROUTING ! -d 10.0.0.0/8 -j MASQUERADE");
    assert_eq!(found(), 1);
}
