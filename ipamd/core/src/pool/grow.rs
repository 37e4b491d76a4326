//! Growth: what is lacking, and the calls that bring it. Calls under way count as supply, and an ENI that is busy keeps its room for the
//! next call, so that several needs become one call and none is met twice.

use super::store::Then;
use super::{Creation, Making, Pool};
use crate::action::{CloudCall, Reason};
use crate::address::State;
use crate::backoff::Key;
use crate::eni::{EniState, Phase, Role, free_place};
use crate::leaked::CREATED_TAG;
use crate::placement::{Ground, Room, Site, place};
use crate::record::{Intent, IntentId, StoreChange};
use crate::sizing::Stock;
use spur_cloud::{AddressRequest, Api, CardIndex, ClientToken, CreateEni, DeviceIndex, SubnetId};
use std::collections::BTreeSet;

impl Pool {
    /// Counts the stock.
    pub(super) fn stock(&self) -> Stock {
        let mut stock =
            Stock { waiting: u32::try_from(self.waiters.len()).unwrap_or(u32::MAX), ..Stock::default() };
        for (address, slot) in self.table.iter() {
            match slot.state {
                State::Free { .. } if slot.doubtful => {}
                State::Free { .. } if self.usable(address, slot) => stock.free += 1,
                State::Free { .. } if self.enis.get(&slot.eni).is_some_and(|eni| self.on_its_way(eni)) => {
                    stock.coming += 1;
                }
                State::Granting { .. } | State::Held { .. } => stock.held += 1,
                _ => {}
            }
        }
        stock.coming += self.enis.values().map(|eni| self.incoming(eni)).sum::<u32>();
        let blocked = self.backoffs.blocks(&Key::Api(Api::CreateNetworkInterface), self.now);
        let made = self
            .creations
            .values()
            .filter(|creation| creation.phase == Making::Calling || !blocked && !creation.searched());
        stock.coming += made.map(|creation| creation.addresses).sum::<u32>();
        stock
    }

    /// Whether addresses on it will be usable without anybody's help.
    fn on_its_way(&self, eni: &EniState) -> bool {
        let attaches = eni.phase != Phase::Unattached
            || !self.backoffs.blocks_call(&eni.record.id, Api::AttachNetworkInterface, self.now);
        eni.grows() && attaches
    }

    /// Addresses that a call may bring to it.
    fn incoming(&self, eni: &EniState) -> u32 {
        let calling = eni.busy.and_then(|call| self.calls.get(&call)).map(|running| &running.call);
        let asked = match calling {
            Some(CloudCall::Assign { request: AddressRequest::Count(count), .. }) => *count,
            _ => 0,
        };
        asked + eni.uncertain.map_or(0, |uncertain| uncertain.count)
    }

    /// Addresses for pods that an ENI may have.
    pub(super) fn capacity(&self) -> u32 {
        self.node.limits.ipv4_per_eni().saturating_sub(1)
    }

    fn room(&self, eni: &EniState) -> u32 {
        let taken = self.table.tally(&eni.record.id).all() + eni.prefixes + self.incoming(eni);
        self.capacity().saturating_sub(taken)
    }

    /// ENIs at most, as far as is known.
    pub(super) fn max_enis(&self) -> u32 {
        let wanted = self.settings.targets.max_enis.unwrap_or(u32::MAX);
        let learned = self.learned_enis.map_or(u32::MAX, |(limit, _)| limit);
        self.node.limits.enis().min(wanted).min(learned)
    }

    /// Begins what brings the missing addresses.
    pub(super) fn grow(&mut self) {
        let stock = self.stock();
        let need = stock.need(&self.settings.targets);
        if self.sight.observed.is_none() || need.must == 0 {
            return;
        }
        let placement = place(need, &self.ground());
        let reason = Reason::Grow { waiting: stock.waiting, missing: need.must };
        for (eni, count) in placement.assigns {
            self.call(CloudCall::Assign { eni, request: AddressRequest::Count(count) }, reason.clone());
        }
        for (subnet, count) in placement.creates {
            self.begin_creation(subnet, count);
        }
    }

    /// What growth may use now.
    fn ground(&self) -> Ground {
        let api = Api::AssignPrivateIpAddresses;
        let mut rooms = Vec::new();
        let mut soon = 0;
        for eni in self.enis.values().filter(|eni| eni.grows()) {
            let room = self.room(eni);
            let settling = eni.busy.is_some() || eni.look.is_some() || eni.uncertain.is_some();
            let subnet = Key::Subnet(eni.record.subnet.clone());
            if settling || eni.attachment.is_none() || self.backoffs.blocks(&Key::Api(api), self.now) {
                soon += room;
            } else if !self.backoffs.blocks(&subnet, self.now)
                && !self.backoffs.blocks_call(&eni.record.id, api, self.now)
            {
                let most = self.tight.get(&eni.record.subnet).copied().unwrap_or(u32::MAX);
                rooms.push((
                    (room, eni.record.place),
                    Room { eni: eni.record.id.clone(), room: room.min(most) },
                ));
                // What a tight subnet keeps back for now comes with the next call.
                soon += room.saturating_sub(most);
            }
        }
        rooms.sort_by_key(|(rank, _)| *rank);
        let rooms = rooms.into_iter().map(|(_, room)| room).collect();
        Ground { rooms, soon, new_enis: self.new_enis(), site: self.site() }
    }

    /// ENIs that may be made now.
    fn new_enis(&self) -> u32 {
        let stuck = self.enis.values().any(|eni| eni.phase == Phase::Unattached && !self.on_its_way(eni));
        if stuck || self.backoffs.blocks(&Key::Api(Api::CreateNetworkInterface), self.now) {
            return 0;
        }
        self.free_places()
    }

    /// Places for ENIs that nothing has or is meant for.
    pub(super) fn free_places(&self) -> u32 {
        let counted = || self.enis.values().filter(|eni| eni.counts());
        let mut taken: BTreeSet<(CardIndex, DeviceIndex)> =
            counted().filter_map(|eni| eni.record.place).map(|place| (place.card, place.index)).collect();
        let unplaced = counted().filter(|eni| eni.record.place.is_none()).count() + self.creations.len();
        let used = u32::try_from(taken.len() + unplaced).unwrap_or(u32::MAX);
        let mut places = 0;
        while let Some(place) = free_place(&self.node.limits, &taken, &BTreeSet::new()) {
            taken.insert((place.card, place.index));
            places += 1;
        }
        let places = u32::try_from(places).unwrap_or(u32::MAX);
        let reserved = u32::try_from(unplaced).unwrap_or(u32::MAX);
        places.saturating_sub(reserved).min(self.max_enis().saturating_sub(used))
    }

    /// Whether no ENI has room and none can be added.
    pub(super) fn full(&self) -> bool {
        let room = self.enis.values().filter(|eni| eni.grows()).any(|eni| self.room(eni) > 0);
        !room && self.free_places() == 0
    }

    /// The best subnet for a new ENI that is not known to be full.
    fn site(&self) -> Option<Site> {
        let primary = self.enis.get(&self.node.primary).map(|eni| &eni.record.subnet);
        let candidates: Vec<&SubnetId> = match self.settings.eni.subnets.as_slice() {
            [] => primary.into_iter().collect(),
            subnets => subnets.iter().collect(),
        };
        let good = |subnet: &&&SubnetId| !self.backoffs.blocks(&Key::Subnet((**subnet).clone()), self.now);
        let subnet = candidates.iter().find(good)?;
        let most = self.tight.get(*subnet).copied().unwrap_or(u32::MAX).min(self.capacity());
        Some(Site { subnet: (*subnet).clone(), most })
    }

    fn begin_creation(&mut self, subnet: SubnetId, count: u32) {
        let template = &self.settings.eni;
        let micros = self.now.since_epoch().as_micros();
        let mut token = format!("{micros:x}-{:x}-{}", self.jitter.bits(), self.node.instance);
        // EC2 takes at most 64 characters.
        token.truncate(64);
        let mut tags = template.tags.clone();
        tags.extend(template.ownership.clone());
        // So that an ENI that all have forgotten can be told from one that was made a moment ago.
        tags.insert(CREATED_TAG.to_owned(), self.now.rfc3339());
        let create = CreateEni {
            subnet,
            security_groups: template.security_groups.clone(),
            request: AddressRequest::Count(count),
            description: template.description.clone(),
            tags,
            token: ClientToken(token),
        };
        let intent = IntentId(self.next_id());
        let made = Intent::Create { create: create.clone(), made: None, since: self.now };
        let creation =
            Creation { create, since: self.now, addresses: count, phase: Making::Storing, uncertain: false };
        self.creations.insert(intent, creation);
        self.store(vec![StoreChange::PutIntent(intent, made)], Then::Create(intent));
    }

    /// Brings back addresses of live pods that EC2 lost.
    pub(super) fn repair(&mut self) {
        let api = Api::AssignPrivateIpAddresses;
        let idle = |eni: &&EniState| {
            eni.role != Role::Foreign
                && eni.busy.is_none()
                && eni.look.is_none()
                && eni.attachment.is_some()
                && !eni.lost
        };
        let ready: Vec<_> = self.enis.values().filter(idle).map(|eni| eni.record.id.clone()).collect();
        for id in ready {
            let missing = self.table.on(&id).filter(|(_, slot)| slot.missing && slot.live());
            let addresses: BTreeSet<_> = missing.map(|(address, _)| address).collect();
            let Some(address) = addresses.first().copied() else { continue };
            if !self.backoffs.blocks_call(&id, api, self.now) {
                let request = AddressRequest::Addresses(addresses);
                self.call(CloudCall::Assign { eni: id, request }, Reason::Repair { address });
            }
        }
    }
}
