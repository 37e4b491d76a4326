//! The servers of a world, from the first socket to the signal that ends them; alone this is `vpcsim serve`.
//!
//! The line on standard output comes when every socket listens and the network stands, not before. Nothing here outlives
//! the runtime: when it is dropped, all sockets close.

use crate::http::{inspect, metadata, query};
use crate::ready;
use crate::world::World;
use axum::Router;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinError, JoinSet};
use vpcsim_ec2::Scenario;

/// Why there is no service.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Whoever reaches the listener may do and see everything.
    #[error(
        "--listen is {0}; expected a loopback address such as 127.0.0.1:0, because nobody is authenticated"
    )]
    NotLoopback(SocketAddr),
    /// No runtime.
    #[error("start the runtime")]
    Runtime(#[source] std::io::Error),
    /// Signals cannot be caught.
    #[error("catch signals")]
    Signals(#[source] std::io::Error),
    /// The address cannot be had.
    #[error("listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// A socket that listens already cannot be used.
    #[error("use a listening socket")]
    Socket(#[source] std::io::Error),
    /// No thread for the fabric.
    #[error("start the fabric's thread")]
    Thread(#[source] std::io::Error),
    /// A task ended before its time.
    #[error("keep the servers running")]
    Task(#[source] JoinError),
    /// A server ended by itself.
    #[error("a server ended before it was told to")]
    Ended,
    /// Nobody reads the line that says that all is ready.
    #[error("say on standard output that the world is ready")]
    Ready(#[source] std::io::Error),
}

/// Serves the scenario's API until SIGTERM or SIGINT.
///
/// # Errors
/// What prevented it.
pub fn run(scenario: &Scenario, listen: SocketAddr) -> Result<(), ServeError> {
    require_loopback(listen)?;
    runtime()?.block_on(async {
        let mut stop = Stop::listen()?;
        let world = Arc::new(World::new(scenario, None));
        all(&world, listen, None, Vec::new(), &mut stop).await
    })
}

pub(crate) fn require_loopback(listen: SocketAddr) -> Result<(), ServeError> {
    if listen.ip().is_loopback() { Ok(()) } else { Err(ServeError::NotLoopback(listen)) }
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, ServeError> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    built.map_err(ServeError::Runtime)
}

/// SIGTERM, SIGINT and SIGHUP (the terminal went away), caught from the moment this exists.
#[derive(Debug)]
pub(crate) struct Stop {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Stop {
    pub(crate) fn listen() -> Result<Self, ServeError> {
        let caught = |kind| signal(kind).map_err(ServeError::Signals);
        Ok(Self {
            terminate: caught(SignalKind::terminate())?,
            interrupt: caught(SignalKind::interrupt())?,
            hangup: caught(SignalKind::hangup())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// Serves everything until `stop`: the API and the inspection on `listen`, the API for nodes on `for_nodes`, and the
/// nodes' metadata services.
pub(crate) async fn all(
    world: &Arc<World>,
    listen: SocketAddr,
    for_nodes: Option<std::net::TcpListener>,
    metadata_services: Vec<(String, std::net::TcpListener)>,
    stop: &mut Stop,
) -> Result<(), ServeError> {
    let bound = TcpListener::bind(listen).await;
    let loopback = bound.map_err(|cause| ServeError::Listen { address: listen, cause })?;
    let endpoint = loopback.local_addr().map_err(ServeError::Socket)?;
    let has_network = for_nodes.is_some();
    let mut tasks = JoinSet::new();
    let open = query::router(Arc::clone(world));
    spawn(&mut tasks, loopback, open.clone().merge(inspect::router(Arc::clone(world))));
    if let Some(listener) = for_nodes {
        spawn(&mut tasks, TcpListener::from_std(listener).map_err(ServeError::Socket)?, open);
    }
    for (node, listener) in metadata_services {
        let service = metadata::router(Arc::clone(world), &node);
        spawn(&mut tasks, TcpListener::from_std(listener).map_err(ServeError::Socket)?, service);
    }
    tasks.spawn(Arc::clone(world).keep_time());
    say(&ready::description(world, endpoint, has_network)).map_err(ServeError::Ready)?;
    tokio::select! {
        () = stop.asked() => Ok(()),
        ended = tasks.join_next() => match ended {
            Some(Err(cause)) => Err(ServeError::Task(cause)),
            _ => Err(ServeError::Ended),
        },
    }
}

fn spawn(tasks: &mut JoinSet<()>, listener: TcpListener, router: Router) {
    tasks.spawn(async move {
        // Its type says that it may fail; it retries failed accepts and never returns.
        let _ = axum::serve(listener, router).await;
    });
}

fn say(ready: &serde_json::Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{ready}")?;
    out.flush()
}
