//! The effects of the fake cloud, with EC2's refusals. A refused call changes nothing.

use super::space::Space;
use super::world::{Machine, World, error};
use crate::{
    AddressRequest, Api, Assigned, Attachment, AttachmentId, AttachmentStatus, CardIndex, CloudError,
    CreateEni, DeviceIndex, Eni, EniId, EniStatus, ErrorClass, InstanceId, SubnetId,
};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Addresses that an ENI may have while no instance limits it.
const UNATTACHED_LIMIT: usize = 50;

pub(super) fn no_eni(api: Api, id: &EniId) -> CloudError {
    error(api, ErrorClass::NotFound, "InvalidNetworkInterfaceID.NotFound", format!("no ENI {id}"))
}

/// How many of the places for addresses an ENI uses: its primary address, each secondary one, each prefix.
fn places(eni: &Eni) -> usize {
    1 + eni.addresses.len() + eni.prefixes.len()
}

fn limit(machine: &Machine) -> usize {
    usize::try_from(machine.limits.ipv4_per_eni()).unwrap_or(usize::MAX)
}

fn asked(request: &AddressRequest) -> usize {
    match request {
        AddressRequest::Count(count) | AddressRequest::Prefixes(count) => {
            usize::try_from(*count).unwrap_or(usize::MAX)
        }
        AddressRequest::Addresses(addresses) => addresses.len(),
    }
}

fn full(api: Api, what: &str) -> CloudError {
    let code = if what == "/28" { "InsufficientCidrBlocks" } else { "InsufficientFreeAddressesInSubnet" };
    error(api, ErrorClass::SubnetFull, code, format!("the subnet has too few free: {what}"))
}

/// Takes the addresses that the request names; none if it only counts.
fn explicit(api: Api, space: &mut Space, request: &AddressRequest) -> Result<Option<Assigned>, CloudError> {
    let AddressRequest::Addresses(addresses) = request else { return Ok(None) };
    for address in addresses {
        if !space.is_free(*address) {
            let message = format!("{address} is in use or not of the subnet");
            return Err(error(api, ErrorClass::Conflict, "InvalidParameterValue", message));
        }
        space.take(*address);
    }
    Ok(Some(Assigned { addresses: addresses.clone(), prefixes: BTreeSet::new() }))
}

/// Takes as many addresses or prefixes as the request counts.
fn counted(api: Api, space: &mut Space, request: &AddressRequest) -> Result<Assigned, CloudError> {
    let mut assigned = Assigned::default();
    match request {
        AddressRequest::Count(count) => {
            assigned.addresses = space.pick(*count).ok_or_else(|| full(api, "address"))?;
        }
        AddressRequest::Prefixes(count) => {
            assigned.prefixes = space.pick_prefixes(*count).ok_or_else(|| full(api, "/28"))?;
        }
        AddressRequest::Addresses(_) => {}
    }
    assigned.addresses.iter().for_each(|address| space.take(*address));
    assigned.prefixes.iter().for_each(|prefix| space.take_prefix(*prefix));
    Ok(assigned)
}

impl World {
    fn space(&self, api: Api, subnet: &SubnetId) -> Result<&Space, CloudError> {
        let not_found =
            || error(api, ErrorClass::NotFound, "InvalidSubnetID.NotFound", format!("no subnet {subnet}"));
        self.spaces.get(subnet).ok_or_else(not_found)
    }

    /// See [`crate::Cloud::create_eni`].
    pub fn create_eni(&mut self, wanted: &CreateEni) -> Result<Eni, CloudError> {
        const API: Api = Api::CreateNetworkInterface;
        self.call(API, |world| {
            if let Some((earlier, eni)) = world.tokens.get(&wanted.token) {
                let mismatch = "the token was used with other parameters";
                let refuse = || Err(error(API, ErrorClass::Bug, "IdempotentParameterMismatch", mismatch));
                return if earlier == wanted { Ok(eni.clone()) } else { refuse() };
            }
            let home = world.subnet(API, &wanted.subnet)?;
            if let Some(group) = wanted.security_groups.iter().find(|group| !world.groups.contains_key(group))
            {
                return Err(error(
                    API,
                    ErrorClass::NotFound,
                    "InvalidGroup.NotFound",
                    format!("no group {group}"),
                ));
            }
            let mut space = world.space(API, &wanted.subnet)?.clone();
            let asked = explicit(API, &mut space, &wanted.request)?;
            let primary = counted(API, &mut space, &AddressRequest::Count(1))?.addresses;
            let assigned = asked.map_or_else(|| counted(API, &mut space, &wanted.request), Ok)?;
            let (id, mac) = world.new_eni_id();
            let eni = Eni {
                id: id.clone(),
                mac,
                subnet: home.id,
                vpc: home.vpc,
                zone: home.zone,
                security_groups: wanted.security_groups.clone(),
                primary: primary.first().copied().ok_or_else(|| full(API, "address"))?,
                addresses: assigned.addresses,
                prefixes: assigned.prefixes,
                status: EniStatus::Available,
                attachment: None,
                source_dest_check: true,
                description: wanted.description.clone(),
                tags: wanted.tags.clone(),
            };
            world.spaces.insert(wanted.subnet.clone(), space);
            world.enis.insert(id, eni.clone());
            world.tokens.insert(wanted.token.clone(), (wanted.clone(), eni.clone()));
            world.changed();
            Ok(eni)
        })
    }

    /// See [`crate::Cloud::attach_eni`].
    pub fn attach_eni(
        &mut self,
        eni: &EniId,
        instance: &InstanceId,
        index: DeviceIndex,
        card: CardIndex,
    ) -> Result<AttachmentId, CloudError> {
        const API: Api = Api::AttachNetworkInterface;
        self.call(API, |world| {
            world.may_attach(eni, instance, index, card)?;
            let id = world.new_attachment_id();
            let interface = world.enis.get_mut(eni).ok_or_else(|| no_eni(API, eni))?;
            interface.status = EniStatus::Attaching;
            interface.attachment = Some(Attachment {
                id: id.clone(),
                instance: Some(instance.clone()),
                device_index: index,
                card,
                status: AttachmentStatus::Attaching,
                delete_on_termination: false,
            });
            world.changed();
            world.schedule(&id, false);
            Ok(id)
        })
    }

    fn may_attach(
        &self,
        eni: &EniId,
        instance: &InstanceId,
        index: DeviceIndex,
        card: CardIndex,
    ) -> Result<(), CloudError> {
        let refuse =
            |class, code, message: String| Err(error(Api::AttachNetworkInterface, class, code, message));
        let interface = self.enis.get(eni).ok_or_else(|| no_eni(Api::AttachNetworkInterface, eni))?;
        let Some(machine) = self.machines.get(instance) else {
            return refuse(
                ErrorClass::NotFound,
                "InvalidInstanceID.NotFound",
                format!("no instance {instance}"),
            );
        };
        if interface.attachment.is_some() {
            return refuse(ErrorClass::Conflict, "InvalidNetworkInterface.InUse", format!("{eni} is in use"));
        }
        if interface.zone != machine.facts.zone {
            let message = format!("{eni} is in {}, {instance} in {}", interface.zone, machine.facts.zone);
            return refuse(ErrorClass::Bug, "InvalidParameterCombination", message);
        }
        if places(interface) > limit(machine) {
            let message = format!("{eni} has more addresses than {instance} may have on an ENI");
            return refuse(ErrorClass::QuotaExceeded, "PrivateIpAddressLimitExceeded", message);
        }
        let Some(slot) = machine.limits.cards().iter().find(|slot| slot.index == card.0) else {
            return refuse(
                ErrorClass::Bug,
                "InvalidParameterValue",
                format!("{instance} has no network card {card}"),
            );
        };
        let attached: Vec<&Attachment> = self.attachments(instance).collect();
        if attached.iter().any(|at| at.card == card && at.device_index == index) {
            let message = format!("{instance} already has an interface at device index {index}");
            return refuse(ErrorClass::Conflict, "InvalidParameterValue", message);
        }
        let on_card = attached.iter().filter(|at| at.card == card).count();
        let total: u32 = machine.limits.cards().iter().map(|slot| slot.max_enis).sum();
        let total = total.max(machine.limits.enis());
        let full = |count: usize, limit: u32| u32::try_from(count).is_ok_and(|count| count >= limit);
        if full(on_card, slot.max_enis) || full(attached.len(), total) {
            let message = format!("{instance} has as many interfaces as it may have");
            return refuse(ErrorClass::QuotaExceeded, "AttachmentLimitExceeded", message);
        }
        Ok(())
    }

    fn attachments(&self, instance: &InstanceId) -> impl Iterator<Item = &Attachment> {
        let attachments = self.enis.values().filter_map(|eni| eni.attachment.as_ref());
        attachments.filter(move |attachment| attachment.instance.as_ref() == Some(instance))
    }

    /// See [`crate::Cloud::detach_eni`].
    pub fn detach_eni(&mut self, attachment: &AttachmentId) -> Result<(), CloudError> {
        const API: Api = Api::DetachNetworkInterface;
        self.call(API, |world| {
            let refuse =
                |class, code, message: &str| Err(error(API, class, code, format!("{attachment} {message}")));
            let holds = |eni: &&mut Eni| eni.attachment.as_ref().is_some_and(|at| at.id == *attachment);
            let Some(eni) = world.enis.values_mut().find(holds) else {
                return refuse(ErrorClass::NotFound, "InvalidAttachmentID.NotFound", "does not exist");
            };
            let Some(at) = &mut eni.attachment else { return Ok(()) };
            if (at.card, at.device_index) == (CardIndex(0), DeviceIndex(0)) {
                return refuse(ErrorClass::Denied, "OperationNotPermitted", "is the primary ENI's");
            }
            if at.status != AttachmentStatus::Attached {
                return refuse(ErrorClass::Conflict, "IncorrectState", "is not attached");
            }
            at.status = AttachmentStatus::Detaching;
            eni.status = EniStatus::Detaching;
            world.changed();
            world.schedule(attachment, true);
            Ok(())
        })
    }

    /// See [`crate::Cloud::delete_eni`].
    pub fn delete_eni(&mut self, eni: &EniId) -> Result<(), CloudError> {
        const API: Api = Api::DeleteNetworkInterface;
        self.call(API, |world| {
            let interface = world.enis.get(eni).ok_or_else(|| no_eni(API, eni))?;
            if interface.attachment.is_some() {
                let message = format!("{eni} is in use");
                return Err(error(API, ErrorClass::Conflict, "InvalidNetworkInterface.InUse", message));
            }
            world.forget(eni);
            Ok(())
        })
    }

    /// See [`crate::Cloud::set_delete_on_termination`].
    pub fn set_delete_on_termination(
        &mut self,
        eni: &EniId,
        attachment: &AttachmentId,
        delete: bool,
    ) -> Result<(), CloudError> {
        const API: Api = Api::ModifyNetworkInterfaceAttribute;
        self.call(API, |world| {
            let interface = world.enis.get_mut(eni).ok_or_else(|| no_eni(API, eni))?;
            match &mut interface.attachment {
                Some(at) if at.id == *attachment => at.delete_on_termination = delete,
                _ => {
                    let message = format!("{eni} has no attachment {attachment}");
                    return Err(error(API, ErrorClass::NotFound, "InvalidAttachmentID.NotFound", message));
                }
            }
            world.changed();
            Ok(())
        })
    }

    /// See [`crate::Cloud::set_source_dest_check`].
    pub fn set_source_dest_check(&mut self, eni: &EniId, check: bool) -> Result<(), CloudError> {
        const API: Api = Api::ModifyNetworkInterfaceAttribute;
        self.call(API, |world| {
            world.enis.get_mut(eni).ok_or_else(|| no_eni(API, eni))?.source_dest_check = check;
            world.changed();
            Ok(())
        })
    }

    /// See [`crate::Cloud::assign`].
    pub fn assign(&mut self, eni: &EniId, request: &AddressRequest) -> Result<Assigned, CloudError> {
        const API: Api = Api::AssignPrivateIpAddresses;
        self.call(API, |world| {
            let interface = world.enis.get(eni).ok_or_else(|| no_eni(API, eni))?;
            let subnet = interface.subnet.clone();
            // An address that the ENI has already is confirmed, and takes no second place.
            let missing = match request {
                AddressRequest::Addresses(named) => {
                    Some(named.difference(&interface.addresses).copied().collect())
                }
                AddressRequest::Count(_) | AddressRequest::Prefixes(_) => None,
            };
            let asked_for = missing.map_or_else(|| request.clone(), AddressRequest::Addresses);
            let machine =
                interface.attachment.as_ref().and_then(|at| world.machines.get(at.instance.as_ref()?));
            let room = machine.map_or(UNATTACHED_LIMIT, limit).saturating_sub(places(interface));
            if asked(&asked_for) > room {
                let message = format!("{eni} has room for {room} more");
                return Err(error(API, ErrorClass::QuotaExceeded, "PrivateIpAddressLimitExceeded", message));
            }
            let mut space = world.space(API, &subnet)?.clone();
            let explicit = explicit(API, &mut space, &asked_for)?;
            let mut assigned = explicit.map_or_else(|| counted(API, &mut space, request), Ok)?;
            world.spaces.insert(subnet, space);
            let interface = world.enis.get_mut(eni).ok_or_else(|| no_eni(API, eni))?;
            interface.addresses.extend(&assigned.addresses);
            interface.prefixes.extend(&assigned.prefixes);
            if let AddressRequest::Addresses(named) = request {
                assigned.addresses.clone_from(named);
            }
            world.changed();
            Ok(assigned)
        })
    }

    /// See [`crate::Cloud::unassign`].
    pub fn unassign(
        &mut self,
        eni: &EniId,
        addresses: &BTreeSet<IpAddr>,
        prefixes: &BTreeSet<IpNet>,
    ) -> Result<(), CloudError> {
        const API: Api = Api::UnassignPrivateIpAddresses;
        self.call(API, |world| {
            let interface = world.enis.get_mut(eni).ok_or_else(|| no_eni(API, eni))?;
            if !(addresses.is_subset(&interface.addresses) && prefixes.is_subset(&interface.prefixes)) {
                let message = format!("some of the specified addresses are not assigned to interface {eni}");
                return Err(error(API, ErrorClass::NotFound, "InvalidParameterValue", message));
            }
            interface.addresses.retain(|address| !addresses.contains(address));
            interface.prefixes.retain(|prefix| !prefixes.contains(prefix));
            if let Some(space) = world.spaces.get_mut(&interface.subnet) {
                addresses.iter().for_each(|address| space.give_back(*address));
                prefixes.iter().for_each(|prefix| space.give_back_prefix(*prefix));
            }
            world.changed();
            Ok(())
        })
    }

    /// See [`crate::Cloud::tag_eni`].
    pub fn tag_eni(&mut self, eni: &EniId, tags: &BTreeMap<String, String>) -> Result<(), CloudError> {
        const API: Api = Api::CreateTags;
        self.call(API, |world| {
            let interface = world.enis.get_mut(eni).ok_or_else(|| no_eni(API, eni))?;
            interface.tags.extend(tags.clone());
            world.changed();
            Ok(())
        })
    }
}
