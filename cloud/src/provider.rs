//! The [`Cloud`] trait: the facts Spur asks for and the effects it wants, nothing else. Caches, retries, budgets and
//! decisions live with the callers. Two implementations: `spur-cloud-aws` and [`crate::fake`].

use crate::{
    Assigned, AttachmentId, CardIndex, CloudError, DeviceIndex, Eni, EniId, Instance, InstanceId,
    InstanceType, SecurityGroupId, Subnet, SubnetId, Vpc, VpcId,
};
use ipnet::IpNet;
use spur_quotas::InstanceLimits;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::IpAddr;

/// Which ENIs to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EniQuery {
    /// All that are attached to the instance, in any state of attachment.
    OfInstance(InstanceId),
    /// These, by id; an id that does not exist fails the call.
    ByIds(BTreeSet<EniId>),
    /// All in the VPC that carry these tags.
    Tagged(VpcId, BTreeMap<String, String>),
}

/// Which subnets to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubnetQuery {
    /// These, by id; an id that does not exist fails the call.
    ByIds(BTreeSet<SubnetId>),
    /// All in the VPC that carry these tags; no tags means all.
    Tagged(VpcId, BTreeMap<String, String>),
}

/// Makes a create call safe to repeat: EC2 answers a repeated token with the first result.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ClientToken(pub String);

/// What to add to an ENI.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum AddressRequest {
    /// So many secondary addresses, which EC2 picks.
    Count(u32),
    /// These secondary addresses.
    Addresses(BTreeSet<IpAddr>),
    /// So many prefixes, which EC2 picks.
    Prefixes(u32),
}

/// A new ENI.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CreateEni {
    /// Where.
    pub subnet: SubnetId,
    /// Its security groups.
    pub security_groups: BTreeSet<SecurityGroupId>,
    /// Addresses beside the primary one.
    pub request: AddressRequest,
    /// Description.
    pub description: String,
    /// Tags set at creation.
    pub tags: BTreeMap<String, String>,
    /// Idempotency token.
    pub token: ClientToken,
}

/// A cloud that gives instances network interfaces.
///
/// # Guarantees
/// A method makes at most the EC2 call it is named for (paginated reads: one per page) and does not retry; the class
/// of its error says whether trying again can help. After a [`crate::ErrorClass::Transient`] error of a mutating call the
/// effect may or may not have happened: look before repeating.
pub trait Cloud: Send + Sync + 'static {
    /// Limits of instance types (`DescribeInstanceTypes`). Types that EC2 does not know fail the call.
    fn instance_limits(
        &self,
        types: &BTreeSet<InstanceType>,
    ) -> impl Future<Output = Result<BTreeMap<InstanceType, InstanceLimits>, CloudError>> + Send;

    /// One instance (`DescribeInstances`).
    fn instance(&self, id: &InstanceId) -> impl Future<Output = Result<Instance, CloudError>> + Send;

    /// Which of these instances exist (`DescribeInstances` by filter). A terminated one does not, and an unknown id is no error.
    fn existing_instances(
        &self,
        ids: &BTreeSet<InstanceId>,
    ) -> impl Future<Output = Result<BTreeSet<InstanceId>, CloudError>> + Send;

    /// One VPC (`DescribeVpcs`).
    fn vpc(&self, id: &VpcId) -> impl Future<Output = Result<Vpc, CloudError>> + Send;

    /// Subnets (`DescribeSubnets`).
    fn subnets(&self, query: &SubnetQuery) -> impl Future<Output = Result<Vec<Subnet>, CloudError>> + Send;

    /// Security groups of a VPC that carry these tags (`DescribeSecurityGroups`).
    fn security_groups(
        &self,
        vpc: &VpcId,
        tags: &BTreeMap<String, String>,
    ) -> impl Future<Output = Result<BTreeSet<SecurityGroupId>, CloudError>> + Send;

    /// ENIs (`DescribeNetworkInterfaces`).
    fn enis(&self, query: &EniQuery) -> impl Future<Output = Result<Vec<Eni>, CloudError>> + Send;

    /// Creates an ENI (`CreateNetworkInterface`); the same token gives the same ENI.
    fn create_eni(&self, wanted: &CreateEni) -> impl Future<Output = Result<Eni, CloudError>> + Send;

    /// Starts an attachment (`AttachNetworkInterface`); the netdev appears some time later.
    fn attach_eni(
        &self,
        eni: &EniId,
        instance: &InstanceId,
        index: DeviceIndex,
        card: CardIndex,
    ) -> impl Future<Output = Result<AttachmentId, CloudError>> + Send;

    /// Starts a detachment (`DetachNetworkInterface`).
    fn detach_eni(&self, attachment: &AttachmentId) -> impl Future<Output = Result<(), CloudError>> + Send;

    /// Deletes an ENI that is not attached (`DeleteNetworkInterface`).
    fn delete_eni(&self, eni: &EniId) -> impl Future<Output = Result<(), CloudError>> + Send;

    /// Whether the ENI dies with its instance (`ModifyNetworkInterfaceAttribute`).
    fn set_delete_on_termination(
        &self,
        eni: &EniId,
        attachment: &AttachmentId,
        delete: bool,
    ) -> impl Future<Output = Result<(), CloudError>> + Send;

    /// Whether EC2 checks source and destination (`ModifyNetworkInterfaceAttribute`).
    fn set_source_dest_check(
        &self,
        eni: &EniId,
        check: bool,
    ) -> impl Future<Output = Result<(), CloudError>> + Send;

    /// Adds addresses or prefixes (`AssignPrivateIpAddresses`).
    fn assign(
        &self,
        eni: &EniId,
        request: &AddressRequest,
    ) -> impl Future<Output = Result<Assigned, CloudError>> + Send;

    /// Takes addresses and prefixes away (`UnassignPrivateIpAddresses`); absent ones are an error of class `NotFound`.
    fn unassign(
        &self,
        eni: &EniId,
        addresses: &BTreeSet<IpAddr>,
        prefixes: &BTreeSet<IpNet>,
    ) -> impl Future<Output = Result<(), CloudError>> + Send;

    /// Sets tags on an ENI (`CreateTags`).
    fn tag_eni(
        &self,
        eni: &EniId,
        tags: &BTreeMap<String, String>,
    ) -> impl Future<Output = Result<(), CloudError>> + Send;
}
