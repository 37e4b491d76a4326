//! Pods wired to a node namespace, with real packets and with `ip -j` as witness: after removal the node is as before.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use spur_datapath::conntrack::Conntrack;
use spur_datapath::netlink::{Netlink, RouteSpec, RuleSpec};
use spur_datapath::pod::{self, PodError, PodRemoval, PodWiring, Removed, Step, every_step};
use spur_datapath::{IfName, layout, names};
use std::net::IpAddr;
use support::{TestNs, assert_same};

fn wiring(container: &str, pod: &str, address: &str) -> PodWiring {
    PodWiring {
        pod_name: "eth0".parse().unwrap(),
        pod_mac: names::pod_mac(container, "eth0"),
        host_name: names::host_veth_name(Some(("default", pod)), container, "eth0"),
        host_mac: names::host_mac(container, "eth0"),
        addresses: vec![address.parse().unwrap()],
        mtu_bytes: 9001,
        pods_table: layout::PODS_TABLE,
        node_address: "10.0.1.10".parse().unwrap(),
        queues: 1,
    }
}

/// A namespace with what a prepared node has: its address, forwarding, the rule to the pods' table.
fn node() -> (TestNs, Netlink) {
    let node = TestNs::new("node");
    let mut netlink = node.netlink();
    node.ip("addr add 10.0.1.10/32 dev lo");
    node.exec("sysctl -q -w net.ipv4.ip_forward=1");
    netlink.ensure_rule(&RuleSpec::all(layout::PODS_RULE, layout::PODS_TABLE)).unwrap();
    (node, netlink)
}

#[test]
#[ignore = "needs root"]
fn two_pods_ping_each_other_and_their_node_and_removal_leaves_nothing() {
    let (node, mut host) = node();
    let (a, b) = (TestNs::new("a"), TestNs::new("b"));
    let before = node.snapshot() + &a.snapshot();
    let (wa, wb) = (wiring("c1", "a", "10.0.2.7"), wiring("c2", "b", "10.0.3.8"));
    pod::add(&mut host, &a.ns, &wa, &mut every_step).unwrap();
    let wired = pod::add(&mut host, &b.ns, &wb, &mut every_step).unwrap();
    assert_eq!(host.index_of(&wb.host_name).unwrap(), wired.host_link);

    assert!(a.pings("10.0.3.8"), "pod to pod");
    assert!(b.pings("10.0.2.7"), "and back");
    assert!(a.pings("10.0.1.10"), "pod to node");
    assert!(node.pings("10.0.2.7"), "node to pod");
    let neighbours = a.ip_json("neigh show");
    assert_eq!(neighbours[0]["state"], serde_json::json!(["PERMANENT"]), "nobody sent ARP: {neighbours}");
    assert_eq!(neighbours.as_array().unwrap().len(), 1);
    let routes = a.ip_json("route show");
    assert_eq!(routes[0]["gateway"], "169.254.1.1");
    assert_eq!(routes[1]["dst"], "169.254.1.1");
    let shown = &node.ip_json("route show table 5000")[0];
    assert_eq!(
        (&shown["dst"], &shown["prefsrc"], &shown["protocol"]),
        (&"10.0.2.7".into(), &"10.0.1.10".into(), &"83".into())
    );
    for (ns, name, mac) in [(&a, &wa.pod_name, wa.pod_mac), (&node, &wa.host_name, wa.host_mac)] {
        let link = &ns.ip_json(&format!("link show {name}"))[0];
        assert_eq!((&link["address"], &link["mtu"]), (&mac.to_string().into(), &9001.into()));
        assert_eq!((&link["num_tx_queues"], &link["num_rx_queues"]), (&1.into(), &1.into()));
    }

    let removed = pod::remove(&mut host, &PodRemoval::of(&wa)).unwrap();
    assert_eq!(removed, Removed::Now { addresses: wa.addresses.clone() });
    assert!(b.pings_in_vain("10.0.2.7"));
    pod::remove(&mut host, &PodRemoval::of(&wb)).unwrap();
    assert_eq!(pod::remove(&mut host, &PodRemoval::of(&wa)).unwrap(), Removed::AlreadyGone);
    assert_same(&(node.snapshot() + &a.snapshot()), &before);
}

#[test]
#[ignore = "needs root"]
fn a_failure_at_any_step_leaves_node_and_pod_as_they_were() {
    for failing in Step::ALL {
        let (node, mut host) = node();
        let a = TestNs::new("a");
        let before = node.snapshot() + &a.snapshot();
        let failure = pod::add(&mut host, &a.ns, &wiring("c1", "a", "10.0.2.7"), &mut |step| step != failing)
            .unwrap_err();
        assert!(matches!(failure.error, PodError::Stopped(step) if step == failing), "{failure:?}");
        assert!(failure.undo.is_none(), "{failure:?}");
        assert_same(&(node.snapshot() + &a.snapshot()), &before);
    }
}

#[test]
#[ignore = "needs root"]
fn a_refusal_of_the_kernel_is_undone_and_named() {
    let (node, mut host) = node();
    let a = TestNs::new("a");
    let before = node.snapshot() + &a.snapshot();
    let mut bad = wiring("c1", "a", "10.0.2.7");
    bad.addresses.push("127.0.0.1".parse().unwrap());
    bad.addresses.push("10.0.2.7".parse().unwrap());
    let failure = pod::add(&mut host, &a.ns, &bad, &mut every_step).unwrap_err();
    let PodError::Wire { cause, .. } = &failure.error else { panic!("{failure:?}") };
    assert!(cause.to_string().starts_with("add "), "{cause}");
    assert_same(&(node.snapshot() + &a.snapshot()), &before);
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_the_pod_has_already_is_refused_and_untouched() {
    let (node, mut host) = node();
    let a = TestNs::new("a");
    let wiring = wiring("c1", "a", "10.0.2.7");
    pod::add(&mut host, &a.ns, &wiring, &mut every_step).unwrap();
    let before = node.snapshot() + &a.snapshot();
    for (container, pod) in [("c2", "a"), ("c2", "b")] {
        let other = self::wiring(container, pod, "10.0.2.8");
        let failure = pod::add(&mut host, &a.ns, &other, &mut every_step).unwrap_err();
        assert!(matches!(failure.error, PodError::InterfaceExists { .. }), "{failure:?}");
    }
    assert_same(&(node.snapshot() + &a.snapshot()), &before);
    let own = node.ns.run(|| {
        let own = spur_datapath::netns::NetNs::current().unwrap();
        pod::add(&mut host, &own, &wiring, &mut every_step).unwrap_err()
    });
    assert!(matches!(own.unwrap().error, PodError::HostNamespace { .. }));
}

#[test]
#[ignore = "needs root"]
fn a_new_sandbox_replaces_the_old_veth_and_the_late_removal_of_the_old_one_keeps_it() {
    let (node, mut host) = node();
    let (old, new) = (TestNs::new("old"), TestNs::new("new"));
    let first = wiring("c1", "web", "10.0.2.7");
    let second = wiring("c2", "web", "10.0.2.8");
    assert_eq!(first.host_name, second.host_name);
    pod::add(&mut host, &old.ns, &first, &mut every_step).unwrap();
    pod::add(&mut host, &new.ns, &second, &mut every_step).unwrap();
    assert!(old.netlink().link_by_name(&first.pod_name).unwrap().is_none(), "the old pair is gone");
    let removed = pod::remove(&mut host, &PodRemoval::of(&first)).unwrap();
    assert_eq!(removed, Removed::Newer { mac: Some(second.host_mac) });
    assert!(node.pings("10.0.2.8"));
    assert!(matches!(pod::remove(&mut host, &PodRemoval::of(&second)).unwrap(), Removed::Now { .. }));
}

#[test]
#[ignore = "needs root"]
fn a_detached_pod_is_unreachable_at_once_and_reaped_later_with_all_others() {
    let (node, mut host) = node();
    let (kept, mut pods) = (TestNs::new("kept"), Vec::new());
    pod::add(&mut host, &kept.ns, &wiring("kept", "kept", "10.0.9.9"), &mut every_step).unwrap();
    let before = node.snapshot();
    for number in 0..20_u8 {
        let pod = TestNs::new("p");
        let wiring = wiring(&format!("c{number}"), &format!("p{number}"), &format!("10.0.2.{number}"));
        pod::add(&mut host, &pod.ns, &wiring, &mut every_step).unwrap();
        pods.push((pod, wiring));
    }
    for (pod, wiring) in &pods {
        let removed = pod::detach(&mut host, &PodRemoval::of(wiring)).unwrap();
        assert_eq!(removed, Removed::Now { addresses: wiring.addresses.clone() });
        assert!(pod.netlink().link_by_name(&wiring.pod_name).unwrap().is_some(), "the pair is there");
        let again = pod::detach(&mut host, &PodRemoval::of(wiring)).unwrap();
        assert_eq!(again, Removed::Now { addresses: vec![] });
    }
    assert_eq!(node.ip_json("route show table 5000").as_array().unwrap().len(), 1);
    assert_eq!(node.ip_json("neigh show nud permanent").as_array().unwrap().len(), 1);
    assert_eq!(pod::links(&mut host).unwrap().len(), 1, "what is detached is not the agent's to sweep");
    // Somebody else's link under the same number is not deleted with ours.
    node.ip("link add other type bridge");
    node.ip("link set other group 5084");
    assert_eq!(pod::reap(&mut host).unwrap(), 20);
    node.ip("link del other");
    assert_same(&node.snapshot(), &before);
    assert_eq!(pod::reap(&mut host).unwrap(), 0);
    assert!(kept.pings("10.0.1.10"));
}

#[test]
#[ignore = "needs root"]
fn fifty_detached_pods_are_reaped_in_hardly_more_time_than_one() {
    let (_node, mut host) = node();
    let mut reap_of = |count: u8| {
        let pods: Vec<_> = (0..count).map(|_| TestNs::new("p")).collect();
        for (number, pod) in pods.iter().enumerate() {
            let wiring = wiring(&format!("c{number}"), &format!("p{number}"), &format!("10.0.2.{number}"));
            pod::add(&mut host, &pod.ns, &wiring, &mut every_step).unwrap();
            pod::detach(&mut host, &PodRemoval::of(&wiring)).unwrap();
        }
        let started = std::time::Instant::now();
        assert_eq!(pod::reap(&mut host).unwrap(), usize::from(count));
        started.elapsed()
    };
    // The best of three each: how long the machine stands still meanwhile is not the kernel's work.
    let mut best_of = |count| (0..3).map(|_| reap_of(count)).min().unwrap();
    let (one, fifty) = (best_of(1), best_of(50));
    assert!(fifty < one * 15, "one took {one:?}, fifty took {fifty:?}");
}

#[test]
#[ignore = "needs root"]
fn an_add_into_a_namespace_with_a_detached_pair_replaces_it() {
    let (node, mut host) = node();
    let a = TestNs::new("a");
    let before = node.snapshot() + &a.snapshot();
    let first = wiring("c1", "a", "10.0.2.7");
    // The same container again, a new container in the same namespace, another pod in it.
    for next in [wiring("c1", "a", "10.0.2.8"), wiring("c2", "a", "10.0.2.8"), wiring("c2", "b", "10.0.2.8")]
    {
        pod::add(&mut host, &a.ns, &first, &mut every_step).unwrap();
        pod::detach(&mut host, &PodRemoval::of(&first)).unwrap();
        pod::add(&mut host, &a.ns, &next, &mut every_step).unwrap();
        assert!(a.pings("10.0.1.10"));
        assert_eq!(pod::reap(&mut host).unwrap(), 0, "nothing of the first is left");
        pod::remove(&mut host, &PodRemoval::of(&next)).unwrap();
        assert_same(&(node.snapshot() + &a.snapshot()), &before);
    }
}

#[test]
#[ignore = "needs root"]
fn what_is_swept_loses_its_route_and_is_reaped() {
    let (node, mut host) = node();
    let a = TestNs::new("a");
    let before = node.snapshot();
    let wiring = wiring("c1", "a", "10.0.2.7");
    pod::add(&mut host, &a.ns, &wiring, &mut every_step).unwrap();
    node.ip("link add eniforeign type veth peer name other");
    let links = pod::links(&mut host).unwrap();
    assert_eq!(links.iter().map(|link| link.mac).collect::<Vec<_>>(), [Some(wiring.host_mac)]);
    pod::mark(&mut host, &links).unwrap();
    assert_eq!(node.ip_json("route show table 5000"), serde_json::json!([]));
    assert_eq!(pod::reap(&mut host).unwrap(), 1);
    node.ip("link del eniforeign");
    assert_same(&node.snapshot(), &before);
}

#[test]
#[ignore = "needs root"]
fn something_else_under_the_host_name_is_not_replaced() {
    let (node, mut host) = node();
    let a = TestNs::new("a");
    let wiring = wiring("c1", "a", "10.0.2.7");
    node.ip(&format!("link add {} type bridge", wiring.host_name));
    let failure = pod::add(&mut host, &a.ns, &wiring, &mut every_step).unwrap_err();
    assert!(matches!(failure.error, PodError::HostNameTaken { .. }), "{failure:?}");
}

#[test]
#[ignore = "needs root"]
fn a_dual_stack_pod_is_reachable_by_both_families() {
    let (node, mut host) = node();
    let a = TestNs::new("a");
    node.exec("sysctl -q -w net.ipv6.conf.all.forwarding=1");
    let mut wiring = wiring("c1", "a", "10.0.2.7");
    wiring.addresses.push("fd00::7".parse().unwrap());
    let mut rule = RuleSpec::all(layout::PODS_RULE, layout::PODS_TABLE);
    rule.ipv6 = true;
    host.ensure_rule(&rule).unwrap();
    node.ip("-6 addr add fd00::1/128 dev lo nodad");
    pod::add(&mut host, &a.ns, &wiring, &mut every_step).unwrap();
    assert!(a.pings("10.0.1.10"), "IPv4");
    // The kernel makes an IPv6 address usable from a work queue, a moment after the answer to the request.
    assert!((0..5).any(|_| !a.pings_in_vain("fd00::1")), "IPv6");
    pod::remove(&mut host, &PodRemoval::of(&wiring)).unwrap();
}

#[test]
#[ignore = "needs root"]
fn conntrack_entries_of_an_address_are_deleted_and_others_stay() {
    let (node, mut host) = node();
    let pods: Vec<TestNs> = (0..3).map(|_| TestNs::new("p")).collect();
    for (number, pod) in pods.iter().enumerate() {
        let wiring = wiring(&format!("c{number}"), &format!("p{number}"), &format!("10.0.2.{number}"));
        pod::add(&mut host, &pod.ns, &wiring, &mut every_step).unwrap();
    }
    node.exec("nft add table ip t");
    node.exec("nft add chain ip t c { type filter hook forward priority 0 ; }");
    node.exec("nft add rule ip t c ct state new counter");
    assert!(pods[0].pings("10.0.2.1") && pods[2].pings("10.0.2.1") && pods[2].pings("10.0.2.0"));
    let entries = |address: &str| {
        let table = node.exec("cat /proc/net/nf_conntrack");
        table.lines().filter(|line| line.contains(&format!("={address} "))).count()
    };
    assert!(
        entries("10.0.2.0") >= 2 && entries("10.0.2.1") >= 2,
        "{}",
        node.exec("cat /proc/net/nf_conntrack")
    );
    let gone: IpAddr = "10.0.2.0".parse().unwrap();
    Conntrack::open_in(&node.ns).unwrap().delete_addresses(&[gone]).unwrap();
    assert_eq!(entries("10.0.2.0"), 0);
    assert!(entries("10.0.2.1") >= 1);
    let route = RouteSpec::on_link(
        layout::PODS_TABLE,
        gone.into(),
        host.index_of(&"lo".parse::<IfName>().unwrap()).unwrap(),
    );
    assert!(!host.remove_route(&route).unwrap(), "a route on another link is not the pod's");
}

#[test]
#[ignore = "needs root"]
fn conntrack_entries_that_were_translated_to_an_address_are_deleted_too() {
    let (node, mut host) = node();
    let pods: Vec<TestNs> = (0..2).map(|_| TestNs::new("p")).collect();
    for (number, pod) in pods.iter().enumerate() {
        let wiring = wiring(&format!("c{number}"), &format!("p{number}"), &format!("10.0.2.{number}"));
        pod::add(&mut host, &pod.ns, &wiring, &mut every_step).unwrap();
    }
    node.exec("nft add table ip t");
    node.exec("nft add chain ip t c { type nat hook prerouting priority dstnat ; }");
    node.exec("nft add rule ip t c ip daddr 192.0.2.1 dnat to 10.0.2.0");
    assert!(pods[1].pings("192.0.2.1"));
    let table = || node.exec("cat /proc/net/nf_conntrack");
    assert!(table().contains("dst=192.0.2.1 ") && table().contains("src=10.0.2.0 "), "{}", table());
    Conntrack::open_in(&node.ns).unwrap().delete_addresses(&["10.0.2.0".parse().unwrap()]).unwrap();
    assert!(!table().contains("src=10.0.2.0 "), "{}", table());
}

#[test]
#[ignore = "needs root"]
fn thirty_pods_at_once_come_and_go_and_leave_nothing() {
    let (node, _) = node();
    let before = node.snapshot();
    std::thread::scope(|scope| {
        for number in 0..30 {
            let node = &node;
            scope.spawn(move || {
                let pod = TestNs::new("p");
                let wiring =
                    wiring(&format!("c{number}"), &format!("p{number}"), &format!("10.0.2.{number}"));
                pod::add(&mut node.netlink(), &pod.ns, &wiring, &mut every_step).unwrap();
                assert!(pod.pings("10.0.1.10"), "pod {number}");
                let removed = pod::remove(&mut node.netlink(), &PodRemoval::of(&wiring)).unwrap();
                assert_eq!(removed, Removed::Now { addresses: wiring.addresses });
            });
        }
    });
    assert_same(&node.snapshot(), &before);
}
