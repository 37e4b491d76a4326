//! ENIs that are not attached: made, marked, deleted.

use crate::World;
use crate::difference::{
    CLIENT_TOKEN, HARDWARE_ADDRESS, PREFIXES_AT_CREATION, TAGS_OF_NOTHING, TOKEN_MISMATCH,
};
use crate::world::{class, refused, tag};
use anyhow::ensure;
use spur_cloud::{AddressRequest, Cloud, EniQuery, EniStatus, ErrorClass};
use std::collections::BTreeMap;

/// A client that repairs nothing can read the answer.
pub async fn hands_out_hardware_addresses_that_are_valid(world: &World) -> anyhow::Result<()> {
    let node = world.node("reads")?;
    let read = world.bare.enis(&EniQuery::OfInstance(node.instance.clone())).await;
    let blamed = read.as_ref().err().is_some_and(|error| error.message.contains("macAddress"));
    world.settle(&HARDWARE_ADDRESS, &(class(&read), blamed), &(None, false), &(Some(ErrorClass::Bug), true))
}

/// A new ENI is what was wanted, its addresses leave the subnet, and its end gives them back.
pub async fn creates_and_deletes_an_eni(world: &World) -> anyhow::Result<()> {
    let before = world.subnet("counted").await?;
    let wanted = world.wanted(&before.id, AddressRequest::Count(3)).await?;
    let eni = world.cloud.create_eni(&wanted).await?;
    ensure!(eni.subnet == before.id && eni.vpc == world.vpc && eni.zone == before.zone, "{eni:?}");
    ensure!(eni.addresses.len() == 3 && eni.prefixes.is_empty() && eni.attachment.is_none(), "{eni:?}");
    ensure!(
        eni.addresses.iter().chain([&eni.primary]).all(|address| before.cidr.contains(address)),
        "{eni:?}"
    );
    ensure!(!eni.addresses.contains(&eni.primary), "{eni:?}");
    ensure!(eni.security_groups == world.groups("pods").await?, "{eni:?}");
    ensure!(eni.tags == tag("eni") && eni.description == "made by a contract", "{eni:?}");
    ensure!(eni.source_dest_check && eni.mac.octets()[0] & 1 == 0, "{eni:?}");
    let settled = world.until(&eni.id, |eni| eni.status == EniStatus::Available).await?;
    ensure!(settled.addresses == eni.addresses && settled.mac == eni.mac, "{settled:?}");

    ensure!(world.subnet("counted").await?.free_addresses == before.free_addresses - 4);
    world.cloud.delete_eni(&eni.id).await?;
    ensure!(world.subnet("counted").await?.free_addresses == before.free_addresses);
    refused(&world.cloud.delete_eni(&eni.id).await, ErrorClass::NotFound)
}

/// A create whose answer was lost can be repeated.
pub async fn gives_the_first_eni_for_a_repeated_token(world: &World) -> anyhow::Result<()> {
    let subnet = world.subnet("zone-b").await?;
    let mut wanted = world.wanted(&subnet.id, AddressRequest::Count(1)).await?;
    let first = world.cloud.create_eni(&wanted).await?;
    let again = world.cloud.create_eni(&wanted).await?;
    world.settle(&CLIENT_TOKEN, &(again.id == first.id), &true, &false)?;
    wanted.request = AddressRequest::Count(2);
    let other = world.cloud.create_eni(&wanted).await;
    world.settle(&TOKEN_MISMATCH, &class(&other), &Some(ErrorClass::Bug), &None)
}

/// A subnet that is not there is nobody's bug.
pub async fn refuses_to_create_in_an_unknown_subnet(world: &World) -> anyhow::Result<()> {
    let wanted = world.wanted(&"subnet-0123456789abcdef0".parse()?, AddressRequest::Count(0)).await?;
    refused(&world.cloud.create_eni(&wanted).await, ErrorClass::NotFound)
}

/// Prefixes can come with the ENI.
pub async fn creates_an_eni_with_a_prefix(world: &World) -> anyhow::Result<()> {
    let subnet = world.subnet("zone-b").await?;
    let wanted = world.wanted(&subnet.id, AddressRequest::Prefixes(1)).await?;
    let eni = world.cloud.create_eni(&wanted).await?;
    ensure!(eni.prefixes.iter().all(|prefix| subnet.cidr.contains(prefix)), "{eni:?}");
    world.settle(&PREFIXES_AT_CREATION, &eni.prefixes.len(), &1, &0)
}

/// Tags are added to those that are there.
pub async fn tags_an_eni(world: &World) -> anyhow::Result<()> {
    let eni = world.create("zone-a", 0).await?;
    let more = BTreeMap::from([("node".to_owned(), "a b/ü".to_owned())]);
    world.cloud.tag_eni(&eni.id, &more).await?;
    let tags = world.eni(&eni.id).await?.tags;
    ensure!(tags.len() == 2 && tags["node"] == "a b/ü", "{tags:?}");
    let nothing = world.cloud.tag_eni(&"eni-0123456789abcdef0".parse()?, &more).await;
    world.settle(&TAGS_OF_NOTHING, &class(&nothing), &Some(ErrorClass::NotFound), &None)
}

/// The check can be switched off and on.
pub async fn sets_the_source_destination_check(world: &World) -> anyhow::Result<()> {
    let eni = world.create("zone-a", 0).await?;
    for check in [false, true] {
        world.cloud.set_source_dest_check(&eni.id, check).await?;
        ensure!(world.eni(&eni.id).await?.source_dest_check == check);
    }
    let unknown = "eni-0123456789abcdef0".parse()?;
    refused(&world.cloud.set_source_dest_check(&unknown, false).await, ErrorClass::NotFound)
}
