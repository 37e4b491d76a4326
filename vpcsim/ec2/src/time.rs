//! Time is an argument: this crate reads no clock. A [`SimTime`] is a point counted from 1970-01-01 UTC, because EC2 and
//! the metadata service show points of time as calendar dates; a test may start at any point it likes. Dates are computed
//! here, because a calendar crate would be more code than the one function needed.

use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// A point of time, counted from 1970-01-01 00:00 UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SimTime(pub Duration);

impl SimTime {
    /// The point `delay` later; the last point there is, if that is beyond it.
    #[must_use]
    pub const fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(delay))
    }

    /// Whole seconds since 1970.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0.as_secs()
    }

    /// With milliseconds, as EC2's XML writes it.
    pub(crate) fn with_millis(self) -> String {
        format!("{}.{:03}Z", self.calendar(), self.0.subsec_millis())
    }

    fn calendar(self) -> String {
        // Beyond the year 9999 the notation ends; a clock there is wrong anyway.
        let seconds = self.seconds().min(253_402_300_799);
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = date_of(days);
        format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", rest / 3_600, rest / 60 % 60, rest % 60)
    }
}

impl fmt::Display for SimTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}Z", self.calendar())
    }
}

/// Year, month, day of a count of days since 1970 (Hinnant's `civil_from_days`, for days that are not negative).
const fn date_of(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_written_as_calendar_dates() {
        let at = |seconds| SimTime(Duration::from_secs(seconds)).to_string();
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_735_689_599), "2024-12-31T23:59:59Z");
        assert_eq!(SimTime(Duration::from_millis(1_500)).with_millis(), "1970-01-01T00:00:01.500Z");
        assert_eq!(SimTime(Duration::MAX).to_string(), "9999-12-31T23:59:59Z");
    }
}
