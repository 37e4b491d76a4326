//! What pods may not send, stopped where it comes in: on the host's end of the pod's veth, before connection tracking sees it.
//!
//! A source address is a pod's own when the route to it leads back to the very veth that the packet came from. The
//! routes of pods are in the table that priority 512 asks first, so the check is one route lookup, knows of no pod by itself, and holds from the
//! moment in which ADD sets the route to that in which DEL removes it. Nothing is added per pod.
//!
//! Pods have no IPv6 address from us yet: whatever IPv6 they send, link-local included, is refused by a table of its own. When they get
//! addresses, that table gets the rule that IPv4 has.

use super::table::{NAT_FORCE, NAT_LOCAL, NAT_NEVER};
use super::wanted::Nat6Wanted;
use crate::layout;
use crate::nft::{
    Base, Chain, ChainKind, Content, Expr, Family, Hook, NameMatch, Policy, Rule, Set, Table, Verdict,
};
use ipnet::{Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Just before `raw`: nobody else sees what is refused here, and chains of equal priority have no order to rely on.
const GUARD_PRIORITY: i32 = -305;
const GUARD: &str = "guard";

/// The chain for IPv4.
pub(super) fn ipv4_chain(block_instance_metadata: bool) -> Chain {
    let unspecified = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8);
    let mut rules = vec![
        // The kernel's route lookup lets these pass to broadcast addresses, for DHCP.
        refuse("not from the unspecified address", vec![Expr::Source(unspecified)], layout::SPOOFED_COUNTER),
        refuse("only from the pod's own address", vec![Expr::SourceNotFromHere], layout::SPOOFED_COUNTER),
    ];
    if block_instance_metadata {
        let metadata = Expr::Destination(layout::INSTANCE_METADATA.into());
        rules.push(refuse("no instance metadata for pods", vec![metadata], layout::METADATA_COUNTER));
    }
    chain(rules)
}

/// The counters of that chain.
pub(super) fn ipv4_counters(block_instance_metadata: bool) -> Vec<String> {
    let metadata = block_instance_metadata.then_some(layout::METADATA_COUNTER);
    [layout::SPOOFED_COUNTER].into_iter().chain(metadata).map(str::to_owned).collect()
}

/// The table for IPv6. The sets of translation are kept as those of IPv4 are; nothing asks them before pods have IPv6 addresses.
pub(super) fn ipv6_table(nat: &Nat6Wanted) -> Table {
    let prefixes =
        |name: &str, prefixes: Vec<Ipv6Net>| Set { name: name.into(), content: Content::Prefixes6(prefixes) };
    let mut never = nat.never.clone();
    // Link-local addresses and multicast end on the link.
    never.push(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10));
    never.push(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8));
    Table {
        family: Family::Ip6,
        name: layout::NFT_TABLE.into(),
        counters: vec![layout::SPOOFED_COUNTER.into()],
        sets: vec![
            prefixes(NAT_LOCAL, nat.local.clone()),
            prefixes(NAT_NEVER, never),
            prefixes(NAT_FORCE, nat.force.clone()),
        ],
        chains: vec![chain(vec![refuse("pods have no IPv6 address", Vec::new(), layout::SPOOFED_COUNTER)])],
    }
}

/// Drops and counts what a pod sends and `matches`.
fn refuse(why: &str, matches: Vec<Expr>, counter: &str) -> Rule {
    let mut expressions = vec![Expr::Input(NameMatch::StartsWith(layout::HOST_VETH_PREFIX.into()))];
    expressions.extend(matches);
    expressions.extend([Expr::Count(counter.into()), Expr::Verdict(Verdict::Drop)]);
    Rule::new(why, expressions)
}

fn chain(rules: Vec<Rule>) -> Chain {
    let base = Base {
        kind: ChainKind::Filter,
        hook: Hook::Prerouting,
        priority: GUARD_PRIORITY,
        policy: Policy::Accept,
    };
    Chain { name: GUARD.into(), base: Some(base), rules }
}
