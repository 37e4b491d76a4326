//! AssignPrivateIpAddresses and UnassignPrivateIpAddresses. Neither knows a dry run. A call asks in exactly one way: a
//! count, addresses by name, a count of prefixes, prefixes by name. Both change all or nothing, and the fabric hears of it
//! with the next look.

use super::{done, parse};
use crate::error::{ApiError, Code};
use crate::form::Params;
use crate::id::EniId;
use crate::world::World;
use crate::world::eni::Wanted;
use crate::xml::Xml;

pub(super) fn assign(world: &mut World, mut params: Params) -> Result<Xml, ApiError> {
    let eni: EniId = parse::id(&mut params, "NetworkInterfaceId")?;
    let may_move = params.flag("AllowReassignment")?.unwrap_or(false);
    let mut ways = Vec::new();
    ways.extend(params.number("SecondaryPrivateIpAddressCount", 1..=1_000)?.map(Wanted::Count));
    ways.extend(params.number("Ipv4PrefixCount", 1..=1_000)?.map(Wanted::PrefixCount));
    let addresses = parse::addresses(&mut params, "PrivateIpAddress")?;
    if !addresses.is_empty() {
        ways.push(Wanted::Addresses(addresses));
    }
    let prefixes = parse::prefixes(&params.list("Ipv4Prefix")?)?;
    if !prefixes.is_empty() {
        ways.push(Wanted::Prefixes(prefixes));
    }
    params.finish()?;
    let one = "Specify one of private IP addresses, their count, IPv4 prefixes and their count";
    let wanted = match (ways.pop(), ways.is_empty()) {
        (Some(wanted), true) => wanted,
        (None, _) => return Err(Code::MissingParameter.because(format!("{one}."))),
        (Some(_), false) => return Err(ApiError::combination(format!("{one}, not several."))),
    };
    let got = world.assign(&eni, &wanted, may_move)?;
    // EC2 confirms also those named addresses that the ENI had before.
    let addresses = if let Wanted::Addresses(named) = wanted { named } else { got.addresses };
    let mut xml = done();
    xml.text("networkInterfaceId", &eni);
    xml.list("assignedPrivateIpAddressesSet", addresses, |xml, address| {
        xml.text("privateIpAddress", address)
    });
    if !got.prefixes.is_empty() {
        xml.list("assignedIpv4PrefixSet", got.prefixes, |xml, prefix| xml.text("ipv4Prefix", prefix));
    }
    Ok(xml)
}

pub(super) fn unassign(world: &mut World, mut params: Params) -> Result<Xml, ApiError> {
    let eni: EniId = parse::id(&mut params, "NetworkInterfaceId")?;
    let addresses = parse::addresses(&mut params, "PrivateIpAddress")?;
    let prefixes = parse::prefixes(&params.list("Ipv4Prefix")?)?;
    params.finish()?;
    if addresses.is_empty() && prefixes.is_empty() {
        return Err(Code::MissingParameter.because("Specify private IP addresses or IPv4 prefixes."));
    }
    world.unassign(&eni, &addresses, &prefixes).map(|()| done())
}
