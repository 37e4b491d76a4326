//! Any contents of the tables, any schedule of faults: the controller never touches what is not its own, never cuts off a node that stays,
//! stays within its budget, and ends with every table as the nodes need it once the faults are over.
//!
//! A failing case is shrunk by proptest and printed with its operations, which replay it.

use crate::bench::{Bench, Faults, name, secs};
use ipnet::{IpNet, Ipv4Net};
use proptest::prelude::*;
use spur_cloud::{Api, Association, Route, RouteOrigin, RouteTarget};
use spur_ipamd_core::vpcroute::{BlockState, Placement, Timings};
use std::net::Ipv4Addr;

const TABLES: [&str; 3] = ["main", "b", "c"];
const SUBNETS: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Op {
    AddNode(u8),
    RemoveNode(u8),
    /// The node's machine is replaced by another one.
    Replace(u8),
    /// Somebody deletes a route of ours.
    Lose(u8, u8),
    /// Somebody points a route of ours at another node.
    Misdirect(u8, u8, u8),
    /// Somebody's route appears inside the pool.
    Foreign(u8, u8, u8),
    /// Somebody puts a route of theirs in the place of one of ours: to a gateway, or propagated and to an ENI.
    TakeOver(u8, u8, bool),
    /// Somebody's route goes.
    ForeignGone(u8, u8),
    CheckOn(u8),
    Unclaim(u8),
    EmptyList,
    /// The list is half written for a while: it ends before this node.
    HalfList(u8, u16),
    Crash,
    StoreFails(bool),
    Vanish,
    Wait(u16),
}

fn op() -> impl Strategy<Value = Op> {
    let node = 0..6u8;
    let table = 0..3u8;
    prop_oneof![
        6 => node.clone().prop_map(Op::AddNode),
        2 => node.clone().prop_map(Op::RemoveNode),
        1 => node.clone().prop_map(Op::Replace),
        2 => (table.clone(), node.clone()).prop_map(|(table, node)| Op::Lose(table, node)),
        2 => (table.clone(), node.clone(), node.clone()).prop_map(|(table, node, to)| Op::Misdirect(table, node, to)),
        1 => (table.clone(), 0..8u8, 24..=27u8).prop_map(|(table, at, length)| Op::Foreign(table, at, length)),
        2 => (table.clone(), node.clone(), any::<bool>()).prop_map(|(table, node, propagated)| Op::TakeOver(table, node, propagated)),
        2 => (table.clone(), 0..8u8).prop_map(|(table, at)| Op::ForeignGone(table, at)),
        1 => node.clone().prop_map(Op::CheckOn),
        1 => table.prop_map(Op::Unclaim),
        1 => Just(Op::EmptyList),
        2 => (node.clone(), 0..250u16).prop_map(|(node, seconds)| Op::HalfList(node, seconds)),
        2 => Just(Op::Crash),
        1 => any::<bool>().prop_map(Op::StoreFails),
        1 => Just(Op::Vanish),
        6 => (0..300u16).prop_map(Op::Wait),
    ]
}

/// The place of a block in the pool: the lowest ones, where blocks are.
fn place(at: u8, length: u8) -> IpNet {
    let net = Ipv4Net::new(Ipv4Addr::new(10, 200, at / 2, 128 * (at % 2)), length);
    IpNet::V4(net.expect("a length of IPv4").trunc())
}

impl Op {
    fn apply(&self, bench: &mut Bench) {
        let table = |at: u8| TABLES[usize::from(at) % 3];
        let node = |at: u8| format!("n{at}");
        match self {
            Self::AddNode(at) if !bench.nodes.contains_key(&name(&node(*at))) => {
                bench.add_node(&node(*at), SUBNETS[usize::from(*at) % 3]);
                bench.tell_nodes();
            }
            Self::RemoveNode(at) => {
                if let Some(spec) = bench.nodes.remove(&name(&node(*at))) {
                    bench.world.terminate(&spec.instance);
                    bench.tell_nodes();
                }
            }
            Self::Replace(at) => {
                if let Some(spec) = bench.nodes.remove(&name(&node(*at))) {
                    bench.world.terminate(&spec.instance);
                    bench.add_node(&node(*at), SUBNETS[usize::from(*at) % 3]);
                    bench.tell_nodes();
                }
            }
            Self::CheckOn(at) => {
                if bench.nodes.contains_key(&name(&node(*at))) {
                    let eni = bench.eni(&node(*at));
                    // Nobody counts this as a call of the controller's.
                    bench.world.set_source_dest_check(&eni, true).expect("the ENI is there");
                }
            }
            Self::Unclaim(at) => {
                let keys = std::collections::BTreeSet::from([format!(
                    "{}test",
                    spur_ipamd_core::vpcroute::CLAIM_TAG
                )]);
                // A table that vanished carries no claim.
                let _ = bench.world.untag_route_table(&Bench::id(table(*at)), &keys);
            }
            Self::EmptyList => {
                bench.step(spur_ipamd_core::vpcroute::Event::Nodes(Default::default()));
                bench.run(secs(3));
                bench.tell_nodes();
            }
            Self::HalfList(from, seconds) => {
                let mut nodes = bench.nodes.clone();
                nodes.retain(|listed, _| *listed < name(&node(*from)));
                bench.step(spur_ipamd_core::vpcroute::Event::Nodes(nodes));
                bench.run(secs(u64::from(*seconds)));
                bench.tell_nodes();
            }
            Self::Crash => bench.crash(),
            Self::StoreFails(fails) => bench.store_fails = *fails,
            Self::Vanish => bench.world.lose_route_table(&Bench::id("c")),
            Self::Wait(seconds) => bench.run(secs(u64::from(*seconds))),
            Self::AddNode(_) => {}
            routes => routes.meddle(bench),
        }
    }

    /// What others do to routes.
    fn meddle(&self, bench: &mut Bench) {
        let table = |at: u8| TABLES[usize::from(at) % 3];
        let node = |at: u8| format!("n{at}");
        match self {
            Self::Lose(at, of) => {
                if let Some(block) = bench.controller.held(&name(&node(*of))).next() {
                    bench.world.lose_route(&Bench::id(table(*at)), block);
                }
            }
            Self::Misdirect(at, of, to) => {
                let block = bench.controller.held(&name(&node(*of))).next();
                if let Some(block) = block.filter(|_| bench.nodes.contains_key(&name(&node(*to)))) {
                    let eni = bench.eni(&node(*to));
                    if is_ours(bench, table(*at), block) {
                        bench.put(table(*at), block, RouteTarget::Eni(eni), RouteOrigin::CreateRoute);
                    }
                }
            }
            Self::Foreign(at, of, length) => {
                let destination = place(*of, *length);
                if bench.there(table(*at)).is_some_and(|table| table.route(destination).is_none()) {
                    bench.put_foreign(table(*at), destination);
                }
            }
            Self::TakeOver(at, of, propagated) => {
                let block = bench.controller.held(&name(&node(*of))).next();
                let eni = bench.world.true_enis().keys().next().filter(|_| *propagated).cloned();
                match (block.filter(|block| is_ours(bench, table(*at), *block)), eni) {
                    (Some(block), Some(eni)) => {
                        let origin = RouteOrigin::EnableVgwRoutePropagation;
                        bench.put(table(*at), block, RouteTarget::Eni(eni), origin);
                    }
                    (Some(block), None) => bench.put_foreign(table(*at), block),
                    (None, _) => {}
                }
            }
            Self::ForeignGone(at, of) => {
                for length in 24..=27 {
                    let destination = place(*of, length);
                    let there = bench.there(table(*at)).and_then(|table| table.route(destination).cloned());
                    if there.is_some_and(|route| is_theirs(&route)) {
                        bench.world.lose_route(&Bench::id(table(*at)), destination);
                    }
                }
            }
            _ => {}
        }
    }
}

fn is_ours(bench: &Bench, table: &str, block: IpNet) -> bool {
    let route = bench.there(table).and_then(|table| table.route(block).cloned());
    route.is_some_and(|route| !is_theirs(&route))
}

fn is_theirs(route: &Route) -> bool {
    route.origin != RouteOrigin::CreateRoute || matches!(route.target, RouteTarget::Other(_))
}

fn world(initial: &[(u8, u8, u8)]) -> Bench {
    let mut bench = Bench::new(&["b", "c"]);
    let vpc = bench.vpc.clone();
    bench.world.add_route_table("edge", &vpc, &[Association::Gateway("igw-1".to_owned())], &[]);
    for (at, of, length) in initial {
        bench.put_foreign(TABLES[usize::from(*at) % 3], place(*of, *length));
    }
    bench.put_foreign("main", "0.0.0.0/0".parse().expect("a default route"));
    bench
}

/// What has to hold when the faults are over and time has passed.
fn check_converged(bench: &Bench) -> Result<(), TestCaseError> {
    let tables: Vec<_> = TABLES.iter().filter_map(|table| bench.there(table)).collect();
    let managed = bench.controller.view().tables;
    for (node, grant) in bench.controller.grants() {
        let Placement::VpcRoute { blocks, .. } = &grant.placement else {
            let refused = bench.kinds().contains("PoolRefused");
            prop_assert!(refused, "{node} has no block, and nothing refuses it: {:?}", grant.waits);
            continue;
        };
        let eni = RouteTarget::Eni(bench.eni(node.as_str()));
        let mut blocked = false;
        for (block, table) in blocks.iter().flat_map(|block| tables.iter().map(move |table| (block, table))) {
            if !managed.contains_key(&table.id) {
                continue;
            }
            match table.route(*block) {
                Some(route) if is_theirs(route) => blocked = true,
                Some(route) => prop_assert_eq!(&route.target, &eni, "{} of {} in {}", block, node, table.id),
                None => prop_assert!(false, "{block} of {node} is not in {}", table.id),
            }
        }
        prop_assert_eq!(grant.ready, !blocked, "{}: {:?}", node, grant.waits);
        prop_assert!(!bench.world.true_enis()[&bench.eni(node.as_str())].source_dest_check);
    }
    for (block, known) in bench.record.blocks().iter().filter(|(_, known)| known.state != BlockState::Held) {
        let left = tables.iter().filter(|table| is_ours(bench, &table.id.as_str()[4..], *block));
        prop_assert_eq!(left.count(), 0, "{} of {} was left", block, known.node);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_tables_and_any_faults_converge_and_hurt_nobody(
        initial in proptest::collection::vec((0..3u8, 0..8u8, 24..=27u8), 0..4),
        ops in proptest::collection::vec(op(), 1..30),
        rates in (0..200u64, 0..200u64, 0..200u64, 0..50u64),
        lag in 0..50u64,
        seed in any::<u64>(),
    ) {
        let mut bench = world(&initial);
        // Short enough that every wait is over when the time to converge is.
        bench.settings.timings = Timings { table_grace: secs(1000), ..Timings::default() };
        bench.reload();
        bench.seed(seed);
        let (throttled, lost, refused, denied) = rates;
        bench.faults = Faults { throttled, lost, refused, denied, delay: secs(3) };
        bench.world.set_read_lag(secs(lag));
        for op in &ops {
            op.apply(&mut bench);
        }
        bench.faults = Faults::default();
        bench.store_fails = false;
        bench.world.set_read_lag(secs(0));
        // The operator's word: what is to go may go.
        bench.settings.allow_deletes = Some(1000);
        bench.reload();
        bench.tell_nodes();
        bench.run(secs(3000));
        prop_assert_eq!(&bench.oracle.violations, &Vec::<String>::new());
        check_converged(&bench)?;
        bench.within_budget();
        prop_assert!(bench.count(Api::DescribeRouteTables) as u64 <= bench.now.as_secs() / 2 + 2);
    }
}
