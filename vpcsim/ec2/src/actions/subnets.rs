//! DescribeSubnets. The count of free addresses is exact at the moment of the call and has EC2's five reserved addresses taken
//! off; a delegated prefix takes sixteen. The older names of filters (`cidr`, `availabilityZone`) are known beside the newer
//! ones, because EC2 keeps them too.

use super::filter::Filters;
use super::page::{Page, USUAL};
use super::{parse, show};
use crate::action::Action;
use crate::error::{ApiError, Code};
use crate::form::Params;
use crate::id::SubnetId;
use crate::world::subnet::Subnet;
use crate::world::{World, zone_id};
use crate::xml::Xml;
use std::collections::BTreeSet;

pub(super) const FILTERS: &[&str] = &[
    "availability-zone",
    "availability-zone-id",
    "availabilityZone",
    "available-ip-address-count",
    "cidr",
    "cidr-block",
    "cidrBlock",
    "default-for-az",
    "owner-id",
    "state",
    "subnet-id",
    "tag-key",
    "vpc-id",
];

pub(super) fn describe(world: &World, seal: u64, mut params: Params) -> Result<Xml, ApiError> {
    let ids: BTreeSet<SubnetId> = parse::ids(&mut params, "SubnetId")?;
    let filters = Filters::take(&mut params, FILTERS)?;
    let page = Page::take(&mut params, Action::DescribeSubnets, seal, USUAL)?;
    params.finish()?;
    if let Some(id) = ids.iter().find(|id| !world.subnets.contains_key(id)) {
        return Err(Code::SubnetNotFound.because(format!("The subnet ID '{id}' does not exist")));
    }
    let wanted = world.subnets.values().filter(|subnet| ids.is_empty() || ids.contains(&subnet.id));
    let found = wanted.filter(|subnet| filters.pass(&subnet.tags, |name| values(world, subnet, name)));
    let (subnets, next) = page.cut(found.map(|subnet| (subnet.id.as_str(), subnet)));
    let mut xml = Xml::default();
    xml.list("subnetSet", subnets, |xml, subnet| show_subnet(xml, world, subnet));
    show::next_token(&mut xml, next);
    Ok(xml)
}

pub(super) fn values(world: &World, subnet: &Subnet, name: &str) -> Vec<String> {
    let value = match name {
        "availability-zone" | "availabilityZone" => subnet.zone.clone(),
        "availability-zone-id" => zone_id(&world.region, &subnet.zone),
        "available-ip-address-count" => subnet.free().to_string(),
        "cidr" | "cidr-block" | "cidrBlock" => subnet.cidr().to_string(),
        "default-for-az" => false.to_string(),
        "owner-id" => world.account.clone(),
        "state" => "available".to_owned(),
        "subnet-id" => subnet.id.to_string(),
        "vpc-id" => world.vpc.id.to_string(),
        _ => return Vec::new(),
    };
    vec![value]
}

fn show_subnet(xml: &mut Xml, world: &World, subnet: &Subnet) {
    xml.text("subnetId", &subnet.id);
    let arn = format!("arn:aws:ec2:{}:{}:subnet/{}", world.region, world.account, subnet.id);
    xml.text("subnetArn", arn);
    xml.text("state", "available");
    xml.text("ownerId", &world.account);
    xml.text("vpcId", &world.vpc.id);
    xml.text("cidrBlock", subnet.cidr());
    xml.element("ipv6CidrBlockAssociationSet", |_| ());
    xml.text("availableIpAddressCount", subnet.free());
    xml.text("availabilityZone", &subnet.zone);
    xml.text("availabilityZoneId", zone_id(&world.region, &subnet.zone));
    xml.text("defaultForAz", false);
    xml.text("mapPublicIpOnLaunch", false);
    xml.text("assignIpv6AddressOnCreation", false);
    show::tags(xml, &subnet.tags);
}
