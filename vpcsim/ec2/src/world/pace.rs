//! When a change that goes on in the background lands: after the scenario's delay, unless a fault says otherwise for the
//! call at hand. A change that never lands stays on its way until somebody forces it off.

use super::{Landing, World};
use crate::time::SimTime;
use std::time::Duration;

/// When a change lands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Pace {
    /// After its usual delay.
    #[default]
    Usual,
    At(SimTime),
    Never,
}

impl World {
    /// How long what the next call begins will take.
    pub(crate) const fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    pub(super) fn land_later(&mut self, now: SimTime, delay: Duration, landing: Landing) {
        match self.pace {
            Pace::Usual => self.later(now.after(delay), landing),
            Pace::At(at) => self.later(at, landing),
            Pace::Never => {}
        }
    }
}
