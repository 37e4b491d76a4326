//! The controller of a world with nodes in `vpcRoute` mode. It runs beside the VPC, where an operator would run it, and calls EC2 as
//! the operator, as a test does that calls EC2 itself.

use super::World;
use super::spec::{MANAGED, NodeMode};
use crate::process::{Daemon, binary};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{MutexGuard, PoisonError};

/// Where pods of `vpcRoute` nodes get their addresses from.
pub const POD_CIDR: &str = "10.200.0.0/16";

/// The list of nodes, in the controller's directory.
const NODES: &str = "nodes.yaml";

/// The configuration, in the controller's directory.
const CONFIG: &str = "controller.yaml";

/// How the record of calls names the controller, and whoever else is no node.
pub const CONTROLLER: &str = "operator";

impl World {
    /// Where the controller leaves what it grants.
    #[must_use]
    pub fn grant_dir(&self) -> PathBuf {
        self.controller_dir().join("grants")
    }

    /// Starts the controller, with every node in `vpcRoute` mode on its list if there is none yet; what it has to do it does while others go on.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_controller(&self) -> Result<()> {
        self.start_controller_of(&binary("spur-ipamd")?)
    }

    /// As [`World::start_controller`], of another build.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_controller_of(&self, program: &Path) -> Result<()> {
        let mut command = self.controller_command(program)?;
        command.stdout(Stdio::null());
        let log = self.controller_dir().join("controller.log");
        let controller = Daemon::start("the controller", command, None, &log)?;
        *self.controller() = Some(controller);
        Ok(())
    }

    /// How the controller is started, with its configuration and its list of nodes in place.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn controller_command(&self, program: &Path) -> Result<Command> {
        let dir = self.controller_dir();
        if !dir.join(NODES).exists() {
            self.list_nodes(&BTreeSet::new())?;
        }
        let config = dir.join(CONFIG);
        std::fs::write(&config, self.controller_config(&dir))
            .context("write the controller's configuration")?;
        let mut command = Command::new(program);
        command
            .args(["controller", "--config"])
            .arg(&config)
            .env("AWS_ENDPOINT_URL_EC2", &self.endpoint)
            .env("AWS_ACCESS_KEY_ID", &self.key.0)
            .env("AWS_SECRET_ACCESS_KEY", &self.key.1);
        Ok(command)
    }

    /// Writes the controller's list: every node in `vpcRoute` mode, and these spare machines. A controller that runs takes it up by itself.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn list_nodes(&self, spares: &BTreeSet<usize>) -> Result<()> {
        let dir = self.controller_dir();
        std::fs::create_dir_all(&dir).context("make a directory for the controller")?;
        let nodes = self.nodes.iter().filter(|node| node.mode == NodeMode::VpcRoute);
        let nodes = nodes.map(|node| (&node.name, &node.instance_id));
        let spares = spares.iter().map(|spare| &self.spares[*spare]);
        let mut text = String::from("nodes:\n");
        for (name, instance) in nodes.chain(spares.map(|spare| (&spare.name, &spare.instance_id))) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "- {{name: {name}, instance: {instance}}}");
        }
        let new = dir.join("nodes.new");
        std::fs::write(&new, text).context("write the list of nodes")?;
        std::fs::rename(new, dir.join(NODES)).context("put the list of nodes in its place")
    }

    /// How the controller ended, if it did by itself.
    ///
    /// # Errors
    /// When none was started, or its state cannot be read.
    pub fn controller_ended(&self) -> Result<Option<std::process::ExitStatus>> {
        self.controller().as_mut().context("no controller runs")?.ended()
    }

    /// Stops the controller in order.
    ///
    /// # Errors
    /// When none runs, or it does not end well.
    pub fn stop_controller(&self) -> Result<()> {
        self.controller().take().context("no controller runs")?.stop()
    }

    /// Ends the controller as a crash would.
    ///
    /// # Errors
    /// When none runs.
    pub fn kill_controller(&self) -> Result<()> {
        self.controller().take().context("no controller runs")?.kill()
    }

    /// The controller; a thread that panicked while it held the lock has left nothing half done.
    pub(super) fn controller(&self) -> MutexGuard<'_, Option<Daemon>> {
        self.controller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Files of the controller.
    #[must_use]
    pub fn controller_dir(&self) -> PathBuf {
        self.dir().join("controller")
    }

    fn controller_config(&self, dir: &Path) -> String {
        let Self { region, vpc, spec, .. } = self;
        let ((key, value), dir) = (MANAGED, dir.display());
        let mut text = format!(
            "clusterName: {}\nregion: {region}\nvpc: {vpc}\nnodesFile: {dir}/{NODES}\ngrantDir: {dir}/grants\n\
             stateDir: {dir}/state\ntables: {{tags: {{{key}: {value}}}}}\n",
            spec.name
        );
        let pool = ("pool", format!("{{cidrs: [{POD_CIDR}]}}"));
        let further = spec.controller.iter().map(|(key, value)| (*key, value.clone()));
        for (key, value) in BTreeMap::from([pool]).into_iter().chain(further).collect::<BTreeMap<_, _>>() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{key}: {value}");
        }
        text
    }
}
