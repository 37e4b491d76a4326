//! What survives a crash of the controller: whose each block is, which tables carry our routes, which nodes went to the fallback
//! pool. The shell keeps a [`Record`] in its store by applying each [`Change`] in order, and hands it to the next controller.
//!
//! A block is in the record from before its first route is written until a read shows it in no table and its rest is over: that is
//! the finalizer. What is not in the record is not ours to delete.

use super::NodeName;
use crate::time::Timestamp;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use spur_cloud::{EniId, RouteTableId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Everything that survives. It changes by [`Record::apply`] alone, which keeps the index of it true.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    pub(super) blocks: BTreeMap<IpNet, BlockRecord>,
    pub(super) tables: BTreeMap<RouteTableId, TableRecord>,
    pub(super) fallback: BTreeSet<NodeName>,
    /// Blocks that are held, by node: with a thousand nodes, to look through all of them for each would be a million looks.
    held: BTreeMap<NodeName, BTreeSet<IpNet>>,
}

/// A block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRecord {
    /// Whose it is or was.
    pub node: NodeName,
    /// Where it is in its life.
    pub state: BlockState,
    /// Where routes of ours to it may lead: to the node's ENI, and to those of machines that it had before. Records of earlier versions have
    /// none.
    #[serde(default)]
    pub enis: BTreeSet<EniId>,
}

/// Life of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockState {
    /// A node's.
    Held,
    /// Its node left; its routes have to go.
    Finalizing,
    /// No table shows it any more; nobody gets it before this moment and another read.
    Cooling {
        /// The moment.
        until: Timestamp,
    },
}

/// A table that may carry our routes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRecord {
    /// Since when no node and no setting asks for it.
    pub unneeded: Option<Timestamp>,
}

/// A change of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Change {
    PutBlock(IpNet, BlockRecord),
    RemoveBlock(IpNet),
    PutTable(RouteTableId, TableRecord),
    RemoveTable(RouteTableId),
    PutFallback(NodeName),
    RemoveFallback(NodeName),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutBlock(block, BlockRecord { node, state, enis }) => match state {
                BlockState::Held => {
                    let at: Vec<_> = enis.iter().map(EniId::as_str).collect();
                    write!(f, "{block} is {node}'s, at {}", at.join(" and "))
                }
                BlockState::Finalizing => write!(f, "{block} was {node}'s; its routes have to go"),
                BlockState::Cooling { .. } => write!(f, "{block} was {node}'s; it rests"),
            },
            Self::RemoveBlock(block) => write!(f, "{block} is free"),
            Self::PutTable(table, TableRecord { unneeded: None }) => write!(f, "{table} is managed"),
            Self::PutTable(table, _) => write!(f, "{table} is managed, though no node needs it any more"),
            Self::RemoveTable(table) => write!(f, "{table} is not managed any more"),
            Self::PutFallback(node) => write!(f, "{node} goes to the fallback pool"),
            Self::RemoveFallback(node) => write!(f, "{node} is gone from the fallback pool"),
        }
    }
}

impl Record {
    /// Blocks that are somebody's, or were until lately.
    #[must_use]
    pub const fn blocks(&self) -> &BTreeMap<IpNet, BlockRecord> {
        &self.blocks
    }

    /// Tables that may carry our routes.
    #[must_use]
    pub const fn tables(&self) -> &BTreeMap<RouteTableId, TableRecord> {
        &self.tables
    }

    /// Nodes that were sent to the fallback pool, and stay there.
    #[must_use]
    pub const fn fallback(&self) -> &BTreeSet<NodeName> {
        &self.fallback
    }

    /// Applies a change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::PutBlock(block, record) => self.put_block(*block, Some(record.clone())),
            Change::RemoveBlock(block) => self.put_block(*block, None),
            Change::PutTable(table, record) => drop(self.tables.insert(table.clone(), record.clone())),
            Change::RemoveTable(table) => drop(self.tables.remove(table)),
            Change::PutFallback(node) => drop(self.fallback.insert(node.clone())),
            Change::RemoveFallback(node) => drop(self.fallback.remove(node)),
        }
    }

    fn put_block(&mut self, block: IpNet, record: Option<BlockRecord>) {
        let holder = record.as_ref().filter(|record| record.state == BlockState::Held);
        if let Some(node) = holder.map(|record| record.node.clone()) {
            self.held.entry(node).or_default().insert(block);
        }
        let is_held = holder.is_some();
        let before = match record {
            Some(record) => self.blocks.insert(block, record),
            None => self.blocks.remove(&block),
        };
        if let Some(before) = before
            .filter(|before| !is_held || self.blocks.get(&block).is_some_and(|now| now.node != before.node))
        {
            self.held.entry(before.node.clone()).or_default().remove(&block);
            self.held.retain(|_, blocks| !blocks.is_empty());
        }
    }

    /// Blocks that rest do so until this moment.
    pub(super) fn rest_until(&mut self, moment: Timestamp) {
        for known in self.blocks.values_mut() {
            if let BlockState::Cooling { until } = &mut known.state {
                *until = moment;
            }
        }
    }

    /// Blocks that a node holds.
    pub fn held_by<'a>(&'a self, node: &NodeName) -> impl Iterator<Item = IpNet> + use<'a> {
        self.held.get(node).into_iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_a_block_follows_from_every_kind_of_change() {
        let (block, one, two): (IpNet, NodeName, NodeName) =
            ("10.200.0.0/25".parse().unwrap(), "one".parse().unwrap(), "two".parse().unwrap());
        let mut record = Record::default();
        let put = |node: &NodeName, state| {
            Change::PutBlock(block, BlockRecord { node: node.clone(), state, enis: BTreeSet::new() })
        };
        let mut check = |change: Change, of_one: usize, of_two: usize| {
            record.apply(&change);
            let held = (record.held_by(&one).count(), record.held_by(&two).count());
            assert_eq!(held, (of_one, of_two), "after {change:?}");
        };
        check(put(&one, BlockState::Held), 1, 0);
        check(put(&one, BlockState::Held), 1, 0);
        check(put(&two, BlockState::Held), 0, 1);
        check(put(&two, BlockState::Finalizing), 0, 0);
        check(put(&two, BlockState::Held), 0, 1);
        check(Change::RemoveBlock(block), 0, 0);
    }
}
