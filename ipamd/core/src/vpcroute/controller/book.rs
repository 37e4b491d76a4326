//! Changes of the record on their way into the store: one transaction at a time, in order. What is not durable yet is known here,
//! because a crash would undo it.

use super::super::call::Action;
use super::super::record::{BlockRecord, BlockState, Change, Record, TableRecord};
use crate::action::StoreId;
use crate::time::Timestamp;
use ipnet::IpNet;
use spur_cloud::RouteTableId;

/// A change that is not durable.
#[derive(Debug)]
struct Waiting {
    change: Change,
    /// Nothing hangs on it: whose a block is, and in which state, stays.
    is_note: bool,
}

/// The way into the store.
#[derive(Debug, Default)]
pub(super) struct Book {
    waiting: Vec<Waiting>,
    flying: Option<(StoreId, Vec<Waiting>)>,
    last: u64,
}

impl Book {
    /// Applies a change, and stores it soon.
    pub(super) fn change(&mut self, record: &mut Record, change: Change) {
        let is_note = match &change {
            Change::PutBlock(block, to) => {
                record.blocks.get(block).is_some_and(|from| from.node == to.node && from.state == to.state)
            }
            _ => false,
        };
        record.apply(&change);
        self.waiting.push(Waiting { change, is_note });
    }

    /// Gives a block of the record another state.
    pub(super) fn put(&mut self, record: &mut Record, block: IpNet, state: BlockState) {
        if let Some(known) = record.blocks.get(&block).cloned() {
            self.change(record, Change::PutBlock(block, BlockRecord { state, ..known }));
        }
    }

    pub(super) fn needs_table(&mut self, record: &mut Record, table: &RouteTableId) {
        self.change(record, Change::PutTable(table.clone(), TableRecord::default()));
    }

    pub(super) fn leave_table(&mut self, record: &mut Record, table: &RouteTableId, now: Timestamp) {
        self.change(record, Change::PutTable(table.clone(), TableRecord { unneeded: Some(now) }));
    }

    pub(super) fn drop_table(&mut self, record: &mut Record, table: &RouteTableId) {
        self.change(record, Change::RemoveTable(table.clone()));
    }

    /// The next transaction, if there is something to store and none is under way.
    pub(super) fn flush(&mut self) -> Option<Action> {
        if self.flying.is_some() || self.waiting.is_empty() {
            return None;
        }
        self.last += 1;
        let (id, flying) = (StoreId(self.last), std::mem::take(&mut self.waiting));
        let changes = flying.iter().map(|waiting| waiting.change.clone()).collect();
        self.flying = Some((id, flying));
        Some(Action::Store { id, changes })
    }

    /// Whether that was the transaction under way.
    pub(super) fn stored(&mut self, id: StoreId) -> bool {
        self.flying.take_if(|(flying, _)| *flying == id).is_some()
    }

    /// It is tried again, before what came since.
    pub(super) fn failed(&mut self, id: StoreId) -> bool {
        let Some((_, mut changes)) = self.flying.take_if(|(flying, _)| *flying == id) else { return false };
        changes.append(&mut self.waiting);
        self.waiting = changes;
        true
    }

    fn pending(&self) -> impl Iterator<Item = &Change> {
        let all = self.flying.iter().flat_map(|(_, changes)| changes).chain(&self.waiting);
        all.filter(|waiting| !waiting.is_note).map(|waiting| &waiting.change)
    }

    pub(super) fn is_block_durable(&self, block: IpNet) -> bool {
        !self.pending().any(|change| matches!(change, Change::PutBlock(changed, _) if *changed == block))
    }

    pub(super) fn is_table_durable(&self, table: &RouteTableId) -> bool {
        !self.pending().any(|change| matches!(change, Change::PutTable(changed, _) if changed == table))
    }
}
