//! The controller as its own program against vpcsim: routes appear, what others change is repaired, what is not ours is left alone.

use crate::common::{quick_spec, wait_until};
use serde_json::Value;
use spur_e2e::process::binary;
use spur_e2e::world::{NodeMode, World};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

/// A world with a node and a spare machine, both on the list of a controller that does not run yet.
struct Controller {
    world: World,
    /// Names of the node and of the machine.
    names: [String; 2],
}

impl Controller {
    fn new(name: &str) -> Self {
        let mut spec = quick_spec(name, 1);
        (spec.modes, spec.spares) = (vec![NodeMode::VpcRoute], 1);
        let settings = [
            ("reconcileSeconds", "10"),
            ("settleSeconds", "2"),
            ("cooldownSeconds", "2"),
            ("nodeGraceSeconds", "2"),
            ("log", "{level: debug, format: text}"),
        ];
        spec.controller = BTreeMap::from_iter(settings.map(|(key, value)| (key, value.to_owned())));
        let world = World::up(&spec).unwrap();
        let names = [world.nodes[0].name.clone(), world.spares[0].name.clone()];
        world.list_nodes(&BTreeSet::from([0])).unwrap();
        Self { world, names }
    }

    fn command(&self) -> Command {
        self.world.controller_command(&binary("spur-ipamd").unwrap()).unwrap()
    }

    fn state(&self) -> Value {
        self.world.inspect("state").unwrap()
    }

    /// The main table and the target of its route to a block.
    fn route(&self, block: &str) -> (String, Option<Value>) {
        let tables = self.state()["route_tables"].clone();
        let tables = tables.as_object().unwrap();
        let (id, table) = tables.iter().find(|(_, table)| table["main"] == true).unwrap();
        let routes = table["routes"].as_array().unwrap();
        let route = routes.iter().find(|route| route["destination"] == block);
        (id.clone(), route.map(|route| route["target"].clone()))
    }

    /// A call of somebody else's about a route of the main table.
    fn other(&self, action: &str, block: &str, eni: Option<&str>) {
        let table = self.route(block).0;
        let mut parameters = vec![("RouteTableId", table.as_str()), ("DestinationCidrBlock", block)];
        parameters.extend(eni.map(|eni| ("NetworkInterfaceId", eni)));
        self.world.ec2(action, &parameters).unwrap();
    }

    fn grant(&self, node: usize) -> Option<Value> {
        let file = self.world.grant_dir().join(format!("nodes/{}.json", self.names[node]));
        Some(serde_json::from_str(&std::fs::read_to_string(file).ok()?).unwrap())
    }

    fn both_ready(&self) {
        let ready = |node| self.grant(node).is_some_and(|grant| grant["ready"] == true);
        wait_until(&self.world, "readiness", || ready(0) && ready(1));
    }

    /// The one block of a node and the ENI that its routes lead to.
    fn block(&self, node: usize) -> (String, String) {
        let grant = self.grant(node).unwrap();
        let placement = &grant["placement"];
        (placement["blocks"][0].as_str().unwrap().to_owned(), placement["eni"].as_str().unwrap().to_owned())
    }

    fn leads_to(&self, block: &str, eni: &str) -> bool {
        self.route(block).1.is_some_and(|target| target["eni"] == eni)
    }
}

#[test]
#[ignore = "needs root"]
fn the_controller_makes_routes_repairs_what_others_change_and_leaves_theirs_alone() {
    let controller = Controller::new("ctl");
    let dry = controller.command().arg("--dry-run").output().unwrap();
    let plan = String::from_utf8(dry.stdout).unwrap();
    assert!(dry.status.success() && plan.contains("create 10.200.0.0/25"), "{plan}");
    assert_eq!(controller.route("10.200.0.0/25").1, None, "a dry run changes nothing");

    controller.world.start_controller().unwrap();
    controller.both_ready();
    let ((first, eni), (second, other)) = (controller.block(0), controller.block(1));
    assert!(controller.leads_to(&first, &eni) && controller.leads_to(&second, &other));
    for node in [&eni, &other] {
        assert_eq!(controller.state()["enis"][node]["source_dest_check"], false);
    }

    // Past the settle time a difference is somebody else's doing.
    std::thread::sleep(Duration::from_secs(3));
    controller.other("DeleteRoute", &first, None);
    wait_until(&controller.world, "the route that was deleted", || controller.leads_to(&first, &eni));
    std::thread::sleep(Duration::from_secs(3));
    controller.other("ReplaceRoute", &first, Some(&other));
    wait_until(&controller.world, "the right target", || controller.leads_to(&first, &eni));

    // Somebody's route outside every block of ours, to an ENI of ours: not ours.
    controller.other("CreateRoute", "10.200.7.0/26", Some(&other));
    controller.world.list_nodes(&BTreeSet::new()).unwrap();
    wait_until(&controller.world, "the end of the second node's route", || {
        controller.route(&second).1.is_none() && controller.grant(1).is_none()
    });
    assert!(controller.leads_to("10.200.7.0/26", &other), "left alone");
    assert!(controller.leads_to(&first, &eni));
    controller.world.down().unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_controller_that_is_killed_goes_on_where_it_was() {
    let controller = Controller::new("ctlkill");
    controller.world.start_controller().unwrap();
    controller.both_ready();
    let before = (controller.block(0), controller.block(1));
    controller.world.kill_controller().unwrap();
    let writes = |at: &Controller| {
        let calls = at.world.record().unwrap();
        calls
            .iter()
            .filter(|call| !call["action"].as_str().unwrap_or_default().starts_with("Describe"))
            .count()
    };
    let made = writes(&controller);
    controller.world.start_controller().unwrap();
    wait_until(&controller.world, "a look at the list", || {
        let log = controller.world.controller_dir().join("controller.log");
        let log = std::fs::read_to_string(log).unwrap_or_default();
        log.matches("list of nodes read").count() >= 2
    });
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!((controller.block(0), controller.block(1)), before);
    controller.both_ready();
    assert_eq!(writes(&controller), made, "nothing was to be done");
    controller.world.down().unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_bad_configuration_of_the_controller_is_refused_with_every_mistake() {
    let controller = Controller::new("ctlbad");
    let mut command = controller.command();
    let config = controller.world.controller_dir().join("controller.yaml");
    std::fs::write(config, "pool: {cidrs: [169.254.0.0/20], nonsense: 1}\n").unwrap();
    let refused = command.output().unwrap();
    let words = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{words}");
    for part in [
        "region: is not set",
        "vpc: is not set",
        "169.254.0.0/20 overlaps",
        "pool.nonsense: is not a known key",
    ] {
        assert!(words.contains(part), "{part} in {words}");
    }
    controller.world.down().unwrap();
}
