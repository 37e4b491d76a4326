//! A VPC on this machine with Spur on its nodes: vpcsim, one agent per node, a runtime per node.
//!
//! Owns every process and directory that it makes; dropping it ends the processes and removes the rest.

use crate::cloud::CloudView;
use crate::http;
use crate::process::{Daemon, binary};
use crate::runtime::{Pod, Runtime};
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;
use spur_datapath::netns::NetNs;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The host on the internet side.
const INTERNET: &str = "203.0.113.10";

/// How long vpcsim may take to build its world.
const WORLD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long an agent may take until it writes its conflist.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct WorldSpec {
    /// Name, the prefix of every namespace.
    pub name: String,
    /// Number of nodes; they alternate between the two subnets.
    pub nodes: u32,
    /// Instance type of the nodes.
    pub instance_type: String,
    /// Pool settings of the agents, as lines of YAML below `pool:`.
    pub pool: BTreeMap<&'static str, String>,
    /// Settings of the conflist, as lines of YAML below `cni:`.
    pub cni: BTreeMap<&'static str, String>,
    /// Further settings of the agents, as lines of YAML at the top.
    pub agent: BTreeMap<&'static str, String>,
}

/// What vpcsim prints when its world stands.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ready {
    endpoint: String,
    node_endpoint: String,
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
    endpoint: String,
    node_endpoint: String,
    spec: WorldSpec,
    // Last, so that nodes end before the world below them.
    vpcsim: Option<Daemon>,
    dir: TempDir,
}

/// A node: its namespace, and its agent while one runs.
#[derive(Debug)]
pub struct Node {
    /// Name in the scenario.
    pub name: String,
    /// The node's network namespace.
    pub netns: NetNs,
    /// EC2's id of the instance.
    pub instance_id: String,
    /// Primary private address of its primary ENI.
    pub primary_address: IpAddr,
    dir: PathBuf,
    agent: Mutex<Option<Daemon>>,
}

impl WorldSpec {
    /// The scenario as vpcsim reads it.
    fn scenario(&self) -> String {
        let mut text = format!(
            "name: {}\nvpc:\n  cidrs: [10.0.0.0/16]\nsubnets:\n\
             - {{name: a, zone: eu-central-1a, cidr: 10.0.0.0/20}}\n\
             - {{name: b, zone: eu-central-1b, cidr: 10.0.16.0/20}}\ninternet: {{address: {INTERNET}}}\nnodes:\n",
            self.name
        );
        for number in 1..=self.nodes {
            let subnet = if number % 2 == 1 { "a" } else { "b" };
            // Writing to a String cannot fail.
            let _ =
                writeln!(text, "- {{name: node-{number}, type: {}, subnet: {subnet}}}", self.instance_type);
        }
        text
    }
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
        let ready: Ready =
            serde_json::from_str(&line).with_context(|| format!("read what vpcsim printed: {line}"))?;
        let nodes: Result<Vec<_>> = ready.nodes.into_iter().map(|node| Node::new(node, dir.path())).collect();
        Ok(Self {
            nodes: nodes?,
            internet: open(&ready.internet.netns)?,
            internet_address: ready.internet.address,
            endpoint: ready.endpoint,
            node_endpoint: ready.node_endpoint,
            spec: spec.clone(),
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
        self.configure_agent(node, &self.spec.pool)?;
        let Self { node_endpoint, .. } = self;
        let node = &self.nodes[node];
        let config = node.config();
        let mut command = Command::new(binary("spur-ipamd")?);
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
        let text = node.agent_config(&self.spec, pool);
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

    /// Stops every agent, then vpcsim, and says what went wrong first.
    ///
    /// # Errors
    /// When one of them does not end in order.
    pub fn down(mut self) -> Result<()> {
        let mut first = Ok(());
        for node in &self.nodes {
            let stopped = node.agent().take().map_or(Ok(()), Daemon::stop);
            first = first.and(stopped);
        }
        let stopped = self.vpcsim.take().map_or(Ok(()), Daemon::stop);
        first.and(stopped)
    }

    /// The last lines of every log, by the program's name.
    #[must_use]
    pub fn log_tails(&self) -> Vec<(String, String)> {
        let tail = |daemon: &Daemon| (daemon.name().to_owned(), daemon.log_tail());
        let agents = self.nodes.iter().filter_map(|node| node.agent().as_ref().map(tail));
        self.vpcsim.as_ref().map(tail).into_iter().chain(agents).collect()
    }

    /// The directory that holds logs and state while the world stands.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Node {
    fn new(ready: NodeReady, dir: &Path) -> Result<Self> {
        let dir = dir.join(&ready.name);
        std::fs::create_dir_all(dir.join("net.d")).context("make a directory for the node")?;
        Ok(Self {
            netns: open(&ready.netns)?,
            name: ready.name,
            instance_id: ready.instance_id,
            primary_address: ready.primary_address,
            dir,
            agent: Mutex::new(None),
        })
    }

    /// The agent; a thread that panicked while it held the lock has left nothing half done.
    fn agent(&self) -> MutexGuard<'_, Option<Daemon>> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node's own directory: agent configuration, store, conflist, log.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the agent logs.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// Tells the agent to read its configuration again (SIGHUP).
    ///
    /// # Errors
    /// When none runs.
    pub fn hang_up_agent(&self) -> Result<()> {
        self.agent().as_ref().context("no agent runs")?.signal(Signal::HUP);
        Ok(())
    }

    /// Ends the agent as a crash would.
    ///
    /// # Errors
    /// When none runs.
    pub fn kill_agent(&self) -> Result<()> {
        self.agent().take().context("no agent runs")?.kill()
    }

    /// How the agent ended, if it did so by itself.
    ///
    /// # Errors
    /// When none was started.
    pub fn agent_ended(&self) -> Result<Option<std::process::ExitStatus>> {
        self.agent().as_mut().context("no agent was started")?.ended()
    }

    /// Stops the agent in order.
    ///
    /// # Errors
    /// When none runs, or it does not end well.
    pub fn stop_agent(&self) -> Result<()> {
        self.agent().take().context("no agent runs")?.stop()
    }

    /// Waits until the agent serves: the conflist is there and the socket accepts.
    ///
    /// # Errors
    /// When the agent ends or takes too long.
    pub fn wait_ready(&self) -> Result<()> {
        let mut agent = self.agent();
        let agent = agent.as_mut().context("no agent runs")?;
        let (conflist, socket) = (self.dir.join("net.d/10-spur.conflist"), self.dir.join("agent.sock"));
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            if conflist.is_file() && std::os::unix::net::UnixStream::connect(&socket).is_ok() {
                return Ok(());
            }
            if let Some(status) = agent.ended()? {
                bail!("the agent of {} ended with {status}:\n{}", self.name, agent.log_tail());
            }
            if Instant::now() >= deadline {
                bail!(
                    "the agent of {} was not ready within {READY_TIMEOUT:?}:\n{}",
                    self.name,
                    agent.log_tail()
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The agent's configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.join("agent.yaml")
    }

    fn agent_config(&self, spec: &WorldSpec, pool: &BTreeMap<&'static str, String>) -> String {
        let (cluster, dir) = (&spec.name, self.dir.display());
        let mut text = format!(
            "clusterName: {cluster}\nsocket: {dir}/agent.sock\nstateDir: {dir}/state\nspoolDir: {dir}/spool\n"
        );
        // Writing to a String cannot fail.
        for (key, value) in &spec.agent {
            let _ = writeln!(text, "{key}: {value}");
        }
        let _ = writeln!(text, "cni:\n  confDir: {dir}/net.d");
        for (key, value) in &spec.cni {
            let _ = writeln!(text, "  {key}: {value}");
        }
        text.push_str("pool:\n");
        for (key, value) in pool {
            let _ = writeln!(text, "  {key}: {value}");
        }
        text
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
