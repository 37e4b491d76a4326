//! The requirements at their edges: settings that are taken back, clocks that were set, clusters that meet, answers that contradict each other.

use crate::bench::{Bench, name, net, secs};
use spur_cloud::{
    Api, Association, Destination, EniId, ErrorClass, Route, RouteOrigin, RouteState, RouteTarget,
};
use spur_ipamd_core::Timestamp;
use spur_ipamd_core::vpcroute::{BlockRecord, BlockState, CLAIM_TAG, Change, NodeSpec, Placement, RouteCall};
use std::collections::{BTreeMap, BTreeSet};

fn clean(bench: &Bench) {
    assert_eq!(bench.oracle.violations, Vec::<String>::new());
}

fn claim_of_another(bench: &mut Bench, table: &str) {
    let tags = BTreeMap::from([(format!("{CLAIM_TAG}other"), "10.200.0.0/16".to_owned())]);
    bench.world.tag_route_table(&Bench::id(table), &tags).unwrap();
}

/// The ENI of a machine that is no node of ours.
fn stranger(bench: &mut Bench) -> EniId {
    let instance = bench.world.add_instance("stranger", "m5.large", &"subnet-a".parse().unwrap()).unwrap();
    let of = |eni: &&spur_cloud::Eni| {
        eni.attachment.as_ref().is_some_and(|at| at.instance.as_ref() == Some(&instance))
    };
    bench.world.true_enis().values().find(of).map(|eni| eni.id.clone()).unwrap()
}

// ---- R2: rest ------------------------------------------------------------------------------------------------------

fn resting(bench: &mut Bench) -> ipnet::IpNet {
    let block = bench.block("n-b");
    bench.nodes.remove(&name("n-b"));
    bench.tell_nodes();
    bench.run_until(secs(300), |bench| matches!(bench.states()[&block], BlockState::Cooling { .. }));
    block
}

#[test]
fn r02_a_restart_begins_the_rest_of_a_block_anew_because_the_clock_may_have_been_set() {
    let mut bench = Bench::synced(&["b"]);
    let block = resting(&mut bench);
    bench.run(secs(250));
    bench.crash();
    bench.run(secs(200));
    assert!(bench.states().contains_key(&block), "it rested for 200 s that are sure");
    bench.run(secs(200));
    assert!(!bench.states().contains_key(&block));

    let (now, node) = (bench.time(), name("n-b"));
    let until = Timestamp::from_epoch(now.since_epoch() + secs(86_400));
    let enis = BTreeSet::new();
    bench
        .record
        .apply(&Change::PutBlock(block, BlockRecord { node, state: BlockState::Cooling { until }, enis }));
    bench.crash();
    bench.run(secs(500));
    assert!(!bench.states().contains_key(&block), "a clock that was set back does not keep it for a day");
    clean(&bench);
}

#[test]
fn r02_a_block_whose_route_came_back_rests_from_the_beginning() {
    let mut bench = Bench::synced(&["b"]);
    let eni = bench.eni("n-b");
    let block = resting(&mut bench);
    bench.run(secs(200));
    bench.put("b", block, RouteTarget::Eni(eni), RouteOrigin::CreateRoute);
    bench.run_until(secs(70), |bench| bench.leads("b", block).is_some() && bench.count(Api::DeleteRoute) > 2);
    bench.run(secs(350));
    assert!(bench.states().contains_key(&block), "the route was there 350 s ago");
    bench.run(secs(200));
    assert!(!bench.states().contains_key(&block));
    clean(&bench);
}

// ---- R3: deletes ---------------------------------------------------------------------------------------------------

#[test]
fn r03_leave_for_no_delete_is_no_leave_for_an_empty_list() {
    let mut bench = Bench::synced(&["b"]);
    bench.settings.allow_deletes = Some(0);
    bench.reload();
    bench.nodes.clear();
    bench.tell_nodes();
    bench.run(secs(600));
    assert!(bench.states().values().all(|state| *state == BlockState::Held), "{:?}", bench.states());
    assert!(bench.kinds().contains("EmptyNodeList"));
    assert_eq!(bench.count(Api::DeleteRoute), 0);
}

#[test]
fn r03_deletes_whose_answer_is_lost_count() {
    let mut bench = Bench::new(&[]);
    for number in 0..10 {
        bench.add_node(&format!("n{number}"), "a");
    }
    bench.tell_nodes();
    bench.run(secs(30));
    (0..3).for_each(|number| drop(bench.nodes.remove(&name(&format!("n{number}")))));
    bench.tell_nodes();
    bench.run_until(secs(10), |bench| bench.count(Api::DeleteRoute) == 3);
    bench.faults.lost = 1000;
    bench.run(std::time::Duration::from_millis(150));
    bench.faults.lost = 0;
    let lost =
        bench.made_of(Api::DeleteRoute).filter(|made| made.outcome == Some(Err(ErrorClass::Transient)));
    assert_eq!(lost.count(), 3);
    bench.run(secs(5));
    bench.nodes.remove(&name("n3"));
    bench.tell_nodes();
    bench.run(secs(20));
    let routes =
        bench.table("main").routes.iter().filter(|route| matches!(route.target, RouteTarget::Eni(_))).count();
    assert_eq!(routes, 7, "{:?}", bench.kinds());
}

#[test]
fn r03_r04_tables_are_not_left_because_no_eni_of_the_nodes_is_found() {
    let mut bench = Bench::synced(&["b"]);
    for spec in bench.nodes.values_mut() {
        spec.address = Some("10.0.0.250".parse().unwrap());
    }
    bench.tell_nodes();
    bench.run(secs(3 * 3600));
    assert!(bench.kinds().contains("NoEni"));
    assert_eq!(bench.count(Api::DeleteRoute), 0, "the nodes are on the list");
    clean(&bench);
}

#[test]
fn r04_a_table_that_is_left_keeps_its_routes_while_the_eni_of_a_listed_node_is_unknown() {
    let mut bench = Bench::synced(&["b"]);
    let spec = bench.nodes.remove(&name("n-b")).unwrap();
    bench.tell_nodes();
    bench.run(secs(3500));
    // It is back in its old subnet, and the list has its address wrong.
    bench
        .nodes
        .insert(name("n-b"), NodeSpec { address: Some("10.0.0.250".parse().unwrap()), ..spec.clone() });
    bench.tell_nodes();
    bench.run(secs(1000));
    assert!(bench.leads("b", bench.block("n-a")).is_some(), "n-b may route by it");
    bench.nodes.insert(name("n-b"), spec);
    bench.tell_nodes();
    bench.run(secs(30));
    assert_eq!(bench.unready(), BTreeSet::new());
}

#[test]
fn r04_a_subnet_that_routes_by_an_edge_table_has_no_table_to_manage() {
    let mut bench = Bench::new(&[]);
    bench.world.add_subnet("e", &bench.vpc.clone(), "eu-a", "10.0.64.0/20".parse().unwrap());
    let both = [Association::Subnet("subnet-e".parse().unwrap()), Association::Gateway("igw-1".to_owned())];
    bench.world.add_route_table("edge", &bench.vpc.clone(), &both, &[]);
    bench.add_node("n1", "e");
    bench.tell_nodes();
    bench.run(secs(30));
    assert_eq!(bench.count(Api::CreateRoute) + bench.count(Api::CreateTags), 0);
    assert!(bench.kinds().is_superset(&BTreeSet::from(["EdgeTable", "NoTable"])), "{:?}", bench.kinds());
}

// ---- R7: answers that contradict each other ------------------------------------------------------------------------

#[test]
fn r07_a_route_that_can_neither_be_replaced_nor_created_is_tried_ever_less_often() {
    let mut bench = Bench::synced(&["b"]);
    bench.run(secs(200));
    let (block, other) = (bench.block("n-a"), bench.eni("n-b"));
    bench.refuse = Some(|call| match call {
        RouteCall::Replace { .. } => Some(ErrorClass::NoRoute),
        RouteCall::Create { .. } => Some(ErrorClass::Conflict),
        _ => None,
    });
    bench.put("b", block, RouteTarget::Eni(other), RouteOrigin::CreateRoute);
    let before = bench.count(Api::CreateRoute) + bench.count(Api::ReplaceRoute);
    bench.run(secs(1800));
    let writes = bench.count(Api::CreateRoute) + bench.count(Api::ReplaceRoute) - before;
    assert!((4..=30).contains(&writes), "{writes} writes in half an hour");
}

// ---- R12: routes of others -----------------------------------------------------------------------------------------

#[test]
fn r12_a_table_is_read_before_a_route_in_it_is_deleted_or_replaced() {
    let mut bench = Bench::synced(&["b"]);
    bench.run(secs(200));
    let (a, b) = (bench.block("n-a"), bench.block("n-b"));
    let reads = bench.count(Api::DescribeRouteTables);
    bench.run_until(secs(70), |bench| bench.count(Api::DescribeRouteTables) > reads);
    bench.run(secs(30));
    // The last read, half a minute old, shows our routes.
    bench.put_foreign("main", a);
    bench.put_foreign("main", b);
    bench.nodes.remove(&name("n-b"));
    let instance = bench.nodes[&name("n-a")].instance.clone();
    bench.world.terminate(&instance);
    bench.add_node("n-a", "a");
    bench.tell_nodes();
    bench.run(secs(300));
    for block in [a, b] {
        assert_eq!(bench.leads("main", block), Some(RouteTarget::Other("tgw-1".to_owned())));
    }
    assert_eq!((bench.leads("b", a), bench.leads("b", b)), (Some(RouteTarget::Eni(bench.eni("n-a"))), None));
}

// ---- R13: clusters that meet ---------------------------------------------------------------------------------------

#[test]
fn r13_a_cluster_whose_pool_is_refused_claims_nothing() {
    let mut bench = Bench::new(&["b"]);
    claim_of_another(&mut bench, "b");
    bench.add_node("n-a", "a");
    bench.add_node("n-b", "b");
    bench.tell_nodes();
    bench.run(secs(600));
    let claims = bench.made_of(Api::CreateTags).count();
    assert_eq!(claims, 0, "the other cluster would get no more blocks");
    assert!(bench.kinds().contains("PoolRefused"));
    bench.world.untag_route_table(&Bench::id("b"), &BTreeSet::from([format!("{CLAIM_TAG}other")])).unwrap();
    bench.run(secs(80));
    assert_eq!(bench.unready(), BTreeSet::new());
}

#[test]
fn r12_r13_a_route_that_may_be_another_clusters_is_neither_replaced_nor_deleted() {
    let mut bench = Bench::synced(&["b"]);
    bench.run(secs(200));
    // Both claimed at the same moment, and the other was faster with these routes.
    claim_of_another(&mut bench, "b");
    let (theirs, a, b) = (stranger(&mut bench), bench.block("n-a"), bench.block("n-b"));
    for block in [a, b] {
        bench.put("b", block, RouteTarget::Eni(theirs.clone()), RouteOrigin::CreateRoute);
    }
    bench.run(secs(200));
    let waits = bench.grant("n-a").waits;
    assert!(waits.iter().any(|wait| wait.contains("cluster other claims")), "{waits:?}");
    bench.nodes.remove(&name("n-b"));
    bench.tell_nodes();
    bench.run(secs(600));
    for block in [a, b] {
        assert_eq!(bench.leads("b", block), Some(RouteTarget::Eni(theirs.clone())));
    }
    assert_eq!(bench.leads("main", b), None, "nobody else claims anything there");

    // What leads to a node of ours is ours, whoever else claims the addresses.
    let own = bench.eni("n-a");
    bench.put("b", b, RouteTarget::Eni(own), RouteOrigin::CreateRoute);
    bench.run(secs(200));
    assert_eq!(bench.leads("b", b), None);
}

#[test]
fn r02_r12_a_route_to_a_machine_that_the_node_had_is_ours_though_another_cluster_claims_the_addresses() {
    for restart in [false, true] {
        let mut bench = Bench::synced(&["b"]);
        bench.run(secs(200));
        claim_of_another(&mut bench, "b");
        bench.run(secs(70));
        let (a, b) = (bench.block("n-a"), bench.block("n-b"));
        bench.world.terminate(&bench.nodes[&name("n-a")].instance.clone());
        bench.add_node("n-a", "a");
        bench.nodes.remove(&name("n-b"));
        bench.tell_nodes();
        if restart {
            bench.crash();
        }
        bench.run(secs(30));
        let now = bench.eni("n-a");
        assert_eq!(bench.leads("b", a), Some(RouteTarget::Eni(now.clone())), "after a restart: {restart}");
        assert_eq!(bench.leads("b", b), None, "after a restart: {restart}");
        bench.run(secs(300));
        assert_eq!(bench.record.blocks()[&a].enis, BTreeSet::from([now]), "the old machine is forgotten");
        clean(&bench);
    }
}

#[test]
fn r13_r16_a_cidr_that_only_the_tables_tell_of_is_the_vpcs_too() {
    let mut bench = Bench::new(&[]);
    bench.settings.pool.cidrs.insert(net("2a05:d000:0:100::/64"));
    bench.reload();
    bench.put("main", net("2a05:d000:0:100::/56"), RouteTarget::Local, RouteOrigin::CreateRouteTable);
    bench.add_node("n1", "a");
    bench.tell_nodes();
    bench.run(secs(30));
    assert!(bench.record.blocks().is_empty());
    let waits = bench.grant("n1").waits;
    assert!(waits[0].contains("2a05:d000:0:100::/56 of the VPC"), "{waits:?}");
}

// ---- R17: quota and fallback ---------------------------------------------------------------------------------------

#[test]
fn r17_a_limit_that_ec2_lifted_is_found_out_even_if_no_route_is_missing() {
    let mut bench = Bench::synced(&[]);
    bench.world.set_route_quota(2);
    bench.add_node("n-x", "a");
    bench.tell_nodes();
    bench.run(secs(30));
    assert!(bench.kinds().contains("RouteLimitExceeded"), "{:?}", bench.kinds());
    bench.nodes.remove(&name("n-x"));
    bench.tell_nodes();
    bench.run(secs(100));
    for node in ["n-y", "n-z"] {
        bench.add_node(node, "a");
    }
    bench.tell_nodes();
    bench.run(secs(100));
    assert!(bench.grant("n-y").waits[0].contains("admitted up to"), "{:?}", bench.grant("n-y").waits);
    bench.run(secs(1200));
    let held = bench.states().values().filter(|state| **state == BlockState::Held).count();
    assert_eq!(held, 2, "one is enough to find out");
    bench.world.set_route_quota(500);
    bench.run(secs(1500));
    assert_eq!(bench.unready(), BTreeSet::new(), "{:?}", bench.kinds());
}

#[test]
fn r17_a_node_in_a_fallback_pool_that_is_not_named_any_more_is_told_so_and_stays_until_it_leaves() {
    let mut bench = Bench::crowded();
    assert!(matches!(bench.grant("n2").placement, Placement::EniPool { .. }));
    bench.settings.fallback = None;
    bench.reload();
    bench.run(secs(10));
    assert!(bench.grant("n2").waits[0].contains("pool.fallbackPool names none"), "{:?}", bench.grant("n2"));
    bench.settings.quota.v4 = 500;
    bench.reload();
    bench.run(secs(60));
    assert_eq!(bench.grant("n2").placement, Placement::None, "its agent may serve from the pool");
    let spec = bench.nodes.remove(&name("n2")).unwrap();
    bench.tell_nodes();
    bench.run(secs(10));
    bench.nodes.insert(name("n2"), spec);
    bench.tell_nodes();
    bench.run(secs(10));
    assert_eq!(bench.unready(), BTreeSet::new());
}

#[test]
fn r17_routes_to_prefix_lists_count_in_both_families() {
    let mut bench = Bench::synced(&[]);
    let route = |id: &str| Route {
        destination: Destination::PrefixList(id.to_owned()),
        target: RouteTarget::Other("vpce-1".to_owned()),
        origin: RouteOrigin::CreateRoute,
        state: RouteState::Active,
    };
    ["pl-1", "pl-2"].into_iter().for_each(|id| bench.world.put_route(&Bench::id("main"), route(id)));
    bench.run(secs(100));
    let routes = bench.controller.view().tables[&Bench::id("main")].routes.clone();
    assert_eq!((routes["IPv4"], routes["IPv6"]), (4, 2), "local, ours and two lists");
}
