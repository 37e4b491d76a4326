//! AttachNetworkInterface and DetachNetworkInterface. Both answer when the change has begun; it lands after the scenario's
//! delay. Without NetworkCardIndex an ENI goes to the default card of the type. The primary ENI stays for the life of its
//! instance.

use super::{done, parse};
use crate::error::ApiError;
use crate::form::Params;
use crate::id::{AttachmentId, EniId, InstanceId};
use crate::time::SimTime;
use crate::world::World;
use crate::xml::Xml;

/// Largest device index; no instance has as many ENIs on a card.
const MAX_INDEX: u32 = 255;

pub(super) fn attach(world: &mut World, now: SimTime, mut params: Params) -> Result<Xml, ApiError> {
    parse::unsupported(&params, &["EnaQueueCount", "EnaSrdSpecification"])?;
    let eni: EniId = parse::id(&mut params, "NetworkInterfaceId")?;
    let instance: InstanceId = parse::id(&mut params, "InstanceId")?;
    let index =
        params.number("DeviceIndex", 0..=MAX_INDEX)?.ok_or_else(|| ApiError::missing("DeviceIndex"))?;
    let card = params.number("NetworkCardIndex", 0..=MAX_INDEX)?;
    params.finish()?;
    let (attachment, card) = world.attach(&eni, &instance, index, card, now)?;
    let mut xml = Xml::default();
    xml.text("attachmentId", attachment);
    xml.text("networkCardIndex", card);
    Ok(xml)
}

pub(super) fn detach(world: &mut World, now: SimTime, mut params: Params) -> Result<Xml, ApiError> {
    let attachment: AttachmentId = parse::id(&mut params, "AttachmentId")?;
    let force = params.flag("Force")?.unwrap_or(false);
    params.finish()?;
    world.detach(&attachment, force, now).map(|()| done())
}
