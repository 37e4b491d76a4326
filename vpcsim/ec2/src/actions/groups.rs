//! DescribeSecurityGroups. The groups have names and tags; their rules are not enforced here, so each shows the one rule
//! that EC2 itself gives to new groups: everything may leave. Groups are found by id and by filter; by name EC2 finds only
//! those of a default VPC, and this VPC is none.

use super::filter::Filters;
use super::page::{Page, USUAL};
use super::{parse, show};
use crate::action::Action;
use crate::error::{ApiError, Code};
use crate::form::Params;
use crate::id::SecurityGroupId;
use crate::world::{SecurityGroup, World};
use crate::xml::Xml;
use std::collections::BTreeSet;

pub(super) const FILTERS: &[&str] =
    &["description", "group-id", "group-name", "owner-id", "tag-key", "vpc-id"];

pub(super) fn describe(world: &World, seal: u64, mut params: Params) -> Result<Xml, ApiError> {
    let ids: BTreeSet<SecurityGroupId> = parse::ids(&mut params, "GroupId")?;
    let names = params.list("GroupName")?;
    let filters = Filters::take(&mut params, FILTERS)?;
    let page = Page::take(&mut params, Action::DescribeSecurityGroups, seal, USUAL)?;
    params.finish()?;
    if !names.is_empty() {
        // Names address groups of the default VPC only, and this VPC is not the default one.
        let message =
            "You cannot describe security groups of a nondefault VPC by name; use the filter group-name.";
        return Err(Code::InvalidParameterValue.because(message));
    }
    page.not_with_ids(!ids.is_empty(), "securityGroupIds")?;
    if let Some(id) = ids.iter().find(|id| !world.groups.contains_key(id)) {
        return Err(Code::GroupNotFound.because(format!("The security group '{id}' does not exist")));
    }
    let wanted = world.groups.values().filter(|group| ids.is_empty() || ids.contains(&group.id));
    let found = wanted.filter(|group| filters.pass(&group.tags, |name| values(world, group, name)));
    let (groups, next) = page.cut(found.map(|group| (group.id.as_str(), group)));
    let mut xml = Xml::default();
    xml.list("securityGroupInfo", groups, |xml, group| show_group(xml, world, group));
    show::next_token(&mut xml, next);
    Ok(xml)
}

fn description(group: &SecurityGroup) -> String {
    format!("{} VPC security group", group.name)
}

pub(super) fn values(world: &World, group: &SecurityGroup, name: &str) -> Vec<String> {
    let value = match name {
        "description" => description(group),
        "group-id" => group.id.to_string(),
        "group-name" => group.name.clone(),
        "owner-id" => world.account.clone(),
        "vpc-id" => world.vpc.id.to_string(),
        _ => return Vec::new(),
    };
    vec![value]
}

fn show_group(xml: &mut Xml, world: &World, group: &SecurityGroup) {
    xml.text("ownerId", &world.account);
    xml.text("groupId", &group.id);
    xml.text("groupName", &group.name);
    xml.text("groupDescription", description(group));
    xml.text("vpcId", &world.vpc.id);
    xml.element("ipPermissions", |_| ());
    xml.list("ipPermissionsEgress", [()], |xml, ()| {
        xml.text("ipProtocol", "-1");
        xml.element("groups", |_| ());
        xml.list("ipRanges", ["0.0.0.0/0"], |xml, range| xml.text("cidrIp", range));
        xml.element("ipv6Ranges", |_| ());
        xml.element("prefixListIds", |_| ());
    });
    show::tags(xml, &group.tags);
}
