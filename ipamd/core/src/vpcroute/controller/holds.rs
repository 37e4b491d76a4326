//! What holds a call of the plan back: another call for the same thing, a wait after a failure, a read that is too old, a claim.

use super::super::Family;
use super::super::PoolMistake;
use super::super::call::RouteCall;
use super::super::family::overlap;
use super::super::plan::Hold;
use super::super::pool::claims_of_others;
use super::super::problem::Problem;
use super::super::sight::{Seen, TableSight};
use super::{Controller, Key};
use ipnet::IpNet;
use spur_cloud::RouteTableId;
use std::time::Duration;

/// How old a read of a table may be for a call that changes or removes what is there: the less time passes, the less can somebody else
/// have put a route of theirs in its place.
const FRESH: Duration = Duration::from_secs(5);

impl Controller {
    /// What holds a call back.
    pub(in super::super) fn hold(&self, call: &RouteCall) -> Option<Hold> {
        let api = call.api();
        if let Some(subject) = call.subject() {
            if self.calls.values().any(|running| running.call.subject().as_ref() == Some(&subject)) {
                return Some(Hold::Running);
            }
            if let Some(wait) = self.waits(&Key::Subject(subject)) {
                return Some(wait);
            }
        }
        if let Some(wait) = self.waits(&Key::Api(api)) {
            return Some(wait);
        }
        let table = call.table()?;
        if let Some(wait) = self.waits(&Key::Table(table.clone(), api)) {
            return Some(wait);
        }
        let sight = self.sights.get(table)?;
        if sight.missing.is_some() {
            return Some(Hold::Problem(Problem::TableMissing { table: table.clone() }));
        }
        match call {
            RouteCall::Create { block, .. } => {
                if !self.is_claimed(table) {
                    return Some(Hold::Problem(Problem::Unclaimed { table: table.clone() }));
                }
                let full = (table.clone(), Family::of(*block));
                if self.learned.contains_key(&full) && self.is_creating(table, full.1) {
                    // One call is enough to learn whether the table takes routes again.
                    return Some(Hold::Running);
                }
                self.waits(&Key::Full(full.0, full.1))
            }
            RouteCall::Replace { block, .. } | RouteCall::Delete { block, .. } => {
                let stale = (self.now >= sight.begun.after(FRESH)).then_some(Hold::NotFresh);
                self.contested(sight, *block).map(Hold::Problem).or(stale)
            }
            RouteCall::Claim { .. } => self.unclaimable(table).map(Hold::Problem),
            _ => None,
        }
    }

    /// Why the pool is not claimed in a table: the addresses are another cluster's, or nobody here needs them. A claim would only keep
    /// their owner from using them.
    fn unclaimable(&self, table: &RouteTableId) -> Option<Problem> {
        let here =
            |mistake: &&PoolMistake| matches!(mistake, PoolMistake::Claimed { table: at, .. } if at == table);
        let nobody = self.record.blocks.is_empty();
        let mistake = self.pool_mistakes.iter().find(|mistake| nobody || here(mistake))?;
        Some(Problem::Pool { mistake: mistake.clone() })
    }

    /// Why a route is not touched though it has a block as destination: another cluster claims the addresses in this table, too, and the
    /// route, which we did not write lately, leads to none of our nodes and to no machine that the block's node had.
    fn contested(&self, sight: &TableSight, block: IpNet) -> Option<Problem> {
        let Seen::ToEni { eni, fresh: false, .. } = sight.seen(block) else { return None };
        let claims = claims_of_others(&self.settings, &sight.table);
        let mistake = claims.into_iter().find(
            |mistake| matches!(mistake, PoolMistake::Claimed { claim, .. } if overlap(*claim, block)),
        )?;
        let is_ours = self.targets.iter().any(|(_, target)| target.eni == eni)
            || self.record.blocks.get(&block).is_some_and(|known| known.enis.contains(&eni));
        (!is_ours).then_some(Problem::Pool { mistake })
    }

    fn is_creating(&self, table: &RouteTableId, family: Family) -> bool {
        self.calls.values().any(|running| match &running.call {
            RouteCall::Create { table: at, block, .. } => at == table && Family::of(*block) == family,
            _ => false,
        })
    }

    fn waits(&self, key: &Key) -> Option<Hold> {
        self.backoffs.wait(key, self.now).cloned().map(Hold::Problem)
    }
}
