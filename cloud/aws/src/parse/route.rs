//! Route tables. What EC2 may add later (an origin, a state, a kind of target) does not make a table unreadable: the
//! controller leaves alone what it does not know, and one strange route must not stop it from repairing the others.

use super::answer::{Answer, tags};
use aws_sdk_ec2::types::{
    Route as SdkRoute, RouteOrigin as SdkOrigin, RouteState as SdkState, RouteTable as SdkTable,
    RouteTableAssociation, RouteTableAssociationStateCode as Code,
};
use ipnet::IpNet;
use spur_cloud::{
    Association, CloudError, Destination, Route, RouteOrigin, RouteState, RouteTable, RouteTableId,
    RouteTarget,
};

pub(crate) fn route_table(answer: &Answer, from: &SdkTable) -> Result<RouteTable, CloudError> {
    let id: RouteTableId = answer.parsed("routeTableId", from.route_table_id())?;
    let answer = &answer.about(&id);
    let in_force = from.associations().iter().filter(|association| is_in_force(association));
    Ok(RouteTable {
        vpc: answer.parsed("vpcId", from.vpc_id())?,
        associations: in_force
            .map(|association| self::association(answer, association))
            .collect::<Result<_, _>>()?,
        routes: from.routes().iter().map(|route| self::route(answer, route)).collect::<Result<_, _>>()?,
        tags: tags(from.tags.as_deref()),
        id,
    })
}

fn is_in_force(association: &RouteTableAssociation) -> bool {
    let state = association.association_state().and_then(|state| state.state());
    !matches!(state, Some(Code::Disassociating | Code::Disassociated | Code::Failed))
}

fn association(answer: &Answer, from: &RouteTableAssociation) -> Result<Association, CloudError> {
    match (from.subnet_id(), from.gateway_id()) {
        (Some(subnet), _) => answer.parsed("associationSet.subnetId", Some(subnet)).map(Association::Subnet),
        (None, Some(gateway)) => Ok(Association::Gateway(gateway.to_owned())),
        (None, None) if from.main() == Some(true) => Ok(Association::Main),
        (None, None) => Err(answer.bug("associationSet", "has one without subnet, gateway or main")),
    }
}

fn route(answer: &Answer, from: &SdkRoute) -> Result<Route, CloudError> {
    Ok(Route {
        destination: destination(answer, from)?,
        target: target(answer, from)?,
        origin: match answer.some("routeSet.origin", from.origin())? {
            SdkOrigin::CreateRouteTable => RouteOrigin::CreateRouteTable,
            SdkOrigin::CreateRoute => RouteOrigin::CreateRoute,
            SdkOrigin::EnableVgwRoutePropagation => RouteOrigin::EnableVgwRoutePropagation,
            SdkOrigin::Advertisement => RouteOrigin::Advertisement,
            other => RouteOrigin::Other(other.as_str().to_owned()),
        },
        state: match answer.some("routeSet.state", from.state())? {
            SdkState::Active => RouteState::Active,
            SdkState::Blackhole => RouteState::Blackhole,
            other => RouteState::Other(other.as_str().to_owned()),
        },
    })
}

fn destination(answer: &Answer, from: &SdkRoute) -> Result<Destination, CloudError> {
    const FIELD: &str = "routeSet.destinationCidrBlock";
    if let Some(list) = from.destination_prefix_list_id() {
        return Ok(Destination::PrefixList(list.to_owned()));
    }
    let text = from.destination_cidr_block().or_else(|| from.destination_ipv6_cidr_block());
    let text = answer.some(FIELD, text)?;
    match text.parse::<IpNet>() {
        Ok(net) if net == net.trunc() => Ok(Destination::Cidr(net)),
        _ => Err(answer.bug(FIELD, format_args!("is {text:?}, expected a CIDR without host bits"))),
    }
}

/// The ENI before the instance that EC2 names beside it. A target of a kind newer than the SDK has no name at all.
fn target(answer: &Answer, from: &SdkRoute) -> Result<RouteTarget, CloudError> {
    if let Some(eni) = from.network_interface_id() {
        return answer.parsed("routeSet.networkInterfaceId", Some(eni)).map(RouteTarget::Eni);
    }
    if from.gateway_id() == Some("local") {
        return Ok(RouteTarget::Local);
    }
    let others = [
        from.gateway_id(),
        from.nat_gateway_id(),
        from.transit_gateway_id(),
        from.vpc_peering_connection_id(),
        from.egress_only_internet_gateway_id(),
        from.local_gateway_id(),
        from.carrier_gateway_id(),
        from.core_network_arn(),
        from.odb_network_arn(),
        from.instance_id(),
    ];
    Ok(RouteTarget::Other(others.into_iter().flatten().next().unwrap_or_default().to_owned()))
}
