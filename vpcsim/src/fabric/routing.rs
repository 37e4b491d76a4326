//! The VPC's route tables as the fabric's kernel tables. Pure: no kernel.
//!
//! Each route table is a kernel table of its own, found by a mark that a packet gets from the chain of the ENI it came from:
//! one rule per route table, however many ENIs and routes there are. What is local is left to the main table, which knows the
//! address of every ENI. What leads nowhere (no route, a blackhole, a way out of this world) goes to the loopback, in front of
//! which the firewall counts and drops it.

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

/// One destination of a table is led elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detour {
    /// The table's id.
    pub table: String,
    /// What is matched.
    pub to: Ipv4Net,
    /// Where that leads now, if the table has such a route.
    pub hop: Option<Hop>,
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

impl Way {
    /// The kernel's way to a hop. `is_plugged` says which ENIs have a link.
    pub(super) fn to(hop: &Hop, is_plugged: impl Fn(&str) -> bool) -> Self {
        match hop {
            Hop::Local => Self::Main,
            Hop::Internet => Self::Internet,
            Hop::Eni(eni) if is_plugged(eni) => Self::Eni(eni.clone()),
            Hop::Eni(_) | Hop::Nowhere => Self::Nowhere,
        }
    }

    /// What is left at a destination without a route: all that a table does not know leads nowhere.
    pub(super) fn without_route(to: Ipv4Net) -> Option<Self> {
        (to == Ipv4Net::default()).then_some(Self::Nowhere)
    }
}

impl Routing {
    /// The kernel's routes. `numbers` has those of all tables.
    pub(super) fn ways(&self, numbers: &BTreeMap<String, u16>, is_plugged: impl Fn(&str) -> bool) -> Ways {
        let mut ways = Ways::new();
        for (id, routes) in &self.tables {
            let Some(number) = numbers.get(id) else { continue };
            let all = Ipv4Net::default();
            ways.extend(Way::without_route(all).map(|way| ((*number, all), way)));
            ways.extend(routes.iter().map(|(to, hop)| ((*number, *to), Way::to(hop, &is_plugged))));
        }
        ways
    }
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

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn routing() -> Routing {
        let routes = [
            ("10.0.0.0/16", Hop::Local),
            ("10.4.0.0/25", Hop::Eni("eni-there".to_owned())),
            ("10.4.1.0/25", Hop::Eni("eni-gone".to_owned())),
            ("192.168.0.0/16", Hop::Nowhere),
        ];
        let table = routes.into_iter().map(|(to, hop)| (net(to), hop)).collect();
        Routing { ranges: BTreeSet::from([net("10.0.0.0/16")]), tables: [("rtb-1".to_owned(), table)].into() }
    }

    #[test]
    fn only_an_eni_that_is_there_is_a_way() {
        let numbers = BTreeMap::from([("rtb-1".to_owned(), 7)]);
        let ways = routing().ways(&numbers, |eni| eni != "eni-gone");
        let of = |to: &str| ways[&(7, net(to))].clone();
        assert_eq!(of("10.0.0.0/16"), Way::Main);
        assert_eq!(of("10.4.0.0/25"), Way::Eni("eni-there".to_owned()));
        for nowhere in ["10.4.1.0/25", "192.168.0.0/16", "0.0.0.0/0"] {
            assert_eq!(of(nowhere), Way::Nowhere, "{nowhere}");
        }
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
