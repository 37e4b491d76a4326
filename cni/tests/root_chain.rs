//! Spur first and Debian's reference plugins behind it, in one conflist, called as libcni calls them (C20, C24, C39, C43, C65). What each plugin has done is
//! looked at with `ip`, `tc`, `iptables` and real connections, after ADD and after DEL.
//!
//! Debian 12 has containernetworking-plugins 1.1.1, which speak 0.4.0 and 1.0.0 and not 1.1.0; `portmap` and `firewall` execute iptables.
#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod chain;
mod common;
mod node;

use chain::{Chain, attachment, see, words};
use node::Namespace;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use testbed_libcni::{Attachment, LibcniError};

const HOST_PORT: u16 = 8080;
const POD_PORT: u16 = 80;
const TUNED_MTU: u32 = 1400;

/// One of Debian's plugins: what it is configured with and what the runtime gives it.
struct Other {
    name: &'static str,
    /// Of the versions since 0.3.0.
    speaks: &'static [&'static str],
    conf: fn(&Chain) -> Value,
    args: fn() -> Value,
    /// Fails when what the plugin does is not to be seen.
    assert_done: fn(&Chain, &Namespace, &Value),
    /// Fails when something is left of it.
    assert_undone: fn(&Chain, &str),
}

const OTHERS: [Other; 5] = [
    Other {
        name: "bandwidth",
        speaks: &["0.3.0", "0.3.1", "0.4.0", "1.0.0"],
        conf: |_| json!({"type": "bandwidth", "capabilities": {"bandwidth": true}}),
        args: || {
            let (rate, burst) = (80_000_000, 8_000_000);
            json!({"bandwidth": {"ingressRate": rate, "ingressBurst": burst, "egressRate": rate, "egressBurst": burst}})
        },
        assert_done: |chain, _, result| {
            let host_side = result["interfaces"][0]["name"].as_str().unwrap();
            let ifb = result["interfaces"][2]["name"].as_str().unwrap();
            for device in [host_side, ifb] {
                let shown = chain.see("tc", &["qdisc", "show", "dev", device]);
                assert!(shown.contains("tbf") && shown.contains("rate 80Mbit"), "{device}: {shown}");
            }
        },
        assert_undone: |chain, _| assert!(!chain.node.ns.ip_do(&["link"]).contains("bwp")),
    },
    Other {
        name: "tuning",
        speaks: &["0.3.0", "0.3.1", "0.4.0", "1.0.0"],
        conf: |chain| {
            json!({"type": "tuning", "mtu": TUNED_MTU, "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"},
                "dataDir": chain.file("tuning")})
        },
        args: || json!({}),
        assert_done: |_, pod, _| {
            assert_eq!(pod.ip(&["link", "show", "eth0"])[0]["mtu"], TUNED_MTU);
            assert_eq!(see(pod, "cat", &["/proc/sys/net/ipv4/conf/eth0/arp_filter"]), "1\n");
        },
        assert_undone: |chain, _| assert!(std::fs::read_dir(chain.file("tuning")).unwrap().next().is_none()),
    },
    Other {
        name: "firewall",
        speaks: &["0.4.0", "1.0.0"],
        conf: |_| json!({"type": "firewall", "backend": "iptables"}),
        args: || json!({}),
        assert_done: |chain, _, result| {
            let rules = chain.see("iptables-save", &["-t", "filter"]);
            assert!(rules.contains(&format!("-A CNI-FORWARD -s {} -j ACCEPT", address(result))), "{rules}");
        },
        assert_undone: |chain, address| {
            let rules = chain.see("iptables-save", &[]);
            assert!(!rules.contains(address), "{rules}");
        },
    },
    Other {
        name: "sbr",
        speaks: &["0.3.0", "0.3.1", "0.4.0", "1.0.0"],
        conf: |_| json!({"type": "sbr"}),
        args: || json!({}),
        assert_done: |_, pod, result| {
            let address = address(result).replace("/32", "");
            assert!(pod.ip_do(&["rule"]).contains(&format!("from {address} lookup 100")));
            let moved = pod.ip_do(&["route", "show", "table", "100"]);
            assert!(moved.contains("default via 169.254.1.1 dev eth0"), "{moved}");
            // Who sends from no address in particular has no route any more: sbr is made for a second interface.
            assert_eq!(pod.ip(&["route"]), json!([]));
        },
        assert_undone: |_, _| {},
    },
    Other {
        name: "portmap",
        speaks: &["0.3.0", "0.3.1", "0.4.0", "1.0.0"],
        conf: |_| json!({"type": "portmap", "capabilities": {"portMappings": true}}),
        args: || json!({"portMappings": [{"hostPort": HOST_PORT, "containerPort": POD_PORT, "protocol": "tcp"}]}),
        assert_done: |chain, pod, _| assert_port_leads_to(chain, pod),
        assert_undone: |chain, address| {
            let rules = chain.see("iptables-save", &[]);
            assert!(!rules.contains(address.trim_end_matches("/32")), "{rules}");
        },
    },
];

fn address(result: &Value) -> &str {
    result["ips"][0]["address"].as_str().unwrap()
}

/// Who connects to the node's port on the node reaches the pod's.
#[track_caller]
fn assert_port_leads_to(chain: &Chain, pod: &Namespace) {
    let listener = pod.inside(|| TcpListener::bind(("0.0.0.0", POD_PORT))).unwrap();
    let node = SocketAddr::from(([10, 77, 0, 1], HOST_PORT));
    let mut client = chain
        .on_node(|_| TcpStream::connect_timeout(&node, Duration::from_secs(20)))
        .unwrap_or_else(|error| panic!("{error}: {}", chain.see("iptables-save", &["-c"])));
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"ping").unwrap();
    let mut received = [0; 4];
    server.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"ping");
}

fn pod_of(pod: &Namespace, others: &[&Other]) -> Attachment {
    let mut attachment = attachment("c1", pod);
    for other in others {
        let Value::Object(args) = (other.args)() else { panic!("arguments are an object") };
        attachment.capability_args.extend(args);
    }
    attachment
}

/// CHECK passes. portmap 1.1.1 looks for its IPv4 rules in ip6tables too, and fails for every pod without an IPv6 address when ip6tables works: by then
/// everything before it in the list has passed.
#[track_caller]
fn assert_check(checked: Result<(), LibcniError>) {
    if let Err(error) = checked {
        let words = words(&error);
        assert!(words.contains("portmap") && words.contains("could not check ipv6 dnat"), "{words}");
    }
}

/// DEL passes. sbr 1.1.1 fails when it is repeated, because the interface is gone: by then everything behind it in the list is done, and what is before it was
/// done the first time.
#[track_caller]
fn assert_del(deleted: Result<(), LibcniError>, repeated: bool) {
    if let Err(error) = deleted {
        let words = words(&error);
        assert!(
            repeated && words.contains("plugin sbr (DEL)") && words.contains("Failed to get link"),
            "{words}"
        );
    }
}

/// ADD, CHECK, DEL and DEL of one pod with these plugins behind Spur, and nothing left.
#[track_caller]
fn trip(version: &str, others: &[&Other]) {
    let (chain, ns) = (Chain::new(), Namespace::new());
    let before = chain.node.ns.snapshot();
    let plugins: Vec<_> =
        std::iter::once(chain.spur()).chain(others.iter().map(|other| (other.conf)(&chain))).collect();
    let (list, pod) = (chain.list(version, &plugins), pod_of(&ns, others));
    chain.libcni.validate(&list).unwrap_or_else(|error| panic!("{version}: {}", words(&error)));

    let result = chain.add(&list, &pod).unwrap_or_else(|error| panic!("{version}: {}", words(&error)));
    assert_eq!(result["cniVersion"], version);
    assert_eq!(result["interfaces"][1]["sandbox"], ns.path());
    let host_side = result["interfaces"][0]["name"].as_str().unwrap();
    assert_eq!(chain.node.ns.ip(&["link", "show", host_side])[0]["address"], result["interfaces"][0]["mac"]);
    for other in others {
        (other.assert_done)(&chain, &ns, &result);
    }
    chain.node.ping(address(&result).trim_end_matches("/32"));
    // CHECK came with 0.4.0.
    if list.version.is_at_least(0, 4) {
        assert_check(chain.check(&list, &pod));
    }

    for repeated in [false, true] {
        assert_del(chain.del(&list, &pod), repeated);
        before.assert_same(&chain.node.ns);
        assert!(!ns.ip_do(&["link"]).contains("eth0"));
        assert!(chain.pool.held().is_empty());
        for other in others {
            (other.assert_undone)(&chain, address(&result));
        }
    }
}

fn trips(name: &str) {
    let other = OTHERS.iter().find(|other| other.name == name).unwrap();
    for version in other.speaks {
        trip(version, &[other]);
    }
}

#[test]
#[ignore = "needs root"]
fn c20_c65_portmap_accepts_our_result_and_leads_a_port_of_the_node_to_the_pod() {
    trips("portmap");
}

#[test]
#[ignore = "needs root"]
fn c20_c65_bandwidth_finds_the_hosts_end_of_the_veth_and_shapes_it() {
    trips("bandwidth");
}

#[test]
#[ignore = "needs root"]
fn c65_tuning_accepts_our_result_and_changes_the_pods_interface() {
    trips("tuning");
}

#[test]
#[ignore = "needs root"]
fn c65_firewall_accepts_our_result_and_admits_the_pod() {
    trips("firewall");
}

#[test]
#[ignore = "needs root"]
fn c65_sbr_accepts_our_result_and_moves_the_pods_routes() {
    trips("sbr");
}

#[test]
#[ignore = "needs root"]
fn c39_c43_c65_all_of_them_behind_spur_in_one_list() {
    for version in ["0.4.0", "1.0.0"] {
        trip(version, &OTHERS.iter().collect::<Vec<_>>());
    }
}

#[test]
#[ignore = "needs root"]
fn c19_c65_a_result_from_before_0_3_0_is_enough_for_portmap() {
    let portmap = OTHERS.iter().find(|other| other.name == "portmap").unwrap();
    for version in ["0.1.0", "0.2.0"] {
        let (chain, ns) = (Chain::new(), Namespace::new());
        let before = chain.node.ns.snapshot();
        let list = chain.list(version, &[chain.spur(), (portmap.conf)(&chain)]);
        let pod = pod_of(&ns, &[portmap]);
        chain.libcni.validate(&list).unwrap();
        let result = chain.add(&list, &pod).unwrap_or_else(|error| panic!("{}", words(&error)));
        assert_eq!(result["ip4"]["ip"], "10.77.1.1/32");
        assert_port_leads_to(&chain, &ns);
        chain.del(&list, &pod).unwrap();
        before.assert_same(&chain.node.ns);
        (portmap.assert_undone)(&chain, "10.77.1.1/32");
    }
}

#[test]
#[ignore = "needs root"]
fn c42_c65_a_hardware_address_changed_by_tuning_is_found_because_it_cuts_the_pod_off() {
    let (chain, ns) = (Chain::new(), Namespace::new());
    let mac = "02:00:00:00:00:42";
    let tuning = json!({"type": "tuning", "mac": mac, "dataDir": chain.file("tuning")});
    let (list, pod) = (chain.list("1.0.0", &[chain.spur(), tuning]), pod_of(&ns, &[]));
    let result = chain.add(&list, &pod).unwrap();
    assert_eq!(result["interfaces"][1]["mac"], mac);
    let error = words(&chain.check(&list, &pod).unwrap_err());
    for problem in ["the pod does not know the hardware address of 169.254.1.1", "it has 02:00:00:00:00:42"] {
        assert!(error.contains(problem), "{error}");
    }
    assert!(!error.contains("expected"), "the result says which address it has now: {error}");
    chain.del(&list, &pod).unwrap();
}
