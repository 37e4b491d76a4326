//! DescribeNetworkInterfaces: the call that an address pool lives by. Ids that do not exist fail the whole call, also where
//! filters would have hidden them; ids and a page size exclude each other, as in EC2. The values under each filter's name are
//! here too.

use super::filter::Filters;
use super::page::{Page, USUAL};
use super::{parse, show};
use crate::action::Action;
use crate::error::{ApiError, Code};
use crate::form::Params;
use crate::id::EniId;
use crate::world::World;
use crate::world::eni::Eni;
use crate::xml::Xml;
use std::collections::BTreeSet;

pub(super) const FILTERS: &[&str] = &[
    "addresses.primary",
    "addresses.private-ip-address",
    "attachment.attachment-id",
    "attachment.delete-on-termination",
    "attachment.device-index",
    "attachment.instance-id",
    "attachment.instance-owner-id",
    "attachment.network-card-index",
    "attachment.status",
    "availability-zone",
    "description",
    "group-id",
    "group-name",
    "interface-type",
    "mac-address",
    "network-interface-id",
    "owner-id",
    "private-dns-name",
    "private-ip-address",
    "requester-id",
    "requester-managed",
    "source-dest-check",
    "status",
    "subnet-id",
    "tag-key",
    "vpc-id",
];

pub(super) fn describe(world: &World, seal: u64, mut params: Params) -> Result<Xml, ApiError> {
    let ids: BTreeSet<EniId> = parse::ids(&mut params, "NetworkInterfaceId")?;
    let filters = Filters::take(&mut params, FILTERS)?;
    let page = Page::take(&mut params, Action::DescribeNetworkInterfaces, seal, USUAL)?;
    // Whether ENIs of managed services are wanted too; there are none here.
    params.flag("IncludeManagedResources")?;
    params.finish()?;
    page.not_with_ids(!ids.is_empty(), "networkInterfaceIds")?;
    let unknown: Vec<&str> =
        ids.iter().filter(|id| !world.enis.contains_key(id)).map(EniId::as_str).collect();
    match unknown.as_slice() {
        [] => {}
        [id] => {
            return Err(Code::EniNotFound.because(format!("The networkInterface ID '{id}' does not exist")));
        }
        several => {
            let message = format!("The networkInterface IDs '{}' do not exist", several.join(", "));
            return Err(Code::EniNotFound.because(message));
        }
    }
    let wanted = world.enis.values().filter(|eni| ids.is_empty() || ids.contains(&eni.id));
    let found = wanted.filter(|eni| filters.pass(&eni.tags, |name| values(world, eni, name)));
    let (enis, next) = page.cut(found.map(|eni| (eni.id.as_str(), eni)));
    let mut xml = Xml::default();
    xml.list("networkInterfaceSet", enis, |xml, eni| show::interface(xml, world, eni));
    show::next_token(&mut xml, next);
    Ok(xml)
}

pub(super) fn values(world: &World, eni: &Eni, name: &str) -> Vec<String> {
    if let Some(name) = name.strip_prefix("attachment.") {
        return attachment_values(world, eni, name);
    }
    let one = |value: String| vec![value];
    match name {
        "addresses.primary" if eni.secondary.is_empty() => one(true.to_string()),
        "addresses.primary" => vec![true.to_string(), false.to_string()],
        "addresses.private-ip-address" => {
            std::iter::once(&eni.primary).chain(&eni.secondary).map(ToString::to_string).collect()
        }
        "availability-zone" => {
            world.subnets.get(&eni.subnet).map(|subnet| subnet.zone.clone()).into_iter().collect()
        }
        "description" => one(eni.description.clone()),
        "group-id" => eni.groups.iter().map(ToString::to_string).collect(),
        "group-name" => {
            eni.groups.iter().filter_map(|id| world.groups.get(id)).map(|group| group.name.clone()).collect()
        }
        "interface-type" => one("interface".to_owned()),
        "mac-address" => one(eni.mac.to_string()),
        "network-interface-id" => one(eni.id.to_string()),
        "owner-id" => one(world.account.clone()),
        "private-dns-name" => one(Eni::dns_name(eni.primary, &world.region)),
        "private-ip-address" => one(eni.primary.to_string()),
        "requester-id" => one(eni.requester.clone()),
        "requester-managed" => one(false.to_string()),
        "source-dest-check" => one(eni.source_dest_check.to_string()),
        "status" => one(eni.status().to_owned()),
        "subnet-id" => one(eni.subnet.to_string()),
        "vpc-id" => one(world.vpc.id.to_string()),
        _ => Vec::new(),
    }
}

fn attachment_values(world: &World, eni: &Eni, name: &str) -> Vec<String> {
    let Some(place) = &eni.attachment else { return Vec::new() };
    let value = match name {
        "attachment-id" => place.id.to_string(),
        "delete-on-termination" => place.delete_on_termination.to_string(),
        "device-index" => place.device_index.to_string(),
        "instance-id" => place.instance.to_string(),
        "instance-owner-id" => world.account.clone(),
        "network-card-index" => place.card.to_string(),
        "status" => place.status.text().to_owned(),
        _ => return Vec::new(),
    };
    vec![value]
}
