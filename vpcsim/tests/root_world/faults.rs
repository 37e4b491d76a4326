//! Faults as a node's kernel sees them: netdevs that go without a call, metadata that stays silent. What a fault does at
//! once is done in the network, too, when setting it is answered.

use super::support::{THREE, World, assert_silent, enter, request, scenario};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn set(world: &World, faults: &str) {
    let (status, _, body) = request(world.endpoint(), "POST", "/_vpcsim/faults", &[], faults);
    assert_eq!(status, 200, "{body}");
}

/// The netdevs of a node beside `lo`.
fn links(world: &World, node: &str) -> Vec<String> {
    let shown = world.on(node, &["ip", "-j", "link", "show"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let names = shown.as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap().to_owned());
    names.filter(|name| name != "lo").collect()
}

#[test]
#[ignore = "needs root"]
fn an_eni_that_vanishes_takes_its_netdev_along_and_a_terminated_instance_all() {
    let world = World::up(&scenario(THREE));
    set(&world, "[{kind: late, millis: 0}]");
    let subnet = world.node("a1")["subnet"].as_str().unwrap();
    let instance = world.node("a1")["instanceId"].as_str().unwrap();
    let attach = || {
        let eni = world.must("a1", "CreateNetworkInterface", &[("SubnetId", subnet)], "networkInterfaceId");
        let place = [("NetworkInterfaceId", eni.as_str()), ("InstanceId", instance), ("DeviceIndex", "1")];
        world.must("a1", "AttachNetworkInterface", &place, "attachmentId");
        // What is due at once has come when the next call is answered.
        world.call("a1", "DescribeVpcs", &[]);
    };
    attach();
    assert_eq!(links(&world, "a1"), ["eth0", "eth1"]);
    set(&world, "[{kind: vanish, node: a1}, {kind: late, millis: 0}]");
    assert_eq!(links(&world, "a1"), ["eth0"]);
    attach();
    set(&world, "[{kind: terminate, node: a1}]");
    assert_eq!(links(&world, "a1"), Vec::<String>::new());
    assert_eq!(links(&world, "a2"), ["eth0"]);
    assert_silent(world.netns("a2"), world.address("a1"));
}

#[test]
#[ignore = "needs root"]
fn a_silent_metadata_service_holds_the_connection_and_ends_it() {
    let world = World::up(&scenario(THREE));
    set(&world, "[{kind: imdsTimeout, millis: 300, nodes: [a1]}]");
    let ask = |node: &str| {
        enter(world.netns(node), || {
            let begun = Instant::now();
            let mut stream = TcpStream::connect("169.254.169.254:80").unwrap();
            stream
                .write_all(b"GET /latest/meta-data/ HTTP/1.1\r\nHost: i\r\nConnection: close\r\n\r\n")
                .unwrap();
            let mut got = String::new();
            stream.read_to_string(&mut got).unwrap();
            (got, begun.elapsed())
        })
    };
    let (got, took) = ask("a1");
    assert_eq!(got, "");
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert!(ask("a2").0.starts_with("HTTP/1.1 401"));
    set(&world, "[{kind: imdsError, status: 500}]");
    assert!(ask("a2").0.starts_with("HTTP/1.1 500"));
}
