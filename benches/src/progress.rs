//! What goes on, for who waits; and the question before each round whether to stop, so that an interrupted run leaves nothing behind.

use anyhow::Result;
use spur_e2e::interrupt::Interrupt;
use std::time::Instant;

/// The run as it is seen from outside.
#[derive(Debug)]
pub struct Progress {
    begin: Instant,
    interrupt: Interrupt,
}

impl Progress {
    /// Begins, and listens to signals from now on.
    ///
    /// # Errors
    /// When signals cannot be caught.
    pub fn begin() -> Result<Self> {
        Ok(Self { begin: Instant::now(), interrupt: Interrupt::register()? })
    }

    /// Prints a line with the time since the beginning.
    pub fn say(&self, text: &str) {
        println!("[{:6.1} s] {text}", self.begin.elapsed().as_secs_f64());
    }

    /// To be asked before each round.
    ///
    /// # Errors
    /// When a signal asks to stop.
    pub fn check(&self) -> Result<()> {
        self.interrupt.check()
    }
}
