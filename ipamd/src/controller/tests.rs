//! The controller's shell on the in-memory cloud: files in, files out, one writer, a plan without deeds. Time is virtual.

use super::*;
use serde_json::Value;
use spur_cloud::fake::{FakeCloud, World};
use spur_cloud::{Api, Association};
use spur_ipamd_core::vpcroute::{ClusterFacts, NodeGrant, RouteCall};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

struct Bed {
    dir: tempfile::TempDir,
    cloud: FakeCloud,
}

impl Bed {
    /// A VPC with two tables and a machine in each subnet.
    fn new() -> Self {
        let mut world = World::new();
        let vpc = world.add_vpc("v", &["10.0.0.0/16".parse().unwrap()]);
        world.add_route_table("main", &vpc, &[Association::Main], &[]);
        for name in ["a", "b"] {
            let cidr = if name == "a" { "10.0.1.0/24" } else { "10.0.2.0/24" };
            let subnet = world.add_subnet(name, &vpc, "eu-a", cidr.parse().unwrap());
            world.add_instance(name, "m5.large", &subnet).unwrap();
        }
        let subnet = "subnet-b".parse().unwrap();
        world.add_route_table("b", &vpc, &[Association::Subnet(subnet)], &[]);
        let bed = Self { dir: tempfile::tempdir().unwrap(), cloud: FakeCloud::new(world) };
        bed.write("nodes.yaml", "nodes:\n  - {name: n-a, instance: i-a}\n  - {name: n-b, instance: i-b}\n");
        bed.write("controller.yaml", &bed.config_text(""));
        bed
    }

    fn config_text(&self, more: &str) -> String {
        let dir = self.dir.path().display();
        format!(
            "region: eu-central-1\nvpc: vpc-v\nnodesFile: {dir}/nodes.yaml\ngrantDir: {dir}/grants\nstateDir: {dir}/state\npool: {{cidrs: [10.200.0.0/16]}}\n{more}"
        )
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path(file), text).unwrap();
    }

    fn config(&self) -> ControllerConfig {
        ControllerConfig::load(&self.path("controller.yaml")).unwrap()
    }

    fn start(&self) -> (CancellationToken, tokio::task::JoinHandle<Result<(), StoreError>>) {
        let stop = CancellationToken::new();
        let (config, file, cloud, inner) =
            (self.config(), self.path("controller.yaml"), self.cloud.clone(), stop.clone());
        let task = tokio::spawn(async move { run(config, &file, cloud, Clock::start(), inner).await });
        (stop, task)
    }

    fn grant(&self, node: &str) -> Option<NodeGrant> {
        let text = std::fs::read_to_string(self.path(&format!("grants/nodes/{node}.json"))).ok()?;
        Some(NodeGrant::parse(&text).unwrap())
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..6000 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let status = std::fs::read_to_string(self.path("state/status.json")).unwrap_or_default();
        panic!("{what} did not come: {status}");
    }

    fn routes(&self, table: &str) -> usize {
        let tables = self.cloud.with(|world| world.true_route_tables());
        let table = tables.into_iter().find(|at| at.id.as_str() == table).unwrap();
        table.routes.iter().filter(|route| route.destination.to_string().starts_with("10.200.")).count()
    }

    async fn both_ready(&self) {
        let ready = |bed: &Self, node| bed.grant(node).is_some_and(|grant| grant.ready);
        self.until("readiness", |bed| ready(bed, "n-a") && ready(bed, "n-b")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_of_the_file_get_routes_and_grants_and_lose_them_when_they_leave_it() {
    let bed = Bed::new();
    let (stop, task) = bed.start();
    bed.both_ready().await;
    assert_eq!((bed.routes("rtb-main"), bed.routes("rtb-b")), (2, 2));
    let cluster = std::fs::read_to_string(bed.path("grants/cluster.json")).unwrap();
    assert_eq!(ClusterFacts::parse(&cluster).unwrap().node_addresses.len(), 2);
    let status: Value =
        serde_json::from_str(&std::fs::read_to_string(bed.path("state/status.json")).unwrap()).unwrap();
    assert_eq!(status["conditions"][0]["name"], "RoutesSynced");

    bed.write("nodes.yaml", "nodes: oops\n");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(bed.routes("rtb-b"), 2, "a bad list changes nothing");
    bed.write("nodes.yaml", "nodes:\n  - {name: n-a, instance: i-a}\n");
    bed.until("the end of n-b", |bed| bed.routes("rtb-b") == 1 && bed.grant("n-b").is_none()).await;
    assert!(bed.grant("n-a").unwrap().ready);
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_list_that_was_met_half_written_costs_no_node_its_routes() {
    let bed = Bed::new();
    let (stop, task) = bed.start();
    bed.both_ready().await;
    let whole = std::fs::read_to_string(bed.path("nodes.yaml")).unwrap();
    for millis in [100, 700, 1300, 2500, 60_000, 200_000] {
        bed.write("nodes.yaml", "nodes:\n  - {name: n-a, instance: i-a}\n");
        tokio::time::sleep(Duration::from_millis(millis)).await;
        bed.write("nodes.yaml", &whole);
        tokio::time::sleep(Duration::from_millis(1300)).await;
        assert_eq!(bed.grant("n-b").map(|grant| grant.ready), Some(true), "after {millis} ms");
    }
    let deletes =
        bed.cloud.with(|world| world.calls().iter().filter(|call| call.api == Api::DeleteRoute).count());
    assert_eq!(deletes, 0);
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_file_that_somebody_took_away_is_written_again() {
    let bed = Bed::new();
    let (stop, task) = bed.start();
    bed.both_ready().await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    for file in ["grants/nodes/n-a.json", "grants/cluster.json"] {
        std::fs::remove_file(bed.path(file)).unwrap();
    }
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert!(bed.grant("n-a").is_some_and(|grant| grant.ready) && bed.path("grants/cluster.json").exists());
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_restart_writes_nothing_and_keeps_grants_until_it_knows_better() {
    let bed = Bed::new();
    let (stop, task) = bed.start();
    bed.both_ready().await;
    stop.cancel();
    task.await.unwrap().unwrap();
    let (grant, calls) = (bed.grant("n-a"), bed.cloud.with(|world| world.calls().len()));
    let (stop, task) = bed.start();
    tokio::time::sleep(Duration::from_secs(5)).await;
    stop.cancel();
    task.await.unwrap().unwrap();
    assert_eq!(bed.grant("n-a"), grant);
    let made = bed.cloud.with(|world| world.calls()[calls..].iter().map(|call| call.api).collect::<Vec<_>>());
    assert!(made.iter().all(|api| api.to_string().starts_with("Describe")), "{made:?}");
}

#[tokio::test(start_paused = true)]
async fn the_override_is_read_while_the_controller_runs() {
    let bed = Bed::new();
    let (stop, task) = bed.start();
    bed.both_ready().await;
    bed.write("nodes.yaml", "nodes: []\n");
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!((bed.routes("rtb-b"), bed.grant("n-a").is_some()), (2, true), "the list may be wrong");
    bed.write("controller.yaml", &bed.config_text("allowDeletes: 10\n"));
    bed.until("the word", |bed| bed.routes("rtb-b") == 0 && bed.grant("n-a").is_none()).await;
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn r01_a_second_controller_on_the_same_state_is_refused() {
    let bed = Bed::new();
    let (stop, task) = bed.start();
    bed.both_ready().await;
    let (_, second) = bed.start();
    assert!(matches!(second.await.unwrap(), Err(StoreError::Held(_))));
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[test]
fn r01_the_agent_cannot_write_a_route() {
    let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/agent");
    let mut files = vec![agent];
    let mut seen = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        seen += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        for word in ["CloudRoutes", "create_route", "replace_route", "delete_route"] {
            assert!(!text.contains(word), "{word} in {}", path.display());
        }
    }
    assert!(seen > 10, "the agent's files were not found");
}

#[tokio::test(start_paused = true)]
async fn r17_a_dry_run_prints_the_plan_and_changes_nothing() {
    let bed = Bed::new();
    let text = dry_run(&bed.config(), &bed.cloud, Clock::start()).await.unwrap();
    for part in [
        "claim rtb-b",
        "create 10.200.0.0/25",
        "in rtb-main (node n-a is new)",
        "source/destination check off",
        "PoolValid: true",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let made = bed.cloud.with(|world| world.calls().iter().map(|call| call.api).collect::<BTreeSet<Api>>());
    assert!(made.iter().all(|api| api.to_string().starts_with("Describe")), "{made:?}");
    assert!(!bed.path("state").exists() && !bed.path("grants").exists());

    let (stop, task) = bed.start();
    bed.both_ready().await;
    let text = dry_run(&bed.config(), &bed.cloud, Clock::start()).await.unwrap();
    assert!(text.starts_with("0 call(s)"), "beside a controller that runs: {text}");
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[test]
fn r18_the_policy_allows_the_calls_that_are_made_and_no_other() {
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/iam/vpc-route-controller.json");
    let policy: Value = serde_json::from_str(&std::fs::read_to_string(policy).unwrap()).unwrap();
    let mut allowed = BTreeSet::new();
    for statement in policy["Statement"].as_array().unwrap() {
        let actions =
            statement["Action"].as_array().unwrap().iter().map(|action| action.as_str().unwrap().to_owned());
        let actions: Vec<_> = actions.collect();
        let reads = actions.iter().all(|action| action.starts_with("ec2:Describe"));
        assert!(reads || (statement["Resource"] != "*" && statement["Condition"].is_object()), "{statement}");
        if actions.contains(&"ec2:DeleteTags".to_owned()) {
            // Without keys EC2 takes all tags away, and ForAllValues holds for no key at all.
            assert_eq!(statement["Condition"]["Null"]["aws:TagKeys"], "false", "{statement}");
        }
        allowed.extend(actions);
    }
    let made: BTreeSet<_> = RouteCall::APIS.iter().map(|api| format!("ec2:{api}")).collect();
    assert_eq!(allowed, made);
}

#[test]
fn the_table_of_statements_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let table = std::fs::read_to_string(root.join("docs/vpc-route-statements.md")).unwrap();
    let sources = [
        "ipamd/core/tests/vpcroute/requirements.rs",
        "ipamd/core/tests/vpcroute/departures.rs",
        "ipamd/core/tests/vpcroute/edges.rs",
        "ipamd/core/tests/vpcroute/figures.rs",
        "ipamd/core/tests/vpcroute/property.rs",
        "ipamd/src/controller/tests.rs",
        "ipamd/src/config/controller.rs",
        "e2e/tests/root/vpc_route.rs",
    ];
    let sources: String =
        sources.iter().map(|file| std::fs::read_to_string(root.join(file)).unwrap()).collect();
    for number in 1..=18 {
        let row = table.lines().find(|line| line.starts_with(&format!("| R{number} |")));
        assert!(row.is_some_and(|row| row.contains('`')), "R{number} has no test");
    }
    for name in table.split('`').skip(1).step_by(2).filter(|name| name.contains('_') && !name.contains('/')) {
        assert!(sources.contains(&format!("fn {name}(")), "{name} is no test");
    }
}
