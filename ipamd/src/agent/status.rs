//! How far the agent is, for those who ask without wanting anything: the STATUS verb, the conflist. Published by watch channels,
//! so that asking never touches the task that owns the pool.

use super::granted::Granted;
use super::handle::PoolHandle;
use super::recovered::Recovered;
use spur_ipamd_core::DatapathWanted;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long repairs must fail until pods that run count as cut off. A runtime that hears so calls the node not ready, and Kubernetes
/// evicts its pods some minutes later: what passes within several attempts must not begin that.
const BROKEN_AFTER: Duration = Duration::from_secs(20);

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
    /// What the pool wants of it.
    pub(super) wanted: watch::Receiver<DatapathWanted>,
    /// In `vpcRoute` mode, what the controller grants.
    pub(super) granted: Option<watch::Receiver<Granted>>,
    /// The node's primary address.
    pub(super) node_address: Ipv4Addr,
    /// Pods that were found in the kernel only.
    pub(super) recovered: Recovered,
}

/// The kernel's side, as the node task last saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeStatus {
    /// Whether the kernel is as pods need it.
    pub(super) health: Health,
    /// MTU of the primary ENI's link; 0 before it was seen.
    pub(super) primary_mtu_bytes: u32,
    /// Repairs of what others had changed, since the start.
    pub(super) repairs: u64,
    /// Attempts to prepare or repair it that failed, since the start.
    pub(super) failed_updates: u64,
    /// Rules of others that translate traffic of pods, in words.
    pub(super) masqueraders: Vec<String>,
}

/// How the node's kernel is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Health {
    /// It was not prepared since the start of the agent.
    Unprepared {
        /// Why not, in words.
        reason: String,
    },
    /// It was wholly prepared, and no repair has failed since.
    Sound,
    /// It was wholly prepared, somebody changed it, and no repair has succeeded since.
    Failing {
        /// The first repair that failed.
        since: Instant,
        /// Why the last one failed, in words.
        reason: String,
    },
}

/// Why ADD cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unready {
    /// The agent does not know yet what there is.
    #[error("the agent is starting: {0}")]
    Starting(String),
    /// Nothing leads to pods of this node yet.
    #[error("pods of this node cannot be reached yet: {0}")]
    NoGrant(String),
    /// The node is not initialised.
    #[error("{0}")]
    Unprepared(String),
    /// Pods that run may be cut off too.
    #[error("the node's kernel is not as pods need it, for {} s now: {reason}", since.as_secs())]
    Broken {
        /// How long repairs have failed.
        since: Duration,
        /// Why.
        reason: String,
    },
    /// The agent goes down.
    #[error("the agent is stopping")]
    Stopping,
}

impl NodeStatus {
    /// Before the first attempt.
    #[must_use]
    pub(super) fn unknown() -> Self {
        let reason = "the kernel is not prepared yet: the ENIs were not read from EC2 yet".to_owned();
        Self {
            health: Health::Unprepared { reason },
            primary_mtu_bytes: 0,
            repairs: 0,
            failed_updates: 0,
            masqueraders: Vec::new(),
        }
    }
}

impl Unready {
    /// A word for metrics.
    #[must_use]
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Starting(_) => "starting",
            Self::NoGrant(_) => "no_grant",
            Self::Unprepared(_) => "unprepared",
            Self::Broken { .. } => "broken",
            Self::Stopping => "stopping",
        }
    }
}

impl Health {
    /// After an attempt that failed. What was prepared once stays prepared as far as anybody knows: only a repair that fails
    /// says otherwise, a change that the pool wanted does not.
    pub(super) fn fail(&mut self, now: Instant, repair: bool, reason: String) {
        *self = match self {
            Self::Unprepared { .. } => Self::Unprepared { reason },
            Self::Sound if repair => Self::Failing { since: now, reason },
            Self::Sound => Self::Sound,
            Self::Failing { since, .. } => Self::Failing { since: *since, reason },
        };
    }

    /// Why ADD cannot be served; none if it can.
    #[must_use]
    pub(super) fn unready(&self, now: Instant) -> Option<Unready> {
        match self {
            Self::Sound => None,
            Self::Unprepared { reason } => Some(Unready::Unprepared(reason.clone())),
            Self::Failing { since, reason } => {
                let since = now.saturating_duration_since(*since);
                (since >= BROKEN_AFTER).then(|| Unready::Broken { since, reason: reason.clone() })
            }
        }
    }
}

impl Running {
    /// Why ADD cannot be served; none if it can. Never a lack of addresses: a runtime would call the whole node not ready.
    #[must_use]
    pub(super) fn unready(&self) -> Option<Unready> {
        let granted = self.granted.as_ref().and_then(|granted| granted.borrow().not_ready());
        granted.map(Unready::NoGrant).or_else(|| self.node.borrow().health.unready(Instant::now()))
    }
}

impl Phase {
    /// Why ADD cannot be served; none if it can.
    #[must_use]
    pub(super) fn unready(&self) -> Option<Unready> {
        match self {
            Self::Starting { reason } => Some(Unready::Starting(reason.clone())),
            Self::Running(running) => running.unready(),
            Self::Stopping => Some(Unready::Stopping),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c49_a_node_is_broken_only_when_repairs_fail_for_long_and_sound_with_the_first_that_succeeds() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut health = NodeStatus::unknown().health;
        health.fail(start, true, "no table".to_owned());
        let Some(unready) = health.unready(after(600)) else { panic!("it was never prepared") };
        assert_eq!(unready, Unready::Unprepared("no table".to_owned()), "not broken: no pod ever ran");
        health = Health::Sound;
        health.fail(after(1), false, "no new rule".to_owned());
        assert_eq!(health.unready(after(600)), None, "what was there is still there");
        health.fail(after(10), true, "no table".to_owned());
        health.fail(after(20), false, "no rule".to_owned());
        assert_eq!(health.unready(after(29)), None, "it may yet be repaired");
        let Some(Unready::Broken { since, reason }) = health.unready(after(30)) else { panic!("{health:?}") };
        assert_eq!((since.as_secs(), reason.as_str()), (20, "no rule"));
    }
}
