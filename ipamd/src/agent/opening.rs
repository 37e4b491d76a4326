//! Opening the store when the file system does not let us: a disk that is full, read-only or not there yet. An agent that ended then would be
//! started again and again, and nobody who asks would hear why. So it stays, says what it waits for to everybody who asks, and goes on by itself when it can.
//!
//! Damage is no such case: the store is set aside then. Another agent that holds the store is none either: waiting for it would
//! hide that somebody started two.

use super::AgentError;
use super::start::{FIRST_RETRY, LAST_RETRY};
use crate::chain::chain;
use crate::config::Config;
use crate::server::{Handler, bind, refuse, serve};
use crate::store::books::Books;
use crate::store::{Origin, Store, StoreError};
use spur_wire::{RefusalKind, Request, RequestBody, Response, StatusReply};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// An open store, what is in it, and whether it had to be given up.
pub(super) type Opened = (Store, Books, bool);

/// Opens the store, and waits until that can be done; none if the agent was stopped before.
///
/// # Errors
/// When another agent runs.
pub(super) async fn open_store(
    config: &Config,
    stop: &CancellationToken,
) -> Result<Option<Opened>, AgentError> {
    let mut waiting: Option<Waiting> = None;
    let mut wait = FIRST_RETRY;
    loop {
        let error = match Store::open(&config.state_dir, Books::decode) {
            Ok((store, books, origin)) => {
                if let Some(waiting) = waiting {
                    waiting.end().await;
                }
                let rebuild = report(config, &books, origin);
                return Ok(Some((store, books, rebuild)));
            }
            Err(held @ StoreError::Held(_)) => return Err(AgentError::Store(held)),
            Err(error) => format!("open the store: {}", chain(&error)),
        };
        tracing::error!(reason = error, retry_seconds = wait.as_secs(), "the start cannot go on yet");
        match &waiting {
            Some(waiting) => drop(waiting.reason.send_replace(error)),
            None => waiting = Some(Waiting::begin(config, error)?),
        }
        if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return Ok(None);
        }
        wait = (wait * 2).min(LAST_RETRY);
    }
}

/// Says what was found; tells whether the store had to be given up.
fn report(config: &Config, books: &Books, origin: Origin) -> bool {
    match origin {
        Origin::Fresh => tracing::info!(dir = %config.state_dir.display(), "the store is new"),
        Origin::Restored => tracing::info!(
            assignments = books.record.holdings.len(),
            cooldowns = books.record.cooling.len(),
            intents = books.record.intents.len(),
            "the store is restored"
        ),
        Origin::SetAside { kept, why } => {
            tracing::error!(
                why,
                kept = %kept.display(),
                "the store is unusable and was set aside; what pods hold is read from the kernel and EC2"
            );
            return true;
        }
    }
    false
}

/// The socket of an agent without a store.
struct Waiting {
    reason: watch::Sender<String>,
    served: JoinHandle<()>,
    ends: DropGuard,
}

impl Waiting {
    fn begin(config: &Config, reason: String) -> Result<Self, AgentError> {
        let socket = bind(&config.socket).map_err(AgentError::Bind)?;
        let (reason, seen) = watch::channel(reason);
        let ends = CancellationToken::new();
        let served = tokio::spawn(serve(socket, Arc::new(NoStore(seen)), ends.clone()));
        Ok(Self { reason, served, ends: ends.drop_guard() })
    }

    /// Leaves the socket to the agent that has a store.
    async fn end(self) {
        drop(self.ends);
        // It is gone either way.
        let _ = self.served.await;
    }
}

/// Answers everybody with the reason.
struct NoStore(watch::Receiver<String>);

impl Handler for NoStore {
    async fn handle(&self, request: Request) -> Response {
        let reason = format!("the agent is starting: {}", *self.0.borrow());
        match request.body {
            RequestBody::Status => {
                Response::Status(StatusReply { ready: false, reason: Some(reason), limited: false })
            }
            _ => refuse(RefusalKind::NotReady, reason),
        }
    }
}
