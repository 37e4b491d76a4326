//! What the fabric has to carry, from the model's view of the world: pure. A picture is made from the whole world, which
//! costs more the larger that is; changes of single routes, of which there may be thousands, are named one by one instead.

use crate::fabric::Picture;
use crate::fabric::plan::{AddressCheck, Port, Ports};
use crate::fabric::routing::{Detour, Hop, Routing};
use ipnet::{IpNet, Ipv4Net};
use spur_datapath::MacAddr;
use vpcsim_ec2::{EniView, Happening, State, TargetView};

/// The whole picture of this state of the world.
pub(crate) fn of(state: &State) -> Picture {
    Picture { ports: ports_of(state), routing: routing_of(state) }
}

/// The routes that changed, if nothing else did.
pub(crate) fn detours(news: &[Happening]) -> Option<Vec<Detour>> {
    let mut detours = Vec::new();
    for happening in news {
        let Happening::RouteChanged { table, destination, target } = happening else { return None };
        if let IpNet::V4(to) = destination {
            detours.push(Detour { table: table.to_string(), to: *to, hop: target.as_ref().map(hop_of) });
        }
    }
    Some(detours)
}

/// ENIs whose netdev is in a node.
fn ports_of(state: &State) -> Ports {
    let plugged = state.enis.values().filter_map(|eni| Some((eni.id.to_string(), port_of(state, eni)?)));
    plugged.collect()
}

/// The route tables, as far as they are about IPv4.
fn routing_of(state: &State) -> Routing {
    let tables = state.route_tables.iter().map(|(id, table)| {
        let routes = table.routes.iter().filter_map(|route| {
            let IpNet::V4(to) = route.destination else { return None };
            Some((to, hop_of(&route.target)))
        });
        (id.to_string(), routes.collect())
    });
    Routing { ranges: state.vpc_cidrs.iter().copied().collect(), tables: tables.collect() }
}

fn hop_of(target: &TargetView) -> Hop {
    match target {
        TargetView::Local => Hop::Local,
        TargetView::Eni(eni) => Hop::Eni(eni.to_string()),
        TargetView::Internet => Hop::Internet,
        TargetView::Foreign(_) => Hop::Nowhere,
    }
}

fn port_of(state: &State, eni: &EniView) -> Option<Port> {
    let place = eni.attachment.as_ref().filter(|place| matches!(place.status, "attached" | "detaching"))?;
    let subnet = state.subnets.iter().find(|subnet| subnet.id == eni.subnet)?;
    let single = std::iter::once(eni.primary).chain(eni.secondary.iter().copied()).map(Ipv4Net::from);
    Some(Port {
        node: place.node.clone(),
        card: place.card,
        device_index: place.device_index,
        mac: MacAddr::new(eni.mac.octets()),
        subnet: subnet.cidr,
        primary: eni.primary,
        addresses: single.chain(eni.prefixes.iter().copied()).collect(),
        check: if eni.source_dest_check { AddressCheck::On } else { AddressCheck::Off },
        table: subnet.route_table.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use vpcsim_ec2::{Caller, Ec2, Scenario, SimTime};

    const WORLD: &str = "
name: test
vpc: {cidrs: [10.0.0.0/16]}
subnets: [{name: a, zone: eu-central-1a, cidr: 10.0.0.0/24}]
routeTables: [{name: one, main: true}, {name: two, internet: false}]
nodes: [{name: n1, type: m5.large, subnet: a}, {name: n2, type: m5.large, subnet: a}]
";

    /// What the fabric's kernel ends up with.
    fn follow(routing: &mut Routing, detours: Vec<Detour>) {
        for Detour { table, to, hop } in detours {
            let table = routing.tables.entry(table).or_default();
            match hop {
                Some(hop) => drop(table.insert(to, hop)),
                None => drop(table.remove(&to)),
            }
        }
    }

    #[test]
    fn whoever_follows_the_changes_of_routes_has_the_whole_picture() {
        let start = SimTime(Duration::from_secs(1_780_000_000));
        let mut ec2 = Ec2::new(&Scenario::parse(WORLD).unwrap(), start);
        ec2.advance(start);
        let state = ec2.state();
        let tables: Vec<_> = state.route_tables.keys().collect();
        let enis: Vec<_> = state.nodes.iter().map(|node| &node.enis[0]).collect();
        let destinations = ["0.0.0.0/0", "10.0.0.0/16", "10.4.0.0/25", "10.4.0.0/24", "2001:db8::/64"];
        let mut routing = of(&state).routing;
        let (mut dice, mut changed) = (7_usize, 0);
        let mut roll = |bound: usize| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % bound
        };
        for _ in 0..600 {
            let (table, to) = (tables[roll(2)], destinations[roll(5)]);
            let target = ["none", "n1", "internet", "tgw-0123456789abcdef0"][roll(4)];
            let origin = ["created", "propagated"][roll(2)];
            let family = if to.contains(':') { "DestinationIpv6CidrBlock" } else { "DestinationCidrBlock" };
            let action = ["CreateRoute", "ReplaceRoute", "DeleteRoute", ""][roll(4)];
            if action.is_empty() {
                let route =
                    format!("[{{table: {table}, destination: '{to}', target: {target}, origin: {origin}}}]");
                ec2.place_routes(start, &route).unwrap();
            } else {
                let eni = format!("&NetworkInterfaceId={}", enis[roll(2)]);
                let eni = if action == "DeleteRoute" { "" } else { &eni };
                let form =
                    format!("Action={action}&Version=2016-11-15&RouteTableId={table}&{family}={to}{eni}");
                ec2.call(start, &Caller::Key("AKIDOPERATOR".to_owned()), form.as_bytes());
            }
            let detours = detours(&ec2.advance(start)).expect("nothing but routes changed");
            changed += detours.len();
            follow(&mut routing, detours);
            assert_eq!(routing, of(&ec2.state()).routing, "after {action} of {to} in {table}");
        }
        assert!(changed > 200, "{changed} changes show nothing");
    }

    #[test]
    fn any_other_news_needs_a_whole_picture() {
        assert_eq!(detours(&[Happening::RoutesChanged]), None);
    }
}
