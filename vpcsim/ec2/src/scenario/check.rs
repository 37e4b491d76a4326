//! What no single value shows: names that refer to nothing or to two things, CIDRs that overlap or lie outside the VPC,
//! zones of another region, nodes that do not fit into their subnet. Values that could not be read are not here any more; a
//! mistake of theirs is reported once, where it was read.

use super::Scenario;
use super::read::Reader;
use ipnet::Ipv4Net;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// EC2 keeps five addresses of each subnet: network, router, DNS, one for later, broadcast.
const RESERVED: usize = 5;

/// Ranges that mean something else to a node of this world, so that no VPC may cover them.
const FOREIGN: [(Ipv4Net, &str); 3] = [
    (net(169, 254, 0, 0, 16), "link-local addresses, among them the metadata service"),
    (net(192, 0, 2, 0, 24), "where the simulated EC2 answers"),
    (net(127, 0, 0, 0, 8), "loopback"),
];

const fn net(a: u8, b: u8, c: u8, d: u8, len: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), len)
}

pub(super) fn check(reader: &mut Reader, scenario: &Scenario) {
    vpc(reader, scenario);
    subnets(reader, scenario);
    super::routes::check(reader, scenario);
    unique(reader, "routeTables", scenario.route_tables.iter().map(|table| table.name.as_str()));
    nodes(reader, scenario);
    if scenario.vpc_cidrs.iter().any(|cidr| cidr.contains(&scenario.internet)) {
        let problem = format!("is {}, inside the VPC; expected an address outside it", scenario.internet);
        reader.wrong("internet.address", problem);
    }
    if let Some((range, what)) = FOREIGN.iter().find(|(range, _)| range.contains(&scenario.internet)) {
        let problem = format!("is {} in {range} ({what}); expected another", scenario.internet);
        reader.wrong("internet.address", problem);
    }
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

fn vpc(reader: &mut Reader, scenario: &Scenario) {
    for (index, cidr) in scenario.vpc_cidrs.iter().enumerate() {
        let path = format!("vpc.cidrs[{index}]");
        if let Some(other) = scenario.vpc_cidrs.iter().take(index).find(|other| overlap(other, cidr)) {
            reader.wrong(&path, format!("is {cidr}, which overlaps {other}; expected separate ranges"));
        }
        if let Some((range, what)) = FOREIGN.iter().find(|(range, _)| overlap(range, cidr)) {
            reader
                .wrong(&path, format!("is {cidr}, which overlaps {range} ({what}); expected another range"));
        }
    }
}

fn unique<'s>(reader: &mut Reader, list: &str, names: impl Iterator<Item = &'s str>) {
    let mut seen = BTreeSet::new();
    for (index, name) in names.enumerate() {
        if !seen.insert(name) {
            reader.wrong(
                format!("{list}[{index}].name"),
                format!("is {name:?} again; expected a name of its own"),
            );
        }
    }
}

fn subnets(reader: &mut Reader, scenario: &Scenario) {
    unique(reader, "securityGroups", scenario.security_groups.iter().map(|group| group.name.as_str()));
    unique(reader, "subnets", scenario.subnets.iter().map(|subnet| subnet.name.as_str()));
    for (index, subnet) in scenario.subnets.iter().enumerate() {
        let path = format!("subnets[{index}]");
        let letter = subnet.zone.strip_prefix(&scenario.region).unwrap_or_default();
        if !matches!(letter.as_bytes(), [b'a'..=b'z']) {
            let problem = format!(
                "is {:?}; expected a zone of the region, for example {}a",
                subnet.zone, scenario.region
            );
            reader.wrong(format!("{path}.zone"), problem);
        }
        if !scenario.vpc_cidrs.is_empty()
            && !scenario.vpc_cidrs.iter().any(|cidr| cidr.contains(&subnet.cidr))
        {
            let cidrs: Vec<String> = scenario.vpc_cidrs.iter().map(Ipv4Net::to_string).collect();
            let problem =
                format!("is {}, outside the VPC; expected a part of {}", subnet.cidr, cidrs.join(" or "));
            reader.wrong(format!("{path}.cidr"), problem);
        }
        let earlier = scenario.subnets.iter().take(index).find(|other| overlap(&other.cidr, &subnet.cidr));
        if let Some(other) = earlier {
            let problem =
                format!("is {}, which overlaps {} of subnet {}", subnet.cidr, other.cidr, other.name);
            reader.wrong(format!("{path}.cidr"), problem);
        }
    }
}

fn nodes(reader: &mut Reader, scenario: &Scenario) {
    unique(reader, "nodes", scenario.nodes.iter().map(|node| node.name.as_str()));
    let mut in_subnet: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, node) in scenario.nodes.iter().enumerate() {
        let path = format!("nodes[{index}]");
        if !scenario.subnets.iter().any(|subnet| subnet.name == node.subnet) {
            let names: Vec<&str> = scenario.subnets.iter().map(|subnet| subnet.name.as_str()).collect();
            let problem =
                format!("is {:?}; expected the name of a subnet: {}", node.subnet, names.join(", "));
            reader.wrong(format!("{path}.subnet"), problem);
        }
        for (place, group) in node.security_groups.iter().enumerate() {
            if !scenario.security_groups.iter().any(|known| known.name == *group) {
                let names: Vec<&str> =
                    scenario.security_groups.iter().map(|known| known.name.as_str()).collect();
                let problem =
                    format!("is {group:?}; expected the name of a security group: {}", names.join(", "));
                reader.wrong(format!("{path}.securityGroups[{place}]"), problem);
            }
        }
        *in_subnet.entry(&node.subnet).or_default() += 1;
    }
    for (index, subnet) in scenario.subnets.iter().enumerate() {
        let wanted = in_subnet.get(subnet.name.as_str()).copied().unwrap_or_default();
        let room = (1_usize << (32 - subnet.cidr.prefix_len())) - RESERVED;
        if wanted > room {
            let problem =
                format!("is {} with room for {room} addresses; {wanted} nodes need one each", subnet.cidr);
            reader.wrong(format!("subnets[{index}].cidr"), problem);
        }
    }
}
