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

    /// The moment in UTC to the second, as RFC 3339 writes it: `2026-11-21T14:03:05Z`.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let (days, seconds) = (self.0.as_secs() / DAY, self.0.as_secs() % DAY);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }

    /// Reads what [`Self::rfc3339`] wrote, and nothing else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let clock = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
        if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let moment = Self(Duration::from_secs(days(year, month, day) * DAY + clock));
        // What does not read back as it was written is no such time: 30 February, 25 o'clock, other separators.
        (moment.rfc3339() == text).then_some(moment)
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

const DAY: u64 = 86_400;

/// Days from the Unix epoch to a day of the Gregorian calendar. Years begin in March here, so that the day that comes and goes is the last;
/// an era is the 400 years after which the calendar repeats.
const fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days`]: year, month, day.
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day_of_year - (153 * month_from_march + 2) / 5 + 1)
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
    fn a_date_reads_back_and_is_the_calendars() {
        let at = |seconds| Timestamp::from_epoch(Duration::from_secs(seconds));
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_210_096, "2024-02-29T12:34:56Z"),
            (1_795_269_785, "2026-11-21T14:03:05Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(at(seconds).rfc3339(), text);
            assert_eq!(Timestamp::parse(text), Some(at(seconds)), "{text}");
        }
        for day in 0..80_000 {
            let moment = at(day * DAY + day % DAY);
            assert_eq!(Timestamp::parse(&moment.rfc3339()), Some(moment));
        }
        for text in [
            "",
            "soon",
            "2026-11-21",
            "2026-02-29T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21 14:03:05Z",
            "2026-11-21T14:03:05+00",
            "1969-12-31T23:59:59Z",
            "2026-11-21T14:03:05Zx",
            "+026-11-21T14:03:05Z",
            "２０２６",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    #[test]
    fn time_before_the_start_is_no_time() {
        let early = Timestamp::from_epoch(Duration::from_secs(1));
        assert_eq!(early.since(early.after(Duration::from_secs(1))), Duration::ZERO);
        assert_eq!(Timestamp::from_epoch(Duration::from_secs(86_399)).to_string(), "23:59:59Z");
    }
}
