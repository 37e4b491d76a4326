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
