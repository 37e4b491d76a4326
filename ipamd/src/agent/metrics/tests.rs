use super::*;
use crate::metrics::catalog::AGENT;
use spur_cloud::Api;
use spur_cloud::budget::{Headroom, Meter};
use spur_datapath::conntrack::Destination;
use spur_ipamd_core::{AttachmentKey, Counts, EniView, Targets, Timestamp, WaitingView};
use std::net::Ipv4Addr;
use std::time::Duration;

fn pool() -> PoolView {
    let eni = |id: &str, phase| EniView {
        id: id.parse().unwrap(),
        subnet: "subnet-1".parse().unwrap(),
        place: None,
        phase,
        capacity: 9,
        prefixes: Vec::new(),
        addresses: Vec::new(),
    };
    let until = Timestamp::from_epoch(Duration::from_secs(1_700_000_000));
    let full = Wait::SubnetFull { subnet: "subnet-1".parse().unwrap(), until };
    let key = AttachmentKey {
        network: "spur".to_owned(),
        container_id: "a-pod-that-nobody-reads-of".to_owned(),
        if_name: "eth0".to_owned(),
    };
    let waiting = |waits| WaitingView { attachment: key.clone(), pod: None, since: until, waits };
    PoolView {
        observed: true,
        targets: Targets::default(),
        counts: Counts {
            free: 2,
            coming: 1,
            held: 5,
            cooling: 3,
            leaving: 4,
            free_prefixes: 6,
            used_prefixes: 7,
        },
        max_enis: 3,
        enis: vec![eni("eni-1", "ready"), eni("eni-2", "ready"), eni("eni-3", "foreign")],
        waiting: vec![
            waiting(vec![full.clone(), Wait::Queued]),
            waiting(vec![full.clone()]),
            waiting(Vec::new()),
        ],
        calls: Vec::new(),
        blocked: vec![full.clone(), full],
        findings: Vec::new(),
        found: BTreeMap::from([("eni_gone", 2)]),
    }
}

fn usage() -> Usage {
    let failed = BTreeMap::from([
        (ErrorClass::Throttled, 3),
        (ErrorClass::OverBudget { wait: Duration::from_secs(1) }, 1),
        (ErrorClass::OverBudget { wait: Duration::from_secs(2) }, 1),
    ]);
    let calls = ApiUse {
        succeeded: 10,
        failed,
        abandoned: 1,
        refused: 4,
        folded: 5,
        waited: 6,
        waiting: Duration::ZERO,
    };
    let left = |tokens| Headroom { tokens, capacity: 20, rate_percent: 100, waiting: 0 };
    let api = Api::DescribeNetworkInterfaces;
    Usage {
        calls: BTreeMap::from([(api, calls)]),
        headroom: BTreeMap::from([(Meter::of(api), left(9)), (Meter::by_ids(api), left(8))]),
        free_addresses: (0..100_u32).map(|n| (format!("subnet-{n:03}").parse().unwrap(), n)).collect(),
    }
}

fn flows() -> Translated {
    let to = |protocol| Destination { address: Ipv4Addr::new(203, 0, 113, 9), port: 443, protocol };
    let busiest = (0..200).map(|protocol| (to(protocol), 64_512)).collect();
    Translated { flows: 70_000, destinations: 200, busiest }
}

fn text(seen: &Seen) -> String {
    samples(seen).text(AGENT)
}

#[test]
fn what_is_seen_becomes_samples() {
    let mut node = NodeStatus::unknown();
    (node.repairs, node.failed_updates) = (8, 9);
    node.masqueraders = vec!["chain \"X\" of table y".to_owned()];
    let text = text(&Seen {
        unready: Some(Unready::Unprepared("words".to_owned())),
        pool: Some(pool()),
        usage: Some(usage()),
        node: Some(node),
        flows: Some(flows()),
        ports: 64_512,
        flow_failures: 1,
    });
    for line in [
        "spur_agent_state{state=\"unprepared\"} 1.0",
        "spur_agent_state{state=\"ready\"} 0.0",
        "spur_pool_addresses{state=\"free\"} 2.0",
        "spur_pool_addresses{state=\"coming\"} 1.0",
        "spur_pool_addresses{state=\"held\"} 5.0",
        "spur_pool_addresses{state=\"cooling\"} 3.0",
        "spur_pool_addresses{state=\"leaving\"} 4.0",
        "spur_pool_prefixes{state=\"used\"} 7.0",
        "spur_pool_enis{phase=\"ready\"} 2.0",
        "spur_pool_enis{phase=\"foreign\"} 1.0",
        "spur_pool_enis{phase=\"attaching\"} 0.0",
        "spur_pool_max_enis 3.0",
        "spur_pool_waiting_adds{reason=\"subnet_full\"} 2.0",
        "spur_pool_waiting_adds{reason=\"none\"} 1.0",
        "spur_pool_blocked{reason=\"subnet_full\"} 1.0",
        "spur_pool_findings_total{kind=\"eni_gone\"} 2",
        "spur_pool_findings_total{kind=\"held_eni_gone\"} 0",
        "spur_ec2_requests_total{action=\"DescribeNetworkInterfaces\",outcome=\"ok\"} 10",
        "spur_ec2_requests_total{action=\"DescribeNetworkInterfaces\",outcome=\"throttled\"} 3",
        "spur_ec2_requests_total{action=\"DescribeNetworkInterfaces\",outcome=\"over_budget\"} 2",
        "spur_ec2_budget_tokens{action=\"DescribeNetworkInterfaces\"} 8.0",
        "spur_kernel_state{state=\"unprepared\"} 1.0",
        "spur_kernel_repairs_total 8",
        "spur_kernel_failed_updates_total 9",
        "spur_foreign_masqueraders 1.0",
        "spur_nat_translated_flows 70000.0",
        "spur_nat_destinations 200.0",
        "spur_nat_destination_flows{destination=\"203.0.113.9\",port=\"443\",protocol=\"tcp\"} 64512.0",
        "spur_nat_ports 64512.0",
        "spur_nat_read_failures_total 1",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line} in {text}");
    }
}

#[test]
fn what_is_told_is_bounded_whatever_is_seen() {
    let seen = Seen { pool: Some(pool()), usage: Some(usage()), flows: Some(flows()), ..Seen::default() };
    let text = text(&seen);
    let count = |name: &str| text.lines().filter(|line| line.starts_with(&format!("{name}{{"))).count();
    assert_eq!(
        (count("spur_nat_destination_flows"), count("spur_subnet_free_addresses")),
        (BUSIEST, SUBNETS)
    );
    assert_eq!(count("spur_pool_blocked"), 1, "a label once");
    assert!(!text.contains("nobody-reads-of"), "no names of pods");
}

#[test]
fn a_finding_is_told_before_it_is_first_made_and_never_as_zero_after_it() {
    let none = "\nspur_pool_findings_total{kind=\"eni_gone\"} 0\n";
    let starting = Seen { unready: Some(Unready::Starting("the store".to_owned())), ..Seen::default() };
    assert!(text(&starting).contains(none), "{}", text(&starting));
    for unready in [None, Some(Unready::Stopping)] {
        let silent = Seen { unready, ..Seen::default() };
        assert!(!text(&silent).contains("spur_pool_findings_total{"), "a pool that does not answer");
    }
}

#[test]
fn before_anything_is_known_the_state_is_told_and_nothing_is_guessed() {
    let starting = Seen { unready: Some(Unready::Starting("the store".to_owned())), ..Seen::default() };
    let text = text(&starting);
    assert!(text.contains("spur_agent_state{state=\"starting\"} 1.0\n"), "{text}");
    assert!(!text.contains("spur_pool_addresses{") && !text.contains("spur_kernel_state{"), "{text}");
    for family in AGENT {
        assert!(text.contains(&format!("# TYPE {} ", family.name)), "{}", family.name);
    }
}
