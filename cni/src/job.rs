//! What every step of a verb is handed: how long it may take, where to log, and the gate of the tests. Nothing of it is about
//! the pod; that is in the requests.

use crate::failure::Failure;
use crate::gate::{Gate, Point};
use crate::log::Log;
use std::time::{Duration, Instant};

/// One invocation under way.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) deadline: Instant,
    pub(crate) log: &'a Log,
    pub(crate) gate: Gate<'a>,
}

impl Job<'_> {
    /// Passes the point or fails.
    pub(crate) fn pass(&self, point: Point) -> Result<(), Failure> {
        if (self.gate)(point) { Ok(()) } else { Err(Failure::Stopped(point)) }
    }

    /// The same job with at least so much time left.
    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Self { deadline: self.deadline.max(Instant::now() + patience), ..self }
    }
}
