//! Who left. A list of nodes may be half written, or edited by hand; what it does not name any more may live on. So a node that
//! vanished keeps its blocks, its routes and its place in the fallback pool for a while, and loses them sooner only if EC2 shows that no
//! packet can reach it. A block that a node's `podCIDRs` do not name any more is treated likewise.
//!
//! The list of nodes that is empty says nothing at all (R3). What waits here is not durable: a new controller waits anew.

use super::super::NodeName;
use super::super::problem::Problem;
use super::super::record::{BlockRecord, BlockState, Change};
use super::super::settings::{BlocksFrom, Nodes};
use super::super::sight::Seen;
use super::Controller;
use crate::time::Timestamp;
use ipnet::IpNet;
use std::collections::BTreeMap;

/// Since when the list does not name them: a node's block, or (none) its place in the fallback pool.
pub(super) type Departures = BTreeMap<(NodeName, Option<IpNet>), Timestamp>;

impl Controller {
    /// Notes what the list does not name any more, and forgets what is back.
    pub(super) fn note_departures(&mut self) {
        let before = std::mem::take(&mut self.departures);
        let Some(nodes) = self.nodes.as_ref().filter(|_| self.no_nodes().is_none()) else { return };
        let held = self.record.blocks.iter().filter(|(_, known)| known.state == BlockState::Held);
        let unnamed = held.filter(|(block, known)| !self.is_named(nodes, **block, known));
        let blocks = unnamed.map(|(block, known)| (known.node.clone(), Some(*block)));
        let fallen = self.record.fallback.iter().filter(|node| !nodes.contains_key(*node));
        let gone = blocks.chain(fallen.map(|node| (node.clone(), None)));
        self.departures = gone
            .map(|what| {
                let since = before.get(&what).copied().unwrap_or(self.now);
                (what, since)
            })
            .collect();
    }

    /// Whether the list says that the block is still its node's.
    fn is_named(&self, nodes: &Nodes, block: IpNet, known: &BlockRecord) -> bool {
        nodes.get(&known.node).is_some_and(|spec| match self.settings.pool.blocks_from {
            BlocksFrom::Pool => true,
            BlocksFrom::NodeSpec => spec.pod_cidrs.contains(&block),
        })
    }

    /// Blocks of nodes that left are finalized; a node that is back before its block is anybody's has it again: its pods may never
    /// have stopped.
    pub(super) fn finalize(&mut self) {
        let Some(nodes) = self.nodes.as_ref().filter(|_| self.no_nodes().is_none()) else { return };
        let back =
            self.record.blocks.iter().filter(|(block, known)| {
                known.state != BlockState::Held && self.is_named(nodes, **block, known)
            });
        let back: Vec<_> = back.map(|(block, _)| *block).collect();
        let left = self.departures.iter().filter(|((_, block), since)| self.is_believed(*block, **since));
        let left: Vec<_> = left.map(|(what, _)| what.clone()).collect();
        for block in back {
            self.book.put(&mut self.record, block, BlockState::Held);
        }
        let any_left = !left.is_empty();
        for what in left {
            self.departures.remove(&what);
            match what {
                (_, Some(block)) => self.book.put(&mut self.record, block, BlockState::Finalizing),
                (node, None) => self.book.change(&mut self.record, Change::RemoveFallback(node)),
            }
        }
        if any_left {
            self.forget_targets();
        }
    }

    /// Forgets the ENIs of nodes that left. The ENI of one that holds a block is remembered, because the list may be wrong.
    pub(super) fn forget_targets(&mut self) {
        let (nodes, record) = (self.nodes.as_ref(), &self.record);
        self.targets.retain(|node, instance| match nodes.and_then(|nodes| nodes.get(node)) {
            Some(spec) => spec.instance == *instance,
            None => record.held_by(node).next().is_some(),
        });
    }

    fn is_believed(&self, block: Option<IpNet>, since: Timestamp) -> bool {
        self.now >= since.after(self.settings.timings.node_grace)
            || block.is_some_and(|block| self.is_cut_off(block, since))
    }

    /// Whether no table leads to the block's node any more, by reads that are too young to show what was before a write.
    fn is_cut_off(&self, block: IpNet, since: Timestamp) -> bool {
        let sure = since.after(self.settings.timings.settle);
        self.record.tables.keys().all(|table| {
            let live = matches!(
                self.sights.seen(table, block),
                Seen::ToEni { blackhole: false, .. } | Seen::Unclear
            );
            !live
                && self.sights.get(table).is_some_and(|sight| sight.missing.is_none() && sight.begun >= sure)
        })
    }

    /// When the next one that vanished is believed to have left, whatever EC2 shows.
    pub(super) fn next_departure(&self) -> Option<Timestamp> {
        let grace = self.settings.timings.node_grace;
        self.departures.values().map(|since| since.after(grace)).filter(|at| *at > self.now).min()
    }

    /// Blocks that keep their routes though the list does not name them.
    pub(super) fn departing(&self) -> impl Iterator<Item = Problem> {
        let grace = self.settings.timings.node_grace;
        self.departures.iter().filter_map(move |((node, block), since)| {
            Some(Problem::Unlisted { node: node.clone(), block: (*block)?, until: since.after(grace) })
        })
    }
}
