//! A VPC on this machine with Spur on its nodes: vpcsim, one agent per node, a runtime per node, a controller if a node needs one.
//!
//! Owns every process and directory that it makes; dropping it ends the processes and removes the rest. [`spec`] is what it is made of,
//! [`node`] a node, [`controller`] the controller.

mod controller;
mod node;
mod spec;

pub use controller::{CONTROLLER, POD_CIDR};
pub use node::Node;
pub use spec::{MANAGED_TABLES, Mode, NodeMode, WorldSpec};

use crate::cloud::CloudView;
use crate::http;
use crate::process::{Daemon, binary};
use crate::routes::RouteTables;
use crate::runtime::{Pod, Runtime};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use spur_datapath::netns::NetNs;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;
use tempfile::TempDir;

/// How long vpcsim may take to build its world.
const WORLD_TIMEOUT: Duration = Duration::from_secs(30);

/// What vpcsim prints when its world stands.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ready {
    endpoint: String,
    node_endpoint: String,
    region: String,
    vpc: String,
    access_key_id: String,
    secret_access_key: String,
    internet: Internet,
    nodes: Vec<NodeReady>,
}

#[derive(Debug, Deserialize)]
struct Internet {
    netns: String,
    address: IpAddr,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeReady {
    name: String,
    netns: String,
    instance_id: String,
    primary_address: IpAddr,
}

/// The world.
#[derive(Debug)]
pub struct World {
    /// The nodes, in the scenario's order.
    pub nodes: Vec<Node>,
    /// The namespace that stands for the internet.
    pub internet: NetNs,
    /// The internet host's address.
    pub internet_address: IpAddr,
    /// Machines that can be on the controller's list without an agent.
    pub spares: Vec<Machine>,
    /// A host in a subnet whose route table nobody manages, if the world has a controller.
    pub outside: Option<Host>,
    endpoint: String,
    node_endpoint: String,
    region: String,
    vpc: String,
    /// The operator's, id and secret.
    key: (String, String),
    spec: WorldSpec,
    controller: Mutex<Option<Daemon>>,
    // Last, so that nodes end before the world below them.
    vpcsim: Option<Daemon>,
    dir: TempDir,
}

/// A machine of the VPC that the controller may be told of.
#[derive(Debug)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Its instance.
    pub instance_id: String,
}

/// A machine of the VPC that is no node.
#[derive(Debug)]
pub struct Host {
    /// Its network namespace.
    pub netns: NetNs,
    /// Its private address.
    pub address: IpAddr,
}

impl World {
    /// Starts vpcsim and waits until the world stands; no agent runs yet.
    ///
    /// # Errors
    /// When vpcsim does not come up; the end of its log is part of the error.
    pub fn up(spec: &WorldSpec) -> Result<Self> {
        let dir =
            tempfile::Builder::new().prefix("spur-").tempdir().context("make a directory for the world")?;
        let scenario = dir.path().join("scenario.yaml");
        std::fs::write(&scenario, spec.scenario()).context("write the scenario")?;
        let mut command = Command::new(binary("vpcsim")?);
        command.arg("up").arg("--replace").arg("--scenario").arg(&scenario).stdout(Stdio::piped());
        let mut vpcsim = Daemon::start("vpcsim", command, None, &dir.path().join("vpcsim.log"))?;
        let line = vpcsim.first_line(WORLD_TIMEOUT)?;
        let mut ready: Ready =
            serde_json::from_str(&line).with_context(|| format!("read what vpcsim printed: {line}"))?;
        let mut spares = ready.nodes.split_off(ready.nodes.len().min(spec.nodes as usize));
        let others = spares.split_off(spares.len().min(spec.spares as usize));
        let host = |other: NodeReady| -> Result<Host> {
            Ok(Host { netns: open(&other.netns)?, address: other.primary_address })
        };
        let nodes = ready.nodes.into_iter().enumerate();
        let nodes: Result<Vec<_>> =
            nodes.map(|(index, node)| Node::new(node, spec.mode(index), dir.path())).collect();
        Ok(Self {
            nodes: nodes?,
            spares: spares
                .into_iter()
                .map(|spare| Machine { name: spare.name, instance_id: spare.instance_id })
                .collect(),
            outside: others.into_iter().next().map(host).transpose()?,
            internet: open(&ready.internet.netns)?,
            internet_address: ready.internet.address,
            endpoint: ready.endpoint,
            node_endpoint: ready.node_endpoint,
            region: ready.region,
            vpc: ready.vpc,
            key: (ready.access_key_id, ready.secret_access_key),
            spec: spec.clone(),
            controller: Mutex::new(None),
            vpcsim: Some(vpcsim),
            dir,
        })
    }

    /// Starts the agent of a node and waits until it is ready (its conflist is there).
    ///
    /// # Errors
    /// When it ends or does not get ready in time; the end of its log is part of the error.
    pub fn start_agent(&self, node: usize) -> Result<()> {
        self.launch_agent(node)?;
        self.nodes[node].wait_ready()
    }

    /// Starts the agent of a node without waiting.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch_agent(&self, node: usize) -> Result<()> {
        self.launch_agent_of(node, &binary("spur-ipamd")?)
    }

    /// As [`World::launch_agent`], of another build.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch_agent_of(&self, node: usize, program: &Path) -> Result<()> {
        self.configure_agent(node, &self.spec.pool)?;
        let Self { node_endpoint, .. } = self;
        let node = &self.nodes[node];
        let config = node.config();
        let mut command = Command::new(program);
        command
            .args(["agent", "--config"])
            .arg(&config)
            .env("AWS_ENDPOINT_URL_EC2", node_endpoint.as_str())
            .env_remove("AWS_ACCESS_KEY_ID")
            .stdout(Stdio::null());
        let agent =
            Daemon::start(&format!("the agent of {}", node.name), command, Some(&node.netns), &node.log())?;
        *node.agent() = Some(agent);
        Ok(())
    }

    /// Writes the configuration of a node's agent with these settings below `pool:`; an agent that runs takes it up by itself.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn configure_agent(&self, node: usize, pool: &BTreeMap<&'static str, String>) -> Result<()> {
        let node = &self.nodes[node];
        let grant_dir = self.spec.has_controller().then(|| self.grant_dir());
        let text = node.agent_config(&self.spec, pool, grant_dir.as_deref());
        std::fs::write(node.config(), text).context("write the agent's configuration")
    }

    /// Kills the agent of a node and starts it again, without waiting for it. Takes a shared reference, so that another thread can go on adding pods.
    ///
    /// # Errors
    /// When no agent runs, or it cannot be started.
    pub fn crash_agent(&self, node: usize) -> Result<()> {
        self.nodes[node].kill_agent()?;
        self.launch_agent(node)
    }

    /// A runtime on the node, which reads the conflist that the node's agent wrote.
    ///
    /// # Errors
    /// When the plugin is not built.
    pub fn runtime(&self, node: usize) -> Result<Runtime> {
        let node = &self.nodes[node];
        Ok(Runtime::new(open_netns(&node.netns)?, binary("spur")?, node.dir.join("net.d")))
    }

    /// Makes a pod's namespace on a node; `number` makes its names unique in the world.
    ///
    /// # Errors
    /// When the namespace cannot be made.
    pub fn pod(&self, node: usize, number: u32) -> Result<Pod> {
        let pinned = format!("{}-pod-{node}-{number}", self.spec.name);
        let id = format!("{:0>32x}{:0>32x}", node + 1, number);
        Pod::create(&pinned, "demo", &format!("web-{}-{number}", node + 1), &id)
    }

    /// Calls EC2 as somebody else than an agent; returns the answer's XML.
    ///
    /// # Errors
    /// When EC2 refuses.
    pub fn ec2(&self, action: &str, parameters: &[(&str, &str)]) -> Result<String> {
        let mut fields = vec![("Action", action), ("Version", "2016-11-15")];
        fields.extend_from_slice(parameters);
        http::post_form(&self.endpoint, &fields)
    }

    /// Where vpcsim's EC2 API answers to this machine.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Every EC2 call so far, as vpcsim recorded them.
    ///
    /// # Errors
    /// When vpcsim does not answer.
    pub fn record(&self) -> Result<Vec<Value>> {
        match self.inspect("record")? {
            Value::Array(calls) => Ok(calls),
            other => bail!("the record is no list: {other}"),
        }
    }

    /// What vpcsim shows under this name.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn inspect(&self, what: &str) -> Result<Value> {
        http::get_json(&self.endpoint, &format!("/_vpcsim/{what}"))
    }

    /// Whether nodes take their addresses from a controller.
    #[must_use]
    pub fn has_controller(&self) -> bool {
        self.spec.has_controller()
    }

    /// Prefix of every namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Sets these faults instead of those that are at work; their times count from now.
    ///
    /// # Errors
    /// When vpcsim does not take them.
    pub fn set_faults(&self, faults: &[Value]) -> Result<()> {
        let list = Value::from(faults);
        http::request(&self.endpoint, "POST", "/_vpcsim/faults", &list.to_string()).map(drop)
    }

    /// Runs the agent's program on a node, as a command that ends by itself, and returns whether it succeeded and all that it printed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn ipamd(&self, node: usize, arguments: &[&str]) -> Result<(bool, String)> {
        let mut command = Command::new(binary("spur-ipamd")?);
        command
            .args(arguments)
            .env("AWS_ENDPOINT_URL_EC2", &self.node_endpoint)
            .env_remove("AWS_ACCESS_KEY_ID");
        let output = self.nodes[node].netns.run(move || command.output())?.context("run spur-ipamd")?;
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok((output.status.success(), text.concat()))
    }

    /// What the cloud holds now.
    ///
    /// # Errors
    /// When vpcsim does not answer.
    pub fn cloud(&self) -> Result<CloudView> {
        CloudView::parse(self.inspect("state")?)
    }

    /// The VPC's route tables now.
    ///
    /// # Errors
    /// When vpcsim does not answer.
    pub fn routes(&self) -> Result<RouteTables> {
        RouteTables::parse(self.inspect("state")?)
    }

    /// How many packets the fabric has dropped because of their source address.
    ///
    /// # Errors
    /// When vpcsim does not answer.
    pub fn spoof_drops(&self) -> Result<u64> {
        let drops = self.inspect("drops")?;
        let drops = drops.as_array().context("the list of drops is no list")?;
        Ok(drops
            .iter()
            .filter(|drop| drop["reason"] == "source")
            .filter_map(|drop| drop["packets"].as_u64())
            .sum())
    }

    /// Puts routes into the VPC's tables, or takes them away, as others would: unchecked, and without a call.
    ///
    /// # Errors
    /// When vpcsim does not take them.
    pub fn set_routes(&self, routes: &[Value]) -> Result<()> {
        let list = Value::from(routes);
        http::request(&self.endpoint, "POST", "/_vpcsim/routes", &list.to_string()).map(drop)
    }

    /// Stops every agent, the controller, then vpcsim, and says what went wrong first.
    ///
    /// # Errors
    /// When one of them does not end in order.
    pub fn down(mut self) -> Result<()> {
        let mut first = Ok(());
        for node in &self.nodes {
            let stopped = node.agent().take().map_or(Ok(()), Daemon::stop);
            first = first.and(stopped);
        }
        let stopped = self.controller().take().map_or(Ok(()), Daemon::stop);
        first = first.and(stopped);
        let stopped = self.vpcsim.take().map_or(Ok(()), Daemon::stop);
        first.and(stopped)
    }

    /// The last lines of every log, by the program's name.
    #[must_use]
    pub fn log_tails(&self) -> Vec<(String, String)> {
        let tail = |daemon: &Daemon| (daemon.name().to_owned(), daemon.log_tail());
        let agents = self.nodes.iter().filter_map(|node| node.agent().as_ref().map(tail));
        let controller = self.controller().as_ref().map(tail);
        self.vpcsim.as_ref().map(tail).into_iter().chain(controller).chain(agents).collect()
    }

    /// The directory that holds logs and state while the world stands.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

fn open(name: &str) -> Result<NetNs> {
    let path = if name.starts_with('/') { name.to_owned() } else { format!("/run/netns/{name}") };
    NetNs::open(&path).with_context(|| format!("open the namespace {path}"))
}

/// A second handle of the same namespace.
fn open_netns(netns: &NetNs) -> Result<NetNs> {
    NetNs::open(netns.path()).with_context(|| format!("open the namespace {}", netns.path().display()))
}
