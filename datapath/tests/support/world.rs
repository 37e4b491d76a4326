//! A prepared node with two ENIs, up to three pods, and a router that drops what a VPC drops.

use super::{PATIENCE, TestNs};
use ipnet::Ipv4Net;
use spur_datapath::layout::{self, EniOrdinal};
use spur_datapath::netlink::{LinkChange, VethSpec};
use spur_datapath::node::{NatWanted, NodeKernel, NodePlan, NodeWanted, PortRange, PrimaryEni, SecondaryEni};
use spur_datapath::pod::{self, PodWiring, every_step};
use spur_datapath::{MacAddr, names};
use std::net::{SocketAddr, UdpSocket};

pub(crate) const PRIMARY_MAC: MacAddr = MacAddr::new([2, 0, 0, 0, 1, 0]);
pub(crate) const SECONDARY_MAC: MacAddr = MacAddr::new([2, 0, 0, 0, 1, 1]);
/// On the primary ENI, with outgoing translation.
pub(crate) const POD_A: &str = "10.0.0.20";
/// On the secondary ENI, with outgoing translation.
pub(crate) const POD_B: &str = "10.0.1.20";
/// On the secondary ENI, without.
pub(crate) const POD_C: &str = "10.0.1.21";

pub(crate) fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

/// A router with an address in the VPC (10.0.9.9), one outside (198.51.100.9), and an interface to each ENI of the node. Like a
/// VPC it drops source addresses that are not the ENI's.
pub(crate) struct World {
    pub(crate) router: TestNs,
    pub(crate) node: TestNs,
    pub(crate) pods: Vec<TestNs>,
    pub(crate) kernel: NodeKernel,
}

pub(crate) fn wanted() -> NodeWanted {
    NodeWanted {
        primary: PrimaryEni { mac: PRIMARY_MAC, address: "10.0.0.10".parse().unwrap() },
        secondaries: vec![SecondaryEni {
            ordinal: EniOrdinal::new(1).unwrap(),
            mac: SECONDARY_MAC,
            address: net("10.0.1.10/24"),
            gateway: "10.0.1.1".parse().unwrap(),
            pod_addresses: vec![net("10.0.1.20/31")],
            mtu_bytes: Some(9001),
        }],
        nat: NatWanted {
            local: vec![net("10.0.0.20/32"), net("10.0.1.20/32")],
            never: vec![net("10.0.0.0/16"), net("10.0.9.0/24")],
            force: vec![net("10.0.9.53/32")],
            ports: PortRange::new(40_000, 50_000).unwrap(),
            v6: spur_datapath::node::Nat6Wanted::default(),
        },
        block_instance_metadata: false,
    }
}

pub(crate) fn plug(router: &TestNs, node: &TestNs, name: &str, mac: MacAddr, subnet: u8) {
    let router_side = format!("to-{name}");
    let spec = VethSpec {
        name: &name.parse().unwrap(),
        mac: Some(mac),
        netns: Some(&node.ns),
        up: false,
        peer_name: &router_side.parse().unwrap(),
        peer_mac: Some(MacAddr::new([2, 0, 0, 0, 0, 0xfe])),
        peer_netns: None,
        mtu_bytes: 9001,
        queues: 1,
    };
    let mut netlink = router.netlink();
    netlink.create_veth(&spec).unwrap();
    let link = netlink.index_of(&router_side.parse().unwrap()).unwrap();
    netlink.set_link(link, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    router.ip(&format!("addr add 10.0.{subnet}.1/24 dev {router_side}"));
    // Anti-spoof: only the subnet's own addresses come in by its interface.
    router.exec(&format!(
        "nft add rule ip vpc raw iifname {router_side} ip saddr != 10.0.{subnet}.0/24 counter drop"
    ));
}

pub(crate) fn world() -> World {
    let (router, node) = (TestNs::new("router"), TestNs::new("node"));
    router.exec("sysctl -q -w net.ipv4.ip_forward=1");
    for address in ["10.0.9.9/32", "10.0.9.53/32", "198.51.100.9/32"] {
        router.ip(&format!("addr add {address} dev lo"));
    }
    router.exec("nft add table ip vpc");
    router.exec("nft add chain ip vpc raw { type filter hook prerouting priority raw ; }");
    plug(&router, &node, "eth0", PRIMARY_MAC, 0);
    plug(&router, &node, "eth1", SECONDARY_MAC, 1);
    node.ip("link set eth0 up");
    node.ip("addr add 10.0.0.10/24 dev eth0");
    node.ip("route add default via 10.0.0.1 dev eth0");
    // The routers of a VPC know each address; here they ask, and the node answers for its pods on the primary ENI.
    router.ip(&format!("neigh add {POD_A} lladdr {PRIMARY_MAC} dev to-eth0 nud permanent"));
    for pod in [POD_B, POD_C] {
        router.ip(&format!("neigh add {pod} lladdr {SECONDARY_MAC} dev to-eth1 nud permanent"));
    }
    let kernel = NodeKernel::open_in(spur_datapath::netns::NetNs::open_named(&node.name).unwrap()).unwrap();
    World { router, node, pods: Vec::new(), kernel }
}

/// The VPC dropped nothing because of its source.
#[track_caller]
pub(crate) fn assert_nothing_left_by_the_wrong_eni(world: &World) {
    let rules = world.router.exec("nft list table ip vpc");
    let dropped: Vec<_> = rules
        .lines()
        .filter(|line| line.contains("counter") && !line.contains("counter packets 0 "))
        .collect();
    assert!(dropped.is_empty(), "{dropped:?}");
}

pub(crate) fn wiring(address: &str) -> PodWiring {
    PodWiring {
        pod_name: "eth0".parse().unwrap(),
        pod_mac: names::pod_mac(address, "eth0"),
        host_name: names::host_veth_name(Some(("default", address)), address, "eth0"),
        host_mac: names::host_mac(address, "eth0"),
        addresses: vec![address.parse().unwrap()],
        mtu_bytes: 9001,
        pods_table: layout::PODS_TABLE,
        node_address: "10.0.0.10".parse().unwrap(),
        queues: 1,
    }
}

impl World {
    pub(crate) fn settle(&mut self, wanted: &NodeWanted) -> NodePlan {
        let plan = NodePlan::new(&self.kernel.observe().unwrap(), wanted);
        let failures = self.kernel.apply(&plan);
        assert!(failures.is_empty(), "{failures:?}");
        let again = NodePlan::new(&self.kernel.observe().unwrap(), wanted);
        assert!(again.is_in_sync(), "planned again after it was applied: {again:#?}");
        // The router's ends have got their carrier just now, and drop what they are to send until the kernel's link watch has seen that.
        // Reading a link, one by one, makes it look at once.
        let mut router = self.router.netlink();
        for link in router.links().unwrap() {
            router.link_by_name(&link.name).unwrap();
        }
        plan
    }

    pub(crate) fn add_pods(&mut self) {
        for address in [POD_A, POD_B, POD_C] {
            let pod = TestNs::new("pod");
            pod::add(&mut self.node.netlink(), &pod.ns, &wiring(address), &mut every_step).unwrap();
            self.pods.push(pod);
        }
    }

    /// Sends a datagram from a pod; the source that the receiver in the router sees, after it has answered and the pod has got that.
    pub(crate) fn source_seen(&self, pod: usize, target: &str) -> Option<SocketAddr> {
        let bind = |ns: &TestNs, address: &str| {
            let socket = ns.ns.run(|| UdpSocket::bind(address)).unwrap().unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let (server, client) =
            (bind(&self.router, &format!("{target}:0")), bind(&self.pods[pod], "0.0.0.0:0"));
        client.send_to(b"ping", server.local_addr().unwrap()).unwrap();
        let (_, seen) = server.recv_from(&mut [0; 8]).ok()?;
        server.send_to(b"pong", seen).unwrap();
        client.recv_from(&mut [0; 8]).expect("the answer finds its way back to the pod");
        Some(seen)
    }
}
