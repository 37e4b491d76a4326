//! What the instance knows about itself. Two implementations: the instance metadata service, and the tests' own.

use ipnet::IpNet;
use spur_cloud::MacAddr;
use spur_cloud_aws::imds::{Imds, ImdsError, InstanceIdentity};
use std::future::Future;

/// Source of the node's identity.
pub trait Metadata: Send + Sync + 'static {
    /// Who and where the node is.
    fn identity(&self) -> impl Future<Output = Result<InstanceIdentity, ImdsError>> + Send;

    /// The CIDRs of the VPC, the primary one first.
    fn vpc_cidrs(&self, primary: MacAddr) -> impl Future<Output = Result<Vec<IpNet>, ImdsError>> + Send;
}

impl Metadata for Imds {
    async fn identity(&self) -> Result<InstanceIdentity, ImdsError> {
        InstanceIdentity::observe(self).await
    }

    async fn vpc_cidrs(&self, primary: MacAddr) -> Result<Vec<IpNet>, ImdsError> {
        self.vpc_cidrs(primary).await
    }
}
