//! The writer: one task that commits on a blocking thread. Whatever arrived while the commit before was under way goes
//! into the next one, so that fifty grants at once cost a handful of commits and nobody waits for more than two.

use super::{Store, StoreError, Write};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// At most so many requests in one commit; bounds its time, not its correctness.
const BATCH: usize = 256;

struct Request {
    writes: Vec<Write>,
    done: oneshot::Sender<Result<(), Arc<StoreError>>>,
}

/// Hands writes to the writer.
#[derive(Debug, Clone)]
pub struct StoreHandle(mpsc::UnboundedSender<Request>);

/// The writes were not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// The commit failed.
    #[error("store durably")]
    Commit(#[source] Arc<StoreError>),
    /// The writer is gone: the agent is going down.
    #[error("the store is closed")]
    Closed,
}

impl StoreHandle {
    /// Queues `writes` now, in the order of the calls; the future ends when they are durable.
    pub fn commit(
        &self,
        writes: Vec<Write>,
    ) -> impl Future<Output = Result<(), WriteError>> + Send + 'static {
        let (done, result) = oneshot::channel();
        let queued = self.0.send(Request { writes, done }).is_ok();
        async move {
            if !queued {
                return Err(WriteError::Closed);
            }
            result.await.map_err(|_| WriteError::Closed)?.map_err(WriteError::Commit)
        }
    }
}

/// Starts the writer. It ends, and closes the store, when every handle is gone and the queue is empty.
pub fn spawn_writer(store: Store) -> (StoreHandle, tokio::task::JoinHandle<()>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (StoreHandle(sender), tokio::spawn(write(store, receiver)))
}

/// A writer without a store, for tests: it refuses the requests in which a write is refused, and forgets the others.
#[cfg(test)]
pub(crate) fn spawn_forgetful_writer(refuse: impl Fn(&Write) -> bool + Send + 'static) -> StoreHandle {
    let (sender, mut receiver) = mpsc::unbounded_channel::<Request>();
    tokio::spawn(async move {
        while let Some(request) = receiver.recv().await {
            let full = || Arc::new(StoreError::Commit(Box::new(redb::Error::DatabaseClosed)));
            let result = if request.writes.iter().any(&refuse) { Err(full()) } else { Ok(()) };
            // Who no longer waits has been told otherwise by then.
            let _ = request.done.send(result);
        }
    });
    StoreHandle(sender)
}

async fn write(store: Store, mut queue: mpsc::UnboundedReceiver<Request>) {
    let mut store = Some(store);
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        let writes: Vec<Write> =
            batch.iter_mut().flat_map(|request| std::mem::take(&mut request.writes)).collect();
        let result = match store.take() {
            Some(mut on_thread) => {
                let committed = tokio::task::spawn_blocking(move || {
                    let result = on_thread.commit(&writes);
                    (on_thread, result)
                });
                match committed.await {
                    Ok((back, result)) => {
                        store = Some(back);
                        result
                    }
                    // A panic of the store's library took the store with it: nothing can be granted any more.
                    Err(panic) => {
                        Err(StoreError::Commit(Box::new(redb::Error::Corrupted(panic.to_string()))))
                    }
                }
            }
            None => Err(StoreError::Commit(Box::new(redb::Error::DatabaseClosed))),
        };
        let result = result.map_err(Arc::new);
        for request in batch.drain(..) {
            // Who no longer waits has been told otherwise by then (shutdown).
            let _ = request.done.send(result.clone());
        }
    }
}
