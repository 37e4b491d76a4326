//! Metrics as Prometheus would fetch them: from real agents inside their nodes, and from a real controller. What moves must move in them.

use crate::common::{add_pods, quick_spec};
use spur_datapath::netns::NetNs;
use spur_e2e::http;
use spur_e2e::world::{NodeMode, POD_CIDR, World};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

/// Above the agent's longest interval: it looks for others that translate once a minute.
const PATIENCE: Duration = Duration::from_secs(100);
/// The agent's port, unless told otherwise.
const AGENT_PORT: u16 = 61680;
/// These have samples only while something is wrong, or where the operator names subnets.
const SELDOM: [&str; 4] =
    ["spur_pool_waiting_adds", "spur_pool_blocked", "spur_subnet_free_addresses", "spur_controller_problems"];

/// What a scrape brought.
struct Scrape(String);

impl Scrape {
    fn of(port: u16) -> Option<Self> {
        http::request(&format!("http://127.0.0.1:{port}"), "GET", "/metrics", "").ok().map(Self)
    }

    fn of_agent(netns: &NetNs) -> Option<Self> {
        netns.run(|| Self::of(AGENT_PORT)).unwrap()
    }

    /// The value of a sample, named with its labels.
    fn value(&self, sample: &str) -> Option<f64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))?;
        Some(line.parse().unwrap())
    }

    /// Names that the document has under this heading and that are not here.
    fn lacks(&self, heading: &str) -> Vec<&'static str> {
        const DOCUMENT: &str = include_str!("../../../docs/metrics.md");
        let (_, section) = DOCUMENT.split_once(&format!("### {heading}\n")).unwrap();
        let rows = section.lines().skip_while(|line| !line.starts_with("| `"));
        let rows = rows.take_while(|line| line.starts_with("| `"));
        let names: Vec<_> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
        assert!(names.len() > 15, "{heading}: {names:?}");
        let is_sample = |line: &str, name: &str| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([' ', '{']) || rest.starts_with("_count"))
        };
        let here = |name: &str| match SELDOM.contains(&name) {
            true => self.0.contains(&format!("# TYPE {} ", name.trim_end_matches("_total"))),
            false => self.0.lines().any(|line| is_sample(line, name)),
        };
        names.into_iter().filter(|name| !here(name)).collect()
    }
}

/// Scrapes until it is so.
#[track_caller]
fn until(what: &str, scrape: impl Fn() -> Option<Scrape>, holds: impl Fn(&Scrape) -> bool) -> Scrape {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = scrape();
        if let Some(seen) = seen.as_ref().filter(|seen| holds(seen)) {
            return Scrape(seen.0.clone());
        }
        let seen = seen.map_or_else(|| "nobody answers".to_owned(), |seen| seen.0);
        assert!(Instant::now() < deadline, "waited in vain: {what}\n{seen}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// What the programs of this name listen on, as the kernel shows it.
fn listeners(netns: &NetNs, program: &str) -> Vec<String> {
    let output = netns.run(|| Command::new("ss").arg("-Hltnp").output()).unwrap().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let of_program = text.lines().filter(|line| line.contains(program));
    of_program.map(|line| line.split_whitespace().nth(3).unwrap().to_owned()).collect()
}

/// Flows from so many sockets of a pod to a port of the internet's host.
fn open_flows(pod: &NetNs, target: IpAddr, port: u16, count: usize) {
    for _ in 0..count {
        let socket = pod.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).unwrap().unwrap();
        socket.send_to(b"flow", (target, port)).unwrap();
    }
}

fn nft(netns: &NetNs, commands: &str) {
    let status = netns.run(|| Command::new("nft").arg(commands).status()).unwrap().unwrap();
    assert!(status.success(), "{commands}");
}

/// An `eni` node that two pods fill, a `vpcRoute` node, and a controller that listens on the port.
fn world(name: &str) -> (World, u16) {
    // Below those that the kernel gives to connections, so that none of them has it when the controller starts.
    let port = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    let mut spec = quick_spec(name, 2);
    spec.modes = vec![NodeMode::Eni, NodeMode::VpcRoute];
    spec.instance_type = "t3.nano".to_owned();
    spec.agent.insert("addWaitSeconds", "2".to_owned());
    spec.controller = [("reconcileSeconds", "10"), ("settleSeconds", "0"), ("cooldownSeconds", "0")]
        .map(|(key, value)| (key, value.to_owned()))
        .into();
    spec.controller.insert("metrics", format!("{{listen: 127.0.0.1:{port}}}"));
    (World::up(&spec).unwrap(), port)
}

#[test]
#[ignore = "needs root"]
fn agents_and_controller_tell_what_happens_to_who_asks_on_the_same_machine() {
    let (world, controller_port) = world("metrics");
    let (node, other) = (&world.nodes[0].netns, &world.nodes[1].netns);
    // Somebody else who translates, though not what is tried here; and somebody who has the other agent's port.
    nft(
        node,
        "add table ip other; add chain ip other post { type nat hook postrouting priority 100; }; \
         add rule ip other post ip daddr 198.18.0.0/15 masquerade",
    );
    let squatter = other.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, AGENT_PORT))).unwrap().unwrap();
    world.start_controller().unwrap();
    (0..2).for_each(|node| world.launch_agent(node).unwrap());
    world.nodes.iter().for_each(|node| node.wait_ready().unwrap());
    add_pods(&world, 1, 1..=1);
    let log = std::fs::read_to_string(world.nodes[1].log()).unwrap();
    assert!(log.contains("MetricsUnavailable"), "{log}");
    drop(squatter);

    let agent = || Scrape::of_agent(node);
    let held = "spur_pool_addresses{state=\"held\"}";
    let before = until("an agent that has all it can have", agent, |seen| {
        seen.value("spur_agent_state{state=\"ready\"}") == Some(1.0)
            && seen.value("spur_pool_addresses{state=\"free\"}") == Some(2.0)
    });
    assert_eq!((before.value(held), before.value("spur_nat_ports")), (Some(0.0), Some(64_512.0)));
    assert_eq!(listeners(node, "spur-ipamd"), ["127.0.0.1:61680"], "nothing beyond loopback");
    let address = world.nodes[0].primary_address;
    assert!(node.run(|| TcpStream::connect((address, AGENT_PORT))).unwrap().is_err());

    // Two pods fill the node; a third is refused, and the reason counts.
    let pods = add_pods(&world, 0, 1..=2);
    let third = world.pod(0, 3).unwrap();
    let refused = world.runtime(0).unwrap().execute("ADD", &third, &third.netns_path()).unwrap();
    assert!(!refused.success, "{}", refused.failure());
    for (pod, flows) in pods.iter().zip([5, 3]) {
        open_flows(&pod.pod.netns, world.internet_address, 4000, flows);
    }
    open_flows(&pods[0].pod.netns, world.internet_address, 4001, 2);
    let to = |port: u16| {
        let address = world.internet_address;
        format!("spur_nat_destination_flows{{destination=\"{address}\",port=\"{port}\",protocol=\"udp\"}}")
    };
    let seen =
        until("ten translated flows", agent, |seen| seen.value("spur_nat_translated_flows") == Some(10.0));
    assert_eq!((seen.value(&to(4000)), seen.value(&to(4001))), (Some(8.0), Some(2.0)), "{}", seen.0);
    assert_eq!((seen.value(held), seen.value("spur_nat_destinations")), (Some(2.0), Some(2.0)));
    let adds = |outcome| {
        seen.value(&format!("spur_cni_request_duration_seconds_count{{verb=\"ADD\",outcome=\"{outcome}\"}}"))
    };
    assert_eq!((adds("ok"), adds("11")), (Some(2.0), Some(1.0)), "{}", seen.0);
    assert_eq!(seen.value("spur_cni_refused_adds_total{reason=\"full\"}"), Some(1.0), "{}", seen.0);

    check_repairs(&world, &seen);
    let all = until("the one who translates too", agent, |seen| {
        seen.value("spur_foreign_masqueraders") == Some(1.0)
    });
    assert_eq!(all.lacks("The agent"), [""; 0]);
    until("the agent whose port was taken", || Scrape::of_agent(other), |seen| seen.value(held) == Some(1.0));
    check_controller(&world, controller_port);
    world.down().unwrap();
}

/// What others change in the kernel counts, and nothing else does.
fn check_repairs(world: &World, before: &Scrape) {
    let node = &world.nodes[0];
    // Nobody has changed anything yet, and nobody had to wait for so few calls: an ENI that came is no repair.
    let repairs = "spur_kernel_repairs_total";
    let log = std::fs::read_to_string(node.log()).unwrap();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("repaired")).collect();
    assert_eq!(before.value(repairs), Some(0.0), "{lines:#?}");
    let waited = "spur_ec2_calls_waited_total{action=\"DescribeNetworkInterfaces\"}";
    assert_eq!(before.value(waited), Some(0.0), "{}", before.0);
    nft(&node.netns, "delete table ip spur");
    until("the repair", || Scrape::of_agent(&node.netns), |seen| seen.value(repairs) > Some(0.0));
}

/// The controller tells of its node and its tables, and counts what somebody spoils.
fn check_controller(world: &World, port: u16) {
    let controller = || Scrape::of(port);
    let routes = world.routes().unwrap();
    let table = &routes.0["main"].id;
    let of_table = |what: &str| format!("spur_route_table_{what}{{table=\"{table}\",family=\"IPv4\"}}");
    let (synced, quota) = (of_table("synced_routes"), of_table("quota"));
    let seen = until("a node that is ready", controller, |seen| {
        seen.value("spur_controller_nodes{state=\"ready\"}") == Some(1.0)
    });
    assert_eq!((seen.value(&synced), seen.value(&quota)), (Some(1.0), Some(500.0)), "{}", seen.0);
    assert_eq!(seen.value("spur_controller_condition{condition=\"RoutesSynced\"}"), Some(1.0));
    assert_eq!(seen.lacks("The controller"), [""; 0]);
    let here = NetNs::open("/proc/self/ns/net").unwrap();
    let own = listeners(&here, "spur-ipamd");
    assert!(own.contains(&format!("127.0.0.1:{port}")), "{own:?}");
    assert!(own.iter().all(|listener| listener.starts_with("127.0.0.1:")), "{own:?}");

    let block = routes.within("main", &POD_CIDR.parse().unwrap()).next().unwrap().destination.to_string();
    let route = [("RouteTableId", table.as_str()), ("DestinationCidrBlock", block.as_str())];
    world.ec2("DeleteRoute", &route).unwrap();
    let drift = until("the drift", controller, |seen| {
        seen.value("spur_route_drift_total{cause=\"missing\"}").is_some_and(|count| count >= 1.0)
    });
    assert!(drift.value("spur_ec2_requests_total{action=\"CreateRoute\",outcome=\"ok\"}") >= Some(2.0));
}
