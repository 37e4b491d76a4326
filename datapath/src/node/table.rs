//! The node's nft table, built from what is wanted and nothing else.
//!
//! Before routing, a packet of a pod gets the mark of the ENI that owns its source address, so that the rule with that mark
//! sends it out there; unless its flow is translated to the primary address: then it has to leave through the primary ENI and gets the mark of
//! that. What a flow's first packet decided is asked of the flow itself (to whom are its replies addressed?), so that later changes of the sets concern
//! new flows only. A reply of a flow that began outside is never translated, so it goes out through the pod's own ENI; unless the flow was opened
//! to an ENI's own address (a NodePort or a host port that somebody turned to a pod, here or on another node): its replies leave through that ENI.
//!
//! The mark is chosen after destinations were translated (a service's address has become an endpoint's), since what counts is whom the packet reaches.
//!
//! Chains stand just after `dstnat` (-100) and just after `srcnat` (100): chains of equal priority have no order to rely on, and kube-proxy's
//! are at those. The maps are keyed by addresses assigned to ENIs, not by pods: adding a pod changes nothing here.

use super::guard;
use super::wanted::{NodeWanted, SecondaryEni};
use crate::nft::{
    Base, Chain, ChainKind, Content, Expr, Family, Hook, NameMatch, Policy, Ports, Rule, Set, Table, Verdict,
    aggregate,
};
use crate::{Mark, layout};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

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
const ENI_ITSELF: &str = "eni_itself";
/// Of the primary ENI; those of the others have their number.
const PRIMARY_CHAIN: &str = "eni-0";
/// Not `snat`, a word of nft's language: what operators save with `nft list ruleset` must be readable when the machine boots again.
const TRANSLATE: &str = "translate";

/// The table, given those further ENIs whose links are there.
pub(super) fn table(wanted: &NodeWanted, present: &[&SecondaryEni]) -> Table {
    let through = |name: String, mark: Mark| Chain {
        name,
        base: None,
        rules: vec![Rule::new("through this ENI", vec![Expr::SetMark(mark)])],
    };
    let mut chains = vec![
        guard::ipv4_chain(wanted.block_instance_metadata),
        route(),
        postrouting(),
        translate(wanted),
        through(PRIMARY_CHAIN.into(), layout::PRIMARY_MARK),
    ];
    chains.extend(present.iter().map(|eni| through(chain_of(eni), eni.ordinal.mark())));
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
    let itself = |eni: &&SecondaryEni| (Ipv4Net::from(eni.address.addr()), Verdict::Goto(chain_of(eni)));
    let primary = (Ipv4Net::from(wanted.primary.address), Verdict::Goto(PRIMARY_CHAIN.into()));
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
        Set {
            name: ENI_ITSELF.into(),
            content: Content::PrefixVerdicts(present.iter().map(itself).chain([primary]).collect()),
        },
    ]
}

fn route() -> Chain {
    let from_pod = Expr::Input(NameMatch::StartsWith(layout::HOST_VETH_PREFIX.into()));
    let translated = |destination: Expr| {
        let first = vec![Expr::SourceIn(NAT_LOCAL.into()), Expr::CtNew, destination];
        let mark = [Expr::SetMark(layout::PRIMARY_MARK), Expr::Verdict(Verdict::Accept)];
        Rule::new("will be translated", first.into_iter().chain(mark).collect())
    };
    let rules = vec![
        // From a pod, or from another node to which the flow was sent on.
        Rule::new(
            "replies of a flow to an ENI's own address",
            vec![Expr::CtReply, Expr::CtOriginalDestinationVerdict(ENI_ITSELF.into())],
        ),
        Rule::new(
            "of a flow that is translated to an ENI's own address",
            vec![from_pod, Expr::CtReplyDestinationVerdict(ENI_ITSELF.into())],
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
