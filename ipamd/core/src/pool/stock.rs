//! What there is: addresses that count for sizing, places on ENIs, and which kind of address is wanted. Costs what the ENIs and the calls
//! under way are, not what the addresses are.

use super::{Making, Pool};
use crate::action::CloudCall;
use crate::backoff::Key;
use crate::eni::{EniState, Phase, Role};
use crate::placement::Ask;
use crate::prefix;
use crate::settings::PrefixDelegation;
use crate::sizing::{Aim, Stock};
use crate::table::Group;
use ipnet::IpNet;
use spur_cloud::{Api, SubnetId};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Of the places of an ENI, one in so many may go to single addresses where prefixes can be had.
const FEW: u32 = 4;

/// Free addresses of an ENI.
#[derive(Debug, Clone, Copy, Default)]
struct Supply {
    usable: u32,
    coming: u32,
    prefixes: u32,
}

impl Pool {
    /// Whether and how prefixes are used on this node.
    pub(super) fn delegation(&self) -> PrefixDelegation {
        if self.node.limits.prefix_delegation() && self.blocks.is_none() {
            self.settings.targets.prefix_delegation
        } else {
            PrefixDelegation::Off
        }
    }

    /// What the targets aim at.
    pub(super) fn aim(&self) -> Aim {
        let delegated = self.delegation() != PrefixDelegation::Off;
        Aim::new(&self.settings.targets, self.capacity(), delegated)
    }

    /// Whether addresses of this kind on this ENI are to be replaced by the other kind: they are handed out last, count for nothing,
    /// and go when nobody has them. Where a subnet has no free /28, single addresses are as good as any, and so are a few of them.
    pub(super) fn outdated(&self, eni: &EniState, prefix: Option<IpNet>) -> bool {
        match (self.delegation(), prefix) {
            (PrefixDelegation::Off, Some(_)) => true,
            (PrefixDelegation::On, None) => {
                let few = self.table.shelf(&eni.record.id).singles() <= self.few();
                !few && !self.lacks_prefixes(&eni.record.subnet)
            }
            _ => false,
        }
    }

    /// Whether the subnet had no free /28 a short time ago.
    pub(super) fn lacks_prefixes(&self, subnet: &SubnetId) -> bool {
        self.backoffs.blocks(&Key::Prefixes(subnet.clone()), self.now)
    }

    /// Counts the stock.
    pub(super) fn stock(&self) -> Stock {
        let waiting = u32::try_from(self.waiters.len()).unwrap_or(u32::MAX);
        let mut stock = Stock { waiting, ..Stock::default() };
        for eni in self.enis.values().filter(|eni| eni.role != Role::Foreign) {
            let supply = self.supply(eni);
            stock.free += supply.usable;
            stock.coming += supply.coming;
            stock.prefixes += supply.prefixes;
            stock.held += self.table.tally(&eni.record.id).held;
            for ask in self.incoming(eni) {
                stock.coming += ask.addresses();
                stock.prefixes += ask.prefixes();
            }
        }
        let blocked = self.backoffs.blocks(&Key::Api(Api::CreateNetworkInterface), self.now);
        let made = self
            .creations
            .values()
            .filter(|creation| creation.phase == Making::Calling || !blocked && !creation.searched());
        for creation in made {
            stock.coming += creation.ask.addresses();
            stock.prefixes += creation.ask.prefixes();
        }
        stock
    }

    /// Free addresses of an ENI that count.
    fn supply(&self, eni: &EniState) -> Supply {
        let (id, mut supply) = (&eni.record.id, Supply::default());
        let shelf = self.table.shelf(id);
        let works = eni.phase == Phase::Ready && !eni.lost && !eni.retired && self.kernel.is_ready(id);
        let comes = self.on_its_way(eni);
        let counts = |prefix| !self.outdated(eni, prefix);
        let mut free = 0;
        for (prefix, group) in shelf.groups().filter(|(prefix, _)| counts(*prefix)) {
            free += group.tally.free;
            supply.prefixes += u32::from(prefix.is_some() && whole(group) && (works || comes));
        }
        let hindered = |address: &IpAddr| {
            self.table.get(*address).is_some_and(|slot| slot.eni == *id && slot.free() && counts(slot.prefix))
        };
        let doubtful = shelf.doubtful().iter().filter(|address| hindered(address)).count();
        let waits = self.kernel.unconfirmed(id).chain(shelf.missing().iter().copied());
        let waits: BTreeSet<IpAddr> =
            waits.filter(|address| hindered(address) && !shelf.doubtful().contains(address)).collect();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        free -= count(doubtful);
        supply.usable = if works { free - count(waits.len()) } else { 0 };
        supply.coming = if comes { free - supply.usable } else { 0 };
        supply
    }

    /// Whether addresses on it will be usable without anybody's help.
    pub(super) fn on_its_way(&self, eni: &EniState) -> bool {
        let attaches = eni.phase != Phase::Unattached
            || !self.backoffs.blocks_call(&eni.record.id, Api::AttachNetworkInterface, self.now);
        eni.grows() && attaches
    }

    /// What calls may bring to it.
    fn incoming(&self, eni: &EniState) -> impl Iterator<Item = Ask> {
        let calling = eni.busy.and_then(|call| self.calls.get(&call)).map(|running| &running.call);
        let asked = match calling {
            Some(CloudCall::Assign { request: spur_cloud::AddressRequest::Addresses(_), .. }) => None,
            Some(CloudCall::Assign { request, .. }) => Some(Ask::of(request)),
            _ => None,
        };
        asked.into_iter().chain(eni.uncertain.map(|uncertain| uncertain.ask))
    }

    /// Single addresses that an ENI may have where prefixes can be had.
    pub(super) fn few(&self) -> u32 {
        self.capacity() / FEW
    }

    /// Places for addresses or prefixes that an ENI has beside its own address.
    pub(super) fn capacity(&self) -> u32 {
        self.node.limits.ipv4_per_eni().saturating_sub(1)
    }

    /// Addresses for pods that an ENI may have.
    pub(super) fn addresses_per_eni(&self) -> u32 {
        let each = if self.delegation() == PrefixDelegation::Off { 1 } else { prefix::SIZE };
        self.capacity().saturating_mul(each)
    }

    /// Places that are left on an ENI.
    pub(super) fn room(&self, eni: &EniState) -> u32 {
        let incoming: u32 = self.incoming(eni).map(Ask::places).sum();
        self.capacity().saturating_sub(self.table.shelf(&eni.record.id).places() + incoming)
    }

    /// ENIs at most, as far as is known.
    pub(super) fn max_enis(&self) -> u32 {
        let wanted = self.settings.targets.max_enis.unwrap_or(u32::MAX);
        let learned = self.learned_enis.map_or(u32::MAX, |(limit, _)| limit);
        self.node.limits.enis().min(wanted).min(learned)
    }
}

/// Whether all of a prefix is free.
pub(super) const fn whole(group: &Group) -> bool {
    group.unused() && group.tally.free == prefix::SIZE
}
