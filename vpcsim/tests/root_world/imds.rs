//! The metadata service as a process in a node sees it, at the real address.

use super::support::{THREE, World, enter, request, scenario};

const SERVICE: &str = "169.254.169.254:80";
const TTL: (&str, &str) = ("X-aws-ec2-metadata-token-ttl-seconds", "60");
const TOKEN: &str = "X-aws-ec2-metadata-token";

/// A request from inside a node.
fn ask(
    world: &World,
    node: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> (u16, String, String) {
    enter(world.netns(node), || request(SERVICE, method, path, headers, ""))
}

#[test]
#[ignore = "needs root"]
fn metadata_is_shown_to_whoever_brings_a_token() {
    let world = World::up(&scenario(THREE));
    let (status, head, token) = ask(&world, "a1", "PUT", "/latest/api/token", &[TTL]);
    assert_eq!(status, 200);
    assert!(head.contains("x-aws-ec2-metadata-token-ttl-seconds: 60"), "{head}");
    let read = |path: &str| ask(&world, "a1", "GET", path, &[(TOKEN, &token)]);
    for (path, expected) in [
        ("/latest/meta-data/instance-id", world.node("a1")["instanceId"].as_str().unwrap()),
        ("/latest/meta-data/local-ipv4", world.address("a1")),
        ("/latest/meta-data/placement/region", "eu-central-1"),
        ("/latest/meta-data/mac", world.node("a1")["primaryMac"].as_str().unwrap()),
    ] {
        let (status, _, body) = read(path);
        assert_eq!((status, body.as_str()), (200, expected), "{path}");
    }
    assert_eq!(read("/latest/meta-data/no-such-thing").0, 404);
}

#[test]
#[ignore = "needs root"]
fn without_a_token_of_this_node_there_is_nothing_to_see() {
    let world = World::up(&scenario(THREE));
    let path = "/latest/meta-data/instance-id";
    assert_eq!(ask(&world, "a1", "GET", path, &[]).0, 401);
    assert_eq!(ask(&world, "a1", "GET", path, &[(TOKEN, "made-up")]).0, 401);
    let (_, _, foreign) = ask(&world, "a2", "PUT", "/latest/api/token", &[TTL]);
    assert_eq!(ask(&world, "a1", "GET", path, &[(TOKEN, &foreign)]).0, 401);
    assert_eq!(ask(&world, "a1", "PUT", "/latest/api/token", &[]).0, 400);
    let forwarded = [TTL, ("X-Forwarded-For", "10.0.0.9")];
    assert_eq!(ask(&world, "a1", "PUT", "/latest/api/token", &forwarded).0, 403);
}

#[test]
#[ignore = "needs root"]
fn credentials_from_the_metadata_name_the_node() {
    let world = World::up(&scenario(THREE));
    let (_, _, token) = ask(&world, "b1", "PUT", "/latest/api/token", &[TTL]);
    let roles = "/latest/meta-data/iam/security-credentials/";
    let (_, _, role) = ask(&world, "b1", "GET", roles, &[(TOKEN, &token)]);
    let (status, _, text) = ask(&world, "b1", "GET", &format!("{roles}{role}"), &[(TOKEN, &token)]);
    assert_eq!(status, 200, "{role}: {text}");
    let credentials: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(credentials["AccessKeyId"], world.node("b1")["accessKeyId"]);
    assert_eq!(credentials["SecretAccessKey"], world.node("b1")["secretAccessKey"]);
}
