//! Time and chance as values. A [`Timestamp`] is wall-clock time, because cooldowns must survive a restart; the pool never
//! reads a clock and treats a clock that steps back as one that stands still. [`Jitter`] is a small deterministic generator
//! (splitmix64), so that a simulation replays from its seed.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A moment, counted from the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Timestamp(Duration);

impl Timestamp {
    /// The moment this long after the Unix epoch.
    #[must_use]
    pub const fn from_epoch(since: Duration) -> Self {
        Self(since)
    }

    /// How long after the Unix epoch it is.
    #[must_use]
    pub const fn since_epoch(self) -> Duration {
        self.0
    }

    /// This moment and some time; saturates.
    #[must_use]
    pub const fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }

    /// Time from `earlier` to this moment; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Timestamp {
    /// Hours, minutes and seconds of the day in UTC: what a wait reason needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        write!(f, "{:02}:{:02}:{:02}Z", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
    }
}

/// Deterministic randomness, for spreading retries.
#[derive(Debug, Clone)]
pub struct Jitter(u64);

impl Jitter {
    /// A generator; equal seeds give equal sequences. Nodes of one cluster need different seeds.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Somewhere between 75 % and 125 % of a duration.
    pub fn spread(&mut self, around: Duration) -> Duration {
        let permille = u32::try_from(750 + self.bits() % 501).unwrap_or(1000);
        around.saturating_mul(permille) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_stays_within_a_quarter() {
        let mut jitter = Jitter::new(7);
        for _ in 0..1000 {
            let spread = jitter.spread(Duration::from_secs(100)).as_secs_f64();
            assert!((75.0..=125.0).contains(&spread), "{spread}");
        }
    }

    #[test]
    fn time_before_the_start_is_no_time() {
        let early = Timestamp::from_epoch(Duration::from_secs(1));
        assert_eq!(early.since(early.after(Duration::from_secs(1))), Duration::ZERO);
        assert_eq!(Timestamp::from_epoch(Duration::from_secs(86_399)).to_string(), "23:59:59Z");
    }
}
