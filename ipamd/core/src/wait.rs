//! Why a pod waits, in words that name the limit, the subnet, the call and the time. The same values back the refusal that the
//! plugin prints, the status page and the metric label ([`Wait::kind`]).

use crate::kind::kinds;
use crate::time::Timestamp;
use ipnet::IpNet;
use serde::Serialize;
use spur_cloud::{EniId, SubnetId};
use std::collections::BTreeSet;
use std::fmt;

/// What stands between a pod and its address. Ordered by weight: what an operator should hear first comes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Wait {
    /// The ENIs of the node were not read yet.
    NotObserved,
    /// The controller granted no block of addresses to this node yet.
    NoGrant,
    /// Pod addresses of this node cannot be reached yet.
    Routes {
        /// What the controller says about it.
        reason: String,
    },
    /// Permission is missing.
    Denied {
        /// EC2's action.
        api: String,
        /// Tried again then.
        until: Timestamp,
        /// EC2's words.
        message: String,
    },
    /// No free address in the subnet.
    SubnetFull {
        /// The subnet.
        subnet: SubnetId,
        /// Tried again then.
        until: Timestamp,
    },
    /// No free /28 in the subnet; single addresses are used meanwhile.
    NoFreePrefix {
        /// The subnet.
        subnet: SubnetId,
        /// Tried again then.
        until: Timestamp,
    },
    /// EC2 refused because of a quota.
    CloudQuota {
        /// EC2's action.
        api: String,
        /// Tried again then.
        until: Timestamp,
        /// EC2's words.
        message: String,
    },
    /// EC2 asks us to slow down.
    Throttled {
        /// EC2's action.
        api: String,
        /// Tried again then.
        until: Timestamp,
    },
    /// Our own budget is spent.
    Budget {
        /// EC2's action.
        api: String,
        /// There is a call for it then.
        until: Timestamp,
    },
    /// A call failed otherwise.
    CallFailed {
        /// EC2's action.
        api: String,
        /// Tried again then.
        until: Timestamp,
        /// EC2's words.
        message: String,
    },
    /// The kernel could not be prepared.
    Datapath {
        /// Why.
        message: String,
    },
    /// All ENIs that the node may have are there and full.
    Full {
        /// ENIs at most.
        enis: u32,
        /// Addresses for pods on each at most.
        addresses_per_eni: u32,
    },
    /// All addresses of the node's blocks are in use.
    BlocksFull {
        /// The blocks.
        blocks: BTreeSet<IpNet>,
        /// Addresses in them that pods may have.
        addresses: u32,
    },
    /// An ENI is on its way in.
    AttachPending {
        /// Which.
        eni: EniId,
    },
    /// A call is under way.
    CallPending {
        /// EC2's action.
        api: String,
    },
    /// The kernel is being prepared.
    DatapathPending {
        /// For which ENI.
        eni: EniId,
    },
    /// Addresses rest.
    Cooldown {
        /// How many.
        addresses: u32,
        /// The first is free then.
        until: Timestamp,
    },
    /// Its pod was deleted meanwhile.
    Deleted,
    /// An address was chosen, and the store has not taken the grant yet.
    Storing,
    /// It will be served in a moment.
    Queued,
}

kinds! {
    Wait {
        NotObserved => "not_observed",
        NoGrant => "no_grant",
        Routes => "routes",
        Denied => "denied",
        SubnetFull => "subnet_full",
        NoFreePrefix => "no_free_prefix",
        CloudQuota => "cloud_quota",
        Throttled => "throttled",
        Budget => "budget",
        CallFailed => "call_failed",
        Datapath => "datapath",
        Full => "full",
        BlocksFull => "blocks_full",
        AttachPending => "attach_pending",
        CallPending => "call_pending",
        DatapathPending => "datapath_pending",
        Cooldown => "cooldown",
        Deleted => "deleted",
        Storing => "storing",
        Queued => "queued",
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotObserved => f.write_str("the node's ENIs were not read from EC2 yet"),
            Self::NoGrant => f.write_str("the controller granted no block of addresses to this node yet"),
            Self::Routes { reason } => write!(f, "pods of this node cannot be reached yet: {reason}"),
            Self::Denied { api, until, message } => {
                write!(f, "{api} is not permitted ({message}); next try at {until}")
            }
            Self::SubnetFull { subnet, until } => {
                write!(f, "{subnet} has no free address; next try at {until}")
            }
            Self::NoFreePrefix { subnet, until } => {
                write!(f, "{subnet} has no free /28; next try at {until}")
            }
            Self::CloudQuota { api, until, message } => {
                write!(f, "{api} refused because of a quota ({message}); next try at {until}")
            }
            Self::Throttled { api, until } => write!(f, "{api} is throttled until {until}"),
            Self::Budget { api, until } => write!(f, "API budget: no {api} until {until}"),
            Self::CallFailed { api, until, message } => {
                write!(f, "{api} failed ({message}); next try at {until}")
            }
            Self::Datapath { message } => write!(f, "the kernel could not be prepared: {message}"),
            Self::Full { enis, addresses_per_eni } => {
                write!(f, "the node is full: {enis} ENIs with {addresses_per_eni} pod addresses each")
            }
            Self::BlocksFull { blocks, addresses } => {
                let blocks: Vec<String> = blocks.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "the node is full: {addresses} pod addresses in its blocks {}",
                    blocks.join(" and ")
                )
            }
            Self::AttachPending { eni } => write!(f, "waiting for attach of {eni}"),
            Self::CallPending { api } => write!(f, "{api} is under way"),
            Self::DatapathPending { eni } => write!(f, "the kernel is being prepared for {eni}"),
            Self::Cooldown { addresses, until } => {
                write!(f, "{addresses} addresses of deleted pods rest, the first until {until}")
            }
            Self::Deleted => f.write_str("its pod was deleted meanwhile"),
            Self::Storing => f.write_str("the grant is being stored"),
            Self::Queued => f.write_str("about to be served"),
        }
    }
}
