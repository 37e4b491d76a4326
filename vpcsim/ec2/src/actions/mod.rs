//! The actions: each parses its parameters wholly, refuses what it does not know, then reads or changes the world and
//! writes its part of the answer. A refused call has changed nothing. A dry run does all that on a copy of the world, so it is
//! right about what would happen.

mod addresses;
mod attachment;
mod create;
mod filter;
mod groups;
mod instance_types;
mod instances;
mod interfaces;
mod modify;
mod page;
mod parse;
mod route_tables;
mod routes;
mod show;
mod subnets;
mod tags;
#[cfg(test)]
mod tests;
mod vpcs;

use crate::action::Action;
use crate::error::{ApiError, Code};
use crate::form::Params;
use crate::time::SimTime;
use crate::world::World;
use crate::world::routing::Wanted;
use crate::xml::Xml;

/// Performs an action, a read of the `past` if there is one; the content of its answer, without the envelope.
pub(crate) fn perform(
    world: &mut World,
    past: Option<&World>,
    seal: u64,
    now: SimTime,
    action: Action,
    mut params: Params,
) -> Result<String, ApiError> {
    let may_run_dry = !matches!(
        action,
        Action::AssignPrivateIpAddresses
            | Action::UnassignPrivateIpAddresses
            | Action::AssociateVpcCidrBlock
            | Action::DisassociateVpcCidrBlock
    );
    let dry = may_run_dry && params.flag("DryRun")?.unwrap_or(false);
    if dry {
        run(&mut world.clone(), past, seal, now, action, params)?;
        return Err(Code::DryRunOperation.because("Request would have succeeded, but DryRun flag is set."));
    }
    run(world, past, seal, now, action, params).map(Xml::finish)
}

fn run(
    world: &mut World,
    past: Option<&World>,
    seal: u64,
    now: SimTime,
    action: Action,
    params: Params,
) -> Result<Xml, ApiError> {
    match action {
        Action::AssignPrivateIpAddresses => addresses::assign(world, params),
        Action::AssociateRouteTable => route_tables::associate(world, params),
        Action::AssociateVpcCidrBlock => vpcs::associate_cidr(world, now, params),
        Action::AttachNetworkInterface => attachment::attach(world, now, params),
        Action::CreateNetworkInterface => create::create(world, params),
        Action::CreateRoute => routes::write(world, now, Wanted::New, params),
        Action::CreateRouteTable => route_tables::create(world, params),
        Action::CreateTags => tags::create(world, params),
        Action::DeleteNetworkInterface => create::delete(world, params),
        Action::DeleteRoute => routes::delete(world, now, params),
        Action::DeleteRouteTable => route_tables::delete(world, params),
        Action::DeleteTags => tags::delete(world, params),
        Action::DescribeInstances => instances::describe(past.unwrap_or(world), seal, params),
        Action::DescribeInstanceTypes => instance_types::describe(seal, params),
        Action::DescribeNetworkInterfaces => interfaces::describe(past.unwrap_or(world), seal, params),
        Action::DescribeRouteTables => {
            let read = world.routing.begin_read(now);
            route_tables::describe(past.unwrap_or(world), seal, read, params)
        }
        Action::DescribeSecurityGroups => groups::describe(past.unwrap_or(world), seal, params),
        Action::DescribeSubnets => subnets::describe(past.unwrap_or(world), seal, params),
        Action::DescribeVpcs => vpcs::describe(past.unwrap_or(world), seal, params),
        Action::DetachNetworkInterface => attachment::detach(world, now, params),
        Action::DisassociateRouteTable => route_tables::disassociate(world, params),
        Action::DisassociateVpcCidrBlock => vpcs::disassociate_cidr(world, now, params),
        Action::ModifyNetworkInterfaceAttribute => modify::modify(world, params),
        Action::ReplaceRoute => routes::write(world, now, Wanted::Replaced, params),
        Action::ReplaceRouteTableAssociation => route_tables::replace_association(world, params),
        Action::UnassignPrivateIpAddresses => addresses::unassign(world, params),
    }
}

/// The answer of actions that have nothing to say.
fn done() -> Xml {
    let mut xml = Xml::default();
    xml.text("return", true);
    xml
}
