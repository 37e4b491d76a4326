//! The section `pool`: how many addresses, where new ENIs go, what is translated, and what contradicts itself in it.

use super::read::Reader;
use super::{is_name_byte, seconds};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use spur_cloud::{SecurityGroupId, SubnetId};
use spur_ipamd_core::PrefixDelegation;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

/// EC2 allows 50 tags on an ENI; the rest is for Spur's own and for what an account's policies add.
const TAGS_MAX: usize = 40;
const GROUPS_MAX: usize = 16;
/// EC2 takes 50 values in all filters of a call; nobody selects by so many.
const FILTER_TAGS_MAX: usize = 10;
/// Fewer ports than this make a node's flows to one destination collide under ordinary load.
const PORTS_MIN: u32 = 4096;
/// The pool of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Where addresses come from.
    pub mode: Mode,
    /// The `eni` pool that the controller may move the node to.
    pub fallback: Option<String>,
    /// Free addresses to keep.
    pub warm_ip_target: u32,
    /// Addresses to hold in all.
    pub minimum_ip_target: u32,
    /// ENIs' worth of free addresses to keep.
    pub warm_eni_target: u32,
    /// Free prefixes to keep.
    pub warm_prefix_target: u32,
    /// Whether addresses come in prefixes.
    pub prefix_delegation: PrefixDelegation,
    /// Tolerated surplus.
    pub max_above_warm: u32,
    /// Limit of ENIs below the instance's.
    pub max_enis: Option<u32>,
    /// Rest of a released address.
    pub cooldown: Duration,
    /// How long a surplus lasts before it is given back.
    pub shrink_delay: Duration,
    /// Where new ENIs may be.
    pub subnets: Selector<SubnetId>,
    /// Of new ENIs.
    pub security_groups: Selector<SecurityGroupId>,
    /// Further tags of new ENIs.
    pub tags: BTreeMap<String, String>,
    /// Translation of outgoing traffic.
    pub nat: NatOptions,
    /// Whether pods are kept from the instance metadata service.
    pub block_instance_metadata: bool,
}

/// Where addresses come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Addresses of ENIs.
    Eni,
    /// Blocks that the VPC routes to the node.
    VpcRoute,
}

/// Which subnets or security groups an operator means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(bound(serialize = "T: Serialize", deserialize = "T: Deserialize<'de> + Ord"))]
pub enum Selector<T> {
    /// What the primary ENI has.
    Primary,
    /// These.
    Ids(BTreeSet<T>),
    /// All that carry these tags.
    Tags(BTreeMap<String, String>),
}

/// Translation of outgoing traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatOptions {
    /// Whether it takes place.
    pub outgoing: bool,
    /// Destinations that see the pod's address.
    pub exclude: BTreeSet<Ipv4Net>,
    /// Destinations that see the node's address; beats all others.
    pub force: BTreeSet<Ipv4Net>,
    /// First source port.
    pub first_port: u16,
    /// Last source port.
    pub last_port: u16,
    /// Which VPC destinations see the pod's address.
    pub vpc_destinations: VpcDestinations,
}

/// Which VPC destinations see the pod's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VpcDestinations {
    /// Every CIDR associated with the VPC.
    AllCidrs,
    /// Subnets whose route table leads back to the node's pods.
    Covered,
    /// None.
    None,
}

/// The section `pool`.
pub(super) fn read_pool(reader: &mut Reader) -> PoolConfig {
    let mode = reader.choice("pool.mode", &[("eni", Mode::Eni), ("vpcRoute", Mode::VpcRoute)]);
    let pool = PoolConfig {
        mode,
        fallback: read_fallback(reader),
        warm_ip_target: reader.number("pool.warmIpTarget", 0..=1000),
        minimum_ip_target: reader.number("pool.minimumIpTarget", 0..=1000),
        max_above_warm: reader.number("pool.maxAboveWarm", 0..=1000),
        max_enis: reader.optional_number("pool.maxEnis", 1..=256),
        cooldown: seconds(reader.number("pool.cooldownSeconds", 0..=3600)),
        shrink_delay: seconds(reader.number("pool.shrinkDelaySeconds", 0..=86_400)),
        warm_eni_target: reader.number("pool.warmEniTarget", 0..=256),
        warm_prefix_target: reader.number("pool.warmPrefixTarget", 0..=256),
        prefix_delegation: read_delegation(reader),
        subnets: read_selector(reader, "pool.subnets", "pool.subnetTags"),
        security_groups: read_selector(reader, "pool.securityGroups", "pool.securityGroupTags"),
        tags: read_own_tags(reader),
        nat: read_nat(reader, mode),
        block_instance_metadata: reader.flag("pool.blockInstanceMetadata"),
    };
    refuse_contradictions(&pool, reader);
    pool
}

/// The name of a pool, for the controller and the nodes that it may move there.
pub(super) fn read_fallback(reader: &mut Reader) -> Option<String> {
    reader.read("pool.fallbackPool", |value| match value {
        Value::Null => Ok(None),
        Value::String(text) if !text.is_empty() && text.len() <= 63 && text.bytes().all(is_name_byte) => {
            Ok(Some(text.clone()))
        }
        _ => Err("1 to 63 letters, digits, '-', '_' or '.'".to_owned()),
    })
}

fn refuse_contradictions(pool: &PoolConfig, reader: &mut Reader) {
    if pool.mode == Mode::Eni && pool.fallback.is_some() {
        reader.wrong("pool.fallbackPool", "is set; expected that only with pool.mode: vpcRoute");
    }
    if let Selector::Ids(groups) = &pool.security_groups
        && groups.len() > GROUPS_MAX
    {
        reader.wrong("pool.securityGroups", format!("has {}; expected at most {GROUPS_MAX}", groups.len()));
    }
    if pool.warm_prefix_target > 0 && pool.prefix_delegation == PrefixDelegation::Off {
        reader.wrong(
            "pool.warmPrefixTarget",
            "wants prefixes that pool.prefixDelegation: off rules out; expected 0, or auto or on there",
        );
    }
    if let Some(most) = pool.max_enis.filter(|most| pool.warm_eni_target > *most) {
        let problem = format!("is {}, which pool.maxEnis: {most} rules out", pool.warm_eni_target);
        reader.wrong("pool.warmEniTarget", format!("{problem}; expected at most {most}"));
    }
}

/// `on` and `off` are text, and truth values to those who learnt YAML early.
fn read_delegation(reader: &mut Reader) -> PrefixDelegation {
    reader.read("pool.prefixDelegation", |value| match value {
        Value::Bool(true) => Ok(PrefixDelegation::On),
        Value::Bool(false) => Ok(PrefixDelegation::Off),
        other => match other.as_str() {
            Some("auto") => Ok(PrefixDelegation::Auto),
            Some("on") => Ok(PrefixDelegation::On),
            Some("off") => Ok(PrefixDelegation::Off),
            _ => Err("one of auto, on, off".to_owned()),
        },
    })
}

fn read_selector<T>(reader: &mut Reader, by_id: &str, by_tag: &str) -> Selector<T>
where
    T: FromStr<Err: Display> + Ord,
{
    let ids: BTreeSet<T> = reader.ids(by_id).into_iter().collect();
    let tags = read_tags(reader, by_tag, FILTER_TAGS_MAX);
    match (ids.is_empty(), tags.is_empty()) {
        (true, true) => Selector::Primary,
        (false, true) => Selector::Ids(ids),
        (true, false) => Selector::Tags(tags),
        (false, false) => {
            reader.wrong(by_tag, format!("selects beside {by_id}; expected one of them"));
            Selector::Tags(tags)
        }
    }
}

fn read_own_tags(reader: &mut Reader) -> BTreeMap<String, String> {
    let tags = read_tags(reader, "pool.tags", TAGS_MAX);
    for name in tags.keys() {
        if name.to_ascii_lowercase().starts_with("aws:") || name.starts_with("spur.dev/") {
            let key = format!("pool.tags.{name}");
            reader
                .wrong(&key, "is reserved; expected a name that begins neither with aws: nor with spur.dev/");
        }
    }
    tags
}

fn read_tags(reader: &mut Reader, path: &str, most: usize) -> BTreeMap<String, String> {
    let entries =
        reader.read(path, |value| value.as_object().cloned().ok_or_else(|| "a map of text to text".into()));
    let mut tags = BTreeMap::new();
    for (name, value) in entries {
        let key = format!("{path}.{name}");
        if name.is_empty() || name.chars().count() > 128 {
            reader.wrong(&key, "has a name of no use to EC2; expected 1 to 128 characters");
        }
        match value.as_str().filter(|value| value.chars().count() <= 256) {
            Some(value) => drop(tags.insert(name, value.to_owned())),
            None => reader.wrong(&key, format!("is {value}; expected a text of at most 256 characters")),
        }
    }
    if tags.len() > most {
        reader.wrong(path, format!("has {}; expected at most {most}", tags.len()));
    }
    tags
}

fn read_nat(reader: &mut Reader, mode: Mode) -> NatOptions {
    let (first_port, last_port) = reader.read("pool.natPortRange", |value| {
        parse_ports(value.as_str().unwrap_or_default()).ok_or_else(|| {
            format!(
                "first-last within 1024 and 65535, with at least {PORTS_MIN} ports, for example 1024-65535"
            )
        })
    });
    let options = NatOptions {
        outgoing: reader.flag("pool.natOutgoing"),
        exclude: reader.list("pool.natExclude", parse_cidr).into_iter().collect(),
        force: reader.list("pool.natForce", parse_cidr).into_iter().collect(),
        first_port,
        last_port,
        vpc_destinations: read_vpc_destinations(reader, mode),
    };
    for (key, list) in [("pool.natExclude", &options.exclude), ("pool.natForce", &options.force)] {
        if !options.outgoing && !list.is_empty() {
            reader.wrong(
                key,
                "is about a translation that pool.natOutgoing: false switches off; expected one or the other",
            );
        }
    }
    options
}

fn read_vpc_destinations(reader: &mut Reader, mode: Mode) -> VpcDestinations {
    let usual = match mode {
        Mode::Eni => VpcDestinations::AllCidrs,
        Mode::VpcRoute => VpcDestinations::Covered,
    };
    reader
        .optional_choice(
            "pool.vpcDestinations",
            &[
                ("AllCidrs", VpcDestinations::AllCidrs),
                ("Covered", VpcDestinations::Covered),
                ("None", VpcDestinations::None),
            ],
        )
        .unwrap_or(usual)
}

pub(super) fn parse_ports(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-')?;
    let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first >= 1024 && u32::from(last) + 1 >= u32::from(first) + PORTS_MIN).then_some((first, last))
}

fn parse_cidr(text: &str) -> Result<Ipv4Net, String> {
    let refuse = || format!("is {text:?}; expected an IPv4 CIDR such as 192.168.0.0/16");
    let net: Ipv4Net = text.parse().map_err(|_| refuse())?;
    if net.trunc() == net {
        Ok(net)
    } else {
        Err(format!("is {text:?}, which has bits beyond its prefix length; expected {}", net.trunc()))
    }
}
