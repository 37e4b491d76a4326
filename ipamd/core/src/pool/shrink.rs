//! Giving back: wholly free prefixes after a short while, because each holds sixteen; after a longer one whole ENIs, because they cost a
//! place, and then single addresses from the emptiest ENI. Only as many as were too many all of that time, only what nobody has and nothing
//! rests on, and only while EC2 can be read: who does not see well destroys nothing. What is given back at one moment goes at once, one
//! call per ENI and kind, side by side.

use super::stock::whole;
use super::store::Then;
use super::{Pool, Release, Releasing};
use crate::address::State;
use crate::eni::{EniState, Phase, Role};
use crate::record::{Intent, IntentId, StoreChange};
use crate::sizing::Stock;
use crate::time::Timestamp;
use ipnet::IpNet;
use spur_cloud::{Api, EniId};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A surplus that lasts for this part of the shrink delay is enough for whole prefixes.
const PREFIXES: u32 = 6;

/// More than the targets ask for, and for how long already.
#[derive(Debug)]
pub(super) struct Surplus {
    /// When prefixes may go. That a prefix only goes when more than one is too many keeps it from coming and going.
    pub(super) prefixes: Timestamp,
    /// When it will have lasted long enough for all else.
    pub(super) due: Timestamp,
    /// From when on its size counts: addresses of pods that went together become free one after the other.
    counts: Timestamp,
    /// The least that there was since: what comes and goes in the meantime is in use, though not all the time.
    least: u32,
}

impl Pool {
    pub(super) fn shrink(&mut self) {
        let stock = self.stock();
        let surplus = stock.surplus(self.aim());
        if !self.sees_well() || !self.can_shrink(stock, surplus) {
            self.surplus = None;
            return;
        }
        let (now, delay) = (self.now, self.settings.timings.shrink_delay);
        let window = self.surplus.get_or_insert_with(|| {
            let delay = self.jitter.spread(delay);
            let after = |part: u32| now.after(delay / part);
            Surplus { prefixes: after(PREFIXES), due: after(1), counts: after(2), least: u32::MAX }
        });
        if window.counts <= now {
            window.least = window.least.min(surplus);
        }
        let (due, counts, mut least) = (window.due, window.counts, window.least);
        if window.prefixes <= now {
            least -= least.min(self.give_back_prefixes(surplus));
        }
        if due > now {
            return;
        }
        while let Some(id) = self.unneeded(self.stock()) {
            self.leave(&id);
        }
        if self.stock().need(self.aim()).met() {
            self.give_back_outdated(usize::MAX);
        }
        least -= least.min(self.give_back_singles(least));
        // An ENI that is busy gives its part as soon as it is not.
        let rest = Surplus { prefixes: due, due, counts, least };
        self.surplus = self.can_shrink(self.stock(), least).then_some(rest);
    }

    /// Whether anything can go when so many addresses are beyond the targets.
    fn can_shrink(&self, stock: Stock, surplus: u32) -> bool {
        let aim = self.aim();
        let singles = surplus.min(stock.surplus(aim)).saturating_sub(aim.above);
        stock.spare_prefixes(surplus, aim) > 0
            || singles > 0 && self.enis.values().any(|eni| self.free_singles(eni) > 0)
            || stock.need(aim).met() && self.enis.values().any(|eni| self.unused_outdated(eni) > 0)
            || self.unneeded(stock).is_some()
    }

    fn free_singles(&self, eni: &EniState) -> u32 {
        let mut groups = self.table.shelf(&eni.record.id).groups();
        groups.find(|(prefix, _)| prefix.is_none()).map_or(0, |(_, group)| group.tally.free)
    }

    /// Whether EC2 was read lately.
    fn sees_well(&self) -> bool {
        let fresh = self.settings.timings.reconcile.saturating_mul(3);
        self.sight.observed.is_some_and(|at| at.after(fresh) > self.now)
    }

    fn idle(eni: &EniState) -> bool {
        let steady = matches!(eni.phase, Phase::Ready | Phase::Unattached);
        steady
            && !eni.retired
            && eni.busy.is_none()
            && eni.look.is_none()
            && eni.uncertain.is_none()
            && !eni.lost
    }

    /// A secondary ENI that nobody needs: without it there is still enough, and half of the mark on top, so that the next pods do
    /// not bring it back at once.
    fn unneeded(&self, stock: Stock) -> Option<EniId> {
        let aim = self.aim();
        let excess = stock.excess(aim);
        let keep = stock.wanted(aim).saturating_add(aim.above.div_ceil(2));
        let fits = |eni: &&EniState| {
            let shelf = self.table.shelf(&eni.record.id);
            let tally = shelf.tally();
            let empty = tally.live() + tally.cooling + tally.leaving == 0;
            let prefixes = u32::try_from(shelf.prefixes().count()).unwrap_or(u32::MAX);
            let spare = stock.prefixes.saturating_sub(prefixes) >= aim.prefixes;
            let extra = match eni.phase {
                Phase::Ready => excess > 0 && spare && stock.free.saturating_sub(tally.free) >= keep,
                // Not in use yet: it came too late, or cannot come.
                _ => stock.free >= keep,
            };
            eni.role == Role::Secondary && Self::idle(eni) && empty && (extra || tally.free == 0)
        };
        let last = |eni: &&EniState| (self.table.tally(&eni.record.id).free, eni.record.place);
        self.enis.values().filter(fits).max_by_key(last).map(|eni| eni.record.id.clone())
    }

    /// ENIs from which something can be given back now, emptiest first.
    fn open(&self) -> Vec<EniId> {
        let under_way = |eni: &EniState| {
            let gone = |release: &Release| matches!(release.phase, Releasing::Gone(_));
            self.releases.values().any(|release| release.eni == eni.record.id && !gone(release))
        };
        let open = |eni: &&EniState| {
            let failed = self.backoffs.blocks_call(&eni.record.id, Api::UnassignPrivateIpAddresses, self.now);
            let ready = eni.role != Role::Foreign && eni.phase == Phase::Ready && Self::idle(eni);
            ready && !failed && !under_way(eni)
        };
        let rank = |eni: &&EniState| {
            let tally = self.table.tally(&eni.record.id);
            (eni.role == Role::Primary, tally.live() + tally.cooling, Reverse(eni.record.place))
        };
        let mut enis: Vec<&EniState> = self.enis.values().filter(open).collect();
        enis.sort_by_key(rank);
        enis.into_iter().map(|eni| eni.record.id.clone()).collect()
    }

    /// Gives back wholly free prefixes out of a surplus; says how many addresses those are.
    fn give_back_prefixes(&mut self, surplus: u32) -> u32 {
        let stock = self.stock();
        let aim = self.aim();
        let mut spare = stock.spare_prefixes(surplus.min(stock.surplus(aim)), aim) as usize;
        let mut given = 0;
        for id in self.open() {
            let free = self.table.shelf(&id).groups().filter(|(_, group)| whole(group));
            let prefixes: BTreeSet<IpNet> = free.filter_map(|(prefix, _)| prefix).take(spare).collect();
            spare -= prefixes.len();
            given += self.give_back(&id, BTreeSet::new(), prefixes);
        }
        given
    }

    /// Gives back single addresses out of a surplus; says how many.
    fn give_back_singles(&mut self, surplus: u32) -> u32 {
        let stock = self.stock();
        let aim = self.aim();
        let mut excess = stock.excess(aim).min(surplus.saturating_sub(aim.above));
        let mut given = 0;
        for id in self.open() {
            let addresses: BTreeSet<IpAddr> = self.single_free(&id).take(excess as usize).collect();
            let count = self.give_back(&id, addresses, BTreeSet::new());
            excess -= count.min(excess);
            given += count;
        }
        given
    }

    fn single_free(&self, id: &EniId) -> impl Iterator<Item = IpAddr> {
        let singles = self.table.shelf(id).groups().filter(|(prefix, _)| prefix.is_none());
        let free = singles.flat_map(|(_, group)| group.free());
        free.filter(|address| self.table.get(*address).is_some_and(|slot| !slot.missing))
    }

    /// Gives back what is of a kind that is not used any more and that nobody has; of single addresses so many per ENI at most.
    fn give_back_outdated(&mut self, singles: usize) {
        for id in self.open() {
            let Some(eni) = self.enis.get(&id) else { continue };
            let old = self.table.shelf(&id).groups().filter(|(prefix, _)| self.outdated(eni, *prefix));
            let prefixes: BTreeSet<IpNet> =
                old.filter(|(_, group)| whole(group)).filter_map(|(prefix, _)| prefix).collect();
            let singles = if self.outdated(eni, None) { singles } else { 0 };
            let addresses: BTreeSet<IpAddr> = self.single_free(&id).take(singles).collect();
            self.give_back(&id, addresses, BTreeSet::new());
            self.give_back(&id, BTreeSet::new(), prefixes);
        }
    }

    /// Growth found no place, but what is to be replaced takes some: it goes at once. Of single addresses only one: whether the subnet has a
    /// free /28 shows when one is asked for, and a place is enough to ask. If it has, the others follow when the prefix is there.
    pub(super) fn make_room(&mut self) {
        if self.sees_well() && self.waiters.is_empty() {
            self.give_back_outdated(1);
        }
    }

    /// Places of what is to be replaced on an ENI and is nobody's.
    fn unused_outdated(&self, eni: &EniState) -> u32 {
        let groups = self.table.shelf(&eni.record.id).groups();
        let places =
            groups.filter(|(prefix, _)| self.outdated(eni, *prefix)).map(|(prefix, group)| match prefix {
                Some(_) => u32::from(whole(group)),
                None => group.tally.free,
            });
        places.sum()
    }

    /// Places on an ENI that become free when what is to be replaced goes.
    pub(super) fn replaceable(&self, eni: &EniState) -> u32 {
        let api = Api::UnassignPrivateIpAddresses;
        if eni.phase != Phase::Ready || self.backoffs.blocks_call(&eni.record.id, api, self.now) {
            return 0;
        }
        let groups = self.table.shelf(&eni.record.id).groups();
        let goes =
            groups.filter(|(prefix, _)| self.outdated(eni, *prefix)).map(|(prefix, group)| match prefix {
                Some(_) => u32::from(group.tally.leaving > 0),
                None => group.tally.leaving,
            });
        goes.sum::<u32>() + self.unused_outdated(eni)
    }

    /// Begins to give back from one ENI; says how many addresses.
    fn give_back(&mut self, id: &EniId, addresses: BTreeSet<IpAddr>, prefixes: BTreeSet<IpNet>) -> u32 {
        if addresses.is_empty() && prefixes.is_empty() {
            return 0;
        }
        let intent = IntentId(self.next_id());
        let change =
            Intent::Unassign { eni: id.clone(), addresses: addresses.clone(), prefixes: prefixes.clone() };
        let release =
            Release { eni: id.clone(), addresses, prefixes, phase: Releasing::Storing, unclear: false };
        let mut given = 0;
        for address in release.all() {
            self.table.set(address, State::Leaving { intent });
            given += 1;
        }
        self.releases.insert(intent, release);
        self.store(vec![StoreChange::PutIntent(intent, change)], Then::Unassign(intent));
        given
    }

    /// The intent to give addresses back could not be made durable: they stay.
    pub(super) fn keep_addresses(&mut self, intent: IntentId) {
        let Some(release) = self.releases.remove(&intent) else { return };
        for address in release.all() {
            let leaving = |state: &State| matches!(state, State::Leaving { intent: i } if *i == intent);
            if self.table.get(address).is_some_and(|slot| leaving(&slot.state)) {
                self.table.set(address, State::Free { since: self.now });
            }
        }
    }

    /// EC2 refused to take addresses back, so they stay, unless an earlier call may still take them. Their intent goes before anybody
    /// can get them.
    pub(super) fn put_back(&mut self, addresses: &BTreeSet<IpAddr>, prefixes: &BTreeSet<IpNet>) {
        let of =
            |(_, release): &(&IntentId, &Release)| !release.unclear && release.concerns(addresses, prefixes);
        let intents: Vec<IntentId> = self.releases.iter().filter(of).map(|(intent, _)| *intent).collect();
        for intent in intents {
            self.keep_addresses(intent);
            self.store(vec![StoreChange::DropIntent(intent)], Then::Nothing);
        }
    }
}
