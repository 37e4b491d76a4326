//! The socket: who may connect, how much one peer may cost, one request and one answer per connection.
//!
//! # Rules
//! - The socket file has mode 0600 from the moment it exists (made under another name, then renamed), and the peer's credentials
//!   are checked again: only root and the agent's own user are heard.
//! - A frame must arrive whole within [`READ_LIMIT`]; a longer one than [`spur_wire::MAX_FRAME`] is refused before it is read.
//!   At most [`CONNECTIONS`] are open at a time; more wait in the kernel's queue.
//! - Every understandable mistake is answered with a refusal that says what would be right.
//! - A peer that hangs up ends its request: the handler's future is dropped.

mod bind;
mod parse;

pub use bind::{BindError, BoundSocket, bind};
pub use parse::refuse;

use parse::parse_request;
use spur_wire::{MAX_FRAME, RefusalKind, Request, Response};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The plugin writes its frame in one piece; who needs longer is not the plugin.
pub const READ_LIMIT: Duration = Duration::from_secs(5);
/// More pods than any instance type can hold addresses for.
pub const CONNECTIONS: usize = 1024;

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// The answer to one request. The future is dropped if the peer hangs up.
    fn handle(&self, request: Request) -> impl Future<Output = Response> + Send;
}

/// Accepts and answers until `stop`, then finishes what is in flight and returns. New connections are refused by the kernel from
/// the moment of `stop` on, because the listener is closed and its file removed.
pub async fn serve<H: Handler>(socket: BoundSocket, handler: Arc<H>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let tasks = TaskTracker::new();
    loop {
        let slot = tokio::select! {
            () = stop.cancelled() => break,
            slot = Arc::clone(&slots).acquire_owned() => slot.expect("the semaphore is never closed"),
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok(stream) => {
                let handler = Arc::clone(&handler);
                tasks.spawn(async move {
                    converse(stream, &*handler).await;
                    drop(slot);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: asking again at once would only burn the processor.
                tracing::warn!(%error, "accept a connection of the plugin");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(socket);
    tasks.close();
    tasks.wait().await;
}

async fn converse<H: Handler>(mut stream: UnixStream, handler: &H) {
    let response = match allowed(&stream) {
        Err(refusal) => refusal,
        Ok(()) => match tokio::time::timeout(READ_LIMIT, read_request(&mut stream)).await {
            Ok(Ok(Some(request))) => tokio::select! {
                biased;
                response = handler.handle(request) => response,
                () = hung_up(&mut stream) => {
                    tracing::debug!("the plugin hung up before its answer");
                    return;
                }
            },
            Ok(Ok(None)) => return,
            Ok(Err(refusal)) => refusal,
            Err(_) => {
                refuse(RefusalKind::Invalid, format!("no whole frame within {} s", READ_LIMIT.as_secs()))
            }
        },
    };
    let written = tokio::time::timeout(READ_LIMIT, write_response(&mut stream, &response)).await;
    if let Ok(Err(error)) = written {
        tracing::debug!(%error, "the plugin was gone when its answer was ready");
    }
}

fn allowed(stream: &UnixStream) -> Result<(), Response> {
    let own = rustix::process::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if may_ask(peer.uid(), own) => Ok(()),
        Ok(peer) => {
            Err(refuse(RefusalKind::Invalid, format!("user {} may not ask; only root may", peer.uid())))
        }
        Err(error) => Err(refuse(RefusalKind::Internal, format!("who asks cannot be found out: {error}"))),
    }
}

const fn may_ask(uid: u32, own: u32) -> bool {
    uid == 0 || uid == own
}

/// The request; `None` if the peer hung up without a word, as a probe does.
async fn read_request(stream: &mut UnixStream) -> Result<Option<Request>, Response> {
    let torn = |error: std::io::Error| refuse(RefusalKind::Invalid, format!("the frame is torn: {error}"));
    let mut length = [0; 4];
    let first = stream.read(&mut length).await.map_err(torn)?;
    if first == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[first..]).await.map_err(torn)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_FRAME {
        let reason = format!("the frame has {length} bytes; expected at most {MAX_FRAME}");
        return Err(refuse(RefusalKind::Invalid, reason));
    }
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes).await.map_err(torn)?;
    parse_request(&bytes).map(Some)
}

async fn write_response(stream: &mut UnixStream, response: &Response) -> std::io::Result<()> {
    let mut frame = Vec::new();
    if spur_wire::write_frame(&mut frame, response).is_err() {
        let too_long = refuse(RefusalKind::Internal, "the answer is longer than a frame");
        frame.clear();
        spur_wire::write_frame(&mut frame, &too_long).map_err(std::io::Error::other)?;
    }
    stream.write_all(&frame).await?;
    stream.shutdown().await
}

/// Ends when the peer closes its end. Bytes beyond the one request are ignored.
async fn hung_up(stream: &mut UnixStream) {
    let mut rest = [0; 64];
    while matches!(stream.read(&mut rest).await, Ok(length) if length > 0) {}
}

#[cfg(test)]
mod tests;
