//! Figures in virtual time: how fast nodes get their routes, and how little it costs to keep them.

use crate::bench::{Bench, net, secs, settings, vpc};
use spur_cloud::fake::World;
use spur_cloud::{Api, ErrorClass, RouteOrigin, RouteTarget};
use spur_ipamd_core::vpcroute::{BlockRecord, BlockState, Change, Record, TableRecord};
use std::collections::BTreeSet;
use std::time::Duration;

/// EC2's bucket for CreateRoute.
const CAPACITY: f64 = 50.0;
const REFILL: f64 = 5.0;

/// 100 new nodes in three tables: time until the first and the last node are ready, and the floor that the bucket sets.
fn hundred_nodes(percent: u32) -> (Duration, Duration, f64) {
    let mut bench = Bench::new(&["b", "c"]);
    bench.settings.budget_percent = percent;
    bench.reload();
    for number in 0..100 {
        bench.add_node(&format!("n{number}"), ["a", "b", "c"][number % 3]);
    }
    bench.tell_nodes();
    let first = bench.run_until(secs(30), |bench| bench.unready().len() < 100);
    let last = first + bench.run_until(secs(300), |bench| bench.unready().is_empty());
    assert_eq!(bench.count(Api::CreateRoute), 300, "each route is written once");
    assert!(bench.made.iter().all(|made| made.outcome.is_none_or(|outcome| outcome.is_ok())));
    let share = f64::from(percent) / 100.0;
    (first, last, (300.0 - CAPACITY * share) / (REFILL * share))
}

#[test]
fn a_hundred_new_nodes_in_three_tables_take_hardly_longer_than_the_bucket_allows() {
    for percent in [60, 100] {
        let (first, last, floor) = hundred_nodes(percent);
        println!("{percent} %: first {first:?}, last {last:?}, floor {floor:.1} s");
        assert!(first <= secs(3), "{percent} %: first node after {first:?}");
        assert!(last.as_secs_f64() <= 1.15 * floor, "{percent} %: {last:?}, floor {floor} s");
    }
}

#[test]
fn all_tables_of_a_node_are_finished_before_the_next_nodes() {
    let mut bench = Bench::new(&["b", "c"]);
    for number in 0..40 {
        bench.add_node(&format!("n{number:02}"), ["a", "b", "c"][number % 3]);
    }
    bench.tell_nodes();
    let mut most = 0;
    while !bench.unready().is_empty() {
        bench.run(Duration::from_millis(100));
        let partial = bench.nodes.keys().filter(|node| {
            let Some(block) = bench.controller.held(node).next() else { return false };
            let there = ["main", "b", "c"].iter().filter(|table| bench.leads(table, block).is_some()).count();
            there == 1 || there == 2
        });
        most = most.max(partial.count());
    }
    assert!(most <= 1, "{most} nodes were half done at the same time");
}

#[test]
fn a_new_node_comes_before_repairs() {
    let mut bench = Bench::new(&["b", "c"]);
    for number in 0..40 {
        bench.add_node(&format!("n{number:02}"), ["a", "b", "c"][number % 3]);
    }
    bench.tell_nodes();
    bench.run(secs(300));
    let blocks: Vec<_> = bench.record.blocks().keys().copied().collect();
    for block in blocks {
        ["main", "b", "c"].iter().for_each(|table| bench.world.lose_route(&Bench::id(table), block));
    }
    bench.run_until(secs(70), |bench| bench.unready().len() == 40);
    bench.add_node("x-new", "a");
    bench.tell_nodes();
    let took = bench.run_until(secs(10), |bench| bench.grant("x-new").ready);
    assert!(took <= secs(5) && bench.unready().len() > 20, "{took:?}");
}

/// A cluster that fills three tables: 990 nodes, all in sync, as a new controller finds them.
fn large() -> Bench {
    let mut world = World::new();
    world.set_route_quota(1000);
    let id = vpc(&mut world, &["b", "c"]);
    let mut settings = settings(&id);
    settings.quota.v4 = 1000;
    let mut bench = Bench::with(world, settings.clone(), Record::default());
    let mut record = Record::default();
    let blocks: Vec<_> = net("10.200.0.0/15").subnets(25).unwrap().take(990).collect();
    settings.pool.cidrs = BTreeSet::from([net("10.200.0.0/15")]);
    for (number, block) in blocks.into_iter().enumerate() {
        let node = format!("n{number:03}");
        bench.add_node(&node, ["a", "b", "c"][number % 3]);
        let eni = bench.eni(&node);
        bench.world.set_source_dest_check(&eni, false).unwrap();
        for table in ["main", "b", "c"] {
            bench.put(table, block, RouteTarget::Eni(eni.clone()), RouteOrigin::CreateRoute);
        }
        let held =
            BlockRecord { node: node.parse().unwrap(), state: BlockState::Held, enis: BTreeSet::from([eni]) };
        record.apply(&Change::PutBlock(block, held));
    }
    for table in ["main", "b", "c"] {
        record.apply(&Change::PutTable(Bench::id(table), TableRecord::default()));
    }
    let (world, nodes) = (bench.world, bench.nodes);
    let mut bench = Bench::with(world, settings, record);
    bench.nodes = nodes;
    bench
}

#[test]
fn nine_hundred_and_ninety_nodes_cost_one_read_a_minute() {
    let mut bench = large();
    bench.tell_nodes();
    bench.run(secs(60));
    assert_eq!(bench.unready(), BTreeSet::new());
    let writes = bench.made.iter().filter(|made| !made.call.is_read()).count();
    assert_eq!(writes, 3, "the claims, and nothing else");
    let (begun, before) = (bench.now, bench.made.len());
    bench.run(secs(3600));
    let calls = &bench.made[before..];
    assert!(calls.iter().all(|made| made.call.is_read()));
    // Each of EC2's actions has a bucket of its own.
    for api in [Api::DescribeRouteTables, Api::DescribeNetworkInterfaces] {
        let at: Vec<_> = bench.made_of(api).map(|made| made.at).filter(|at| *at >= begun).collect();
        println!("{api}: {} in an hour", at.len());
        assert!(
            at.len() <= 60 && at.windows(2).all(|pair| pair[1] - pair[0] >= secs(60)),
            "{api}: {}",
            at.len()
        );
    }
    let others = bench.made[before..]
        .iter()
        .filter(|made| !matches!(made.call.api(), Api::DescribeRouteTables | Api::DescribeNetworkInterfaces));
    assert!(others.count() <= 12, "subnets and CIDRs, every ten minutes");
}

#[test]
fn calls_stay_within_the_share_even_when_everything_is_to_do() {
    let mut bench = Bench::new(&["b", "c"]);
    bench.refuse = Some(|call| (call.api() == Api::CreateRoute).then_some(ErrorClass::Transient));
    for number in 0..100 {
        bench.add_node(&format!("n{number}"), ["a", "b", "c"][number % 3]);
    }
    bench.tell_nodes();
    bench.run(secs(60));
    bench.refuse = None;
    bench.run(secs(200));
    bench.within_budget();
    assert_eq!(bench.unready(), BTreeSet::new());
}
