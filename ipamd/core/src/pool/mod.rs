//! The pool itself: one state, one `step`. An event changes the state; then the plan looks at the whole state and
//! begins what can be begun, so that a decision never depends on which event led to it.

use crate::{Action, Event, NodeFacts, PoolSettings, PoolView, Record, Timestamp};

/// The address pool of one node.
#[derive(Debug)]
pub struct Pool {
    settings: PoolSettings,
    node: NodeFacts,
    record: Record,
}

impl Pool {
    /// A pool that continues from what survived. `seed` spreads retries; nodes need different ones. Begin with [`Event::Tick`].
    #[must_use]
    pub fn new(settings: PoolSettings, node: NodeFacts, record: Record, seed: u64, now: Timestamp) -> Self {
        let _ = (seed, now);
        Self { settings, node, record }
    }

    /// Takes one event in and says what to do.
    pub fn step(&mut self, now: Timestamp, event: Event) -> Vec<Action> {
        let _ = (now, event, &self.settings, &self.node, &self.record);
        Vec::new()
    }

    /// When to come back with [`Event::Tick`] at the latest.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        None
    }

    /// The pool as it is.
    #[must_use]
    pub fn view(&self) -> PoolView {
        unimplemented!()
    }
}
