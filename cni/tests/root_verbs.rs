//! CHECK, STATUS and GC on a real kernel: CHECK agrees with what ADD made and names everything that somebody broke since, GC
//! takes exactly the stale. `ip` breaks things and is the witness. Each test makes its own namespaces; without privileges
//! the tests fail.
#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod common;
mod node;

use common::{Behaviour, FakeAgent, Invocation, Ran};
use node::{Namespace, Node};
use serde_json::{Value, json};
use spur_wire::{CheckReply, GcReply, RequestBody, Response, StatusReply};
use std::time::Duration;

/// A wired pod, and the CHECK that a runtime would send.
struct Pod {
    node: Node,
    ns: Namespace,
    agent: FakeAgent,
    result: Value,
}

impl Pod {
    fn add(version: &str) -> Self {
        let (node, ns) = (Node::new(), Namespace::new());
        let (agent, _) = FakeAgent::honest();
        let add = agent.invocation("ADD", "c1", ns.path()).edit(|conf| conf["cniVersion"] = json!(version));
        let result = node.run(&add).result();
        Self { node, ns, agent, result }
    }

    fn check_of(&self, result: &Value) -> Invocation {
        self.agent.invocation("CHECK", "c1", self.ns.path()).edit(|conf| {
            conf["cniVersion"] = result["cniVersion"].clone();
            conf["prevResult"] = result.clone();
        })
    }

    fn check(&self) -> Ran {
        self.node.run(&self.check_of(&self.result))
    }

    fn host_side(&self) -> &str {
        self.result["interfaces"][0]["name"].as_str().unwrap()
    }
}

#[test]
#[ignore = "needs root"]
fn c41_c45_check_succeeds_right_after_add_and_changes_nothing() {
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        let pod = Pod::add(version);
        let before = (pod.node.ns.snapshot(), pod.ns.snapshot());
        pod.check().assert_silent_success();
        before.0.assert_same(&pod.node.ns);
        before.1.assert_same(&pod.ns);
    }
}

#[test]
#[ignore = "needs root"]
fn c42_check_names_what_was_broken_in_the_pod() {
    for (breaking, expected) in [
        (&["link", "del", "eth0"][..], "the pod has no interface eth0"),
        (&["link", "set", "eth0", "down"], "eth0 is down"),
        (
            &["link", "set", "eth0", "address", "02:00:00:00:00:99"],
            "eth0 has hardware address 02:00:00:00:00:99",
        ),
        (&["addr", "flush", "dev", "eth0"], "eth0 does not have 10.77.1.1"),
        (&["route", "del", "default"], "the pod has no default route through eth0"),
    ] {
        let pod = Pod::add("1.1.0");
        pod.ns.ip_do(breaking);
        let message = pod.check().failure(104);
        assert!(message.contains(expected), "{breaking:?}: {message}");
    }
}

#[test]
#[ignore = "needs root"]
fn c42_check_names_what_was_broken_on_the_host() {
    let pod = Pod::add("1.1.0");
    let host_side = pod.host_side().to_owned();
    for (breaking, expected) in [
        (
            &["route", "flush", "table", "5000"][..],
            format!("the host has no route to 10.77.1.1 through {host_side}"),
        ),
        (&["link", "set", &host_side, "down"], format!("{host_side} on the host is down")),
        (&["link", "del", &host_side], format!("the host has no interface {host_side}")),
    ] {
        pod.node.ns.ip_do(breaking);
        let message = pod.check().failure(104);
        assert!(message.contains(&expected), "{breaking:?}: {message}");
    }
}

#[test]
#[ignore = "needs root"]
fn c42_check_fails_without_reservation_rules_or_agent() {
    let mut pod = Pod::add("1.1.0");
    let answer = |reply: CheckReply| move |_: &_| Behaviour::Answer(Response::Check(reply.clone()));
    pod.agent.stop();
    assert!(pod.check().failure(11).contains("connect to the agent"));
    pod.agent
        .listen(answer(CheckReply { addresses: vec![], problems: vec!["nft table spur is missing".into()] }));
    let message = pod.check().failure(104);
    assert!(
        message.contains("the agent does not hold 10.77.1.1")
            && message.contains("nft table spur is missing"),
        "{message}"
    );
    assert_eq!(pod.agent.requests().len(), 2, "the ADD, and one question");
}

#[test]
#[ignore = "needs root"]
fn c43_check_tolerates_what_later_plugins_do() {
    let pod = Pod::add("1.1.0");
    pod.ns.ip_do(&["link", "add", "ifb0", "type", "veth", "peer", "name", "ifb1"]);
    pod.ns.ip_do(&["link", "set", "eth0", "mtu", "1400"]);
    pod.ns.ip_do(&["route", "add", "192.0.2.0/24", "via", "169.254.1.1"]);
    let mut result = pod.result.clone();
    result["interfaces"].as_array_mut().unwrap().push(json!({"name": "ifb0"}));
    pod.node.run(&pod.check_of(&result)).assert_silent_success();
}

#[test]
#[ignore = "needs root"]
fn c44_check_refuses_a_result_of_another_sandbox() {
    let pod = Pod::add("1.1.0");
    let mut result = pod.result.clone();
    result["interfaces"][1]["sandbox"] = json!("/run/netns/other");
    let message = pod.node.run(&pod.check_of(&result)).failure(104);
    assert!(message.contains("/run/netns/other") && message.contains(pod.ns.path()), "{message}");
    for (result, expected) in [
        (json!({"cniVersion": "1.1.0"}), "lists no interface eth0"),
        (json!({"cniVersion": "1.1.0", "interfaces": pod.result["interfaces"]}), "no address for eth0"),
        (json!({"cniVersion": "1.1.0", "interfaces": 7, "ips": {}}), "lists no interface eth0"),
    ] {
        assert!(pod.node.run(&pod.check_of(&result)).failure(104).contains(expected));
    }
}

#[test]
#[ignore = "needs root"]
fn c50_status_is_quick_and_changes_nothing() {
    let node = Node::new();
    let (agent, _) = FakeAgent::honest();
    let before = node.ns.snapshot();
    let took = (0..20).map(|_| {
        let ran = node.run(&agent.invocation("STATUS", "c1", ""));
        ran.assert_silent_success();
        ran.took
    });
    // The best of twenty: how busy the machine is does not matter.
    let best = took.min().unwrap();
    assert!(best < Duration::from_millis(20), "{best:?}");
    before.assert_same(&node.ns);
    assert!(agent.requests().iter().all(|request| request.body == RequestBody::Status));
}

#[test]
#[ignore = "needs root"]
fn c51_add_and_del_work_while_status_fails() {
    let (node, pod) = (Node::new(), Namespace::new());
    let pool = common::Pool::default();
    let books = pool.clone();
    let agent = FakeAgent::start(move |request| match request.body {
        RequestBody::Status => {
            let reason = Some("the table of rules is missing".to_owned());
            Behaviour::Answer(Response::Status(StatusReply { ready: false, reason, limited: false }))
        }
        _ => Behaviour::Answer(books.answer(request)),
    });
    let before = node.ns.snapshot();
    let status = || node.run(&agent.invocation("STATUS", "c1", "")).failure(50);
    status();
    node.run(&agent.invocation("ADD", "c1", pod.path())).result();
    status();
    node.run(&agent.invocation("DEL", "c1", pod.path())).assert_silent_success();
    assert!(pool.held().is_empty());
    before.assert_same(&node.ns);
}

#[test]
#[ignore = "needs root"]
fn c59_gc_is_safe_when_the_namespaces_are_gone() {
    let (node, kept) = (Node::new(), Namespace::new());
    let (agent, pool) = FakeAgent::honest();
    node.run(&agent.invocation("ADD", "kept", kept.path())).result();
    let before = (node.ns.snapshot(), kept.snapshot());
    for name in ["c1", "c2"] {
        let pod = Namespace::new();
        node.run(&agent.invocation("ADD", name, pod.path())).result();
    }
    let listed = json!([{"containerID": "kept", "ifname": "eth0"}]);
    let gc = agent.invocation("GC", "", "").edit(|conf| conf["cni.dev/valid-attachments"] = listed.clone());
    for _ in 0..2 {
        node.run(&gc).assert_silent_success();
        assert_eq!(pool.held().len(), 1);
    }
    // The kernel takes the pairs away with their namespaces, sooner or later.
    common::wait_until("the node is as before", || node.ns.snapshot() == before.0);
    before.1.assert_same(&kept);
}

#[test]
#[ignore = "needs root"]
fn c55_c57_gc_takes_the_stale_and_keeps_the_listed() {
    let node = Node::new();
    let pods = [Namespace::new(), Namespace::new(), Namespace::new()];
    let (agent, pool) = FakeAgent::honest();
    let names = ["c0", "c1", "c2"];
    let empty = node.ns.snapshot();
    for (name, pod) in names.iter().zip(&pods) {
        let args = format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME={name}");
        node.run(&agent.invocation("ADD", name, pod.path()).with("CNI_ARGS", args)).result();
    }
    let gc =
        |valid: Value| agent.invocation("GC", "", "").edit(|conf| conf["cni.dev/valid-attachments"] = valid);
    let held =
        || -> Vec<_> { pool.held().into_keys().map(|(_, attachment)| attachment.container_id).collect() };
    let listed = json!([{"containerID": "c1", "ifname": "eth0"}]);
    // Twice: what is gone stays gone, what is listed stays.
    for _ in 0..2 {
        node.run(&gc(listed.clone())).assert_silent_success();
        assert_eq!(held(), ["c1"]);
        let left = pods.each_ref().map(|pod| pod.ip_do(&["link"]).contains("eth0"));
        assert_eq!(left, [false, true, false]);
    }
    node.run(&gc(json!(null))).assert_silent_success();
    assert!(held().is_empty());
    empty.assert_same(&node.ns);
}

#[test]
#[ignore = "needs root"]
fn c56_gc_of_another_network_touches_nothing() {
    let (node, pod) = (Node::new(), Namespace::new());
    let (agent, pool) = FakeAgent::honest();
    node.run(&agent.invocation("ADD", "c1", pod.path())).result();
    let before = node.ns.snapshot();
    let gc = agent.invocation("GC", "", "").edit(|conf| {
        conf["name"] = json!("other");
        conf["cni.dev/valid-attachments"] = json!([]);
    });
    node.run(&gc).assert_silent_success();
    before.assert_same(&node.ns);
    assert_eq!(pool.held().len(), 1);
}

#[test]
#[ignore = "needs root"]
fn c58_gc_reports_at_the_end_what_remained() {
    let node = Node::new();
    let agent = FakeAgent::start(|_| {
        let problems = vec!["c7/eth0: the store is read-only".into()];
        Behaviour::Answer(Response::Gc(GcReply { released: vec![], problems }))
    });
    let gc = agent.invocation("GC", "", "").edit(|conf| conf["cni.dev/valid-attachments"] = json!([]));
    assert!(node.run(&gc).failure(105).contains("c7/eth0: the store is read-only"));
}
