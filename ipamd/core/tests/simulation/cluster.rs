//! Several nodes in one cloud. The world is with the node whose turn it is; time passes for all of them together. What one
//! node alone cannot see is checked here: that nobody else has what its pods have.

use crate::chaos::Chaos;
use crate::harness::{Pod, Sim, Site};
use spur_cloud::fake::World;
use spur_ipamd_core::Jitter;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// A node that shall use prefixes, and whose subnets have no free /28, asks for one again about every five minutes, and for that gives
/// a single address back if all places are taken. The release stays open for a minute, while reads may show the addresses still. At the
/// end it may be found at that: this long it is waited for. A release that is stuck is open still.
const TURN: Duration = Duration::from_secs(300);

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Sim>,
    turn: usize,
    rng: Jitter,
}

impl Cluster {
    pub(crate) fn new(seed: u64, chaos: &Chaos) -> Self {
        let (mut world, site) = Site::found(chaos);
        let mut nodes: Vec<Sim> = Vec::new();
        for number in 0..chaos.nodes {
            if let Some(before) = nodes.last_mut() {
                world = std::mem::take(&mut before.world);
            }
            nodes.push(Sim::join(seed, chaos.clone(), number, &site, world));
            world = World::new();
        }
        Self { turn: nodes.len() - 1, nodes, rng: Jitter::new(seed) }
    }

    pub(crate) fn print(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.print = true);
    }

    /// Steps of all pools.
    pub(crate) fn steps(&self) -> u64 {
        self.nodes.iter().map(|node| node.steps).sum()
    }

    fn turn_to(&mut self, node: usize) -> &mut Sim {
        let world = std::mem::take(&mut self.nodes[self.turn].world);
        self.turn = node;
        self.nodes[node].world = world;
        &mut self.nodes[node]
    }

    /// One operation somewhere, or time.
    pub(crate) fn random_step(&mut self) {
        let count = u64::try_from(self.nodes.len()).unwrap();
        let node = usize::try_from(self.rng.bits() % count).unwrap();
        if !self.turn_to(node).operate() {
            self.next(Duration::from_secs(30));
        }
    }

    /// Lets the next thing happen, wherever it is due.
    fn next(&mut self, most: Duration) {
        let due = |at: usize| (self.nodes[at].next_at().unwrap_or(Duration::MAX), at);
        let first = (0..self.nodes.len()).min_by_key(|at| due(*at)).unwrap();
        let node = self.turn_to(first);
        let moved = node.moves();
        node.next_within(most);
        for other in (0..self.nodes.len()).filter(|_| moved) {
            self.turn_to(other).tell_links();
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.nodes[self.turn].now() + time;
        while self.nodes[self.turn].now() < end {
            self.next(end.saturating_sub(self.nodes[self.turn].now()));
            let broken = self.violations();
            let node = &mut self.nodes[self.turn];
            node.broken.extend(broken);
            if node.broken.len() > 20 {
                return;
            }
        }
    }

    /// The rules that hold always.
    pub(crate) fn violations(&mut self) -> Vec<String> {
        let granted: Vec<Vec<IpAddr>> =
            self.nodes.iter_mut().map(|node| std::mem::take(&mut node.granted)).collect();
        let mut broken = Vec::new();
        for node in 0..self.nodes.len() {
            broken.extend(self.turn_to(node).violations());
        }
        if self.nodes.len() > 1 {
            broken.extend(self.shared());
            for (node, addresses) in granted.iter().enumerate() {
                broken.extend(addresses.iter().filter_map(|address| self.too_early(node, *address)));
            }
        }
        broken
    }

    /// Addresses that two nodes think they have.
    fn shared(&self) -> Vec<String> {
        let robbed = |address: &IpAddr| self.nodes.iter().any(|node| node.is_robbed(*address));
        let mut broken = Vec::new();
        let mut holders = BTreeMap::new();
        let mut kernels = BTreeMap::new();
        for node in &self.nodes {
            let live = node.pods.values().filter_map(|pod| match pod {
                Pod::Live { address, .. } => Some(*address),
                _ => None,
            });
            for address in live {
                if let Some(other) = holders.insert(address, &node.instance).filter(|_| !robbed(&address)) {
                    broken.push(format!("{address} has pods on {other} and on {}", node.instance));
                }
            }
            for address in node.kernel.applied.enis.iter().flat_map(|eni| &eni.addresses) {
                kernels.entry(*address).or_insert_with(BTreeSet::new).insert(&node.instance);
            }
        }
        for (address, instance) in holders {
            let others = kernels.get(&address).is_some_and(|at| at.iter().any(|other| *other != instance));
            if others && !robbed(&address) && self.innocent() {
                broken.push(format!("{address} of a pod on {instance} is in another kernel, too"));
            }
        }
        broken
    }

    fn innocent(&self) -> bool {
        self.nodes.iter().all(|node| node.innocent)
    }

    /// Whether an address was handed out that rests, for the node that had it before.
    fn too_early(&self, node: usize, address: IpAddr) -> Option<String> {
        let now = self.nodes[self.turn].now();
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != node);
        let rests = |other: &Sim| {
            let cooldown = other.settings.timings.cooldown;
            let asked = other.asked_back.get(&address).is_some_and(|at| *at + cooldown > now);
            asked && !other.is_robbed(address) && other.innocent
        };
        let other = others.map(|(_, other)| other).find(|other| rests(other))?;
        Some(format!("{address} was handed out while it rested for {}", other.instance))
    }

    /// Faults end, everything asked gets its answer, pods go, and the world comes to rest.
    pub(crate) fn calm_down(&mut self) {
        for node in 0..self.nodes.len() {
            self.turn_to(node).end_faults();
        }
        self.pass(Duration::from_secs(900));
        for node in 0..self.nodes.len() {
            self.turn_to(node).end_pods();
        }
        self.pass(Duration::from_secs(3600));
        let sent: Vec<u64> = self.nodes.iter().map(|node| node.sent).collect();
        self.pass(Duration::from_secs(600));
        for (node, before) in sent.into_iter().enumerate() {
            self.turn_to(node).check_rest(before, Duration::from_secs(600));
        }
        self.await_rest();
    }

    /// Waits until no release is open, for [`TURN`] at most.
    fn await_rest(&mut self) {
        let end = self.nodes[self.turn].now() + TURN;
        let open = |node: &Sim| !node.disk.intents.is_empty();
        while self.nodes.iter().any(open) && self.nodes[self.turn].now() < end {
            self.pass(Duration::from_secs(5));
        }
    }

    /// What must not be left then.
    pub(crate) fn leftovers(&mut self) -> Vec<String> {
        let mut left = self.violations();
        for node in 0..self.nodes.len() {
            left.extend(self.turn_to(node).leftovers());
        }
        left
    }
}
