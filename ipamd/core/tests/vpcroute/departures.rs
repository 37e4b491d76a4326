//! Nodes that vanish from the list: it may be half written, edited by hand, or right.

use crate::bench::{Bench, name, net, secs};
use spur_cloud::Api;
use spur_ipamd_core::vpcroute::{BlockState, BlocksFrom, Event, Nodes, Placement, Timings};
use std::collections::BTreeSet;

/// A bench in sync, with the times of a cluster.
fn bench() -> Bench {
    let mut bench = Bench::synced(&["b"]);
    bench.settings.timings = Timings::default();
    bench.reload();
    bench.run(secs(200));
    bench
}

/// Tells a list without a node that the operator never took off it.
fn half_list(bench: &mut Bench, without: &str) -> Nodes {
    let mut nodes = bench.nodes.clone();
    nodes.remove(&name(without));
    bench.step(Event::Nodes(nodes.clone()));
    nodes
}

fn routes(bench: &Bench, node: &str) -> usize {
    let block = bench.record.blocks().iter().find(|(_, known)| known.node == name(node));
    let block = block.map(|(block, _)| *block).expect("the node has a block");
    ["main", "b"].iter().filter(|table| bench.leads(table, block).is_some()).count()
}

#[test]
fn r03_a_list_that_stays_half_written_for_minutes_cuts_off_no_node_that_lives() {
    let mut bench = bench();
    half_list(&mut bench, "n-b");
    bench.run(secs(280));
    assert_eq!((bench.count(Api::DeleteRoute), routes(&bench, "n-b")), (0, 2));
    let told = bench.controller.view().problems.into_iter().find(|problem| problem.kind() == "NodeUnlisted");
    assert!(told.is_some_and(|problem| problem.to_string().contains("node n-b")), "{:?}", bench.kinds());
    let cluster = bench.controller.cluster_facts();
    assert!(cluster.node_addresses.contains_key(&name("n-b")), "pods would be translated on their way to it");
    bench.step(Event::Nodes(bench.nodes.clone()));
    assert!(
        bench.grant("n-b").ready,
        "its pods and its ENI are where they were: {:?}",
        bench.grant("n-b").waits
    );
    bench.run(secs(600));
    assert_eq!((bench.count(Api::DeleteRoute), bench.unready()), (0, BTreeSet::new()));
    assert_eq!(bench.oracle.violations, Vec::<String>::new());
}

#[test]
fn r02_a_node_that_stays_away_loses_its_routes_though_its_machine_lives() {
    let mut bench = bench();
    half_list(&mut bench, "n-b");
    bench.run(secs(320));
    assert_eq!((bench.count(Api::DeleteRoute), routes(&bench, "n-b")), (2, 0));
    assert!(!bench.kinds().contains("NodeUnlisted"));
}

#[test]
fn r02_routes_of_a_node_whose_machine_is_gone_go_as_soon_as_reads_show_it() {
    let mut bench = bench();
    let gone = bench.nodes.remove(&name("n-b")).expect("it is on the list");
    bench.world.terminate(&gone.instance);
    bench.tell_nodes();
    bench.run(secs(115));
    assert_eq!(bench.count(Api::DeleteRoute), 0, "reads may show what was before");
    bench.run(secs(80));
    assert_eq!((bench.count(Api::DeleteRoute), routes(&bench, "n-b")), (2, 0));
}

#[test]
fn r03_a_controller_that_starts_with_half_a_list_waits_as_long_as_any() {
    let mut bench = bench();
    half_list(&mut bench, "n-b");
    bench.run(secs(200));
    let whole = bench.nodes.clone();
    bench.nodes.remove(&name("n-b"));
    bench.crash();
    bench.nodes = whole;
    bench.run(secs(280));
    assert_eq!(bench.count(Api::DeleteRoute), 0);
    bench.tell_nodes();
    bench.run(secs(10));
    assert_eq!(bench.unready(), BTreeSet::new());
}

#[test]
fn r03_an_empty_list_is_no_time_in_which_nodes_were_away() {
    let mut bench = bench();
    bench.step(Event::Nodes(Nodes::new()));
    bench.run(secs(1000));
    half_list(&mut bench, "n-b");
    bench.run(secs(100));
    assert_eq!(bench.count(Api::DeleteRoute), 0, "the first list that says something says it now");
}

#[test]
fn r03_a_block_that_a_half_written_list_does_not_give_any_more_keeps_its_routes() {
    let mut bench = Bench::new(&["b"]);
    bench.settings.timings = Timings::default();
    bench.settings.pool.blocks_from = BlocksFrom::NodeSpec;
    bench.reload();
    bench.add_node("n-b", "b");
    let spec = bench.nodes.get_mut(&name("n-b")).expect("just added");
    spec.pod_cidrs = BTreeSet::from([net("10.200.4.0/24"), net("10.200.9.0/24")]);
    bench.tell_nodes();
    bench.run(secs(200));
    assert_eq!(bench.count(Api::CreateRoute), 2);
    let mut half = bench.nodes.clone();
    half.get_mut(&name("n-b")).expect("listed").pod_cidrs.remove(&net("10.200.9.0/24"));
    bench.step(Event::Nodes(half.clone()));
    bench.run(secs(250));
    bench.tell_nodes();
    bench.run(secs(250));
    assert_eq!((bench.count(Api::DeleteRoute), bench.unready()), (0, BTreeSet::new()));
    bench.step(Event::Nodes(half));
    bench.run(secs(320));
    assert_eq!(bench.count(Api::DeleteRoute), 1);
    assert_eq!(bench.states()[&net("10.200.4.0/24")], BlockState::Held);
}

#[test]
fn r17_a_node_in_the_fallback_pool_stays_there_while_a_list_is_half_written() {
    let mut bench = Bench::crowded();
    bench.settings.timings = Timings::default();
    bench.reload();
    bench.settings.quota.v4 = 500;
    bench.reload();
    half_list(&mut bench, "n2");
    bench.run(secs(100));
    bench.tell_nodes();
    bench.run(secs(100));
    assert!(
        matches!(bench.grant("n2").placement, Placement::EniPool { .. }),
        "its pods have addresses of ENIs"
    );
    half_list(&mut bench, "n2");
    bench.run(secs(310));
    bench.tell_nodes();
    bench.run(secs(10));
    assert!(matches!(bench.grant("n2").placement, Placement::VpcRoute { .. }));
}
