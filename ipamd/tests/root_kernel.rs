//! The real kernel behind the agent, in a network namespace of the test's own, with iproute2 and nftables as witnesses: prepared
//! once, repaired after others changed it, quiet otherwise.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail their test")]

use spur_datapath::MacAddr;
use spur_datapath::layout::{EniOrdinal, PODS_TABLE};
use spur_datapath::names::{host_mac, pod_mac};
use spur_datapath::netlink::{Netlink, RouteSpec, VethSpec};
use spur_datapath::netns::NetNs;
use spur_datapath::node::{NatWanted, NodeWanted, PortRange, PrimaryEni, SecondaryEni};
use spur_ipamd::agent::kernel::{Kernel, NodeKernel, WiredPod};
use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

struct Node {
    name: String,
    ns: NetNs,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = NetNs::delete_pinned(&self.name);
    }
}

impl Node {
    fn new(test: &str) -> Self {
        let name = format!("spur-ipamd-{test}-{}", std::process::id());
        let ns = NetNs::create_pinned(&name).expect("this test needs root");
        Self { name, ns }
    }

    fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        self.ns.run(inside).unwrap()
    }

    /// A program in the namespace.
    fn sh(&self, words: &str) -> String {
        let output =
            Command::new("ip").args(["netns", "exec", &self.name, "sh", "-c", words]).output().unwrap();
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A link as an attached ENI makes it appear.
    fn plug(&self, link: &str, mac: MacAddr) {
        self.sh(&format!(
            "ip link add {link} address {mac} mtu 9001 type veth peer name {link}-vpc mtu 9001 && \
             ip link set {link}-vpc up && ip link set {link} up"
        ));
    }
}

fn mac(last: u8) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 7, last])
}

fn wanted() -> NodeWanted {
    NodeWanted {
        primary: PrimaryEni { mac: mac(0), address: [10, 0, 1, 10].into() },
        secondaries: vec![SecondaryEni {
            ordinal: EniOrdinal::new(1).unwrap(),
            mac: mac(1),
            address: "10.0.1.20/24".parse().unwrap(),
            gateway: [10, 0, 1, 1].into(),
            pod_addresses: vec!["10.0.1.30/32".parse().unwrap()],
            mtu_bytes: None,
        }],
        nat: NatWanted {
            local: vec!["10.0.1.30/32".parse().unwrap()],
            never: vec!["10.0.0.0/16".parse().unwrap()],
            force: Vec::new(),
            ports: PortRange::default(),
            v6: spur_datapath::node::Nat6Wanted::default(),
        },
        block_instance_metadata: false,
    }
}

#[test]
#[ignore = "needs root"]
fn the_node_is_prepared_once_and_repaired_when_others_change_it() {
    let node = Node::new("repair");
    node.plug("eth0", mac(0));
    node.sh("ip addr add 10.0.1.10/24 dev eth0");
    let kernel = node.run(|| {
        // The sockets are opened by the first use, in this namespace, and stay there.
        let kernel = NodeKernel::new();
        let first = kernel.converge(&wanted()).unwrap();
        assert_eq!(first.ready, [mac(0)].into(), "the secondary has no link yet");
        assert_eq!(first.primary_mtu_bytes, 9001);
        assert!(!first.changes.is_empty());
        kernel
    });
    node.plug("eth1", mac(1));
    assert_eq!(kernel.converge(&wanted()).unwrap().ready, [mac(0), mac(1)].into());
    assert_eq!(kernel.converge(&wanted()).unwrap().changes, [] as [String; 0], "nothing left to do");
    assert!(node.sh("ip -4 route show table 5001").contains("default via 10.0.1.1 dev eth1"));
    for harm in
        ["nft flush ruleset", "ip rule del pref 512", "ip route flush table 5001", "ip link set eth1 down"]
    {
        node.sh(harm);
        let repaired = kernel.converge(&wanted()).unwrap();
        assert!(!repaired.changes.is_empty(), "{harm}: not noticed");
        assert_eq!(kernel.converge(&wanted()).unwrap().changes, [] as [String; 0], "{harm}");
    }
    assert!(node.sh("ip rule").contains("512:"));
    assert!(node.sh("nft list table ip spur").contains("10.0.1.30"));
}

#[test]
#[ignore = "needs root"]
fn wired_pods_are_found_and_told_by_their_hardware_address() {
    let node = Node::new("pods");
    let name: spur_datapath::IfName = "eni00000000abc".parse().unwrap();
    let found = node.run(|| {
        let mut netlink = Netlink::open().unwrap();
        let peer: spur_datapath::IfName = "peer".parse().unwrap();
        let spec = VethSpec {
            name: &name,
            mac: Some(host_mac("c1", "eth0")),
            netns: None,
            up: true,
            peer_name: &peer,
            peer_mac: Some(pod_mac("c1", "eth0")),
            peer_netns: None,
            mtu_bytes: 9001,
            queues: 1,
        };
        netlink.create_veth(&spec).unwrap();
        let link = netlink.link_by_name(&name).unwrap().unwrap();
        let route = RouteSpec::on_link(PODS_TABLE, "10.0.1.30/32".parse().unwrap(), link.index);
        netlink.ensure_route(&route).unwrap();
        NodeKernel::new().wired_pods().unwrap()
    });
    let host_if_name = name.to_string();
    let address = [10, 0, 1, 30].into();
    assert_eq!(found, [WiredPod { address, host_mac: host_mac("c1", "eth0"), host_if_name }]);
}

#[test]
#[ignore = "needs root"]
fn a_hotplugged_eni_is_noticed_at_once_and_a_pod_is_not() {
    let node = Node::new("hotplug");
    let (changed, seen) = mpsc::channel();
    node.run(|| NodeKernel::new().watch_links(move || changed.send(()).is_ok()).unwrap());
    node.sh("ip link add eni12345678901 type veth peer name eni12345678902");
    assert!(seen.recv_timeout(Duration::from_millis(300)).is_err(), "a pod's veth is no ENI");
    node.plug("eth3", mac(3));
    seen.recv_timeout(Duration::from_secs(20)).expect("a hotplugged link");
}

#[test]
#[ignore = "needs root"]
fn flows_of_an_address_are_forgotten_without_complaint() {
    let node = Node::new("flows");
    node.run(|| NodeKernel::new().forget_flows(&[[10, 0, 1, 30].into()]).unwrap());
}

#[test]
#[ignore = "needs root"]
fn an_address_that_somebody_still_sends_to_is_busy_until_its_flows_are_forgotten() {
    let node = Node::new("busy");
    node.sh("nft add table ip track");
    node.sh("nft add chain ip track out '{ type filter hook output priority 0; }'");
    node.sh("nft add rule ip track out ct state new counter");
    node.sh("ip link set lo up");
    node.sh("ip address add 10.0.1.30/32 dev lo");
    let [dead, quiet]: [IpAddr; 2] = [[10, 0, 1, 30].into(), [10, 0, 1, 31].into()];
    let both = BTreeSet::from([dead, quiet]);
    node.run(|| UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"still there?", (dead, 9)).unwrap());
    let busy = || node.run(|| NodeKernel::new().busy_flows(&both).unwrap());
    assert_eq!(busy(), BTreeSet::from([dead]));
    node.run(|| NodeKernel::new().forget_flows(&[dead]).unwrap());
    assert_eq!(busy(), BTreeSet::new());
}
