//! Which reads may be answered by another's: one that was begun after the last write that this process knows of. Pure; the questions and
//! answers themselves are the shell's.

use crate::Api;
use std::time::Duration;

/// What had been written when a read began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch(u64);

/// Counts beginnings and ends of writes.
#[derive(Debug, Default)]
pub struct Reads {
    epoch: u64,
}

impl Reads {
    /// A write begins or ends (or nobody waits for its end any more). Both count: a read that was begun before the end may show the world without it,
    /// and one that was begun before the beginning surely does.
    pub const fn written(&mut self) {
        self.epoch += 1;
    }

    /// A read begins.
    #[must_use]
    pub const fn begin(&self) -> Epoch {
        Epoch(self.epoch)
    }

    /// Whether a read that began then may answer who asks now.
    #[must_use]
    pub const fn is_current(&self, epoch: Epoch) -> bool {
        self.epoch == epoch.0
    }

    /// How long an answer may be given again once it is there. What others change by the second (ENIs, instances) is never given
    /// again: the pool reasons about when a read began.
    #[must_use]
    pub const fn fresh_for(api: Api) -> Duration {
        match api {
            Api::DescribeInstanceTypes | Api::DescribeVpcs | Api::DescribeSecurityGroups => {
                Duration::from_secs(5)
            }
            Api::DescribeSubnets => Duration::from_secs(1),
            _ => Duration::ZERO,
        }
    }
}
