//! What all threads of a run share: the world, the journal, the counts, what was found to be wrong, and what each node's runtime knows.

use super::plan::RoundPlan;
use super::verdict::Most;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Lines of the journal that are shown when something is wrong; all of them are in its file.
const TAIL: usize = 40;

/// Shared by all threads of a run.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The world.
    pub world: &'a World,
    /// One per node.
    pub sites: Vec<Site>,
    /// The seed of the run.
    pub seed: u64,
    /// The round, from 1.
    pub round: u64,
    /// Its plan.
    pub plan: RoundPlan,
    /// What a node may hold when it rests.
    pub most: Most,
    /// What happened how often.
    pub tally: Tally,
    /// The round's churn is over.
    pub over: AtomicBool,
    listed: Mutex<BTreeSet<usize>>,
    ended: Mutex<BTreeSet<usize>>,
    begin: Instant,
    journal: Mutex<Journal>,
    wrong: Mutex<Vec<String>>,
}

/// A node as its runtime sees it.
#[derive(Debug, Default)]
pub struct Site {
    /// Plugins run under the reading side. Under the writing side is what must not run beside an ADD: GC, by CNI's own words, and
    /// the choice of an ENI that no pod is on.
    pub gate: RwLock<()>,
    /// Containers that the runtime still knows, with the address once ADD succeeded.
    known: Mutex<BTreeMap<String, Option<IpAddr>>>,
    numbers: AtomicU32,
}

/// Counts over the whole run.
#[derive(Debug, Default)]
pub struct Tally {
    /// ADDs that succeeded.
    pub adds: AtomicU64,
    /// ADDs that were refused.
    pub refused: AtomicU64,
    /// DELs that succeeded.
    pub dels: AtomicU64,
    /// CHECKs that succeeded.
    pub checks: AtomicU64,
    /// GCs that succeeded.
    pub gcs: AtomicU64,
    /// Plugins that died of SIGKILL.
    pub plugin_kills: AtomicU64,
    /// Agents that died of SIGKILL.
    pub agent_kills: AtomicU64,
    /// Controllers that died of SIGKILL.
    pub controller_kills: AtomicU64,
    /// Lists that the controller was given.
    pub lists: AtomicU64,
    /// Machines that ended.
    pub ended: AtomicU64,
    /// ENIs that vanished.
    pub vanished: AtomicU64,
    /// Nodes that lost addresses.
    pub lost: AtomicU64,
    /// Pods that were forgotten without a DEL.
    pub forgotten: AtomicU64,
}

#[derive(Debug)]
struct Journal {
    tail: VecDeque<String>,
    file: std::fs::File,
}

impl<'a> Stage<'a> {
    /// A stage before its first round. The journal is written to a file in the world's directory.
    ///
    /// # Errors
    /// When that file cannot be made.
    pub fn new(world: &'a World, seed: u64, most: Most) -> std::io::Result<Self> {
        let file = std::fs::File::create(world.dir().join("journal.log"))?;
        Ok(Self {
            world,
            sites: world.nodes.iter().map(|_| Site::default()).collect(),
            seed,
            round: 0,
            plan: RoundPlan::draw(seed, 0),
            most,
            tally: Tally::default(),
            over: AtomicBool::new(false),
            listed: Mutex::default(),
            ended: Mutex::default(),
            begin: Instant::now(),
            journal: Mutex::new(Journal { tail: VecDeque::new(), file }),
            wrong: Mutex::default(),
        })
    }

    /// Spare machines on the controller's list.
    pub fn listed(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        lock(&self.listed)
    }

    /// Spare machines that have ended.
    pub fn ended(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        lock(&self.ended)
    }

    /// Sleeps, but not beyond the end of the churn.
    pub fn sleep(&self, time: Duration) {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline && !self.over.load(Ordering::Relaxed) {
            let left = deadline.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    /// Writes what happened into the journal.
    pub fn note(&self, text: &str) {
        let line = format!("{:9.3} r{} {text}", self.begin.elapsed().as_secs_f64(), self.round);
        let mut journal = lock(&self.journal);
        // The journal is for people; a disk that is full shows elsewhere.
        let _ = writeln!(journal.file, "{line}");
        if journal.tail.len() == TAIL {
            journal.tail.pop_front();
        }
        journal.tail.push_back(line);
    }

    /// The last lines of the journal.
    pub fn tail(&self) -> Vec<String> {
        lock(&self.journal).tail.iter().cloned().collect()
    }

    /// Something is wrong, whatever comes later.
    pub fn complain(&self, text: String) {
        self.note(&format!("WRONG: {text}"));
        lock(&self.wrong).push(text);
    }

    /// Everything that is wrong so far.
    pub fn complaints(&self) -> Vec<String> {
        lock(&self.wrong).clone()
    }
}

impl Site {
    /// A number that no pod of this node had before.
    pub fn number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The runtime has this container from now on.
    pub fn know(&self, container: &str, address: Option<IpAddr>) {
        lock(&self.known).insert(container.to_owned(), address);
    }

    /// The runtime is done with this container.
    pub fn forget(&self, container: &str) {
        lock(&self.known).remove(container);
    }

    /// Containers and addresses that the runtime knows.
    pub fn known(&self) -> BTreeMap<String, Option<IpAddr>> {
        lock(&self.known).clone()
    }
}

impl Tally {
    /// One more.
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Kills so far, of agents, plugins and controllers.
    pub fn kills(&self) -> u64 {
        let kills = [&self.agent_kills, &self.plugin_kills, &self.controller_kills];
        kills.into_iter().map(|kills| kills.load(Ordering::Relaxed)).sum()
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        write!(
            f,
            "{} kills ({} of agents, {} of plugins, {} of controllers); {} lists of nodes; {} machines ended; {} ADDs, {} refused; {} DELs; {} CHECKs; {} GCs; {} ENIs vanished; addresses lost {} times; {} pods forgotten",
            self.kills(),
            of(&self.agent_kills),
            of(&self.plugin_kills),
            of(&self.controller_kills),
            of(&self.lists),
            of(&self.ended),
            of(&self.adds),
            of(&self.refused),
            of(&self.dels),
            of(&self.checks),
            of(&self.gcs),
            of(&self.vanished),
            of(&self.lost),
            of(&self.forgotten),
        )
    }
}

/// A thread that panicked while it held one of these locks has left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
