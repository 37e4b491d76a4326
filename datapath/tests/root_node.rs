//! A prepared node with two ENIs, two pods and a router that drops what a VPC drops: by real packets, by what the receiver
//! sees, and with `ip` and `nft` as witnesses.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use spur_datapath::layout::EniOrdinal;
use spur_datapath::netlink::RouteSpec;
use spur_datapath::node::{NodePlan, SecondaryEni};
use spur_datapath::pod::{self, PodRemoval};
use spur_datapath::{MacAddr, TableId};
use std::net::UdpSocket;
use support::world::{
    POD_A, POD_B, POD_C, assert_nothing_left_by_the_wrong_eni, net, plug, wanted, wiring, world,
};
use support::{PATIENCE, TestNs, assert_same};

#[test]
#[ignore = "needs root"]
fn pods_are_seen_with_their_own_address_in_the_vpc_and_with_the_nodes_outside() {
    let mut world = world();
    world.settle(&wanted());
    world.add_pods();
    for (pod, own) in [POD_A, POD_B, POD_C].iter().enumerate() {
        let seen = world.source_seen(pod, "10.0.9.9").unwrap();
        assert_eq!(seen.ip().to_string(), *own, "in the VPC");
    }
    for pod in [0, 1] {
        let outside = world.source_seen(pod, "198.51.100.9").unwrap();
        assert_eq!(outside.ip().to_string(), "10.0.0.10", "outside");
        assert!((40_000..=50_000).contains(&outside.port()), "{outside}");
        let forced = world.source_seen(pod, "10.0.9.53").unwrap();
        assert_eq!(forced.ip().to_string(), "10.0.0.10", "forced although the VPC's");
    }
    assert_eq!(world.source_seen(2, "198.51.100.9").unwrap().ip().to_string(), POD_C, "without translation");
    assert!(world.pods[1].pings("198.51.100.9"), "a protocol without ports");
    assert!(world.pods[0].pings(POD_B), "pod to pod on the node");
    assert!(world.router.pings(POD_A) && world.router.pings(POD_B), "from outside to a pod");
    assert!(world.pods[1].pings("10.0.0.10"), "pod to its node");
    assert!(world.node.pings(POD_B), "node to pod");
    assert_nothing_left_by_the_wrong_eni(&world);
}

#[test]
#[ignore = "needs root"]
fn a_flow_that_came_to_the_pod_from_outside_goes_back_untranslated_through_its_own_eni() {
    let mut world = world();
    world.settle(&wanted());
    world.add_pods();
    let pod = world.pods[1].ns.run(|| UdpSocket::bind("0.0.0.0:7777")).unwrap().unwrap();
    let client = world.router.ns.run(|| UdpSocket::bind("198.51.100.9:0")).unwrap().unwrap();
    for socket in [&pod, &client] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    client.send_to(b"ping", format!("{POD_B}:7777")).unwrap();
    let (_, from) = pod.recv_from(&mut [0; 8]).unwrap();
    pod.send_to(b"pong", from).unwrap();
    let (_, seen) = client.recv_from(&mut [0; 8]).unwrap();
    assert_eq!(seen.to_string(), format!("{POD_B}:7777"));
}

#[test]
#[ignore = "needs root"]
fn the_table_is_what_operators_read() {
    let mut world = world();
    world.settle(&wanted());
    let text = world.node.exec("nft -n list table ip spur");
    let digest = |line: &str| line.split(" #").next().unwrap().trim().to_owned();
    let shown: Vec<String> = text.lines().map(digest).collect();
    assert_eq!(shown.join("\n").trim(), include_str!("golden/node.nft").trim(), "{text}");
}

#[test]
#[ignore = "needs root"]
fn what_operators_save_is_what_nft_reads_when_the_machine_boots() {
    let mut world = world();
    world.settle(&wanted());
    let saved = world.node.exec("nft list ruleset");
    let restored = TestNs::new("restored");
    let file = std::env::temp_dir().join(format!("{}.nft", restored.name));
    std::fs::write(&file, &saved).unwrap();
    let (read, said) = restored.try_exec(&format!("nft -f {}", file.display()));
    std::fs::remove_file(&file).unwrap();
    assert!(read, "{said}");
    assert_eq!(restored.exec("nft list ruleset"), saved);
}

#[test]
#[ignore = "needs root"]
fn whatever_is_taken_away_comes_back_and_removal_leaves_the_node_as_it_was() {
    let mut world = world();
    world.node.ip("rule add priority 700 from 10.9.9.9 lookup 77");
    // Links are set up once and stay so.
    world.node.ip("link set eth1 up");
    let before = world.node.snapshot();
    world.settle(&wanted());
    let settled = world.node.snapshot();
    let damages = [
        "ip rule del priority 512",
        "ip rule del priority 1101",
        "ip route flush table 5001",
        "ip addr flush dev eth1",
        "ip link set eth1 down",
        "ip link set eth1 mtu 1500",
        "nft flush ruleset",
        "nft flush chain ip spur postrouting",
        "nft add table ip spur { flags dormant ; }",
        "sysctl -q -w net.ipv4.ip_forward=0",
        "sysctl -q -w net.ipv4.conf.eth1.rp_filter=1",
        "sysctl -q -w net.ipv4.conf.eth1.forwarding=0",
        "sysctl -q -w net.ipv4.conf.default.forwarding=0",
    ];
    for damage in damages {
        world.node.exec(damage);
        let plan = world.settle(&wanted());
        assert!(!plan.changes.is_empty(), "{damage}");
        assert!(plan.changes.len() < 9, "{damage}: only what is missing is repaired: {plan:#?}");
    }
    assert_eq!(
        world.node.ip_json("rule show"),
        serde_json::from_str::<serde_json::Value>(&section(&settled, "rule show")).unwrap()
    );
    let removal = NodePlan::removal(&world.kernel.observe().unwrap());
    assert!(world.kernel.apply(&removal).is_empty());
    assert_same(&world.node.snapshot(), &before);
    assert!(NodePlan::removal(&world.kernel.observe().unwrap()).changes.is_empty());
}

fn section(snapshot: &str, name: &str) -> String {
    let start = snapshot.find(&format!("{name}: ")).unwrap() + name.len() + 2;
    let rest = &snapshot[start..];
    rest[..rest.find("\n]").map_or(rest.len(), |end| end + 2)].to_owned()
}

#[test]
#[ignore = "needs root"]
fn an_eni_that_appears_later_and_goes_again_is_prepared_and_forgotten() {
    let mut world = world();
    world.settle(&wanted());
    let mut more = wanted();
    let mac = MacAddr::new([2, 0, 0, 0, 1, 2]);
    more.secondaries.push(SecondaryEni {
        ordinal: EniOrdinal::new(2).unwrap(),
        mac,
        address: net("10.0.2.10/24"),
        gateway: "10.0.2.1".parse().unwrap(),
        pod_addresses: vec![net("10.0.2.20/32")],
        mtu_bytes: None,
    });
    let before = world.node.snapshot();
    let plan = NodePlan::new(&world.kernel.observe().unwrap(), &more);
    assert_eq!((plan.missing.as_slice(), plan.changes.len()), (&[mac][..], 0));
    plug(&world.router, &world.node, "eth2", mac, 2);
    world.settle(&more);
    assert!(world.node.exec("nft list map ip spur eni_of").contains("10.0.2.20 : goto eni-2"));
    let route = RouteSpec::via(TableId::new(5002), net("0.0.0.0/0").into(), "10.0.2.1".parse().unwrap(), {
        world.node.netlink().index_of(&"eth2".parse().unwrap()).unwrap()
    });
    let routes = world.node.netlink().routes(Some(TableId::new(5002))).unwrap();
    assert!(routes.contains(&RouteSpec { onlink: true, ..route }), "{routes:?}");
    world.router.ip("link del to-eth2");
    let plan = world.settle(&wanted());
    assert_eq!(
        plan.changes.iter().map(|change| change.action.kind()).collect::<Vec<_>>(),
        ["nft", "rule", "rule"]
    );
    assert_same(&world.node.snapshot(), &before);
}

#[test]
#[ignore = "needs root"]
fn pods_wired_before_and_after_a_replan_keep_working_and_are_not_touched() {
    let mut world = world();
    world.settle(&wanted());
    world.add_pods();
    let plan = NodePlan::new(&world.kernel.observe().unwrap(), &wanted());
    assert!(plan.is_in_sync(), "{plan:?}");
    world.node.exec("nft delete table ip spur");
    world.settle(&wanted());
    assert!(world.router.pings(POD_B));
    for pod in [POD_A, POD_B, POD_C] {
        pod::remove(&mut world.node.netlink(), &PodRemoval::of(&wiring(pod))).unwrap();
    }
    assert_eq!(world.node.ip_json("route show table 5000"), serde_json::json!([]));
}
