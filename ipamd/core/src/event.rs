//! What the shell tells the pool. Each carries facts only; the pool decides what they mean.

use crate::action::{CallId, StoreId};
use crate::record::{AttachmentKey, PodName};
use crate::settings::PoolSettings;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use spur_cloud::{Assigned, AttachmentId, CloudError, Eni, EniId};
use spur_quotas::InstanceLimits;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

/// A request of the shell that awaits one `Action::Reply`; chosen by the shell, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ticket(pub u64);

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ticket {}", self.0)
    }
}

/// Something happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// Time passed: at start, and at `Pool::next_wakeup`.
    Tick,
    /// The settings changed.
    Reload(Box<PoolSettings>),
    /// EC2 tells other limits of the instance than the pool began with.
    Limits(Box<InstanceLimits>),
    /// In `vpcRoute` mode: what the controller grants now, wholly.
    Blocks(BlockGrant),
    /// A pod needs an address; answered by one reply, at once or later.
    Add {
        /// To answer.
        ticket: Ticket,
        /// For whom.
        attachment: AttachmentKey,
        /// For people.
        pod: Option<PodName>,
        /// Path of its network namespace.
        sandbox: Option<String>,
    },
    /// The ADD was given up (its time is over, its client hung up). A waiting one is answered with a refusal that says
    /// what it waited for; one that was just granted is released again; an answered one stays as it is.
    Cancel {
        /// The ticket of the ADD.
        ticket: Ticket,
    },
    /// A pod is gone; answered by one reply.
    Del {
        /// To answer.
        ticket: Ticket,
        /// Who.
        attachment: AttachmentKey,
    },
    /// The transaction is durable.
    Stored(StoreId),
    /// The transaction failed and has no effect.
    StoreFailed(StoreId, String),
    /// The call came back. Every call comes back exactly once; the shell gives up waiting with a `Transient` error.
    CallFinished {
        /// Which.
        call: CallId,
        /// How.
        result: Result<CallDone, CloudError>,
    },
    /// The kernel is as the generation wants it (and so as all before it). Sent again when an ENI's netdev appears
    /// or vanishes.
    DatapathApplied {
        /// The generation of `DatapathWanted`.
        generation: u64,
        /// The ENIs in it whose netdev is there and wholly prepared; what is missing is retried by the shell.
        ready: BTreeSet<EniId>,
    },
    /// The answer to `Action::ProbeFlows`: those of the addresses to or from which connections are tracked, or why nobody can tell.
    FlowsSeen(Result<BTreeSet<IpAddr>, String>),
    /// The kernel could not be changed; the shell tries again by itself.
    DatapathFailed {
        /// The generation that failed.
        generation: u64,
        /// Why.
        message: String,
    },
}

/// What a node of a `vpcRoute` pool gets from the controller.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BlockGrant {
    /// Blocks that the VPC's route tables lead here, or will.
    pub blocks: BTreeSet<IpNet>,
    /// What stands between the node and its pods, weightiest first: routes that are not active yet, a source/destination
    /// check that is still on. No address is handed out until this is empty.
    pub waits: Vec<String>,
}

/// What a call brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallDone {
    /// To `CloudCall::ReadEnis`.
    Enis(Vec<Eni>),
    /// To `CloudCall::CreateEni`.
    Created(Box<Eni>),
    /// To `CloudCall::AttachEni`.
    Attached(AttachmentId),
    /// To `CloudCall::Assign`.
    Assigned(Assigned),
    /// To all others.
    Done,
}
