//! How much is measured: the full plan behind the published numbers, and a quick one that shows that measuring works.

use std::time::Duration;

/// What is measured how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Instance type of the nodes: it decides how many pods fit.
    pub instance_type: &'static str,
    /// Pods present while ADD and DEL are measured, ascending.
    pub levels: Vec<u32>,
    /// Pods of the node beside which growth is seen; one of the levels.
    pub small: u32,
    /// Pods at once.
    pub at_once: u32,
    /// Rounds of one pod at a time.
    pub rounds: u32,
    /// Rounds of many at once.
    pub rounds_at_once: u32,
    /// Pods at which the agent's memory is read; one of the levels.
    pub memory_at: u32,
    /// Pods on the routers that compare layouts, ascending.
    pub layout_pods: &'static [u32],
    /// Rounds of lookups and of packets.
    pub packet_rounds: u32,
    /// Route lookups per round.
    pub lookups: u32,
    /// How long packets are sent per round.
    pub flood: Duration,
    /// Free addresses that the agents keep.
    pub warm: u32,
}

impl Plan {
    /// The plan of the published numbers. The instance type is one of the few with addresses for 1,000 pods: 24 ENIs with 63 each.
    #[must_use]
    pub fn full() -> Self {
        Self {
            instance_type: "r8i.96xlarge",
            levels: vec![0, 10, 100, 250, 1000],
            small: 10,
            at_once: 50,
            rounds: 40,
            rounds_at_once: 9,
            memory_at: 250,
            layout_pods: &[10, 250, 1000],
            packet_rounds: 60,
            lookups: 2_000,
            flood: Duration::from_millis(40),
            warm: 160,
        }
    }

    /// The same in seconds, on a small node: nothing to compare, but nothing left out.
    #[must_use]
    pub fn quick() -> Self {
        Self {
            instance_type: "m5.large",
            levels: vec![0, 2, 4],
            small: 2,
            at_once: 4,
            rounds: 3,
            rounds_at_once: 2,
            memory_at: 4,
            layout_pods: &[4, 20],
            packet_rounds: 3,
            lookups: 200,
            flood: Duration::from_millis(10),
            warm: 10,
        }
    }

    /// ADD and DEL alone, with these numbers of pods present: for who works on one of them. Everything else as in [`Plan::full`].
    #[must_use]
    pub fn narrow(mut levels: Vec<u32>) -> Self {
        levels.sort_unstable();
        Self { levels, ..Self::full() }
    }

    /// The highest level.
    #[must_use]
    pub fn large(&self) -> u32 {
        self.levels.last().copied().unwrap_or_default()
    }
}
