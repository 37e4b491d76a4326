//! The world as it was: copies of it after each change, kept for as long as the most stale reader looks back. Nothing is
//! kept while no fault is stale. Changes that follow each other closely share a copy, so that the number of copies has a
//! bound; a reader then sees up to a sixty-fourth of the lag further back than asked.

use crate::time::SimTime;
use crate::world::World;
use std::collections::VecDeque;
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct History {
    /// Longest look back; nothing is kept if it is zero.
    lag: Duration,
    states: VecDeque<(SimTime, World)>,
}

impl History {
    /// Begins with the world as it is.
    pub(super) fn begin(lag: Duration, now: SimTime, world: &World) -> Self {
        let mut history = Self { lag, states: VecDeque::new() };
        history.note(now, world);
        history
    }

    /// Notes the world after a change.
    pub(super) fn note(&mut self, now: SimTime, world: &World) {
        if self.lag.is_zero() {
            return;
        }
        let close = |earlier: SimTime| now.0.saturating_sub(earlier.0) < self.lag / 64;
        // The last one goes, if the one before is near enough to stand for it.
        if self.states.len() >= 2 && self.states.get(self.states.len() - 2).is_some_and(|(at, _)| close(*at))
        {
            self.states.pop_back();
        }
        self.states.push_back((now, world.clone()));
        // The newest one that is old enough must stay.
        while self.states.get(1).is_some_and(|(at, _)| at.after(self.lag) <= now) {
            self.states.pop_front();
        }
    }

    /// The world as it was `lag` ago; as it was at the beginning, if that is less.
    pub(super) fn look_back(&self, lag: Duration, now: SimTime) -> Option<&World> {
        let old_enough = self.states.iter().rev().find(|(at, _)| at.after(lag) <= now);
        old_enough.or_else(|| self.states.front()).map(|(_, world)| world)
    }
}
