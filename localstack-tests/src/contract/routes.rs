//! Route tables: read, written, tagged, by what the controller of the `vpcRoute` mode relies on.

use crate::World;
use crate::difference::{
    BLACKHOLE, MORE_SPECIFIC_THAN_LOCAL, RESERVED_DESTINATION, ROUTE_EXISTS, ROUTE_QUOTA,
};
use crate::world::{class, refused, tag};
use anyhow::{Context, ensure};
use ipnet::IpNet;
use spur_cloud::{
    Association, CloudRoutes, ErrorClass, RouteOrigin, RouteState, RouteTable, RouteTableId, RouteTableQuery,
    RouteTarget,
};
use std::collections::{BTreeMap, BTreeSet};

fn net(text: &str) -> anyhow::Result<IpNet> {
    Ok(text.parse()?)
}

fn unknown() -> anyhow::Result<RouteTableId> {
    Ok("rtb-0123456789abcdef0".parse()?)
}

async fn table(world: &World, name: &str) -> anyhow::Result<RouteTable> {
    let query = RouteTableQuery::Tagged(world.vpc.clone(), tag(name));
    let found = world.cloud.route_tables(&query).await?;
    found.into_iter().next().with_context(|| format!("the world has no route table {name}"))
}

/// A table has its associations and a local route for each CIDR; one that does not exist is left out.
pub async fn reads_route_tables_by_id_and_by_tag(world: &World) -> anyhow::Result<()> {
    let table = table(world, "associated").await?;
    let subnet = world.subnet("zone-b").await?.id;
    ensure!(table.vpc == world.vpc && table.tags == tag("associated"), "{table:?}");
    ensure!(table.associations == BTreeSet::from([Association::Subnet(subnet)]), "{table:?}");
    for cidr in ["10.40.0.0/16", "10.41.0.0/16"] {
        let local = table.route(net(cidr)?).with_context(|| format!("no route to {cidr} in {table:?}"))?;
        ensure!(local.target == RouteTarget::Local && local.state == RouteState::Active, "{local:?}");
        ensure!(local.origin == RouteOrigin::CreateRouteTable, "{local:?}");
    }
    let query = RouteTableQuery::ByIds(BTreeSet::from([table.id.clone(), unknown()?]));
    let found = world.cloud.route_tables(&query).await?;
    ensure!(found.iter().map(|found| &found.id).eq([&table.id]), "{found:?}");
    Ok(())
}

/// Exactly one table is the main one, and its association names no subnet.
pub async fn reads_the_main_route_table(world: &World) -> anyhow::Result<()> {
    let query = RouteTableQuery::Tagged(world.vpc.clone(), BTreeMap::new());
    let found = world.cloud.route_tables(&query).await?;
    let main: Vec<_> = found.iter().filter(|table| table.is_main()).collect();
    ensure!(main.len() == 1, "{found:?}");
    ensure!(!found.iter().any(RouteTable::is_edge), "{found:?}");
    Ok(())
}

/// A route leads to the ENI that was named last, until it is deleted.
pub async fn creates_replaces_and_deletes_a_route(world: &World) -> anyhow::Result<()> {
    let table = table(world, "routes").await?.id;
    let (first, second) = (world.primary("reads").await?, world.primary("primary").await?);
    for destination in ["10.99.0.0/25", "2001:db8:99::/80"] {
        let to = net(destination)?;
        world.cloud.create_route(&table, to, &first).await?;
        for (target, replaced) in [(&first, false), (&second, true)] {
            if replaced {
                world.cloud.replace_route(&table, to, target).await?;
            }
            let now = self::table(world, "routes").await?;
            let route = now.route(to).with_context(|| format!("no route to {to} in {now:?}"))?;
            ensure!(route.target == RouteTarget::Eni(target.clone()), "{route:?}");
            ensure!(
                route.origin == RouteOrigin::CreateRoute && route.state == RouteState::Active,
                "{route:?}"
            );
        }
        world.cloud.delete_route(&table, to).await?;
        ensure!(self::table(world, "routes").await?.route(to).is_none());
        refused(&world.cloud.delete_route(&table, to).await, ErrorClass::NoRoute)?;
    }
    Ok(())
}

/// Whoever comes second learns that somebody was there.
pub async fn refuses_a_route_that_exists(world: &World) -> anyhow::Result<()> {
    let table = table(world, "exists").await?.id;
    let (first, second) = (world.primary("reads").await?, world.primary("primary").await?);
    let to = net("10.99.1.0/25")?;
    world.cloud.create_route(&table, to, &first).await?;
    let again = world.cloud.create_route(&table, to, &second).await;
    world.settle(&ROUTE_EXISTS, &class(&again), &Some(ErrorClass::Conflict), &None)
}

/// Replacing and deleting say that there is nothing; the rest says what is missing.
pub async fn refuses_routes_of_what_does_not_exist(world: &World) -> anyhow::Result<()> {
    let table = table(world, "routes").await?.id;
    let eni = world.primary("reads").await?;
    let to = net("10.99.2.0/25")?;
    refused(&world.cloud.replace_route(&table, to, &eni).await, ErrorClass::NoRoute)?;
    refused(&world.cloud.delete_route(&table, to).await, ErrorClass::NoRoute)?;
    refused(&world.cloud.create_route(&unknown()?, to, &eni).await, ErrorClass::NotFound)?;
    refused(&world.cloud.delete_route(&unknown()?, to).await, ErrorClass::NotFound)?;
    let nobody = world.cloud.create_route(&table, to, &"eni-0123456789abcdef0".parse()?).await;
    refused(&nobody, ErrorClass::NotFound)
}

/// A subnet can be led to an ENI as a whole; a part of it can be routed by nobody but the VPC.
pub async fn refuses_a_route_inside_the_vpc(world: &World) -> anyhow::Result<()> {
    let table = table(world, "inside").await?.id;
    let eni = world.primary("reads").await?;
    world.cloud.create_route(&table, world.subnet("counted").await?.cidr, &eni).await?;
    let made = world.cloud.create_route(&table, net("10.40.1.0/25")?, &eni).await;
    world.settle(&MORE_SPECIFIC_THAN_LOCAL, &class(&made), &Some(ErrorClass::Bug), &None)
}

/// EC2's own services have addresses that no route may take from them.
pub async fn refuses_a_route_to_what_is_ec2s_own(world: &World) -> anyhow::Result<()> {
    let table = table(world, "inside").await?.id;
    let eni = world.primary("reads").await?;
    for own in ["169.254.169.0/24", "fd00:ec2::/64"] {
        let made = world.cloud.create_route(&table, net(own)?, &eni).await;
        world.settle(&RESERVED_DESTINATION, &class(&made), &Some(ErrorClass::Bug), &None)?;
    }
    Ok(())
}

/// A route to an ENI that is not attached drops what it matches.
pub async fn shows_a_route_to_an_unattached_eni_as_a_blackhole(world: &World) -> anyhow::Result<()> {
    let id = table(world, "blackhole").await?.id;
    let eni = world.create("zone-a", 0).await?;
    let to = net("10.99.3.0/25")?;
    world.cloud.create_route(&id, to, &eni.id).await?;
    let now = table(world, "blackhole").await?;
    let route = now.route(to).with_context(|| format!("no route to {to} in {now:?}"))?;
    world.settle(&BLACKHOLE, &route.state, &RouteState::Blackhole, &RouteState::Active)
}

/// A table takes no more routes than its quota.
pub async fn refuses_routes_beyond_the_quota_of_a_table(world: &World) -> anyhow::Result<()> {
    let table = table(world, "quota").await?.id;
    let eni = world.primary("reads").await?;
    // 500 by default; the two local routes count.
    for number in 0..249 {
        for half in [0, 128] {
            world.cloud.create_route(&table, net(&format!("10.99.{number}.{half}/25"))?, &eni).await?;
        }
    }
    let one_more = world.cloud.create_route(&table, net("10.100.0.0/25")?, &eni).await;
    world.settle(&ROUTE_QUOTA, &class(&one_more), &Some(ErrorClass::QuotaExceeded), &None)
}

/// A claim is a tag on the table: it comes and goes, and finds the table.
pub async fn tags_and_untags_a_route_table(world: &World) -> anyhow::Result<()> {
    let table = table(world, "tagged").await?.id;
    let claim = BTreeMap::from([("claim".to_owned(), "us".to_owned())]);
    world.cloud.tag_route_table(&table, &claim).await?;
    let query = RouteTableQuery::Tagged(world.vpc.clone(), claim.clone());
    let found = world.cloud.route_tables(&query).await?;
    ensure!(found.iter().map(|found| &found.id).eq([&table]), "{found:?}");
    world.cloud.untag_route_table(&table, &claim.keys().cloned().collect()).await?;
    ensure!(world.cloud.route_tables(&query).await?.is_empty());
    refused(&world.cloud.tag_route_table(&unknown()?, &claim).await, ErrorClass::NotFound)
}
