//! GC through the agent's socket: what is released, what stays, and that networks do not meet. The plugin's part (the list, the
//! veths) is tested where the plugin is.

use super::bed::{Agent, Bed, attachment, unix_millis};
use spur_wire::{DelRequest, GcReply, GcRequest, RefusalKind, RequestBody, Response};
use std::net::IpAddr;

fn gc(agent: &Agent, network: &str, valid: &[&str], started_unix_ms: u64) -> GcReply {
    let valid = valid.iter().map(|container| attachment(container)).collect();
    match agent.ask_in(network, RequestBody::Gc(GcRequest { valid, started_unix_ms })) {
        Some(Response::Gc(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

fn soon() -> u64 {
    unix_millis() + 1000
}

#[test]
fn c55_c57_c59_gc_releases_what_is_not_listed_once_and_durably() {
    let bed = Bed::new();
    let mut agent = bed.start_ready();
    let kept = agent.address("c2");
    agent.address("c1");
    agent.address("c3");
    let reply = gc(&agent, "spur", &["c2", "never-added"], soon());
    assert_eq!((reply.released, reply.problems.len()), (vec![attachment("c1"), attachment("c3")], 0));
    assert_eq!(gc(&agent, "spur", &["c2"], soon()).released, []);
    agent.stop().unwrap();
    let agent = bed.start_ready();
    let held = |container| agent.held(container);
    assert_eq!((held("c1"), held("c2"), held("c3")), (vec![], vec![kept], vec![]));
    assert_eq!(gc(&agent, "spur", &[], soon()).released, [attachment("c2")]);
}

#[test]
fn c56_networks_do_not_meet() {
    let bed = Bed::new();
    let agent = bed.start_ready();
    let address = agent.address("c1");
    assert_eq!(gc(&agent, "other", &[], soon()).released, []);
    let del = RequestBody::Del(DelRequest { attachment: attachment("c1") });
    let Some(Response::Del(reply)) = agent.ask_in("other", del) else { panic!("no answer") };
    assert_eq!(reply.addresses, [] as [IpAddr; 0]);
    assert_eq!(agent.held("c1"), [address]);
    for network in ["", "a/b", ".a"] {
        let gc = RequestBody::Gc(GcRequest { valid: vec![], started_unix_ms: soon() });
        let Some(Response::Refused(refusal)) = agent.ask_in(network, gc) else { panic!("no refusal") };
        assert!(refusal.kind == RefusalKind::Invalid && refusal.reason.contains("network"), "{refusal:?}");
    }
}

#[test]
fn c62_a_grant_that_is_younger_than_the_request_is_not_collected() {
    let bed = Bed::new();
    let agent = bed.start_ready();
    let started = unix_millis() - 1;
    let address = agent.address("c1");
    assert_eq!(gc(&agent, "spur", &[], started).released, []);
    assert_eq!(agent.held("c1"), [address]);
    assert_eq!(gc(&agent, "spur", &[], soon()).released, [attachment("c1")]);
}
