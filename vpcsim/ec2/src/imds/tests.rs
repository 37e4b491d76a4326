//! The metadata tree as an agent reads it, and the rules of tokens. The world is built directly, without the API, and time is
//! chosen. Which paths the real service has is taken from its documentation ("instance metadata categories"); what an
//! unmodified SDK needs of it is tested with the agent's own client.

use super::*;
use crate::scenario::Scenario;
use std::time::Duration;

const NOW: SimTime = SimTime(Duration::from_secs(1_780_000_000));

const SCENARIO: &str = "
name: test
vpc: {cidrs: [10.0.0.0/16, 10.1.0.0/16]}
subnets: [{name: a, zone: eu-central-1a, cidr: 10.0.0.0/24}]
nodes: [{name: n1, type: m5.large, subnet: a}, {name: n2, type: m5.large, subnet: a}]
";

fn world() -> World {
    World::new(&Scenario::parse(SCENARIO).unwrap(), NOW)
}

fn get(world: &World, node: &str, path: &str) -> Option<String> {
    find(world, world.node(node).unwrap(), path, NOW)
}

fn ask(world: &World, node: &str, request: ImdsRequest<'_>, now: SimTime) -> ImdsReply {
    answer(world, world.node(node).unwrap(), 1, &request, now)
}

#[test]
fn the_tree_says_who_the_instance_is() {
    let world = world();
    let instance = world.node("n1").unwrap();
    let meta = |path: &str| get(&world, "n1", &format!("/latest/meta-data/{path}")).unwrap();
    assert_eq!(meta("instance-id"), instance.id.as_str());
    assert_eq!(meta("instance-type"), "m5.large");
    assert_eq!(meta("placement/availability-zone"), "eu-central-1a");
    assert_eq!(meta("placement/region"), "eu-central-1");
    let primary = world.enis_of(&instance.id)[0];
    assert_eq!(meta("mac"), primary.mac.to_string());
    assert_eq!(meta("local-ipv4"), primary.primary.to_string());
    let base = format!("network/interfaces/macs/{}", primary.mac);
    assert_eq!(meta(&format!("{base}/interface-id")), primary.id.as_str());
    assert_eq!(meta(&format!("{base}/subnet-ipv4-cidr-block")), "10.0.0.0/24");
    assert_eq!(meta(&format!("{base}/vpc-ipv4-cidr-blocks")), "10.0.0.0/16\n10.1.0.0/16");
    assert_eq!(meta(&format!("{base}/device-number")), "0");
    let document = get(&world, "n1", "/latest/dynamic/instance-identity/document").unwrap();
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["instanceId"], instance.id.as_str());
    assert_eq!(document["region"], "eu-central-1");
}

#[test]
fn directories_list_their_entries_and_mark_those_that_have_entries() {
    let world = world();
    assert_eq!(get(&world, "n1", "/").unwrap(), "latest");
    assert_eq!(get(&world, "n1", "/latest/").unwrap(), "dynamic/\nmeta-data/");
    let mac = world.enis_of(&world.node("n1").unwrap().id)[0].mac;
    assert_eq!(get(&world, "n1", "/latest/meta-data/network/interfaces/macs/").unwrap(), format!("{mac}/"));
    assert_eq!(get(&world, "n1", "/latest/meta-data/iam/security-credentials/").unwrap(), ROLE);
    let placement = get(&world, "n1", "/2021-03-23/meta-data/placement").unwrap();
    assert_eq!(placement, "availability-zone\navailability-zone-id\nregion");
    assert_eq!(get(&world, "n1", "/latest/meta-data/placemen"), None);
    assert_eq!(get(&world, "n1", "/oldest/meta-data/"), None);
    assert_eq!(get(&world, "n1", "/latest/meta-data/mac/x"), None);
}

#[test]
fn credentials_name_the_node_and_end_in_the_future() {
    let world = world();
    let text = get(&world, "n2", &format!("/latest/meta-data/iam/security-credentials/{ROLE}")).unwrap();
    let credentials: serde_json::Value = serde_json::from_str(&text).unwrap();
    let key = credentials["AccessKeyId"].as_str().unwrap();
    assert_eq!(world.instance_by_key(key).unwrap().node, "n2");
    assert_eq!(credentials["Expiration"], NOW.after(CREDENTIALS).to_string());
}

const CREDENTIALS: Duration = Duration::from_secs(6 * 3_600);

#[test]
fn an_interface_is_shown_once_it_is_attached_and_with_its_addresses() {
    let mut world = world();
    let (subnet, instance) = (world.node("n1").unwrap().subnet.clone(), world.node("n1").unwrap().id.clone());
    let new = crate::world::eni::NewEni::plain(subnet, std::collections::BTreeSet::new());
    let eni = world.create_eni(new).unwrap();
    world.attach(&eni, &instance, 1, None, NOW).unwrap();
    let macs = "/latest/meta-data/network/interfaces/macs/";
    assert_eq!(get(&world, "n1", macs).unwrap().lines().count(), 1);
    world.land();
    assert_eq!(get(&world, "n1", macs).unwrap().lines().count(), 2);
    world.assign(&eni, &crate::world::eni::Wanted::Count(2), false).unwrap();
    world.assign(&eni, &crate::world::eni::Wanted::PrefixCount(1), false).unwrap();
    let mac = world.eni(&eni).unwrap().mac;
    assert_eq!(get(&world, "n1", &format!("{macs}{mac}/local-ipv4s")).unwrap().lines().count(), 3);
    assert!(get(&world, "n1", &format!("{macs}{mac}/ipv4-prefix")).unwrap().ends_with("/28"));
    assert_eq!(get(&world, "n1", &format!("{macs}{mac}/device-number")).unwrap(), "1");
}

#[test]
fn without_a_token_that_is_valid_here_and_now_nothing_is_shown() {
    let world = world();
    let path = "/latest/meta-data/instance-id";
    let token = |node: &str, ttl| {
        let request = ImdsRequest {
            method: "PUT",
            path: "/latest/api/token",
            ttl: Some(ttl),
            ..ImdsRequest::default()
        };
        ask(&world, node, request, NOW)
    };
    let issued = token("n1", "60");
    assert_eq!((issued.status, issued.ttl), (200, Some(60)));
    let show = |node: &str, token: Option<&str>, now| {
        ask(&world, node, ImdsRequest { method: "GET", path, token, ..ImdsRequest::default() }, now).status
    };
    assert_eq!(show("n1", Some(&issued.body), NOW), 200);
    assert_eq!(show("n1", Some(&issued.body), NOW.after(Duration::from_secs(59))), 200);
    assert_eq!(show("n1", Some(&issued.body), NOW.after(Duration::from_secs(60))), 401, "over");
    assert_eq!(show("n2", Some(&issued.body), NOW), 401, "another node's");
    assert_eq!(show("n1", None, NOW), 401, "none");
    assert_eq!(show("n1", Some(""), NOW), 401, "empty");
    assert_eq!(show("n1", Some(&issued.body.replace('=', "")), NOW), 401, "cut off");
    for ttl in ["0", "21601", "-1", "soon"] {
        assert_eq!(token("n1", ttl).status, 400, "{ttl}");
    }
}

#[test]
fn a_token_is_put_for_by_who_sits_on_the_instance_only() {
    let world = world();
    let base = ImdsRequest { path: "/latest/api/token", ttl: Some("60"), ..ImdsRequest::default() };
    let forwarded = ImdsRequest { method: "PUT", forwarded: true, ..base };
    assert_eq!(ask(&world, "n1", forwarded, NOW).status, 403);
    assert_eq!(ask(&world, "n1", ImdsRequest { method: "GET", ..base }, NOW).status, 405);
    assert_eq!(ask(&world, "n1", ImdsRequest { method: "POST", ..base }, NOW).status, 405);
    let put_elsewhere = ImdsRequest { method: "PUT", path: "/latest/meta-data/", ..base };
    assert_eq!(ask(&world, "n1", put_elsewhere, NOW).status, 405);
}
