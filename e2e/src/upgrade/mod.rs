//! An upgrade, and the way back, under live flows: a world whose pods were made by the agent and plugin of an earlier revision, which are then
//! replaced one after the other. `make upgrade` builds that revision; [`capture`] keeps what it left on a node for tests that cannot build it.
//!
//! # What must hold throughout
//! No flow breaks and no probe is lost, whichever of agent and plugin is the newer one; every pod keeps its address; pods can be added, checked and
//! deleted at every step; at the end nothing is left.

pub mod capture;
pub mod stage;

use crate::process::binary;
use crate::world::{World, WorldSpec};
use anyhow::{Context, Result, ensure};
use stage::{How, Stage};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is upgraded on a node.
#[derive(Debug, Clone)]
pub struct Build {
    /// What to call it.
    pub name: &'static str,
    /// `spur-ipamd`.
    pub agent: PathBuf,
    /// `spur`.
    pub plugin: PathBuf,
}

impl Build {
    /// The build in a directory.
    ///
    /// # Errors
    /// When a program is not there.
    pub fn earlier(dir: &Path) -> Result<Self> {
        let program = |name: &str| -> Result<PathBuf> {
            let path = dir.join(name);
            ensure!(path.is_file(), "{} is not built", path.display());
            Ok(path)
        };
        Ok(Self { name: "earlier", agent: program("spur-ipamd")?, plugin: program("spur")? })
    }

    /// What `make build` made.
    ///
    /// # Errors
    /// When it did not.
    pub fn current() -> Result<Self> {
        Ok(Self { name: "current", agent: binary("spur-ipamd")?, plugin: binary("spur")? })
    }
}

/// What a run is made of.
#[derive(Debug)]
pub struct Upgrade {
    /// Prefix of the world's namespaces.
    pub name: String,
    /// Runs first.
    pub old: Build,
    /// Takes over.
    pub new: Build,
    /// Where to keep what the earlier build leaves on a node, if anywhere.
    pub capture: Option<PathBuf>,
}

impl Upgrade {
    /// Settings that every version knows.
    fn spec(&self) -> WorldSpec {
        let pool = [("warmIpTarget", "2"), ("cooldownSeconds", "1")];
        WorldSpec {
            name: self.name.clone(),
            nodes: 2,
            spares: 0,
            modes: Vec::new(),
            instance_type: "m5.large".to_owned(),
            pool: pool.into_iter().map(|(key, value)| (key, value.to_owned())).collect(),
            cni: BTreeMap::new(),
            agent: BTreeMap::new(),
            controller: BTreeMap::new(),
        }
    }

    /// Runs it. `say` gets a line per step; `go_on` is asked between steps, and its error ends the run.
    ///
    /// # Errors
    /// With the first thing that does not hold.
    pub fn run(&self, say: &dyn Fn(&str), go_on: &dyn Fn() -> Result<()>) -> Result<String> {
        let world = World::up(&self.spec())?;
        let summary = self.steps(&world, say, go_on);
        if summary.is_err() {
            world.log_tails().iter().for_each(|(name, tail)| say(&format!("{name} said at last:\n{tail}")));
        }
        let down = world.down().context("take the world down");
        let summary = summary?;
        down?;
        Ok(summary)
    }

    fn steps(&self, world: &World, say: &dyn Fn(&str), go_on: &dyn Fn() -> Result<()>) -> Result<String> {
        let Self { old, new, .. } = self;
        let mut stage = Stage::begin(world, old)?;
        stage.open_flows()?;
        let step = |what: &str, stage: &mut Stage<'_>, act: &dyn Fn(&mut Stage<'_>) -> Result<()>| {
            go_on()?;
            act(stage).and_then(|()| stage.look()).with_context(|| what.to_owned())?;
            say(&format!("{what}: {}", stage.line()));
            Ok::<_, anyhow::Error>(())
        };
        step("earlier agents and plugins", &mut stage, &|stage| stage.verbs(0, old))?;
        if let Some(dir) = &self.capture {
            capture::capture(&mut stage, old, dir).context("keep what the earlier build left")?;
        }
        step("node 1: the current agent, after SIGTERM", &mut stage, &|stage| {
            stage.replace_agent(0, new, How::Term)?;
            stage.verbs(0, old)
        })?;
        step("node 1: the current plugin, too", &mut stage, &|stage| {
            stage.verbs(0, new)?;
            stage.turn_over(0, new)
        })?;
        step("node 2: the current plugin before the agent", &mut stage, &|stage| stage.verbs(1, new))?;
        step("node 2: the current agent, after SIGKILL", &mut stage, &|stage| {
            stage.replace_agent(1, new, How::Kill)?;
            stage.verbs(1, new)
        })?;
        step("all checks on both nodes", &mut stage, &|stage| stage.check_all())?;
        step("node 1: back to the earlier agent", &mut stage, &|stage| {
            stage.replace_agent(0, old, How::Term)?;
            stage.verbs(0, new)
        })?;
        step("node 1: back to the earlier plugin, too", &mut stage, &|stage| {
            stage.verbs(0, old)?;
            stage.turn_over(0, old)
        })?;
        step("node 1: the current agent again", &mut stage, &|stage| {
            stage.replace_agent(0, new, How::Term)?;
            stage.verbs(0, new)?;
            stage.check_all()
        })?;
        stage.end(new)
    }
}
