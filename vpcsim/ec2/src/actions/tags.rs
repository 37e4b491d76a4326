//! CreateTags and DeleteTags, on everything in the world that has tags: ENIs, instances, subnets, security groups, route
//! tables, the VPC. All resources must exist and have room before the first is tagged, so a refused call changes nothing. A tag
//! that is there already gets the new value. A tag to delete is named with its value or without; none named means all.

use super::parse::Id;
use super::{done, parse};
use crate::error::{ApiError, Code};
use crate::form::Params;
use crate::id::{EniId, InstanceId, RouteTableId, SecurityGroupId, SubnetId, VpcId};
use crate::world::{Tags, World};
use crate::xml::Xml;

pub(super) fn create(world: &mut World, mut params: Params) -> Result<Xml, ApiError> {
    let resources = params.list("ResourceId")?;
    let tags = parse::tags(&mut params)?;
    params.finish()?;
    if resources.is_empty() {
        return Err(ApiError::missing("ResourceId"));
    }
    if tags.is_empty() {
        return Err(ApiError::missing("Tag"));
    }
    for resource in &resources {
        let present = tags_of(world, resource)?;
        let new = tags.keys().filter(|key| !present.contains_key(*key)).count();
        if present.len() + new > parse::MAX_TAGS {
            let message =
                format!("The maximum number of tags ({}) of {resource} would be exceeded.", parse::MAX_TAGS);
            return Err(Code::TagLimitExceeded.because(message));
        }
    }
    for resource in &resources {
        tags_of(world, resource)?.extend(tags.clone());
    }
    Ok(done())
}

pub(super) fn delete(world: &mut World, mut params: Params) -> Result<Xml, ApiError> {
    let resources = params.list("ResourceId")?;
    let mut unwanted = Vec::new();
    for mut tag in params.structures("Tag")? {
        unwanted.push((tag.required("Key")?, tag.text("Value")));
        tag.finish()?;
    }
    params.finish()?;
    if resources.is_empty() {
        return Err(ApiError::missing("ResourceId"));
    }
    for resource in &resources {
        tags_of(world, resource)?;
    }
    let is_unwanted = |key: &str, value: &str| {
        let fits = |(name, wanted): &(String, Option<String>)| {
            name == key && wanted.as_ref().is_none_or(|wanted| wanted == value)
        };
        unwanted.is_empty() || unwanted.iter().any(fits)
    };
    for resource in &resources {
        tags_of(world, resource)?.retain(|key, value| !is_unwanted(key, value));
    }
    Ok(done())
}

fn tags_of<'w>(world: &'w mut World, resource: &str) -> Result<&'w mut Tags, ApiError> {
    let kind = resource.split('-').next().unwrap_or_default();
    let missing = |code: Code| code.because(format!("The ID '{resource}' does not exist"));
    match kind {
        "eni" => world.eni_mut(&<EniId as Id>::parse(resource)?).map(|eni| &mut eni.tags),
        "i" => {
            let id = <InstanceId as Id>::parse(resource)?;
            world
                .instances
                .get_mut(&id)
                .map(|found| &mut found.tags)
                .ok_or_else(|| missing(Code::InstanceNotFound))
        }
        "subnet" => {
            let id = <SubnetId as Id>::parse(resource)?;
            world
                .subnets
                .get_mut(&id)
                .map(|found| &mut found.tags)
                .ok_or_else(|| missing(Code::SubnetNotFound))
        }
        "rtb" => world.table_mut(&<RouteTableId as Id>::parse(resource)?).map(|table| &mut table.tags),
        "sg" => {
            let id = <SecurityGroupId as Id>::parse(resource)?;
            world.groups.get_mut(&id).map(|found| &mut found.tags).ok_or_else(|| missing(Code::GroupNotFound))
        }
        "vpc" => {
            let id = <VpcId as Id>::parse(resource)?;
            let vpc = Some(&mut world.vpc).filter(|vpc| vpc.id == id);
            vpc.map(|vpc| &mut vpc.tags).ok_or_else(|| missing(Code::VpcNotFound))
        }
        _ => {
            let shown: String = resource.chars().take(100).collect();
            Err(Code::InvalidId.because(format!("The ID '{shown}' is not valid")))
        }
    }
}
