//! The plan: every call that would make the tables as the nodes need them, in the order in which they are to be made, each with its reason
//! and with what holds it back. It is what a dry run prints, and what the controller takes its calls from.
//!
//! # Order
//! Claims first, because nothing may be written into a table without one. Then one node after the other, all tables of a node before the next
//! one's: EC2 lets us write a few routes a second, and a node with two of three routes is of no use. New nodes come before
//! repairs, in the order in which they came. Deletes come last.

use super::NodeName;
use super::call::{Reason, RouteCall};
use super::controller::Controller;
use super::problem::Problem;
use super::record::{BlockRecord, BlockState};
use super::settings::CLAIM_TAG;
use super::sight::Seen;
use ipnet::IpNet;
use spur_cloud::{EniId, RouteTableId};
use std::collections::{BTreeMap, BTreeSet};

/// A call that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The call.
    pub call: RouteCall,
    /// Why.
    pub reason: Reason,
    /// What holds it back, if anything does.
    pub hold: Option<Hold>,
}

/// What holds a call back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// Another call for the same thing is under way.
    Running,
    /// The table has to be read again first, because what is there would be changed.
    NotFresh,
    /// This.
    Problem(Problem),
}

/// Deletes in a table go up to so many routes, or a tenth of ours, whichever is more.
const DELETES_MIN: usize = 3;

impl Controller {
    /// Every call that is due now. Empty before everything was read once.
    #[must_use]
    pub fn plan(&self) -> Vec<Planned> {
        let mut plan = Vec::new();
        if self.not_observed().is_some() {
            return plan;
        }
        self.plan_claims(&mut plan);
        for node in self.in_order() {
            self.plan_node(node, &mut plan);
        }
        self.plan_deletes(&mut plan);
        plan
    }

    fn plan_claims(&self, plan: &mut Vec<Planned>) {
        let unclaimed =
            self.managed().filter(|table| !self.is_claimed(table) && self.is_table_durable(table));
        for table in unclaimed {
            let tags = BTreeMap::from([(self.claim_key(), self.settings.pool.claim())]);
            self.add(plan, RouteCall::Claim { table: table.clone(), tags }, Reason::NoClaim);
        }
        for table in self.retiring() {
            let claimed =
                self.sights.get(table).is_some_and(|at| at.table.tags.contains_key(&self.claim_key()));
            if claimed && !self.carries_ours(table) {
                let keys = BTreeSet::from([self.claim_key()]);
                self.add(plan, RouteCall::Unclaim { table: table.clone(), keys }, Reason::TableLeft);
            }
        }
    }

    pub(super) fn claim_key(&self) -> String {
        format!("{CLAIM_TAG}{}", self.settings.cluster)
    }

    /// New nodes as they came, then all others.
    fn in_order(&self) -> Vec<&NodeName> {
        let mut order: Vec<_> =
            self.arrivals.iter().map(|(node, at)| (self.served.contains(node), *at, node)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, _, node)| node).collect()
    }

    fn plan_node(&self, node: &NodeName, plan: &mut Vec<Planned>) {
        let Some(target) = self.targets.get(node) else { return };
        let blocks: Vec<IpNet> =
            self.record.held_by(node).filter(|block| self.is_block_durable(*block)).collect();
        if blocks.is_empty() {
            return;
        }
        if target.check {
            let call = RouteCall::CheckOff { eni: target.eni.clone() };
            self.add(plan, call, Reason::CheckOn { node: node.clone() });
        }
        for table in self.managed() {
            for block in &blocks {
                if let Some((call, reason)) = self.route_call(node, &target.eni, table, *block) {
                    self.add(plan, call, reason);
                }
            }
        }
    }

    /// What a route needs; nothing if it is as it should be, is not ours to touch, or only a read can tell.
    fn route_call(
        &self,
        node: &NodeName,
        target: &EniId,
        table: &RouteTableId,
        block: IpNet,
    ) -> Option<(RouteCall, Reason)> {
        let (node, table, target) = (node.clone(), table.clone(), target.clone());
        match self.sights.seen(&table, block) {
            Seen::Absent => {
                let is_new = !self.served.contains(&node);
                let reason = if is_new { Reason::NewNode { node } } else { Reason::Missing { node } };
                Some((RouteCall::Create { table, block, target }, reason))
            }
            Seen::ToEni { eni, .. } if eni != target => {
                Some((RouteCall::Replace { table, block, target }, Reason::WrongTarget { node, eni }))
            }
            // The ENI is there and attached, or it would be no target. Not again and again: what we wrote has time to settle.
            Seen::ToEni { blackhole: true, fresh: false, .. } => {
                Some((RouteCall::Replace { table, block, target }, Reason::Blackhole { node }))
            }
            Seen::ToEni { .. } | Seen::Foreign(_) | Seen::Unclear => None,
        }
    }

    fn plan_deletes(&self, plan: &mut Vec<Planned>) {
        let mut deletes: BTreeMap<&RouteTableId, Vec<(IpNet, Reason)>> = BTreeMap::new();
        // A node whose ENI is not known may route by any table.
        let retiring: BTreeSet<_> = self.retiring().filter(|_| self.all_found()).collect();
        for table in self.record.tables.keys() {
            let Some(sight) = self.sights.get(table) else { continue };
            for block in sight.destinations() {
                let Some(record) = self.record.blocks.get(&block) else { continue };
                let leaves = retiring.contains(table);
                if (leaves || self.has_left(block, record)) && matches!(sight.seen(block), Seen::ToEni { .. })
                {
                    let node = record.node.clone();
                    let reason = if leaves { Reason::TableLeft } else { Reason::NodeLeft { node } };
                    deletes.entry(table).or_default().push((block, reason));
                }
            }
        }
        for (table, blocks) in deletes {
            let stop = self.delete_stop(table, blocks.len()).map(Hold::Problem);
            for (block, reason) in blocks {
                let call = RouteCall::Delete { table: table.clone(), block };
                let hold = stop.clone().or_else(|| self.hold(&call));
                plan.push(Planned { call, reason, hold });
            }
        }
    }

    fn has_left(&self, block: IpNet, record: &BlockRecord) -> bool {
        record.state != BlockState::Held && self.is_block_durable(block)
    }

    /// Why nothing is deleted in a table (R3). Deletes of the last reconcile interval count, so that a list of nodes that shrinks
    /// step by step is no way around it.
    fn delete_stop(&self, table: &RouteTableId, planned: usize) -> Option<Problem> {
        if let Some(problem) = self.no_nodes() {
            return Some(problem);
        }
        let recent = self.recent_deletes(table);
        let ours = self.ours_in(table) + recent;
        let limit = match self.settings.allow_deletes {
            Some(allowed) => usize::try_from(allowed).unwrap_or(usize::MAX),
            None => DELETES_MIN.max(ours / 10),
        };
        let planned = planned + recent;
        (planned > limit).then(|| Problem::TooManyDeletes { table: table.clone(), planned, limit })
    }

    /// Routes of ours in a table.
    pub(super) fn ours_in(&self, table: &RouteTableId) -> usize {
        let Some(sight) = self.sights.get(table) else { return 0 };
        let ours = |block: &IpNet| {
            self.record.blocks.contains_key(block) && matches!(sight.seen(*block), Seen::ToEni { .. })
        };
        sight.destinations().filter(ours).count()
    }

    fn carries_ours(&self, table: &RouteTableId) -> bool {
        self.ours_in(table) > 0
    }

    fn add(&self, plan: &mut Vec<Planned>, call: RouteCall, reason: Reason) {
        let hold = self.hold(&call);
        plan.push(Planned { call, reason, hold });
    }
}
