//! What all handles share: the budget behind a lock that is never held over a wait, and the counters.

use crate::folding::Flights;
use spur_cloud::budget::{ApiUse, Budget, Meter, Reads, Terms, Ticket, Turn, Usage};
use spur_cloud::{Api, CloudError, ErrorClass, Priority, Subnet, SubnetId};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What all handles share.
#[derive(Debug)]
pub(crate) struct Shared<C> {
    pub(crate) cloud: C,
    books: Mutex<Books>,
    /// Rung whenever somebody got a turn, gave one up, or began a read that others may share.
    moved: Notify,
    start: Instant,
}

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct Books {
    budget: Budget,
    calls: BTreeMap<Api, ApiUse>,
    pub(crate) reads: Reads,
    pub(crate) flights: Flights,
    /// What the last answer about each subnet told; nobody asks for the sake of the figure.
    free_addresses: BTreeMap<SubnetId, u32>,
}

impl Books {
    pub(crate) fn of(&mut self, api: Api) -> &mut ApiUse {
        self.calls.entry(api).or_default()
    }

    pub(crate) fn told(&mut self, subnets: &[Subnet]) {
        self.free_addresses.extend(subnets.iter().map(|subnet| (subnet.id.clone(), subnet.free_addresses)));
    }
}

/// A place in the queue, given up when dropped.
struct Place<'a, C> {
    shared: &'a Shared<C>,
    ticket: Ticket,
}

impl<C> Drop for Place<'_, C> {
    fn drop(&mut self) {
        self.shared.with(|books| books.budget.give_up(self.ticket));
        self.shared.moved.notify_waiters();
    }
}

/// A turn that was got: the call is to be sent now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    meter: Meter,
    at: Duration,
}

impl<C> Shared<C> {
    pub(crate) fn new(cloud: C, terms: Terms) -> Self {
        let books = Books {
            budget: Budget::new(terms),
            calls: BTreeMap::new(),
            reads: Reads::default(),
            flights: Flights::default(),
            free_addresses: BTreeMap::new(),
        };
        Self { cloud, books: Mutex::new(books), moved: Notify::new(), start: Instant::now() }
    }

    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Books) -> T) -> T {
        // What is changed under the lock cannot panic half-way.
        act(&mut self.books.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn usage(&self) -> Usage {
        let now = self.now();
        self.with(|books| Usage {
            calls: books.calls.clone(),
            headroom: books.budget.headroom(now),
            free_addresses: books.free_addresses.clone(),
        })
    }

    pub(crate) fn announce(&self) {
        self.moved.notify_waiters();
    }

    /// Waits for a turn, unless `instead` gives something that makes it unnecessary: it is asked first and whenever something moved.
    pub(crate) async fn turn<T>(
        &self,
        meter: Meter,
        priority: Priority,
        instead: impl Fn(&mut Books, Duration) -> Option<T>,
    ) -> Result<Result<Sent, T>, CloudError> {
        let begun = self.now();
        let ticket = self.with(|books| books.budget.request(begun, meter, priority));
        let place = Place { shared: self, ticket };
        let mut waited = false;
        loop {
            // Listening begins before asking, so that nothing moves unnoticed between the two.
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            let now = self.now();
            let turn = self.with(|books| match instead(books, now) {
                Some(other) => Err(other),
                None => Ok(books.budget.turn(now, place.ticket)),
            });
            match turn {
                Err(other) => return Ok(Err(other)),
                Ok(Turn::Go) => {
                    if waited {
                        self.with(|books| {
                            let count = books.of(meter.api);
                            count.waited += 1;
                            count.waiting += now - begun;
                        });
                    }
                    return Ok(Ok(Sent { meter, at: now }));
                }
                Ok(Turn::Refused { until }) => {
                    self.with(|books| books.of(meter.api).refused += 1);
                    return Err(over_budget(meter.api, until.saturating_sub(now)));
                }
                Ok(Turn::Wait { until }) => {
                    waited = true;
                    let wake = self.start + until;
                    tokio::select! {
                        () = moved => {}
                        () = tokio::time::sleep_until(wake) => {}
                    }
                }
            }
        }
    }

    /// Accounts for an answer that took so many requests.
    pub(crate) fn answered<T>(&self, sent: Sent, requests: u32, result: &Result<T, CloudError>) {
        let now = self.now();
        self.with(|books| {
            let count = books.of(sent.meter.api);
            match result {
                Ok(_) => count.succeeded += u64::from(requests),
                Err(error) => *count.failed.entry(error.class()).or_default() += 1,
            }
            if matches!(result, Err(error) if error.class() == ErrorClass::Throttled) {
                books.budget.throttled(now, sent.meter, sent.at);
            }
            books.budget.charge(now, sent.meter, requests.saturating_sub(1));
        });
        self.announce();
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn abandoned(&self, sent: Sent) {
        self.with(|books| books.of(sent.meter.api).abandoned += 1);
    }
}

fn over_budget(api: Api, wait: Duration) -> CloudError {
    CloudError {
        api,
        class: ErrorClass::OverBudget { wait },
        code: None,
        message: format!("not sent: the API budget allows it in {:.1} s", wait.as_secs_f64()),
        request_id: None,
    }
}
