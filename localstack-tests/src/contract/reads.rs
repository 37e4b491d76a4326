//! What the facts are, and that what does not exist is `NotFound`.

use crate::World;
use crate::world::{refused, tag};
use anyhow::ensure;
use spur_cloud::{Cloud, EniQuery, ErrorClass, InstanceType, SubnetQuery};
use std::collections::{BTreeMap, BTreeSet};

/// Limits as EC2 states them; an unknown type fails the call.
pub async fn reads_the_limits_of_instance_types(world: &World) -> anyhow::Result<()> {
    let names = ["m5.large", "c5.4xlarge", "t2.micro"];
    let types: BTreeSet<InstanceType> = names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    let limits = world.cloud.instance_limits(&types).await?;
    for name in types {
        let builtin = spur_quotas::builtin(name.as_str());
        ensure!(
            limits.get(&name) == builtin.as_ref(),
            "{name}: {:?}, expected {builtin:?}",
            limits.get(&name)
        );
    }
    let unknown = BTreeSet::from(["m5.tiny".parse()?]);
    refused(&world.cloud.instance_limits(&unknown).await, ErrorClass::NotFound)
}

/// Type, place and ENIs of an instance.
pub async fn reads_an_instance(world: &World) -> anyhow::Result<()> {
    let node = world.node("reads")?;
    let instance = world.cloud.instance(&node.instance).await?;
    ensure!(instance.id == node.instance && instance.instance_type.as_str() == "m5.large", "{instance:?}");
    ensure!(instance.vpc == world.vpc && instance.subnet == node.subnet, "{instance:?}");
    ensure!(instance.zone.as_str() == "eu-central-1a" && instance.enis.len() == 1, "{instance:?}");
    let unknown = "i-0123456789abcdef0".parse()?;
    refused(&world.cloud.instance(&unknown).await, ErrorClass::NotFound)
}

/// The primary CIDR comes first, the associated ones follow.
pub async fn reads_a_vpc_with_every_cidr(world: &World) -> anyhow::Result<()> {
    let vpc = world.cloud.vpc(&world.vpc).await?;
    let cidrs: Vec<String> = vpc.cidrs.iter().map(ToString::to_string).collect();
    ensure!(cidrs == ["10.40.0.0/16", "10.41.0.0/16"], "{cidrs:?}");
    refused(&world.cloud.vpc(&"vpc-0123456789abcdef0".parse()?).await, ErrorClass::NotFound)
}

/// Subnets, with the five addresses of EC2 already taken off.
pub async fn reads_subnets_by_id_and_by_tag(world: &World) -> anyhow::Result<()> {
    let zone_b = world.subnet("zone-b").await?;
    ensure!(
        zone_b.cidr.to_string() == "10.40.64.0/18" && zone_b.zone.as_str() == "eu-central-1b",
        "{zone_b:?}"
    );
    ensure!(zone_b.vpc == world.vpc && zone_b.free_addresses <= 16384 - 5, "{zone_b:?}");
    let by_id = world.cloud.subnets(&SubnetQuery::ByIds(BTreeSet::from([zone_b.id.clone()]))).await?;
    ensure!(by_id.len() == 1 && by_id[0].id == zone_b.id, "{by_id:?}");
    let all = world.cloud.subnets(&SubnetQuery::Tagged(world.vpc.clone(), BTreeMap::new())).await?;
    ensure!(all.len() == 4, "no tags means all: {all:?}");
    let none = world.cloud.subnets(&SubnetQuery::Tagged(world.vpc.clone(), tag("nowhere"))).await?;
    ensure!(none.is_empty(), "{none:?}");
    let unknown = SubnetQuery::ByIds(BTreeSet::from(["subnet-0123456789abcdef0".parse()?]));
    refused(&world.cloud.subnets(&unknown).await, ErrorClass::NotFound)
}

/// A star in a tag's value is a star, not everything.
pub async fn reads_security_groups_by_exact_tags(world: &World) -> anyhow::Result<()> {
    let (starred, plain) = (world.groups("a*b").await?, world.groups("axb").await?);
    ensure!(starred.len() == 1 && plain.len() == 1 && starred != plain, "{starred:?} {plain:?}");
    ensure!(world.groups("nobody").await?.is_empty());
    Ok(())
}

/// An ENI is found in every way that Spur looks for one, and is the same each time.
pub async fn reads_enis_by_id_by_instance_and_by_tag(world: &World) -> anyhow::Result<()> {
    let node = world.node("reads")?;
    let of_instance = world.cloud.enis(&EniQuery::OfInstance(node.instance.clone())).await?;
    ensure!(of_instance.len() == 1, "{of_instance:?}");
    let primary = &of_instance[0];
    ensure!(primary.subnet == node.subnet && primary.addresses.is_empty(), "{primary:?}");
    let Some(attachment) = &primary.attachment else { anyhow::bail!("not attached: {primary:?}") };
    ensure!(attachment.device_index.0 == 0 && attachment.instance.as_ref() == Some(&node.instance));
    ensure!(world.eni(&primary.id).await? == *primary);

    let made = world.create("zone-a", 1).await?;
    let tagged = world.cloud.enis(&EniQuery::Tagged(world.vpc.clone(), tag("eni"))).await?;
    ensure!(tagged.contains(&made) && tagged.iter().all(|eni| eni.id != primary.id), "{tagged:?}");
    world.cloud.delete_eni(&made.id).await?;
    let unknown = EniQuery::ByIds(BTreeSet::from(["eni-0123456789abcdef0".parse()?]));
    refused(&world.cloud.enis(&unknown).await, ErrorClass::NotFound)
}
