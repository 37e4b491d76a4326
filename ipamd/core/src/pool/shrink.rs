//! Giving back: whole ENIs first, because they cost a place; then single addresses from the emptiest ENI. Only what was too much for a while, only
//! what nobody has and nothing rests on, and only while EC2 can be read: who does not see well destroys nothing.

use super::store::Then;
use super::{Pool, Release, Releasing};
use crate::address::State;
use crate::eni::{EniState, Phase, Role};
use crate::record::{Intent, IntentId, StoreChange};
use crate::sizing::Stock;
use spur_cloud::{Api, EniId};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::IpAddr;

impl Pool {
    pub(super) fn shrink(&mut self) {
        let stock = self.stock();
        let excess = stock.excess(&self.settings.targets);
        let idle = self.unneeded(stock);
        if !self.sees_well() || excess == 0 && idle.is_none() {
            self.shrink_at = None;
            return;
        }
        let delay = self.settings.timings.shrink_delay;
        let now = self.now;
        let due = *self.shrink_at.get_or_insert_with(|| now.after(self.jitter.spread(delay)));
        if due > now {
            return;
        }
        self.shrink_at = None;
        while let Some(id) = self.unneeded(self.stock()) {
            self.leave(&id);
        }
        let excess = self.stock().excess(&self.settings.targets);
        self.give_back(excess);
    }

    /// Whether EC2 was read lately.
    fn sees_well(&self) -> bool {
        let fresh = self.settings.timings.reconcile.saturating_mul(3);
        self.sight.observed.is_some_and(|at| at.after(fresh) > self.now)
    }

    fn idle(eni: &EniState) -> bool {
        let steady = matches!(eni.phase, Phase::Ready | Phase::Unattached);
        steady && eni.busy.is_none() && eni.look.is_none() && eni.uncertain.is_none() && !eni.lost
    }

    /// A secondary ENI that nobody needs: without it there is still enough, and half of the mark on top, so that the next pods do
    /// not bring it back at once.
    fn unneeded(&self, stock: Stock) -> Option<EniId> {
        let targets = &self.settings.targets;
        let excess = stock.excess(targets);
        let keep = stock.wanted(targets).saturating_add(targets.max_above_warm.div_ceil(2));
        let fits = |eni: &&EniState| {
            let tally = self.table.tally(&eni.record.id);
            let empty = tally.live + tally.cooling + tally.leaving == 0;
            let extra = match eni.phase {
                Phase::Ready => excess > 0 && stock.free.saturating_sub(tally.free) >= keep,
                // Not in use yet: it came too late, or cannot come.
                _ => stock.free >= keep,
            };
            eni.role == Role::Secondary && Self::idle(eni) && empty && (extra || tally.free == 0)
        };
        let last = |eni: &&EniState| (self.table.tally(&eni.record.id).free, eni.record.place);
        self.enis.values().filter(fits).max_by_key(last).map(|eni| eni.record.id.clone())
    }

    fn give_back(&mut self, mut excess: u32) {
        let api = Api::UnassignPrivateIpAddresses;
        let open = |eni: &&EniState| {
            let releasing =
                self.releases.values().any(|r| r.eni == eni.record.id && r.phase != Releasing::Going);
            let failed = self.backoffs.blocks_call(&eni.record.id, api, self.now);
            eni.role != Role::Foreign && eni.phase == Phase::Ready && Self::idle(eni) && !failed && !releasing
        };
        let rank = |eni: &&EniState| {
            let tally = self.table.tally(&eni.record.id);
            (eni.role == Role::Primary, tally.live + tally.cooling, Reverse(eni.record.place))
        };
        let mut enis: Vec<&EniState> = self.enis.values().filter(open).collect();
        enis.sort_by_key(rank);
        let ids: Vec<EniId> = enis.into_iter().map(|eni| eni.record.id.clone()).collect();
        for id in ids {
            let free = self.table.on(&id).filter(|(_, slot)| slot.free() && !slot.missing);
            let addresses: BTreeSet<IpAddr> =
                free.map(|(address, _)| address).take(excess as usize).collect();
            if addresses.is_empty() {
                continue;
            }
            excess -= u32::try_from(addresses.len()).unwrap_or(excess);
            let intent = IntentId(self.next_id());
            for address in &addresses {
                self.table.set(*address, State::Leaving { intent });
            }
            let change = Intent::Unassign { eni: id.clone(), addresses: addresses.clone() };
            self.releases
                .insert(intent, Release { eni: id, addresses, phase: Releasing::Storing, unclear: false });
            self.store(vec![StoreChange::PutIntent(intent, change)], Then::Unassign(intent));
        }
    }

    /// The intent to give addresses back could not be made durable: they stay.
    pub(super) fn keep_addresses(&mut self, intent: IntentId) {
        if let Some(release) = self.releases.remove(&intent) {
            self.free_again(&release.addresses, intent);
        }
    }

    /// EC2 refused to take addresses back, so they stay, unless an earlier call may still take them. Their intent goes before anybody
    /// can get them.
    pub(super) fn put_back(&mut self, addresses: &BTreeSet<IpAddr>) {
        let of = |(_, release): &(&IntentId, &Release)| {
            !release.unclear && !release.addresses.is_disjoint(addresses)
        };
        let intents: Vec<IntentId> = self.releases.iter().filter(of).map(|(intent, _)| *intent).collect();
        for intent in intents {
            self.keep_addresses(intent);
            self.store(vec![StoreChange::DropIntent(intent)], Then::Nothing);
        }
    }

    fn free_again(&mut self, addresses: &BTreeSet<IpAddr>, intent: IntentId) {
        for address in addresses {
            let leaving = |state: &State| matches!(state, State::Leaving { intent: i } if *i == intent);
            if self.table.get(*address).is_some_and(|slot| leaving(&slot.state)) {
                self.table.set(*address, State::Free { since: self.now });
            }
        }
    }
}
