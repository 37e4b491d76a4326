//! Who has which address: one slot per address that the node's ENIs carry, each in exactly one state. The table enforces that an
//! address has one holder and a holder one address; when a state may change is decided by the pool.

use crate::event::Ticket;
use crate::record::{AttachmentKey, Holding, IntentId};
use crate::time::Timestamp;
use spur_cloud::EniId;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

/// What becomes of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Nobody's, since then.
    Free { since: Timestamp },
    /// Being made durable for a pod.
    Granting { key: AttachmentKey, holding: Holding, grant: Grant },
    /// A pod's.
    Held { key: AttachmentKey, holding: Holding },
    /// A pod's no more, as soon as that is durable.
    Releasing { key: AttachmentKey, holding: Holding, tickets: Vec<Ticket> },
    /// Nobody's, but packets for the last holder may still be on their way.
    Cooling { until: Timestamp },
    /// On its way back to the subnet.
    Leaving { intent: IntentId },
}

/// What happens when a grant is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Grant {
    /// The pod is told.
    Answer(Ticket),
    /// It is released again, because the pod is gone; these tickets are told.
    Undo(Vec<Ticket>),
}

/// An address of one of our ENIs.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// Whose.
    pub(crate) eni: EniId,
    /// What becomes of it.
    pub(crate) state: State,
    /// When EC2 last gave it: a reading may not show it until some time later.
    pub(crate) given: Timestamp,
    /// EC2 does not show it.
    pub(crate) missing: bool,
    /// A call that takes it away may still come late: nobody gets it before a later reading shows it.
    pub(crate) doubtful: bool,
}

impl Slot {
    /// Whether a pod has it, or had it so lately that it counts.
    pub(crate) const fn in_use(&self) -> bool {
        !matches!(self.state, State::Free { .. } | State::Leaving { .. })
    }

    /// Whether a pod has it.
    pub(crate) const fn live(&self) -> bool {
        self.in_use() && !matches!(self.state, State::Cooling { .. })
    }

    /// Whether nobody has it and it stays.
    pub(crate) const fn free(&self) -> bool {
        matches!(self.state, State::Free { .. })
    }
}

/// Addresses of an ENI by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) free: u32,
    pub(crate) live: u32,
    pub(crate) cooling: u32,
    pub(crate) leaving: u32,
}

impl Tally {
    /// All of them.
    pub(crate) const fn all(self) -> u32 {
        self.free + self.live + self.cooling + self.leaving
    }
}

/// All addresses.
#[derive(Debug, Default)]
pub(crate) struct AddressTable {
    slots: BTreeMap<IpAddr, Slot>,
    holders: BTreeMap<AttachmentKey, IpAddr>,
}

impl AddressTable {
    /// The slot of an address.
    pub(crate) fn get(&self, address: IpAddr) -> Option<&Slot> {
        self.slots.get(&address)
    }

    /// Notes whether EC2 shows the address.
    pub(crate) fn set_missing(&mut self, address: IpAddr, missing: bool) {
        if let Some(slot) = self.slots.get_mut(&address) {
            slot.missing = missing;
        }
    }

    /// Notes that EC2 gave the address again.
    pub(crate) fn give_again(&mut self, address: IpAddr, given: Timestamp) {
        if let Some(slot) = self.slots.get_mut(&address) {
            (slot.given, slot.missing) = (given, false);
        }
    }

    /// Notes whether the address may still be taken away by a call of ours.
    pub(crate) fn set_doubtful(&mut self, address: IpAddr, doubtful: bool) {
        if let Some(slot) = self.slots.get_mut(&address) {
            slot.doubtful = doubtful;
        }
    }

    /// The address of a holder, while it is granted, held or released.
    pub(crate) fn of(&self, key: &AttachmentKey) -> Option<IpAddr> {
        self.holders.get(key).copied()
    }

    /// Adds an address that is not there yet.
    pub(crate) fn add(&mut self, address: IpAddr, eni: EniId, state: State, given: Timestamp) {
        let Entry::Vacant(slot) = self.slots.entry(address) else { return };
        slot.insert(Slot {
            eni,
            state: State::Free { since: given },
            given,
            missing: false,
            doubtful: false,
        });
        self.set(address, state);
    }

    /// Changes the state and keeps the index of holders true.
    pub(crate) fn set(&mut self, address: IpAddr, state: State) {
        let Some(slot) = self.slots.get_mut(&address) else { return };
        if let State::Granting { key, .. } | State::Held { key, .. } | State::Releasing { key, .. } =
            &slot.state
        {
            self.holders.remove(key);
        }
        if let State::Granting { key, .. } | State::Held { key, .. } | State::Releasing { key, .. } = &state {
            self.holders.insert(key.clone(), address);
        }
        slot.state = state;
    }

    /// Forgets an address, unless a pod has it.
    pub(crate) fn remove(&mut self, address: IpAddr) -> bool {
        let gone = self.slots.get(&address).is_some_and(|slot| !slot.live());
        if gone {
            self.slots.remove(&address);
        }
        gone
    }

    /// All slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (IpAddr, &Slot)> {
        self.slots.iter().map(|(address, slot)| (*address, slot))
    }

    /// The slots of an ENI.
    pub(crate) fn on<'a>(&'a self, eni: &'a EniId) -> impl Iterator<Item = (IpAddr, &'a Slot)> {
        self.iter().filter(move |(_, slot)| slot.eni == *eni)
    }

    /// Counts the addresses of an ENI.
    pub(crate) fn tally(&self, eni: &EniId) -> Tally {
        self.on(eni).fold(Tally::default(), |mut tally, (_, slot)| {
            match slot.state {
                State::Free { .. } => tally.free += 1,
                State::Cooling { .. } => tally.cooling += 1,
                State::Leaving { .. } => tally.leaving += 1,
                State::Granting { .. } | State::Held { .. } | State::Releasing { .. } => tally.live += 1,
            }
            tally
        })
    }
}
