//! Growth: what is lacking, and the calls that bring it. Calls under way count as supply, and an ENI that is busy keeps its room for the
//! next call, so that several needs become one call and none is met twice.

use super::store::Then;
use super::{Creation, Making, Pool};
use crate::action::{CloudCall, Reason};
use crate::backoff::Key;
use crate::eni::{EniState, Phase, Role, free_place};
use crate::finding::Finding;
use crate::leaked::CREATED_TAG;
use crate::placement::{Ask, Ground, Room, Site, place};
use crate::prefix;
use crate::record::{Intent, IntentId, StoreChange};
use crate::settings::PrefixDelegation;
use spur_cloud::{
    AddressRequest, Api, CardIndex, ClientToken, CloudError, CreateEni, DeviceIndex, ErrorClass, SubnetId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

impl Pool {
    /// Begins what brings the missing addresses.
    pub(super) fn grow(&mut self) {
        let stock = self.stock();
        let need = stock.need(self.aim());
        if self.sight.observed.is_none() || need.met() {
            return;
        }
        let placement = place(need, &self.ground());
        let missing = need.must.max(need.prefixes.saturating_mul(prefix::SIZE));
        let reason = Reason::Grow { waiting: stock.waiting, missing };
        for (eni, ask) in placement.assigns {
            self.call(CloudCall::Assign { eni, request: ask.request() }, reason.clone());
        }
        for (subnet, ask) in placement.creates {
            self.begin_creation(subnet, ask);
        }
        if placement.waits + placement.unplaced > 0 {
            self.make_room();
        }
    }

    /// What growth may use now.
    fn ground(&self) -> Ground {
        let api = Api::AssignPrivateIpAddresses;
        let mut rooms = Vec::new();
        let mut soon = 0;
        for eni in self.enis.values().filter(|eni| eni.grows()) {
            let (id, subnet) = (&eni.record.id, &eni.record.subnet);
            let places = self.room(eni);
            let worth = |places: u32| self.worth(subnet, places);
            let settling = eni.busy.is_some() || eni.look.is_some() || eni.uncertain.is_some();
            soon += worth(self.replaceable(eni));
            if settling || eni.attachment.is_none() || self.backoffs.blocks(&Key::Api(api), self.now) {
                soon += worth(places);
            } else if !self.backoffs.blocks(&Key::Subnet(subnet.clone()), self.now)
                && !self.backoffs.blocks_call(id, api, self.now)
            {
                let room = self.room_of(eni, places);
                // What a tight subnet keeps back for now comes with the next call.
                let kept = if room.prefixes > 0 { places - room.prefixes } else { places - room.singles };
                soon += worth(kept);
                rooms.push(((places, eni.record.place), room));
            }
        }
        rooms.sort_by_key(|(rank, _)| *rank);
        Ground {
            rooms: rooms.into_iter().map(|(_, room)| room).collect(),
            soon,
            new_enis: self.new_enis(),
            site: self.site(false),
            prefix_site: self.site(true),
            delegation: self.delegation(),
        }
    }

    /// Addresses that so many places of an ENI in this subnet can take.
    fn worth(&self, subnet: &SubnetId, places: u32) -> u32 {
        let delegated = self.delegation() != PrefixDelegation::Off && !self.lacks_prefixes(subnet);
        if delegated { places.saturating_mul(prefix::SIZE) } else { places }
    }

    fn room_of(&self, eni: &EniState, places: u32) -> Room {
        let subnet = &eni.record.subnet;
        let most =
            |tight: &BTreeMap<SubnetId, u32>| tight.get(subnet).copied().unwrap_or(u32::MAX).min(places);
        let delegated = self.delegation() != PrefixDelegation::Off && !self.lacks_prefixes(subnet);
        // With `on`, only when prefixes are there: the last few pods are not worth another one.
        let begun = || self.enis.keys().any(|id| self.table.shelf(id).prefixes().next().is_some());
        let few = if self.delegation() == PrefixDelegation::Auto || begun() { self.few() } else { 0 };
        let few = few.saturating_sub(self.table.shelf(&eni.record.id).singles());
        Room {
            eni: eni.record.id.clone(),
            singles: most(&self.tight),
            prefixes: if delegated { most(&self.tight_prefixes) } else { 0 },
            few: few.min(most(&self.tight)),
        }
    }

    /// ENIs that may be made now.
    fn new_enis(&self) -> u32 {
        let stuck = self.enis.values().any(|eni| eni.phase == Phase::Unattached && !self.on_its_way(eni));
        let blocked = |api: Api| self.backoffs.blocks(&Key::Api(api), self.now);
        // What cannot be attached is not to be made either.
        if stuck || blocked(Api::CreateNetworkInterface) || blocked(Api::AttachNetworkInterface) {
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

    /// The best subnet for a new ENI that is not known to be full, or to be without a free /28.
    fn site(&self, prefixes: bool) -> Option<Site> {
        let primary = self.enis.get(&self.node.primary).map(|eni| &eni.record.subnet);
        let candidates: Vec<&SubnetId> = match self.settings.eni.subnets.as_slice() {
            [] => primary.into_iter().collect(),
            subnets => subnets.iter().collect(),
        };
        let good = |subnet: &&&SubnetId| {
            let full = self.backoffs.blocks(&Key::Subnet((**subnet).clone()), self.now);
            !full && (!prefixes || !self.lacks_prefixes(subnet))
        };
        let subnet = candidates.iter().find(good)?;
        let tight = if prefixes { &self.tight_prefixes } else { &self.tight };
        let most = tight.get(*subnet).copied().unwrap_or(u32::MAX).min(self.capacity());
        Some(Site { subnet: (*subnet).clone(), most })
    }

    fn begin_creation(&mut self, subnet: SubnetId, ask: Ask) {
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
            request: ask.request(),
            description: template.description.clone(),
            tags,
            token: ClientToken(token),
        };
        let intent = IntentId(self.next_id());
        let made = Intent::Create { create: create.clone(), made: None, since: self.now };
        let creation = Creation { create, since: self.now, ask, phase: Making::Storing, uncertain: false };
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
                && !eni.retired
        };
        let ready: Vec<_> = self.enis.values().filter(idle).map(|eni| eni.record.id.clone()).collect();
        for id in ready {
            let live = |address: &&IpAddr| self.table.get(**address).is_some_and(|slot| slot.live());
            let addresses: BTreeSet<_> =
                self.table.shelf(&id).missing().iter().filter(live).copied().collect();
            let Some(address) = addresses.first().copied() else { continue };
            if !self.backoffs.blocks_call(&id, api, self.now) {
                let request = AddressRequest::Addresses(addresses);
                self.call(CloudCall::Assign { eni: id, request }, Reason::Repair { address });
            }
        }
    }

    /// EC2 refused to bring addresses back: unless that may pass by itself, the network of their pods is broken, and is tried to be
    /// mended all the same.
    pub(super) fn repair_failed(&mut self, addresses: &BTreeSet<IpAddr>, error: &CloudError) {
        if matches!(error.class(), ErrorClass::Throttled | ErrorClass::Transient) {
            return;
        }
        for address in addresses {
            let Some(slot) = self.table.get(*address).filter(|slot| slot.missing && slot.live()) else {
                continue;
            };
            let (eni, address) = (slot.eni.clone(), *address);
            self.raise(Finding::PodNetworkBroken { address, eni });
        }
    }

    /// An address is back.
    pub(super) fn mended(&mut self, address: IpAddr) {
        self.findings.retain(
            |finding| !matches!(finding, Finding::PodNetworkBroken { address: broken, .. } if *broken == address),
        );
    }
}
