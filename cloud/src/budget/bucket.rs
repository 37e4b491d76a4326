//! A bucket whose rate adapts. Counted in billionths of a token, because a small share of a slow bucket is 0.05 tokens a second.
//!
//! Between two looks the bucket fills at the rate of the first look, so it never holds more than the changing rate gave; how often
//! it is looked at changes nothing as long as the rate is steady.

use super::{Figures, Headroom};
use std::time::Duration;

/// Parts of a token.
const TOKEN: i64 = 1_000_000_000;
/// Parts of the full rate.
const FULL: u64 = 1_000_000;
/// The rate never falls below this: a call now and then is how we notice that EC2 has recovered.
const SLOWEST: u64 = FULL / 16;
/// What comes back of the full rate each second: after one halving it takes half a minute, the time in which EC2 fills a write bucket
/// of its own by more than its own capacity.
const STEP_A_SECOND: u64 = FULL / 60;

#[derive(Debug, Clone)]
pub(super) struct Bucket {
    capacity: i64,
    /// At full rate, each second.
    refill: u64,
    /// How much of the full rate is used now.
    rate: u64,
    level: i64,
    at: Duration,
    slowed: Option<Duration>,
}

impl Bucket {
    /// A full bucket with a share of the account's figures. It holds one token at least: with less no call would ever be possible.
    pub(super) fn full(figures: Figures, share_percent: u32, now: Duration) -> Self {
        let share = |tokens: u32| i64::from(tokens) * i64::from(share_percent.clamp(1, 100)) * (TOKEN / 100);
        let capacity = share(figures.capacity).max(TOKEN);
        let refill = share(figures.refill).unsigned_abs();
        Self { capacity, refill, rate: FULL, level: capacity, at: now, slowed: None }
    }

    /// Lets time pass.
    pub(super) fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_nanos();
        let gained = passed * u128::from(self.speed()) / 1_000_000_000;
        if gained == 0 {
            return;
        }
        let gained = i64::try_from(gained).unwrap_or(i64::MAX);
        self.level = self.level.saturating_add(gained).min(self.capacity);
        let regained = passed * u128::from(STEP_A_SECOND) / 1_000_000_000;
        let regained = u64::try_from(regained).unwrap_or(FULL);
        self.rate = self.rate.saturating_add(regained).min(FULL);
        self.at = now;
    }

    /// Parts of a token that come each second now.
    fn speed(&self) -> u64 {
        let speed = u128::from(self.refill) * u128::from(self.rate) / u128::from(FULL);
        u64::try_from(speed).unwrap_or(u64::MAX).max(1)
    }

    /// When there is a token for somebody who leaves so much to others and has so many before him.
    pub(super) fn ready(&self, now: Duration, leaves_percent: u64, before: usize) -> Duration {
        let left = (self.capacity - TOKEN) / 100 * i64::try_from(leaves_percent).unwrap_or(100);
        let before = i64::try_from(before).unwrap_or(i64::MAX).saturating_mul(TOKEN);
        let needed = left.saturating_add(TOKEN).saturating_add(before);
        let Ok(lacking) = u128::try_from(needed.saturating_sub(self.level)) else { return now };
        let nanos = (lacking * 1_000_000_000).div_ceil(u128::from(self.speed()));
        now.saturating_add(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    pub(super) const fn take(&mut self) {
        self.level -= TOKEN;
    }

    pub(super) fn charge(&mut self, requests: u32) {
        self.level = self.level.saturating_sub(i64::from(requests) * TOKEN);
    }

    /// The account's bucket is empty, and so is ours. Calls that were sent before the last slowing down say nothing new.
    pub(super) fn slow_down(&mut self, now: Duration, sent: Duration) {
        self.level = self.level.min(0);
        if self.slowed.is_none_or(|at| sent >= at) {
            self.rate = (self.rate / 2).max(SLOWEST);
            self.slowed = Some(now);
        }
    }

    pub(super) fn headroom(&self, waiting: usize) -> Headroom {
        Headroom {
            tokens: u32::try_from(self.level.max(0) / TOKEN).unwrap_or(u32::MAX),
            capacity: u32::try_from(self.capacity / TOKEN).unwrap_or(u32::MAX),
            rate_percent: u32::try_from(self.rate * 100 / FULL).unwrap_or(100),
            waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
        }
    }
}
