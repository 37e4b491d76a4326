//! Each kind of fault, alone: what it does to whom and when, what the record says, and that nothing else happens. The world is
//! driven in process with time as an argument; how an answer is held back or lost on the wire is the server's test.

#![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "helpers of a test outside its functions")]

mod common;

use common::{Doc, Lab, WORLD};
use std::time::Duration;
use vpcsim_ec2::{Answer, Caller, Delivery, Happening, ImdsReply, ImdsRequest, Scenario};

fn lab(faults: &str) -> Lab {
    Lab::of(&format!("{WORLD}\nfaults: {faults}\n"))
}

fn set(lab: &mut Lab, faults: &str) {
    lab.ec2.set_faults(lab.now, faults).unwrap();
}

/// Calls of the same kind, as codes: `-` for success.
fn codes(lab: &mut Lab, action: &str, parameters: &str, times: usize) -> Vec<String> {
    (0..times).map(|_| code(&lab.ask(action, parameters))).collect()
}

fn code(answer: &Answer) -> String {
    match (answer.delivery, answer.status) {
        (Delivery::Drop, _) => "(dropped)".to_owned(),
        (_, 200) => "-".to_owned(),
        _ => Doc::read(&answer.body).one("Errors/Error/Code"),
    }
}

fn as_node(lab: &mut Lab, node: &str) {
    let state = lab.ec2.state();
    let key = &state.nodes.iter().find(|known| known.name == node).unwrap().access_key;
    lab.caller = Caller::Key(key.clone());
}

fn outcomes(lab: &Lab) -> Vec<(String, u16)> {
    lab.ec2.record().iter().map(|call| (call.outcome.clone(), call.status)).collect()
}

const LIMIT: &str = "RequestLimitExceeded";

#[test]
fn throttling_has_the_figures_of_ec2() {
    let mut lab = lab("[{kind: throttle}]");
    let filter = "Filter.1.Name=vpc-id&Filter.1.Value.1=x";
    for (action, parameters, capacity, refill) in [
        ("DescribeNetworkInterfaces", "", 50, 10),
        ("DescribeNetworkInterfaces", filter, 100, 20),
        ("DescribeInstances", "InstanceId.1=i-0123456789abcdef0", 50, 10),
        ("DescribeSubnets", "", 100, 20),
        ("CreateTags", "", 100, 10),
        ("CreateNetworkInterface", "", 100, 5),
        ("DeleteNetworkInterface", "", 100, 5),
        ("ModifyNetworkInterfaceAttribute", "", 100, 5),
        ("AssignPrivateIpAddresses", "", 100, 5),
        ("UnassignPrivateIpAddresses", "", 100, 5),
        ("AttachNetworkInterface", "", 50, 5),
    ] {
        let passed = |lab: &mut Lab| {
            let codes = codes(lab, action, parameters, 150);
            codes.iter().filter(|code| *code != LIMIT).count()
        };
        assert_eq!(passed(&mut lab), capacity, "{action} {parameters}");
        lab.wait(1_000);
        assert_eq!(passed(&mut lab), refill, "{action} {parameters}");
    }
    let last = lab.ec2.record().last().unwrap();
    assert_eq!((last.outcome.as_str(), last.status), (LIMIT, 503));
    assert_eq!(last.faults, ["throttle-0"]);
}

#[test]
fn a_bucket_is_the_accounts_and_not_the_nodes() {
    let mut lab = lab("[{kind: throttle, actions: [DescribeVpcs], capacity: 3, refillPerSecond: 0.5}]");
    assert_eq!(codes(&mut lab, "DescribeVpcs", "", 2), ["-", "-"]);
    as_node(&mut lab, "n1");
    assert_eq!(codes(&mut lab, "DescribeVpcs", "", 2), ["-", LIMIT]);
    assert_eq!(codes(&mut lab, "DescribeSubnets", "", 1), ["-"]);
    lab.wait(2_000);
    assert_eq!(codes(&mut lab, "DescribeVpcs", "", 2), ["-", LIMIT]);
}

#[test]
fn reads_share_a_bucket_unless_ec2_has_two() {
    let narrow = "Filter.1.Name=vpc-id&Filter.1.Value.1=x";
    let mut lab = lab("[{kind: throttle}]");
    codes(&mut lab, "DescribeSubnets", "", 100);
    assert_eq!(codes(&mut lab, "DescribeSubnets", narrow, 1), [LIMIT]);
    codes(&mut lab, "DescribeInstances", "", 51);
    assert_eq!(codes(&mut lab, "DescribeInstances", narrow, 1), ["-"]);
    set(&mut lab, "[{kind: throttle, capacity: 1, refillPerSecond: 1}]");
    codes(&mut lab, "DescribeInstances", "", 1);
    assert_eq!(codes(&mut lab, "DescribeInstances", narrow, 1), [LIMIT]);
}

#[test]
fn an_error_strikes_before_anything_has_happened() {
    let mut lab =
        lab("[{kind: error, code: InternalError, actions: [CreateNetworkInterface], calls: [1, 3]}]");
    let (subnet, before) = (lab.subnet("a"), lab.ec2.state());
    let create = format!("SubnetId={subnet}");
    let answer = lab.ask("CreateNetworkInterface", &create);
    assert_eq!((answer.status, code(&answer)), (500, "InternalError".to_owned()));
    assert_eq!(lab.ec2.state(), before);
    assert_eq!(codes(&mut lab, "CreateNetworkInterface", &create, 3), ["-", "InternalError", "-"]);
    assert_eq!(lab.ec2.state().enis.len(), before.enis.len() + 2);
    let view = &lab.ec2.faults()[0];
    assert_eq!((view.name.as_str(), view.seen, view.fired), ("error-0", 4, 2));
    set(&mut lab, "[{kind: error, code: ServiceUnavailable, message: come back later}]");
    let answer = lab.ask("DescribeVpcs", "");
    assert_eq!(answer.status, 503);
    assert_eq!(Doc::read(&answer.body).one("Errors/Error/Message"), "come back later");
}

#[test]
fn a_selection_is_by_caller_window_count_and_chance() {
    let mut lab = lab(
        "[{kind: error, code: InternalError, nodes: [n1], every: 2, fromMillis: 1000, untilMillis: 2000, times: 2}]",
    );
    let calls =
        |lab: &mut Lab| codes(lab, "DescribeVpcs", "", 4).iter().map(|code| code == "-").collect::<Vec<_>>();
    lab.wait(1_000);
    assert_eq!(calls(&mut lab), [true; 4], "the operator is not meant");
    as_node(&mut lab, "n1");
    assert_eq!(calls(&mut lab), [true, false, true, false]);
    assert_eq!(calls(&mut lab), [true; 4], "twice was enough");
    set(&mut lab, "[{kind: error, code: InternalError, fromMillis: 1000, untilMillis: 2000}]");
    assert_eq!(calls(&mut lab), [true; 4], "too early");
    lab.wait(1_999);
    assert_eq!(calls(&mut lab), [false; 4]);
    lab.wait(1);
    assert_eq!(calls(&mut lab), [true; 4], "too late");
    set(&mut lab, "[{kind: error, code: InternalError, probability: 0.25}]");
    let hit = codes(&mut lab, "DescribeVpcs", "", 1_000).iter().filter(|code| *code != "-").count();
    assert!((200..300).contains(&hit), "{hit}");
}

#[test]
fn chance_is_the_seeds_and_does_not_depend_on_what_others_call() {
    let faults = "[{kind: error, code: InternalError, probability: 0.5}]";
    let run = |others: bool| {
        let mut lab = lab(faults);
        let mut seen = Vec::new();
        for _ in 0..64 {
            if others {
                as_node(&mut lab, "n2");
                codes(&mut lab, "DescribeVpcs", "", 1);
            }
            as_node(&mut lab, "n1");
            seen.extend(codes(&mut lab, "DescribeVpcs", "", 1));
            if others {
                codes(&mut lab, "DescribeSubnets", "", 1);
            }
        }
        seen
    };
    let alone = run(false);
    assert_eq!(alone, run(true));
    assert_eq!(alone, run(false));
    let mut other = Lab::of(&format!("{}\nfaults: {faults}\n", WORLD.replace("seed: 7", "seed: 8")));
    as_node(&mut other, "n1");
    assert_ne!(alone, codes(&mut other, "DescribeVpcs", "", 64));
}

#[test]
fn a_permission_is_taken_away_and_given_back_at_run_time() {
    let mut lab = Lab::new();
    as_node(&mut lab, "n1");
    set(&mut lab, "[{kind: deny, actions: [DescribeVpcs], nodes: [n1]}]");
    let answer = lab.ask("DescribeVpcs", "");
    assert_eq!((answer.status, code(&answer)), (403, "UnauthorizedOperation".to_owned()));
    as_node(&mut lab, "n2");
    assert_eq!(codes(&mut lab, "DescribeVpcs", "", 1), ["-"]);
    as_node(&mut lab, "n1");
    set(&mut lab, "[]");
    assert_eq!(codes(&mut lab, "DescribeVpcs", "", 1), ["-"]);
}

#[test]
fn a_timeout_performs_nothing_and_a_lost_reply_everything() {
    let mut lab = lab(
        "[{kind: timeout, millis: 7000, calls: [1]}, {kind: lostReply, calls: [1]}, {kind: lostReply, code: InternalError, calls: [2]}]",
    );
    let create = format!("SubnetId={}&ClientToken=t", lab.subnet("a"));
    let before = lab.ec2.state();
    let answer = lab.ask("CreateNetworkInterface", &create);
    assert_eq!((answer.delivery, answer.hold), (Delivery::Drop, Duration::from_secs(7)));
    assert_eq!(lab.ec2.state(), before);
    let answer = lab.ask("CreateNetworkInterface", &create);
    assert_eq!((answer.delivery, answer.status, answer.body.as_str()), (Delivery::Drop, 0, ""));
    let after = lab.ec2.state();
    assert_eq!(after.enis.len(), before.enis.len() + 1);
    assert_eq!(code(&lab.ask("CreateNetworkInterface", &create)), "InternalError");
    assert_eq!(code(&lab.ask("CreateNetworkInterface", &create)), "-");
    assert_eq!(lab.ec2.state(), after, "the token holds");
    let seen = outcomes(&lab);
    let seen: Vec<_> = seen.iter().map(|(outcome, status)| (outcome.as_str(), *status)).collect();
    assert_eq!(seen, [("Timeout", 0), ("OK", 0), ("OK", 500), ("OK", 200)]);
    assert_eq!(lab.ec2.record()[2].faults, ["lostreply-2"]);
}

#[test]
fn a_lost_reply_hides_no_refusal() {
    let mut lab = lab("[{kind: lostReply}]");
    assert_eq!(
        lab.refusal("CreateNetworkInterface", "SubnetId=subnet-0123456789abcdef0"),
        "InvalidSubnetID.NotFound"
    );
}

#[test]
fn a_slow_answer_is_held_back() {
    let mut lab = lab("[{kind: slow, millis: 300, actions: [DescribeVpcs]}, {kind: slow, millis: 200}]");
    let answer = lab.ask("DescribeVpcs", "");
    assert_eq!((answer.hold, answer.status), (Duration::from_millis(300), 200));
    assert_eq!(lab.ec2.record()[0].held, Duration::from_millis(300));
    assert_eq!(lab.ask("DescribeSubnets", "").hold, Duration::from_millis(200));
}

#[test]
fn a_stale_read_shows_the_world_as_it_was() {
    let mut lab = lab("[{kind: stale, lagMillis: 1000, actions: [DescribeNetworkInterfaces]}]");
    lab.wait(5_000);
    let eni = lab.create("a", "");
    let look = format!("NetworkInterfaceId.1={eni}");
    assert_eq!(lab.refusal("DescribeNetworkInterfaces", &look), "InvalidNetworkInterfaceID.NotFound");
    lab.wait(999);
    assert_eq!(lab.refusal("DescribeNetworkInterfaces", &look), "InvalidNetworkInterfaceID.NotFound");
    lab.wait(1);
    lab.call("DescribeNetworkInterfaces", &look);
    // What lands by itself is seen late, too.
    lab.attach(&eni, "n1", 1);
    let status = |lab: &mut Lab| {
        lab.call("DescribeNetworkInterfaces", &look).all("networkInterfaceSet/item/attachment/status").pop()
    };
    assert_eq!(status(&mut lab), None);
    lab.wait(1_500);
    assert_eq!(status(&mut lab).as_deref(), Some("attaching"));
    lab.wait(500);
    assert_eq!(status(&mut lab).as_deref(), Some("attached"));
    // Changes are never made to the past.
    lab.call(
        "AssignPrivateIpAddresses",
        &format!("NetworkInterfaceId={eni}&SecondaryPrivateIpAddressCount=1"),
    );
}

#[test]
fn reads_flip_flop_when_only_some_are_stale() {
    let mut lab = lab("[{kind: stale, lagMillis: 60000, every: 2}]");
    let eni = lab.create("a", "");
    let look = format!("NetworkInterfaceId.1={eni}");
    let gone = "InvalidNetworkInterfaceID.NotFound";
    assert_eq!(codes(&mut lab, "DescribeNetworkInterfaces", &look, 4), ["-", gone, "-", gone]);
}

#[test]
fn a_busy_world_keeps_a_bounded_past() {
    let mut lab = lab("[{kind: stale, lagMillis: 6400, nodes: [n1]}]");
    let eni = lab.create("a", "");
    for number in 0..3_000 {
        let tag = format!("ResourceId.1={eni}&Tag.1.Key=n&Tag.1.Value={number}");
        lab.call("CreateTags", &tag);
        lab.wait(10);
    }
    as_node(&mut lab, "n1");
    let seen = lab.call("DescribeNetworkInterfaces", &format!("NetworkInterfaceId.1={eni}"));
    let number: i64 = seen.one("networkInterfaceSet/item/tagSet/item/value").parse().unwrap();
    assert!((2_340..=2_360).contains(&number), "{number}: 640 changes ago, give or take a sixty-fourth");
}

#[test]
fn an_attachment_lands_late_or_hangs() {
    let mut lab = lab(
        "[{kind: late, millis: 9000, calls: [1], actions: [AttachNetworkInterface]}, {kind: stuck, calls: [2], actions: [AttachNetworkInterface]}]",
    );
    let (late, stuck) = (lab.create("a", ""), lab.create("a", ""));
    lab.attach(&late, "n1", 1);
    let attachment = lab.attach(&stuck, "n1", 2);
    assert!(lab.wait(8_999).is_empty());
    assert_eq!(lab.wait(1).len(), 1);
    assert!(lab.wait(3_600_000).is_empty());
    let detach = format!("AttachmentId={attachment}");
    assert_eq!(lab.refusal("DetachNetworkInterface", &detach), "IncorrectState");
    lab.call("DetachNetworkInterface", &format!("{detach}&Force=true"));
    lab.wait(2_000);
    assert_eq!(lab.ec2.eni(&stuck).unwrap().status, "available");
}

#[test]
fn what_is_stuck_lands_when_the_fault_is_over() {
    let mut lab = lab("[{kind: stuck, untilMillis: 30000}]");
    let eni = lab.create("a", "");
    lab.attach(&eni, "n1", 1);
    assert!(lab.wait(29_999).is_empty());
    assert_eq!(lab.wait(1).len(), 1);
}

#[test]
fn an_eni_vanishes_behind_everybodys_back() {
    let mut lab = Lab::new();
    let (kept, gone) = (lab.create("a", ""), lab.create("a", "SecondaryPrivateIpAddressCount=4"));
    lab.attach(&kept, "n1", 1);
    lab.attach(&gone, "n1", 2);
    lab.wait(1_000);
    let free = lab.free("a");
    set(&mut lab, "[{kind: vanish, node: n1, deviceIndex: 2, fromMillis: 500}]");
    assert_eq!(lab.ec2.next_event(), Some(lab.now.after(Duration::from_millis(500))));
    let news = lab.wait(500);
    assert!(matches!(&news[..], [Happening::EniLeft { eni, .. }] if eni.to_string() == gone), "{news:?}");
    assert_eq!(lab.free("a"), free + 5);
    assert!(lab.ec2.eni(&gone).is_none() && lab.ec2.eni(&kept).is_some());
    // The primary one never goes, and again and again ends when none is left.
    set(&mut lab, "[{kind: vanish, everyMillis: 100}]");
    lab.wait(1_000);
    assert!(lab.ec2.eni(&kept).is_none());
    assert_eq!(lab.ec2.state().enis.len(), 4);
    let view = &lab.ec2.faults()[0];
    assert_eq!((view.seen, view.fired), (11, 1));
    let loose = lab.create("a", "");
    set(&mut lab, &format!("[{{kind: vanish, eni: {loose}}}]"));
    lab.wait(0);
    assert!(lab.ec2.eni(&loose).is_none());
}

#[test]
fn addresses_and_prefixes_are_lost() {
    let mut lab = Lab::new();
    let (some, block) =
        (lab.create("a", "SecondaryPrivateIpAddressCount=5"), lab.create("a", "Ipv4PrefixCount=2"));
    lab.attach(&some, "n1", 1);
    lab.attach(&block, "n1", 2);
    lab.wait(1_000);
    set(&mut lab, "[{kind: loseAddresses, deviceIndex: 1, count: 2}, {kind: loseAddresses, deviceIndex: 2}]");
    let news = lab.wait(0);
    assert_eq!(news.len(), 2, "{news:?}");
    assert_eq!(lab.ec2.eni(&some).unwrap().secondary.len(), 3);
    assert_eq!(lab.ec2.eni(&block).unwrap().prefixes.len(), 1);
}

#[test]
fn a_subnet_fills_up_and_empties_again() {
    let mut lab = lab("[{kind: fillSubnet, subnet: a, leave: 2, untilMillis: 10000}]");
    let free = lab.free("a");
    assert_eq!(free, 2);
    let create = format!("SubnetId={}", lab.subnet("a"));
    let full = "InsufficientFreeAddressesInSubnet";
    assert_eq!(codes(&mut lab, "CreateNetworkInterface", &create, 3), ["-", "-", full]);
    let seen = lab.call("DescribeSubnets", &format!("SubnetId.1={}", lab.subnet("a")));
    assert_eq!(seen.one("subnetSet/item/availableIpAddressCount"), "0");
    lab.wait(10_000);
    assert_eq!(codes(&mut lab, "CreateNetworkInterface", &create, 1), ["-"]);
    assert_eq!(lab.free("a"), 256 - 5 - 3 - 3);
    set(&mut lab, "[{kind: fillSubnet, subnet: a}]");
    lab.wait(0);
    assert_eq!(lab.free("a"), 0);
    set(&mut lab, "[]");
    assert_eq!(lab.free("a"), 256 - 5 - 3 - 3);
}

#[test]
fn a_fragmented_subnet_has_addresses_and_no_prefix() {
    let mut lab = lab("[{kind: fragmentSubnet, subnet: a, leave: 1}]");
    let subnet = lab.subnet("a");
    assert!(lab.free("a") > 200);
    let prefix = format!("SubnetId={subnet}&Ipv4PrefixCount=1");
    let codes = codes(&mut lab, "CreateNetworkInterface", &prefix, 2);
    // Primary addresses may spoil the block that is left, so the first may fail, the second must.
    assert_eq!(codes[1], "InsufficientCidrBlocks");
    lab.create("a", "SecondaryPrivateIpAddressCount=20");
}

#[test]
fn a_terminated_instance_takes_some_of_its_enis_along() {
    let mut lab = Lab::new();
    let (goes, stays) = (lab.create("a", ""), lab.create("a", ""));
    let attachment = lab.attach(&goes, "n1", 1);
    lab.attach(&stays, "n1", 2);
    lab.wait(1_000);
    let delete = format!(
        "NetworkInterfaceId={goes}&Attachment.AttachmentId={attachment}&Attachment.DeleteOnTermination=true"
    );
    lab.call("ModifyNetworkInterfaceAttribute", &delete);
    let (instance, primary) = (lab.instance("n1"), lab.primary_eni("n1"));
    set(&mut lab, "[{kind: terminate, node: n1}]");
    assert_eq!(lab.wait(0).len(), 3, "every netdev leaves");
    assert!(lab.ec2.eni(&goes).is_none() && lab.ec2.eni(&primary).is_none());
    assert_eq!(lab.ec2.eni(&stays).unwrap().status, "available");
    let seen = lab.call("DescribeInstances", &format!("InstanceId.1={instance}"));
    assert_eq!(seen.one("reservationSet/item/instancesSet/item/instanceState/name"), "terminated");
    assert!(seen.all("reservationSet/item/instancesSet/item/privateIpAddress").is_empty());
    let attach = format!("NetworkInterfaceId={stays}&InstanceId={instance}&DeviceIndex=1");
    assert_eq!(lab.refusal("AttachNetworkInterface", &attach), "IncorrectState");
    assert_eq!(metadata(&mut lab, "n1", "/latest/meta-data/mac").delivery, Delivery::Drop);
    assert_eq!(lab.ec2.state().nodes[0].state, "terminated");
}

fn metadata(lab: &mut Lab, node: &str, path: &str) -> ImdsReply {
    let issue =
        ImdsRequest { method: "PUT", path: "/latest/api/token", ttl: Some("60"), ..ImdsRequest::default() };
    let token = lab.ec2.imds_request(node, &issue, lab.now).body;
    let request = ImdsRequest { method: "GET", path, token: Some(&token), ..ImdsRequest::default() };
    lab.ec2.imds_request(node, &request, lab.now)
}

const MACS: &str = "/latest/meta-data/network/interfaces/macs/";

#[test]
fn metadata_lags_behind_ec2() {
    let mut lab =
        lab("[{kind: imdsStale, lagMillis: 5000, nodes: [n1], paths: [/latest/meta-data/network/]}]");
    let eni = lab.create("a", "");
    lab.attach(&eni, "n1", 1);
    lab.wait(1_000);
    let count = |lab: &mut Lab| metadata(lab, "n1", MACS).body.lines().count();
    assert_eq!(count(&mut lab), 1);
    lab.wait(4_999);
    assert_eq!(count(&mut lab), 1);
    lab.wait(1);
    assert_eq!(count(&mut lab), 2);
}

#[test]
fn metadata_fails_in_every_way() {
    let mut lab = Lab::new();
    let path = "/latest/meta-data/mac";
    set(&mut lab, "[{kind: imdsError, status: 503, paths: [/latest/meta-data/], nodes: [n1]}]");
    assert_eq!(metadata(&mut lab, "n1", path).status, 503);
    assert_eq!(metadata(&mut lab, "n2", path).status, 200);
    set(&mut lab, "[{kind: imdsError, status: 401, paths: [/latest/meta-data/], calls: [1]}]");
    assert_eq!(metadata(&mut lab, "n1", path).status, 401);
    assert_eq!(metadata(&mut lab, "n1", path).status, 200);
    set(&mut lab, "[{kind: imdsEmpty, paths: [/latest/meta-data/network/]}]");
    let reply = metadata(&mut lab, "n1", MACS);
    assert_eq!((reply.status, reply.body.as_str()), (200, ""));
    set(&mut lab, "[{kind: imdsSlow, millis: 70}]");
    assert_eq!(metadata(&mut lab, "n1", path).hold, Duration::from_millis(70));
    set(&mut lab, "[{kind: imdsTimeout, millis: 80}]");
    let reply = metadata(&mut lab, "n1", path);
    assert_eq!((reply.delivery, reply.hold), (Delivery::Drop, Duration::from_millis(80)));
}

#[test]
fn what_is_set_at_run_time_is_checked_as_a_whole_and_shown() {
    let mut lab = lab("[{kind: deny, name: first}]");
    let bad = "
- {kind: error}
- {kind: sneeze}
- {kind: slow, millis: -1, lagMillis: 3, probability: 2, nodes: [n9]}
- {kind: vanish, node: operator, probability: 0.5}
- {kind: stale, lagMillis: 5, actions: [CreateTags], every: 0, fromMillis: 5, untilMillis: 5}
- {kind: throttle, capacity: 3}
- {kind: fillSubnet, subnet: z, name: first}
- {kind: deny, name: first, calls: [0], times: 0}
- {kind: deny, name: first, calls: [1], every: 2}
- {kind: error, code: Nonsense}
- {kind: imdsError, status: 200, nodes: [operator], paths: [x]}
- {kind: vanish, everyMillis: 0}
";
    let mistakes = lab.ec2.set_faults(lab.now, bad).unwrap_err();
    let paths: Vec<&str> = mistakes.iter().map(|mistake| mistake.path.as_str()).collect();
    for path in [
        "faults[0].code",
        "faults[1].kind",
        "faults[2].millis",
        "faults[2].lagMillis",
        "faults[2].probability",
        "faults[2].nodes[0]",
        "faults[3].probability",
        "faults[3].node",
        "faults[4].actions",
        "faults[4].every",
        "faults[4].untilMillis",
        "faults[5].refillPerSecond",
        "faults[6].subnet",
        "faults[7].calls[0]",
        "faults[7].times",
        "faults[8].name",
        "faults[8].kind",
        "faults[9].code",
        "faults[10].status",
        "faults[10].nodes[0]",
        "faults[10].paths[0]",
        "faults[11].everyMillis",
    ] {
        assert!(paths.contains(&path), "{path}: {mistakes:#?}");
    }
    assert_eq!(paths.len(), 22, "{mistakes:#?}");
    let names = |lab: &Lab| lab.ec2.faults().into_iter().map(|view| view.name).collect::<Vec<_>>();
    assert_eq!(names(&lab), ["first"], "nothing has changed");
    set(&mut lab, r#"{"faults": [{"kind": "deny", "actions": ["CreateTags"]}]}"#);
    assert_eq!(names(&lab), ["deny-0"]);
    let shown = serde_json::to_value(lab.ec2.faults()).unwrap();
    assert_eq!(shown[0]["fault"]["actions"][0], "CreateTags");
    let text = serde_json::to_string(
        &shown.as_array().unwrap().iter().map(|view| &view["fault"]).collect::<Vec<_>>(),
    )
    .unwrap();
    set(&mut lab, &text);
    assert!(lab.ec2.set_faults(lab.now, "[").is_err());
    let mistakes =
        Scenario::parse(&format!("{WORLD}\nfaults: [{{kind: terminate, node: n7}}]\n")).unwrap_err();
    assert_eq!(mistakes[0].path, "faults[0].node");
}
