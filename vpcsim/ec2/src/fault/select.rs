//! Whom a fault is meant for, and which of these times it strikes: by action or path, by caller, in a window of time, by
//! chance or by count. Counting and drawing are here, so that all kinds of faults mean the same by the same words.

use crate::random::seal;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// To whom and when.
#[derive(Debug, Clone, Default)]
pub(crate) struct Select {
    /// Names of actions; all, if there is none.
    pub(crate) actions: BTreeSet<String>,
    /// Beginnings of metadata paths; all, if there is none.
    pub(crate) paths: Vec<String>,
    /// Names of callers; all, if there is none.
    pub(crate) callers: BTreeSet<String>,
    /// From when on, counted from when the faults were set.
    pub(crate) from: Duration,
    /// Until when.
    pub(crate) until: Option<Duration>,
    pub(crate) when: When,
    /// At most this often.
    pub(crate) times: Option<u64>,
}

/// Which of the times that it is meant for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum When {
    #[default]
    Always,
    /// With this probability.
    Chance(f64),
    /// The first, the third, …
    Calls(BTreeSet<u64>),
    /// Every so many.
    Every(u64),
}

/// How often a fault was met.
#[derive(Debug, Clone, Default)]
pub(super) struct Count {
    pub(super) seen: u64,
    pub(super) fired: u64,
    /// By caller and subject, so that chance does not depend on what others do.
    draws: BTreeMap<(String, String), u64>,
}

impl Select {
    /// Whether this time of the fault's life is one it is awake at.
    pub(super) fn is_awake(&self, age: Duration) -> bool {
        age >= self.from && self.until.is_none_or(|until| age < until)
    }

    pub(super) fn means_call(&self, action: &str, caller: &str) -> bool {
        (self.actions.is_empty() || self.actions.contains(action)) && self.means_caller(caller)
    }

    pub(super) fn means_request(&self, path: &str, node: &str) -> bool {
        let fits = |start: &String| path.starts_with(start.as_str());
        (self.paths.is_empty() || self.paths.iter().any(fits)) && self.means_caller(node)
    }

    fn means_caller(&self, caller: &str) -> bool {
        self.callers.is_empty() || self.callers.contains(caller)
    }

    /// Counts a time that it is meant for; whether it strikes.
    pub(super) fn strikes(&self, count: &mut Count, seed: u64, caller: &str, subject: &str) -> bool {
        count.seen += 1;
        let hit = match &self.when {
            When::Always => true,
            When::Calls(calls) => calls.contains(&count.seen),
            When::Every(every) => count.seen.is_multiple_of(*every),
            When::Chance(probability) => {
                let draws = count.draws.entry((caller.to_owned(), subject.to_owned())).or_default();
                *draws += 1;
                let drawn = seal(seed, format!("{caller}/{subject}/{draws}").as_bytes()) >> 32;
                f64::from(u32::try_from(drawn).unwrap_or(u32::MAX)) < probability * f64::from(u32::MAX)
            }
        };
        let strikes = hit && self.times.is_none_or(|times| count.fired < times);
        count.fired += u64::from(strikes);
        strikes
    }
}
