//! How bad the world is: probabilities in per mille, delays, and sizes. Each kind of world stresses other rules, so that a
//! failure points at its cause.

use std::time::Duration;

/// A kind of world.
#[derive(Debug, Clone)]
pub(crate) struct Chaos {
    pub(crate) name: &'static str,
    /// Nodes that share the subnets.
    pub(crate) nodes: usize,
    /// A call is refused.
    pub(crate) refuse: u32,
    /// A call takes effect, its answer is lost.
    pub(crate) lose: u32,
    /// The answer is given up before the call takes effect.
    pub(crate) late: u32,
    /// An attachment takes much longer than it should, or does not end while anybody waits.
    pub(crate) hang: u32,
    /// A transaction fails.
    pub(crate) store_fails: u32,
    /// The kernel refuses a change.
    pub(crate) kernel_fails: u32,
    /// The kernel cannot tell which connections it tracks.
    pub(crate) blind: u32,
    /// A pod leaves connections behind, which the kernel tracks for a while.
    pub(crate) linger: u32,
    /// The process dies instead of a step.
    pub(crate) crash: u32,
    /// The process stands still for a while, as on a machine that is suspended: time passes, and nothing is heard.
    pub(crate) freeze: u32,
    /// The operator changes the settings.
    pub(crate) reload: u32,
    /// EC2 tells other limits than the node began with.
    pub(crate) limits: u32,
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
            nodes: 1,
            refuse: 0,
            lose: 0,
            late: 0,
            hang: 0,
            store_fails: 0,
            kernel_fails: 0,
            blind: 0,
            linger: 0,
            crash: 0,
            freeze: 0,
            reload: 0,
            limits: 0,
            meddle: 0,
            call: Duration::from_millis(500),
            lag: Duration::ZERO,
            cramped: false,
        }
    }

    pub(crate) fn flaky() -> Self {
        Self {
            name: "flaky",
            refuse: 100,
            lose: 60,
            late: 80,
            hang: 100,
            store_fails: 20,
            kernel_fails: 50,
            blind: 200,
            linger: 100,
            reload: 3,
            limits: 2,
            ..Self::calm()
        }
    }

    pub(crate) fn stale() -> Self {
        Self {
            name: "stale",
            refuse: 30,
            lose: 60,
            crash: 3,
            reload: 3,
            limits: 2,
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
            hang: 50,
            store_fails: 10,
            kernel_fails: 20,
            linger: 200,
            crash: 20,
            freeze: 2,
            reload: 3,
            limits: 2,
            call: Duration::from_secs(3),
            ..Self::calm()
        }
    }

    pub(crate) fn cramped() -> Self {
        Self {
            name: "cramped",
            nodes: 2,
            refuse: 30,
            lose: 30,
            crash: 5,
            reload: 3,
            limits: 2,
            meddle: 15,
            cramped: true,
            ..Self::calm()
        }
    }

    /// All at once, on several nodes.
    pub(crate) fn shared() -> Self {
        Self {
            name: "shared",
            nodes: 3,
            refuse: 40,
            lose: 40,
            late: 30,
            hang: 30,
            store_fails: 10,
            kernel_fails: 20,
            blind: 50,
            linger: 200,
            crash: 10,
            freeze: 2,
            reload: 5,
            limits: 2,
            meddle: 10,
            call: Duration::from_secs(2),
            lag: Duration::from_secs(8),
            cramped: true,
        }
    }

    /// The same world at rest.
    pub(crate) fn over(&self) -> Self {
        Self { name: self.name, nodes: self.nodes, cramped: self.cramped, ..Self::calm() }
    }
}
