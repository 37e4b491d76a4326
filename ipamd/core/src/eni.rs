//! The life of an ENI on this node: unattached, attaching, ready, leaving. One changing call at a time per ENI, so that every outcome can
//! be told apart; which call comes next is decided by `pool::lifecycle`.

use crate::action::CallId;
use crate::placement::Ask;
use crate::record::{EniRecord, IntentId, Place};
use crate::time::Timestamp;
use spur_cloud::{AttachmentId, CardIndex, DeviceIndex, Eni};
use spur_quotas::InstanceLimits;
use std::collections::BTreeSet;

/// The highest ordinal that a secondary ENI gets: the kernel's layout has room for so many.
pub const MAX_ORDINAL: u8 = 99;

/// What an ENI is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The instance's own; filled, never removed.
    Primary,
    /// Made by us.
    Secondary,
    /// Somebody else's: counted, otherwise left alone.
    Foreign,
}

/// Where it is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not attached yet.
    Unattached,
    /// Attached for EC2; the kernel is not ready.
    Attaching {
        /// Since when.
        since: Timestamp,
    },
    /// In use.
    Ready,
    /// On its way out.
    Leaving(Leaving),
}

/// How far out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// The intent is being made durable.
    Storing,
    /// To be taken out of the kernel, then detached.
    Going,
    /// Detachment was accepted.
    Detaching,
    /// Not attached: to be deleted.
    Loose,
}

/// A call whose outcome is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Uncertain {
    /// Since when.
    pub(crate) since: Timestamp,
    /// What it may have brought.
    pub(crate) ask: Ask,
}

/// A question to EC2 about one ENI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    /// When to ask.
    pub(crate) at: Timestamp,
    /// What.
    pub(crate) unclear: String,
}

/// One ENI.
#[derive(Debug, Clone)]
pub(crate) struct EniState {
    pub(crate) record: EniRecord,
    pub(crate) role: Role,
    pub(crate) phase: Phase,
    pub(crate) attachment: Option<AttachmentId>,
    /// Whether EC2 deletes it with its instance.
    pub(crate) dies_with_instance: bool,
    /// Since when it is known.
    pub(crate) since: Timestamp,
    /// The intent to bring it in or to take it out.
    pub(crate) intent: Option<IntentId>,
    /// Whether the record is durable.
    pub(crate) stored: bool,
    /// The call under way.
    pub(crate) busy: Option<CallId>,
    pub(crate) uncertain: Option<Uncertain>,
    pub(crate) look: Option<Look>,
    /// Looks without an answer that helps; each doubles the wait.
    pub(crate) looks: u32,
    /// EC2 does not show it attached to us, but pods hold its addresses.
    pub(crate) lost: bool,
    /// An operator took it out of our hands while pods had its addresses: it is left as it is until they are gone.
    pub(crate) retired: bool,
    /// The step in which a call last began or ended: an observation begun before says nothing.
    pub(crate) touched: u64,
    /// When it last changed: an observation soon after may not show that.
    pub(crate) changed: Timestamp,
}

impl EniState {
    /// An ENI in this phase of which nothing else is known.
    pub(crate) const fn new(record: EniRecord, role: Role, phase: Phase, now: Timestamp) -> Self {
        Self {
            record,
            role,
            phase,
            attachment: None,
            dies_with_instance: matches!(role, Role::Primary),
            since: now,
            intent: None,
            stored: false,
            busy: None,
            uncertain: None,
            look: None,
            looks: 0,
            lost: false,
            retired: false,
            touched: 0,
            changed: now,
        }
    }

    /// Whether addresses can be put on it, now or when it is ready.
    pub(crate) const fn grows(&self) -> bool {
        !self.lost
            && !self.retired
            && !matches!(self.role, Role::Foreign)
            && matches!(self.phase, Phase::Unattached | Phase::Attaching { .. } | Phase::Ready)
    }

    /// Whether it occupies a place on the instance, or is about to.
    pub(crate) const fn counts(&self) -> bool {
        !matches!(self.phase, Phase::Leaving(Leaving::Loose))
            && (self.attachment.is_some()
                || self.record.place.is_some()
                || matches!(self.phase, Phase::Unattached))
    }

    /// Whether the kernel shall know it.
    pub(crate) const fn in_kernel(&self) -> bool {
        !matches!(self.role, Role::Foreign) && matches!(self.phase, Phase::Attaching { .. } | Phase::Ready)
    }

    /// Since when it is on its way in, attached or not.
    pub(crate) const fn waits_since(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Unattached => Some(self.since),
            Phase::Attaching { since } => Some(since),
            _ => None,
        }
    }

    /// Asks for a look; an earlier one that is due sooner stays.
    pub(crate) fn look_at(&mut self, at: Timestamp, unclear: &str) {
        if self.look.as_ref().is_none_or(|look| look.at > at) {
            self.look = Some(Look { at, unclear: format!("{unclear} of {}", self.record.id) });
        }
    }
}

/// The record of an ENI that EC2 shows.
pub(crate) fn record_of(seen: &Eni, place: Option<Place>) -> EniRecord {
    EniRecord {
        id: seen.id.clone(),
        mac: seen.mac,
        subnet: seen.subnet.clone(),
        primary: seen.primary,
        place,
    }
}

/// The lowest place that is free, default card first.
pub(crate) fn free_place(
    limits: &InstanceLimits,
    taken: &BTreeSet<(CardIndex, DeviceIndex)>,
    ordinals: &BTreeSet<u8>,
) -> Option<Place> {
    let mut cards: Vec<_> = limits.cards().iter().collect();
    cards.sort_by_key(|card| (card.index != limits.default_card(), card.index));
    let card = cards.into_iter().find(|card| {
        let used = taken.iter().filter(|(used, _)| used.0 == card.index).count();
        used < card.max_enis as usize
    })?;
    let at = CardIndex(card.index);
    // Index 0 is the primary ENI's on its card; on other cards EC2 takes any, and 1 is what it documents.
    let index = (1..).map(DeviceIndex).find(|index| !taken.contains(&(at, *index)))?;
    Some(Place { card: at, index, ordinal: ordinal(limits, at, index, ordinals) })
}

/// A number from 1 to [`MAX_ORDINAL`] for a place: the same place has the same number on every start, unless it is taken.
pub(crate) fn ordinal(
    limits: &InstanceLimits,
    card: CardIndex,
    index: DeviceIndex,
    taken: &BTreeSet<u8>,
) -> u8 {
    let stride = limits.cards().iter().map(|card| card.max_enis).max().unwrap_or(1).saturating_add(1);
    let usual = card.0.saturating_mul(stride).saturating_add(index.0);
    let usual = u8::try_from(usual).ok().filter(|number| (1..=MAX_ORDINAL).contains(number));
    usual
        .filter(|number| !taken.contains(number))
        .or_else(|| (1..=MAX_ORDINAL).rev().find(|number| !taken.contains(number)))
        .unwrap_or(MAX_ORDINAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spur_quotas::{Hypervisor, NetworkCard};

    fn limits(cards: &[(u32, u32)], default: u32) -> InstanceLimits {
        let cards = cards
            .iter()
            .map(|(index, max_enis)| NetworkCard { index: *index, max_enis: *max_enis })
            .collect();
        InstanceLimits::new(15, 10, cards, default, Hypervisor::Nitro, false).unwrap()
    }

    fn places(limits: &InstanceLimits) -> Vec<(u32, u32, u8)> {
        let mut taken = BTreeSet::from([(CardIndex(limits.default_card()), DeviceIndex(0))]);
        let mut ordinals = BTreeSet::from([0]);
        std::iter::from_fn(|| {
            let place = free_place(limits, &taken, &ordinals)?;
            taken.insert((place.card, place.index));
            ordinals.insert(place.ordinal);
            Some((place.card.0, place.index.0, place.ordinal))
        })
        .collect()
    }

    #[test]
    fn places_are_taken_from_the_lowest_and_no_card_beyond_its_quota() {
        assert_eq!(places(&limits(&[(0, 3)], 0)), [(0, 1, 1), (0, 2, 2)]);
        assert_eq!(places(&limits(&[(0, 2), (1, 2)], 0)), [(0, 1, 1), (1, 1, 4), (1, 2, 5)]);
        assert_eq!(
            places(&limits(&[(0, 1), (1, 2)], 1)),
            [(1, 1, 4), (0, 1, 1)],
            "the default card is first"
        );
    }

    #[test]
    fn a_place_beyond_the_marks_gets_a_free_number() {
        let limits = limits(&[(0, 3)], 0);
        let number = |index, taken: &[u8]| {
            ordinal(&limits, CardIndex(0), DeviceIndex(index), &taken.iter().copied().collect())
        };
        assert_eq!((number(1, &[0]), number(1, &[1]), number(300, &[]), number(300, &[99])), (1, 99, 99, 98));
    }
}
