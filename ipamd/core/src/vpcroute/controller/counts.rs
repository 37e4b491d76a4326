//! How many: nodes by what becomes of them, and routes of a table that are as they should be. For metrics and status; nothing is decided by it.

use super::super::settings::Nodes;
use super::super::{Family, NodeName};
use super::Controller;
use spur_cloud::RouteTableId;

/// Nodes on the list, by what becomes of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeCounts {
    /// They serve pods, as far as routes are concerned.
    pub ready: u64,
    /// Something stands in the way.
    pub waiting: u64,
    /// They belong to the `eni` pool of those that a table had no room for.
    pub fallback: u64,
}

impl Controller {
    pub(super) fn node_counts(&self) -> NodeCounts {
        let mut counts = NodeCounts::default();
        for node in self.nodes.iter().flat_map(Nodes::keys) {
            let count = match () {
                () if self.record.fallback.contains(node) => &mut counts.fallback,
                () if self.is_ready(node) => &mut counts.ready,
                () => &mut counts.waiting,
            };
            *count += 1;
        }
        counts
    }

    /// Whether its routes let it serve pods (R15).
    fn is_ready(&self, node: &NodeName) -> bool {
        self.record.held_by(node).any(|block| self.is_block_durable(block))
            && self.node_problems(node).is_empty()
    }

    pub(super) fn synced_in(&self, table: &RouteTableId, family: Family) -> u32 {
        let synced = self.synced.keys().filter(|(at, block)| at == table && Family::of(*block) == family);
        u32::try_from(synced.count()).unwrap_or(u32::MAX)
    }
}
