//! All addresses of the node, and what is to be known about them at any moment without looking at each: by holder, by end of rest, by ENI
//! and prefix with counts. Every change of a slot goes through [`AddressTable::edit`], which takes it out of all indices and puts it
//! back, so that a step costs what changed and not what there is. The table enforces that an address has one holder and a
//! holder one address.

use crate::address::{Grant, Slot, State, Tally};
use crate::event::Ticket;
use crate::record::AttachmentKey;
use crate::time::Timestamp;
use ipnet::IpNet;
use spur_cloud::EniId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// All addresses.
#[derive(Debug, Default)]
pub(crate) struct AddressTable {
    slots: BTreeMap<IpAddr, Slot>,
    holders: BTreeMap<AttachmentKey, IpAddr>,
    grants: BTreeMap<Ticket, IpAddr>,
    rests: BTreeSet<(Timestamp, IpAddr)>,
    shelves: BTreeMap<EniId, Shelf>,
    changes: u64,
}

/// What an ENI carries.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    addresses: BTreeSet<IpAddr>,
    groups: BTreeMap<Option<IpNet>, Group>,
    tally: Tally,
    missing: BTreeSet<IpAddr>,
    doubtful: BTreeSet<IpAddr>,
    revision: u64,
}

/// The addresses of a prefix, or those of an ENI that came one by one.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// By state.
    pub(crate) tally: Tally,
    free: BTreeSet<(Timestamp, IpAddr)>,
}

impl Group {
    /// The free ones, longest free first: an address comes back as late as possible.
    pub(crate) fn free(&self) -> impl Iterator<Item = IpAddr> {
        self.free.iter().map(|(_, address)| *address)
    }

    /// Whether nobody has any of them, and nothing rests.
    pub(crate) const fn unused(&self) -> bool {
        self.tally.free > 0 && self.tally.free == self.tally.all()
    }
}

static NOTHING: Shelf = Shelf {
    addresses: BTreeSet::new(),
    groups: BTreeMap::new(),
    tally: Tally { free: 0, held: 0, releasing: 0, cooling: 0, leaving: 0 },
    missing: BTreeSet::new(),
    doubtful: BTreeSet::new(),
    revision: 0,
};

impl Shelf {
    /// Addresses by state.
    pub(crate) const fn tally(&self) -> Tally {
        self.tally
    }

    /// By prefix; first those that came one by one.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (Option<IpNet>, &Group)> {
        self.groups.iter().map(|(prefix, group)| (*prefix, group))
    }

    /// The prefixes on it.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        self.groups.keys().filter_map(|prefix| *prefix)
    }

    /// Addresses that came one by one.
    pub(crate) fn singles(&self) -> u32 {
        self.groups.get(&None).map_or(0, |group| group.tally.all())
    }

    /// Places that all of it takes.
    pub(crate) fn places(&self) -> u32 {
        self.singles() + u32::try_from(self.prefixes().count()).unwrap_or(u32::MAX)
    }

    /// Addresses that EC2 does not show.
    pub(crate) const fn missing(&self) -> &BTreeSet<IpAddr> {
        &self.missing
    }

    /// Addresses that a call on its way may still take.
    pub(crate) const fn doubtful(&self) -> &BTreeSet<IpAddr> {
        &self.doubtful
    }

    /// Differs whenever the addresses differ that the kernel shall know.
    pub(crate) const fn revision(&self) -> u64 {
        self.revision
    }
}

impl AddressTable {
    /// The slot of an address.
    pub(crate) fn get(&self, address: IpAddr) -> Option<&Slot> {
        self.slots.get(&address)
    }

    /// Notes whether EC2 shows the address.
    pub(crate) fn set_missing(&mut self, address: IpAddr, missing: bool) {
        if self.get(address).is_some_and(|slot| slot.missing != missing) {
            self.edit(address, |slot| slot.missing = missing);
        }
    }

    /// Notes that EC2 gave the address again.
    pub(crate) fn give_again(&mut self, address: IpAddr, given: Timestamp) {
        self.edit(address, |slot| (slot.given, slot.missing) = (given, false));
    }

    /// Notes whether the address may still be taken away by a call of ours.
    pub(crate) fn set_doubtful(&mut self, address: IpAddr, doubtful: bool) {
        if self.get(address).is_some_and(|slot| slot.doubtful != doubtful) {
            self.edit(address, |slot| slot.doubtful = doubtful);
        }
    }

    /// Notes in which prefix the address comes.
    pub(crate) fn regroup(&mut self, address: IpAddr, prefix: Option<IpNet>) {
        if self.get(address).is_some_and(|slot| slot.prefix != prefix) {
            self.edit(address, |slot| slot.prefix = prefix);
        }
    }

    /// The address of a holder, while it is granted, held or released.
    pub(crate) fn of(&self, key: &AttachmentKey) -> Option<IpAddr> {
        self.holders.get(key).copied()
    }

    /// The address that is being granted to answer this.
    pub(crate) fn granting(&self, ticket: Ticket) -> Option<IpAddr> {
        self.grants.get(&ticket).copied()
    }

    /// Adds an address that is not there yet.
    pub(crate) fn add(
        &mut self,
        address: IpAddr,
        eni: EniId,
        prefix: Option<IpNet>,
        state: State,
        given: Timestamp,
    ) {
        if self.slots.contains_key(&address) {
            return;
        }
        let slot = Slot { eni, prefix, state, given, missing: false, doubtful: false };
        self.index(address, &slot);
        if slot.in_kernel() {
            self.revise(&slot.eni);
        }
        self.slots.insert(address, slot);
    }

    /// Changes the state.
    pub(crate) fn set(&mut self, address: IpAddr, state: State) {
        self.edit(address, |slot| slot.state = state);
    }

    /// Forgets an address, unless a pod has it.
    pub(crate) fn remove(&mut self, address: IpAddr) {
        if self.slots.get(&address).is_some_and(|slot| !slot.live())
            && let Some(slot) = self.slots.remove(&address)
        {
            self.unindex(address, &slot);
            if slot.in_kernel() {
                self.revise(&slot.eni);
            }
        }
    }

    fn edit(&mut self, address: IpAddr, change: impl FnOnce(&mut Slot)) {
        let Some(mut slot) = self.slots.remove(&address) else { return };
        let before = slot.in_kernel();
        self.unindex(address, &slot);
        change(&mut slot);
        self.index(address, &slot);
        if slot.in_kernel() != before {
            self.revise(&slot.eni);
        }
        self.slots.insert(address, slot);
    }

    fn revise(&mut self, eni: &EniId) {
        self.changes += 1;
        if let Some(shelf) = self.shelves.get_mut(eni) {
            shelf.revision = self.changes;
        }
    }

    fn index(&mut self, address: IpAddr, slot: &Slot) {
        match &slot.state {
            State::Granting { key, grant, .. } => {
                self.holders.insert(key.clone(), address);
                if let Grant::Answer(ticket) = grant {
                    self.grants.insert(*ticket, address);
                }
            }
            State::Held { key, .. } | State::Releasing { key, .. } => {
                self.holders.insert(key.clone(), address);
            }
            State::Cooling { until, .. } => drop(self.rests.insert((*until, address))),
            State::Free { .. } | State::Leaving { .. } => {}
        }
        if !self.shelves.contains_key(&slot.eni) {
            self.shelves.insert(slot.eni.clone(), Shelf::default());
        }
        let Some(shelf) = self.shelves.get_mut(&slot.eni) else { return };
        let group = shelf.groups.entry(slot.prefix).or_default();
        *group.tally.of(&slot.state) += 1;
        *shelf.tally.of(&slot.state) += 1;
        if let State::Free { since } = slot.state {
            group.free.insert((since, address));
        }
        shelf.addresses.insert(address);
        for (set, so) in [(&mut shelf.missing, slot.missing), (&mut shelf.doubtful, slot.doubtful)] {
            if so {
                set.insert(address);
            }
        }
    }

    fn unindex(&mut self, address: IpAddr, slot: &Slot) {
        match &slot.state {
            State::Granting { key, grant, .. } => {
                self.holders.remove(key);
                if let Grant::Answer(ticket) = grant {
                    self.grants.remove(ticket);
                }
            }
            State::Held { key, .. } | State::Releasing { key, .. } => drop(self.holders.remove(key)),
            State::Cooling { until, .. } => drop(self.rests.remove(&(*until, address))),
            State::Free { .. } | State::Leaving { .. } => {}
        }
        let Some(shelf) = self.shelves.get_mut(&slot.eni) else { return };
        if let Some(group) = shelf.groups.get_mut(&slot.prefix) {
            *group.tally.of(&slot.state) -= 1;
            if let State::Free { since } = slot.state {
                group.free.remove(&(since, address));
            }
            if group.tally.all() == 0 {
                shelf.groups.remove(&slot.prefix);
            }
        }
        *shelf.tally.of(&slot.state) -= 1;
        shelf.addresses.remove(&address);
        shelf.missing.remove(&address);
        shelf.doubtful.remove(&address);
    }

    /// All slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (IpAddr, &Slot)> {
        self.slots.iter().map(|(address, slot)| (*address, slot))
    }

    /// What an ENI carries.
    pub(crate) fn shelf(&self, eni: &EniId) -> &Shelf {
        self.shelves.get(eni).unwrap_or(&NOTHING)
    }

    /// The slots of an ENI.
    pub(crate) fn on(&self, eni: &EniId) -> impl Iterator<Item = (IpAddr, &Slot)> {
        self.shelf(eni).addresses.iter().filter_map(|address| Some((*address, self.get(*address)?)))
    }

    /// Counts the addresses of an ENI.
    pub(crate) fn tally(&self, eni: &EniId) -> Tally {
        self.shelf(eni).tally
    }

    /// The ENI that carries the prefix.
    pub(crate) fn carrier(&self, prefix: IpNet) -> Option<&EniId> {
        let on = |address| self.get(address).filter(|slot| slot.prefix == Some(prefix)).map(|slot| &slot.eni);
        crate::prefix::addresses(prefix).find_map(on)
    }

    /// The addresses whose rest may be over, soonest first.
    pub(crate) fn rested(&self, now: Timestamp) -> impl Iterator<Item = IpAddr> {
        self.rests.iter().take_while(move |(until, _)| *until <= now).map(|(_, address)| *address)
    }

    /// When the next rest after `now` may be over.
    pub(crate) fn next_rested(&self, now: Timestamp) -> Option<Timestamp> {
        let after =
            (now.after(std::time::Duration::from_nanos(1)), IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
        self.rests.range(after..).next().map(|(until, _)| *until)
    }

    /// How many addresses rest, and until when the first of them does at least.
    pub(crate) fn resting(&self) -> Option<(u32, Timestamp)> {
        let first = self.rests.first()?.0;
        Some((u32::try_from(self.rests.len()).unwrap_or(u32::MAX), first))
    }
}
