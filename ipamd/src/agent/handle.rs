//! How the rest of the agent talks to the task that owns the pool: questions go in by channel, each is answered once, and who
//! no longer waits is forgotten properly.

use spur_cloud::budget::Usage;
use spur_ipamd_core::{AttachmentKey, PodName, PoolView, Reply};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long a cancelled ADD may take to say what it waited for: one step of the pool, or one commit of the store.
const LAST_WORD: Duration = Duration::from_secs(3);

/// Who an address is for, beyond the attachment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Client {
    /// The pod, if the runtime names it.
    pub(super) pod: Option<PodName>,
    /// Path of its network namespace.
    pub(super) sandbox: Option<String>,
}

/// What the pool's task is asked.
#[derive(Debug)]
pub(super) enum Question {
    Add { ticket: u64, attachment: AttachmentKey, client: Client, reply: oneshot::Sender<Reply> },
    Del { ticket: u64, attachment: AttachmentKey, reply: oneshot::Sender<Reply> },
    Cancel { ticket: u64 },
    View { reply: oneshot::Sender<PoolView> },
    Usage { reply: oneshot::Sender<Usage> },
}

/// Asks the pool's task; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct PoolHandle {
    questions: mpsc::UnboundedSender<Question>,
    next_ticket: Arc<AtomicU64>,
}

/// The pool's task is gone: the agent is going down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the agent is stopping")]
pub(super) struct Stopping;

/// Cancels its ADD when dropped before the answer was taken, as happens when the plugin hangs up.
struct Waiting<'a> {
    handle: &'a PoolHandle,
    ticket: Option<u64>,
    answer: oneshot::Receiver<Reply>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        // What comes from now on comes back to the task, which takes the address back itself.
        self.answer.close();
        let question = match self.answer.try_recv() {
            Ok(Reply::Granted { attachment, .. }) => {
                Question::Del { ticket: self.handle.ticket(), attachment, reply: oneshot::channel().0 }
            }
            _ => Question::Cancel { ticket },
        };
        // If the task is gone, so is the waiter.
        let _ = self.handle.questions.send(question);
    }
}

impl PoolHandle {
    pub(super) fn new(questions: mpsc::UnboundedSender<Question>) -> Self {
        Self { questions, next_ticket: Arc::new(AtomicU64::new(1)) }
    }

    /// Asks for an address and waits for at most `limit`; then the answer is a refusal that says what it waited for.
    ///
    /// # Errors
    /// When the agent is stopping.
    ///
    /// # Cancellation
    /// Dropping the future gives the address back if it was granted meanwhile.
    pub(super) async fn add(
        &self,
        attachment: AttachmentKey,
        client: Client,
        limit: Duration,
    ) -> Result<Reply, Stopping> {
        let ticket = self.ticket();
        let (reply, answer) = oneshot::channel();
        self.questions.send(Question::Add { ticket, attachment, client, reply }).map_err(|_| Stopping)?;
        let mut waiting = Waiting { handle: self, ticket: Some(ticket), answer };
        let answered = match tokio::time::timeout(limit, &mut waiting.answer).await {
            Ok(reply) => Some(reply),
            Err(_) => {
                self.questions.send(Question::Cancel { ticket }).map_err(|_| Stopping)?;
                tokio::time::timeout(LAST_WORD, &mut waiting.answer).await.ok()
            }
        };
        let Some(reply) = answered else { return Ok(Reply::Refused { waits: Vec::new() }) };
        waiting.ticket = None;
        reply.map_err(|_| Stopping)
    }

    /// Asks for an address and is gone when the answer comes, without a cancellation before it: a plugin that hung up in that very moment.
    #[cfg(test)]
    pub(super) fn add_and_leave(&self, attachment: AttachmentKey) {
        let (reply, _) = oneshot::channel();
        let (ticket, client) = (self.ticket(), Client::default());
        self.questions.send(Question::Add { ticket, attachment, client, reply }).expect("the task runs");
    }

    /// Gives an address back; the answer comes when that is durable. Dropping the future does not undo it.
    ///
    /// # Errors
    /// When the agent is stopping.
    pub(super) async fn del(&self, attachment: AttachmentKey) -> Result<Reply, Stopping> {
        let (reply, answer) = oneshot::channel();
        let question = Question::Del { ticket: self.ticket(), attachment, reply };
        self.questions.send(question).map_err(|_| Stopping)?;
        answer.await.map_err(|_| Stopping)
    }

    /// A picture of the pool.
    ///
    /// # Errors
    /// When the agent is stopping.
    pub(super) async fn view(&self) -> Result<PoolView, Stopping> {
        let (reply, answer) = oneshot::channel();
        self.questions.send(Question::View { reply }).map_err(|_| Stopping)?;
        answer.await.map_err(|_| Stopping)
    }

    /// What EC2 was asked since the start, and what is left of the budget.
    ///
    /// # Errors
    /// When the agent is stopping.
    pub(super) async fn usage(&self) -> Result<Usage, Stopping> {
        let (reply, answer) = oneshot::channel();
        self.questions.send(Question::Usage { reply }).map_err(|_| Stopping)?;
        answer.await.map_err(|_| Stopping)
    }

    fn ticket(&self) -> u64 {
        self.next_ticket.fetch_add(1, Ordering::Relaxed)
    }
}
