//! EC2's buckets as AWS documents them for every account: which there are, how much each holds, how fast it fills.
//!
//! Source: "Request throttling for the Amazon EC2 API" (docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html), tables
//! "Request token bucket sizes and refill rates", read in 2026. An action that has no figures of its own has those of its category. A raised
//! limit of an account is not seen here; a lowered one is learnt by being throttled.

use crate::Api;

/// One of EC2's buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Meter {
    /// The action.
    pub api: Api,
    /// Whether the call has a filter or pages. Some reads without either are counted in a smaller bucket, and ids do not help.
    pub is_narrowed: bool,
}

/// How much a bucket holds, and how much comes back each second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Tokens when full.
    pub capacity: u32,
    /// Tokens a second.
    pub refill: u32,
}

impl Meter {
    /// The bucket of an effect, or of a read with a filter.
    #[must_use]
    pub const fn of(api: Api) -> Self {
        Self { api, is_narrowed: true }
    }

    /// The bucket of a read by ids alone.
    #[must_use]
    pub const fn by_ids(api: Api) -> Self {
        Self { api, is_narrowed: false }
    }

    /// What an account has.
    #[must_use]
    pub const fn figures(self) -> Figures {
        let (capacity, refill) = match self.api {
            Api::DescribeInstances | Api::DescribeNetworkInterfaces | Api::DescribeSecurityGroups
                if !self.is_narrowed =>
            {
                (50, 10)
            }
            Api::DescribeInstances
            | Api::DescribeInstanceTypes
            | Api::DescribeSubnets
            | Api::DescribeVpcs
            | Api::DescribeRouteTables
            | Api::DescribeSecurityGroups
            | Api::DescribeNetworkInterfaces => (100, 20),
            Api::CreateTags | Api::DeleteTags => (100, 10),
            Api::CreateNetworkInterface
            | Api::DeleteNetworkInterface
            | Api::ModifyNetworkInterfaceAttribute
            | Api::AssignPrivateIpAddresses
            | Api::UnassignPrivateIpAddresses => (100, 5),
            Api::AttachNetworkInterface
            | Api::DetachNetworkInterface
            | Api::CreateRoute
            | Api::ReplaceRoute
            | Api::DeleteRoute => (50, 5),
        };
        Figures { capacity, refill }
    }
}
