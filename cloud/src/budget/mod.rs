//! What may be asked of EC2, and when: a token bucket for each of EC2's own, filled at a share of the account's rate, with an
//! order of urgency, a bound on waiting, and less speed after each throttled answer. Pure: time is an argument, nothing waits here.
//! `spur-cloud-budget` puts it around a [`crate::Cloud`].
//!
//! # Rules
//! - A call takes a token of its [`Meter`] before it is sent. Pages beyond the first are charged afterwards, so a bucket may owe.
//! - Who waits is served by [`Priority`], then in the order of arrival. The less urgent leave part of the bucket to the
//!   more urgent, so that a pod finds a token even after a large clean-up.
//! - Nobody waits longer than [`Terms::longest_wait`]: who would have to is refused at once, and told when it is worth asking again.
//! - A throttled answer empties the bucket and halves its rate (once for all calls that were under way together); the rate comes back
//!   by a fixed step a second.
//!
//! Why not the crate `governor`: decision 0010.

mod bucket;
mod counters;
mod figures;
mod reads;

pub use counters::{ApiUse, Headroom, Usage};
pub use figures::{Figures, Meter};
pub use reads::{Epoch, Reads};

use bucket::Bucket;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How urgent a call is, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Priority {
    /// A pod waits.
    Pod,
    /// A new node waits for its route.
    Route,
    /// The stock is low, or the view is to be kept true.
    Stock,
    /// Something is given back.
    Release,
    /// Cleaning up.
    Garbage,
}

impl Priority {
    /// How much of a bucket it leaves to the more urgent, in percent.
    const fn leaves_percent(self) -> u64 {
        match self {
            Self::Pod => 0,
            Self::Route => 10,
            Self::Stock => 20,
            Self::Release => 35,
            Self::Garbage => 50,
        }
    }
}

/// What was agreed with the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Share of the account's limits, in percent; at least one call fits into every bucket.
    pub share_percent: u32,
    /// How long a call may wait for its turn.
    pub longest_wait: Duration,
}

impl Default for Terms {
    /// Five nodes that grow as fast as they can are still within the account's limits; more are slowed down by throttling. A wait is
    /// short against an ADD's, so that a refusal reaches the pod that waits, with its reason.
    fn default() -> Self {
        Self { share_percent: 20, longest_wait: Duration::from_secs(5) }
    }
}

/// A call that waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What becomes of a call that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Make it now; the ticket is spent.
    Go,
    /// Ask again then, or as soon as somebody else got a turn or gave up.
    Wait {
        /// When at the latest.
        until: Duration,
    },
    /// It would take too long; the ticket is void.
    Refused {
        /// When there will be a token for it, as things are.
        until: Duration,
    },
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    meter: Meter,
    priority: Priority,
    deadline: Duration,
}

#[derive(Debug)]
struct Line {
    bucket: Bucket,
    /// Who waits, in the order in which they are served.
    waiting: BTreeSet<(Priority, Ticket)>,
}

/// All buckets and who waits for them. Times count from any fixed moment and are expected not to go back.
#[derive(Debug)]
pub struct Budget {
    terms: Terms,
    lines: BTreeMap<Meter, Line>,
    waiting: BTreeMap<Ticket, Waiting>,
    last: u64,
}

impl Budget {
    /// Full buckets.
    #[must_use]
    pub const fn new(terms: Terms) -> Self {
        Self { terms, lines: BTreeMap::new(), waiting: BTreeMap::new(), last: 0 }
    }

    /// Queues a call. Its ticket must be asked about ([`Self::turn`]) or given up ([`Self::give_up`]): as long as it waits, the less
    /// urgent wait behind it.
    pub fn request(&mut self, now: Duration, meter: Meter, priority: Priority) -> Ticket {
        self.last += 1;
        let ticket = Ticket(self.last);
        let deadline = now.saturating_add(self.terms.longest_wait);
        self.line(meter, now).waiting.insert((priority, ticket));
        self.waiting.insert(ticket, Waiting { meter, priority, deadline });
        ticket
    }

    /// Whether it is this call's turn. A ticket that is spent or void is refused.
    pub fn turn(&mut self, now: Duration, ticket: Ticket) -> Turn {
        let Some(Waiting { meter, priority, deadline }) = self.waiting.get(&ticket).copied() else {
            return Turn::Refused { until: now };
        };
        let line = self.line(meter, now);
        let before = line.waiting.range(..(priority, ticket)).count();
        let ready = line.bucket.ready(now, priority.leaves_percent(), before);
        if before == 0 && ready <= now {
            line.bucket.take();
            self.give_up(ticket);
            return Turn::Go;
        }
        if ready > deadline || now >= deadline {
            self.give_up(ticket);
            return Turn::Refused { until: ready };
        }
        // Who is not the first can only be helped by somebody leaving.
        Turn::Wait { until: if before == 0 { ready } else { deadline } }
    }

    /// Forgets a ticket; nothing if it is spent or void.
    pub fn give_up(&mut self, ticket: Ticket) {
        let Some(waiting) = self.waiting.remove(&ticket) else { return };
        if let Some(line) = self.lines.get_mut(&waiting.meter) {
            line.waiting.remove(&(waiting.priority, ticket));
        }
    }

    /// EC2 asked us to slow down in its answer to a call that was sent at `sent`.
    pub fn throttled(&mut self, now: Duration, meter: Meter, sent: Duration) {
        self.line(meter, now).bucket.slow_down(now, sent);
    }

    /// A call took more than one request.
    pub fn charge(&mut self, now: Duration, meter: Meter, requests: u32) {
        self.line(meter, now).bucket.charge(requests);
    }

    /// What is left of each bucket that was used.
    #[must_use]
    pub fn headroom(&self, now: Duration) -> BTreeMap<Meter, Headroom> {
        let headroom = |line: &Line| {
            let mut bucket = line.bucket.clone();
            bucket.advance(now);
            bucket.headroom(line.waiting.len())
        };
        self.lines.iter().map(|(meter, line)| (*meter, headroom(line))).collect()
    }

    /// The line of a bucket, filled up to now; a bucket that was never used is full.
    fn line(&mut self, meter: Meter, now: Duration) -> &mut Line {
        let share = self.terms.share_percent;
        let line = self.lines.entry(meter).or_insert_with(|| Line {
            bucket: Bucket::full(meter.figures(), share, now),
            waiting: BTreeSet::new(),
        });
        line.bucket.advance(now);
        line
    }
}

#[cfg(test)]
mod tests;
