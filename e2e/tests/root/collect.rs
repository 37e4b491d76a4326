//! `spur-ipamd collect` against vpcsim: what a terminated node left goes, everything else stays.

use crate::common::{add_pods, quick_spec};
use serde_json::json;
use spur_e2e::rest::Rest;
use spur_e2e::world::World;
use std::collections::BTreeSet;

/// Makes an unattached ENI with these tags, as an agent that died at the wrong moment leaves it.
fn eni(world: &World, subnet: &str, tags: &[(&str, &str)]) -> String {
    let mut fields = vec![
        ("SubnetId".to_owned(), subnet.to_owned()),
        ("TagSpecification.1.ResourceType".to_owned(), "network-interface".to_owned()),
    ];
    for (index, (key, value)) in tags.iter().enumerate() {
        let tag = format!("TagSpecification.1.Tag.{}", index + 1);
        fields.push((format!("{tag}.Key"), key.replace('/', "%2F")));
        fields.push((format!("{tag}.Value"), value.replace(':', "%3A")));
    }
    let fields: Vec<(&str, &str)> =
        fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let answer = world.ec2("CreateNetworkInterface", &fields).unwrap();
    text_of(&answer, "networkInterfaceId")
}

/// The first text between tags of that name.
fn text_of(xml: &str, name: &str) -> String {
    let after = xml.split_once(&format!("<{name}>")).map(|(_, after)| after).unwrap();
    after.split_once("</").unwrap().0.to_owned()
}

#[test]
#[ignore = "needs root"]
fn what_a_terminated_node_left_is_collected_and_the_living_keep_theirs() {
    let mut spec = quick_spec("collect", 2);
    spec.agent.insert("collect", "{maxDeletions: 2}".to_owned());
    let world = World::up(&spec).unwrap();
    let cluster = spec.name.as_str();
    for node in 0..2 {
        world.start_agent(node).unwrap();
    }
    let pods = add_pods(&world, 0, 1..=8);
    Rest::reach(&world, &|| Ok(())).unwrap();
    let subnets = world.ec2("DescribeSubnets", &[]).unwrap();
    let subnet = text_of(&subnets, "subnetId");
    let lost = world.nodes[1].instance_id.clone();
    let tags = |created: &'static str| {
        [("spur.dev/cluster", cluster), ("spur.dev/instance", lost.as_str()), ("spur.dev/created", created)]
    };
    let old = "2026-01-01T00:00:00Z";
    let oldest = eni(&world, &subnet, &tags("2025-01-01T00:00:00Z"));
    let older = eni(&world, &subnet, &tags("2025-06-01T00:00:00Z"));
    let leaked = eni(&world, &subnet, &tags(old));
    let unmarked = eni(&world, &subnet, &[("spur.dev/cluster", cluster), ("spur.dev/instance", &lost)]);
    let other = eni(&world, &subnet, &[("spur.dev/cluster", "other"), ("spur.dev/created", old)]);
    let nobodys = eni(&world, &subnet, &[("spur.dev/created", old)]);
    let mut spared = tags(old).to_vec();
    spared.push(("node.k8s.amazonaws.com/no_manage", "true"));
    let spared = eni(&world, &subnet, &spared);
    world.nodes[1].kill_agent().unwrap();
    world.set_faults(&[json!({"kind": "terminate", "node": world.nodes[1].name})]).unwrap();
    let before = Rest::reach(&world, &|| Ok(())).unwrap();
    let unattached = || world.cloud().unwrap().unattached.into_iter().collect::<BTreeSet<_>>();
    let left = |gone: &[&String]| {
        let all = [&oldest, &older, &leaked, &unmarked, &other, &nobodys, &spared];
        all.into_iter().filter(|id| !gone.contains(id)).cloned().collect::<BTreeSet<_>>()
    };
    assert_eq!(unattached(), left(&[]));

    let config = world.nodes[0].config();
    let config = config.to_str().unwrap();
    let calls = world.record().unwrap().len();
    let (succeeded, text) = world.ipamd(0, &["collect", "--dry-run", "--config", config]).unwrap();
    assert!(succeeded && text.contains("a dry run, nothing was changed"), "{text}");
    assert!(text.contains(&format!("{oldest} delete: unattached")), "{text}");
    assert!(text.contains(&format!("made for {lost}, which is no more")), "{text}");
    assert!(text.contains(&format!("{leaked} keep: leaked, but this pass")), "{text}");
    assert!(text.contains(&format!("{unmarked} mark: ")) && !text.contains(&other), "{text}");
    before.regain(&world, &|| Ok(())).unwrap();
    nothing_was_written(&world, calls);

    let pass = || {
        let (succeeded, text) = world.ipamd(0, &["collect", "--config", config]).unwrap();
        assert!(succeeded, "{text}");
        text
    };
    pass();
    assert_eq!(unattached(), left(&[&oldest, &older]), "two in a pass, the oldest first");
    pass();
    assert_eq!(unattached(), left(&[&oldest, &older, &leaked]));
    let text = pass();
    assert!(text.contains(&format!("{unmarked} keep: only")), "marked by the first pass: {text}");

    all_are_dated(&world, pods.len());
    world.down().unwrap();
}

/// The living node has all its ENIs, each with the time of its creation.
fn all_are_dated(world: &World, pods: usize) {
    let enis = world.cloud().unwrap().nodes[&world.nodes[0].name].clone();
    assert!(enis.len() >= 2, "{} pods and {} ENIs", pods, enis.len());
    let dated = [("Filter.1.Name", "tag-key"), ("Filter.1.Value.1", "spur.dev%2Fcreated")];
    let dated = world.ec2("DescribeNetworkInterfaces", &dated).unwrap();
    for eni in enis.iter().filter(|eni| eni.device_index > 0) {
        assert!(dated.contains(&eni.id), "{} has no time of creation", eni.id);
    }
}

/// After so many calls, none but reads followed.
fn nothing_was_written(world: &World, calls: usize) {
    let made: Vec<_> = world.record().unwrap()[calls..]
        .iter()
        .map(|call| call["action"].as_str().unwrap_or_default().to_owned())
        .filter(|action| !action.starts_with("Describe"))
        .collect();
    assert_eq!(made, Vec::<String>::new(), "a dry run writes nothing");
}
