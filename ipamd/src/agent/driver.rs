//! The task that owns the pool. It feeds events in, begins what comes out, and never waits for any of it: commits, cloud calls and
//! kernel work run elsewhere and come back as events. No lock is held anywhere, and an ADD waits only for what the pool
//! itself says it waits for.

use super::calls::perform;
use super::clock::Clock;
use super::handle::{Client, PoolHandle, Question};
use super::kernel::Kernel;
use super::tally::Tally;
use crate::chain::chain;
use crate::store::StoreHandle;
use crate::store::books::write_of;
use spur_cloud::{Cloud, ErrorClass};
use spur_cloud_budget::Budgeted;
use spur_ipamd_core::{
    Action, CallId, CloudCall, DatapathWanted, Event, Pool, Reason, Reply, StoreChange, StoreId, Ticket,
};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// The pool may not be asked to wake up more often than this, whatever it says: a bug there must not burn a processor.
const SHORTEST_SLEEP: Duration = Duration::from_millis(5);
/// Between two lines of the log about what EC2 was asked.
const TALLY: Duration = Duration::from_secs(600);

/// What the driver works with.
pub(super) struct Parts<C, K> {
    /// The pool.
    pub(super) pool: Pool,
    /// The time.
    pub(super) clock: Clock,
    /// Durability.
    pub(super) store: StoreHandle,
    /// The cloud, and what may be spent on it.
    pub(super) cloud: Budgeted<C>,
    /// The kernel, for what it tracks; what it shall be goes elsewhere.
    pub(super) kernel: Arc<K>,
    /// Where the wanted state of the kernel goes.
    pub(super) wanted: watch::Sender<DatapathWanted>,
    /// Notified when a call failed because a subnet has no address left.
    pub(super) subnet_full: Arc<Notify>,
    /// Ends waiting ADDs; the task goes on until every handle is gone.
    pub(super) stop: CancellationToken,
}

struct Driver<C, K> {
    parts: Parts<C, K>,
    feedback: mpsc::UnboundedSender<Event>,
    waiting: HashMap<Ticket, oneshot::Sender<Reply>>,
    adds: Vec<Ticket>,
    /// Last ticket of a question of the driver's own; far above those of [`PoolHandle`].
    own_ticket: u64,
}

/// Starts the task. Events of the kernel's side are sent to the second result; the task ends when all [`PoolHandle`]s are gone.
pub(super) fn spawn<C: Cloud, K: Kernel>(
    parts: Parts<C, K>,
) -> (PoolHandle, mpsc::UnboundedSender<Event>, tokio::task::JoinHandle<()>) {
    let (questions, asked) = mpsc::unbounded_channel();
    let (feedback, outcomes) = mpsc::unbounded_channel();
    let driver = Driver {
        parts,
        feedback: feedback.clone(),
        waiting: HashMap::new(),
        adds: Vec::new(),
        own_ticket: 1 << 63,
    };
    (PoolHandle::new(questions), feedback, tokio::spawn(driver.run(asked, outcomes)))
}

impl<C: Cloud, K: Kernel> Driver<C, K> {
    async fn run(
        mut self,
        mut asked: mpsc::UnboundedReceiver<Question>,
        mut outcomes: mpsc::UnboundedReceiver<Event>,
    ) {
        self.step(Event::Tick);
        let stop = self.parts.stop.clone();
        let mut stopped = false;
        let mut tally = Tally::default();
        let mut told = tokio::time::interval(TALLY);
        loop {
            let wakeup = self.next_wakeup();
            tokio::select! {
                // Outcomes first: they free addresses and answer those who wait.
                biased;
                Some(event) = outcomes.recv() => self.step(event),
                () = stop.cancelled(), if !stopped => {
                    stopped = true;
                    self.cancel_all();
                }
                question = asked.recv() => match question {
                    Some(question) => self.ask(question, stopped),
                    None => break,
                },
                () = tokio::time::sleep_until(wakeup) => self.step(Event::Tick),
                _ = told.tick() => tally.tell(&self.parts.cloud.usage()),
            }
        }
        tally.tell(&self.parts.cloud.usage());
    }

    fn next_wakeup(&self) -> tokio::time::Instant {
        let earliest = tokio::time::Instant::now() + SHORTEST_SLEEP;
        // Nothing to wake up for is no reason to sleep forever: a tick costs nothing.
        let latest = earliest + Duration::from_secs(60);
        let wanted = self.parts.pool.next_wakeup().map(|time| self.parts.clock.instant_of(time));
        wanted.unwrap_or(latest).clamp(earliest, latest)
    }

    fn ask(&mut self, question: Question, stopped: bool) {
        match question {
            Question::Add { ticket, attachment, client: Client { pod, sandbox }, reply } => {
                self.waiting.insert(Ticket(ticket), reply);
                self.adds.push(Ticket(ticket));
                self.step(Event::Add { ticket: Ticket(ticket), attachment, pod, sandbox });
                if stopped {
                    self.step(Event::Cancel { ticket: Ticket(ticket) });
                }
            }
            Question::Del { ticket, attachment, reply } => {
                self.waiting.insert(Ticket(ticket), reply);
                self.step(Event::Del { ticket: Ticket(ticket), attachment });
            }
            Question::Cancel { ticket } => self.step(Event::Cancel { ticket: Ticket(ticket) }),
            Question::View { reply } => {
                // Who asked may have left.
                let _ = reply.send(self.parts.pool.view());
            }
            Question::Usage { reply } => {
                // As above.
                let _ = reply.send(self.parts.cloud.usage());
            }
        }
    }

    fn cancel_all(&mut self) {
        for ticket in std::mem::take(&mut self.adds) {
            self.step(Event::Cancel { ticket });
        }
    }

    fn step(&mut self, event: Event) {
        let now = self.parts.clock.now();
        tracing::trace!(?event, "step");
        for action in self.parts.pool.step(now, event) {
            self.begin(action);
        }
    }

    fn begin(&mut self, action: Action) {
        match action {
            Action::Store { id, changes } => self.store(id, &changes),
            Action::Reply { ticket, reply } => self.reply(ticket, reply),
            Action::Call { id, call, reason } => self.call(id, call, &reason),
            Action::Datapath(wanted) => {
                tracing::debug!(
                    generation = wanted.generation,
                    enis = wanted.enis.len(),
                    "kernel state wanted"
                );
                self.parts.wanted.send_replace(wanted);
            }
            Action::ProbeFlows { addresses } => self.probe(addresses),
            Action::Report(finding) => {
                tracing::warn!(kind = finding.kind(), "{finding}");
            }
        }
    }

    fn store(&self, id: StoreId, changes: &[StoreChange]) {
        // Queued here and now, so that commits keep the order of the pool's actions.
        let commit = self.parts.store.commit(changes.iter().map(write_of).collect());
        let feedback = self.feedback.clone();
        tokio::spawn(async move {
            let event = match commit.await {
                Ok(()) => Event::Stored(id),
                Err(error) => {
                    tracing::error!(error = %chain(&error), "the store does not take changes");
                    Event::StoreFailed(id, chain(&error).to_string())
                }
            };
            // Gone only when the agent goes down.
            let _ = feedback.send(event);
        });
    }

    fn probe(&self, addresses: BTreeSet<IpAddr>) {
        let (kernel, feedback) = (Arc::clone(&self.parts.kernel), self.feedback.clone());
        tokio::spawn(async move {
            let seen = match tokio::task::spawn_blocking(move || kernel.busy_flows(&addresses)).await {
                Ok(Ok(busy)) => Ok(busy),
                Ok(Err(error)) => Err(chain(&error).to_string()),
                Err(error) => Err(error.to_string()),
            };
            // Gone only when the agent goes down.
            let _ = feedback.send(Event::FlowsSeen(seen));
        });
    }

    fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.adds.retain(|add| *add != ticket);
        let Some(waiting) = self.waiting.remove(&ticket) else { return };
        // The plugin hung up just before: it never saw the address, so nobody will use it.
        if let Err(Reply::Granted { attachment, address, .. }) = waiting.send(reply) {
            tracing::info!(%attachment, %address, "taken back: the plugin left before its answer");
            self.own_ticket += 1;
            // Not in the middle of a step, whose other actions come first.
            let _ = self.feedback.send(Event::Del { ticket: Ticket(self.own_ticket), attachment });
        }
    }

    fn call(&self, id: CallId, call: CloudCall, reason: &Reason) {
        if matches!(call, CloudCall::ReadEnis(_)) {
            tracing::debug!(call = id.0, api = %call.api(), %reason, "cloud call");
        } else {
            let eni = call.changes().map(ToString::to_string);
            tracing::info!(call = id.0, api = %call.api(), eni, %reason, "cloud call");
        }
        let (cloud, feedback) = (self.parts.cloud.with_priority(reason.priority()), self.feedback.clone());
        let subnet_full = Arc::clone(&self.parts.subnet_full);
        tokio::spawn(async move {
            let result = perform(&cloud, &call).await;
            if let Err(error) = &result {
                tracing::warn!(call = id.0, api = %call.api(), class = ?error.class(), %error, "cloud call failed");
                if error.class() == ErrorClass::SubnetFull {
                    subnet_full.notify_one();
                }
            }
            // Gone only when the agent goes down.
            let _ = feedback.send(Event::CallFinished { call: id, result });
        });
    }
}

#[cfg(test)]
mod tests;
