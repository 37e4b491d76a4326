//! How bad the world is: probabilities in per mille, delays, and sizes. Each kind of world stresses other rules, so that a
//! failure points at its cause.

use std::time::Duration;

/// A kind of world.
#[derive(Debug, Clone)]
pub(crate) struct Chaos {
    pub(crate) name: &'static str,
    /// A call is refused.
    pub(crate) refuse: u32,
    /// A call takes effect, its answer is lost.
    pub(crate) lose: u32,
    /// The answer is given up before the call takes effect.
    pub(crate) late: u32,
    /// A transaction fails.
    pub(crate) store_fails: u32,
    /// The process dies instead of a step.
    pub(crate) crash: u32,
    /// Somebody else changes something.
    pub(crate) meddle: u32,
    /// Longest call.
    pub(crate) call: Duration,
    /// How old reads are at most.
    pub(crate) lag: Duration,
    /// Whether the subnets are small and shared.
    pub(crate) cramped: bool,
}

impl Chaos {
    pub(crate) fn calm() -> Self {
        Self {
            name: "calm",
            refuse: 0,
            lose: 0,
            late: 0,
            store_fails: 0,
            crash: 0,
            meddle: 0,
            call: Duration::from_millis(500),
            lag: Duration::ZERO,
            cramped: false,
        }
    }

    pub(crate) fn flaky() -> Self {
        Self { name: "flaky", refuse: 100, lose: 60, late: 80, store_fails: 20, ..Self::calm() }
    }

    pub(crate) fn stale() -> Self {
        Self {
            name: "stale",
            refuse: 30,
            lose: 60,
            crash: 3,
            lag: Duration::from_secs(10),
            call: Duration::from_secs(3),
            ..Self::calm()
        }
    }

    pub(crate) fn crashing() -> Self {
        Self {
            name: "crashing",
            refuse: 30,
            lose: 40,
            late: 30,
            store_fails: 10,
            crash: 20,
            call: Duration::from_secs(3),
            ..Self::calm()
        }
    }

    pub(crate) fn cramped() -> Self {
        Self { name: "cramped", refuse: 30, lose: 30, crash: 5, meddle: 15, cramped: true, ..Self::calm() }
    }
}
