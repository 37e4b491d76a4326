//! DescribeVpcs: the one VPC of the scenario. The first CIDR is the primary one and stands alone in `cidrBlock`; only the
//! association set has them all, and a client that reads the first alone misses addresses of the VPC. Secondary CIDRs come
//! and go by AssociateVpcCidrBlock and DisassociateVpcCidrBlock, some time after the answer.

use super::filter::Filters;
use super::page::{Page, USUAL};
use super::{parse, show};
use crate::action::Action;
use crate::error::{ApiError, Code};
use crate::form::Params;
use crate::id::VpcId;
use crate::time::SimTime;
use crate::world::World;
use crate::world::routing::{Cidr, CidrState};
use crate::xml::Xml;
use ipnet::Ipv4Net;
use std::collections::BTreeSet;

pub(super) const FILTERS: &[&str] = &[
    "cidr",
    "cidr-block-association.association-id",
    "cidr-block-association.cidr-block",
    "cidr-block-association.state",
    "is-default",
    "owner-id",
    "state",
    "tag-key",
    "vpc-id",
];

pub(super) fn describe(world: &World, seal: u64, mut params: Params) -> Result<Xml, ApiError> {
    let ids: BTreeSet<VpcId> = parse::ids(&mut params, "VpcId")?;
    let filters = Filters::take(&mut params, FILTERS)?;
    let page = Page::take(&mut params, Action::DescribeVpcs, seal, USUAL)?;
    params.finish()?;
    let vpc = &world.vpc;
    if let Some(id) = ids.iter().find(|id| **id != vpc.id) {
        return Err(Code::VpcNotFound.because(format!("The vpc ID '{id}' does not exist")));
    }
    let found = std::iter::once(vpc).filter(|vpc| filters.pass(&vpc.tags, |name| values(world, name)));
    let (vpcs, next) = page.cut(found.map(|vpc| (vpc.id.as_str(), vpc)));
    let mut xml = Xml::default();
    xml.list("vpcSet", vpcs, |xml, _| show_vpc(xml, world));
    show::next_token(&mut xml, next);
    Ok(xml)
}

pub(super) fn values(world: &World, name: &str) -> Vec<String> {
    let of_cidrs = |value: fn(&World, &Cidr) -> String| {
        world.vpc.cidrs.iter().map(|cidr| value(world, cidr)).collect::<Vec<_>>()
    };
    match name {
        "cidr" => of_cidrs(|_, cidr| cidr.range.to_string()).into_iter().take(1).collect(),
        "cidr-block-association.association-id" => {
            of_cidrs(|world, cidr| world.cidr_association(&cidr.range))
        }
        "cidr-block-association.cidr-block" => of_cidrs(|_, cidr| cidr.range.to_string()),
        "cidr-block-association.state" => of_cidrs(|_, cidr| cidr.state.text().to_owned()),
        "is-default" => vec![false.to_string()],
        "owner-id" => vec![world.account.clone()],
        "state" => vec!["available".to_owned()],
        "vpc-id" => vec![world.vpc.id.to_string()],
        _ => Vec::new(),
    }
}

fn show_vpc(xml: &mut Xml, world: &World) {
    let vpc = &world.vpc;
    xml.text("vpcId", &vpc.id);
    xml.text("ownerId", &world.account);
    xml.text("state", "available");
    if let Some(cidr) = vpc.cidrs.first() {
        xml.text("cidrBlock", cidr.range);
    }
    xml.list("cidrBlockAssociationSet", &vpc.cidrs, |xml, cidr| association(xml, world, *cidr));
    xml.text("dhcpOptionsId", "default");
    xml.text("instanceTenancy", "default");
    xml.text("isDefault", false);
    show::tags(xml, &vpc.tags);
}

fn association(xml: &mut Xml, world: &World, cidr: Cidr) {
    xml.text("associationId", world.cidr_association(&cidr.range));
    xml.text("cidrBlock", cidr.range);
    xml.element("cidrBlockState", |xml| xml.text("state", cidr.state.text()));
}

/// Parameters of AssociateVpcCidrBlock that EC2 knows and this world has no meaning for.
const UNSUPPORTED: &[&str] = &[
    "AmazonProvidedIpv6CidrBlock",
    "Ipv4IpamPoolId",
    "Ipv4NetmaskLength",
    "Ipv6CidrBlock",
    "Ipv6CidrBlockNetworkBorderGroup",
    "Ipv6IpamPoolId",
    "Ipv6NetmaskLength",
    "Ipv6Pool",
];

pub(super) fn associate_cidr(world: &mut World, now: SimTime, mut params: Params) -> Result<Xml, ApiError> {
    parse::unsupported(&params, UNSUPPORTED)?;
    let vpc: VpcId = parse::id(&mut params, "VpcId")?;
    let text = params.required("CidrBlock")?;
    params.finish()?;
    parse::vpc(world, &vpc)?;
    let cidr: Ipv4Net =
        text.parse().map_err(|_| ApiError::invalid("CidrBlock", &text, "This is not a valid CIDR block."))?;
    let cidr = cidr.trunc();
    world.add_cidr(cidr, now)?;
    Ok(associated(world, Cidr { range: cidr, state: CidrState::Associating }))
}

pub(super) fn disassociate_cidr(
    world: &mut World,
    now: SimTime,
    mut params: Params,
) -> Result<Xml, ApiError> {
    let id = params.required("AssociationId")?;
    params.finish()?;
    let range = world.remove_cidr(&id, now)?;
    Ok(associated(world, Cidr { range, state: CidrState::Disassociating }))
}

fn associated(world: &World, cidr: Cidr) -> Xml {
    let mut xml = Xml::default();
    xml.element("cidrBlockAssociation", |xml| association(xml, world, cidr));
    xml.text("vpcId", &world.vpc.id);
    xml
}
