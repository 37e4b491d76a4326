//! What is seen at a scrape. Pool, budget and kernel's keeper are asked for what they know anyway; only the kernel's connection tracking is read for the
//! metrics alone, and not more often than every [`FLOWS_AGE`], however many scrape: it is a walk over the whole table.

use super::kernel::{Kernel, KernelError};
use super::metrics::{Seen, samples};
use super::status::{Phase, Running};
use super::wanted::pod_addresses;
use crate::chain::chain;
use crate::config::Config;
use crate::metrics::Source;
use crate::metrics::catalog::{AGENT, BUSIEST};
use crate::metrics::requests::Requests;
use spur_datapath::conntrack::Translated;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// Prometheus scrapes every 15 s to a minute; two that do so cost one walk.
const FLOWS_AGE: Duration = Duration::from_secs(15);
/// The pool's task never waits for anything; if it does not answer for so long, what is known without it is told.
const POOL_PATIENCE: Duration = Duration::from_secs(2);

/// The agent, for those who scrape it.
pub(super) struct Scraped<K> {
    /// How far the agent is.
    pub(super) phase: watch::Receiver<Phase>,
    /// What the operator wants.
    pub(super) config: watch::Receiver<Arc<Config>>,
    /// Requests of the plugin.
    pub(super) requests: Arc<Requests>,
    /// The kernel.
    pub(super) kernel: Arc<K>,
    /// Flows as they were counted last.
    pub(super) flows: Mutex<Flows>,
}

/// Translated flows.
#[derive(Debug, Default)]
pub(super) struct Flows {
    /// A walk over the table that goes on, and when it ended.
    walk: Option<JoinHandle<(Result<Translated, KernelError>, Instant)>>,
    counted: Option<Instant>,
    found: Option<Translated>,
    failures: u64,
}

impl<K: Kernel> Source for Scraped<K> {
    async fn text(&self) -> String {
        let mut seen = Seen { ports: self.ports(), ..Seen::default() };
        if let Some(running) = self.running() {
            seen.node = Some(running.node.borrow().clone());
            seen.pool = timeout(POOL_PATIENCE, running.pool.view()).await.ok().and_then(Result::ok);
            seen.usage = timeout(POOL_PATIENCE, running.pool.usage()).await.ok().and_then(Result::ok);
            (seen.flows, seen.flow_failures) = self.flows(&running).await;
        }
        seen.unready = self.phase.borrow().unready();
        let mut samples = samples(&seen);
        self.requests.samples(&mut samples);
        samples.text(AGENT)
    }
}

impl<K: Kernel> Scraped<K> {
    fn running(&self) -> Option<Arc<Running>> {
        match &*self.phase.borrow() {
            Phase::Running(running) => Some(Arc::clone(running)),
            Phase::Starting { .. } | Phase::Stopping => None,
        }
    }

    fn ports(&self) -> u32 {
        let config = self.config.borrow();
        let nat = &config.pool.nat;
        u32::from(nat.last_port.saturating_sub(nat.first_port)) + 1
    }

    /// Translated flows, and how often they could not be counted. Who comes while they are counted waits for that.
    async fn flows(&self, running: &Running) -> (Option<Translated>, u64) {
        let mut flows = self.flows.lock().await;
        // What somebody began who hung up: a walk cannot be stopped, and a second one beside it would only be slower.
        flows.finish().await;
        if flows.counted.is_none_or(|at| at.elapsed() >= FLOWS_AGE) {
            flows.walk = Some(self.walk(running));
            flows.finish().await;
        }
        (flows.found.clone(), flows.failures)
    }

    fn walk(&self, running: &Running) -> JoinHandle<(Result<Translated, KernelError>, Instant)> {
        let pods: Vec<_> = running.wanted.borrow().enis.iter().flat_map(pod_addresses).collect();
        let (kernel, address) = (Arc::clone(&self.kernel), running.node_address);
        tokio::task::spawn_blocking(move || (kernel.translated(&pods, address, BUSIEST), Instant::now()))
    }
}

impl Flows {
    /// Waits for the walk that goes on, if one does. Dropping the future leaves it to the next who waits.
    async fn finish(&mut self) {
        let Some(walk) = &mut self.walk else { return };
        let (found, ended) = match walk.await {
            Ok((found, ended)) => (found.map_err(|error| chain(&error).to_string()), ended),
            Err(error) => (Err(error.to_string()), Instant::now()),
        };
        self.walk = None;
        self.counted = Some(ended);
        if let Err(error) = &found {
            tracing::warn!(error, "translated flows cannot be counted");
            self.failures += 1;
        }
        self.found = found.ok();
    }
}
