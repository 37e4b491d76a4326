//! Texts of the metadata service into domain types. Pure; a refusal says what would be right, the caller adds the path.
//!
//! Lists are one entry per line. An address outside its subnet or a subnet outside its VPC is refused too: such an
//! answer would otherwise become a route that swallows foreign traffic.

use super::InterfaceFacts;
use ipnet::IpNet;
use spur_cloud::MacAddr;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// EC2 has no VPC and no subnet that is wider or narrower.
const VPC_PREFIX_LENGTHS: RangeInclusive<u8> = 16..=28;

pub(super) fn value<T: FromStr>(text: &str) -> Result<T, String>
where
    T::Err: Display,
{
    let text = text.trim();
    text.parse().map_err(|error| format!("{:?}: {error}", excerpt(text)))
}

pub(super) fn values<T: FromStr + Ord>(text: &str) -> Result<BTreeSet<T>, String>
where
    T::Err: Display,
{
    let found: BTreeSet<T> = lines(text).map(value).collect::<Result<_, _>>()?;
    if found.is_empty() { Err("is empty, expected at least one line".to_owned()) } else { Ok(found) }
}

/// The list of the `macs/` directory: each entry ends in a slash.
pub(super) fn macs(text: &str) -> Result<BTreeSet<MacAddr>, String> {
    lines(text).map(|line| value(line.strip_suffix('/').unwrap_or(line))).collect()
}

pub(super) fn first_address(text: &str) -> Result<IpAddr, String> {
    value(lines(text).next().ok_or("is empty, expected at least one address")?)
}

/// The IPv4 CIDR of a VPC or a subnet.
pub(super) fn cidr(text: &str) -> Result<IpNet, String> {
    let net: IpNet = value(text)?;
    if net != net.trunc() {
        return Err(format!("{net} has host bits, expected {}", net.trunc()));
    }
    match net {
        IpNet::V4(v4) if VPC_PREFIX_LENGTHS.contains(&v4.prefix_len()) => Ok(net),
        _ => Err(format!("{net} is no IPv4 CIDR from /16 to /28")),
    }
}

pub(super) fn cidrs(text: &str) -> Result<Vec<IpNet>, String> {
    let found: Vec<IpNet> = lines(text).map(cidr).collect::<Result<_, _>>()?;
    if found.is_empty() { Err("is empty, expected at least one CIDR".to_owned()) } else { Ok(found) }
}

/// Whether the fields of one interface agree; otherwise the field to blame and why.
pub(super) fn check(facts: &InterfaceFacts) -> Result<(), (&'static str, String)> {
    let (subnet, address) = (facts.subnet_cidr, facts.primary_address);
    if !facts.vpc_cidrs.iter().any(|cidr| cidr.contains(&subnet)) {
        let cidrs: Vec<String> = facts.vpc_cidrs.iter().map(ToString::to_string).collect();
        return Err((
            "subnet-ipv4-cidr-block",
            format!("{subnet} is in no CIDR of the VPC: {}", cidrs.join(", ")),
        ));
    }
    if !subnet.contains(&address) {
        return Err(("local-ipv4s", format!("{address} is not in the subnet {subnet}")));
    }
    Ok(())
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// Enough of a hostile answer to recognise it.
fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}
