//! What was spent, for metrics, status and logs: counts since the start, by action; and what is left, by bucket.

use super::Meter;
use crate::{Api, ErrorClass, SubnetId};
use std::collections::BTreeMap;
use std::time::Duration;

/// What became of the calls of one action.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiUse {
    /// Requests that succeeded; a read of three pages is three.
    pub succeeded: u64,
    /// Requests that failed, by class (throttled ones among them).
    pub failed: BTreeMap<ErrorClass, u64>,
    /// Requests of which nobody waited for the end.
    pub abandoned: u64,
    /// Calls that were refused by our own budget and not sent.
    pub refused: u64,
    /// Calls that were answered by another's read.
    pub folded: u64,
    /// Calls that had to wait for their turn and got it.
    pub waited: u64,
    /// How long those waited together.
    pub waiting: Duration,
}

/// What is left of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headroom {
    /// Whole tokens.
    pub tokens: u32,
    /// Tokens when full.
    pub capacity: u32,
    /// How fast it fills, compared with the share that was agreed.
    pub rate_percent: u32,
    /// Calls that wait.
    pub waiting: u32,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// By action.
    pub calls: BTreeMap<Api, ApiUse>,
    /// By bucket; those that were never used are full and not listed.
    pub headroom: BTreeMap<Meter, Headroom>,
    /// Free addresses of subnets, as the last answer about each told.
    pub free_addresses: BTreeMap<SubnetId, u32>,
}

impl Usage {
    /// Requests that were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.calls.values().map(ApiUse::sent).sum()
    }
}

impl ApiUse {
    /// Requests that were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.succeeded + self.failed.values().sum::<u64>() + self.abandoned
    }

    /// Requests that EC2 throttled.
    #[must_use]
    pub fn throttled(&self) -> u64 {
        self.failed.get(&ErrorClass::Throttled).copied().unwrap_or(0)
    }
}
