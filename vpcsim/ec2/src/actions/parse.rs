//! Parameters that several actions share: ids of each kind, addresses, prefixes, groups, tags. An id that is not well-formed
//! is told apart from one that does not exist, with EC2's own spelling of each code (it is not the same for all kinds). What a
//! caller sent comes back in messages, cut off where it gets long.

use crate::error::{ApiError, Code};
use crate::form::Params;
use crate::id::{
    AttachmentId, EniId, GatewayId, InstanceId, RouteTableAssociationId, RouteTableId, SecurityGroupId,
    SubnetId, VpcId,
};
use crate::world::{Tags, World};
use ipnet::Ipv4Net;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// EC2's default quota of security groups per ENI.
const MAX_GROUPS: usize = 5;

/// Most tags of a resource.
pub(super) const MAX_TAGS: usize = 50;

/// An identifier that a caller may name, with the code for one that is not even well-formed.
pub(super) trait Id: Sized {
    const MALFORMED: Code;
    fn read(text: &str) -> Option<Self>;

    fn parse(text: &str) -> Result<Self, ApiError> {
        Self::read(text).ok_or_else(|| {
            let shown: String = text.chars().take(100).collect();
            Self::MALFORMED.because(format!("Invalid id: \"{shown}\""))
        })
    }
}

macro_rules! ids {
    ($($name:ident $code:ident,)*) => {
        $(impl Id for $name {
            const MALFORMED: Code = Code::$code;

            fn read(text: &str) -> Option<Self> {
                Self::parse(text)
            }
        })*
    };
}

ids! {
    EniId EniMalformed,
    AttachmentId AttachmentMalformed,
    InstanceId InstanceMalformed,
    SubnetId SubnetMalformed,
    VpcId VpcMalformed,
    SecurityGroupId GroupMalformed,
    RouteTableId RouteTableMalformed,
    RouteTableAssociationId AssociationMalformed,
    GatewayId GatewayMalformed,
}

pub(super) fn id<T: Id>(params: &mut Params, name: &str) -> Result<T, ApiError> {
    <T as Id>::parse(&params.required(name)?)
}

/// A list of ids, each once.
pub(super) fn ids<T: Id + Ord>(params: &mut Params, name: &str) -> Result<BTreeSet<T>, ApiError> {
    params.list(name)?.iter().map(|text| <T as Id>::parse(text)).collect()
}

pub(super) fn address(text: &str) -> Result<Ipv4Addr, ApiError> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(100).collect();
        Code::InvalidParameterValue.because(format!("invalid value for parameter address: {shown}"))
    })
}

pub(super) fn addresses(params: &mut Params, name: &str) -> Result<Vec<Ipv4Addr>, ApiError> {
    let addresses: Vec<Ipv4Addr> =
        params.list(name)?.iter().map(|text| address(text)).collect::<Result<_, _>>()?;
    if addresses.iter().collect::<BTreeSet<_>>().len() < addresses.len() {
        return Err(Code::InvalidParameterValue.because("The same address appears twice in the request."));
    }
    Ok(addresses)
}

pub(super) fn prefixes(texts: &[String]) -> Result<Vec<Ipv4Net>, ApiError> {
    let parse = |text: &String| {
        let prefix: Option<Ipv4Net> = text.parse().ok();
        let fits = |prefix: &Ipv4Net| prefix.prefix_len() == 28 && prefix.trunc() == *prefix;
        prefix.filter(fits).ok_or_else(|| ApiError::invalid("Ipv4Prefix", text, "Expecting a /28 prefix."))
    };
    let prefixes: Vec<Ipv4Net> = texts.iter().map(parse).collect::<Result<_, _>>()?;
    if prefixes.iter().collect::<BTreeSet<_>>().len() < prefixes.len() {
        return Err(Code::InvalidParameterValue.because("The same prefix appears twice in the request."));
    }
    Ok(prefixes)
}

/// The groups of `SecurityGroupId.N`, all of which exist; empty if none is named.
pub(super) fn groups(world: &World, params: &mut Params) -> Result<BTreeSet<SecurityGroupId>, ApiError> {
    let groups: BTreeSet<SecurityGroupId> = ids(params, "SecurityGroupId")?;
    if let Some(unknown) = groups.iter().find(|id| !world.groups.contains_key(id)) {
        let message = format!("The securityGroup ID '{unknown}' does not exist");
        return Err(Code::SecurityGroupNotFound.because(message));
    }
    if groups.len() > MAX_GROUPS {
        let message = format!("The maximum number of security groups per interface is {MAX_GROUPS}.");
        return Err(Code::GroupLimitExceeded.because(message));
    }
    Ok(groups)
}

/// The tags of `Tag.N.Key` and `Tag.N.Value`.
pub(super) fn tags(params: &mut Params) -> Result<Tags, ApiError> {
    let mut tags = Tags::new();
    for mut tag in params.structures("Tag")? {
        let key = tag.required("Key")?;
        let value = tag.text("Value").unwrap_or_default();
        if key.chars().count() > 128 {
            return Err(tag.invalid("Key", &key, "Tag keys have at most 128 characters."));
        }
        if key.starts_with("aws:") {
            return Err(tag.invalid(
                "Key",
                &key,
                "Tag keys starting with 'aws:' are reserved for internal use.",
            ));
        }
        if value.chars().count() > 256 {
            return Err(tag.invalid("Value", &value, "Tag values have at most 256 characters."));
        }
        tag.finish()?;
        if tags.contains_key(&key) {
            return Err(ApiError::invalid("Tag", &key, "Tag keys must be unique in a request."));
        }
        tags.insert(key, value);
    }
    if tags.len() > MAX_TAGS {
        return Err(Code::TagLimitExceeded.because(format!("More than {MAX_TAGS} tags specified.")));
    }
    Ok(tags)
}

/// The tags of `TagSpecification.N`, which must be for this type of resource.
pub(super) fn tag_specification(params: &mut Params, of: &str) -> Result<Tags, ApiError> {
    let mut all = Tags::new();
    for mut item in params.structures("TagSpecification")? {
        let kind = item.required("ResourceType")?;
        if kind != of {
            let problem = "It is not a valid taggable resource type for this operation.";
            return Err(item.invalid("ResourceType", &kind, problem));
        }
        all.extend(tags(&mut item)?);
        item.finish()?;
    }
    Ok(all)
}

/// The VPC of this id, which must be the world's.
pub(super) fn vpc(world: &World, id: &VpcId) -> Result<(), ApiError> {
    let missing = || Code::VpcNotFound.because(format!("The vpc ID '{id}' does not exist"));
    (world.vpc.id == *id).then_some(()).ok_or_else(missing)
}

/// A subnet that must exist.
pub(super) fn subnet(world: &World, id: &SubnetId) -> Result<(), ApiError> {
    let missing = || Code::SubnetNotFound.because(format!("The subnet ID '{id}' does not exist"));
    world.subnets.contains_key(id).then_some(()).ok_or_else(missing)
}

/// The internet gateway of this id, which must be the world's.
pub(super) fn gateway(world: &World, id: &GatewayId) -> Result<(), ApiError> {
    let missing = || Code::GatewayNotFound.because(format!("The gateway ID '{id}' does not exist"));
    (world.routing.internet == *id).then_some(()).ok_or_else(missing)
}

/// Refuses parameters that EC2 knows and this world has no meaning for, so that nobody believes they had an effect.
pub(super) fn unsupported(params: &Params, names: &[&str]) -> Result<(), ApiError> {
    match names.iter().find(|name| params.has(name)) {
        None => Ok(()),
        Some(name) => {
            let message = format!("The parameter {name} is not supported by this simulation of EC2.");
            Err(Code::UnsupportedOperation.because(message))
        }
    }
}
