//! A node of a world: its namespace, its files, and its agent while one runs.

use super::spec::{NodeMode, WorldSpec};
use super::{NodeReady, open};
use crate::process::Daemon;
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use spur_datapath::netns::NetNs;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long an agent may take until it writes its conflist.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// A node: its namespace, and its agent while one runs.
#[derive(Debug)]
pub struct Node {
    /// Name in the scenario.
    pub name: String,
    /// Where its pods' addresses come from.
    pub mode: NodeMode,
    /// The node's network namespace.
    pub netns: NetNs,
    /// EC2's id of the instance.
    pub instance_id: String,
    /// Primary private address of its primary ENI.
    pub primary_address: IpAddr,
    pub(super) dir: PathBuf,
    agent: Mutex<Option<Daemon>>,
}

impl Node {
    pub(super) fn new(ready: NodeReady, mode: NodeMode, dir: &Path) -> Result<Self> {
        let dir = dir.join(&ready.name);
        std::fs::create_dir_all(dir.join("net.d")).context("make a directory for the node")?;
        Ok(Self {
            netns: open(&ready.netns)?,
            name: ready.name,
            mode,
            instance_id: ready.instance_id,
            primary_address: ready.primary_address,
            dir,
            agent: Mutex::new(None),
        })
    }

    /// The agent; a thread that panicked while it held the lock has left nothing half done.
    pub(super) fn agent(&self) -> MutexGuard<'_, Option<Daemon>> {
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

    /// The text of its agent's configuration; `grant_dir` is the controller's, if there is one.
    pub(super) fn agent_config(
        &self,
        spec: &WorldSpec,
        pool: &BTreeMap<&'static str, String>,
        grant_dir: Option<&Path>,
    ) -> String {
        let (cluster, dir) = (&spec.name, self.dir.display());
        let mut text = format!(
            "clusterName: {cluster}\nsocket: {dir}/agent.sock\nstateDir: {dir}/state\nspoolDir: {dir}/spool\n"
        );
        // Writing to a String cannot fail, here and below.
        if let Some(grant_dir) = grant_dir {
            let _ = writeln!(text, "nodeName: {}\ngrantDir: {}", self.name, grant_dir.display());
        }
        for (key, value) in &spec.agent {
            let _ = writeln!(text, "{key}: {value}");
        }
        let _ = writeln!(text, "cni:\n  confDir: {dir}/net.d");
        for (key, value) in &spec.cni {
            let _ = writeln!(text, "  {key}: {value}");
        }
        let _ = writeln!(text, "pool:");
        // An agent of an earlier version knows one mode only, and does not know the key.
        if self.mode != NodeMode::Eni {
            let _ = writeln!(text, "  mode: {}", self.mode);
        }
        for (key, value) in pool {
            let _ = writeln!(text, "  {key}: {value}");
        }
        text
    }
}
