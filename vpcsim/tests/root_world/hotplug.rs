//! ENIs come and go while nodes run: the API says so, and the kernel of the node sees it.

use super::support::{
    THREE, World, assert_answers, assert_silent, eventually, inside, scenario, text_of, words,
};
use std::time::{Duration, Instant};

struct Eni {
    id: String,
    mac: String,
    address: String,
    attachment: String,
}

/// Creates an ENI in a1's subnet and attaches it to a1 at `index`; it has not arrived when this returns.
fn attach(world: &World, index: &str) -> Eni {
    let subnet = world.node("a1")["subnet"].as_str().unwrap();
    let (status, body) = world.call("a1", "CreateNetworkInterface", &[("SubnetId", subnet)]);
    assert_eq!(status, 200, "{body}");
    let text = |element: &str| text_of(&body, element).unwrap().to_owned();
    let (id, mac, address) = (text("networkInterfaceId"), text("macAddress"), text("privateIpAddress"));
    let instance = world.node("a1")["instanceId"].as_str().unwrap();
    let place = [("NetworkInterfaceId", id.as_str()), ("InstanceId", instance), ("DeviceIndex", index)];
    let attachment = world.must("a1", "AttachNetworkInterface", &place, "attachmentId");
    Eni { id, mac, address, attachment }
}

/// What the node's kernel shows of a netdev.
fn link(world: &World, name: &str) -> Option<serde_json::Value> {
    let shown = world.on("a1", &["ip", "-j", "link", "show", "dev", name]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).ok()?;
    Some(shown[0].clone())
}

/// Does to a secondary ENI what an agent does: its own address, a way out of its own.
fn configure(world: &World, name: &str, addresses: &[&str]) {
    let mut commands = vec![format!("ip link set {name} up")];
    for address in addresses {
        commands.push(format!("ip address add {address}/24 dev {name} noprefixroute"));
        commands.push(format!("ip rule add from {address} lookup 77"));
    }
    commands.push(format!("ip route replace default via 10.0.0.1 dev {name} onlink table 77"));
    let done = world.on("a1", &["sh", "-ec", &commands.join("\n")]);
    assert!(done.status.success(), "{}", words(&done));
    // The router's end has got its carrier just now, and drops what it is to send until the kernel's link watch has seen that. Who reads
    // the carrier makes it look at once.
    let fabric = world.ready["fabricNetns"].as_str().unwrap();
    let seen = inside(fabric, &["sh", "-c", "cat /sys/class/net/*/carrier"]);
    assert!(seen.status.success(), "{}", words(&seen));
}

#[test]
#[ignore = "needs root"]
fn an_attached_eni_appears_as_a_netdev_after_the_delay() {
    let world = World::up(&scenario(THREE));
    let begun = Instant::now();
    let eni = attach(&world, "1");
    let shown = eventually("eth1 in the node", || link(&world, "eth1"));
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    assert_eq!(shown["address"], eni.mac);
    assert_eq!(shown["mtu"], 9001);
    assert_eq!(shown["operstate"], "DOWN", "bringing it up is the node's business");
    let addresses = words(&world.on("a1", &["ip", "-j", "address", "show", "dev", "eth1"]));
    assert!(addresses.contains("\"addr_info\":[]"), "{addresses}");
    let described =
        world.must("a1", "DescribeNetworkInterfaces", &[("NetworkInterfaceId.1", &eni.id)], "attachTime");
    assert!(!described.is_empty());
}

#[test]
#[ignore = "needs root"]
fn addresses_of_a_secondary_eni_are_reachable_as_long_as_they_are_assigned() {
    let world = World::up(&scenario(THREE));
    let eni = attach(&world, "1");
    eventually("eth1 in the node", || link(&world, "eth1"));
    configure(&world, "eth1", &[&eni.address, "10.0.0.231"]);
    for from in ["a2", "b1"] {
        assert_answers(world.netns(from), &eni.address, &[]);
    }
    // Same subnet, same node, another ENI: through the router as well. Not assigned yet.
    assert_silent(world.netns("b1"), "10.0.0.231");
    let address = [("NetworkInterfaceId", eni.id.as_str()), ("PrivateIpAddress.1", "10.0.0.231")];
    // Routed, and later gone, when the call returns.
    world.must("a1", "AssignPrivateIpAddresses", &address, "return");
    for from in ["a2", "b1"] {
        assert_answers(world.netns(from), "10.0.0.231", &[]);
    }
    world.must("a1", "UnassignPrivateIpAddresses", &address, "return");
    for from in ["a2", "b1"] {
        assert_silent(world.netns(from), "10.0.0.231");
    }
    assert_answers(world.netns("b1"), &eni.address, &[]);
}

#[test]
#[ignore = "needs root"]
fn a_detached_eni_leaves_the_node_and_may_come_back_at_another_index() {
    let world = World::up(&scenario(THREE));
    let eni = attach(&world, "1");
    eventually("eth1 in the node", || link(&world, "eth1"));
    configure(&world, "eth1", &[&eni.address]);
    assert_answers(world.netns("a2"), &eni.address, &[]);
    world.must("a1", "DetachNetworkInterface", &[("AttachmentId", &eni.attachment)], "return");
    eventually("eth1 gone", || link(&world, "eth1").is_none().then_some(()));
    assert_silent(world.netns("a2"), &eni.address);
    let fabric = world.ready["fabricNetns"].as_str().unwrap();
    let routes = words(&inside(fabric, &["ip", "route"]));
    assert!(!routes.contains(&eni.address), "{routes}");

    let instance = world.node("a1")["instanceId"].as_str().unwrap();
    let place = [("NetworkInterfaceId", eni.id.as_str()), ("InstanceId", instance), ("DeviceIndex", "2")];
    world.must("a1", "AttachNetworkInterface", &place, "attachmentId");
    let shown = eventually("eth2 in the node", || link(&world, "eth2"));
    assert_eq!(shown["address"], eni.mac);
}

#[test]
#[ignore = "needs root"]
fn an_address_that_moves_between_enis_follows_at_once() {
    let world = World::up(&scenario(THREE));
    let eni = attach(&world, "1");
    eventually("eth1 in the node", || link(&world, "eth1"));
    configure(&world, "eth1", &[&eni.address]);
    let filter = [("Filter.1.Name", "private-ip-address"), ("Filter.1.Value.1", world.address("a2"))];
    let other = world.must("a2", "DescribeNetworkInterfaces", &filter, "networkInterfaceId");
    let given = world.on("a2", &["ip", "address", "add", "10.0.0.232/32", "dev", "eth0"]);
    assert!(given.status.success(), "{}", words(&given));
    let here = [("NetworkInterfaceId", eni.id.as_str()), ("PrivateIpAddress.1", "10.0.0.232")];
    world.must("a1", "AssignPrivateIpAddresses", &here, "return");
    // It is routed to a1, which does not answer for it.
    assert_silent(world.netns("b1"), "10.0.0.232");
    let there = [
        ("NetworkInterfaceId", other.as_str()),
        ("PrivateIpAddress.1", "10.0.0.232"),
        ("AllowReassignment", "true"),
    ];
    world.must("a2", "AssignPrivateIpAddresses", &there, "return");
    assert_answers(world.netns("b1"), "10.0.0.232", &[]);
}

#[test]
#[ignore = "needs root"]
fn a_name_that_is_taken_in_the_node_delays_that_eni_and_no_other() {
    let world = World::up(&scenario(THREE));
    let taken = world.on("a1", &["ip", "link", "add", "eth1", "type", "veth", "peer", "name", "other"]);
    assert!(taken.status.success(), "{}", words(&taken));
    let first = attach(&world, "1");
    let second = attach(&world, "2");
    eventually("eth2 in the node", || link(&world, "eth2"));
    assert_ne!(link(&world, "eth1").unwrap()["address"], first.mac);
    let freed = world.on("a1", &["ip", "link", "delete", "eth1"]);
    assert!(freed.status.success(), "{}", words(&freed));
    // The next change of any kind tries again.
    let address = [("NetworkInterfaceId", second.id.as_str()), ("PrivateIpAddress.1", "10.0.0.233")];
    world.must("a1", "AssignPrivateIpAddresses", &address, "return");
    assert_eq!(link(&world, "eth1").unwrap()["address"], first.mac);
}
