//! ENIs on their way to and from instances.

use crate::World;
use crate::difference::{
    DELETE_ATTACHED, DELETE_ON_TERMINATION, DEVICE_INDEX, ENI_QUOTA, INSTANT_ATTACHMENT, OTHER_ZONE,
    SECOND_ATTACHMENT,
};
use crate::world::{class, refused};
use anyhow::{Context, ensure};
use spur_cloud::{
    Attachment, AttachmentId, AttachmentStatus, CardIndex, Cloud, CloudError, DeviceIndex, Eni, EniQuery,
    EniStatus, ErrorClass,
};

async fn attach(world: &World, eni: &Eni, node: &str, index: u32) -> Result<AttachmentId, CloudError> {
    let node = world.node(node).expect("contract.yaml has the node");
    world.cloud.attach_eni(&eni.id, &node.instance, DeviceIndex(index), CardIndex(0)).await
}

fn attached(eni: &Eni) -> bool {
    matches!(&eni.attachment, Some(at) if at.status == AttachmentStatus::Attached)
}

/// The whole life of an ENI on an instance.
pub async fn attaches_and_detaches_an_eni(world: &World) -> anyhow::Result<()> {
    let node = world.node("attach")?;
    let eni = world.create("zone-a", 2).await?;
    let id = attach(world, &eni, "attach", 1).await?;
    let seen = world.until(&eni.id, attached).await?;
    let attachment = seen.attachment.context("just seen")?;
    let expected = Attachment {
        id: id.clone(),
        instance: Some(node.instance.clone()),
        device_index: DeviceIndex(1),
        card: CardIndex(0),
        status: AttachmentStatus::Attached,
        delete_on_termination: false,
    };
    ensure!(attachment == expected, "{attachment:?}");
    ensure!(seen.status == EniStatus::InUse && seen.addresses == eni.addresses, "{:?}", seen.status);
    let of_instance = world.cloud.enis(&EniQuery::OfInstance(node.instance.clone())).await?;
    ensure!(of_instance.iter().any(|found| found.id == eni.id) && of_instance.len() == 2, "{of_instance:?}");
    ensure!(world.cloud.instance(&node.instance).await?.enis.contains(&eni.id));

    world.cloud.detach_eni(&id).await?;
    let free = world.until(&eni.id, |eni| eni.attachment.is_none()).await?;
    ensure!(free.status == EniStatus::Available && free.addresses == eni.addresses, "{free:?}");
    world.cloud.delete_eni(&eni.id).await?;
    Ok(())
}

/// The caller sees that it has to wait.
pub async fn attaches_after_a_while(world: &World) -> anyhow::Result<()> {
    let eni = world.create("zone-a", 0).await?;
    attach(world, &eni, "waiting", 1).await?;
    let status = world.eni(&eni.id).await?.attachment.map(|attachment| attachment.status);
    let (ec2, instead) = (Some(AttachmentStatus::Attaching), Some(AttachmentStatus::Attached));
    world.settle(&INSTANT_ATTACHMENT, &status, &ec2, &instead)?;
    world.until(&eni.id, attached).await?;
    Ok(())
}

/// Both ways, and read back.
pub async fn sets_whether_an_eni_dies_with_its_instance(world: &World) -> anyhow::Result<()> {
    let eni = world.create("zone-a", 0).await?;
    let id = attach(world, &eni, "termination", 1).await?;
    world.until(&eni.id, attached).await?;
    world.cloud.set_delete_on_termination(&eni.id, &id, true).await?;
    let set = world.eni(&eni.id).await?.attachment.context("still attached")?.delete_on_termination;
    world.settle(&DELETE_ON_TERMINATION, &set, &true, &false)?;
    world.cloud.set_delete_on_termination(&eni.id, &id, false).await?;
    let attachment = world.eni(&eni.id).await?.attachment.context("still attached")?;
    ensure!(!attachment.delete_on_termination, "{attachment:?}");
    Ok(())
}

/// An m5.large has three ENIs.
pub async fn refuses_enis_beyond_the_quota_of_an_instance(world: &World) -> anyhow::Result<()> {
    for index in 1..3 {
        attach(world, &world.create("zone-a", 0).await?, "eni-quota", index).await?;
    }
    let result = attach(world, &world.create("zone-a", 0).await?, "eni-quota", 3).await;
    world.settle(&ENI_QUOTA, &class(&result), &Some(ErrorClass::QuotaExceeded), &None)
}

/// One ENI per index, also while the first is still on its way.
pub async fn refuses_a_device_index_that_is_taken(world: &World) -> anyhow::Result<()> {
    attach(world, &world.create("zone-a", 0).await?, "index", 1).await?;
    let result = attach(world, &world.create("zone-a", 0).await?, "index", 1).await;
    world.settle(&DEVICE_INDEX, &class(&result), &Some(ErrorClass::Conflict), &None)
}

/// One instance per ENI.
pub async fn refuses_to_attach_an_eni_twice(world: &World) -> anyhow::Result<()> {
    let eni = world.create("zone-a", 0).await?;
    attach(world, &eni, "twice", 1).await?;
    let result = attach(world, &eni, "twice", 2).await;
    world.settle(&SECOND_ATTACHMENT, &class(&result), &Some(ErrorClass::Conflict), &None)
}

/// An ENI stays in its zone.
pub async fn refuses_to_attach_across_zones(world: &World) -> anyhow::Result<()> {
    let eni = world.create("zone-b", 0).await?;
    let result = attach(world, &eni, "zone", 1).await;
    world.settle(&OTHER_ZONE, &class(&result), &Some(ErrorClass::Bug), &None)
}

/// Detach first.
pub async fn refuses_to_delete_an_attached_eni(world: &World) -> anyhow::Result<()> {
    let eni = world.create("zone-a", 0).await?;
    attach(world, &eni, "in-use", 1).await?;
    let result = world.cloud.delete_eni(&eni.id).await;
    world.settle(&DELETE_ATTACHED, &class(&result), &Some(ErrorClass::Conflict), &None)
}

/// An instance keeps its first ENI for life.
pub async fn refuses_to_detach_the_primary_eni(world: &World) -> anyhow::Result<()> {
    let node = world.node("primary")?;
    let enis = world.cloud.enis(&EniQuery::OfInstance(node.instance.clone())).await?;
    let primary = enis.iter().filter_map(|eni| eni.attachment.as_ref()).find(|at| at.device_index.0 == 0);
    let result = world.cloud.detach_eni(&primary.context("a primary ENI")?.id).await;
    refused(&result, ErrorClass::Denied)
}

/// What is gone already is not found.
pub async fn refuses_to_detach_what_is_not_attached(world: &World) -> anyhow::Result<()> {
    let unknown = "eni-attach-0123456789abcdef0".parse()?;
    refused(&world.cloud.detach_eni(&unknown).await, ErrorClass::NotFound)
}
