//! `vpcRoute` mode as operators see it: the controller and the agents are processes, the routes are in vpcsim's tables, the packets are real.
//! Letters in brackets are the requirements of docs/vpc-route-statements.md.

use crate::common::{add_pods, check_and_delete, quick_spec, wait_until};
use serde_json::{Value, json};
use spur_datapath::netns::NetNs;
use spur_e2e::process::binary;
use spur_e2e::rest::Rest;
use spur_e2e::routes::Route;
use spur_e2e::runtime::{Pod, Runtime};
use spur_e2e::torture::flows::Flow;
use spur_e2e::traffic::{Echo, ask};
use spur_e2e::world::{CONTROLLER, MANAGED_TABLES, NodeMode, POD_CIDR, World, WorldSpec};

fn world(name: &str, modes: &[NodeMode]) -> World {
    World::up(&spec(name, modes)).unwrap()
}

fn spec(name: &str, modes: &[NodeMode]) -> WorldSpec {
    let mut spec = quick_spec(name, u32::try_from(modes.len()).unwrap());
    spec.modes = modes.to_vec();
    spec.agent.insert("addWaitSeconds", "2".to_owned());
    // The shortest that the controller takes; with EC2's reads in order there is nothing to wait for after a write.
    let controller = [("reconcileSeconds", "10"), ("settleSeconds", "0"), ("cooldownSeconds", "0")];
    spec.controller = controller.into_iter().map(|(key, value)| (key, value.to_owned())).collect();
    spec
}

fn start_all(world: &World) {
    world.start_controller().unwrap();
    (0..world.nodes.len()).for_each(|node| world.launch_agent(node).unwrap());
    world.nodes.iter().for_each(|node| node.wait_ready().unwrap());
}

/// Routes to pods in one table.
fn routes(world: &World, table: &str) -> Vec<Route> {
    let pods = POD_CIDR.parse().unwrap();
    world.routes().unwrap().within(table, &pods).cloned().collect()
}

fn primary_eni(world: &World, node: usize) -> String {
    world.cloud().unwrap().nodes[&world.nodes[node].name][0].id.clone()
}

/// Calls of the controller and of the test itself that change something, from the given one on, each as its action and outcome.
fn writes(world: &World, since: usize) -> Vec<String> {
    let calls = world.record().unwrap().split_off(since);
    let word = |call: &Value, key: &str| call[key].as_str().unwrap_or_default().to_owned();
    calls
        .iter()
        .filter(|call| call["caller"] == CONTROLLER && !word(call, "action").starts_with("Describe"))
        .map(|call| format!("{} {}", word(call, "action"), word(call, "outcome")))
        .collect()
}

/// A runtime that does not wait for the conflist, so that it hears what the agent says before the node is ready.
fn impatient(world: &World, node: usize) -> Runtime {
    let node = &world.nodes[node];
    let dir = node.dir().join("impatient");
    std::fs::create_dir_all(&dir).unwrap();
    let (socket, spool) = (node.dir().join("agent.sock"), node.dir().join("spool"));
    let plugins = json!([{ "type": "spur", "socket": socket, "spoolDir": spool }]);
    let conflist = json!({ "cniVersion": "1.0.0", "name": "spur", "plugins": plugins });
    std::fs::write(dir.join("10-spur.conflist"), conflist.to_string()).unwrap();
    Runtime::new(NetNs::open(node.netns.path()).unwrap(), binary("spur").unwrap(), dir)
}

/// STATUS says that the node is not ready, ADD is refused, both with these words, and no runtime has been told of Spur.
#[track_caller]
fn assert_refused(world: &World, pod: &Pod, words: &[&str]) {
    let runtime = impatient(world, 0);
    let status = || runtime.execute("STATUS", pod, "").unwrap();
    let says = |failure: &str| words.iter().all(|word| failure.contains(word));
    wait_until(world, &format!("STATUS with {words:?}"), || says(&status().failure()));
    assert_eq!(status().output["code"], 50, "{}", status().failure());
    let add = runtime.execute("ADD", pod, &pod.netns_path()).unwrap();
    assert!(!add.success && says(&add.failure()), "{}", add.failure());
    assert_eq!(add.output["code"], 11, "{}", add.failure());
    assert!(!world.nodes[0].dir().join("net.d/10-spur.conflist").exists());
}

#[test]
#[ignore = "needs root"]
fn r14_r15_a_node_serves_only_when_every_table_leads_to_it_and_the_check_is_off() {
    let world = world("ready", &[NodeMode::VpcRoute]);
    let pod = world.pod(0, 1).unwrap();
    world.launch_agent(0).unwrap();
    assert_refused(&world, &pod, &["the controller wrote no nodes/node-1.json yet"]);

    // One table only takes its route, and the check stays on. A denied permission is tried again after a minute; a new controller
    // tries at once.
    let no_check = json!({"kind": "deny", "actions": ["ModifyNetworkInterfaceAttribute"]});
    let no_second = json!({"kind": "deny", "actions": ["CreateRoute"], "calls": [2]});
    world.set_faults(&[no_check.clone(), no_second]).unwrap();
    world.start_controller().unwrap();
    assert_refused(&world, &pod, &["ec2:CreateRoute", "rtb-"]);
    let count = || MANAGED_TABLES.map(|table| routes(&world, table).len()).iter().sum::<usize>();
    assert_eq!(count(), 1);

    world.kill_controller().unwrap();
    world.set_faults(&[no_check]).unwrap();
    world.start_controller().unwrap();
    wait_until(&world, "routes in both tables", || count() == 2);
    assert_refused(&world, &pod, &["ec2:ModifyNetworkInterfaceAttribute", &primary_eni(&world, 0)]);

    world.kill_controller().unwrap();
    world.set_faults(&[]).unwrap();
    world.start_controller().unwrap();
    world.nodes[0].wait_ready().unwrap();
    let status = world.runtime(0).unwrap().execute("STATUS", &pod, "").unwrap();
    assert!(status.success, "{}", status.failure());
    let pods = add_pods(&world, 0, 2..=3);
    assert!(POD_CIDR.parse::<ipnet::IpNet>().unwrap().contains(&pods[0].pod.address.unwrap()));
    world.down().unwrap();
}

#[test]
#[ignore = "needs root"]
fn pods_of_both_modes_reach_everything_they_should_and_leave_no_trace() {
    let world = world("mixed", &[NodeMode::VpcRoute, NodeMode::Eni, NodeMode::Eni, NodeMode::VpcRoute]);
    start_all(&world);
    let before = Rest::reach(&world, &|| Ok(())).unwrap();
    let pods: Vec<_> = (0..4).flat_map(|node| add_pods(&world, node, 1..=4)).collect();
    check_and_delete(&world, &pods, &before);
    // Nodes in this mode need no permission: none of them has called EC2.
    let record = world.record().unwrap();
    let callers: Vec<_> = record.iter().filter_map(|call| call["caller"].as_str()).collect();
    assert!(!callers.contains(&"node-1") && !callers.contains(&"node-4"), "{callers:?}");
    world.down().unwrap();
}

#[test]
#[ignore = "needs root"]
fn r06_r11_r12_a_route_that_somebody_spoils_is_repaired_and_one_of_others_is_not_touched() {
    let world = world("drift", &[NodeMode::VpcRoute, NodeMode::VpcRoute]);
    start_all(&world);
    let foreign = |destination: &str| json!({"table": "main", "destination": destination, "target": "tgw-0123456789abcdef0"});
    world.set_routes(&[foreign("10.200.128.0/24"), foreign("172.31.0.0/16")]).unwrap();
    let (near, far) = (add_pods(&world, 0, 1..=1), add_pods(&world, 1, 1..=1));
    let target = far[0].pod.address.unwrap();
    let _echo = Echo::start(&[&far[0].pod.netns]).unwrap();
    let answers = || ask(&near[0].pod.netns, &[target]).unwrap().contains_key(&target);
    assert!(answers());
    let right = routes(&world, "main");
    let spoilt = right.iter().find(|route| route.destination.contains(&target)).unwrap();
    assert_eq!(spoilt.target, primary_eni(&world, 1));
    let (block, table) = (spoilt.destination.to_string(), world.routes().unwrap().0["main"].id.clone());
    let place = [("RouteTableId", table.as_str()), ("DestinationCidrBlock", block.as_str())];

    for (spoil, repair) in [("DeleteRoute", "CreateRoute OK"), ("ReplaceRoute", "ReplaceRoute OK")] {
        let (calls, wrong) = (world.record().unwrap().len(), primary_eni(&world, 0));
        let mut call = place.to_vec();
        call.extend((spoil == "ReplaceRoute").then_some(("NetworkInterfaceId", wrong.as_str())));
        world.ec2(spoil, &call).unwrap();
        assert_ne!(routes(&world, "main"), right);
        // The repair may have come while nobody answered.
        assert!(!answers() || writes(&world, calls).len() > 1, "packets arrive in spite of {spoil}");
        wait_until(&world, &format!("the repair after {spoil}"), || routes(&world, "main") == right);
        assert!(answers());
        assert_eq!(writes(&world, calls), [&format!("{spoil} OK"), repair]);
    }
    let all = world.routes().unwrap();
    let untouched = all.owner("main", "172.31.0.1".parse().unwrap()).unwrap();
    assert_eq!(untouched.target, "tgw-0123456789abcdef0");
    world.down().unwrap();
}

#[test]
#[ignore = "needs root"]
fn pods_live_and_come_while_controller_and_agents_die_and_come_back() {
    let world = world("away", &[NodeMode::VpcRoute, NodeMode::VpcRoute]);
    start_all(&world);
    let mut pods: Vec<_> = (0..2).flat_map(|node| add_pods(&world, node, 1..=1)).collect();
    let flows = Flow::between(&pods[0].pod, &pods[1].pod).unwrap();
    let calls = world.record().unwrap().len();

    world.kill_controller().unwrap();
    pods.extend(add_pods(&world, 0, 2..=3));
    // Agents too go on with what they were granted: the file stays.
    for node in 0..2 {
        world.crash_agent(node).unwrap();
        world.nodes[node].wait_ready().unwrap();
    }
    pods.extend(add_pods(&world, 1, 2..=3));
    let namespaces: Vec<_> = pods.iter().map(|placed| &placed.pod.netns).collect();
    let addresses: Vec<_> = pods.iter().map(|placed| placed.pod.address.unwrap()).collect();
    let echo = Echo::start(&namespaces).unwrap();
    for (netns, own) in namespaces.iter().zip(&addresses) {
        let others: Vec<_> = addresses.iter().copied().filter(|other| other != own).collect();
        let seen = ask(netns, &others).unwrap();
        assert!(others.iter().all(|other| seen.get(other) == Some(own)), "{own}: {seen:?}");
    }
    drop(echo);

    world.start_controller().unwrap();
    let reads = || {
        let calls = world.record().unwrap().split_off(calls);
        calls
            .iter()
            .filter(|call| call["caller"] == CONTROLLER && call["action"] == "DescribeRouteTables")
            .count()
    };
    // The first look and the next.
    wait_until(&world, "two reads of the tables", || reads() >= 2);
    assert_eq!(writes(&world, calls), Vec::<String>::new());
    for flow in &flows {
        assert!(flow.seen().sent > 50, "{}: {:?}", flow.name, flow.seen());
        assert_eq!(flow.complaint(), None);
    }
    world.down().unwrap();
}

#[test]
#[ignore = "needs root"]
fn r17_a_node_for_which_the_tables_are_too_full_serves_from_the_fallback_pool() {
    let mut spec = spec("spill", &[NodeMode::VpcRoute, NodeMode::VpcRoute]);
    spec.pool.insert("fallbackPool", "spill".to_owned());
    // The VPC's own route, the way to the internet and one node fill three quarters of such a table.
    let controller = [
        ("pool", format!("{{cidrs: [{POD_CIDR}], fallbackPool: spill}}")),
        ("quota", "{routesV4: 4, admissionPercent: 75}".to_owned()),
    ];
    spec.controller.extend(controller);
    let mut world = World::up(&spec).unwrap();
    start_all(&world);
    let targets: Vec<_> = routes(&world, "main").into_iter().map(|route| route.target).collect();
    let moved = (0..2).find(|node| !targets.contains(&primary_eni(&world, *node))).unwrap();
    assert_eq!(targets, [primary_eni(&world, 1 - moved)]);
    let before = Rest::reach(&world, &|| Ok(())).unwrap();
    let mut pods: Vec<_> = (0..2).flat_map(|node| add_pods(&world, node, 1..=3)).collect();
    // It stays where it is, whatever becomes of what the controller wrote.
    world.kill_controller().unwrap();
    std::fs::remove_file(world.grant_dir().join("nodes").join(format!("{}.json", world.nodes[moved].name)))
        .unwrap();
    world.crash_agent(moved).unwrap();
    world.nodes[moved].wait_ready().unwrap();
    pods.extend(add_pods(&world, moved, 4..=5));
    world.nodes[moved].mode = NodeMode::Eni;
    check_and_delete(&world, &pods, &before);
    world.down().unwrap();
}
