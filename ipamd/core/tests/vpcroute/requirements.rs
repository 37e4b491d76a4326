//! R1–R18 of the requirements for the controller, each a test (docs/vpc-route-statements.md). R1 and R18 are the shell's and the
//! documentation's; their tests are in `ipamd`.

use crate::bench::{Bench, name, net, secs};
use spur_cloud::budget::Meter;
use spur_cloud::{Api, Association, ErrorClass, RouteOrigin, RouteTarget};
use spur_ipamd_core::vpcroute::{
    BlockState, BlocksFrom, CLAIM_TAG, Family, Hold, NodeCounts, Placement, Problem, Record, RouteCall,
    TableReadiness,
};
use std::collections::{BTreeMap, BTreeSet};

fn clean(bench: &Bench) {
    assert_eq!(bench.oracle.violations, Vec::<String>::new());
}

// ---- R2: desired state, finalizer, cool-down ----------------------------------------------------------------------

#[test]
fn r02_a_block_is_durable_before_its_first_route_and_until_a_read_shows_it_nowhere() {
    // The claims are there already, so that nothing else holds the routes back.
    let mut bench = Bench::synced(&["b"]);
    bench.store_fails = true;
    bench.add_node("n1", "a");
    bench.tell_nodes();
    bench.run(secs(5));
    assert_eq!(bench.count(Api::CreateRoute), 4, "the block is not durable");
    assert!(bench.kinds().contains("StoreFailed"));
    bench.store_fails = false;
    bench.run(secs(60));
    let block = bench.block("n1");
    assert_eq!(bench.unready(), BTreeSet::new());

    let spec = bench.nodes.remove(&name("n1"));
    bench.add_node("n2", "a");
    bench.tell_nodes();
    bench.run(secs(20));
    assert_eq!((bench.leads("main", block), bench.leads("b", block)), (None, None));
    assert_eq!(bench.states()[&block], BlockState::Finalizing, "reads may not show it yet");
    assert_ne!(bench.block("n2"), block, "a block that rests is nobody's");
    bench.run(secs(200));
    assert!(matches!(bench.states()[&block], BlockState::Cooling { .. }));
    bench.run(secs(400));
    assert!(!bench.states().contains_key(&block), "rested, and a read shows it nowhere");
    bench.nodes.insert(name("n3"), spec.unwrap());
    bench.tell_nodes();
    bench.run(secs(5));
    assert_eq!(bench.block("n3"), block, "the lowest free one");
    clean(&bench);
}

#[test]
fn r02_a_block_whose_route_is_back_is_not_reused() {
    let mut bench = Bench::synced(&["b"]);
    let (block, eni) = (bench.block("n-b"), bench.eni("n-b"));
    bench.nodes.remove(&name("n-b"));
    bench.tell_nodes();
    bench.run(secs(300));
    assert!(matches!(bench.states()[&block], BlockState::Cooling { .. }));
    let refuse = |call: &RouteCall| matches!(call, RouteCall::Delete { .. }).then_some(ErrorClass::Denied);
    bench.refuse = Some(refuse);
    bench.world.put_route(
        &Bench::id("b"),
        spur_cloud::Route {
            destination: spur_cloud::Destination::Cidr(block),
            target: RouteTarget::Eni(eni),
            origin: RouteOrigin::CreateRoute,
            state: spur_cloud::RouteState::Active,
        },
    );
    bench.run(secs(1000));
    assert!(bench.states().contains_key(&block), "a managed table shows it");
    bench.refuse = None;
    bench.run(secs(2000));
    assert_eq!(bench.leads("b", block), None);
    assert!(!bench.states().contains_key(&block));
    clean(&bench);
}

#[test]
fn r02_a_node_that_is_back_has_its_block_again() {
    let mut bench = Bench::synced(&["b"]);
    let (block, spec) = (bench.block("n-b"), bench.nodes.remove(&name("n-b")).unwrap());
    bench.tell_nodes();
    bench.run(secs(300));
    assert!(matches!(bench.states()[&block], BlockState::Cooling { .. }));
    bench.nodes.insert(name("n-b"), spec);
    bench.tell_nodes();
    bench.run(secs(10));
    assert_eq!(bench.block("n-b"), block, "its pods may never have stopped");
    assert_eq!(bench.unready(), BTreeSet::new());
    clean(&bench);
}

#[test]
fn r02_blocks_are_found_again_when_the_store_is_lost() {
    let mut bench = Bench::synced(&["b"]);
    let before: Vec<_> = ["n-a", "n-b"].map(|node| bench.block(node)).to_vec();
    bench.record = Record::default();
    bench.crash();
    bench.run(secs(10));
    assert_eq!(["n-a", "n-b"].map(|node| bench.block(node)).to_vec(), before);
    assert_eq!(bench.count(Api::DeleteRoute) + bench.count(Api::ReplaceRoute), 0);
}

#[test]
fn r02_blocks_can_come_from_kubernetes() {
    let mut bench = Bench::new(&["b"]);
    bench.settings.pool.blocks_from = BlocksFrom::NodeSpec;
    bench.reload();
    bench.add_node("n1", "a");
    bench.add_node("n2", "b");
    bench.add_node("n3", "b");
    let give = |bench: &mut Bench, node: &str, cidr: &str| {
        bench.nodes.get_mut(&name(node)).unwrap().pod_cidrs = BTreeSet::from([net(cidr)]);
    };
    give(&mut bench, "n1", "10.200.4.0/24");
    give(&mut bench, "n2", "10.99.0.0/24");
    bench.tell_nodes();
    bench.run(secs(10));
    assert_eq!(bench.block("n1"), net("10.200.4.0/24"));
    assert!(bench.grant("n1").ready);
    assert!(bench.grant("n2").waits[0].contains("not inside the pool"), "{:?}", bench.grant("n2").waits);
    assert!(bench.kinds().contains("NoPodCidr"));
    give(&mut bench, "n3", "10.200.4.0/24");
    bench.tell_nodes();
    bench.run(secs(10));
    assert!(
        bench.grant("n3").waits[0].contains("node n1"),
        "Kubernetes gave it twice: {:?}",
        bench.grant("n3").waits
    );
    clean(&bench);
}

#[test]
fn r02_a_node_has_at_most_two_blocks() {
    let mut bench = Bench::new(&[]);
    bench.add_node("n1", "a");
    bench.nodes.get_mut(&name("n1")).unwrap().blocks = 9;
    bench.tell_nodes();
    bench.run(secs(10));
    assert_eq!(bench.controller.held(&name("n1")).count(), 2);
    assert!(bench.grant("n1").ready);
}

// ---- R3: nothing before all is known, nothing much at once ---------------------------------------------------------

#[test]
fn r03_nothing_is_written_before_nodes_and_tables_are_known() {
    let mut bench = Bench::new(&["b"]);
    bench.refuse = Some(|call| matches!(call, RouteCall::ReadTables(_)).then_some(ErrorClass::Transient));
    bench.step(spur_ipamd_core::vpcroute::Event::Tick);
    bench.run(secs(60));
    assert_eq!(bench.made.len(), 0, "nodes are not known");
    assert!(bench.kinds().contains("NodesUnknown"));
    bench.add_node("n1", "a");
    bench.tell_nodes();
    bench.run(secs(60));
    assert!(bench.made.iter().all(|made| made.call.is_read()) && bench.record.blocks().is_empty());
    assert!(bench.kinds().contains("NotObserved") && !bench.grant("n1").ready);
    bench.refuse = None;
    bench.run(secs(120));
    assert_eq!(bench.unready(), BTreeSet::new());
}

#[test]
fn r03_an_empty_list_of_nodes_deletes_nothing_without_an_override() {
    let mut bench = Bench::synced(&["b"]);
    let nodes = std::mem::take(&mut bench.nodes);
    bench.tell_nodes();
    bench.run(secs(4000));
    assert_eq!(bench.count(Api::DeleteRoute), 0);
    assert!(bench.kinds().contains("EmptyNodeList"));
    bench.crash();
    bench.run(secs(4000));
    assert_eq!(bench.count(Api::DeleteRoute), 0, "nor after a restart");
    bench.nodes = nodes;
    bench.tell_nodes();
    bench.run(secs(10));
    assert_eq!(bench.unready(), BTreeSet::new());
    bench.nodes.clear();
    bench.tell_nodes();
    bench.settings.allow_deletes = Some(100);
    bench.reload();
    bench.run(secs(30));
    assert_eq!(bench.count(Api::DeleteRoute), 4, "two nodes in two tables");
    clean(&bench);
}

#[test]
fn r03_a_pass_deletes_at_most_three_or_a_tenth_of_a_tables_routes_without_an_override() {
    let mut bench = Bench::new(&["b"]);
    for number in 0..10 {
        bench.add_node(&format!("n{number}"), "a");
    }
    bench.tell_nodes();
    bench.run(secs(30));
    assert_eq!(bench.unready(), BTreeSet::new());
    for number in 0..3 {
        bench.nodes.remove(&name(&format!("n{number}")));
    }
    bench.tell_nodes();
    bench.run(secs(30));
    assert_eq!(bench.count(Api::DeleteRoute), 3, "three of ten");
    bench.nodes.remove(&name("n3"));
    bench.tell_nodes();
    bench.run(secs(20));
    assert_eq!(
        bench.count(Api::DeleteRoute),
        3,
        "a list that shrinks step by step is no way around the limit"
    );
    assert!(bench.kinds().contains("TooManyDeletes"));
    bench.run(secs(60));
    assert_eq!(bench.count(Api::DeleteRoute), 4, "a minute later the fourth may go");
    for number in 4..9 {
        bench.nodes.remove(&name(&format!("n{number}")));
    }
    bench.tell_nodes();
    bench.run(secs(4000));
    assert_eq!(bench.count(Api::DeleteRoute), 4, "five at once wait for a word");
    bench.settings.allow_deletes = Some(5);
    bench.reload();
    bench.run(secs(30));
    assert_eq!(bench.count(Api::DeleteRoute), 9);
    clean(&bench);
}

// ---- R4: tables ---------------------------------------------------------------------------------------------------

#[test]
fn r04_tables_are_the_explicit_one_of_each_node_subnet_else_the_main_one_and_those_chosen() {
    let mut bench = Bench::new(&["b", "unused", "listed", "tagged"]);
    let tags = BTreeMap::from([("pods".to_owned(), "yes".to_owned())]);
    bench.world.tag_route_table(&Bench::id("tagged"), &tags).unwrap();
    bench.world.add_route_table(
        "edge",
        &bench.vpc.clone(),
        &[Association::Gateway("igw-1".to_owned())],
        &[("pods", "yes")],
    );
    bench.settings.tables.ids = BTreeSet::from([Bench::id("listed"), Bench::id("gone")]);
    bench.settings.tables.tags = tags;
    bench.reload();
    bench.add_node("n-a", "a");
    bench.add_node("n-b", "b");
    bench.tell_nodes();
    bench.run(secs(10));
    let managed: Vec<_> = bench.controller.view().tables.keys().map(ToString::to_string).collect();
    assert_eq!(managed, ["rtb-b", "rtb-listed", "rtb-main", "rtb-tagged"]);
    assert!(bench.kinds().is_superset(&BTreeSet::from(["EdgeTable", "AbsentTable"])));
    let block = bench.block("n-a");
    for table in ["b", "listed", "main", "tagged"] {
        assert_eq!(bench.leads(table, block), Some(RouteTarget::Eni(bench.eni("n-a"))), "{table}");
    }
    assert_eq!((bench.leads("unused", block), bench.leads("edge", block)), (None, None));
    assert_eq!(bench.unready(), BTreeSet::new());
}

#[test]
fn r04_tables_are_found_again_when_node_subnets_change() {
    let mut bench = Bench::synced(&[]);
    bench.world.add_subnet("late", &bench.vpc.clone(), "eu-a", "10.0.64.0/20".parse().unwrap());
    let subnet = "subnet-late".parse().unwrap();
    bench.world.add_route_table("late", &bench.vpc.clone(), &[Association::Subnet(subnet)], &[]);
    bench.add_node("n-late", "late");
    bench.tell_nodes();
    bench.run_until(secs(10), |bench| !bench.grant("n-a").ready);
    bench.run(secs(10));
    for node in ["n-a", "n-late"] {
        assert!(bench.leads("late", bench.block(node)).is_some(), "{node}");
    }
    assert_eq!(bench.unready(), BTreeSet::new());
}

#[test]
fn r04_a_table_that_no_node_needs_is_left_after_a_while_and_with_a_word() {
    let mut bench = Bench::synced(&["b"]);
    bench.nodes.remove(&name("n-b"));
    bench.tell_nodes();
    bench.run(secs(3000));
    assert!(bench.leads("b", bench.block("n-a")).is_some(), "nodes may come again");
    bench.run(secs(3000));
    assert_eq!(bench.leads("b", bench.block("n-a")), None, "one route is within the limit");
    let tags = bench.table("b").tags;
    assert!(tags.is_empty() && !bench.record.tables().contains_key(&Bench::id("b")), "{tags:?}");
    assert_eq!(bench.unready(), BTreeSet::new());
}

// ---- R5, R6: targets and repairs ----------------------------------------------------------------------------------

#[test]
fn r05_the_target_is_the_eni_that_holds_the_nodes_primary_address() {
    let mut bench = Bench::new(&[]);
    let instance = bench.add_node("n1", "a");
    let request = spur_cloud::CreateEni {
        subnet: "subnet-a".parse().unwrap(),
        security_groups: BTreeSet::new(),
        request: spur_cloud::AddressRequest::Count(1),
        description: String::new(),
        tags: BTreeMap::new(),
        token: spur_cloud::ClientToken("t".to_owned()),
    };
    let second = bench.world.create_eni(&request).unwrap();
    bench
        .world
        .attach_eni(&second.id, &instance, spur_cloud::DeviceIndex(1), spur_cloud::CardIndex(0))
        .unwrap();
    bench.tell_nodes();
    bench.run(secs(10));
    assert_eq!(
        bench.leads("main", bench.block("n1")),
        Some(RouteTarget::Eni(bench.eni("n1"))),
        "device index 0"
    );
    bench.nodes.get_mut(&name("n1")).unwrap().address = Some(second.primary);
    bench.nodes.get_mut(&name("n1")).unwrap().eni = Some(bench.eni("n1"));
    bench.tell_nodes();
    bench.run(secs(400));
    assert_eq!(
        bench.leads("main", bench.block("n1")),
        Some(RouteTarget::Eni(second.id)),
        "the address says more"
    );
    assert_eq!(bench.count(Api::DeleteRoute), 0);
}

#[test]
fn r06_a_wrong_target_is_replaced_without_a_gap() {
    let mut bench = Bench::synced(&["b"]);
    let (block, other) = (bench.block("n-a"), bench.eni("n-b"));
    bench.run(secs(200));
    bench.put("b", block, RouteTarget::Eni(other), RouteOrigin::CreateRoute);
    bench.run(secs(70));
    assert_eq!(bench.leads("b", block), Some(RouteTarget::Eni(bench.eni("n-a"))));
    assert_eq!((bench.count(Api::DeleteRoute), bench.count(Api::ReplaceRoute)), (0, 1));
    clean(&bench);
}

#[test]
fn r06_a_node_on_a_new_machine_keeps_its_block_and_its_routes_follow() {
    let mut bench = Bench::synced(&["b"]);
    let (block, old) = (bench.block("n-a"), bench.nodes[&name("n-a")].instance.clone());
    bench.world.terminate(&old);
    bench.add_node("n-a", "a");
    bench.tell_nodes();
    bench.run(secs(10));
    assert_eq!(bench.block("n-a"), block);
    for table in ["main", "b"] {
        assert_eq!(bench.leads(table, block), Some(RouteTarget::Eni(bench.eni("n-a"))));
    }
    assert_eq!(bench.count(Api::DeleteRoute), 0);
    assert_eq!(bench.unready(), BTreeSet::new());
}

#[test]
fn r06_where_there_is_nothing_to_replace_the_route_is_created() {
    let mut bench = Bench::synced(&["b"]);
    bench.run(secs(200));
    let block = bench.block("n-a");
    let other = bench.eni("n-b");
    bench.put("b", block, RouteTarget::Eni(other), RouteOrigin::CreateRoute);
    // Between the read that shows the wrong target and the call, somebody takes the route away.
    bench.run_until(secs(70), |bench| bench.count(Api::ReplaceRoute) == 1);
    bench.world.lose_route(&Bench::id("b"), block);
    let (reads, creates) = (bench.count(Api::DescribeRouteTables), bench.count(Api::CreateRoute));
    bench.run_until(secs(5), |bench| bench.count(Api::CreateRoute) > creates);
    assert_eq!(bench.count(Api::DescribeRouteTables), reads, "EC2 has said that there is none");
    bench.run(secs(5));
    assert_eq!(bench.made_of(Api::ReplaceRoute).next().unwrap().outcome, Some(Err(ErrorClass::NoRoute)));
    assert_eq!(bench.leads("b", block), Some(RouteTarget::Eni(bench.eni("n-a"))));
}

// ---- R7: errors ---------------------------------------------------------------------------------------------------

#[test]
fn r07_route_already_exists_is_settled_by_reading() {
    for (case, foreign) in [("ours", false), ("foreign", true)] {
        let mut bench = Bench::synced(&["b"]);
        bench.run(secs(200));
        let (block, eni) = (bench.block("n-a"), bench.eni("n-a"));
        // The read shows no route; when the call arrives, there is one.
        bench.world.lose_route(&Bench::id("b"), block);
        bench.run_until(secs(70), |bench| bench.made_of(Api::CreateRoute).any(|made| made.outcome.is_none()));
        match foreign {
            true => bench.put_foreign("b", block),
            false => bench.put("b", block, RouteTarget::Eni(eni.clone()), RouteOrigin::CreateRoute),
        }
        bench.run(secs(300));
        assert_eq!(
            bench.made_of(Api::CreateRoute).last().unwrap().outcome,
            Some(Err(ErrorClass::Conflict)),
            "{case}"
        );
        assert_eq!(bench.kinds().contains("ForeignRoute"), foreign, "{case}: {:?}", bench.kinds());
        assert_eq!(bench.grant("n-a").ready, !foreign, "{case}");
        assert_eq!(bench.leads("b", block) == Some(RouteTarget::Eni(eni)), !foreign, "{case}");
        assert_eq!(bench.count(Api::ReplaceRoute) + bench.count(Api::DeleteRoute), 0, "{case}");
        clean(&bench);
    }
}

#[test]
fn r07_a_route_that_is_gone_already_is_deleted() {
    let mut bench = Bench::synced(&["b"]);
    let block = bench.block("n-b");
    bench.nodes.remove(&name("n-b"));
    bench.world.set_read_lag(secs(30));
    bench.world.lose_route(&Bench::id("b"), block);
    bench.world.lose_route(&Bench::id("main"), block);
    bench.tell_nodes();
    bench.run(secs(400));
    assert!(bench.made_of(Api::DeleteRoute).all(|made| made.outcome == Some(Err(ErrorClass::NoRoute))));
    assert!(matches!(bench.states()[&block], BlockState::Cooling { .. }));
}

#[test]
fn r07_a_full_table_is_parked_and_no_other() {
    let mut bench = Bench::synced(&["b"]);
    bench.world.set_route_quota(3);
    bench.put("b", net("192.168.0.0/24"), RouteTarget::Other("tgw-1".to_owned()), RouteOrigin::CreateRoute);
    bench.world.lose_route(&Bench::id("b"), bench.block("n-a"));
    bench.put("b", net("192.168.1.0/24"), RouteTarget::Other("tgw-1".to_owned()), RouteOrigin::CreateRoute);
    bench.run(secs(190));
    let before = bench.count(Api::CreateRoute);
    assert!(bench.kinds().contains("RouteLimitExceeded"), "{:?}", bench.kinds());
    bench.run(secs(3600));
    let attempts = bench.count(Api::CreateRoute) - before;
    assert!((4..=10).contains(&attempts), "{attempts} attempts in an hour");
    assert!(bench.controller.view().counters.parked >= 1);
    assert!(bench.grant("n-b").ready && !bench.grant("n-a").ready);
    bench.world.set_route_quota(500);
    bench.run(secs(800));
    assert_eq!(bench.unready(), BTreeSet::new());
}

#[test]
fn r07_a_missing_permission_is_named_and_does_not_stop_the_rest() {
    let mut bench = Bench::new(&["b"]);
    bench.refuse = Some(|call| match call {
        RouteCall::Create { table, .. } if table.as_str() == "rtb-b" => Some(ErrorClass::Denied),
        _ => None,
    });
    bench.add_node("n-a", "a");
    bench.add_node("n-b", "b");
    bench.tell_nodes();
    bench.run(secs(600));
    let problems = bench.controller.view().problems;
    let denied = problems.iter().find(|problem| problem.kind() == "PermissionMissing").expect("a condition");
    assert!(
        denied.to_string().contains("ec2:CreateRoute") && denied.to_string().contains("rtb-b"),
        "{denied}"
    );
    for node in ["n-a", "n-b"] {
        let waits = bench.grant(node).waits;
        assert!(waits[0].contains("ec2:CreateRoute") && waits[0].contains("rtb-b"), "{waits:?}");
    }
    assert!(
        bench.leads("main", bench.block("n-a")).is_some()
            && bench.leads("main", bench.block("n-b")).is_some()
    );
    assert!(bench.count(Api::CreateRoute) < 2 + 2 * 12, "no hot loop: {}", bench.count(Api::CreateRoute));
    bench.refuse = None;
    bench.run(secs(700));
    assert_eq!(bench.unready(), BTreeSet::new());
}

#[test]
fn r07_missing_things_are_looked_for_and_retried_at_a_bounded_rate() {
    let mut bench = Bench::new(&["b"]);
    bench.refuse = Some(|call| matches!(call, RouteCall::Create { .. }).then_some(ErrorClass::NotFound));
    bench.add_node("n-a", "a");
    bench.tell_nodes();
    bench.run(secs(3600));
    let attempts = bench.count(Api::CreateRoute);
    assert!((8..=20).contains(&attempts), "{attempts} attempts in an hour");
    bench.refuse = None;
    bench.run(secs(800));
    assert_eq!(bench.unready(), BTreeSet::new());
}

#[test]
fn r07_throttling_is_answered_with_less() {
    let mut bench = Bench::new(&["b"]);
    bench.faults.throttled = 500;
    for number in 0..20 {
        bench.add_node(&format!("n{number}"), "a");
    }
    bench.tell_nodes();
    bench.run(secs(60));
    let throttled = bench.controller.view().counters.calls[&Api::CreateRoute].throttled;
    assert!((1..30).contains(&throttled), "{throttled}");
    bench.faults.throttled = 0;
    bench.run(secs(300));
    assert_eq!(bench.unready(), BTreeSet::new());
}

// ---- R8: isolation ------------------------------------------------------------------------------------------------

#[test]
fn r08_a_failure_of_one_table_or_node_stops_no_other() {
    let mut bench = Bench::new(&["b", "c"]);
    bench.refuse = Some(|call| match call {
        RouteCall::Create { table, .. } if table.as_str() == "rtb-b" => Some(ErrorClass::Transient),
        RouteCall::CheckOff { eni } if eni.as_str().ends_with('2') => Some(ErrorClass::Bug),
        _ => None,
    });
    for number in 0..5 {
        bench.add_node(&format!("n{number}"), ["a", "b", "c"][number % 3]);
    }
    bench.tell_nodes();
    bench.run(secs(30));
    for number in 0..5 {
        let block = bench.block(&format!("n{number}"));
        assert!(bench.leads("main", block).is_some() && bench.leads("c", block).is_some(), "n{number}");
    }
    // While others wait after failures.
    bench.add_node("n-late", "a");
    bench.tell_nodes();
    bench.run(secs(5));
    let block = bench.block("n-late");
    assert!(bench.leads("main", block).is_some() && bench.leads("c", block).is_some(), "the node after them");
    let grant = bench.grant("n0");
    let Placement::VpcRoute { tables, .. } = grant.placement else { panic!("{grant:?}") };
    assert_eq!(tables[&Bench::id("main")], TableReadiness::Active);
    assert!(matches!(tables[&Bench::id("b")], TableReadiness::Pending { .. }));
}

#[test]
fn r08_a_foreign_route_stops_only_its_own_block() {
    let mut bench = Bench::synced(&["b"]);
    bench.run(secs(200));
    let block = bench.block("n-a");
    bench.world.lose_route(&Bench::id("b"), block);
    bench.put_foreign("b", block);
    let other = bench.block("n-b");
    bench.world.lose_route(&Bench::id("b"), other);
    bench.run(secs(70));
    assert_eq!(bench.leads("b", block), Some(RouteTarget::Other("tgw-1".to_owned())));
    assert_eq!(bench.leads("b", other), Some(RouteTarget::Eni(bench.eni("n-b"))));
    assert!(bench.grant("n-b").ready && !bench.grant("n-a").ready);
    clean(&bench);
}

// ---- R9 is asserted in the figures and in the property test; R10: settle time ---------------------------------------

#[test]
fn r10_a_read_that_contradicts_a_write_is_ignored_for_the_settle_time() {
    let mut bench = Bench::new(&["b"]);
    bench.world.set_read_lag(secs(110));
    bench.add_node("n-a", "a");
    bench.tell_nodes();
    bench.run(secs(300));
    assert_eq!((bench.count(Api::CreateRoute), bench.count(Api::ReplaceRoute)), (1, 0), "written once");
    bench.world.set_read_lag(secs(0));
    bench.world.lose_route(&Bench::id("main"), bench.block("n-a"));
    bench.run(secs(70));
    assert_eq!(bench.count(Api::CreateRoute), 2, "after it a read is believed");
    assert_eq!(bench.unready(), BTreeSet::new());
}

// ---- R11: drift ---------------------------------------------------------------------------------------------------

#[test]
fn r11_drift_is_repaired_within_a_minute_and_counted_by_cause() {
    let mut bench = Bench::synced(&["b"]);
    bench.run(secs(200));
    let (a, b, of_b) = (bench.block("n-a"), bench.block("n-b"), bench.eni("n-b"));
    bench.world.lose_route(&Bench::id("b"), b);
    bench.put("main", a, RouteTarget::Eni(of_b.clone()), RouteOrigin::CreateRoute);
    bench.world.set_source_dest_check(&of_b, true).unwrap();
    let claim = BTreeSet::from([format!("{CLAIM_TAG}test")]);
    bench.world.untag_route_table(&Bench::id("b"), &claim).unwrap();
    bench.run(secs(75));
    assert_eq!(bench.unready(), BTreeSet::new(), "{:?}", bench.kinds());
    assert_eq!(bench.leads("main", a), Some(RouteTarget::Eni(bench.eni("n-a"))));
    assert!(bench.table("b").tags.contains_key(&format!("{CLAIM_TAG}test")));
    let drift = bench.controller.view().counters.drift;
    assert_eq!((drift.missing, drift.wrong_target, drift.check, drift.claim), (1, 1, 1, 1));
    assert_eq!((drift.blackhole, drift.foreign), (0, 0));
    clean(&bench);
}

#[test]
fn r11_all_tables_are_read_with_one_call_by_id() {
    let mut bench = Bench::synced(&["b", "c"]);
    bench.run(secs(200));
    let before = bench.made.len();
    bench.run(secs(180));
    let reads: Vec<_> =
        bench.made[before..].iter().filter(|made| made.call.api() == Api::DescribeRouteTables).collect();
    assert!((2..=3).contains(&reads.len()), "{reads:?}");
    let expected: BTreeSet<_> = ["main", "b", "c"].map(Bench::id).into();
    for read in reads {
        let spur_cloud::RouteTableQuery::ByIds(ids) = (match &read.call {
            RouteCall::ReadTables(query) => query,
            other => panic!("{other:?}"),
        }) else {
            panic!("{read:?}")
        };
        assert_eq!(*ids, expected);
    }
}

// ---- R12, R13: routes and addresses of others ---------------------------------------------------------------------

#[test]
fn r12_routes_of_other_origins_are_left_alone_and_reported() {
    for origin in [
        RouteOrigin::EnableVgwRoutePropagation,
        RouteOrigin::Advertisement,
        RouteOrigin::Other("New".to_owned()),
    ] {
        let mut bench = Bench::synced(&["b"]);
        bench.run(secs(200));
        let (block, eni) = (bench.block("n-a"), bench.eni("n-b"));
        // Even one that leads to an ENI of ours.
        bench.put("b", block, RouteTarget::Eni(eni.clone()), origin.clone());
        bench.nodes.remove(&name("n-a"));
        bench.tell_nodes();
        bench.run(secs(1000));
        assert_eq!(bench.leads("b", block), Some(RouteTarget::Eni(eni)), "{origin:?}");
        assert_eq!(bench.leads("main", block), None);
        let view = bench.controller.view();
        assert!(view.tables[&Bench::id("b")].foreign.contains_key(&block));
        assert!(bench.kinds().contains("PoolRefused"));
        clean(&bench);
    }
}

#[test]
fn r13_a_pool_that_overlaps_is_refused_with_every_reason() {
    let mut bench = Bench::new(&[]);
    let tags = BTreeMap::from([(format!("{CLAIM_TAG}other"), "10.201.0.0/16 nonsense".to_owned())]);
    bench.world.tag_route_table(&Bench::id("main"), &tags).unwrap();
    bench.put_foreign("main", net("10.202.7.0/24"));
    bench.put_foreign("main", net("0.0.0.0/0"));
    bench.put_foreign("main", net("10.203.0.0/12"));
    bench.settings.pool.cidrs = [
        "10.200.0.0/16",
        "10.0.128.0/17",
        "10.201.4.0/22",
        "10.202.0.0/16",
        "172.20.8.0/21",
        "169.254.7.0/24",
        "10.200.4.0/24",
    ]
    .map(net)
    .into();
    bench.settings.pool.accepted_routes = BTreeSet::new();
    bench.reload();
    bench.add_node("n1", "a");
    bench.tell_nodes();
    bench.run(secs(10));
    let condition = bench.controller.view().conditions.into_iter().find(|at| at.name == "PoolValid").unwrap();
    assert!(!condition.status);
    for part in [
        "10.0.0.0/16 of the VPC",
        "cluster other claims",
        "10.202.7.0/24 to tgw-1",
        "service CIDR",
        "link-local",
        "of the same pool",
    ] {
        assert!(condition.message.contains(part), "{part} in {}", condition.message);
    }
    assert!(!condition.message.contains("0.0.0.0/0"), "a default route covers everything");
    assert!(
        !bench.grant("n1").ready && bench.record.blocks().is_empty() && bench.count(Api::CreateRoute) == 0
    );
}

#[test]
fn r13_a_covering_route_is_accepted_by_word_and_live_blocks_are_kept_in_any_case() {
    let mut bench = Bench::synced(&["b"]);
    bench.run(secs(200));
    bench.put_foreign("main", net("10.192.0.0/12"));
    bench.add_node("n-new", "a");
    bench.run(secs(70));
    bench.tell_nodes();
    bench.run(secs(10));
    assert!(!bench.grant("n-new").ready && bench.grant("n-a").ready && bench.grant("n-b").ready);
    bench.settings.pool.accepted_routes = BTreeSet::from([net("10.192.0.0/12")]);
    bench.reload();
    bench.run(secs(10));
    assert_eq!(bench.unready(), BTreeSet::new());
}

// ---- R14, R15: the check, readiness -------------------------------------------------------------------------------

#[test]
fn r14_the_check_is_off_before_the_node_is_ready_and_verified_later() {
    let mut bench = Bench::new(&[]);
    bench.refuse = Some(|call| matches!(call, RouteCall::CheckOff { .. }).then_some(ErrorClass::Transient));
    bench.add_node("n1", "a");
    bench.tell_nodes();
    bench.run(secs(20));
    let grant = bench.grant("n1");
    assert!(
        !grant.ready && grant.waits.iter().any(|wait| wait.contains("source and destination")),
        "{:?}",
        grant.waits
    );
    bench.refuse = None;
    bench.run(secs(60));
    assert!(bench.grant("n1").ready && !bench.world.true_enis()[&bench.eni("n1")].source_dest_check);
    bench.run(secs(200));
    let eni = bench.eni("n1");
    bench.world.set_source_dest_check(&eni, true).unwrap();
    bench.run_until(secs(70), |bench| !bench.grant("n1").ready);
    bench.run(secs(5));
    assert!(!bench.world.true_enis()[&eni].source_dest_check && bench.grant("n1").ready, "in the drift loop");
}

#[test]
fn r15_a_node_is_ready_only_when_its_routes_are_seen_active_in_every_managed_table() {
    let mut bench = Bench::new(&["b", "c"]);
    bench.refuse = Some(|call| match call {
        RouteCall::Create { table, .. } if table.as_str() == "rtb-c" => Some(ErrorClass::Transient),
        _ => None,
    });
    for (node, subnet) in [("n-a", "a"), ("n-b", "b"), ("n-c", "c")] {
        bench.add_node(node, subnet);
    }
    bench.tell_nodes();
    bench.run(secs(20));
    assert_eq!(bench.unready().len(), 3);
    let covered = bench.grant("n-a").covered_subnets;
    assert_eq!(covered.keys().map(ToString::to_string).collect::<Vec<_>>(), ["subnet-a", "subnet-b"]);
    bench.refuse = None;
    bench.run(secs(60));
    assert_eq!(bench.unready(), BTreeSet::new());
    assert_eq!(bench.grant("n-a").covered_subnets.len(), 3);
    bench.run(secs(200));
    // The machine stops: its route leads nowhere.
    let instance = bench.nodes[&name("n-b")].instance.clone();
    bench.world.terminate(&instance);
    bench.run(secs(70));
    assert_eq!(bench.unready(), BTreeSet::from([name("n-b")]));
    assert!(
        bench.grant("n-b").waits.iter().any(|wait| wait.contains("not attached")),
        "{:?}",
        bench.grant("n-b").waits
    );
    assert_eq!(bench.count(Api::DeleteRoute), 0, "the node is on the list");
}

#[test]
fn r15_a_write_alone_is_not_ready() {
    let mut bench = Bench::new(&[]);
    bench.add_node("n1", "a");
    bench.tell_nodes();
    bench
        .run_until(secs(5), |bench| bench.made_of(Api::CreateRoute).any(|made| made.outcome == Some(Ok(()))));
    bench.run(std::time::Duration::from_millis(300));
    let waits = bench.grant("n1").waits;
    assert!(waits.iter().any(|wait| wait.contains("not seen active yet")), "{waits:?}");
    bench.run(secs(3));
    assert!(bench.grant("n1").ready);
}

// ---- R16: IPv6 ----------------------------------------------------------------------------------------------------

#[test]
fn r16_ipv6_blocks_have_routes_and_a_quota_of_their_own() {
    let mut bench = Bench::new(&["b"]);
    bench.settings.pool.cidrs.insert(net("fd12:3456::/56"));
    bench.settings.quota.v6 = 2;
    bench.settings.quota.admission_percent = 100;
    bench.reload();
    for number in 0..3 {
        bench.add_node(&format!("n{number}"), "a");
    }
    bench.tell_nodes();
    bench.run(secs(10));
    for node in ["n0", "n1"] {
        let blocks: Vec<_> = bench.controller.held(&name(node)).collect();
        assert_eq!(
            blocks.iter().map(|block| Family::of(*block)).collect::<Vec<_>>(),
            [Family::V4, Family::V6]
        );
        assert!(blocks.iter().all(|block| bench.leads("main", *block).is_some()) && bench.grant(node).ready);
    }
    assert!(bench.grant("n2").waits[0].contains("IPv6"), "{:?}", bench.grant("n2").waits);
    let view = bench.controller.view();
    let table = &view.tables[&Bench::id("main")];
    assert_eq!((table.routes["IPv4"], table.routes["IPv6"]), (3, 2), "the local route counts");
}

// ---- R17: plan, conditions, admission -----------------------------------------------------------------------------

#[test]
fn r17_a_plan_tells_every_call_with_its_reason_and_what_holds_it() {
    let mut bench = Bench::new(&["b"]);
    bench.refuse = Some(|call| (!call.is_read()).then_some(ErrorClass::Denied));
    bench.add_node("n1", "b");
    bench.tell_nodes();
    bench.run(secs(3));
    let plan = bench.controller.plan();
    let lines: Vec<_> =
        plan.iter().map(|planned| format!("{} because {}", planned.call, planned.reason)).collect();
    let eni = bench.eni("n1");
    assert_eq!(
        lines,
        [
            "claim rtb-b because the claim is not on the table".to_owned(),
            format!(
                "source/destination check off on {eni} because packets of node n1's pods would be dropped"
            ),
            format!("create 10.200.0.0/25 -> {eni} in rtb-b because node n1 is new"),
        ]
    );
    assert!(
        matches!(&plan[0].hold, Some(Hold::Problem(Problem::Denied { permission, .. })) if permission == "ec2:CreateTags")
    );
    assert!(matches!(&plan[2].hold, Some(Hold::Problem(Problem::Unclaimed { .. }))));
}

#[test]
fn r17_conditions_say_whether_routes_are_in_sync_and_how_full_tables_are() {
    let mut bench = Bench::synced(&["b"]);
    let conditions = |bench: &Bench| -> BTreeMap<_, _> {
        let conditions = bench.controller.view().conditions;
        conditions.into_iter().map(|at| (at.name, (at.status, at.reason))).collect()
    };
    let all = BTreeMap::from([
        ("RoutesSynced", (true, "Synced")),
        ("QuotaHeadroom", (true, "Enough")),
        ("PoolValid", (true, "Valid")),
    ]);
    assert_eq!(conditions(&bench), all);
    let counts = |bench: &Bench| {
        let view = bench.controller.view();
        (view.nodes, view.tables[&Bench::id("b")].synced["IPv4"])
    };
    let (nodes, routes) = (bench.nodes.len() as u64, u32::try_from(bench.nodes.len()).unwrap());
    let ready = NodeCounts { ready: nodes, ..NodeCounts::default() };
    assert_eq!(counts(&bench), (ready, routes));
    let headroom = bench.controller.view().headroom;
    assert!(headroom[&Meter::of(Api::CreateRoute)].capacity > 0, "{headroom:?}");
    bench.run(secs(200));
    bench.world.lose_route(&Bench::id("b"), bench.block("n-a"));
    bench.refuse = Some(|call| matches!(call, RouteCall::Create { .. }).then_some(ErrorClass::Denied));
    bench.run(secs(70));
    assert_eq!(conditions(&bench)["RoutesSynced"], (false, "PermissionMissing"));
    let one_waits = NodeCounts { ready: nodes - 1, waiting: 1, fallback: 0 };
    assert_eq!(counts(&bench), (one_waits, routes - 1));
}

fn counts_of(bench: &Bench) -> NodeCounts {
    bench.controller.view().nodes
}

#[test]
fn r17_new_nodes_are_refused_at_85_percent_with_a_reason_or_sent_to_the_fallback_pool() {
    for fallback in [None, Some("eni-pool".to_owned())] {
        let mut bench = Bench::new(&["b"]);
        bench.settings.quota.v4 = 20;
        bench.settings.fallback = fallback.clone();
        bench.reload();
        for number in 10..30 {
            bench.add_node(&format!("n{number}"), "b");
        }
        bench.tell_nodes();
        bench.run(secs(60));
        let ready = bench.nodes.len() - bench.unready().len();
        // 85 % of 20 are 17, and the local route is one of them.
        assert_eq!(ready, 16);
        let refused = bench.grant("n29");
        assert!(!refused.ready);
        match &fallback {
            None => {
                assert_eq!(refused.placement, Placement::None);
                assert!(refused.waits[0].contains("rtb-b would have 18 IPv4 routes"), "{:?}", refused.waits);
            }
            Some(pool) => assert_eq!(refused.placement, Placement::EniPool { pool: pool.clone() }),
        }
        let headroom =
            bench.controller.view().conditions.into_iter().find(|at| at.name == "QuotaHeadroom").unwrap();
        let elsewhere =
            if fallback.is_some() { counts_of(&bench).fallback } else { counts_of(&bench).waiting };
        assert_eq!((counts_of(&bench).ready, elsewhere), (16, (bench.nodes.len() - 16) as u64));
        assert!(!headroom.status && headroom.message.contains("17 of 20"), "{headroom:?}");
        // A place becomes free: who waits gets it, who went to the fallback pool stays there.
        bench.nodes.remove(&name("n10"));
        bench.tell_nodes();
        bench.run(secs(1000));
        let waiting = bench.unready().len();
        assert_eq!(waiting, if fallback.is_some() { 4 } else { 3 });
        clean(&bench);
    }
}
