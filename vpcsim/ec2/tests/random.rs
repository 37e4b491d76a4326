//! Random requests, sensible and not: no input brings the model down, every answer is well-formed, and after every call the
//! books agree with the ENIs. The books are checked by an own count over the view, not by the model's. And speed: thousands
//! of calls a second, measured.

#![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "helpers of a test outside its functions")]

mod common;

use common::{Doc, Lab};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;
use vpcsim_ec2::{Answer, Caller, Delivery, ImdsRequest, State};

/// What is wrong with a world; nothing ever should be.
fn check(state: &State) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut owned: BTreeSet<Ipv4Addr> = BTreeSet::new();
    let mut places = BTreeSet::new();
    for subnet in &state.subnets {
        let mut taken = 5;
        for eni in state.enis.values().filter(|eni| eni.subnet == subnet.id) {
            let single = std::iter::once(eni.primary).chain(eni.secondary.iter().copied());
            let covered = eni.prefixes.iter().flat_map(|prefix| {
                (u32::from(prefix.network())..=u32::from(prefix.broadcast())).map(Ipv4Addr::from)
            });
            let all: Vec<Ipv4Addr> = single.chain(covered).collect();
            for address in all {
                taken += 1;
                if !owned.insert(address) {
                    wrong.push(format!("{address} has two owners"));
                }
                if !subnet.cidr.contains(&address)
                    || u32::from(address) - u32::from(subnet.cidr.network()) < 4
                {
                    wrong.push(format!("{address} is not to be had in {}", subnet.cidr));
                }
            }
        }
        if subnet.free + subnet.held + taken != 1 << (32 - subnet.cidr.prefix_len()) {
            wrong.push(format!("{}: {} free and {taken} taken", subnet.name, subnet.free));
        }
    }
    for eni in state.enis.values() {
        let Some(place) = &eni.attachment else { continue };
        if !places.insert((place.node.clone(), place.card, place.device_index)) {
            wrong.push(format!("two ENIs at {place:?}"));
        }
        let node = state.nodes.iter().find(|node| node.name == place.node).unwrap();
        let limits = spur_quotas::builtin(&node.instance_type).unwrap();
        if 1 + eni.secondary.len() + eni.prefixes.len() > limits.ipv4_per_eni() as usize {
            wrong.push(format!("{} has too many addresses", eni.id));
        }
        let on_card = |eni: &&vpcsim_ec2::EniView| {
            eni.attachment
                .as_ref()
                .is_some_and(|other| (&other.node, other.card) == (&place.node, place.card))
        };
        let most = limits.cards().iter().find(|card| card.index == place.card).unwrap().max_enis;
        if state.enis.values().filter(on_card).count() > most as usize {
            wrong.push(format!("{} has too many ENIs on card {}", place.node, place.card));
        }
    }
    wrong
}

#[derive(Debug, Clone)]
enum Step {
    Create { subnet: usize, wanted: String },
    Attach { eni: usize, node: usize, index: u32, card: u32 },
    Detach { eni: usize, force: bool },
    Delete { eni: usize },
    Assign { eni: usize, wanted: String },
    Move { from: usize, to: usize },
    Unassign { eni: usize, which: usize },
    Wait { millis: u64 },
}

fn wanted() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        (0..12_u32).prop_map(|count| format!("SecondaryPrivateIpAddressCount={count}")),
        (1..6_u32).prop_map(|count| format!("Ipv4PrefixCount={count}")),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3_usize, wanted()).prop_map(|(subnet, wanted)| Step::Create { subnet, wanted }),
        3 => (any::<usize>(), 0..4_usize, 0..5_u32, 0..2_u32)
            .prop_map(|(eni, node, index, card)| Step::Attach { eni, node, index, card }),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(eni, force)| Step::Detach { eni, force }),
        1 => any::<usize>().prop_map(|eni| Step::Delete { eni }),
        4 => (any::<usize>(), wanted()).prop_map(|(eni, wanted)| Step::Assign { eni, wanted }),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Step::Move { from, to }),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(eni, which)| Step::Unassign { eni, which }),
        2 => (0..3_000_u64).prop_map(|millis| Step::Wait { millis }),
    ]
}

fn perform(lab: &mut Lab, step: &Step) {
    let state = lab.ec2.state();
    let eni = |at: &usize| state.enis.values().nth(at % state.enis.len()).unwrap();
    let (action, parameters) = match step {
        Step::Create { subnet, wanted } => {
            ("CreateNetworkInterface", format!("SubnetId={}&{wanted}", state.subnets[*subnet].id))
        }
        Step::Attach { eni: at, node, index, card } => (
            "AttachNetworkInterface",
            format!(
                "NetworkInterfaceId={}&InstanceId={}&DeviceIndex={index}&NetworkCardIndex={card}",
                eni(at).id,
                state.nodes[*node].instance
            ),
        ),
        Step::Detach { eni: at, force } => {
            let seen = lab.ask("DescribeNetworkInterfaces", &format!("NetworkInterfaceId.1={}", eni(at).id));
            if seen.status != 200 {
                return;
            }
            let seen = Doc::read(&seen.body);
            let ids = seen.all("networkInterfaceSet/item/attachment/attachmentId");
            let Some(id) = ids.first() else { return };
            ("DetachNetworkInterface", format!("AttachmentId={id}&Force={force}"))
        }
        Step::Delete { eni: at } => ("DeleteNetworkInterface", format!("NetworkInterfaceId={}", eni(at).id)),
        Step::Assign { eni: at, wanted } => {
            ("AssignPrivateIpAddresses", format!("NetworkInterfaceId={}&{wanted}", eni(at).id))
        }
        Step::Move { from, to } => {
            let Some(address) = eni(from).secondary.first() else { return };
            let parameters = format!("NetworkInterfaceId={}&PrivateIpAddress.1={address}", eni(to).id);
            ("AssignPrivateIpAddresses", format!("{parameters}&AllowReassignment=true"))
        }
        Step::Unassign { eni: at, which } => {
            let eni = eni(at);
            let what = match (eni.secondary.is_empty(), eni.prefixes.is_empty()) {
                (false, _) => format!("PrivateIpAddress.1={}", eni.secondary[which % eni.secondary.len()]),
                (true, false) => format!("Ipv4Prefix.1={}", eni.prefixes[which % eni.prefixes.len()]),
                (true, true) => return,
            };
            ("UnassignPrivateIpAddresses", format!("NetworkInterfaceId={}&{what}", eni.id))
        }
        Step::Wait { millis } => {
            lab.wait(*millis);
            return;
        }
    };
    let before = lab.ec2.state();
    let answer = lab.ask(action, &parameters);
    if answer.delivery == Delivery::Send {
        Doc::read(&answer.body);
    }
    // What the caller is told may be less than what has happened; the record has it all.
    if lab.ec2.record().last().unwrap().outcome != "OK" {
        assert_eq!(lab.ec2.state(), before, "a refused {action} {parameters} changed something");
    }
}

/// A fault of any kind, at any time, by count or by chance.
fn fault() -> impl Strategy<Value = String> {
    let kind = prop::sample::select(vec![
        "throttle, capacity: 3, refillPerSecond: 1.5",
        "error, code: InternalError",
        "error, code: InsufficientCidrBlocks",
        "deny, actions: [AttachNetworkInterface]",
        "timeout, millis: 100",
        "lostReply",
        "lostReply, code: ServiceUnavailable",
        "slow, millis: 5",
        "stale, lagMillis: 700",
        "late, millis: 4000",
        "stuck",
        "vanish, everyMillis: 900",
        "loseAddresses, count: 3, everyMillis: 500",
        "fillSubnet, subnet: a, leave: 9, everyMillis: 1500",
        "fillSubnet, subnet: tiny",
        "fragmentSubnet, subnet: b, leave: 1, everyMillis: 700",
        "terminate, node: n1",
    ]);
    let when = prop::sample::select(vec!["", ", probability: 0.3", ", every: 3", ", calls: [1, 2, 5]"]);
    (kind, when, 0..4_000_u32, prop::option::of(4_000..8_000_u32)).prop_map(|(kind, when, from, until)| {
        let is_call = kind.split(',').next().is_some_and(|kind| {
            ["error", "deny", "timeout", "lostReply", "slow", "stale", "late", "stuck"].contains(&kind)
        });
        let when = if is_call { when } else { "" };
        let until = until.map_or_else(String::new, |until| format!(", untilMillis: {until}"));
        format!("{{kind: {kind}{when}, fromMillis: {from}{until}}}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_books_are_right_after_every_step(steps in prop::collection::vec(step(), 1..60)) {
        let mut lab = Lab::new();
        for step in &steps {
            perform(&mut lab, step);
            let wrong = check(&lab.ec2.state());
            prop_assert!(wrong.is_empty(), "after {step:?}: {wrong:?}");
        }
    }

    #[test]
    fn the_books_are_right_under_any_faults_and_a_second_run_is_the_same(
        faults in prop::collection::vec(fault(), 1..6),
        others in prop::collection::vec(fault(), 0..4),
        steps in prop::collection::vec(step(), 1..50),
    ) {
        let run = || {
            let mut lab = Lab::new();
            lab.ec2.set_faults(lab.now, &format!("[{}]", faults.join(", "))).unwrap();
            for (at, step) in steps.iter().enumerate() {
                if at == 30 {
                    lab.ec2.set_faults(lab.now, &format!("[{}]", others.join(", "))).unwrap();
                }
                perform(&mut lab, step);
                let wrong = check(&lab.ec2.state());
                assert!(wrong.is_empty(), "after {step:?}: {wrong:?}");
            }
            lab.ec2.set_faults(lab.now, "[]").unwrap();
            assert!(lab.ec2.state().subnets.iter().all(|subnet| subnet.held == 0));
            assert!(check(&lab.ec2.state()).is_empty());
            (lab.ec2.state(), lab.ec2.take_record())
        };
        prop_assert_eq!(run(), run());
    }

    #[test]
    fn any_text_is_a_list_of_faults_or_of_mistakes(text in "\\PC{0,120}") {
        let mut lab = Lab::new();
        if let Err(mistakes) = lab.ec2.set_faults(lab.now, &text) {
            prop_assert!(!mistakes.is_empty());
        }
    }

    #[test]
    fn any_bytes_get_a_well_formed_answer(form in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut lab = Lab::new();
        let answer = lab.ec2.call(lab.now, &lab.caller, &form);
        prop_assert!(answer.status >= 400);
        Doc::read(&answer.body);
    }

    #[test]
    fn any_parameters_get_a_well_formed_answer(
        action in prop::sample::select(vec![
            "AssignPrivateIpAddresses", "AttachNetworkInterface", "CreateNetworkInterface", "CreateTags",
            "DescribeNetworkInterfaces", "ModifyNetworkInterfaceAttribute", "UnassignPrivateIpAddresses",
        ]),
        pairs in prop::collection::vec((
            "(NetworkInterfaceId|ResourceId|SubnetId|Filter|Tag|PrivateIpAddress|PrivateIpAddresses|MaxResults|NextToken|Ipv4Prefix)(\\.[0-9]{1,12})?(\\.(Name|Value|Key)(\\.1)?)?",
            "[ -~]{0,12}|%[0-9a-f]{2}|[0-9]{1,20}|eni-[0-9a-f]{17}",
        ), 0..6),
    ) {
        let mut lab = Lab::new();
        let parameters: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let answer = lab.ask(action, &parameters.join("&"));
        Doc::read(&answer.body);
        prop_assert!(check(&lab.ec2.state()).is_empty());
    }

    #[test]
    fn the_metadata_service_withstands_any_request(
        method in "GET|PUT|HEAD|POST|", path in "(/latest)?(/[a-z/.-]{0,20})?|\\PC{0,20}", token in "\\PC{0,60}", ttl in "\\PC{0,8}",
    ) {
        let mut lab = Lab::new();
        let request = ImdsRequest { method: &method, path: &path, token: Some(&token), ttl: Some(&ttl), forwarded: false };
        let reply = lab.ec2.imds_request("n1", &request, lab.now);
        prop_assert!(reply.status != 200 || method == "PUT");
        let _ = lab.ec2.imds("n1", &path, lab.now);
    }

    #[test]
    fn any_text_is_a_scenario_or_a_list_of_mistakes(text in "\\PC{0,200}") {
        if let Err(mistakes) = vpcsim_ec2::Scenario::parse(&text) {
            prop_assert!(!mistakes.is_empty());
        }
    }

    #[test]
    fn any_authorization_header_names_a_caller(header in "\\PC{0,80}") {
        let _ = Caller::of_header(Some(&header));
    }
}

/// The text between two marks of an answer: the measured loop reads no XML otherwise.
fn between<'a>(answer: &'a Answer, before: &str, behind: &str) -> &'a str {
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body.split_once(before).and_then(|(_, rest)| rest.split_once(behind)).unwrap().0
}

fn calls_a_second() -> f64 {
    let nodes: String =
        (0..50).map(|at| format!("  - {{name: n{at}, type: m5.large, subnet: a}}\n")).collect();
    let subnets = "subnets: [{name: a, zone: eu-central-1a, cidr: 10.0.0.0/18}]";
    let mut lab = Lab::of(&format!("name: many\nvpc: {{cidrs: [10.0.0.0/16]}}\n{subnets}\nnodes:\n{nodes}"));
    let state = lab.ec2.state();
    let create = format!("SubnetId={}&SecondaryPrivateIpAddressCount=8", state.subnets[0].id);
    let began = used();
    for node in &state.nodes {
        let made = lab.ask("CreateNetworkInterface", &create);
        let eni = format!("NetworkInterfaceId={}", between(&made, "<networkInterfaceId>", "</"));
        let attach = format!("{eni}&InstanceId={}&DeviceIndex=1", node.instance);
        assert_eq!(lab.ask("AttachNetworkInterface", &attach).status, 200);
        let filter = format!("Filter.1.Name=attachment.instance-id&Filter.1.Value.1={}", node.instance);
        for _ in 0..4 {
            assert_eq!(lab.ask("DescribeNetworkInterfaces", &filter).status, 200);
        }
        let got = lab.ask("AssignPrivateIpAddresses", &format!("{eni}&SecondaryPrivateIpAddressCount=1"));
        let address = between(&got, "<privateIpAddress>", "</");
        assert_eq!(
            lab.ask("UnassignPrivateIpAddresses", &format!("{eni}&PrivateIpAddress.1={address}")).status,
            200
        );
    }
    f64::from(u32::try_from(lab.ec2.record().len()).unwrap()) / (used() - began).as_secs_f64()
}

/// What this thread has had of a processor: what others take of it is not our cost.
fn used() -> Duration {
    let words = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(words.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn fifty_nodes_are_answered_thousands_of_times_a_second() {
    // The best of a few rounds: others also take its caches.
    let rate = (0..5).map(|_| calls_a_second()).fold(0.0, f64::max);
    eprintln!("{rate:.0} calls a second");
    assert!(rate >= 2_000.0, "{rate:.0} calls a second");
}
