//! DEL when the agent deletes the pairs: the address is safe at once, the pair waits, detached, and neither an ADD nor another
//! DEL is troubled by it. `ip` is the witness. The agent's part is played by the datapath's own function.
#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod common;
mod node;

use common::{Behaviour, FakeAgent, Pool};
use node::{Namespace, Node};
use serde_json::json;
use spur_datapath::netlink::Netlink;
use spur_datapath::pod;
use spur_wire::Response;

/// An agent that says that it deletes what plugins detach.
fn reaping() -> (FakeAgent, Pool) {
    let pool = Pool::default();
    let books = pool.clone();
    let agent = FakeAgent::start(move |request| {
        let mut response = books.answer(request);
        if let Response::Del(reply) = &mut response {
            reply.reaps_links = true;
        }
        Behaviour::Answer(response)
    });
    (agent, pool)
}

fn reap(node: &Node) -> usize {
    node.ns.inside(|| pod::reap(&mut Netlink::open().unwrap()).unwrap())
}

#[test]
#[ignore = "needs root"]
fn c32_the_address_is_safe_at_once_and_the_pair_goes_when_the_agent_reaps() {
    let (node, pod) = (Node::new(), Namespace::new());
    let (agent, pool) = reaping();
    let before = (node.ns.snapshot(), pod.snapshot());
    let result = node.run(&agent.invocation("ADD", "c1", pod.path())).result();
    let del = agent.invocation("DEL", "c1", pod.path());
    node.run(&del).assert_silent_success();
    assert!(pool.held().is_empty());
    assert_eq!(node.ns.ip(&["route", "show", "table", "5000"]), json!([]));
    assert_eq!(node.ns.ip(&["neigh", "show", "nud", "permanent"]), json!([]));
    let host_side = result["interfaces"][0]["name"].as_str().unwrap();
    assert_eq!(node.ns.ip(&["link", "show", host_side])[0]["group"], "5084", "it waits");
    node.run(&del).assert_silent_success();
    assert_eq!(reap(&node), 1);
    before.0.assert_same(&node.ns);
    before.1.assert_same(&pod);
}

#[test]
#[ignore = "needs root"]
fn c21_an_add_right_after_del_replaces_the_pair_that_waits() {
    let (node, pod) = (Node::new(), Namespace::new());
    let (agent, pool) = reaping();
    let before = (node.ns.snapshot(), pod.snapshot());
    // The same container, and another one in the same namespace.
    for container in ["c1", "c1", "c2"] {
        let result = node.run(&agent.invocation("ADD", container, pod.path())).result();
        node.ping(result["ips"][0]["address"].as_str().unwrap().strip_suffix("/32").unwrap());
        node.run(&agent.invocation("DEL", container, pod.path())).assert_silent_success();
    }
    assert!(pool.held().is_empty());
    assert_eq!(reap(&node), 1);
    before.0.assert_same(&node.ns);
    before.1.assert_same(&pod);
}

#[test]
#[ignore = "needs root"]
fn c32_an_agent_that_does_not_reap_leaves_nothing_to_be_reaped() {
    let node = Node::new();
    let silent = FakeAgent::start(|_| Behaviour::Close);
    let (old, _) = FakeAgent::honest();
    for agent in [old, silent] {
        let (honest, _) = FakeAgent::honest();
        let pod = Namespace::new();
        let before = (node.ns.snapshot(), pod.snapshot());
        node.run(&honest.invocation("ADD", "c1", pod.path())).result();
        node.run(&agent.invocation("DEL", "c1", pod.path())).assert_silent_success();
        before.0.assert_same(&node.ns);
        before.1.assert_same(&pod);
    }
}

#[test]
#[ignore = "needs root"]
fn c29_fifty_dels_at_once_wait_for_no_pair() {
    let node = Node::new();
    let (agent, pool) = reaping();
    let before = node.ns.snapshot();
    let pods: Vec<_> = (0..50).map(|_| Namespace::new()).collect();
    for verb in ["ADD", "DEL"] {
        let children: Vec<_> = node.ns.inside(|| {
            let call = |(index, pod): (usize, &Namespace)| {
                agent.invocation(verb, &format!("c{index}"), pod.path()).spawn()
            };
            pods.iter().enumerate().map(call).collect()
        });
        for child in children {
            assert!(child.wait_with_output().unwrap().status.success());
        }
    }
    assert!(pool.held().is_empty());
    assert_eq!(reap(&node), 50);
    before.assert_same(&node.ns);
}
