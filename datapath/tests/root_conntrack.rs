//! Translated flows, counted in a real kernel's connection tracking.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use rustix::time::{ClockId, clock_gettime};
use spur_datapath::conntrack::{Conntrack, Translated};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;
use support::TestNs;
use support::world::{POD_A, POD_B, World, net, wanted, world};

const NODE: &str = "10.0.0.10";
const INTERNET: &str = "198.51.100.9";
/// In the VPC: never translated.
const COVERED: &str = "10.0.9.9";

fn ready() -> World {
    let mut world = world();
    world.settle(&wanted());
    world.add_pods();
    // Flows that nobody answers are forgotten after half a minute, which a busy machine may need to open thousands.
    world.node.exec("sysctl -q -w net.netfilter.nf_conntrack_udp_timeout=600");
    world
}

/// A flow from each of the sockets to each of these places.
fn send(pod: &TestNs, sockets: u32, address: &str, ports: std::ops::Range<u16>) {
    for _ in 0..sockets {
        let socket = pod.ns.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
        for port in ports.clone() {
            // Nobody listens there: what ICMP says of an earlier datagram shows here, and this one is not sent.
            if socket.send_to(b"flow", (address, port)).is_err() {
                socket.send_to(b"flow", (address, port)).unwrap();
            }
        }
    }
}

fn count(world: &World, pods: &[&str]) -> Translated {
    let pods: Vec<_> = pods.iter().map(|pod| net(&format!("{pod}/32"))).collect();
    let node: Ipv4Addr = NODE.parse().unwrap();
    Conntrack::open_in(&world.node.ns).unwrap().translated(&pods, node, 3).unwrap()
}

#[test]
#[ignore = "needs root"]
fn translated_flows_are_counted_by_destination_and_others_are_not() {
    let world = ready();
    send(&world.pods[0], 3, INTERNET, 4000..4001);
    send(&world.pods[1], 4, INTERNET, 4000..4001);
    send(&world.pods[0], 2, INTERNET, 4001..4004);
    send(&world.pods[0], 9, COVERED, 4000..4001);
    world.pods[1].pings(INTERNET);
    let seen = count(&world, &[POD_A, POD_B]);
    assert_eq!((seen.flows, seen.destinations), (7 + 6 + 1, 5), "{seen:?}");
    let busiest: Vec<_> = seen
        .busiest
        .iter()
        .map(|(to, flows)| (to.address.to_string(), to.port, to.protocol, *flows))
        .collect();
    let at = |port, flows| (INTERNET.to_owned(), port, 17, flows);
    assert_eq!(busiest, [at(4000, 7), at(4001, 2), at(4002, 2)]);
    assert_eq!(count(&world, &[POD_A]).flows, 9, "pod B's are not asked about");
}

/// Of this thread: the kernel walks its table on behalf of whoever reads.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

/// Prints what it takes, for docs/metrics.md.
#[test]
#[ignore = "needs root"]
fn fifty_thousand_flows_are_counted_whole() {
    let world = ready();
    let timed = || {
        let begun = processor_time();
        let seen = count(&world, &[POD_A]);
        let took = processor_time() - begun;
        println!("{} flows to {} destinations: {took:?} of a processor", seen.flows, seen.destinations);
        seen
    };
    timed();
    send(&world.pods[0], 25, INTERNET, 10_000..12_000);
    let seen = timed();
    assert_eq!((seen.flows, seen.destinations), (50_000, 2000));
    assert!(seen.busiest.iter().all(|(_, flows)| *flows == 25));
}
