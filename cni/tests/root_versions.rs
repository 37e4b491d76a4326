//! Every version of the specification, from 0.1.0 to 1.1.0, on a real kernel: the whole trip of a pod, the shape of its result, and
//! results of earlier plugins in every shape. What a version changes is words; the kernel must be the same for all. And an agent of an earlier
//! version, which is the one that runs while a node's plugin was replaced and its agent was not yet.
//! Without privileges the tests fail.
#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod common;
mod node;

use common::{Behaviour, FakeAgent, refused};
use node::{Namespace, Node};
use serde_json::{Value, json};
use spur_wire::{RefusalKind, RequestBody};

const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

fn is_legacy(version: &str) -> bool {
    matches!(version, "0.1.0" | "0.2.0")
}

/// The address of the result, in whichever shape.
#[track_caller]
fn address(result: &Value) -> &str {
    let text = result["ip4"]["ip"].as_str().or_else(|| result["ips"][0]["address"].as_str()).unwrap();
    text.strip_suffix("/32").unwrap()
}

#[test]
#[ignore = "needs root"]
fn c10_c19_the_whole_trip_runs_for_every_version() {
    let (node, pod) = (Node::new(), Namespace::new());
    let (agent, pool) = FakeAgent::honest();
    let before = (node.ns.snapshot(), pod.snapshot());
    let mut wired = None;
    for version in VERSIONS {
        let call = |verb: &str, previous: Option<&Value>| {
            let invocation = agent.invocation(verb, "c1", pod.path()).edit(|conf| {
                conf["cniVersion"] = json!(version);
                if let Some(previous) = previous {
                    conf["prevResult"] = previous.clone();
                }
            });
            node.run(&invocation)
        };
        let result = call("ADD", None).result();
        assert_eq!(result["cniVersion"], version);
        node.ping(address(&result));
        let shown = (pod.ip_do(&["-4", "route"]), node.ns.ip_do(&["route", "show", "table", "5000"]));
        assert_eq!(
            *wired.get_or_insert_with(|| shown.clone()),
            shown,
            "{version}: the kernel is the same for all"
        );
        let checked = call("CHECK", Some(&result));
        if version < "0.4.0" {
            assert!(checked.failure(1).contains("CHECK needs cniVersion 0.4.0"), "{version}");
        } else {
            checked.assert_silent_success();
        }
        for _ in 0..2 {
            call("DEL", Some(&result)).assert_silent_success();
            before.0.assert_same(&node.ns);
            before.1.assert_same(&pod);
            assert!(pool.held().is_empty(), "{version}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn c10_without_a_version_the_trip_is_that_of_0_1_0() {
    let (node, pod) = (Node::new(), Namespace::new());
    let (agent, pool) = FakeAgent::honest();
    let call = |verb: &str| {
        let invocation = agent.invocation(verb, "c1", pod.path());
        node.run(&invocation.edit(|conf| _ = conf.as_object_mut().unwrap().remove("cniVersion")))
    };
    let result = call("ADD").result();
    assert_eq!((&result["cniVersion"], address(&result)), (&json!("0.1.0"), "10.77.1.1"));
    assert!(result["ips"].is_null(), "{result}");
    call("DEL").assert_silent_success();
    assert!(pool.held().is_empty());
}

#[test]
#[ignore = "needs root"]
fn c24_c25_previous_results_of_every_version_are_taken_in_every_version() {
    let (node, pod) = (Node::new(), Namespace::new());
    let (agent, _) = FakeAgent::honest();
    for theirs in VERSIONS {
        let previous = if is_legacy(theirs) {
            json!({"cniVersion": theirs, "ip6": {"ip": "2001:db8::9/64", "routes": null}, "dns": {"domain": "theirs"}})
        } else {
            let mut ip = json!({"address": "2001:db8::9/64", "interface": 0});
            if theirs < "1.0.0" {
                ip["version"] = json!("6");
            }
            json!({"cniVersion": theirs, "interfaces": [{"name": "other0"}], "ips": [ip], "dns": {"domain": "theirs"}})
        };
        for version in VERSIONS {
            let add = agent.invocation("ADD", "c1", pod.path()).edit(|conf| {
                conf["cniVersion"] = json!(version);
                conf["prevResult"] = previous.clone();
            });
            let result = node.run(&add).result();
            let what = format!("{theirs} before {version}: {result}");
            assert_eq!(
                (&result["cniVersion"], &result["dns"]),
                (&json!(version), &previous["dns"]),
                "{what}"
            );
            if is_legacy(version) {
                assert_eq!(result["ip6"]["ip"], "2001:db8::9/64", "{what}");
                assert_eq!(result["ip4"]["ip"], "10.77.1.1/32", "{what}");
                assert!(result["ips"].is_null(), "{what}");
            } else {
                assert_eq!(result["ips"][0]["address"], "2001:db8::9/64", "{what}");
                assert_eq!(result["ips"][1]["address"], "10.77.1.1/32", "{what}");
                let ours = usize::try_from(result["ips"][1]["interface"].as_u64().unwrap()).unwrap();
                assert_eq!(result["interfaces"][ours]["sandbox"], pod.path(), "{what}");
                assert!(result["ip4"].is_null() && result["ip6"].is_null(), "{what}");
            }
            node.run(&agent.invocation("DEL", "c1", pod.path())).assert_silent_success();
        }
    }
}

/// What the agent of an earlier version said, in the order STATUS, ADD, CHECK, DEL, GC.
const FRAMES: &str = include_str!("../../testbed/earlier/be5d890/frames");

#[test]
#[ignore = "needs root"]
fn an_agent_of_an_earlier_version_is_understood_in_every_verb() {
    let (node, pod) = (Node::new(), Namespace::new());
    let agent = FakeAgent::start(|request| {
        let place = match request.body {
            RequestBody::Status => 0,
            RequestBody::Add(_) => 1,
            RequestBody::Check(_) => 2,
            RequestBody::Del(_) => 3,
            RequestBody::Gc(_) => 4,
        };
        let answer = FRAMES.lines().nth(2 * place + 1).unwrap().replace("10.0.5.117", "10.77.0.1");
        let length = u32::try_from(answer.len()).unwrap();
        Behaviour::Bytes([&length.to_le_bytes(), answer.as_bytes()].concat())
    });
    let run =
        |verb: &str, edit: fn(&mut Value)| node.run(&agent.invocation(verb, "c1", pod.path()).edit(edit));
    run("STATUS", |_| {}).assert_silent_success();
    let result = run("ADD", |_| {}).result();
    node.ping(address(&result));
    let check = agent.invocation("CHECK", "c1", pod.path()).edit(|conf| conf["prevResult"] = result);
    node.run(&check).assert_silent_success();
    run("DEL", |_| {}).assert_silent_success();
    run("GC", |conf| conf["cni.dev/valid-attachments"] = json!([])).assert_silent_success();
}

#[test]
#[ignore = "needs root"]
fn an_agent_that_speaks_another_version_is_named_and_del_is_kept_for_the_next_one() {
    let (node, pod) = (Node::new(), Namespace::new());
    let words = "protocol version 1 is not spoken here; this agent speaks 2";
    let agent = FakeAgent::start(move |_| Behaviour::Answer(refused(RefusalKind::Version, words)));
    let message = node.run(&agent.invocation("ADD", "c1", pod.path())).failure(11);
    assert!(message.contains(words) && message.contains("try again"), "{message}");
    node.run(&agent.invocation("DEL", "c1", pod.path())).assert_silent_success();
    assert_eq!(agent.spooled().len(), 1);
}
