//! What EC2 drops, as an nft table built from the whole picture of ports. Pure: no kernel.
//!
//! | reason | dropped is a packet from an ENI |
//! |---|---|
//! | `source` | whose source address is not on that ENI (source/destination check on) |
//! | `unroutable` | to link-local, multicast, loopback or reserved addresses |
//! | `destination` | to an address of the VPC that no ENI has |
//! | `internet` | to the internet, from anything but the primary address of a primary ENI |
//!
//! The other half of the destination check needs no rule: the router has no route that leads to an ENI for anything but
//! the ENI's own addresses. Each packet passes the same few lookups however many ENIs there are: one map finds the chain of
//! the ENI.

use crate::fabric::FabricError;
use crate::fabric::place::{INTERNET_PORT, UNROUTABLE};
use crate::fabric::plan::{AddressCheck, Port, Ports};
use crate::fabric::port::router_end;
use ipnet::Ipv4Net;
use spur_datapath::IfName;
use spur_datapath::nft::{
    Base, Chain, ChainKind, Content, Expr, Family, Hook, NameMatch, Policy, Rule, Set, Table, Verdict,
};
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

/// How counters begin; the ENI's id follows.
pub(super) const REASONS: [&str; 4] = ["source", "unroutable", "destination", "internet"];

/// What the rules know besides the ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    /// The VPC's ranges.
    pub(super) vpc: Vec<Ipv4Net>,
    /// The router's own addresses.
    pub(super) gateways: Vec<Ipv4Addr>,
}

impl Rules {
    /// The table for these ports.
    pub(super) fn table(&self, ports: &Ports) -> Result<Table, FabricError> {
        let ends: Result<Vec<(IfName, &str, &Port)>, _> =
            ports.iter().map(|(eni, port)| Ok((router_end(eni)?, eni.as_str(), port))).collect();
        let ends = ends?;
        let mut chains = Vec::new();
        for (name, eni, port) in &ends {
            chains.push(from_eni(name, eni, port.check));
            chains.push(leaving(name, eni));
        }
        chains.push(prerouting());
        chains.push(forward());
        Ok(Table {
            family: Family::Ip,
            name: TABLE.to_owned(),
            counters: ends
                .iter()
                .flat_map(|(_, eni, _)| REASONS.map(|reason| counter(reason, eni)))
                .collect(),
            sets: self.sets(&ends),
            chains,
        })
    }

    fn sets(&self, ends: &[(IfName, &str, &Port)]) -> Vec<Set> {
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
        let unroutable = UNROUTABLE.map(|net| net.parse().expect("constants are networks"));
        [
            (OWNED, Content::InterfaceAddresses(owned.collect())),
            (ASSIGNED, Content::Prefixes(assigned.chain(gateways).collect())),
            (PRIMARIES, Content::Prefixes(primaries.map(|(_, _, port)| port.primary.into()).collect())),
            (VPC, Content::Prefixes(self.vpc.clone())),
            (NOWHERE, Content::Prefixes(unroutable.to_vec())),
            (FROM_ENI, verdicts("from")),
            (LEAVING, verdicts("leaving")),
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
fn from_eni(name: &IfName, eni: &str, check: AddressCheck) -> Chain {
    let mut rules = Vec::new();
    if check == AddressCheck::On {
        let forged = vec![Expr::InputSourceNotIn(OWNED.into())];
        rules.push(dropping("source address not on the ENI", forged, counter("source", eni)));
    }
    let nowhere = vec![Expr::DestinationIn(NOWHERE.into())];
    rules.push(dropping("no VPC routes this", nowhere, counter("unroutable", eni)));
    let nobody = vec![Expr::DestinationIn(VPC.into()), Expr::DestinationNotIn(ASSIGNED.into())];
    rules.push(dropping("no ENI has this address", nobody, counter("destination", eni)));
    Chain { name: format!("from-{name}"), base: None, rules }
}

/// The end of a packet from this ENI that may not leave for the internet.
fn leaving(name: &IfName, eni: &str) -> Chain {
    let rules =
        vec![dropping("the internet knows primary addresses only", Vec::new(), counter("internet", eni))];
    Chain { name: format!("leaving-{name}"), base: None, rules }
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
    let rules = vec![
        Rule::new("not from a primary address: to the ENI's counter", counted),
        Rule::new("nor from anybody else", uncounted),
        Rule::new("the internet reaches primary addresses only", inward),
    ];
    Chain { name: "forward".to_owned(), base: base(Hook::Forward, FILTER), rules }
}

#[cfg(test)]
mod tests;
