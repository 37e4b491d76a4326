//! Where new addresses go: fill ENIs that have room, fullest first, before making new ones, so that whole ENIs become free again
//! later. One call per ENI, several ENIs in parallel. Limits come in as numbers; nothing here knows why a number is what it is.
//!
//! Of the two kinds, prefixes go first wherever there are any, in a new ENI of another subnet too; single addresses are what is left when
//! no subnet has a free /28. A need of a few is met with single addresses (with `on`, once there are prefixes), as long as they are few on their ENI:
//! a place with a single address in it is one prefix less that fits.

use crate::prefix;
use crate::settings::PrefixDelegation;
use crate::sizing::Need;
use spur_cloud::{AddressRequest, EniId, SubnetId};

/// An ENI that can take more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Room {
    /// Which.
    pub(crate) eni: EniId,
    /// How many single addresses more at most.
    pub(crate) singles: u32,
    /// How many prefixes more at most; none if its subnet has none.
    pub(crate) prefixes: u32,
    /// How many single addresses it may have where a prefix could be had as well.
    pub(crate) few: u32,
}

/// A subnet in which an ENI can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site {
    /// Which.
    pub(crate) subnet: SubnetId,
    /// Addresses or prefixes at most per call: the ENI's capacity, or less while the subnet is tight.
    pub(crate) most: u32,
}

/// Where growth may go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Ground {
    /// ENIs with room, best first.
    pub(crate) rooms: Vec<Room>,
    /// Addresses that fit on ENIs that are busy: a need that fits there waits for them rather than making an ENI.
    pub(crate) soon: u32,
    /// ENIs that may be made.
    pub(crate) new_enis: u32,
    /// The subnet to make them in, if one is good at the moment.
    pub(crate) site: Option<Site>,
    /// The subnet to make them in with prefixes.
    pub(crate) prefix_site: Option<Site>,
    /// Which kinds are used.
    pub(crate) delegation: PrefixDelegation,
}

/// What to ask for in one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Single addresses.
    Singles(u32),
    /// Prefixes.
    Prefixes(u32),
}

impl Ask {
    /// The ask of a request.
    pub(crate) fn of(request: &AddressRequest) -> Self {
        match request {
            AddressRequest::Count(count) => Self::Singles(*count),
            AddressRequest::Prefixes(count) => Self::Prefixes(*count),
            AddressRequest::Addresses(named) => Self::Singles(u32::try_from(named.len()).unwrap_or(u32::MAX)),
        }
    }

    /// The request for it.
    pub(crate) const fn request(self) -> AddressRequest {
        match self {
            Self::Singles(count) => AddressRequest::Count(count),
            Self::Prefixes(count) => AddressRequest::Prefixes(count),
        }
    }

    /// Addresses that it brings.
    pub(crate) const fn addresses(self) -> u32 {
        match self {
            Self::Singles(count) => count,
            Self::Prefixes(count) => count.saturating_mul(prefix::SIZE),
        }
    }

    /// Places of an ENI that it takes.
    pub(crate) const fn places(self) -> u32 {
        match self {
            Self::Singles(count) | Self::Prefixes(count) => count,
        }
    }

    /// Prefixes that it brings.
    pub(crate) const fn prefixes(self) -> u32 {
        match self {
            Self::Singles(_) => 0,
            Self::Prefixes(count) => count,
        }
    }
}

/// What to ask for, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Placement {
    /// For ENIs that exist.
    pub(crate) assigns: Vec<(EniId, Ask)>,
    /// New ENIs.
    pub(crate) creates: Vec<(SubnetId, Ask)>,
    /// Addresses that wait for ENIs that are busy.
    pub(crate) waits: u32,
    /// Addresses that found no place.
    pub(crate) unplaced: u32,
}

/// Spreads a need over the ground.
pub(crate) fn place(need: Need, ground: &Ground) -> Placement {
    let mut spread =
        Spread { need, done: Placement::default(), soon: ground.soon, new_enis: ground.new_enis };
    let few = ground.rooms.iter().map(|room| room.few).sum::<u32>();
    match ground.delegation {
        PrefixDelegation::Auto | PrefixDelegation::On if need.prefixes == 0 && need.must <= few => {
            spread.need.may = 0;
            spread.singles(ground, |room| room.few);
        }
        PrefixDelegation::Auto | PrefixDelegation::On => {
            spread.prefixes(ground);
            spread.singles(ground, |room| if room.prefixes == 0 { room.singles } else { 0 });
            spread.create_singles(ground);
        }
        PrefixDelegation::Off => {
            spread.singles(ground, |room| room.singles);
            spread.create_singles(ground);
        }
    }
    spread.done.unplaced = spread.need.must;
    spread.done
}

struct Spread {
    need: Need,
    done: Placement,
    soon: u32,
    new_enis: u32,
}

impl Spread {
    /// As many single addresses of what lacks as fit, and of what may come along.
    fn take(&mut self, most: u32) -> Ask {
        let needed = self.need.must.min(most);
        let more = self.need.may.min(most - needed);
        self.need.must -= needed;
        self.need.may -= more;
        Ask::Singles(needed + more)
    }

    /// As many prefixes of what lacks as fit.
    fn take_prefixes(&mut self, most: u32) -> Ask {
        let ask = Ask::Prefixes(self.need.must.div_ceil(prefix::SIZE).max(self.need.prefixes).min(most));
        self.need.must = self.need.must.saturating_sub(ask.addresses());
        self.need.prefixes -= self.need.prefixes.min(ask.places());
        ask
    }

    fn singles(&mut self, ground: &Ground, most: impl Fn(&Room) -> u32) {
        for room in ground.rooms.iter().filter(|room| most(room) > 0) {
            if self.need.must == 0 {
                return;
            }
            let ask = self.take(most(room));
            self.done.assigns.push((room.eni.clone(), ask));
        }
    }

    fn prefixes(&mut self, ground: &Ground) {
        for room in ground.rooms.iter().filter(|room| room.prefixes > 0) {
            if self.need.met() {
                return;
            }
            let ask = self.take_prefixes(room.prefixes);
            self.done.assigns.push((room.eni.clone(), ask));
        }
        self.wait();
        while let Some(site) = ground.prefix_site.as_ref().filter(|site| site.most > 0) {
            // Prefixes beyond the addresses that lack are a comfort, and no reason to make an ENI.
            if self.need.must == 0 || self.new_enis == 0 {
                return;
            }
            self.new_enis -= 1;
            let ask = self.take_prefixes(site.most);
            self.done.creates.push((site.subnet.clone(), ask));
        }
    }

    fn create_singles(&mut self, ground: &Ground) {
        self.wait();
        while let Some(site) = ground.site.as_ref().filter(|site| site.most > 0) {
            if self.need.must == 0 || self.new_enis == 0 {
                return;
            }
            self.new_enis -= 1;
            let ask = self.take(site.most);
            self.done.creates.push((site.subnet.clone(), ask));
        }
    }

    fn wait(&mut self) {
        let waits = self.need.must.min(self.soon);
        self.soon -= waits;
        self.need.must -= waits;
        self.done.waits += waits;
    }
}

#[cfg(test)]
mod tests;
