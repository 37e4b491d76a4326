//! Cloud calls: each call of the controller becomes one method of [`CloudRoutes`], once, with a limit on how long it may take. No
//! retry and no decision here.

use crate::agent::in_time;
use spur_cloud::{CloudError, CloudRoutes};
use spur_ipamd_core::vpcroute::{RouteCall, RouteDone};

/// Makes the call. After a transient error nobody knows whether it had its effect.
///
/// # Errors
/// What the cloud says, or a transient one when it says nothing in time.
pub(super) async fn perform<C: CloudRoutes>(cloud: &C, call: &RouteCall) -> Result<RouteDone, CloudError> {
    in_time(call.api(), dispatch(cloud, call)).await
}

async fn dispatch<C: CloudRoutes>(cloud: &C, call: &RouteCall) -> Result<RouteDone, CloudError> {
    let done = |()| RouteDone::Done;
    match call {
        RouteCall::ReadTables(query) => cloud.route_tables(query).await.map(RouteDone::Tables),
        RouteCall::ReadEnis(query) => cloud.enis(query).await.map(RouteDone::Enis),
        RouteCall::ReadSubnets(query) => cloud.subnets(query).await.map(RouteDone::Subnets),
        RouteCall::ReadVpc(vpc) => cloud.vpc(vpc).await.map(RouteDone::Vpc),
        RouteCall::Create { table, block, target } => {
            cloud.create_route(table, *block, target).await.map(done)
        }
        RouteCall::Replace { table, block, target } => {
            cloud.replace_route(table, *block, target).await.map(done)
        }
        RouteCall::Delete { table, block } => cloud.delete_route(table, *block).await.map(done),
        RouteCall::CheckOff { eni } => cloud.set_source_dest_check(eni, false).await.map(done),
        RouteCall::Claim { table, tags } => cloud.tag_route_table(table, tags).await.map(done),
        RouteCall::Unclaim { table, keys } => cloud.untag_route_table(table, keys).await.map(done),
    }
}
