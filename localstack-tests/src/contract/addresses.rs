//! Secondary addresses and prefixes of an ENI.

use crate::World;
use crate::difference::{
    ABSENT_ADDRESS, ADDRESS_QUOTA, ASSIGNMENT_ANSWER, FOREIGN_ADDRESS, FULL_SUBNET, PREFIXES, PRIMARY_ADDRESS,
};
use crate::world::{class, refused};
use anyhow::{Context, ensure};
use spur_cloud::{AddressRequest, CardIndex, Cloud, DeviceIndex, ErrorClass};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Addresses come, are of the subnet, and go again.
pub async fn assigns_and_unassigns_addresses(world: &World) -> anyhow::Result<()> {
    let subnet = world.subnet("zone-a").await?;
    let before = world.create("zone-a", 1).await?;
    world.cloud.assign(&before.id, &AddressRequest::Count(3)).await?;
    let with = world.eni(&before.id).await?;
    ensure!(with.addresses.len() == 4 && with.addresses.is_superset(&before.addresses), "{with:?}");
    ensure!(with.addresses.iter().all(|address| subnet.cidr.contains(address)), "{with:?}");
    let new: BTreeSet<IpAddr> = with.addresses.difference(&before.addresses).copied().collect();
    world.cloud.unassign(&before.id, &new, &BTreeSet::new()).await?;
    ensure!(world.eni(&before.id).await? == before);
    let unknown = "eni-0123456789abcdef0".parse()?;
    refused(&world.cloud.assign(&unknown, &AddressRequest::Count(1)).await, ErrorClass::NotFound)?;
    refused(&world.cloud.unassign(&unknown, &new, &BTreeSet::new()).await, ErrorClass::NotFound)
}

/// What the caller did not have before, and nothing else.
pub async fn answers_an_assignment_with_what_is_new(world: &World) -> anyhow::Result<()> {
    let before = world.create("zone-a", 2).await?;
    let assigned = world.cloud.assign(&before.id, &AddressRequest::Count(2)).await?.addresses;
    let after = world.eni(&before.id).await?;
    let new: BTreeSet<IpAddr> = after.addresses.difference(&before.addresses).copied().collect();
    let everything: BTreeSet<IpAddr> = after.addresses.iter().chain([&after.primary]).copied().collect();
    world.settle(&ASSIGNMENT_ANSWER, &assigned, &new, &everything)
}

/// The caller may choose.
pub async fn assigns_addresses_by_name(world: &World) -> anyhow::Result<()> {
    let eni = world.create("zone-b", 0).await?;
    let chosen: BTreeSet<IpAddr> = BTreeSet::from(["10.40.90.7".parse()?, "10.40.90.9".parse()?]);
    world.cloud.assign(&eni.id, &AddressRequest::Addresses(chosen.clone())).await?;
    ensure!(world.eni(&eni.id).await?.addresses == chosen);
    world.cloud.unassign(&eni.id, &chosen, &BTreeSet::new()).await?;
    ensure!(world.eni(&eni.id).await?.addresses.is_empty());
    Ok(())
}

/// An address that a pod on another ENI may hold is not taken from it.
pub async fn leaves_an_address_with_the_eni_that_has_it(world: &World) -> anyhow::Result<()> {
    let (owner, other) = (world.create("zone-a", 1).await?, world.create("zone-a", 0).await?);
    let stolen = world.cloud.assign(&other.id, &AddressRequest::Addresses(owner.addresses.clone())).await;
    ensure!(world.eni(&owner.id).await?.addresses == owner.addresses);
    world.settle(&FOREIGN_ADDRESS, &class(&stolen), &Some(ErrorClass::Conflict), &None)
}

/// The caller learns that its view is old.
pub async fn refuses_to_unassign_an_absent_address(world: &World) -> anyhow::Result<()> {
    let eni = world.create("zone-a", 1).await?;
    let absent = BTreeSet::from(["10.40.15.200".parse()?]);
    let result = world.cloud.unassign(&eni.id, &absent, &BTreeSet::new()).await;
    ensure!(world.eni(&eni.id).await?.addresses == eni.addresses);
    world.settle(&ABSENT_ADDRESS, &class(&result), &Some(ErrorClass::NotFound), &None)
}

/// The primary address is the ENI's for life.
pub async fn refuses_to_unassign_the_primary_address(world: &World) -> anyhow::Result<()> {
    let eni = world.create("zone-a", 1).await?;
    let result = world.cloud.unassign(&eni.id, &BTreeSet::from([eni.primary]), &BTreeSet::new()).await;
    world.settle(&PRIMARY_ADDRESS, &class(&result), &Some(ErrorClass::NotFound), &None)
}

/// A /28 comes whole and goes whole.
pub async fn assigns_and_unassigns_prefixes(world: &World) -> anyhow::Result<()> {
    let subnet = world.subnet("zone-b").await?;
    let eni = world.create("zone-b", 0).await?;
    let assigned = world.cloud.assign(&eni.id, &AddressRequest::Prefixes(2)).await?.prefixes;
    ensure!(assigned.iter().all(|prefix| subnet.cidr.contains(prefix)), "{assigned:?}");
    world.settle(&PREFIXES, &assigned.len(), &2, &0)?;
    ensure!(world.eni(&eni.id).await?.prefixes == assigned);
    world.cloud.unassign(&eni.id, &BTreeSet::new(), &assigned).await?;
    ensure!(world.eni(&eni.id).await?.prefixes.is_empty());
    Ok(())
}

/// A /28 subnet has eleven addresses; more are refused and nothing is half done.
pub async fn refuses_what_a_full_subnet_has_not(world: &World) -> anyhow::Result<()> {
    let tiny = world.subnet("tiny").await?;
    ensure!(tiny.free_addresses == 11, "{tiny:?}");
    let eni = world.create("tiny", 0).await?;
    let hosts = tiny.cidr.hosts().skip(3).filter(|address| *address != eni.primary);
    let ten = AddressRequest::Addresses(hosts.take(10).collect());
    world.cloud.assign(&eni.id, &ten).await?;
    ensure!(world.subnet("tiny").await?.free_addresses == 0);
    let result = world.cloud.assign(&eni.id, &AddressRequest::Count(6)).await;
    // A count below zero makes no sense, so Spur cannot read the subnet of the wrong emulator any more.
    let after = world.subnet("tiny").await.map(|subnet| subnet.free_addresses).ok();
    world.settle(
        &FULL_SUBNET,
        &(class(&result), after),
        &(Some(ErrorClass::SubnetFull), Some(0)),
        &(None, None),
    )
}

/// An m5.large has ten addresses on an ENI, the primary one included.
pub async fn refuses_addresses_beyond_the_quota_of_an_eni(world: &World) -> anyhow::Result<()> {
    let node = world.node("address-quota")?;
    let eni = world.create("zone-a", 0).await?;
    let hosts =
        world.subnet("zone-a").await?.cidr.hosts().skip(5000).filter(|address| *address != eni.primary);
    world.cloud.assign(&eni.id, &AddressRequest::Addresses(hosts.take(9).collect())).await?;
    world
        .cloud
        .attach_eni(&eni.id, &node.instance, DeviceIndex(1), CardIndex(0))
        .await
        .context("full, not over")?;
    let result = world.cloud.assign(&eni.id, &AddressRequest::Count(1)).await;
    world.settle(&ADDRESS_QUOTA, &class(&result), &Some(ErrorClass::QuotaExceeded), &None)
}
