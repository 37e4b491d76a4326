//! Route tables: DescribeRouteTables, CreateRouteTable, DeleteRouteTable, and their associations. The main association is
//! shown without a subnet. A read that asks neither for pages nor for ids is refused once it would show more than a few
//! tables' routes: large accounts meet this in EC2, and a client that does not ask for pages should meet it in a test.

use super::filter::Filters;
use super::page::Page;
use super::{done, parse, show};
use crate::action::Action;
use crate::error::{ApiError, Code};
use crate::form::Params;
use crate::id::{GatewayId, RouteTableAssociationId, RouteTableId, SubnetId, VpcId};
use crate::world::World;
use crate::world::routing::{Associated, Association, Read, Route, RouteTable, Target};
use crate::xml::Xml;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// What EC2 allows as MaxResults.
const PAGES: RangeInclusive<u32> = 5..=100;

/// Most routes of an answer that was not asked for in pages.
const MOST_UNPAGED: usize = 125;

/// Those of the API reference: it has none for the ENI of a route.
pub(super) const FILTERS: &[&str] = &[
    "association.gateway-id",
    "association.main",
    "association.route-table-association-id",
    "association.route-table-id",
    "association.subnet-id",
    "owner-id",
    "route-table-id",
    "route.destination-cidr-block",
    "route.destination-ipv6-cidr-block",
    "route.destination-prefix-list-id",
    "route.egress-only-internet-gateway-id",
    "route.gateway-id",
    "route.instance-id",
    "route.nat-gateway-id",
    "route.origin",
    "route.state",
    "route.transit-gateway-id",
    "route.vpc-peering-connection-id",
    "tag-key",
    "vpc-id",
];

/// A table with the routes that this read shows.
type Seen<'w> = (&'w RouteTable, Vec<Route>);

pub(super) fn describe(world: &World, seal: u64, read: Read, mut params: Params) -> Result<Xml, ApiError> {
    let is_paged = params.has("MaxResults") || params.has("NextToken");
    let ids: BTreeSet<RouteTableId> = parse::ids(&mut params, "RouteTableId")?;
    let filters = Filters::take(&mut params, FILTERS)?;
    let page = Page::take(&mut params, Action::DescribeRouteTables, seal, PAGES)?;
    params.finish()?;
    for id in &ids {
        world.table(id)?;
    }
    let tables = world.routing.tables.values().filter(|table| ids.is_empty() || ids.contains(&table.id));
    let seen = tables.map(|table| (table, world.shown_routes(table, read)));
    let found = seen.filter(|seen| filters.pass(&seen.0.tags, |name| values(world, seen, name)));
    let found: Vec<Seen<'_>> = found.collect();
    let routes: usize = found.iter().map(|(_, routes)| routes.len()).sum();
    if !is_paged && ids.is_empty() && routes > MOST_UNPAGED {
        let message = "Unpaginated and unqualified requests are not permitted.";
        return Err(Code::OperationNotPermitted.because(message));
    }
    let (tables, next) = page.cut(found.iter().map(|seen| (seen.0.id.as_str(), seen)));
    let mut xml = Xml::default();
    xml.list("routeTableSet", tables, |xml, (table, routes)| show_table(xml, world, table, routes));
    show::next_token(&mut xml, next);
    Ok(xml)
}

pub(super) fn values(world: &World, (table, routes): &Seen<'_>, name: &str) -> Vec<String> {
    if let Some(name) = name.strip_prefix("association.") {
        return table
            .associations
            .iter()
            .filter_map(|of| association_value(world, table, of, name))
            .collect();
    }
    if let Some(name) = name.strip_prefix("route.") {
        return routes.iter().filter_map(|route| route_value(world, route, name)).collect();
    }
    let value = match name {
        "owner-id" => world.account.clone(),
        "route-table-id" => table.id.to_string(),
        "vpc-id" => world.vpc.id.to_string(),
        _ => return Vec::new(),
    };
    vec![value]
}

fn association_value(world: &World, table: &RouteTable, of: &Association, name: &str) -> Option<String> {
    match (name, &of.of) {
        ("gateway-id", Associated::Internet) => Some(world.routing.internet.to_string()),
        ("main", kind) => Some((*kind == Associated::Main).to_string()),
        ("route-table-association-id", _) => Some(of.id.to_string()),
        ("route-table-id", _) => Some(table.id.to_string()),
        ("subnet-id", Associated::Subnet(id)) => Some(id.to_string()),
        _ => None,
    }
}

fn route_value(world: &World, route: &Route, name: &str) -> Option<String> {
    match (name, &route.target) {
        ("destination-cidr-block", _) => Some(route.destination).filter(is_ipv4).map(|net| net.to_string()),
        ("destination-ipv6-cidr-block", _) => {
            Some(route.destination).filter(|net| !is_ipv4(net)).map(|net| net.to_string())
        }
        ("gateway-id", target) => gateway_of(world, target),
        ("egress-only-internet-gateway-id", Target::Foreign(id)) => only(id, "egressOnlyInternetGatewayId"),
        ("nat-gateway-id", Target::Foreign(id)) => only(id, "natGatewayId"),
        ("transit-gateway-id", Target::Foreign(id)) => only(id, "transitGatewayId"),
        ("vpc-peering-connection-id", Target::Foreign(id)) => only(id, "vpcPeeringConnectionId"),
        ("instance-id", Target::Eni(id)) => {
            world.enis.get(id)?.attachment.as_ref().map(|place| place.instance.to_string())
        }
        ("origin", _) => Some(route.origin.text().to_owned()),
        ("state", _) => Some(state_of(route).to_owned()),
        _ => None,
    }
}

const fn is_ipv4(net: &IpNet) -> bool {
    matches!(net, IpNet::V4(_))
}

const fn state_of(route: &Route) -> &'static str {
    if route.is_active { "active" } else { "blackhole" }
}

/// The id in `gatewayId`, where EC2 also writes "local".
fn gateway_of(world: &World, target: &Target) -> Option<String> {
    match target {
        Target::Local => Some("local".to_owned()),
        Target::Internet => Some(world.routing.internet.to_string()),
        Target::Foreign(id) => only(id, "gatewayId"),
        Target::Eni(_) => None,
    }
}

/// The id, if EC2 writes it into this element.
fn only(id: &str, element: &str) -> Option<String> {
    (element_of(id) == element).then(|| id.to_owned())
}

/// Where EC2 writes the id of something outside this world.
fn element_of(id: &str) -> &'static str {
    match id.split('-').next().unwrap_or_default() {
        "nat" => "natGatewayId",
        "tgw" => "transitGatewayId",
        "pcx" => "vpcPeeringConnectionId",
        "eigw" => "egressOnlyInternetGatewayId",
        _ => "gatewayId",
    }
}

fn show_table(xml: &mut Xml, world: &World, table: &RouteTable, routes: &[Route]) {
    xml.text("routeTableId", &table.id);
    xml.text("vpcId", &world.vpc.id);
    xml.text("ownerId", &world.account);
    xml.list("routeSet", routes, |xml, route| show_route(xml, world, route));
    xml.list("associationSet", &table.associations, |xml, of| {
        xml.text("routeTableAssociationId", &of.id);
        xml.text("routeTableId", &table.id);
        match &of.of {
            Associated::Main => {}
            Associated::Subnet(id) => xml.text("subnetId", id),
            Associated::Internet => xml.text("gatewayId", &world.routing.internet),
        }
        xml.text("main", of.of == Associated::Main);
        xml.element("associationState", |xml| xml.text("state", "associated"));
    });
    let learnt = routes.iter().filter(|route| route.origin == crate::scenario::RouteOrigin::Propagated);
    let gateways: BTreeSet<String> = learnt.filter_map(|route| gateway_of(world, &route.target)).collect();
    xml.list("propagatingVgwSet", gateways, |xml, id| xml.text("gatewayId", id));
    show::tags(xml, &table.tags);
}

fn show_route(xml: &mut Xml, world: &World, route: &Route) {
    let family =
        if is_ipv4(&route.destination) { "destinationCidrBlock" } else { "destinationIpv6CidrBlock" };
    xml.text(family, route.destination);
    match &route.target {
        Target::Local | Target::Internet => {
            if let Some(id) = gateway_of(world, &route.target) {
                xml.text("gatewayId", id);
            }
        }
        Target::Foreign(id) => xml.text(element_of(id), id),
        Target::Eni(id) => {
            if let Some(place) = world.enis.get(id).and_then(|eni| eni.attachment.as_ref()) {
                xml.text("instanceId", &place.instance);
                xml.text("instanceOwnerId", &world.account);
            }
            xml.text("networkInterfaceId", id);
        }
    }
    xml.text("origin", route.origin.text());
    xml.text("state", state_of(route));
}

pub(super) fn create(world: &mut World, mut params: Params) -> Result<Xml, ApiError> {
    let token = params.text("ClientToken").filter(|token| !token.is_empty());
    let vpc: VpcId = parse::id(&mut params, "VpcId")?;
    let tags = parse::tag_specification(&mut params, "route-table")?;
    params.finish()?;
    parse::vpc(world, &vpc)?;
    let known = token.as_ref().and_then(|token| world.routing.tokens.get(token)).cloned();
    let id = match known.filter(|id| world.routing.tables.contains_key(id)) {
        Some(id) => id,
        None => world.create_table(tags)?,
    };
    let mut xml = Xml::default();
    let table = world.table(&id)?;
    let routes = world.routes(table);
    xml.element("routeTable", |xml| show_table(xml, world, table, &routes));
    if let Some(token) = token {
        xml.text("clientToken", &token);
        world.routing.tokens.insert(token, id);
    }
    Ok(xml)
}

pub(super) fn delete(world: &mut World, mut params: Params) -> Result<Xml, ApiError> {
    let id: RouteTableId = parse::id(&mut params, "RouteTableId")?;
    params.finish()?;
    world.delete_table(&id).map(|()| done())
}

pub(super) fn associate(world: &mut World, mut params: Params) -> Result<Xml, ApiError> {
    parse::unsupported(&params, &["PublicIpv4Pool"])?;
    let table: RouteTableId = parse::id(&mut params, "RouteTableId")?;
    let (subnet, gateway) = (params.text("SubnetId"), params.text("GatewayId"));
    params.finish()?;
    let of = match (subnet, gateway) {
        (Some(text), None) => {
            let id = <SubnetId as parse::Id>::parse(&text)?;
            parse::subnet(world, &id).map(|()| Associated::Subnet(id))?
        }
        (None, Some(text)) => {
            parse::gateway(world, &<GatewayId as parse::Id>::parse(&text)?).map(|()| Associated::Internet)?
        }
        (Some(_), Some(_)) => {
            return Err(ApiError::combination("Specify either a subnet or a gateway, not both."));
        }
        (None, None) => return Err(ApiError::missing("SubnetId")),
    };
    let id = world.associate(&table, of)?;
    Ok(associated("associationId", &id))
}

pub(super) fn disassociate(world: &mut World, mut params: Params) -> Result<Xml, ApiError> {
    let id: RouteTableAssociationId = parse::id(&mut params, "AssociationId")?;
    params.finish()?;
    world.disassociate(&id).map(|()| done())
}

pub(super) fn replace_association(world: &mut World, mut params: Params) -> Result<Xml, ApiError> {
    let id: RouteTableAssociationId = parse::id(&mut params, "AssociationId")?;
    let table: RouteTableId = parse::id(&mut params, "RouteTableId")?;
    params.finish()?;
    let id = world.move_association(&id, &table)?;
    Ok(associated("newAssociationId", &id))
}

fn associated(name: &str, id: &RouteTableAssociationId) -> Xml {
    let mut xml = Xml::default();
    xml.text(name, id);
    xml.element("associationState", |xml| xml.text("state", "associated"));
    xml
}
