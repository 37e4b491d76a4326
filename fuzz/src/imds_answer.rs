//! The agent's reader of metadata texts, compiled from its source file: nine texts joined by `|` are one interface, in the order of
//! [`InterfaceFacts`]. The struct here has the fields that the reader looks at; the real one stands beside the client, with the SDK.
//! Fetching the texts is not covered: that is the SDK's own client.

#[path = "../../cloud/aws/src/imds/parse.rs"]
mod parse;

use ipnet::IpNet;
use spur_cloud::{DeviceIndex, EniId, MacAddr, SecurityGroupId, SubnetId, VpcId};
use std::collections::BTreeSet;
use std::net::IpAddr;

#[derive(Debug)]
struct InterfaceFacts {
    primary_address: IpAddr,
    vpc_cidrs: Vec<IpNet>,
    subnet_cidr: IpNet,
}

/// Reads one interface. True when the agent would believe it.
pub(crate) fn read(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match interface(text) {
        Ok(facts) => {
            assert!(facts.subnet_cidr.contains(&facts.primary_address), "{facts:?}");
            assert!(facts.vpc_cidrs.iter().any(|cidr| cidr.contains(&facts.subnet_cidr)), "{facts:?}");
            true
        }
        Err(problem) => {
            assert!(!problem.is_empty());
            false
        }
    }
}

fn interface(text: &str) -> Result<InterfaceFacts, String> {
    let mut texts = text.split('|');
    let mut next = || texts.next().unwrap_or_default();
    let macs: BTreeSet<MacAddr> = parse::macs(next())?;
    assert!(macs.iter().all(|mac| mac.to_string().parse() == Ok(*mac)), "a MAC reads back");
    parse::value::<EniId>(next())?;
    parse::value(next()).map(DeviceIndex)?;
    let primary_address = parse::first_address(next())?;
    parse::value::<VpcId>(next())?;
    let vpc_cidrs = parse::cidrs(next())?;
    parse::value::<SubnetId>(next())?;
    let subnet_cidr = parse::cidr(next())?;
    parse::values::<SecurityGroupId>(next())?;
    let facts = InterfaceFacts { primary_address, vpc_cidrs, subnet_cidr };
    parse::check(&facts).map_err(|(field, problem)| format!("{field}: {problem}"))?;
    Ok(facts)
}
