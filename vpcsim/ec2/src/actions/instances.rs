//! DescribeInstances. Every node is a running instance with a reservation of its own, as if each had been launched alone;
//! its first security groups and its primary ENI are the instance's. What EC2 shows of disks, keys and billing is left out
//! rather than invented.

use super::filter::Filters;
use super::page::{Page, USUAL};
use super::{parse, show};
use crate::action::Action;
use crate::error::{ApiError, Code};
use crate::form::Params;
use crate::id::InstanceId;
use crate::imds::IMAGE;
use crate::world::eni::Eni;
use crate::world::{Instance, World, zone_id};
use crate::xml::Xml;
use std::collections::BTreeSet;

pub(super) const FILTERS: &[&str] = &[
    "availability-zone",
    "image-id",
    "instance-id",
    "instance-state-code",
    "instance-state-name",
    "instance-type",
    "instance.group-id",
    "instance.group-name",
    "network-interface.network-interface-id",
    "network-interface.subnet-id",
    "network-interface.vpc-id",
    "owner-id",
    "private-dns-name",
    "private-ip-address",
    "reservation-id",
    "subnet-id",
    "tag-key",
    "vpc-id",
];

pub(super) fn describe(world: &World, seal: u64, mut params: Params) -> Result<Xml, ApiError> {
    let ids: BTreeSet<InstanceId> = parse::ids(&mut params, "InstanceId")?;
    let filters = Filters::take(&mut params, FILTERS)?;
    let page = Page::take(&mut params, Action::DescribeInstances, seal, USUAL)?;
    // Whether instances of managed services are wanted too; there are none here.
    params.flag("IncludeManagedResources")?;
    params.finish()?;
    page.not_with_ids(!ids.is_empty(), "instancesSet")?;
    let unknown: Vec<&str> =
        ids.iter().filter(|id| !world.instances.contains_key(id)).map(InstanceId::as_str).collect();
    match unknown.as_slice() {
        [] => {}
        [id] => return Err(Code::InstanceNotFound.because(format!("The instance ID '{id}' does not exist"))),
        several => {
            let message = format!("The instance IDs '{}' do not exist", several.join(", "));
            return Err(Code::InstanceNotFound.because(message));
        }
    }
    let wanted = world.instances.values().filter(|instance| ids.is_empty() || ids.contains(&instance.id));
    let found = wanted.filter(|instance| filters.pass(&instance.tags, |name| values(world, instance, name)));
    let (instances, next) = page.cut(found.map(|instance| (instance.id.as_str(), instance)));
    let mut xml = Xml::default();
    xml.list("reservationSet", instances, |xml, instance| {
        xml.text("reservationId", &instance.reservation);
        xml.text("ownerId", &world.account);
        xml.element("groupSet", |_| ());
        xml.list("instancesSet", [instance], |xml, instance| show_instance(xml, world, instance));
    });
    show::next_token(&mut xml, next);
    Ok(xml)
}

fn primary<'w>(world: &'w World, instance: &'w Instance) -> Option<&'w Eni> {
    world.enis_of(&instance.id).into_iter().next()
}

pub(super) fn values(world: &World, instance: &Instance, name: &str) -> Vec<String> {
    let one = |value: String| vec![value];
    let groups = || instance.groups.iter().filter_map(|id| world.groups.get(id));
    let enis = || world.enis_of(&instance.id).into_iter();
    match name {
        "availability-zone" => one(instance.zone.clone()),
        "image-id" => one(IMAGE.to_owned()),
        "instance-id" => one(instance.id.to_string()),
        "instance-state-code" => one(state(instance).0.to_string()),
        "instance-state-name" => one(state(instance).1.to_owned()),
        "instance-type" => one(instance.instance_type.clone()),
        "instance.group-id" => groups().map(|group| group.id.to_string()).collect(),
        "instance.group-name" => groups().map(|group| group.name.clone()).collect(),
        "network-interface.network-interface-id" => enis().map(|eni| eni.id.to_string()).collect(),
        "network-interface.subnet-id" => enis().map(|eni| eni.subnet.to_string()).collect(),
        "network-interface.vpc-id" | "vpc-id" => one(world.vpc.id.to_string()),
        "owner-id" => one(world.account.clone()),
        "private-dns-name" => primary(world, instance)
            .map(|eni| Eni::dns_name(eni.primary, &world.region))
            .into_iter()
            .collect(),
        "private-ip-address" => {
            primary(world, instance).map(|eni| eni.primary.to_string()).into_iter().collect()
        }
        "reservation-id" => one(instance.reservation.clone()),
        "subnet-id" => one(instance.subnet.to_string()),
        _ => Vec::new(),
    }
}

/// EC2's number and word for the instance's state.
const fn state(instance: &Instance) -> (u32, &'static str) {
    if instance.terminated { (48, "terminated") } else { (16, "running") }
}

fn show_instance(xml: &mut Xml, world: &World, instance: &Instance) {
    xml.text("instanceId", &instance.id);
    xml.text("imageId", IMAGE);
    xml.element("instanceState", |xml| {
        let (code, name) = state(instance);
        xml.text("code", code);
        xml.text("name", name);
    });
    if let Some(eni) = primary(world, instance) {
        xml.text("privateDnsName", Eni::dns_name(eni.primary, &world.region));
        xml.text("privateIpAddress", eni.primary);
        xml.text("sourceDestCheck", eni.source_dest_check);
    }
    xml.text("dnsName", "");
    xml.text("reason", "");
    xml.text("amiLaunchIndex", 0);
    xml.element("productCodes", |_| ());
    xml.text("instanceType", &instance.instance_type);
    xml.text("launchTime", world.launched.with_millis());
    xml.element("placement", |xml| {
        xml.text("availabilityZone", &instance.zone);
        xml.text("availabilityZoneId", zone_id(&world.region, &instance.zone));
        xml.text("groupName", "");
        xml.text("tenancy", "default");
    });
    xml.element("monitoring", |xml| xml.text("state", "disabled"));
    if instance.terminated {
        // Of a terminated instance EC2 forgets the network first.
        xml.element("groupSet", |_| ());
    } else {
        xml.text("subnetId", &instance.subnet);
        xml.text("vpcId", &world.vpc.id);
        show::groups(xml, world, &instance.groups);
    }
    xml.text("architecture", "x86_64");
    xml.text("virtualizationType", "hvm");
    xml.text("enaSupport", true);
    show::tags(xml, &instance.tags);
    xml.list("networkInterfaceSet", world.enis_of(&instance.id), |xml, eni| {
        show::interface_of_instance(xml, world, eni);
    });
}
