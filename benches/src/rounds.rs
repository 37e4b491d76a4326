//! ADD and DEL, round by round: three nodes take turns. Spur and the reference have as many pods as the level says; a third node, also
//! Spur's, always has few, and shows within the same rounds what the number of pods alone changes.

use crate::node::Node;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::samples::Samples;
use anyhow::Result;

/// The nodes, in the order in which their samples are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Spur, with the level's pods.
    Spur,
    /// The reference, with as many.
    Reference,
    /// Spur, always with few.
    Small,
}

impl Side {
    /// All, in order.
    pub const ALL: [Self; 3] = [Self::Spur, Self::Reference, Self::Small];
}

/// One value of each kind for each side, round by round.
#[derive(Debug, Clone, Default)]
pub struct BySide([Samples; 3]);

impl BySide {
    /// The samples of a side.
    #[must_use]
    pub const fn of(&self, side: Side) -> &Samples {
        &self.0[side as usize]
    }

    fn push(&mut self, side: Side, milliseconds: f64) {
        self.0[side as usize].push(milliseconds);
    }

    /// How many times faster Spur is than the reference.
    #[must_use]
    pub fn advantage(&self) -> Samples {
        self.of(Side::Reference).over(self.of(Side::Spur))
    }

    /// How many times as long Spur takes as on the node with few pods.
    #[must_use]
    pub fn growth(&self) -> Samples {
        self.of(Side::Spur).over(self.of(Side::Small))
    }
}

/// What was measured at one level with this many pods at once, in milliseconds.
#[derive(Debug, Clone)]
pub struct Point {
    /// Pods present.
    pub pods: u32,
    /// Pods at once.
    pub at_once: u32,
    /// ADD, until the last plugin returned.
    pub add: BySide,
    /// DEL, until the last plugin returned.
    pub del: BySide,
    /// DEL, until the host had no interface of these pods any more.
    pub gone: BySide,
}

/// The three nodes.
#[derive(Debug)]
pub struct Nodes<'a> {
    nodes: [Node; 3],
    progress: &'a Progress,
}

impl<'a> Nodes<'a> {
    /// In the order of [`Side::ALL`].
    #[must_use]
    pub const fn new(nodes: [Node; 3], progress: &'a Progress) -> Self {
        Self { nodes, progress }
    }

    /// One of them.
    pub fn side(&mut self, side: Side) -> &mut Node {
        &mut self.nodes[side as usize]
    }

    /// One of them, to look at.
    #[must_use]
    pub const fn look(&self, side: Side) -> &Node {
        &self.nodes[side as usize]
    }

    /// Brings the nodes to a level and runs what is not measured: the first time of everything.
    ///
    /// # Errors
    /// When a plugin fails.
    pub fn reach(&mut self, plan: &Plan, pods: u32) -> Result<()> {
        let further = plan.at_once as usize;
        self.side(Side::Spur).fill(pods as usize, further)?;
        self.side(Side::Reference).fill(pods as usize, further)?;
        self.side(Side::Small).fill(plan.small as usize, further)?;
        self.rounds(pods, plan.at_once, 1).map(drop)
    }

    /// Measures with this many pods at once.
    ///
    /// # Errors
    /// When a plugin fails.
    pub fn rounds(&mut self, pods: u32, at_once: u32, rounds: u32) -> Result<Point> {
        let (add, del, gone) = Default::default();
        let mut point = Point { pods, at_once, add, del, gone };
        for round in 0..rounds {
            self.progress.check()?;
            let mut order = Side::ALL;
            order.rotate_left(round as usize % Side::ALL.len());
            let mut added = Vec::new();
            for side in order {
                let (took, pods) = self.side(side).add(at_once as usize)?;
                point.add.push(side, took.as_secs_f64() * 1e3);
                added.push((side, pods));
            }
            for (side, pods) in added {
                let removal = self.side(side).del(pods)?;
                point.del.push(side, removal.returned.as_secs_f64() * 1e3);
                point.gone.push(side, removal.gone.as_secs_f64() * 1e3);
            }
        }
        Ok(point)
    }
}
