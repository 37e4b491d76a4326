//! An upgrade, and the way back, under live flows: a world whose pods were made by the agents and plugins of an earlier revision, with routes by
//! its controller if a mode needs one; all are replaced one after the other. `make upgrade` builds that revision; [`capture`] keeps what it left
//! on a node for tests that cannot build it.
//!
//! # What must hold throughout
//! No flow breaks and no probe is lost, whichever of agent, plugin and controller is the newer one (but for single datagrams when an agent of the
//! earlier version takes over); every pod keeps its address; pods can be added,
//! checked and deleted at every step; what nodes were granted and the routes to their pods stay, and no call is about these; at the end nothing is left.

pub mod capture;
mod flows;
mod granted;
pub mod stage;

use crate::process::binary;
use crate::world::{Mode, World, WorldSpec};
use anyhow::{Context, Result, ensure};
use stage::{How, Stage};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Programs of one revision.
#[derive(Debug, Clone)]
pub struct Build {
    /// What to call it.
    pub version: Version,
    /// `spur-ipamd`, agent and controller.
    pub ipamd: PathBuf,
    /// `spur`.
    pub plugin: PathBuf,
}

/// Which of the two revisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Was there first.
    Earlier,
    /// This one.
    Current,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Earlier => "earlier",
            Self::Current => "current",
        })
    }
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
        Ok(Self { version: Version::Earlier, ipamd: program("spur-ipamd")?, plugin: program("spur")? })
    }

    /// What `make build` made.
    ///
    /// # Errors
    /// When it did not.
    pub fn current() -> Result<Self> {
        Ok(Self { version: Version::Current, ipamd: binary("spur-ipamd")?, plugin: binary("spur")? })
    }
}

/// What is replaced by which version; nodes count from 0.
#[derive(Debug, Clone, Copy)]
enum Step {
    Agent(usize, Version, How),
    Plugin(usize, Version),
    Controller(Version, How),
    /// More flows begin, beside the others.
    Flows,
}

/// Each version of each program meets both versions of both others, and agents start from what either controller granted.
const STEPS: [Step; 12] = [
    Step::Agent(0, Version::Current, How::Term),
    Step::Plugin(0, Version::Current),
    Step::Controller(Version::Current, How::Term),
    Step::Plugin(1, Version::Current),
    Step::Agent(1, Version::Current, How::Kill),
    Step::Flows,
    Step::Agent(0, Version::Earlier, How::Term),
    Step::Plugin(0, Version::Earlier),
    Step::Controller(Version::Earlier, How::Term),
    Step::Plugin(0, Version::Current),
    Step::Agent(0, Version::Current, How::Term),
    Step::Controller(Version::Current, How::Kill),
];

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(node, version, how) => {
                write!(f, "node {}: the {version} agent, after {how}", node + 1)
            }
            Self::Plugin(node, version) => write!(f, "node {}: the {version} plugin", node + 1),
            Self::Controller(version, how) => write!(f, "the {version} controller, after {how}"),
            Self::Flows => f.write_str("flows that begin now"),
        }
    }
}

/// What a run is made of.
#[derive(Debug)]
pub struct Upgrade {
    /// Prefix of the world's namespaces.
    pub name: String,
    /// Of its two nodes.
    pub mode: Mode,
    /// Runs first.
    pub old: Build,
    /// Takes over.
    pub new: Build,
    /// Where to keep what the earlier build leaves on a node, if anywhere.
    pub capture: Option<PathBuf>,
}

impl Upgrade {
    /// Settings that every version knows, and short times.
    fn spec(&self) -> WorldSpec {
        let pool = [("warmIpTarget", "2"), ("cooldownSeconds", "1")];
        let controller = [("reconcileSeconds", "10"), ("settleSeconds", "3"), ("cooldownSeconds", "3")];
        let settings = |list: &[(&'static str, &str)]| {
            list.iter().map(|(key, value)| (*key, (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        WorldSpec {
            name: self.name.clone(),
            nodes: 2,
            spares: u32::from(self.mode != Mode::Eni),
            modes: self.mode.of_nodes().to_vec(),
            instance_type: "m5.large".to_owned(),
            pool: settings(&pool),
            cni: BTreeMap::new(),
            agent: BTreeMap::new(),
            controller: settings(&controller),
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
        let mut stage = Stage::begin(world, &self.old)?;
        stage.open_flows()?;
        let mut plugins = vec![&self.old; world.nodes.len()];
        stage.look(&plugins)?;
        say(&format!("everything of the earlier version: {}", stage.line()));
        if let Some(dir) = &self.capture {
            capture::capture(&mut stage, &self.old, dir).context("keep what the earlier build left")?;
        }
        let applies = |step: &Step| world.has_controller() || !matches!(step, Step::Controller(..));
        for step in STEPS.into_iter().filter(applies) {
            go_on()?;
            let taken = self.take(step, &mut stage, &mut plugins);
            taken.and_then(|()| stage.look(&plugins)).with_context(|| step.to_string())?;
            say(&format!("{step}: {}", stage.line()));
        }
        stage.end(&self.new)
    }

    fn take<'a>(&'a self, step: Step, stage: &mut Stage<'_>, plugins: &mut [&'a Build]) -> Result<()> {
        let build = |version| if version == Version::Earlier { &self.old } else { &self.new };
        match step {
            Step::Agent(node, version, how) => {
                stage.replace_agent(node, build(version), how)?;
                // It may replace whole nft tables, between whose two states a packet may fall.
                if version == Version::Earlier { stage.excuse_losses() } else { Ok(()) }
            }
            Step::Plugin(node, version) => {
                plugins[node] = build(version);
                stage.turn_over(node, plugins[node])
            }
            Step::Controller(version, how) => stage.replace_controller(build(version), how),
            Step::Flows => stage.open_flows(),
        }
    }
}
