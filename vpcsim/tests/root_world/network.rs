//! The fabric of a running world, seen from inside its nodes: who reaches whom, and what is dropped and counted.

use super::support::{
    THREE, World, assert_answers, assert_silent, call, datagram, enter, eventually, give, inside, is_lost,
    request, scenario, words,
};
use std::net::UdpSocket;

#[test]
#[ignore = "needs root"]
fn nodes_reach_each_other_and_every_gateway_answers() {
    let world = World::up(&scenario(THREE));
    for (from, to) in [("a1", "a2"), ("a1", "b1"), ("b1", "a2")] {
        let seen = datagram(world.netns(from), world.address(from), world.netns(to), world.address(to));
        assert_eq!(seen.as_deref(), Some(world.address(from)), "{from} to {to}");
    }
    for gateway in ["10.0.0.1", "10.0.1.1"] {
        assert_answers(world.netns("a1"), gateway, &[]);
    }
    // Jumbo frames pass whole.
    assert_answers(world.netns("a1"), world.address("b1"), &["-M", "do", "-s", "8973"]);
    // Nobody had to ask twice: a link drops what it is to send until the kernel has seen its carrier.
    let fabric = world.ready["fabricNetns"].as_str().unwrap();
    for netns in [fabric, world.netns("a1"), world.netns("a2"), world.netns("b1")] {
        let links = inside(netns, &["ip", "-j", "-s", "link"]);
        let links: serde_json::Value = serde_json::from_slice(&links.stdout).unwrap();
        for link in links.as_array().unwrap() {
            assert_eq!(link["stats64"]["tx"]["dropped"], 0, "{netns}: {link}");
        }
    }
    assert_eq!(world.inspect("drops").as_array().unwrap().len(), 0, "{}", world.inspect("drops"));
}

#[test]
#[ignore = "needs root"]
fn one_router_answers_for_the_whole_subnet_but_not_for_an_address_that_nobody_has() {
    let world = World::up(&scenario(THREE));
    assert_answers(world.netns("a1"), world.address("a2"), &[]);
    assert_answers(world.netns("a1"), "10.0.0.1", &[]);
    assert_silent(world.netns("a1"), "10.0.0.254");
    let neighbours = words(&world.on("a1", &["ip", "neighbour"]));
    let macs = neighbours.lines().filter(|line| line.contains("0e:ff:ff:ff:ff:01")).count();
    assert_eq!(macs, 2, "{neighbours}");
    // To another subnet no ARP stands in the way: the router itself drops it.
    assert_silent(world.netns("a1"), "10.0.1.254");
    assert_eq!(world.dropped("destination"), 1);
}

#[test]
#[ignore = "needs root"]
fn a_source_address_that_is_not_on_the_eni_is_dropped_and_counted() {
    let world = World::up(&scenario(THREE));
    for forged in ["10.0.0.200", world.address("b1"), "198.51.100.7"] {
        let before = world.dropped("source");
        give(&world, "a1", forged);
        assert!(is_lost(world.netns("a1"), forged, world.netns("a2"), world.address("a2")), "{forged}");
        assert_eq!(world.dropped("source"), before + 1, "{forged}");
    }
    let drops = world.inspect("drops");
    let state = world.inspect("state");
    let eni = drops[0]["eni"].as_str().unwrap();
    assert_eq!(state["enis"][eni]["attachment"]["node"], "a1", "{drops}");
}

#[test]
#[ignore = "needs root"]
fn without_source_dest_check_an_eni_may_send_what_it_likes() {
    let world = World::up(&scenario(THREE));
    let eni = world.must(
        "a1",
        "DescribeNetworkInterfaces",
        &[("Filter.1.Name", "private-ip-address"), ("Filter.1.Value.1", world.address("a1"))],
        "networkInterfaceId",
    );
    give(&world, "a1", "10.99.0.1");
    let (from, to) = (world.netns("a1"), world.netns("a2"));
    assert!(is_lost(from, "10.99.0.1", to, world.address("a2")));
    let check = |value| [("NetworkInterfaceId", eni.as_str()), ("SourceDestCheck.Value", value)];
    world.must("a1", "ModifyNetworkInterfaceAttribute", &check("false"), "return");
    assert_eq!(datagram(from, "10.99.0.1", to, world.address("a2")).as_deref(), Some("10.99.0.1"));
    world.must("a1", "ModifyNetworkInterfaceAttribute", &check("true"), "return");
    assert!(is_lost(from, "10.99.0.1", to, world.address("a2")));
    assert_eq!(world.dropped("source"), 2, "what an earlier table counted is not forgotten");
}

#[test]
#[ignore = "needs root"]
fn the_internet_sees_primary_addresses_only() {
    let world = World::up(&scenario(THREE));
    let internet = world.ready["internet"]["netns"].as_str().unwrap();
    let eni = world.must(
        "a1",
        "DescribeNetworkInterfaces",
        &[("Filter.1.Name", "private-ip-address"), ("Filter.1.Value.1", world.address("a1"))],
        "networkInterfaceId",
    );
    let assign = [("NetworkInterfaceId", eni.as_str()), ("PrivateIpAddress.1", "10.0.0.222")];
    world.must("a1", "AssignPrivateIpAddresses", &assign, "return");
    give(&world, "a1", "10.0.0.222");
    let seen = datagram(world.netns("a1"), world.address("a1"), internet, "203.0.113.10");
    assert_eq!(seen.as_deref(), Some(world.address("a1")));
    assert!(is_lost(world.netns("a1"), "10.0.0.222", internet, "203.0.113.10"));
    assert_eq!(world.dropped("internet"), 1);
    // Inside the VPC the same address is as good as any.
    let inside = datagram(world.netns("a1"), "10.0.0.222", world.netns("b1"), world.address("b1"));
    assert_eq!(inside.as_deref(), Some("10.0.0.222"));
    // Nobody out there starts a conversation with it either.
    assert!(is_lost(internet, "203.0.113.10", world.netns("a1"), "10.0.0.222"));
    let inward = datagram(internet, "203.0.113.10", world.netns("a1"), world.address("a1"));
    assert_eq!(inward.as_deref(), Some("203.0.113.10"));
}

#[test]
#[ignore = "needs root"]
fn link_local_and_multicast_go_nowhere() {
    let world = World::up(&scenario(THREE));
    for target in ["169.254.7.7", "224.0.0.251", "240.0.0.1"] {
        let before = world.dropped("unroutable");
        let sender = enter(world.netns("a1"), || UdpSocket::bind((world.address("a1"), 0)).unwrap());
        // The node's own kernel may refuse some of them; what it lets out, the fabric drops.
        if sender.send_to(b"?", (target, 9)).is_ok() {
            let dropped = || world.dropped("unroutable") - before;
            eventually(&format!("the drop of what goes to {target}"), || (dropped() > 0).then_some(()));
            assert_eq!(dropped(), 1, "{target}");
        }
    }
    assert!(world.dropped("unroutable") > 0);
}

#[test]
#[ignore = "needs root"]
fn nodes_reach_the_api_on_the_internet_side_and_are_recorded_by_name() {
    let world = World::up(&scenario(THREE));
    let endpoint = world.ready["nodeEndpoint"].as_str().unwrap().strip_prefix("http://").unwrap();
    let key = world.node("b1")["accessKeyId"].as_str().unwrap();
    let (status, body) = enter(world.netns("b1"), || call(endpoint, key, "DescribeInstances", &[]));
    assert_eq!(status, 200, "{body}");
    let record = world.inspect("record");
    assert_eq!(record[0]["caller"], "b1", "{record}");
    assert_eq!(record[0]["action"], "DescribeInstances");
    // What only the operator may see is not served there.
    let (status, ..) = enter(world.netns("b1"), || request(endpoint, "GET", "/_vpcsim/state", &[], ""));
    assert_eq!(status, 404);
    let reset = request(world.endpoint(), "POST", "/_vpcsim/record/reset", &[], "");
    assert_eq!((reset.0, reset.2.as_str()), (200, "{\"forgotten\":1}"));
    assert_eq!(world.inspect("record").as_array().unwrap().len(), 0);
}
