//! [`AwsCloud`]: one method, one EC2 call (paginated reads: one per page). No retry, no cache, no decision: the SDK's own
//! retries are off, because a budget that does not see a call cannot account for it.
//!
//! Requests are built in `request`, answers are read in `parse`, failures are classed in `error`.

mod describe;
mod mutate;
mod pages;
mod routes;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};
use aws_credential_types::Credentials;
use aws_sdk_ec2::Client;
use ipnet::IpNet;
use spur_cloud::{
    AddressRequest, Assigned, AttachmentId, CardIndex, Cloud, CloudError, CreateEni, DeviceIndex, Eni, EniId,
    EniQuery, Instance, InstanceId, InstanceType, Region, SecurityGroupId, Subnet, SubnetQuery, Vpc, VpcId,
};
use spur_quotas::InstanceLimits;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// How to reach EC2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsOptions {
    /// The region to ask.
    pub region: Region,
    /// Another endpoint than the region's own; without it `AWS_ENDPOINT_URL_EC2` and the profile are honoured.
    pub endpoint: Option<String>,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long one call may take altogether.
    pub call_timeout: Duration,
}

impl AwsOptions {
    /// The usual options for a region.
    #[must_use]
    pub const fn new(region: Region) -> Self {
        // EC2 answers most calls in under two seconds; a large DescribeNetworkInterfaces page can take ten.
        Self {
            region,
            endpoint: None,
            connect_timeout: Duration::from_secs(3),
            call_timeout: Duration::from_secs(20),
        }
    }
}

/// EC2 through the AWS SDK.
#[derive(Debug, Clone)]
pub struct AwsCloud {
    client: Client,
}

impl AwsCloud {
    /// A client with credentials from the SDK's default chain (environment, profile, web identity, IMDS). Makes no call.
    pub async fn new(options: &AwsOptions) -> Self {
        Self::from_config(&loader(options).load().await)
    }

    /// A client with these credentials and no others, for endpoints that are not Amazon's.
    pub async fn with_credentials(options: &AwsOptions, key_id: &str, secret: &str) -> Self {
        let credentials = Credentials::new(key_id, secret, None, None, "given");
        Self::from_config(&loader(options).credentials_provider(credentials).load().await)
    }

    fn from_config(config: &SdkConfig) -> Self {
        Self { client: Client::new(config) }
    }
}

fn loader(options: &AwsOptions) -> ConfigLoader {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(options.connect_timeout)
        .operation_timeout(options.call_timeout)
        .build();
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .region(aws_config::Region::new(options.region.to_string()))
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts);
    match &options.endpoint {
        Some(endpoint) => loader.endpoint_url(endpoint),
        None => loader,
    }
}

impl Cloud for AwsCloud {
    async fn instance_limits(
        &self,
        types: &BTreeSet<InstanceType>,
    ) -> Result<BTreeMap<InstanceType, InstanceLimits>, CloudError> {
        describe::instance_limits(&self.client, types).await
    }

    async fn instance(&self, id: &InstanceId) -> Result<Instance, CloudError> {
        describe::instance(&self.client, id).await
    }

    async fn existing_instances(
        &self,
        ids: &BTreeSet<InstanceId>,
    ) -> Result<BTreeSet<InstanceId>, CloudError> {
        describe::existing_instances(&self.client, ids).await
    }

    async fn vpc(&self, id: &VpcId) -> Result<Vpc, CloudError> {
        describe::vpc(&self.client, id).await
    }

    async fn subnets(&self, query: &SubnetQuery) -> Result<Vec<Subnet>, CloudError> {
        describe::subnets(&self.client, query).await
    }

    async fn security_groups(
        &self,
        vpc: &VpcId,
        tags: &BTreeMap<String, String>,
    ) -> Result<BTreeSet<SecurityGroupId>, CloudError> {
        describe::security_groups(&self.client, vpc, tags).await
    }

    async fn enis(&self, query: &EniQuery) -> Result<Vec<Eni>, CloudError> {
        describe::enis(&self.client, query).await
    }

    async fn create_eni(&self, wanted: &CreateEni) -> Result<Eni, CloudError> {
        mutate::create_eni(&self.client, wanted).await
    }

    async fn attach_eni(
        &self,
        eni: &EniId,
        instance: &InstanceId,
        index: DeviceIndex,
        card: CardIndex,
    ) -> Result<AttachmentId, CloudError> {
        mutate::attach_eni(&self.client, eni, instance, index, card).await
    }

    async fn detach_eni(&self, attachment: &AttachmentId) -> Result<(), CloudError> {
        mutate::detach_eni(&self.client, attachment).await
    }

    async fn delete_eni(&self, eni: &EniId) -> Result<(), CloudError> {
        mutate::delete_eni(&self.client, eni).await
    }

    async fn set_delete_on_termination(
        &self,
        eni: &EniId,
        attachment: &AttachmentId,
        delete: bool,
    ) -> Result<(), CloudError> {
        mutate::set_delete_on_termination(&self.client, eni, attachment, delete).await
    }

    async fn set_source_dest_check(&self, eni: &EniId, check: bool) -> Result<(), CloudError> {
        mutate::set_source_dest_check(&self.client, eni, check).await
    }

    async fn assign(&self, eni: &EniId, request: &AddressRequest) -> Result<Assigned, CloudError> {
        mutate::assign(&self.client, eni, request).await
    }

    async fn unassign(
        &self,
        eni: &EniId,
        addresses: &BTreeSet<IpAddr>,
        prefixes: &BTreeSet<IpNet>,
    ) -> Result<(), CloudError> {
        mutate::unassign(&self.client, eni, addresses, prefixes).await
    }

    async fn tag_eni(&self, eni: &EniId, tags: &BTreeMap<String, String>) -> Result<(), CloudError> {
        mutate::tag_eni(&self.client, eni, tags).await
    }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
