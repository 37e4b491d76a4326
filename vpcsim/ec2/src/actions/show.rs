//! How EC2 writes what several actions show: ENIs, groups, tags, the next page. Names of elements are those of EC2's
//! published model; the witness reads every answer strictly against it. Lists that are empty are written as empty elements,
//! as EC2 does.

use crate::id::SecurityGroupId;
use crate::world::eni::{Attachment, Eni};
use crate::world::{Tags, World, zone_id};
use crate::xml::Xml;
use std::collections::BTreeSet;

pub(super) fn next_token(xml: &mut Xml, token: Option<String>) {
    if let Some(token) = token {
        xml.text("nextToken", token);
    }
}

pub(super) fn tags(xml: &mut Xml, tags: &Tags) {
    xml.list("tagSet", tags, |xml, (key, value)| {
        xml.text("key", key);
        xml.text("value", value);
    });
}

pub(super) fn groups(xml: &mut Xml, world: &World, groups: &BTreeSet<SecurityGroupId>) {
    xml.list("groupSet", groups.iter().filter_map(|id| world.groups.get(id)), |xml, group| {
        xml.text("groupId", &group.id);
        xml.text("groupName", &group.name);
    });
}

/// An ENI as DescribeNetworkInterfaces shows it.
pub(super) fn interface(xml: &mut Xml, world: &World, eni: &Eni) {
    common(xml, world, eni);
    if let Some(subnet) = world.subnets.get(&eni.subnet) {
        xml.text("availabilityZone", &subnet.zone);
        xml.text("availabilityZoneId", zone_id(&world.region, &subnet.zone));
    }
    xml.text("requesterId", &eni.requester);
    xml.text("requesterManaged", false);
    if let Some(place) = &eni.attachment {
        xml.element("attachment", |xml| {
            attachment(xml, place);
            xml.text("instanceId", &place.instance);
            xml.text("instanceOwnerId", &world.account);
        });
    }
    tags(xml, &eni.tags);
}

/// An ENI as DescribeInstances shows it, as a part of its instance.
pub(super) fn interface_of_instance(xml: &mut Xml, world: &World, eni: &Eni) {
    common(xml, world, eni);
    if let Some(place) = &eni.attachment {
        xml.element("attachment", |xml| attachment(xml, place));
    }
}

fn common(xml: &mut Xml, world: &World, eni: &Eni) {
    xml.text("networkInterfaceId", &eni.id);
    xml.text("subnetId", &eni.subnet);
    xml.text("vpcId", &world.vpc.id);
    xml.text("description", &eni.description);
    xml.text("ownerId", &world.account);
    xml.text("status", eni.status());
    xml.text("macAddress", eni.mac);
    xml.text("privateIpAddress", eni.primary);
    xml.text("privateDnsName", Eni::dns_name(eni.primary, &world.region));
    xml.text("sourceDestCheck", eni.source_dest_check);
    xml.text("interfaceType", "interface");
    groups(xml, world, &eni.groups);
    let addresses =
        std::iter::once((&eni.primary, true)).chain(eni.secondary.iter().map(|address| (address, false)));
    xml.list("privateIpAddressesSet", addresses, |xml, (address, primary)| {
        xml.text("privateIpAddress", address);
        xml.text("privateDnsName", Eni::dns_name(*address, &world.region));
        xml.text("primary", primary);
    });
    if !eni.prefixes.is_empty() {
        xml.list("ipv4PrefixSet", &eni.prefixes, |xml, prefix| xml.text("ipv4Prefix", prefix));
    }
    xml.element("ipv6AddressesSet", |_| ());
}

fn attachment(xml: &mut Xml, place: &Attachment) {
    xml.text("attachmentId", &place.id);
    xml.text("deviceIndex", place.device_index);
    xml.text("networkCardIndex", place.card);
    xml.text("status", place.status.text());
    xml.text("attachTime", place.attached_at.with_millis());
    xml.text("deleteOnTermination", place.delete_on_termination);
}
