//! Where new ENIs go: subnets and security groups, named by id or found by their tags. By tags, what somebody adds to the VPC is
//! found without a change on the node. Only subnets of the node's own zone and VPC count, those with most free addresses first.
//!
//! The answer is remembered beside the pool's books, so that a restart costs no call for it: the refresh that comes later anyway
//! (`reload.rs`) finds what changed meanwhile.

use crate::config::{Mode, PoolConfig, Selector};
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};
use spur_cloud::{
    AvailabilityZone, Cloud, CloudError, SecurityGroupId, Subnet, SubnetId, SubnetQuery, VpcId,
};
use spur_cloud_aws::imds::InstanceIdentity;
use std::collections::{BTreeMap, BTreeSet};

/// Where new ENIs go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Placement {
    /// Candidate subnets, best first; not empty.
    pub(super) subnets: Vec<(SubnetId, IpNet)>,
    /// Security groups.
    pub(super) security_groups: BTreeSet<SecurityGroupId>,
}

/// A placement, and what was asked for when it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Remembered {
    subnets: Selector<SubnetId>,
    security_groups: Selector<SecurityGroupId>,
    placement: Placement,
}

/// New ENIs cannot be placed as configured.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlacementError {
    #[error("read the subnets of the configuration")]
    Subnets(#[source] CloudError),
    #[error("no subnet that {by} asks for is in {zone} and {vpc}; expected at least one")]
    NoSubnet { by: &'static str, zone: AvailabilityZone, vpc: VpcId },
    #[error("read the security groups of the configuration")]
    Groups(#[source] CloudError),
    #[error("no security group of {0} has the tags of pool.securityGroupTags; expected at least one")]
    NoGroup(VpcId),
}

impl Remembered {
    pub(super) fn of(pool: &PoolConfig, placement: &Placement) -> Self {
        Self {
            subnets: pool.subnets.clone(),
            security_groups: pool.security_groups.clone(),
            placement: placement.clone(),
        }
    }

    /// The placement, if it was found for the same question.
    pub(super) fn answer(self, pool: &PoolConfig) -> Option<Placement> {
        let same = self.subnets == pool.subnets && self.security_groups == pool.security_groups;
        (same && !self.placement.subnets.is_empty()).then_some(self.placement)
    }
}

/// Whether EC2 must be asked. Never where no ENI is made.
pub(super) fn is_asked_for(pool: &PoolConfig) -> bool {
    let known = matches!(
        (&pool.subnets, &pool.security_groups),
        (Selector::Primary, Selector::Primary | Selector::Ids(_))
    );
    pool.mode == Mode::Eni && !known
}

/// Finds where new ENIs go, with at most one call for subnets and one for groups.
///
/// # Errors
/// When EC2 does not tell, or there is nothing of what was asked for.
pub(super) async fn find<C: Cloud>(
    cloud: &C,
    identity: &InstanceIdentity,
    pool: &PoolConfig,
) -> Result<Placement, PlacementError> {
    let primary = &identity.primary;
    if pool.mode == Mode::VpcRoute {
        let subnets = vec![(primary.subnet.clone(), primary.subnet_cidr)];
        return Ok(Placement { subnets, security_groups: primary.security_groups.clone() });
    }
    let read = async |query: SubnetQuery| cloud.subnets(&query).await.map_err(PlacementError::Subnets);
    let subnets = match &pool.subnets {
        Selector::Primary => vec![(primary.subnet.clone(), primary.subnet_cidr)],
        Selector::Ids(ids) => usable(read(SubnetQuery::ByIds(ids.clone())).await?, identity, "pool.subnets")?,
        Selector::Tags(tags) => {
            let found = read(SubnetQuery::Tagged(primary.vpc.clone(), tags.clone())).await?;
            usable(found, identity, "pool.subnetTags")?
        }
    };
    let security_groups = match &pool.security_groups {
        Selector::Primary => primary.security_groups.clone(),
        Selector::Ids(ids) => ids.clone(),
        Selector::Tags(tags) => {
            let found = cloud.security_groups(&primary.vpc, tags).await.map_err(PlacementError::Groups)?;
            if found.is_empty() {
                return Err(PlacementError::NoGroup(primary.vpc.clone()));
            }
            found
        }
    };
    Ok(Placement { subnets, security_groups })
}

fn usable(
    mut subnets: Vec<Subnet>,
    identity: &InstanceIdentity,
    by: &'static str,
) -> Result<Vec<(SubnetId, IpNet)>, PlacementError> {
    subnets.retain(|subnet| subnet.zone == identity.zone && subnet.vpc == identity.primary.vpc);
    subnets.sort_by(|a, b| b.free_addresses.cmp(&a.free_addresses).then_with(|| a.id.cmp(&b.id)));
    if subnets.is_empty() {
        let (zone, vpc) = (identity.zone.clone(), identity.primary.vpc.clone());
        return Err(PlacementError::NoSubnet { by, zone, vpc });
    }
    Ok(subnets.into_iter().map(|subnet| (subnet.id, subnet.cidr)).collect())
}

/// CIDRs of the subnets that are known: of the candidates, and of the ENIs that the instance metadata shows.
pub(super) fn known_cidrs(identity: &InstanceIdentity, placement: &Placement) -> BTreeMap<SubnetId, Ipv4Net> {
    let interfaces = std::iter::once(&identity.primary).chain(identity.secondary.values());
    let of_interfaces = interfaces.map(|facts| (facts.subnet.clone(), facts.subnet_cidr));
    let v4 = of_interfaces.chain(placement.subnets.iter().cloned()).filter_map(|(id, cidr)| match cidr {
        IpNet::V4(cidr) => Some((id, cidr)),
        IpNet::V6(_) => None,
    });
    v4.collect()
}

#[cfg(test)]
pub(super) mod tests;
