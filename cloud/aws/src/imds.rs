//! What an instance can learn about itself from its metadata service (IMDSv2): who and where it is, and what its ENIs
//! looked like at some recent moment.
//!
//! IMDS lags EC2 by seconds to minutes, so nothing here is taken as the truth about addresses: it is identity and a
//! start-up hint. Every error names the path that was read. Requests are bounded in time and tried a few times, by the
//! SDK's own client, which also keeps the session token.

mod parse;

use aws_config::imds::client::error::ImdsError as SdkError;
use ipnet::IpNet;
use spur_cloud::{
    AvailabilityZone, DeviceIndex, EniId, InstanceId, InstanceType, MacAddr, Region, SecurityGroupId,
    SubnetId, VpcId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// A request that is not answered in this time has no metadata service behind it: the real one answers in milliseconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// At boot the service is sometimes not reachable for the first second.
const ATTEMPTS: u32 = 4;

/// Why the metadata service did not tell us something.
#[derive(Debug, thiserror::Error)]
pub enum ImdsError {
    /// The endpoint to use is no URL.
    #[error("metadata endpoint {endpoint:?}: expected a URL such as http://169.254.169.254")]
    Endpoint {
        /// What was given.
        endpoint: String,
    },
    /// The path does not exist: the service answered 404.
    #[error("instance metadata {path}: not found")]
    NotFound {
        /// The path.
        path: String,
    },
    /// The service could not be asked.
    #[error("read instance metadata {path}")]
    Read {
        /// The path.
        path: String,
        /// What the client says.
        #[source]
        cause: Box<SdkError>,
    },
    /// The answer makes no sense.
    #[error("instance metadata {path}: {problem}")]
    Answer {
        /// The path.
        path: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
}

/// A client of the metadata service.
#[derive(Debug, Clone)]
pub struct Imds {
    client: aws_config::imds::client::Client,
}

/// Who and where this instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceIdentity {
    /// Its id.
    pub instance: InstanceId,
    /// Its type.
    pub instance_type: InstanceType,
    /// Its region.
    pub region: Region,
    /// Its zone.
    pub zone: AvailabilityZone,
    /// The primary ENI.
    pub primary: InterfaceFacts,
    /// Other ENIs that IMDS shows in full; one that comes or goes just now is left out.
    pub secondary: BTreeMap<MacAddr, InterfaceFacts>,
}

/// One ENI of this instance, as IMDS shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceFacts {
    /// Its hardware address.
    pub mac: MacAddr,
    /// Its id.
    pub eni: EniId,
    /// Its index on its network card.
    pub device_index: DeviceIndex,
    /// Its primary address.
    pub primary_address: IpAddr,
    /// Its VPC.
    pub vpc: VpcId,
    /// The IPv4 CIDRs of the VPC, the primary one first.
    pub vpc_cidrs: Vec<IpNet>,
    /// Its subnet.
    pub subnet: SubnetId,
    /// The CIDR of the subnet.
    pub subnet_cidr: IpNet,
    /// Its security groups.
    pub security_groups: BTreeSet<SecurityGroupId>,
}

impl Imds {
    /// A client of the endpoint, or if none is given of what the environment says (`AWS_EC2_METADATA_SERVICE_ENDPOINT`),
    /// or of 169.254.169.254.
    ///
    /// # Errors
    /// [`ImdsError::Endpoint`] if the endpoint is no URL.
    pub fn new(endpoint: Option<&str>) -> Result<Self, ImdsError> {
        let mut builder = aws_config::imds::client::Client::builder()
            .max_attempts(ATTEMPTS)
            .connect_timeout(ATTEMPT_TIMEOUT)
            .read_timeout(ATTEMPT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT);
        if let Some(endpoint) = endpoint {
            builder = builder
                .endpoint(endpoint)
                .map_err(|_| ImdsError::Endpoint { endpoint: endpoint.to_owned() })?;
        }
        Ok(Self { client: builder.build() })
    }

    /// The IPv4 CIDRs of the VPC of the ENI with this hardware address, the primary CIDR first. They can change while the
    /// instance runs, so this may be read again.
    ///
    /// # Errors
    /// When IMDS cannot be read or its answer makes no sense.
    pub async fn vpc_cidrs(&self, mac: MacAddr) -> Result<Vec<IpNet>, ImdsError> {
        self.interface_field(mac, "vpc-ipv4-cidr-blocks", parse::cidrs).await
    }

    async fn field<T>(&self, path: &str, parse: fn(&str) -> Result<T, String>) -> Result<T, ImdsError> {
        let text = self.client.get(path).await.map_err(|cause| match cause {
            SdkError::ErrorResponse(answer) if answer.response().status().as_u16() == 404 => {
                ImdsError::NotFound { path: path.to_owned() }
            }
            cause => ImdsError::Read { path: path.to_owned(), cause: Box::new(cause) },
        })?;
        parse(text.as_ref()).map_err(|problem| ImdsError::Answer { path: path.to_owned(), problem })
    }

    async fn interface_field<T>(
        &self,
        mac: MacAddr,
        name: &str,
        parse: fn(&str) -> Result<T, String>,
    ) -> Result<T, ImdsError> {
        self.field(&format!("/latest/meta-data/network/interfaces/macs/{mac}/{name}"), parse).await
    }

    async fn interface(&self, mac: MacAddr) -> Result<InterfaceFacts, ImdsError> {
        let facts = InterfaceFacts {
            mac,
            eni: self.interface_field(mac, "interface-id", parse::value).await?,
            device_index: DeviceIndex(self.interface_field(mac, "device-number", parse::value).await?),
            primary_address: self.interface_field(mac, "local-ipv4s", parse::first_address).await?,
            vpc: self.interface_field(mac, "vpc-id", parse::value).await?,
            vpc_cidrs: self.vpc_cidrs(mac).await?,
            subnet: self.interface_field(mac, "subnet-id", parse::value).await?,
            subnet_cidr: self.interface_field(mac, "subnet-ipv4-cidr-block", parse::cidr).await?,
            security_groups: self.interface_field(mac, "security-group-ids", parse::values).await?,
        };
        parse::check(&facts).map_err(|(field, problem)| ImdsError::Answer {
            path: format!("/latest/meta-data/network/interfaces/macs/{mac}/{field}"),
            problem,
        })?;
        Ok(facts)
    }
}

impl InstanceIdentity {
    /// Reads everything from the metadata service.
    ///
    /// # Errors
    /// When IMDS cannot be read, or an answer makes no sense; the error names the path.
    pub async fn observe(imds: &Imds) -> Result<Self, ImdsError> {
        let primary_mac = imds.field("/latest/meta-data/mac", parse::value).await?;
        let mut secondary = BTreeMap::new();
        for mac in imds.field("/latest/meta-data/network/interfaces/macs/", parse::macs).await? {
            if mac != primary_mac {
                match imds.interface(mac).await {
                    Ok(facts) => drop(secondary.insert(mac, facts)),
                    Err(ImdsError::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(Self {
            instance: imds.field("/latest/meta-data/instance-id", parse::value).await?,
            instance_type: imds.field("/latest/meta-data/instance-type", parse::value).await?,
            region: imds.field("/latest/meta-data/placement/region", parse::value).await?,
            zone: imds.field("/latest/meta-data/placement/availability-zone", parse::value).await?,
            primary: imds.interface(primary_mac).await?,
            secondary,
        })
    }
}

#[cfg(test)]
mod tests;
