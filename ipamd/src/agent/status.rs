//! How far the agent is, for those who ask without wanting anything: the STATUS verb, the conflist. Published by watch channels,
//! so that asking never touches the task that owns the pool.

use super::handle::PoolHandle;
use super::recovered::Recovered;
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::sync::watch;

/// How far the start is.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// Not yet able to ask the pool.
    Starting {
        /// What it waits for, in words.
        reason: String,
    },
    /// The pool can be asked.
    Running(Arc<Running>),
    /// The agent goes down.
    Stopping,
}

/// What requests need.
#[derive(Debug)]
pub(super) struct Running {
    /// The pool.
    pub(super) pool: PoolHandle,
    /// The kernel's side.
    pub(super) node: watch::Receiver<NodeStatus>,
    /// The node's primary address.
    pub(super) node_address: Ipv4Addr,
    /// Pods that were found in the kernel only.
    pub(super) recovered: Recovered,
}

/// The kernel's side, as the node task last saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeStatus {
    /// Whether the node was wholly prepared at least once and the last attempt did not fail.
    pub(super) prepared: Result<(), String>,
    /// MTU of the primary ENI's link; 0 before it was seen.
    pub(super) primary_mtu_bytes: u32,
    /// Repairs of what others had changed, since the start.
    pub(super) repairs: u64,
}

impl NodeStatus {
    /// Before the first attempt.
    #[must_use]
    pub(super) fn unknown() -> Self {
        Self {
            prepared: Err("the kernel is not prepared yet: the ENIs were not read from EC2 yet".to_owned()),
            primary_mtu_bytes: 0,
            repairs: 0,
        }
    }
}

impl Running {
    /// Why ADD cannot be served; none if it can. Never a lack of addresses: a runtime would call the whole node not ready.
    #[must_use]
    pub(super) fn not_ready(&self) -> Option<String> {
        self.node.borrow().prepared.clone().err()
    }
}
