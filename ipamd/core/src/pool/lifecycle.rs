//! ENIs, one step at a time: read, look, attach, let it die with its instance, bring into use; take out of the kernel, detach, delete. Each ENI moves by
//! itself. Nothing is polled but the end of a detachment; that an attachment is there, the kernel says.

use super::rest::Rest;
use super::store::Then;
use super::{Pool, Releasing};
use crate::action::{CloudCall, Reason};
use crate::address::State;
use crate::backoff::Key;
use crate::eni::{Leaving, Phase, Role, free_place};
use crate::finding::Finding;
use crate::prefix;
use crate::record::{Intent, IntentId, StoreChange};
use ipnet::IpNet;
use spur_cloud::{Api, CardIndex, DeviceIndex, EniId, EniQuery};
use std::collections::BTreeSet;
use std::net::IpAddr;

impl Pool {
    /// Reads all ENIs of the instance when it is time.
    pub(super) fn read(&mut self) {
        let blocked = self.backoffs.blocks(&Key::Api(Api::DescribeNetworkInterfaces), self.now);
        if self.sight.reading.is_some() || self.sight.next > self.now || blocked {
            return;
        }
        let reason = if self.sight.observed.is_some() { Reason::Reconcile } else { Reason::Start };
        let query = EniQuery::OfInstance(self.node.instance.clone());
        self.sight.reading = Some(self.call(CloudCall::ReadEnis(query), reason));
    }

    pub(super) fn move_enis(&mut self) {
        if self.sight.observed.is_none() {
            return;
        }
        self.make_enis();
        self.search();
        for id in self.enis.keys().cloned().collect::<Vec<_>>() {
            self.move_eni(&id);
        }
        self.unassign();
    }

    fn move_eni(&mut self, id: &EniId) {
        let Some(eni) = self.enis.get(id) else { return };
        if eni.busy.is_some() || eni.role == Role::Foreign {
            return;
        }
        if let Some(look) = eni.look.clone() {
            if look.at <= self.now
                && !self.backoffs.blocks(&Key::Api(Api::DescribeNetworkInterfaces), self.now)
            {
                let query = EniQuery::ByIds(BTreeSet::from([id.clone()]));
                let call = self.call(CloudCall::ReadEnis(query), Reason::Look { unclear: look.unclear });
                if let Some(eni) = self.enis.get_mut(id) {
                    eni.busy = Some(call);
                    eni.look = None;
                }
            }
            return;
        }
        match eni.phase {
            Phase::Unattached => self.attach(id),
            Phase::Attaching { .. } => self.bring_up(id),
            Phase::Ready => self.let_die(id),
            Phase::Leaving(leaving) => self.take_out(id, leaving),
        }
    }

    fn attach(&mut self, id: &EniId) {
        let patience = self.settings.timings.attach;
        if self.enis.get(id).is_some_and(|eni| eni.since.after(patience) <= self.now) {
            self.report(Finding::AttachTimedOut { eni: id.clone() });
            return self.leave(id);
        }
        if self.backoffs.blocks_call(id, Api::AttachNetworkInterface, self.now) {
            return;
        }
        let others = || self.enis.values().filter(|eni| eni.record.id != *id && eni.counts());
        let taken: BTreeSet<(CardIndex, DeviceIndex)> =
            others().filter_map(|eni| eni.record.place).map(|place| (place.card, place.index)).collect();
        let ordinals: BTreeSet<u8> =
            others().filter_map(|eni| eni.record.place).map(|place| place.ordinal).chain([0]).collect();
        let room = u32::try_from(taken.len()).is_ok_and(|count| count < self.max_enis());
        let Some(place) = free_place(&self.node.limits, &taken, &ordinals).filter(|_| room) else {
            // Somebody else took the place that it was made for.
            return self.leave(id);
        };
        if let Some(eni) = self.enis.get_mut(id) {
            eni.record.place = Some(place);
        }
        let instance = self.node.instance.clone();
        let call = CloudCall::AttachEni { eni: id.clone(), instance, index: place.index, card: place.card };
        self.call(call, Reason::BringUp);
    }

    /// Addresses of an ENI that pods have, or had a short time ago.
    pub(super) fn occupied(&self, id: &EniId) -> u32 {
        let tally = self.table.tally(id);
        tally.live() + tally.cooling
    }

    /// The kernel decides when an attachment is there.
    fn bring_up(&mut self, id: &EniId) {
        let Some(eni) = self.enis.get(id) else { return };
        let Some(since) = eni.waits_since() else { return };
        if self.kernel.has(id, eni.record.primary) {
            if let Some(eni) = self.enis.get_mut(id) {
                eni.phase = Phase::Ready;
                eni.looks = 0;
            }
        } else if since.after(self.settings.timings.attach) <= self.now && !eni.lost {
            if eni.role == Role::Secondary && self.occupied(id) == 0 {
                self.report(Finding::AttachTimedOut { eni: id.clone() });
                return self.leave(id);
            }
            if let Some(eni) = self.enis.get_mut(id) {
                eni.phase = Phase::Attaching { since: self.now };
            }
        }
        self.let_die(id);
    }

    /// Sees to it that the ENI does not outlive the instance; then nothing is left of its creation.
    fn let_die(&mut self, id: &EniId) {
        let Some(eni) = self.enis.get_mut(id) else { return };
        if let (Phase::Ready, true, Some(intent)) = (eni.phase, eni.dies_with_instance, eni.intent) {
            eni.intent = None;
            self.store(vec![StoreChange::DropIntent(intent)], Then::Nothing);
            return;
        }
        let Some(attachment) = eni.attachment.clone().filter(|_| !eni.dies_with_instance && !eni.lost) else {
            return;
        };
        if !self.backoffs.blocks_call(id, Api::ModifyNetworkInterfaceAttribute, self.now) {
            let call = CloudCall::SetDeleteOnTermination { eni: id.clone(), attachment };
            self.call(call, Reason::DieWithInstance);
        }
    }

    /// Begins to remove an ENI, unless a pod has one of its addresses.
    pub(super) fn leave(&mut self, id: &EniId) {
        let occupied = self.occupied(id);
        let Some(eni) = self.enis.get_mut(id) else { return };
        if eni.role != Role::Secondary || occupied > 0 || matches!(eni.phase, Phase::Leaving(_)) {
            return;
        }
        let (record, old) = (eni.record.clone(), eni.intent.take());
        eni.phase = Phase::Leaving(Leaving::Storing);
        eni.uncertain = None;
        let intent = IntentId(self.next_id());
        self.enis.entry(id.clone()).and_modify(|eni| eni.intent = Some(intent));
        let mut changes = vec![StoreChange::PutIntent(intent, Intent::Remove { eni: record })];
        changes.extend(old.map(StoreChange::DropIntent));
        self.store(changes, Then::Remove(id.clone()));
    }

    /// The intent to remove could not be made durable: the ENI stays.
    pub(super) fn keep_eni(&mut self, id: &EniId) {
        if let Some(eni) = self.enis.get_mut(id).filter(|eni| eni.phase == Phase::Leaving(Leaving::Storing)) {
            eni.intent = None;
            eni.phase = if eni.attachment.is_some() {
                Phase::Attaching { since: self.now }
            } else {
                Phase::Unattached
            };
        }
        self.look(id, "the attachment");
    }

    fn take_out(&mut self, id: &EniId, leaving: Leaving) {
        let Some(eni) = self.enis.get(id) else { return };
        match (leaving, eni.attachment.clone()) {
            (Leaving::Going, _) if !self.out_of_kernel(id) => {}
            (Leaving::Going, Some(attachment)) => {
                if !self.backoffs.blocks_call(id, Api::DetachNetworkInterface, self.now) {
                    self.call(CloudCall::DetachEni { eni: id.clone(), attachment }, Reason::Unneeded);
                }
            }
            (Leaving::Going, None) | (Leaving::Loose, _) => {
                if !self.backoffs.blocks_call(id, Api::DeleteNetworkInterface, self.now) {
                    self.enis.entry(id.clone()).and_modify(|eni| eni.phase = Phase::Leaving(Leaving::Loose));
                    self.call(CloudCall::DeleteEni { eni: id.clone() }, Reason::Unneeded);
                }
            }
            (Leaving::Storing | Leaving::Detaching, _) => {}
        }
    }

    fn out_of_kernel(&self, id: &EniId) -> bool {
        let Some(eni) = self.enis.get(id) else { return true };
        let mut addresses = self.table.on(id).map(|(address, _)| address).chain([eni.record.primary]);
        addresses.all(|address| self.kernel.lacks(id, address))
    }

    /// Gives addresses back that are out of the kernel.
    fn unassign(&mut self) {
        for intent in self.releases.keys().copied().collect::<Vec<_>>() {
            let Some(release) = self.releases.get(&intent).filter(|r| r.phase == Releasing::Going) else {
                continue;
            };
            let id = release.eni.clone();
            let idle = |eni: &crate::eni::EniState| eni.busy.is_none() && eni.look.is_none() && !eni.lost;
            if !self.enis.get(&id).is_some_and(idle)
                || self.backoffs.blocks_call(&id, Api::UnassignPrivateIpAddresses, self.now)
            {
                continue;
            }
            let ours = |address: &IpAddr| {
                let leaving = |state: &State| matches!(state, State::Leaving { intent: i } if *i == intent);
                self.table.get(*address).is_some_and(|slot| slot.eni == id && leaving(&slot.state))
            };
            let addresses: BTreeSet<IpAddr> = release.addresses.iter().copied().filter(ours).collect();
            let all = |prefix: &&IpNet| prefix::addresses(**prefix).all(|address| ours(&address));
            let prefixes: BTreeSet<IpNet> = release.prefixes.iter().filter(all).copied().collect();
            let mut leave =
                addresses.iter().copied().chain(prefixes.iter().copied().flat_map(prefix::addresses));
            if addresses.is_empty() && prefixes.is_empty() {
                self.close_releases(&id);
            } else if leave.all(|address| self.kernel.lacks(&id, address)) {
                self.call(CloudCall::Unassign { eni: id, addresses, prefixes }, Reason::Shrink);
            }
        }
    }

    /// Forgets an ENI that is gone, with all that it carried.
    pub(super) fn forget(&mut self, id: &EniId) {
        if self.table.tally(id).live() > 0 {
            return;
        }
        for address in self.table.on(id).map(|(address, _)| address).collect::<Vec<_>>() {
            self.forget_address(address);
        }
        let Some(eni) = self.enis.remove(id) else { return };
        let mut changes = vec![StoreChange::DropEni(id.clone())];
        changes.extend(eni.intent.map(StoreChange::DropIntent));
        let releases: Vec<_> =
            self.releases.iter().filter(|(_, r)| r.eni == *id).map(|(intent, _)| *intent).collect();
        for intent in releases {
            self.releases.remove(&intent);
            changes.push(StoreChange::DropIntent(intent));
        }
        self.backoffs.forget(id);
        self.drop_findings(id);
        if eni.stored || changes.len() > 1 {
            self.store(changes, Then::Nothing);
        }
    }

    /// Forgets an address that is gone, unless a pod has it. It still rests: should it come back soon, packets for its last
    /// holder may come with it.
    pub(super) fn forget_address(&mut self, address: IpAddr) {
        let rests = self.table.get(address).and_then(|slot| match slot.state {
            State::Cooling { until, busy } => Some(Rest { until, busy }),
            _ => None,
        });
        self.resting.extend(rests.map(|rest| (address, rest)));
        self.table.remove(address);
    }
}
