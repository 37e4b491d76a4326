//! CreateNetworkInterface and DeleteNetworkInterface. A client token makes a creation safe to repeat: the same request
//! gets the ENI that the first one made, another request with the same token is refused. The answer says `available` where EC2
//! may say `pending`, a word that EC2's own published model does not have.

use super::{done, parse, show};
use crate::error::{ApiError, Code};
use crate::form::Params;
use crate::id::{EniId, SubnetId};
use crate::world::eni::{NewEni, Wanted};
use crate::world::{Spent, World};
use crate::xml::Xml;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Longest client token.
const MAX_TOKEN: usize = 64;

/// Parameters that EC2 knows and this world has no meaning for.
const UNSUPPORTED: &[&str] = &[
    "ConnectionTrackingSpecification",
    "EnablePrimaryIpv6",
    "InterfaceType",
    "Ipv6AddressCount",
    "Ipv6Addresses",
    "Ipv6Prefix",
    "Ipv6PrefixCount",
    "Operator",
];

pub(super) fn create(world: &mut World, mut params: Params) -> Result<Xml, ApiError> {
    parse::unsupported(&params, UNSUPPORTED)?;
    let token = client_token(&mut params)?;
    let asked = params.everything();
    let new = read(world, params)?;
    if let Some(spent) = token.as_ref().and_then(|token| world.tokens.get(token)) {
        if spent.asked != asked {
            let message = "The client token has already been used with different request parameters.";
            return Err(Code::IdempotentParameterMismatch.because(message));
        }
        // As it is now; as it was made, if it has been deleted since.
        let eni = world.enis.get(&spent.made.id).unwrap_or(&spent.made);
        return Ok(answer(world, eni, token.as_deref()));
    }
    let id = world.create_eni(new)?;
    let eni = world.eni(&id)?.clone();
    let xml = answer(world, &eni, token.as_deref());
    if let Some(token) = token {
        world.tokens.insert(token, Spent { asked, made: Box::new(eni) });
    }
    Ok(xml)
}

fn answer(world: &World, eni: &crate::world::eni::Eni, token: Option<&str>) -> Xml {
    let mut xml = Xml::default();
    xml.element("networkInterface", |xml| show::interface(xml, world, eni));
    if let Some(token) = token {
        xml.text("clientToken", token);
    }
    xml
}

fn client_token(params: &mut Params) -> Result<Option<String>, ApiError> {
    let token = params.text("ClientToken").filter(|token| !token.is_empty());
    match token {
        Some(token) if token.len() > MAX_TOKEN || !token.is_ascii() => {
            Err(ApiError::invalid("ClientToken", &token, "Expecting at most 64 ASCII characters."))
        }
        token => Ok(token),
    }
}

fn read(world: &World, mut params: Params) -> Result<NewEni, ApiError> {
    let subnet: SubnetId = parse::id(&mut params, "SubnetId")?;
    parse::subnet(world, &subnet)?;
    let mut groups = parse::groups(world, &mut params)?;
    if groups.is_empty() {
        groups.extend(
            world.groups.values().filter(|group| group.name == "default").map(|group| group.id.clone()),
        );
    }
    let (primary, addresses) = addresses(&mut params)?;
    let wanted = wanted(&mut params, addresses)?;
    let description = params.text("Description").unwrap_or_default();
    let tags = parse::tag_specification(&mut params, "network-interface")?;
    params.finish()?;
    Ok(NewEni { groups, description, primary, wanted, tags, ..NewEni::plain(subnet, BTreeSet::new()) })
}

/// The primary address, if one is named, and the named secondary ones.
fn addresses(params: &mut Params) -> Result<(Option<Ipv4Addr>, Vec<Ipv4Addr>), ApiError> {
    let named = params.text("PrivateIpAddress").map(|text| parse::address(&text)).transpose()?;
    let mut primaries: Vec<Ipv4Addr> = named.into_iter().collect();
    let mut secondary = Vec::new();
    for mut item in params.structures("PrivateIpAddresses")? {
        let address = parse::address(&item.required("PrivateIpAddress")?)?;
        match item.flag("Primary")?.unwrap_or(false) {
            true => primaries.push(address),
            false => secondary.push(address),
        }
        item.finish()?;
    }
    let all: BTreeSet<&Ipv4Addr> = primaries.iter().chain(&secondary).collect();
    if all.len() < primaries.len() + secondary.len() {
        return Err(Code::InvalidParameterValue.because("The same address appears twice in the request."));
    }
    match primaries.as_slice() {
        [] if !secondary.is_empty() => {
            Err(ApiError::combination("One of the private IP addresses must be designated as primary."))
        }
        [] | [_] => Ok((primaries.first().copied(), secondary)),
        _ => Err(ApiError::combination("Only one primary private IP address can be specified.")),
    }
}

/// EC2 takes secondary addresses in one way at a time.
fn wanted(params: &mut Params, addresses: Vec<Ipv4Addr>) -> Result<Wanted, ApiError> {
    let count = params.number("SecondaryPrivateIpAddressCount", 0..=1_000)?.filter(|count| *count > 0);
    let prefix_count = params.number("Ipv4PrefixCount", 0..=1_000)?.filter(|count| *count > 0);
    let mut prefixes = Vec::new();
    for mut item in params.structures("Ipv4Prefix")? {
        prefixes.push(item.required("Ipv4Prefix")?);
        item.finish()?;
    }
    let mut ways = Vec::new();
    ways.extend(count.map(Wanted::Count));
    ways.extend(prefix_count.map(Wanted::PrefixCount));
    if !addresses.is_empty() {
        ways.push(Wanted::Addresses(addresses));
    }
    if !prefixes.is_empty() {
        ways.push(Wanted::Prefixes(parse::prefixes(&prefixes)?));
    }
    if ways.len() > 1 {
        let message =
            "Specify only one of secondary private IP addresses, their count, IPv4 prefixes and their count.";
        return Err(ApiError::combination(message));
    }
    Ok(ways.pop().unwrap_or_default())
}

pub(super) fn delete(world: &mut World, mut params: Params) -> Result<Xml, ApiError> {
    let eni: EniId = parse::id(&mut params, "NetworkInterfaceId")?;
    params.finish()?;
    world.delete_eni(&eni).map(|()| done())
}
