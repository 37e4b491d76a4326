//! A budget around a cloud: [`Budgeted`] holds it, [`Prioritized`] is the [`Cloud`] that callers use, for one urgency.
//!
//! The decisions are those of [`spur_cloud::budget`]; here is what takes time: waiting for a turn, sharing a read, counting. A crate of its
//! own, so that `cloud` and `ipamd/core` compile without tokio.
//!
//! # Guarantees
//! - No call is repeated here, and none is sent without a turn. Who is refused gets [`ErrorClass::OverBudget`]: nothing was sent.
//! - Equal reads that overlap are one call, whoever asks. A caller never gets a read that began before a write of this process ended.
//!
//! # Cancellation
//! A future may be dropped at any point: a place in the queue is given up, a token that was taken stays spent, a read goes on for
//! those who share it, and a write that was sent may or may not have its effect, as with the cloud below.

mod cloud;
mod folding;
mod routes;
mod shared;

pub use cloud::Prioritized;

use shared::Shared;
use spur_cloud::budget::{Terms, Usage};
use spur_cloud::{Cloud, Priority};
use std::sync::Arc;

/// A cloud with a budget. Clones share both.
#[derive(Debug)]
pub struct Budgeted<C>(Arc<Shared<C>>);

impl<C> Clone for Budgeted<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C: Cloud> Budgeted<C> {
    /// Puts a budget around `cloud`, with full buckets: what the process before this one spent is not known.
    #[must_use]
    pub fn new(cloud: C, terms: Terms) -> Self {
        Self(Arc::new(Shared::new(cloud, terms)))
    }

    /// The cloud for calls of this urgency.
    #[must_use]
    pub fn with_priority(&self, priority: Priority) -> Prioritized<C> {
        Prioritized::new(Arc::clone(&self.0), priority)
    }

    /// What was spent and what is left.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.0.usage()
    }
}

#[cfg(test)]
mod tests;
