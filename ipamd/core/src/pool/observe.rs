//! The comparison with EC2: which ENIs there are and where they are attached; their addresses are `compare`'s. What EC2 shows is taken in; what it does
//! not show is believed only when it had time to show it, and never against a live pod. An ENI that a call changed while EC2 was being
//! read is left out of that reading.

use super::Pool;
use crate::eni::{EniState, Leaving, Phase, Role, ordinal, record_of};
use crate::finding::Finding;
use crate::record::Place;
use crate::time::Timestamp;
use spur_cloud::{AttachmentStatus, Eni, EniId, EniStatus};
use std::collections::BTreeSet;

/// When a reading began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    step: u64,
    pub(super) at: Timestamp,
}

impl Pool {
    /// Takes in a reading of all ENIs of the instance.
    pub(super) fn observe(&mut self, step: u64, at: Timestamp, enis: &[Eni]) {
        let reading = Reading { step, at };
        let first = self.sight.observed.is_none();
        for seen in enis {
            self.see(reading, seen);
            if seen.id == self.node.primary {
                self.sight.vpc = Some(seen.vpc.clone());
            }
        }
        for id in self.enis.keys().cloned().collect::<Vec<_>>() {
            if !enis.iter().any(|seen| seen.id == id) {
                self.not_listed(reading, &id, first);
            }
        }
        if first {
            self.look_after_start();
        }
        self.catch_up();
        self.sight.observed = Some(self.now);
        self.sight.next = self.now.after(self.jitter.spread(self.settings.timings.reconcile));
    }

    /// Takes in the answer to a look at one ENI.
    pub(super) fn looked(&mut self, step: u64, at: Timestamp, id: &EniId, enis: &[Eni]) {
        let reading = Reading { step, at };
        match enis.iter().find(|seen| seen.id == *id) {
            Some(seen) => self.see(reading, seen),
            None => self.not_there(reading, id),
        }
    }

    /// Whether a reading shows the ENI as our calls left it: none is under way, and none ended since it began.
    const fn fresh(reading: Reading, eni: &EniState) -> bool {
        eni.busy.is_none() && eni.touched < reading.step
    }

    fn settled(&self, reading: Reading, eni: &EniState) -> bool {
        eni.changed.after(self.settings.timings.settle) <= reading.at
    }

    /// An ENI that should be in the list is not: ask for it by its id, which tells more.
    fn not_listed(&mut self, reading: Reading, id: &EniId, first: bool) {
        let Some(eni) = self.enis.get(id) else { return };
        let expected = match eni.phase {
            Phase::Attaching { .. } | Phase::Ready | Phase::Leaving(Leaving::Going) => true,
            Phase::Unattached | Phase::Leaving(_) => false,
        };
        if eni.role == Role::Foreign {
            self.forget(id);
        } else if expected
            && (first || Self::fresh(reading, eni) && self.settled(reading, eni))
            && eni.look.is_none()
        {
            let now = self.now;
            self.enis.entry(id.clone()).and_modify(|eni| eni.look_at(now, "the attachment"));
        }
    }

    /// EC2 does not know the ENI.
    fn not_there(&mut self, reading: Reading, id: &EniId) {
        let Some(eni) = self.enis.get(id) else { return };
        let deleted = eni.phase == Phase::Leaving(Leaving::Loose);
        if !Self::fresh(reading, eni) || !(deleted || self.settled(reading, eni)) {
            return self.look(id, "whether EC2 knows the state");
        }
        self.gone(id);
    }

    /// The ENI is not attached to this instance.
    fn gone(&mut self, id: &EniId) {
        let live = self.table.tally(id).live();
        let Some(eni) = self.enis.get_mut(id) else { return };
        if live > 0 || eni.role == Role::Primary {
            eni.lost = true;
            self.raise(Finding::HeldEniGone { eni: id.clone() });
        } else {
            if !matches!(eni.phase, Phase::Leaving(_)) {
                self.report(Finding::EniGone { eni: id.clone() });
            }
            self.forget(id);
        }
    }

    /// Takes in what EC2 shows of one ENI.
    fn see(&mut self, reading: Reading, seen: &Eni) {
        let ours = |a: &spur_cloud::Attachment| a.instance.as_ref() == Some(&self.node.instance);
        let attached = seen.attachment.as_ref().filter(|a| ours(a) && a.status != AttachmentStatus::Detached);
        let new = !self.enis.contains_key(&seen.id);
        if new {
            let Some(attachment) = attached else { return };
            self.meet(seen, attachment);
        }
        let Some(eni) = self.enis.get(&seen.id) else { return };
        if !new && !Self::fresh(reading, eni) {
            if eni.look.is_none() && eni.phase == Phase::Leaving(Leaving::Detaching) {
                self.look(&seen.id, "the detachment");
            }
            return;
        }
        if !self.heed_tags(seen, attached) {
            return;
        }
        match attached {
            Some(attachment) if attachment.status == AttachmentStatus::Detaching => {
                self.see_detaching(&seen.id)
            }
            Some(attachment) => self.see_attached(reading, &seen.id, attachment),
            None => self.see_unattached(reading, seen),
        }
        if self.enis.get(&seen.id).is_some_and(|eni| !eni.lost && !matches!(eni.phase, Phase::Leaving(_))) {
            self.see_addresses(reading, seen, new);
        } else {
            self.see_leaving(seen);
        }
    }

    /// An attached ENI that is new to us.
    fn meet(&mut self, seen: &Eni, attachment: &spur_cloud::Attachment) {
        let role = if seen.id == self.node.primary {
            Role::Primary
        } else if self.settings.eni.owns(seen) {
            Role::Secondary
        } else {
            self.raise(Finding::ForeignEni { eni: seen.id.clone() });
            Role::Foreign
        };
        let place = self.place_of(&seen.id, attachment, role);
        let mut eni =
            EniState::new(record_of(seen, Some(place)), role, Phase::Attaching { since: self.now }, self.now);
        eni.attachment = Some(attachment.id.clone());
        self.enis.insert(seen.id.clone(), eni);
    }

    /// An operator may take an ENI out of our hands at any time, and give it back. One with pods is left as it is until they are gone.
    /// Says whether it is ours.
    fn heed_tags(&mut self, seen: &Eni, attachment: Option<&spur_cloud::Attachment>) -> bool {
        let ours = self.settings.eni.owns(seen);
        let occupied = self.occupied(&seen.id) > 0;
        let Some(eni) = self.enis.get_mut(&seen.id) else { return false };
        match eni.role {
            Role::Primary => return true,
            Role::Foreign => {
                let Some(attachment) = attachment.filter(|_| ours) else { return false };
                self.forget(&seen.id);
                self.meet(seen, attachment);
                return true;
            }
            Role::Secondary => {}
        }
        eni.retired = !ours && !matches!(eni.phase, Phase::Leaving(_));
        if !eni.retired || occupied || eni.phase != Phase::Ready || eni.busy.is_some() {
            return true;
        }
        let mut foreign = EniState::new(eni.record.clone(), Role::Foreign, Phase::Ready, self.now);
        foreign.attachment = eni.attachment.clone();
        self.forget(&seen.id);
        self.enis.insert(seen.id.clone(), foreign);
        self.raise(Finding::ForeignEni { eni: seen.id.clone() });
        false
    }

    fn place_of(&self, id: &EniId, attachment: &spur_cloud::Attachment, role: Role) -> Place {
        let (card, index) = (attachment.card, attachment.device_index);
        let known = self.enis.get(id).and_then(|eni| eni.record.place);
        if let Some(place) = known.filter(|place| (place.card, place.index) == (card, index)) {
            return place;
        }
        let others = self.enis.values().filter(|eni| eni.record.id != *id && eni.role != Role::Foreign);
        let taken: BTreeSet<u8> =
            others.filter_map(|eni| eni.record.place).map(|place| place.ordinal).collect();
        let number = match role {
            Role::Primary => 0,
            Role::Secondary | Role::Foreign => ordinal(&self.node.limits, card, index, &taken),
        };
        Place { card, index, ordinal: number }
    }

    fn see_attached(&mut self, reading: Reading, id: &EniId, attachment: &spur_cloud::Attachment) {
        let Some(eni) = self.enis.get(id) else { return };
        let place = self.place_of(id, attachment, eni.role);
        let settled = self.settled(reading, eni);
        let now = self.now;
        let Some(eni) = self.enis.get_mut(id) else { return };
        eni.attachment = Some(attachment.id.clone());
        if eni.record.place != Some(place) {
            eni.record.place = Some(place);
            eni.stored = false;
        }
        eni.dies_with_instance = eni.dies_with_instance || attachment.delete_on_termination;
        eni.lost = false;
        eni.looks = 0;
        match eni.phase {
            Phase::Unattached => eni.phase = Phase::Attaching { since: now },
            Phase::Leaving(Leaving::Loose) => eni.phase = Phase::Leaving(Leaving::Going),
            Phase::Leaving(Leaving::Detaching) if settled => eni.phase = Phase::Leaving(Leaving::Going),
            Phase::Leaving(Leaving::Detaching) => self.look(id, "the detachment"),
            _ => {}
        }
    }

    fn see_detaching(&mut self, id: &EniId) {
        let tally = self.table.tally(id);
        let Some(eni) = self.enis.get_mut(id) else { return };
        if matches!(eni.phase, Phase::Leaving(Leaving::Going | Leaving::Detaching)) {
            eni.phase = Phase::Leaving(Leaving::Detaching);
        } else if tally.live() > 0 || eni.role == Role::Primary {
            eni.lost = true;
            self.raise(Finding::HeldEniGone { eni: id.clone() });
        } else {
            eni.lost = true;
        }
        self.look(id, "the detachment");
    }

    fn see_unattached(&mut self, reading: Reading, seen: &Eni) {
        let id = &seen.id;
        let occupied = self.occupied(id);
        let Some(eni) = self.enis.get(id) else { return };
        let (phase, settled, lost) = (eni.phase, self.settled(reading, eni), eni.lost);
        let loose = seen.status == EniStatus::Available && seen.attachment.is_none();
        match phase {
            Phase::Unattached if loose => {}
            Phase::Unattached => self.look(id, "the attachment"),
            Phase::Leaving(Leaving::Detaching | Leaving::Going) if loose => {
                let keep_going = phase == Phase::Leaving(Leaving::Going);
                self.enis.entry(id.clone()).and_modify(|eni| {
                    eni.attachment = None;
                    eni.phase = Phase::Leaving(if keep_going { Leaving::Going } else { Leaving::Loose });
                });
            }
            Phase::Leaving(Leaving::Detaching) => self.look(id, "the detachment"),
            Phase::Leaving(_) => {}
            Phase::Attaching { .. } | Phase::Ready if !settled && !lost => self.look(id, "the attachment"),
            Phase::Attaching { .. } | Phase::Ready if self.table.tally(id).live() > 0 || !loose => {
                self.gone(id)
            }
            // It goes when nothing on it rests any more; until then it is nobody's, but not forgotten.
            Phase::Attaching { .. } | Phase::Ready if occupied > 0 => {
                self.enis.entry(id.clone()).and_modify(|eni| eni.lost = true);
                self.look(id, "the attachment");
            }
            Phase::Attaching { .. } | Phase::Ready => {
                self.report(Finding::EniGone { eni: id.clone() });
                self.enis.entry(id.clone()).and_modify(|eni| eni.attachment = None);
                self.leave(id);
            }
        }
    }
}
