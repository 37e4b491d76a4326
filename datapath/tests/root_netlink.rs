//! Route netlink against the kernel, with `ip -j` as witness: what we set is what it shows, what it shows we read back, and
//! lenient requests find "already so" and "already gone".
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use ipnet::IpNet;
use spur_datapath::netlink::{
    AddressScope, AddressSpec, Errno, LinkChange, LinkEvent, LinkWatcher, NeighbourSpec, Netlink, Request,
    RouteSpec, RuleSpec, VethSpec,
};
use spur_datapath::netns::NetNs;
use spur_datapath::{IfName, MacAddr, Mark, RulePriority, TableId};
use support::TestNs;

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

const MAC_A: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 1]);
const MAC_B: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 2]);

fn pair(a: &TestNs, b: &TestNs) -> Netlink {
    let mut netlink = a.netlink();
    let spec = VethSpec {
        name: &name("inner0"),
        mac: Some(MAC_B),
        netns: Some(&b.ns),
        up: true,
        peer_name: &name("outer0"),
        peer_mac: Some(MAC_A),
        peer_netns: None,
        mtu_bytes: 9001,
        queues: 1,
    };
    netlink.create_veth(&spec).unwrap();
    netlink
}

#[test]
#[ignore = "needs root"]
fn a_veth_pair_is_born_in_two_namespaces_by_one_message() {
    let (a, b) = (TestNs::new("a"), TestNs::new("b"));
    let mut netlink = pair(&a, &b);
    netlink.set_link(&name("outer0"), &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    let outer = &a.ip_json("link show outer0")[0];
    assert_eq!(outer["address"], "02:00:00:00:00:01");
    assert_eq!(outer["mtu"], 9001);
    assert_eq!(outer["num_tx_queues"], 1);
    assert_eq!(outer["num_rx_queues"], 1);
    assert_eq!(outer["operstate"], "UP");
    let inner = &b.ip_json("link show inner0")[0];
    assert_eq!((&inner["address"], &inner["mtu"]), (&"02:00:00:00:00:02".into(), &9001.into()));
    assert_eq!(inner["num_tx_queues"], 1);
    let seen = b.netlink().link_by_mac(MAC_B).unwrap().unwrap();
    assert_eq!((seen.name.as_str(), seen.mtu_bytes, seen.up), ("inner0", 9001, true));
    assert_eq!(seen.kind.as_deref(), Some("veth"));
    assert_eq!(b.netlink().link_by_name(&name("nothing")).unwrap(), None);
    assert!(netlink.remove_link(&name("outer0")).unwrap());
    assert!(!netlink.remove_link(&name("outer0")).unwrap(), "already gone is a success");
    assert_eq!(b.netlink().link_by_name(&name("inner0")).unwrap(), None);
}

#[test]
#[ignore = "needs root"]
fn a_link_can_be_renamed_moved_and_given_another_mac_and_mtu() {
    let (a, b) = (TestNs::new("a"), TestNs::new("b"));
    let mut netlink = pair(&a, &b);
    let index = netlink.index_of(&name("outer0")).unwrap();
    let change = LinkChange {
        name: Some(&name("other0")),
        mac: Some(MacAddr::new([2, 0, 0, 0, 0, 9])),
        mtu_bytes: Some(1400),
        ..LinkChange::default()
    };
    netlink.set_link(index, &change).unwrap();
    let link = netlink.link_by_name(&name("other0")).unwrap().unwrap();
    assert_eq!((link.mtu_bytes, link.mac.unwrap().to_string()), (1400, "02:00:00:00:00:09".into()));
    netlink.set_link(index, &LinkChange { netns: Some(&b.ns), ..LinkChange::default() }).unwrap();
    assert!(b.netlink().link_by_name(&name("other0")).unwrap().is_some());
}

#[test]
#[ignore = "needs root"]
fn addresses_and_routes_round_trip() {
    let (a, b) = (TestNs::new("a"), TestNs::new("b"));
    let mut netlink = pair(&a, &b);
    let link = netlink.index_of(&name("outer0")).unwrap();
    netlink.set_link(link, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    let table = TableId::new(5001);

    let address = AddressSpec::new(link, net("10.0.1.5/24"));
    assert!(netlink.ensure_address(&address).unwrap());
    assert!(!netlink.ensure_address(&address).unwrap());
    let other = AddressSpec { scope: AddressScope::Host, ..AddressSpec::new(link, net("fd00::5/128")) };
    netlink.ensure_address(&other).unwrap();
    assert!(netlink.addresses().unwrap().contains(&address), "{:?}", netlink.addresses());
    assert_eq!(a.ip_json("route show table main"), serde_json::json!([]), "no route for the prefix");

    let mut routes = vec![
        RouteSpec::on_link(table, net("10.0.1.1/32"), link),
        RouteSpec::via(table, net("0.0.0.0/0"), "10.0.1.1".parse().unwrap(), link),
        RouteSpec::blackhole(table, net("10.9.0.0/16")),
    ];
    routes[0].source = Some("10.0.1.5".parse().unwrap());
    routes[1].onlink = true;
    for route in &routes {
        assert!(netlink.ensure_route(route).unwrap());
        assert!(!netlink.ensure_route(route).unwrap());
    }
    let mut seen = netlink.routes(Some(table)).unwrap();
    seen.sort();
    routes.sort();
    assert_eq!(seen, routes);
    let shown = a.ip_json("route show table 5001");
    assert_eq!(shown.as_array().unwrap().len(), 3, "{shown:#}");
    assert!(shown.as_array().unwrap().iter().all(|route| route["protocol"] == "83"), "{shown:#}");
    assert_eq!(netlink.routes(Some(TableId::new(4242))).unwrap(), [], "a table that was never used is empty");

    for route in &routes {
        assert!(netlink.remove_route(route).unwrap(), "{route:?}");
        assert!(!netlink.remove_route(route).unwrap());
    }
    assert!(netlink.remove_address(&address).unwrap() && !netlink.remove_address(&address).unwrap());
}

#[test]
#[ignore = "needs root"]
fn rules_and_neighbours_round_trip() {
    let (a, b) = (TestNs::new("a"), TestNs::new("b"));
    let mut netlink = pair(&a, &b);
    let link = netlink.index_of(&name("outer0")).unwrap();
    netlink.set_link(link, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    let table = TableId::new(5001);
    let rules = [
        RuleSpec::all(RulePriority::new(512), table),
        RuleSpec::marked(RulePriority::new(1101), Mark { value: 1, mask: 0x7f }, table),
        RuleSpec::marked(RulePriority::new(1102), Mark { value: 0, mask: 0x7f }, table),
        RuleSpec::from_source(RulePriority::new(1201), net("10.0.1.5/32"), table),
        RuleSpec::from_source(RulePriority::new(1202), net("0.0.0.0/32"), table),
        RuleSpec::from_interface(RulePriority::new(1301), name("outer0"), table),
    ];
    for rule in &rules {
        assert!(netlink.ensure_rule(rule).unwrap());
        assert!(!netlink.ensure_rule(rule).unwrap());
    }
    let seen: Vec<_> = netlink.rules().unwrap().into_iter().filter(|rule| rule.protocol == 83).collect();
    assert_eq!(seen, rules);
    assert!(
        a.ip_json("rule show").to_string().contains(r#""fwmark":"0x1","fwmask":"0x7f""#),
        "{}",
        a.ip("rule show")
    );

    let neighbours = [
        NeighbourSpec { link, address: "10.0.1.1".parse().unwrap(), mac: Some(MAC_B) },
        NeighbourSpec { link, address: "10.0.1.77".parse().unwrap(), mac: None },
    ];
    for neighbour in &neighbours {
        netlink.ensure_neighbour(neighbour).unwrap();
        netlink.ensure_neighbour(neighbour).unwrap();
        assert!(netlink.neighbours().unwrap().contains(neighbour), "{neighbour:?}");
    }

    for neighbour in &neighbours {
        assert!(
            netlink.remove_neighbour(neighbour).unwrap() && !netlink.remove_neighbour(neighbour).unwrap()
        );
    }
    for rule in &rules {
        assert!(netlink.remove_rule(rule).unwrap() && !netlink.remove_rule(rule).unwrap());
    }
}

#[test]
#[ignore = "needs root"]
fn a_refusal_names_what_was_wanted_and_what_the_kernel_said() {
    let (a, b) = (TestNs::new("a"), TestNs::new("b"));
    let mut netlink = pair(&a, &b);
    let link = netlink.index_of(&name("outer0")).unwrap();
    let route = RouteSpec::via(TableId::MAIN, net("0.0.0.0/0"), "10.7.7.7".parse().unwrap(), link);
    let error = netlink.replace_route(&route).unwrap_err();
    assert!(matches!(error.errno(), Some(Errno::NETDOWN | Errno::NETUNREACH)), "{error:?}");
    let text = error.to_string();
    assert!(text.starts_with("set route to 0.0.0.0/0 in table main via 10.7.7.7 on link"), "{text}");
    netlink.set_link(link, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    let error = netlink.replace_route(&route).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::NETUNREACH));
    assert!(error.to_string().contains("Nexthop has invalid gateway"), "{error}");
}

#[test]
#[ignore = "needs root"]
fn five_hundred_requests_in_one_call_are_all_answered_and_the_first_refusal_is_named() {
    let (a, b) = (TestNs::new("a"), TestNs::new("b"));
    let mut netlink = pair(&a, &b);
    let link = netlink.index_of(&name("outer0")).unwrap();
    netlink.set_link(link, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    let route = |n: u32| {
        let [_, _, c, d] = n.to_be_bytes();
        RouteSpec::on_link(TableId::new(5000), net(&format!("10.1.{c}.{d}/32")), link)
    };
    let mut requests: Vec<_> = (0..500).map(|n| Request::add_route(&route(n))).collect();
    requests.insert(300, Request::add_route(&route(7)));
    let error = netlink.run_all(requests).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EXIST));
    assert!(error.to_string().contains("10.1.0.7/32"), "{error}");
    assert_eq!(netlink.routes(Some(TableId::new(5000))).unwrap().len(), 500);
}

#[test]
#[ignore = "needs root"]
fn a_list_that_changes_while_it_is_read_is_still_whole() {
    let (a, b) = (TestNs::new("a"), TestNs::new("b"));
    let mut netlink = pair(&a, &b);
    let link = netlink.index_of(&name("outer0")).unwrap();
    netlink.set_link(link, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    let table = TableId::new(5000);
    let route = |n: u32| {
        RouteSpec::on_link(
            table,
            std::net::IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + n)).into(),
            link,
        )
    };
    netlink.run_all((0..2000).map(|n| Request::add_route(&route(n * 2))).collect()).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut churn = a.netlink();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                churn.ensure_route(&route(1001)).unwrap();
                churn.remove_route(&route(1001)).unwrap();
            }
        });
        for _ in 0..50 {
            let seen = netlink.routes(Some(table)).unwrap();
            let steady = seen.iter().filter(|seen| **seen != route(1001)).count();
            assert_eq!(steady, 2000);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(netlink.routes_on(table, link).unwrap().len(), 2000);
    let lo = netlink.index_of(&name("lo")).unwrap();
    assert_eq!(netlink.routes_on(table, lo).unwrap(), []);
}

#[test]
#[ignore = "needs root"]
fn a_hotplugged_link_is_reported_at_once_with_its_mac() {
    let (a, b) = (TestNs::new("a"), TestNs::new("b"));
    let mut watcher = LinkWatcher::open_in(&b.ns).unwrap();
    let mut netlink = pair(&a, &b);
    let mut seen = watcher.next_events().unwrap();
    while !seen.iter().any(|event| matches!(event, LinkEvent::Present(link) if link.mac == Some(MAC_B))) {
        seen = watcher.next_events().unwrap();
    }
    netlink.remove_link(&name("outer0")).unwrap();
    while !seen.iter().any(|event| matches!(event, LinkEvent::Gone(link) if link.mac == Some(MAC_B))) {
        seen = watcher.next_events().unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn named_namespaces_are_made_found_entered_and_removed() {
    let a = TestNs::new("a");
    let again = NetNs::open_named(&a.name).unwrap();
    assert!(again.is_same(&a.ns));
    assert!(!again.is_same(&NetNs::current().unwrap()));
    assert!(a.ns.run(|| NetNs::current().unwrap().is_same(&again)).unwrap());
    let taken = NetNs::create_pinned(&a.name).unwrap_err();
    assert!(taken.to_string().contains(&a.name), "{taken}");
    assert!(NetNs::delete_pinned(&a.name).unwrap());
    assert!(!NetNs::delete_pinned(&a.name).unwrap());
    assert!(NetNs::open_named(&a.name).unwrap_err().is_gone());
    assert!(
        NetNs::open("/proc/self/ns/mnt").unwrap_err().is_gone(),
        "a mount namespace is no network namespace"
    );
    assert!(NetNs::open("/proc/self/status").unwrap_err().is_gone(), "a plain file is no namespace");
}

#[test]
#[ignore = "needs root"]
fn sysctls_are_those_of_the_namespace() {
    use spur_datapath::sysctl::{self, SysctlKey};
    let a = TestNs::new("a");
    let key = SysctlKey::ipv4_conf(&name("lo"), "rp_filter");
    let missing = SysctlKey::ipv4_conf(&name("nothing0"), "rp_filter");
    sysctl::write(&a.ns, &[(key.clone(), "2".into())]).unwrap();
    assert_eq!(sysctl::read(&a.ns, &[key, missing.clone()]).unwrap(), [Some("2".to_owned()), None]);
    assert_eq!(a.exec("cat /proc/sys/net/ipv4/conf/lo/rp_filter").trim(), "2");
    let error = sysctl::write(&a.ns, &[(missing, "1".into())]).unwrap_err();
    assert!(error.to_string().contains("net/ipv4/conf/nothing0/rp_filter"), "{error}");
}

#[test]
#[ignore = "needs root"]
fn of_a_batch_each_refusal_is_told_at_its_place() {
    let a = TestNs::new("a");
    let mut netlink = a.netlink();
    let rule = |priority| RuleSpec::all(RulePriority::new(priority), TableId::new(5001));
    let batch = [512, 513, 512, 513, 514].map(|priority| Request::add_rule(&rule(priority)));
    let mut batch: Vec<_> = batch.into();
    batch[3] = batch[3].clone().or_exists();
    let done = netlink.run_each(batch).unwrap();
    assert!(matches!(done[..], [Ok(true), Ok(true), Err(_), Ok(false), Ok(true)]), "{done:?}");
    assert_eq!(done[2].as_ref().unwrap_err().errno(), Some(Errno::EXIST));
    // More than fit one chunk, and the last of a chunk is refused.
    let many: Vec<_> = (0..200).map(|number| Request::add_rule(&rule(600 + number % 64))).collect();
    let done = netlink.run_each(many).unwrap();
    assert!(done.iter().enumerate().all(|(at, done)| done.is_ok() == (at < 64)), "{done:?}");
}

#[test]
#[ignore = "needs root"]
fn a_visitor_of_a_namespace_is_home_again_on_every_path() {
    let a = TestNs::new("a");
    let home = NetNs::current().unwrap();
    let seen = a.ns.visit(&home, || NetNs::current().unwrap().id().unwrap()).unwrap();
    assert_eq!(seen, a.ns.id().unwrap());
    assert!(NetNs::current().unwrap().is_same(&home));
    let visit = || a.ns.visit(&home, || panic!("inside")).unwrap();
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(visit)).is_err());
    assert!(NetNs::current().unwrap().is_same(&home));
}
