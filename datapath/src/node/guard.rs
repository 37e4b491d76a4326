//! What pods may not send, stopped where it comes in: on the host's end of the pod's veth, before connection tracking sees it.
//!
//! A source address is a pod's own when the route to it leads back to the very veth that the packet came from. The
//! routes of pods are in the table that priority 512 asks first, so the check is one route lookup, knows of no pod by itself, and holds from the
//! moment in which ADD sets the route to that in which DEL removes it. Nothing is added per pod.
//!
//! Pods have no IPv6 address from us yet: whatever IPv6 they send, link-local included, is refused by a table of its own. When they get
//! addresses, that table gets the rule that IPv4 has.

use crate::layout;
use crate::nft::{Base, Chain, ChainKind, Expr, Family, Hook, NameMatch, Policy, Rule, Table, Verdict};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// Just before `raw`: nobody else sees what is refused here, and chains of equal priority have no order to rely on.
const GUARD_PRIORITY: i32 = -305;
const GUARD: &str = "guard";

/// The chain for IPv4.
pub(super) fn ipv4_chain() -> Chain {
    let unspecified = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8);
    chain(vec![
        // The kernel's route lookup lets these pass to broadcast addresses, for DHCP.
        refuse("not from the unspecified address", vec![Expr::Source(unspecified)]),
        refuse("only from the pod's own address", vec![Expr::SourceNotFromHere]),
    ])
}

/// The table for IPv6.
pub(super) fn ipv6_table() -> Table {
    Table {
        family: Family::Ip6,
        name: layout::NFT_TABLE.into(),
        counters: vec![layout::SPOOFED_COUNTER.into()],
        sets: Vec::new(),
        chains: vec![chain(vec![refuse("pods have no IPv6 address", Vec::new())])],
    }
}

/// Drops and counts what a pod sends and `matches`.
fn refuse(why: &str, matches: Vec<Expr>) -> Rule {
    let mut expressions = vec![Expr::Input(NameMatch::StartsWith(layout::HOST_VETH_PREFIX.into()))];
    expressions.extend(matches);
    expressions.extend([Expr::Count(layout::SPOOFED_COUNTER.into()), Expr::Verdict(Verdict::Drop)]);
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
