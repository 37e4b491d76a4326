//! DescribeInstanceTypes, out of the product's own table of types. What that table does not know (memory, disks, …) is
//! left out of the answer rather than invented. EC2 counts the ENIs of all network cards here, while an instance is used
//! mostly with those of its default card.

use super::filter::Filters;
use super::page::Page;
use super::show;
use crate::action::Action;
use crate::error::{ApiError, Code};
use crate::form::Params;
use crate::world::Tags;
use crate::xml::Xml;
use spur_quotas::{Hypervisor, InstanceLimits};
use std::collections::BTreeSet;

/// Most types of a page, also for who names no limit.
const MAX_PAGE: u32 = 100;

pub(super) const FILTERS: &[&str] = &[
    "bare-metal",
    "hypervisor",
    "instance-type",
    "network-info.ipv4-addresses-per-interface",
    "network-info.maximum-network-cards",
    "network-info.maximum-network-interfaces",
];

pub(super) fn describe(seal: u64, mut params: Params) -> Result<Xml, ApiError> {
    let names: BTreeSet<String> = params.list("InstanceType")?.into_iter().collect();
    let filters = Filters::take(&mut params, FILTERS)?;
    let page = Page::take(&mut params, Action::DescribeInstanceTypes, seal, 5..=MAX_PAGE)?;
    params.flag("IncludeUnsupportedInRegion")?;
    params.finish()?;
    let unknown: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| spur_quotas::builtin(name).is_none()).collect();
    if !unknown.is_empty() {
        let shown: String = unknown.join(", ").chars().take(200).collect();
        let message = format!("The following supplied instance types do not exist: [{shown}]");
        return Err(Code::InvalidInstanceType.because(message));
    }
    if names.len() > 100 {
        return Err(ApiError::invalid("InstanceType", "…", "Expecting at most 100 instance types."));
    }
    let wanted = spur_quotas::builtin_types().filter(|name| names.is_empty() || names.contains(*name));
    let known = wanted.filter_map(|name| Some((name, (name, spur_quotas::builtin(name)?))));
    let found =
        known.filter(|(_, (name, limits))| filters.pass(&Tags::new(), |filter| values(name, limits, filter)));
    let (types, next) = page.at_most(MAX_PAGE as usize).cut(found);
    let mut xml = Xml::default();
    xml.list("instanceTypeSet", types, |xml, (name, limits)| show_type(xml, name, &limits));
    show::next_token(&mut xml, next);
    Ok(xml)
}

/// EC2 counts the ENIs of all cards.
fn all_enis(limits: &InstanceLimits) -> u32 {
    limits.cards().iter().map(|card| card.max_enis).sum()
}

const fn hypervisor(limits: &InstanceLimits) -> Option<&'static str> {
    match limits.hypervisor() {
        Hypervisor::Nitro => Some("nitro"),
        Hypervisor::Xen => Some("xen"),
        Hypervisor::Unknown => None,
    }
}

pub(super) fn values(name: &str, limits: &InstanceLimits, filter: &str) -> Vec<String> {
    let value = match filter {
        "bare-metal" => limits.bare_metal().to_string(),
        "hypervisor" => return hypervisor(limits).map(str::to_owned).into_iter().collect(),
        "instance-type" => name.to_owned(),
        "network-info.ipv4-addresses-per-interface" => limits.ipv4_per_eni().to_string(),
        "network-info.maximum-network-cards" => limits.cards().len().to_string(),
        "network-info.maximum-network-interfaces" => all_enis(limits).to_string(),
        _ => return Vec::new(),
    };
    vec![value]
}

fn show_type(xml: &mut Xml, name: &str, limits: &InstanceLimits) {
    xml.text("instanceType", name);
    xml.text("bareMetal", limits.bare_metal());
    if let Some(hypervisor) = hypervisor(limits) {
        xml.text("hypervisor", hypervisor);
    }
    xml.element("networkInfo", |xml| {
        xml.text("maximumNetworkInterfaces", all_enis(limits));
        xml.text("maximumNetworkCards", limits.cards().len());
        xml.text("defaultNetworkCardIndex", limits.default_card());
        xml.list("networkCards", limits.cards(), |xml, card| {
            xml.text("networkCardIndex", card.index);
            xml.text("maximumNetworkInterfaces", card.max_enis);
        });
        xml.text("ipv4AddressesPerInterface", limits.ipv4_per_eni());
    });
}
