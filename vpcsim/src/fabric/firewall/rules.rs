//! What EC2 drops, as an nft table built from the whole picture of ports. Pure: no kernel.
//!
//! | reason | dropped is a packet from an ENI |
//! |---|---|
//! | `source` | whose source address is not on that ENI (source/destination check on) |
//! | `unroutable` | to link-local, multicast, loopback or reserved addresses |
//! | `destination` | to an address of the VPC that no ENI has |
//! | `route` | that no route of its subnet's table matches, or a blackhole, or one that leads out of this world |
//! | `check` | that a route leads to an ENI whose source/destination check is on |
//! | `internet` | to the internet, from anything but the primary address of a primary ENI |
//!
//! The router sends to the loopback what leads nowhere; these rules drop it before it gets there. The chain of an ENI also
//! marks the packet with the number of its route table. Each packet passes the same few lookups however many ENIs and routes
//! there are: one map finds the chain of the ENI.

use crate::fabric::place::{INTERNET_PORT, UNROUTABLE};
use crate::fabric::plan::{AddressCheck, Port};
use crate::fabric::port::router_end;
use crate::fabric::router::mark;
use crate::fabric::{FabricError, Picture};
use ipnet::Ipv4Net;
use spur_datapath::IfName;
use spur_datapath::nft::{
    Base, Chain, ChainKind, Content, Expr, Family, Hook, NameMatch, Policy, Rule, Set, Table, Verdict,
};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

pub(super) const TABLE: &str = "vpcsim";
/// Before connection tracking and everything else, as the hypervisor is before the VPC.
const RAW: i32 = -300;
const FILTER: i32 = 0;

const OWNED: &str = "owned";
const ASSIGNED: &str = "assigned";
const PRIMARIES: &str = "primaries";
const VPC: &str = "vpc";
const NOWHERE: &str = "unroutable";
const FROM_ENI: &str = "from_eni";
const LEAVING: &str = "leaving";
const UNROUTED: &str = "unrouted";
const GUARDED: &str = "guarded";
const GUARDING: &str = "guarding";
const CHECKED: &str = "checked";

/// How counters begin; the ENI's id follows.
pub(super) const REASONS: [&str; 6] = ["source", "unroutable", "destination", "route", "check", "internet"];

/// What the rules know besides the ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    /// The router's own addresses.
    pub(super) gateways: Vec<Ipv4Addr>,
}

impl Rules {
    /// The table for these ports. `numbers` has those of the route tables.
    pub(super) fn table(
        &self,
        picture: &Picture,
        numbers: &BTreeMap<String, u16>,
    ) -> Result<Table, FabricError> {
        let ends: Result<Vec<(IfName, &str, &Port)>, _> =
            picture.ports.iter().map(|(eni, port)| Ok((router_end(eni)?, eni.as_str(), port))).collect();
        let ends = ends?;
        let mut chains = Vec::new();
        for (name, eni, port) in &ends {
            chains.push(from_eni(name, eni, port.check, numbers.get(&port.table).copied()));
            chains.extend(ENDS.map(|(chain, reason, why)| end(chain, name, reason, eni, why)));
        }
        chains.push(prerouting());
        chains.push(forward());
        chains.push(guarding());
        Ok(Table {
            family: Family::Ip,
            name: TABLE.to_owned(),
            counters: ends
                .iter()
                .flat_map(|(_, eni, _)| REASONS.map(|reason| counter(reason, eni)))
                .collect(),
            sets: self.sets(&ends, picture),
            chains,
        })
    }

    fn sets(&self, ends: &[(IfName, &str, &Port)], picture: &Picture) -> Vec<Set> {
        let assigned = ends.iter().flat_map(|(_, _, port)| port.addresses.iter().copied());
        let gateways = self.gateways.iter().copied().map(Ipv4Net::from);
        let owned = ends.iter().flat_map(|(name, _, port)| {
            // A prefix is address by address, its first and last included: EC2 reserves none of them.
            let addresses = port.addresses.iter().flat_map(|net| bits_of(*net).map(Ipv4Addr::from_bits));
            addresses.map(|address| (name.clone(), address))
        });
        let primaries = ends.iter().filter(|(_, _, port)| port.is_primary_eni());
        let verdicts = |prefix: &str| {
            let each =
                ends.iter().map(|(name, ..)| (name.clone(), Verdict::Goto(format!("{prefix}-{name}"))));
            Content::InterfaceVerdicts(each.collect())
        };
        let guarded = ends.iter().filter(|(_, _, port)| port.check == AddressCheck::On);
        let guarded = guarded.map(|(name, ..)| (name.clone(), Verdict::Goto(GUARDING.to_owned())));
        let unroutable = UNROUTABLE.map(|net| net.parse().expect("constants are networks"));
        [
            (OWNED, Content::InterfaceAddresses(owned.collect())),
            (ASSIGNED, Content::Prefixes(assigned.chain(gateways).collect())),
            (PRIMARIES, Content::Prefixes(primaries.map(|(_, _, port)| port.primary.into()).collect())),
            (VPC, Content::Prefixes(picture.routing.ranges.iter().copied().collect())),
            (NOWHERE, Content::Prefixes(unroutable.to_vec())),
            (FROM_ENI, verdicts("from")),
            (GUARDED, Content::InterfaceVerdicts(guarded.collect())),
            (LEAVING, verdicts("leaving")),
            (UNROUTED, verdicts("unrouted")),
            (CHECKED, verdicts("checked")),
        ]
        .map(|(name, content)| Set { name: name.to_owned(), content })
        .to_vec()
    }
}

fn bits_of(net: Ipv4Net) -> std::ops::RangeInclusive<u32> {
    net.network().to_bits()..=net.broadcast().to_bits()
}

fn counter(reason: &str, eni: &str) -> String {
    format!("{reason}-{eni}")
}

fn dropping(comment: &'static str, matches: Vec<Expr>, counter: String) -> Rule {
    let mut expressions = matches;
    expressions.extend([Expr::Count(counter), Expr::Verdict(Verdict::Drop)]);
    Rule::new(comment, expressions)
}

/// What a packet from this ENI has to pass.
fn from_eni(name: &IfName, eni: &str, check: AddressCheck, route_table: Option<u16>) -> Chain {
    let mut rules = Vec::new();
    if check == AddressCheck::On {
        let forged = vec![Expr::InputSourceNotIn(OWNED.into())];
        rules.push(dropping("source address not on the ENI", forged, counter("source", eni)));
    }
    let nowhere = vec![Expr::DestinationIn(NOWHERE.into())];
    rules.push(dropping("no VPC routes this", nowhere, counter("unroutable", eni)));
    let nobody = vec![Expr::DestinationIn(VPC.into()), Expr::DestinationNotIn(ASSIGNED.into())];
    rules.push(dropping("no ENI has this address", nobody, counter("destination", eni)));
    rules.extend(
        route_table.map(|number| Rule::new("the table that it routes by", vec![Expr::SetMark(mark(number))])),
    );
    Chain { name: format!("from-{name}"), base: None, rules }
}

/// Ends of a packet in forwarding: the chain's beginning, the reason, and why.
const ENDS: [(&str, &str, &str); 3] = [
    ("leaving", "internet", "the internet knows primary addresses only"),
    ("unrouted", "route", "no route leads anywhere"),
    ("checked", "check", "the ENI takes only what is its own"),
];

/// Where a packet from this ENI ends and is counted.
fn end(chain: &str, name: &IfName, reason: &str, eni: &str, why: &'static str) -> Chain {
    let rules = vec![dropping(why, Vec::new(), counter(reason, eni))];
    Chain { name: format!("{chain}-{name}"), base: None, rules }
}

fn base(hook: Hook, priority: i32) -> Option<Base> {
    Some(Base { kind: ChainKind::Filter, hook, priority, policy: Policy::Accept })
}

fn prerouting() -> Chain {
    let rules = vec![Rule::new("to the ENI's chain", vec![Expr::InputVerdict(FROM_ENI.into())])];
    Chain { name: "prerouting".to_owned(), base: base(Hook::Prerouting, RAW), rules }
}

fn forward() -> Chain {
    let internet = || NameMatch::Is(INTERNET_PORT.parse().expect("a constant is an interface name"));
    let unknown = || vec![Expr::Output(internet()), Expr::SourceNotIn(PRIMARIES.into())];
    let mut counted = unknown();
    counted.push(Expr::InputVerdict(LEAVING.into()));
    let mut uncounted = unknown();
    uncounted.push(Expr::Verdict(Verdict::Drop));
    let inward =
        vec![Expr::Input(internet()), Expr::DestinationNotIn(PRIMARIES.into()), Expr::Verdict(Verdict::Drop)];
    let nowhere =
        || vec![Expr::Output(NameMatch::Is("lo".parse().expect("a constant is an interface name")))];
    let then = |mut matches: Vec<Expr>, more: Expr| {
        matches.push(more);
        matches
    };
    let rules = vec![
        Rule::new("nowhere: to the sender's counter", then(nowhere(), Expr::InputVerdict(UNROUTED.into()))),
        Rule::new("nowhere, from anybody else", then(nowhere(), Expr::Verdict(Verdict::Drop))),
        Rule::new("not from a primary address: to the ENI's counter", counted),
        Rule::new("nor from anybody else", uncounted),
        Rule::new("the internet reaches primary addresses only", inward),
        Rule::new("to an ENI that takes only what is its own", vec![Expr::OutputVerdict(GUARDED.into())]),
    ];
    Chain { name: "forward".to_owned(), base: base(Hook::Forward, FILTER), rules }
}

/// EC2 looks at the destination where the packet arrives.
fn guarding() -> Chain {
    let foreign = vec![Expr::OutputDestinationNotIn(OWNED.into()), Expr::InputVerdict(CHECKED.into())];
    let rules = vec![Rule::new("not its own: to the sender's counter", foreign)];
    Chain { name: GUARDING.to_owned(), base: None, rules }
}

#[cfg(test)]
mod tests;
