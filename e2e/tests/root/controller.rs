//! The controller as its own program against vpcsim: routes appear, what others change is repaired, what is not ours is left alone.

use crate::common::quick_spec;
use serde_json::Value;
use spur_e2e::process::{Daemon, binary};
use spur_e2e::world::World;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

struct Controller {
    world: World,
    daemon: Option<Daemon>,
}

impl Controller {
    /// A world with two nodes, and files for the controller; it does not run yet.
    fn new(name: &str) -> Self {
        let controller = Self { world: World::up(&quick_spec(name, 2)).unwrap(), daemon: None };
        let dir = controller.dir();
        std::fs::create_dir_all(&dir).unwrap();
        let vpc = controller.state()["vpc"].as_str().unwrap().to_owned();
        let text = format!(
            "region: eu-central-1\nvpc: {vpc}\nnodesFile: {0}/nodes.yaml\ngrantDir: {0}/grants\nstateDir: {0}/state\nreconcileSeconds: 10\n\
             settleSeconds: 2\ncooldownSeconds: 2\npool: {{cidrs: [10.200.0.0/16]}}\nlog: {{level: debug, format: text}}\n",
            dir.display()
        );
        std::fs::write(dir.join("controller.yaml"), text).unwrap();
        controller.list(2);
        controller
    }

    fn dir(&self) -> PathBuf {
        self.world.dir().join("controller")
    }

    /// Puts the first nodes on the list.
    fn list(&self, nodes: usize) {
        let entry = |node: &spur_e2e::world::Node| {
            format!("- {{name: {}, instance: {}}}\n", node.name, node.instance_id)
        };
        let entries: String = self.world.nodes.iter().take(nodes).map(entry).collect();
        let text = if nodes == 0 { "nodes: []\n".to_owned() } else { format!("nodes:\n{entries}") };
        let (new, file) = (self.dir().join("nodes.new"), self.dir().join("nodes.yaml"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(binary("spur-ipamd").unwrap());
        command
            .args(["controller", "--config"])
            .arg(self.dir().join("controller.yaml"))
            .env("AWS_ENDPOINT_URL_EC2", self.world.endpoint())
            .env("AWS_ACCESS_KEY_ID", "AKIDCONTROLLER")
            .env("AWS_SECRET_ACCESS_KEY", "secret");
        command
    }

    fn start(&mut self) {
        let mut command = self.command();
        command.stdout(Stdio::null());
        let log = self.dir().join("log");
        self.daemon = Some(Daemon::start("the controller", command, None, &log).unwrap());
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
        let name = &self.world.nodes[node].name;
        let text = std::fs::read_to_string(self.dir().join(format!("grants/nodes/{name}.json"))).ok()?;
        Some(serde_json::from_str(&text).unwrap())
    }

    fn ready(&self, node: usize) -> bool {
        self.grant(node).is_some_and(|grant| grant["ready"] == true)
    }

    /// The one block of a node and the ENI that its routes lead to.
    fn block(&self, node: usize) -> (String, String) {
        let grant = self.grant(node).unwrap();
        let placement = &grant["placement"];
        (placement["blocks"][0].as_str().unwrap().to_owned(), placement["eni"].as_str().unwrap().to_owned())
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            let log = self.daemon.as_ref().map(Daemon::log_tail).unwrap_or_default();
            assert!(Instant::now() < deadline, "{what} did not come:\n{log}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn leads_to(&self, block: &str, eni: &str) -> bool {
        self.route(block).1.is_some_and(|target| target["eni"] == eni)
    }

    fn down(mut self) {
        self.daemon.take().unwrap().stop().unwrap();
        self.world.down().unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn the_controller_makes_routes_repairs_what_others_change_and_leaves_theirs_alone() {
    let mut controller = Controller::new("ctl");
    let dry = controller.command().arg("--dry-run").output().unwrap();
    let plan = String::from_utf8(dry.stdout).unwrap();
    assert!(dry.status.success() && plan.contains("create  10.200.0.0/25"), "{plan}");
    assert_eq!(controller.route("10.200.0.0/25").1, None, "a dry run changes nothing");

    controller.start();
    controller.until("readiness", |at| at.ready(0) && at.ready(1));
    let ((first, eni), (second, other)) = (controller.block(0), controller.block(1));
    assert!(controller.leads_to(&first, &eni) && controller.leads_to(&second, &other));
    for node in [&eni, &other] {
        assert_eq!(controller.state()["enis"][node]["source_dest_check"], false);
    }

    // Past the settle time a difference is somebody else's doing.
    std::thread::sleep(Duration::from_secs(3));
    controller.other("DeleteRoute", &first, None);
    controller.until("the route that was deleted", |at| at.leads_to(&first, &eni));
    std::thread::sleep(Duration::from_secs(3));
    controller.other("ReplaceRoute", &first, Some(&other));
    controller.until("the right target", |at| at.leads_to(&first, &eni));

    // Somebody's route outside every block of ours, to an ENI of ours: not ours.
    controller.other("CreateRoute", "10.200.7.0/26", Some(&other));
    controller.list(1);
    controller.until("the end of the second node's route", |at| {
        at.route(&second).1.is_none() && at.grant(1).is_none()
    });
    assert!(controller.leads_to("10.200.7.0/26", &other), "left alone");
    assert!(controller.leads_to(&first, &eni));
    controller.down();
}

#[test]
#[ignore = "needs root"]
fn a_controller_that_is_killed_goes_on_where_it_was() {
    let mut controller = Controller::new("ctlkill");
    controller.start();
    controller.until("readiness", |at| at.ready(0) && at.ready(1));
    let before = (controller.block(0), controller.block(1));
    controller.daemon.take().unwrap().kill().unwrap();
    let writes = |at: &Controller| {
        let calls = at.world.record().unwrap();
        calls
            .iter()
            .filter(|call| !call["action"].as_str().unwrap_or_default().starts_with("Describe"))
            .count()
    };
    let made = writes(&controller);
    controller.start();
    controller.until("a look at the tables", |at| {
        let log = std::fs::read_to_string(at.dir().join("log")).unwrap_or_default();
        log.matches("list of nodes read").count() == 2
    });
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!((controller.block(0), controller.block(1)), before);
    assert!(controller.ready(0) && controller.ready(1));
    assert_eq!(writes(&controller), made, "nothing was to be done");
    controller.down();
}

#[test]
#[ignore = "needs root"]
fn a_bad_configuration_of_the_controller_is_refused_with_every_mistake() {
    let controller = Controller::new("ctlbad");
    std::fs::write(
        controller.dir().join("controller.yaml"),
        "pool: {cidrs: [169.254.0.0/20], nonsense: 1}\n",
    )
    .unwrap();
    let refused = controller.command().output().unwrap();
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
