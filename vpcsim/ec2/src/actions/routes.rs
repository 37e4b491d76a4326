//! CreateRoute, ReplaceRoute and DeleteRoute. A call names one destination and one target; host bits of the destination are
//! cut off, as EC2 does. Targets that this world has not got are refused, so that nobody believes that they lead anywhere;
//! the scenario can put such routes into a table.

use super::{done, parse};
use crate::error::{ApiError, Code};
use crate::form::Params;
use crate::id::{EniId, GatewayId, InstanceId, RouteTableId};
use crate::time::SimTime;
use crate::world::World;
use crate::world::routing::{Target, Wanted};
use crate::xml::Xml;
use ipnet::IpNet;

/// Parameters that EC2 knows and this world has no meaning for.
const UNSUPPORTED: &[&str] = &[
    "CarrierGatewayId",
    "CoreNetworkArn",
    "DestinationPrefixListId",
    "EgressOnlyInternetGatewayId",
    "LocalGatewayId",
    "LocalTarget",
    "NatGatewayId",
    "OdbNetworkArn",
    "TransitGatewayId",
    "VpcEndpointId",
    "VpcPeeringConnectionId",
];

pub(super) fn write(
    world: &mut World,
    now: SimTime,
    wanted: Wanted,
    mut params: Params,
) -> Result<Xml, ApiError> {
    parse::unsupported(&params, UNSUPPORTED)?;
    let table: RouteTableId = parse::id(&mut params, "RouteTableId")?;
    let to = destination(&mut params)?;
    let target = target(world, &mut params)?;
    params.finish()?;
    world.write_route(&table, to, target, wanted, now)?;
    Ok(done())
}

pub(super) fn delete(world: &mut World, now: SimTime, mut params: Params) -> Result<Xml, ApiError> {
    parse::unsupported(&params, &["DestinationPrefixListId"])?;
    let table: RouteTableId = parse::id(&mut params, "RouteTableId")?;
    let to = destination(&mut params)?;
    params.finish()?;
    world.delete_route(&table, to, now)?;
    Ok(done())
}

fn destination(params: &mut Params) -> Result<IpNet, ApiError> {
    let names = ["DestinationCidrBlock", "DestinationIpv6CidrBlock"];
    let [v4, v6] = names.map(|name| params.text(name));
    let wrong = |name: &str, text: &str| ApiError::invalid(name, text, "This is not a valid CIDR block.");
    match (v4, v6) {
        (Some(_), Some(_)) => Err(ApiError::combination("Only one destination can be specified per route.")),
        (Some(text), None) => match text.parse::<IpNet>() {
            Ok(net @ IpNet::V4(_)) => Ok(net.trunc()),
            _ => Err(wrong(names[0], &text)),
        },
        (None, Some(text)) => match text.parse::<IpNet>() {
            Ok(net @ IpNet::V6(_)) => Ok(net.trunc()),
            _ => Err(wrong(names[1], &text)),
        },
        (None, None) => Err(ApiError::missing(names[0])),
    }
}

fn target(world: &World, params: &mut Params) -> Result<Target, ApiError> {
    let eni = params.text("NetworkInterfaceId");
    let instance = params.text("InstanceId");
    let gateway = params.text("GatewayId");
    match (eni, instance, gateway) {
        (Some(id), None, None) => {
            let id = <EniId as parse::Id>::parse(&id)?;
            world.eni(&id).map(|eni| Target::Eni(eni.id.clone()))
        }
        (None, Some(id), None) => only_eni(world, &<InstanceId as parse::Id>::parse(&id)?),
        (None, None, Some(id)) => {
            let id = <GatewayId as parse::Id>::parse(&id)?;
            parse::gateway(world, &id).map(|()| Target::Internet)
        }
        (None, None, None) => Err(Code::MissingParameter.because(
            "The request must contain exactly one of gatewayId, natGatewayId, networkInterfaceId, vpcPeeringConnectionId or instanceId",
        )),
        _ => Err(ApiError::combination("Only one target can be specified per route.")),
    }
}

/// A route to an instance is one to its ENI, which must be its only one.
fn only_eni(world: &World, id: &InstanceId) -> Result<Target, ApiError> {
    let instance = world.instance(id)?;
    match world.enis_of(&instance.id).as_slice() {
        [eni] => Ok(Target::Eni(eni.id.clone())),
        [] => Err(Code::IncorrectState.because(format!("Instance '{id}' has no network interface."))),
        _ => {
            let message = format!(
                "There are multiple interfaces attached to instance '{id}'. Please specify an interface ID for the operation instead."
            );
            Err(Code::InvalidInstance.because(message))
        }
    }
}
