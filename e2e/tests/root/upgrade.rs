//! What an earlier version left on a node, and what its plugin says: the current agent takes over, and nobody notices. The files are in
//! `testbed/earlier`; `make upgrade` does the same with the programs of that version themselves.

use serde_json::Value;
use spur_e2e::snapshot::Snapshot;
use spur_e2e::torture::views::{KernelView, show};
use spur_e2e::upgrade::Build;
use spur_e2e::upgrade::capture::{CONFLIST, NODE_DIR};
use spur_e2e::upgrade::stage::Stage;
use spur_e2e::world::{Node, NodeMode, World};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Before decision 0009: the ENI was chosen before destination NAT, and translated flows had no mark.
const EARLIER: &str = "be5d890";
/// The first with a controller and nodes of both modes.
const EARLIER_GRANTED: &str = "49baa1e";

fn file(name: &str) -> PathBuf {
    file_of(EARLIER, name)
}

fn file_of(revision: &str, name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../testbed/earlier", revision, name].iter().collect()
}

fn text(name: &str) -> String {
    fs::read_to_string(file(name)).unwrap()
}

/// Executes a program on the node.
fn run(node: &Node, words: &str, input: &str) {
    let mut words = words.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command.args(words).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = node.netns.run(|| command.spawn()).unwrap().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes rules, nft tables and conflist what the earlier version had on a node with these addresses.
fn leave_as_earlier(node: &Node) {
    let now = KernelView::take(&node.netns).unwrap();
    // nft cannot read everything back that it shows of this version.
    let ruleset = text("ruleset.nft")
        .replace("chain snat {", "chain translate {")
        .replace("goto snat", "goto translate")
        .replace("meta l4proto @nat_ports snat", "meta l4proto { tcp, udp, sctp } snat");
    let theirs = ruleset.split("snat to ").nth(1).unwrap().split(':').next().unwrap();
    let mut ruleset = format!(
        "delete table ip spur\ndelete table ip6 spur\n{}",
        ruleset.replace(theirs, &node.primary_address.to_string())
    );
    let list = |addresses: &BTreeSet<IpAddr>, leads: &str| {
        let elements: Vec<_> = addresses.iter().map(|address| format!("{address}{leads}")).collect();
        elements.join(", ")
    };
    for (set, elements) in
        [("nat_local", list(&now.translated, "")), ("eni_of", list(&now.marked, " : goto eni-1"))]
    {
        ruleset += &format!("flush set ip spur {set}\nadd element ip spur {set} {{ {elements} }}\n");
    }
    run(node, "nft -f -", &ruleset.replace("flush set ip spur eni_of", "flush map ip spur eni_of"));

    let rules = text("rules");
    let theirs: BTreeSet<&str> = rules.lines().filter_map(|line| line.split(':').next()).collect();
    for (priority, _) in now.rules.iter().filter(|(priority, _)| !theirs.contains(&*priority.to_string())) {
        run(node, &format!("ip rule del priority {priority}"), "");
    }
    let dir = node.dir().display().to_string();
    fs::write(node.dir().join("net.d").join(CONFLIST), text(CONFLIST).replace(NODE_DIR, &dir)).unwrap();
}

/// Notes what changes in the node's nf_tables while `act` runs: a list per transaction.
fn transactions(node: &Node, act: impl FnOnce()) -> Vec<Vec<String>> {
    let log = node.dir().join("nft.log");
    let mut monitor = Command::new("nft");
    monitor.arg("monitor").stdout(File::create(&log).unwrap());
    let mut monitor = node.netns.run(|| monitor.spawn()).unwrap().unwrap();
    // It listens, and is through with what was before, when it notices a probe.
    let probe = |name: &str| {
        while !fs::read_to_string(&log).unwrap().contains(&format!("delete table ip {name}")) {
            run(node, &format!("nft add table ip {name}"), "");
            run(node, &format!("nft delete table ip {name}"), "");
        }
    };
    probe("begin");
    act();
    probe("end");
    monitor.kill().unwrap();
    monitor.wait().unwrap();
    let log = fs::read_to_string(&log).unwrap();
    let lines: Vec<String> = log.lines().map(str::to_owned).collect();
    lines.split(|line| line.contains("generation")).map(<[String]>::to_vec).collect()
}

#[test]
#[ignore = "needs root"]
fn a_node_as_an_earlier_version_left_it_is_taken_over_and_no_flow_notices() {
    let mut spec = crate::common::quick_spec("earlier", 2);
    // An agent without a store lets all free addresses rest, and would bring another ENI into use for others.
    spec.pool.insert("maxEnis", "2".to_owned());
    let world = World::up(&spec).unwrap();
    let build = Build::current().unwrap();
    let mut stage = Stage::begin(&world, &build).unwrap();
    let node = &world.nodes[0];
    for store in ["kept", "lost"] {
        let current = Snapshot::take(&node.netns, false).unwrap();
        node.stop_agent().unwrap();
        leave_as_earlier(node);
        assert_ne!(current.difference(&Snapshot::take(&node.netns, false).unwrap()), Vec::<String>::new());
        if store == "lost" {
            fs::write(node.dir().join("state/agent.redb"), "").unwrap();
        }
        // Those of the round before live on as well. The table was replaced as a whole, between whose two states a packet may fall.
        stage.excuse_losses().unwrap();
        stage.open_flows().unwrap();
        stage.flows_go_on().unwrap();
        let changes = transactions(node, || stage.start_agent(0, &build).unwrap());
        stage.flows_go_on().unwrap();
        stage.pods_keep_addresses().unwrap();
        // A table that packets pass is never taken away, and what is old goes after what is new is there.
        let first = |what: &str| changes.iter().position(|one| one.iter().any(|line| line.starts_with(what)));
        assert_eq!(first("delete table ip spur"), None, "{changes:#?}");
        let (new, old) = (first("add chain ip spur route"), first("delete chain ip spur prerouting"));
        assert!(new.is_some() && new < old, "{changes:#?}");
        let now = Snapshot::take(&node.netns, false).unwrap();
        assert_eq!(current.difference(&now), Vec::<String>::new(), "the store was {store}");
        stage.check_all().unwrap();
        stage.verbs(0, &build).unwrap();
    }
    stage.end(&build).unwrap();
    world.down().unwrap();
}

/// One exchange with an agent.
fn ask(node: &Node, request: &str) -> Value {
    let mut stream = UnixStream::connect(node.dir().join("agent.sock")).unwrap();
    let length = u32::try_from(request.len()).unwrap();
    stream.write_all(&[&length.to_le_bytes(), request.as_bytes()].concat()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    serde_json::from_slice(&answer[4..]).unwrap()
}

/// Where `new` lacks something that `old` has, or has it as something else.
fn lacks(old: &Value, new: &Value, path: &str) -> Vec<String> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => old
            .iter()
            .flat_map(|(key, value)| {
                lacks(value, new.get(key).unwrap_or(&Value::Null), &format!("{path}.{key}"))
            })
            .collect(),
        (Value::Array(old), Value::Array(new)) => {
            old.iter().zip(new).flat_map(|(old, new)| lacks(old, new, path)).collect()
        }
        (Value::Null, _) => Vec::new(),
        _ if std::mem::discriminant(old) == std::mem::discriminant(new) => Vec::new(),
        _ => vec![format!("{path}: {old} became {new}")],
    }
}

#[test]
#[ignore = "needs root"]
fn an_earlier_plugin_is_answered_in_words_that_it_understands() {
    let world = crate::common::quick_world("frames", 1);
    world.start_agent(0).unwrap();
    let frames = text("frames");
    let frames: Vec<_> = frames.lines().collect();
    for exchange in frames.chunks(2) {
        let (request, answer) = (exchange[0], serde_json::from_str(exchange[1]).unwrap());
        let now = ask(&world.nodes[0], request);
        assert_eq!(lacks(&answer, &now, ""), Vec::<String>::new(), "{request}\n{now}");
    }
    assert_eq!(frames.len(), 10, "all five verbs");
    world.down().unwrap();
}

#[test]
#[ignore = "needs root"]
fn what_an_earlier_controller_granted_is_served_from() {
    let mut spec = crate::common::quick_spec("granted", 1);
    spec.modes = vec![NodeMode::VpcRoute];
    let world = World::up(&spec).unwrap();
    let read = |name| -> Value {
        serde_json::from_slice(&fs::read(file_of(EARLIER_GRANTED, name)).unwrap()).unwrap()
    };
    let mut grant = read("grant.json");
    grant["instance"] = world.nodes[0].instance_id.as_str().into();
    let dir = world.grant_dir();
    fs::create_dir_all(dir.join("nodes")).unwrap();
    fs::write(dir.join("nodes").join(format!("{}.json", world.nodes[0].name)), grant.to_string()).unwrap();
    fs::write(dir.join("cluster.json"), read("cluster.json").to_string()).unwrap();
    world.start_agent(0).unwrap();
    let block: ipnet::IpNet = grant["placement"]["blocks"][0].as_str().unwrap().parse().unwrap();
    for placed in crate::common::add_pods(&world, 0, 1..=3) {
        assert!(block.contains(&placed.pod.address.unwrap()), "{:?}", placed.pod);
    }
    let log = fs::read_to_string(world.nodes[0].log()).unwrap();
    assert!(!log.contains("nothing new from cluster.json"), "{log}");
    world.down().unwrap();
}

#[test]
#[ignore = "needs root"]
fn the_store_of_an_earlier_version_is_read_as_it_was() {
    let expected: Value = serde_json::from_str(&text("store.json")).unwrap();
    assert_eq!(show(&file("agent.redb")).unwrap(), expected);
    assert_eq!(expected["holdings"].as_array().unwrap().len(), 12);
}
