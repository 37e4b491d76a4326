//! CHECK: is the pod's network as ADD made it, by the result of the whole chain? Reads the kernel and the agent's books and
//! changes nothing; every difference is reported, not only the first.
//!
//! The result is the measure where a later plugin may have changed things; more interfaces, more routes, routes in another table (`sbr`) and
//! another MTU (`tuning`) are fine. What the result does not tell (veth, host route, neighbours, reservation) is measured against what
//! ADD would make today. So `tuning` with another hardware address is found, though the result says so: the kernel drops a device's neighbours
//! with its address, nobody answers ARP here, and the host goes on sending to the old one.

use crate::agent::Agent;
use crate::failure::{Failure, causes};
use crate::request::CheckRequest;
use serde_json::{Map, Value};
use spur_datapath::netlink::{Link, NeighbourSpec, Netlink, NetlinkError, RouteSpec};
use spur_datapath::{LinkIndex, MacAddr, layout, names};
use std::net::IpAddr;
use std::time::Instant;

/// What the result says about the pod's interface.
struct Expected {
    mac: Option<String>,
    addresses: Vec<IpAddr>,
}

pub(crate) fn check(request: &CheckRequest, deadline: Instant) -> Result<(), Failure> {
    let mut problems = Vec::new();
    let expected = expected(request, &mut problems);
    let agent = Agent::new(&request.add.conf.socket, request.add.conf.network.as_str(), deadline);
    let attachment = request.add.subject.attachment();
    let books = agent.check(spur_wire::CheckRequest { attachment }).map_err(Failure::Check)?;
    for address in expected.addresses.iter().filter(|address| !books.addresses.contains(address)) {
        problems.push(format!("the agent does not hold {address} for this pod"));
    }
    problems.extend(books.problems);
    let looked = look_at_pod(request, &expected, &mut problems)
        .and_then(|pod_mac| look_at_host(request, &expected, pod_mac, &mut problems));
    if let Err(error) = looked {
        problems.push(format!("{error}: {}", causes(&error)));
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::Drift(problems)) }
}

/// Finds our interface in the result: the one of our name with a sandbox. Others' are not looked at.
fn expected(request: &CheckRequest, problems: &mut Vec<String>) -> Expected {
    let text = |interface: &Value, key: &str| {
        interface.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let name = request.add.subject.if_name.as_str();
    let ours = list(&request.previous, "interfaces")
        .iter()
        .position(|interface| text(interface, "name") == name && !text(interface, "sandbox").is_empty());
    let Some(index) = ours else {
        problems.push(format!("prevResult lists no interface {name} in a sandbox"));
        return Expected { mac: None, addresses: Vec::new() };
    };
    let interface = &list(&request.previous, "interfaces")[index];
    let sandbox = text(interface, "sandbox");
    if sandbox != request.add.sandbox {
        problems.push(format!("prevResult has {name} in {sandbox}, CNI_NETNS is {}", request.add.sandbox));
    }
    let mut addresses = Vec::new();
    for ip in
        list(&request.previous, "ips").iter().filter(|ip| ip.get("interface") == Some(&Value::from(index)))
    {
        let address = text(ip, "address");
        match address.split('/').next().unwrap_or_default().parse() {
            Ok(address) => addresses.push(address),
            Err(_) => problems.push(format!("prevResult has {address:?} where an address is expected")),
        }
    }
    if addresses.is_empty() {
        problems.push(format!("prevResult has no address for {name}"));
    }
    Expected { mac: Some(text(interface, "mac")).filter(|mac| !mac.is_empty()), addresses }
}

/// The addresses that a CHECK expects, and what is wrong with its result.
#[cfg(fuzzing)]
pub(crate) fn expected_of(request: &CheckRequest) -> (Vec<IpAddr>, Vec<String>) {
    let mut problems = Vec::new();
    (expected(request, &mut problems).addresses, problems)
}

fn list<'a>(object: &'a Map<String, Value>, key: &str) -> &'a [Value] {
    object.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Returns the hardware address that the pod's interface has.
fn look_at_pod(
    request: &CheckRequest,
    expected: &Expected,
    problems: &mut Vec<String>,
) -> Result<Option<MacAddr>, NetlinkError> {
    let mut pod = Netlink::open_in(&request.add.netns)?;
    let name = &request.add.subject.if_name;
    let Some(link) = pod.link_by_name(name)? else {
        problems.push(format!("the pod has no interface {name}"));
        return Ok(None);
    };
    if !link.up {
        problems.push(format!("{name} is down"));
    }
    if let (Some(wanted), Some(found)) = (&expected.mac, link.mac)
        && !found.to_string().eq_ignore_ascii_case(wanted)
    {
        problems.push(format!("{name} has hardware address {found}, expected {wanted}"));
    }
    let addresses = pod.addresses()?;
    let routes = pod.routes(None)?;
    let neighbours = pod.neighbours()?;
    for wanted in &expected.addresses {
        if !addresses.iter().any(|found| found.link == link.index && found.address.addr() == *wanted) {
            problems.push(format!("{name} does not have {wanted}"));
        }
        let is_default = |route: &&RouteSpec| {
            route.destination.prefix_len() == 0
                && route.destination.addr().is_ipv4() == wanted.is_ipv4()
                && route.link == Some(link.index)
        };
        match routes.iter().find(is_default) {
            None => problems.push(format!("the pod has no default route through {name}")),
            Some(RouteSpec { gateway: Some(gateway), .. }) => {
                let host = host_mac(request);
                expect_neighbour(&neighbours, "the pod", link.index, *gateway, host, problems);
            }
            Some(_) => {}
        }
    }
    Ok(link.mac)
}

fn host_mac(request: &CheckRequest) -> MacAddr {
    let subject = &request.add.subject;
    names::host_mac(subject.container_id.as_str(), subject.if_name.as_str())
}

/// Neither side answers ARP for the other, so what it does not know it never learns.
fn expect_neighbour(
    known: &[NeighbourSpec],
    who: &str,
    link: LinkIndex,
    address: IpAddr,
    mac: MacAddr,
    problems: &mut Vec<String>,
) {
    match known.iter().find(|entry| entry.link == link && entry.address == address) {
        None => problems.push(format!("{who} does not know the hardware address of {address}")),
        Some(entry) if entry.mac == Some(mac) => {}
        Some(entry) => {
            let found = entry.mac.map_or_else(|| "no hardware address".to_owned(), |mac| mac.to_string());
            problems.push(format!("{who} sends to {address} at {found}, it has {mac}"));
        }
    }
}

fn look_at_host(
    request: &CheckRequest,
    expected: &Expected,
    pod_mac: Option<MacAddr>,
    problems: &mut Vec<String>,
) -> Result<(), NetlinkError> {
    let mut host = Netlink::open()?;
    let name = request.add.subject.host_if_name();
    let ours = |link: &Link| link.mac == Some(host_mac(request));
    let Some(link) = host.link_by_name(&name)?.filter(ours) else {
        problems.push(format!("the host has no interface {name} of this container"));
        return Ok(());
    };
    if !link.up {
        problems.push(format!("{name} on the host is down"));
    }
    let routes = host.routes(Some(layout::PODS_TABLE))?;
    let neighbours = host.neighbours()?;
    for wanted in &expected.addresses {
        if !routes.iter().any(|route| route.destination.addr() == *wanted && route.link == Some(link.index)) {
            problems.push(format!("the host has no route to {wanted} through {name}"));
        }
        if let Some(mac) = pod_mac {
            expect_neighbour(&neighbours, "the host", link.index, *wanted, mac, problems);
        }
    }
    Ok(())
}
