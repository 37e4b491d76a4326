//! A node in `vpcRoute` mode: what the controller grants is handed out, EC2 is never asked.

use super::bed::{Agent, Bed, net, wait_until};
use super::containers;
use crate::config::{Mode, VpcDestinations};
use spur_wire::RefusalKind;
use std::sync::Arc;
use std::time::Duration;

fn bed() -> Bed {
    let mut bed = Bed::new();
    bed.config.pool.mode = Mode::VpcRoute;
    bed.config.pool.nat.vpc_destinations = VpcDestinations::Covered;
    bed.config.grant_dir = Some(bed.dir.path().join("grants"));
    bed.config.node_name = Some("worker-1".parse().unwrap());
    bed.config.pool.cooldown = Duration::ZERO;
    std::fs::create_dir_all(bed.dir.path().join("grants/nodes")).unwrap();
    bed
}

impl Bed {
    fn grant(&self, blocks: &str, waits: &str) {
        let placement = format!(
            r#"{{"mode": "vpcRoute", "blocks": {blocks}, "eni": null, "sourceDestCheckOff": true, "tables": {{}}}}"#
        );
        self.place(&placement, waits);
    }

    fn place(&self, placement: &str, waits: &str) {
        let instance = self
            .cloud
            .with(|world| world.true_enis().values().find_map(|eni| eni.attachment.clone()?.instance));
        let ready = waits == "[]";
        let text = format!(
            r#"{{"version": 1, "node": "worker-1", "instance": "{}", "placement": {placement}, "ready": {ready}, "waits": {waits}, "vpc": null, "coveredSubnets": {{"subnet-a": "10.0.1.0/24"}}}}"#,
            instance.unwrap()
        );
        let grants = self.dir.path().join("grants");
        std::fs::write(grants.join("new"), text).unwrap();
        std::fs::rename(grants.join("new"), grants.join("nodes/worker-1.json")).unwrap();
    }
}

fn reason(agent: &Agent) -> String {
    agent.status().and_then(|status| status.reason).unwrap_or_default()
}

#[test]
fn a_node_serves_from_its_blocks_once_its_routes_are_there_without_a_call_to_ec2() {
    let bed = bed();
    let agent = bed.start();
    wait_until("told why", || reason(&agent).contains("the controller wrote no nodes/worker-1.json yet"));
    bed.grant(r#"["10.200.0.0/28"]"#, r#"["10.200.0.0/28 in rtb-1: no route yet"]"#);
    agent.reconfigure(|config| config.add_wait = Duration::from_millis(400));
    wait_until("told which route", || {
        let refusal = agent.add("early").unwrap_err();
        refusal.kind == RefusalKind::TryAgain && refusal.reason.contains("in rtb-1: no route yet")
    });
    assert!(!bed.config.cni.conf_dir.join("10-spur.conflist").exists(), "no pod is sent here yet");
    bed.grant(r#"["10.200.0.0/28"]"#, "[]");
    wait_until("ready", || agent.status().is_some_and(|status| status.ready));
    wait_until("announced", || bed.config.cni.conf_dir.join("10-spur.conflist").exists());
    agent.reconfigure(|config| config.add_wait = Duration::from_secs(10));
    let adds = agent.add_all(&containers("c", 14));
    assert!(adds.iter().all(Result::is_ok), "{adds:?}");
    agent.reconfigure(|config| config.add_wait = Duration::from_millis(400));
    let full = agent.add("one-more").unwrap_err();
    assert!(full.reason.contains("14 pod addresses in its blocks 10.200.0.0/28"), "{}", full.reason);
    let nat = bed.kernel.with(|state| state.wanted.clone()).unwrap().nat;
    assert_eq!(nat.never, [net("10.0.1.0/24")]);
    assert_eq!(nat.force, [net("169.254.0.0/16"), net("10.0.0.2/32")]);
    assert!(bed.calls().is_empty(), "{:?}", bed.calls());
}

#[test]
fn pods_outlive_the_agent_the_grant_and_the_store() {
    let bed = bed();
    bed.grant(r#"["10.200.0.0/28"]"#, "[]");
    let mut agent = bed.start_ready();
    let address = agent.address("a");
    agent.stop().unwrap();
    std::fs::remove_file(bed.dir.path().join("grants/nodes/worker-1.json")).unwrap();
    let agent = bed.start();
    wait_until("restored", || reason(&agent).contains("the controller wrote no nodes/worker-1.json yet"));
    assert_eq!(agent.held("a"), [address]);
    assert_eq!(agent.del("a"), [address]);
    bed.grant(r#"["10.200.1.0/28"]"#, "[]");
    wait_until("moved", || {
        agent.add("b").is_ok_and(|reply| reply.addresses[0].to_string().starts_with("10.200.1."))
    });
}

#[test]
fn a_node_that_was_moved_to_the_fallback_pool_serves_from_its_enis_for_good() {
    let mut bed = bed();
    bed.config.pool.fallback = Some("spill".to_owned());
    let mut agent = bed.start();
    bed.place(r#"{"mode": "none"}"#, r#"["rtb-1 holds 85 of 100 routes"]"#);
    wait_until("told why", || reason(&agent).contains("rtb-1 holds 85 of 100 routes"));
    bed.place(r#"{"mode": "eniPool", "pool": "other"}"#, "[]");
    wait_until("told which pool", || {
        reason(&agent).contains("the eni pool other, and pool.fallbackPool is spill")
    });
    assert!(bed.calls().is_empty(), "{:?}", bed.calls());
    bed.place(r#"{"mode": "eniPool", "pool": "spill"}"#, "[]");
    wait_until("ready", || agent.status().is_some_and(|status| status.ready));
    let address = agent.address("a");
    let of_an_eni = |address| {
        bed.cloud.with(|world| world.true_enis().values().any(|eni| eni.addresses.contains(&address)))
    };
    assert!(of_an_eni(address), "{address}");
    let nat = bed.kernel.with(|state| state.wanted.clone()).unwrap().nat;
    assert_eq!((nat.never, nat.force), (vec![net("10.0.0.0/16"), net("10.7.0.0/16")], Vec::new()));

    // Whatever the controller or the configuration says later, its pods live on addresses of ENIs.
    agent.stop().unwrap();
    bed.grant(r#"["10.200.0.0/28"]"#, "[]");
    bed.config.pool.fallback = None;
    let agent = bed.start_ready();
    assert_eq!(agent.held("a"), [address]);
    assert!(of_an_eni(agent.address("b")));
}

#[test]
fn a_node_with_a_fallback_pool_and_a_block_stays_with_its_block() {
    let mut bed = bed();
    bed.config.pool.fallback = Some("spill".to_owned());
    bed.grant(r#"["10.200.0.0/28"]"#, "[]");
    let mut agent = bed.start_ready();
    let address = agent.address("a");
    assert!(address.to_string().starts_with("10.200.0."), "{address}");
    agent.stop().unwrap();
    bed.place(r#"{"mode": "eniPool", "pool": "spill"}"#, "[]");
    let agent = bed.start();
    wait_until("restored", || reason(&agent).contains("moved this node to the eni pool spill"));
    assert_eq!(agent.held("a"), [address]);
    assert!(bed.calls().is_empty(), "{:?}", bed.calls());
}

#[test]
fn what_the_controller_decided_for_a_node_is_not_read_again_before_it_counts() {
    let mut bed = bed();
    bed.config.pool.fallback = Some("spill".to_owned());
    bed.grant(r#"["10.200.0.0/28"]"#, "[]");
    let file = bed.dir.path().join("grants/nodes/worker-1.json");
    let taken = file.clone();
    bed.connecting = Arc::new(move || std::fs::remove_file(&taken).unwrap());
    let _agent = bed.start_ready();
    assert!(!file.exists(), "it went between the decision and its use");
}
