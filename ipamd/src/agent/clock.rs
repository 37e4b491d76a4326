//! The agent's clock: the wall clock as it was at start, moved on by the monotonic one. Cooldowns survive a restart as wall-clock
//! times, and a wall clock that an administrator or NTP steps must not end or extend them while the agent runs.

use spur_ipamd_core::Timestamp;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// A clock; copies show the same time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall: Duration,
    started: Instant,
}

impl Clock {
    /// A clock that starts at the wall-clock time of now.
    #[must_use]
    pub fn start() -> Self {
        Self::starting_at(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// A clock that starts at this time after 1970.
    #[must_use]
    pub fn starting_at(wall: Duration) -> Self {
        Self { wall, started: Instant::now() }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_epoch(self.wall + self.started.elapsed())
    }

    /// When the monotonic clock will show this time; now if it is past.
    #[must_use]
    pub fn instant_of(&self, time: Timestamp) -> Instant {
        self.started + time.since_epoch().saturating_sub(self.wall)
    }
}
