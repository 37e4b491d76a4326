//! The VPC's route tables as the fabric's kernel tables. Pure: no kernel.
//!
//! Each route table is a kernel table of its own, found by a mark that a packet gets from the chain of the ENI it came from:
//! one rule per route table, however many ENIs and routes there are. What is local is left to the main table, which knows the
//! address of every ENI. What leads nowhere (no route, a blackhole, a way out of this world, an ENI that does not take it)
//! goes to the loopback, in front of which the firewall counts and drops it.

use super::plan::{AddressCheck, Ports};
use ipnet::Ipv4Net;
use std::collections::{BTreeMap, BTreeSet};

/// Where a route of the VPC leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hop {
    /// To whoever has the address.
    Local,
    /// To this ENI.
    Eni(String),
    /// To the internet.
    Internet,
    /// Nowhere that this world has.
    Nowhere,
}

/// How the VPC routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routing {
    /// The VPC's ranges.
    pub ranges: BTreeSet<Ipv4Net>,
    /// The route tables by id.
    pub tables: BTreeMap<String, BTreeMap<Ipv4Net, Hop>>,
}

/// What the kernel does with what a route matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// Looks on, in the main table.
    Main,
    /// Sends it to the ENI.
    Eni(String),
    /// Sends it to the internet.
    Internet,
    /// Drops it.
    Nowhere,
}

/// Routes in kernel tables, by the table's number and destination.
pub(super) type Ways = BTreeMap<(u16, Ipv4Net), Way>;

impl Routing {
    /// The kernel's routes. `numbers` has those of all tables, `is_plugged` says which ENIs have a link.
    pub(super) fn ways(
        &self,
        numbers: &BTreeMap<String, u16>,
        ports: &Ports,
        is_plugged: impl Fn(&str) -> bool,
    ) -> Ways {
        let mut ways = Ways::new();
        for (id, routes) in &self.tables {
            let Some(number) = numbers.get(id) else { continue };
            ways.insert((*number, Ipv4Net::default()), Way::Nowhere);
            for (to, hop) in routes {
                let takes = |eni: &String| is_plugged(eni) && accepts(ports, eni);
                let way = match hop {
                    Hop::Local => Way::Main,
                    Hop::Internet => Way::Internet,
                    Hop::Eni(eni) if takes(eni) => Way::Eni(eni.clone()),
                    Hop::Eni(_) | Hop::Nowhere => Way::Nowhere,
                };
                ways.insert((*number, *to), way);
            }
        }
        ways
    }

    /// What is routed to an ENI that takes only what is its own. Merged, so that no two overlap.
    pub(super) fn refused(&self, ports: &Ports) -> Vec<Ipv4Net> {
        let routes = self.tables.values().flatten();
        let refused = routes.filter_map(|(to, hop)| match hop {
            Hop::Eni(eni) if ports.contains_key(eni) && !accepts(ports, eni) => Some(*to),
            _ => None,
        });
        Ipv4Net::aggregate(&refused.collect())
    }
}

/// Whether the ENI takes packets to addresses that are not its own. EC2 looks at the destination where the packet arrives.
fn accepts(ports: &Ports, eni: &str) -> bool {
    ports.get(eni).is_some_and(|port| port.check == AddressCheck::Off)
}

/// Gives each table a number that is its own while it exists, from 1.
pub(super) fn renumber(numbers: &mut BTreeMap<String, u16>, tables: &Routing) {
    numbers.retain(|id, _| tables.tables.contains_key(id));
    for id in tables.tables.keys() {
        if !numbers.contains_key(id) {
            let taken: BTreeSet<u16> = numbers.values().copied().collect();
            let free = (1..=u16::MAX).find(|number| !taken.contains(number));
            numbers.extend(free.map(|number| (id.clone(), number)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fabric::plan::Port;
    use spur_datapath::MacAddr;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn port(check: AddressCheck) -> Port {
        Port {
            node: "a".to_owned(),
            card: 0,
            device_index: 0,
            mac: MacAddr::new([2, 0, 0, 0, 0, 1]),
            subnet: net("10.0.0.0/24"),
            primary: "10.0.0.4".parse().unwrap(),
            addresses: BTreeSet::from([net("10.0.0.4/32")]),
            check,
            table: "rtb-1".to_owned(),
        }
    }

    fn routing() -> Routing {
        let routes = [
            ("10.0.0.0/16", Hop::Local),
            ("10.4.0.0/25", Hop::Eni("eni-open".to_owned())),
            ("10.4.0.128/25", Hop::Eni("eni-checked".to_owned())),
            ("10.4.1.0/25", Hop::Eni("eni-gone".to_owned())),
            ("192.168.0.0/16", Hop::Nowhere),
        ];
        let table = routes.into_iter().map(|(to, hop)| (net(to), hop)).collect();
        Routing { ranges: BTreeSet::from([net("10.0.0.0/16")]), tables: [("rtb-1".to_owned(), table)].into() }
    }

    #[test]
    fn only_an_eni_that_is_there_and_takes_it_is_a_way() {
        let ports = Ports::from([
            ("eni-open".to_owned(), port(AddressCheck::Off)),
            ("eni-checked".to_owned(), port(AddressCheck::On)),
        ]);
        let numbers = BTreeMap::from([("rtb-1".to_owned(), 7)]);
        let ways = routing().ways(&numbers, &ports, |eni| eni != "eni-gone");
        let of = |to: &str| ways[&(7, net(to))].clone();
        assert_eq!(of("10.0.0.0/16"), Way::Main);
        assert_eq!(of("10.4.0.0/25"), Way::Eni("eni-open".to_owned()));
        for nowhere in ["10.4.0.128/25", "10.4.1.0/25", "192.168.0.0/16", "0.0.0.0/0"] {
            assert_eq!(of(nowhere), Way::Nowhere, "{nowhere}");
        }
        assert_eq!(routing().refused(&ports), [net("10.4.0.128/25")]);
    }

    #[test]
    fn a_table_keeps_its_number_and_a_new_one_gets_the_first_that_is_free() {
        let tables = |ids: &[&str]| Routing {
            tables: ids.iter().map(|id| ((*id).to_owned(), BTreeMap::new())).collect(),
            ..Routing::default()
        };
        let mut numbers = BTreeMap::new();
        renumber(&mut numbers, &tables(&["b", "c"]));
        renumber(&mut numbers, &tables(&["a", "c"]));
        assert_eq!(numbers, BTreeMap::from([("a".to_owned(), 1), ("c".to_owned(), 2)]));
    }
}
