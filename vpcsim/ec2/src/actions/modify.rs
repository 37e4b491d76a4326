//! ModifyNetworkInterfaceAttribute: one attribute per call, as EC2 has it. Description, security groups, source/destination
//! check and DeleteOnTermination of the attachment are known here; attributes that mean nothing in this world are refused, so
//! that nobody believes they had an effect.

use super::{done, parse};
use crate::error::ApiError;
use crate::form::Params;
use crate::id::{AttachmentId, EniId, SecurityGroupId};
use crate::world::World;
use crate::xml::Xml;
use std::collections::BTreeSet;

/// Parameters that EC2 knows and this world has no meaning for.
const UNSUPPORTED: &[&str] = &[
    "AssociatePublicIpAddress",
    "AssociatedSubnetId",
    "Attachment.DefaultEnaQueueCount",
    "Attachment.EnaQueueCount",
    "ConnectionTrackingSpecification",
    "EnaSrdSpecification",
    "EnablePrimaryIpv6",
];

enum Change {
    Description(String),
    SourceDestCheck(bool),
    Groups(BTreeSet<SecurityGroupId>),
    DeleteOnTermination(AttachmentId, bool),
}

pub(super) fn modify(world: &mut World, mut params: Params) -> Result<Xml, ApiError> {
    parse::unsupported(&params, UNSUPPORTED)?;
    let eni: EniId = parse::id(&mut params, "NetworkInterfaceId")?;
    let mut changes = Vec::new();
    changes.extend(params.text("Description.Value").map(Change::Description));
    changes.extend(params.flag("SourceDestCheck.Value")?.map(Change::SourceDestCheck));
    if params.has("SecurityGroupId") {
        changes.push(Change::Groups(parse::groups(world, &mut params)?));
    }
    changes.extend(delete_on_termination(&mut params)?);
    params.finish()?;
    world.eni(&eni)?;
    match (changes.pop(), changes.is_empty()) {
        (Some(change), true) => apply(world, &eni, change)?,
        (None, _) => return Err(ApiError::combination("No attributes specified.")),
        (Some(_), false) => {
            return Err(ApiError::combination("Only one attribute can be modified per request."));
        }
    }
    Ok(done())
}

fn delete_on_termination(params: &mut Params) -> Result<Option<Change>, ApiError> {
    if !params.has("Attachment") {
        return Ok(None);
    }
    let id = parse::id(params, "Attachment.AttachmentId")?;
    let delete = params.flag("Attachment.DeleteOnTermination")?;
    let delete = delete.ok_or_else(|| ApiError::missing("Attachment.DeleteOnTermination"))?;
    Ok(Some(Change::DeleteOnTermination(id, delete)))
}

fn apply(world: &mut World, id: &EniId, change: Change) -> Result<(), ApiError> {
    match change {
        Change::Description(text) => world.eni_mut(id)?.description = text,
        Change::Groups(groups) => world.eni_mut(id)?.groups = groups,
        Change::DeleteOnTermination(attachment, delete) => {
            world.set_delete_on_termination(id, &attachment, delete)?;
        }
        Change::SourceDestCheck(check) => {
            world.eni_mut(id)?.source_dest_check = check;
            world.tell_changed(id);
        }
    }
    Ok(())
}
