//! The node's nft table, built from what is wanted and nothing else.
//!
//! Before routing, a packet of a pod gets the mark of the ENI that owns its source address, so that the rule with that mark
//! sends it out there; unless its flow is translated to the primary address: then it has to leave through the primary ENI and gets the mark of
//! that. What a flow's first packet decides is remembered in the flow, so that later changes of the sets concern new flows only. A reply of a
//! flow that began outside is never translated, so it goes out through the pod's own ENI; unless the flow came in through the primary ENI for
//! the host's own address (a NodePort that kube-proxy turned to a pod): that is remembered, too, and replies leave there again.
//!
//! The mark is chosen after destinations were translated (a service's address has become an endpoint's), since what counts is whom the packet reaches.
//!
//! Chains stand just before `mangle` (-150), just after `dstnat` (-100) and just after `srcnat` (100): chains of equal priority have no order
//! to rely on, and kube-proxy's are at those. The maps are keyed by addresses assigned to ENIs, not by pods: adding a pod changes nothing here.

use super::guard;
use super::wanted::{NodeWanted, SecondaryEni};
use crate::nft::{
    Base, Chain, ChainKind, Content, Expr, Family, Hook, NameMatch, Policy, Ports, Rule, Set, Table, Verdict,
    aggregate,
};
use crate::{IfName, layout};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// Just before `mangle`.
const PREROUTING_PRIORITY: i32 = -155;
/// Just after `dstnat`.
const ROUTE_PRIORITY: i32 = -95;
/// Just after `srcnat`.
const POSTROUTING_PRIORITY: i32 = 105;
/// Their source ports are chosen.
const PORT_PROTOCOLS: [(&str, u8); 3] = [("TCP", 6), ("UDP", 17), ("SCTP", 132)];

pub(super) const NAT_LOCAL: &str = "nat_local";
pub(super) const NAT_NEVER: &str = "nat_never";
pub(super) const NAT_FORCE: &str = "nat_force";
const ENI_OF: &str = "eni_of";
/// Not `snat`, a word of nft's language: what operators save with `nft list ruleset` must be readable when the machine boots again.
const TRANSLATE: &str = "translate";

/// The table, given the name of the primary ENI's link and those further ENIs whose links are there.
pub(super) fn table(wanted: &NodeWanted, primary: &IfName, present: &[&SecondaryEni]) -> Table {
    let mut chains = vec![
        guard::ipv4_chain(wanted.block_instance_metadata),
        prerouting(primary),
        route(wanted.primary.address),
        postrouting(),
        translate(wanted),
    ];
    chains.extend(present.iter().map(|eni| Chain {
        name: chain_of(eni),
        base: None,
        rules: vec![Rule::new(
            "through the ENI that owns the source",
            vec![Expr::SetMark(eni.ordinal.mark())],
        )],
    }));
    Table {
        family: Family::Ip,
        name: layout::NFT_TABLE.into(),
        counters: guard::ipv4_counters(wanted.block_instance_metadata),
        sets: sets(wanted, present),
        chains,
    }
}

fn chain_of(eni: &SecondaryEni) -> String {
    format!("eni-{}", eni.ordinal.number())
}

fn sets(wanted: &NodeWanted, present: &[&SecondaryEni]) -> Vec<Set> {
    let prefixes = |name: &str, prefixes: &[Ipv4Net]| Set {
        name: name.into(),
        content: Content::Prefixes(aggregate(prefixes)),
    };
    let owner = |eni: &&SecondaryEni| {
        let verdict = Verdict::Goto(chain_of(eni));
        eni.pod_addresses.iter().map(move |prefix| (*prefix, verdict.clone())).collect::<Vec<_>>()
    };
    let mut never = wanted.nat.never.clone();
    // Multicast and limited broadcast end on the link.
    never.push(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4));
    never.push(Ipv4Net::new_assert(Ipv4Addr::BROADCAST, 32));
    vec![
        prefixes(NAT_LOCAL, &wanted.nat.local),
        prefixes(NAT_NEVER, &never),
        prefixes(NAT_FORCE, &wanted.nat.force),
        Set {
            name: ENI_OF.into(),
            content: Content::PrefixVerdicts(present.iter().flat_map(owner).collect()),
        },
    ]
}

fn prerouting(primary: &IfName) -> Chain {
    let rules = vec![Rule::new(
        "remember what came in through the primary ENI",
        vec![
            Expr::Input(NameMatch::Is(primary.clone())),
            Expr::DestinationIsLocal,
            Expr::CtNew,
            Expr::SetCtMark(layout::PRIMARY_MARK),
        ],
    )];
    Chain {
        name: "prerouting".into(),
        base: base(ChainKind::Filter, Hook::Prerouting, PREROUTING_PRIORITY),
        rules,
    }
}

fn route(primary: Ipv4Addr) -> Chain {
    let from_pod = || Expr::Input(NameMatch::StartsWith(layout::HOST_VETH_PREFIX.into()));
    let translated = |destination: Expr| {
        let remember = [Expr::SetCtMark(layout::PRIMARY_MARK), Expr::SetMark(layout::PRIMARY_MARK)];
        let mut rule = vec![Expr::SourceIn(NAT_LOCAL.into()), Expr::CtNew, destination];
        rule.extend(remember);
        rule.push(Expr::Verdict(Verdict::Accept));
        Rule::new("will be translated", rule)
    };
    let rules = vec![
        Rule::new(
            "of a flow through the primary ENI",
            vec![
                from_pod(),
                Expr::CtMarkIs(layout::PRIMARY_MARK),
                Expr::SetMark(layout::PRIMARY_MARK),
                Expr::Verdict(Verdict::Accept),
            ],
        ),
        // Also when the mark is gone (others write it, too) or was never set (by an earlier version of this table).
        Rule::new(
            "of a flow that is translated",
            vec![
                from_pod(),
                Expr::CtRepliesTo(primary),
                Expr::SetMark(layout::PRIMARY_MARK),
                Expr::Verdict(Verdict::Accept),
            ],
        ),
        translated(Expr::DestinationIn(NAT_FORCE.into())),
        translated(Expr::DestinationNotIn(NAT_NEVER.into())),
        Rule::new("from the pod's own address", vec![Expr::SourceVerdict(ENI_OF.into())]),
    ];
    Chain { name: "route".into(), base: base(ChainKind::Filter, Hook::Prerouting, ROUTE_PRIORITY), rules }
}

fn postrouting() -> Chain {
    let to_pod = Expr::Output(NameMatch::StartsWith(layout::HOST_VETH_PREFIX.into()));
    let leave = || Expr::Verdict(Verdict::Return);
    let translate = || Expr::Verdict(Verdict::Goto(TRANSLATE.into()));
    let rules = vec![
        Rule::new("to a pod of this node", vec![to_pod, leave()]),
        Rule::new(
            "not from a pod with outgoing translation",
            vec![Expr::SourceNotIn(NAT_LOCAL.into()), leave()],
        ),
        Rule::new("always translated", vec![Expr::DestinationIn(NAT_FORCE.into()), translate()]),
        Rule::new("knows pod addresses", vec![Expr::DestinationIn(NAT_NEVER.into()), leave()]),
        Rule::new("does not know pod addresses", vec![translate()]),
    ];
    Chain {
        name: "postrouting".into(),
        base: base(ChainKind::Nat, Hook::Postrouting, POSTROUTING_PRIORITY),
        rules,
    }
}

fn translate(wanted: &NodeWanted) -> Chain {
    let ports = Ports { first: wanted.nat.ports.first(), last: wanted.nat.ports.last(), fully_random: true };
    let address = wanted.primary.address;
    // A rule each, not a set of protocols: nft takes a range of ports back only behind a protocol.
    let with_ports = |(name, number): (&str, u8)| {
        let expressions = vec![Expr::Protocol(number), Expr::Snat(address, Some(ports))];
        Rule::new(&format!("{name} to the node's primary address"), expressions)
    };
    let mut rules = PORT_PROTOCOLS.map(with_ports).to_vec();
    rules.push(Rule::new("protocols without ports", vec![Expr::Snat(address, None)]));
    Chain { name: TRANSLATE.into(), base: None, rules }
}

const fn base(kind: ChainKind, hook: Hook, priority: i32) -> Option<Base> {
    Some(Base { kind, hook, priority, policy: Policy::Accept })
}
