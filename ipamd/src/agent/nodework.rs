//! The task that keeps the kernel as wanted. It runs when the pool wants something else, when a link comes or goes, when the VPC's
//! CIDRs or the configuration change, and every [`REPAIR`] to undo what others did (a flushed table, a deleted rule). Each run compares first, so a run
//! with nothing to do changes nothing. What became of it goes to the pool as an event, once per change of the answer.
//!
//! It waits for the kernel alone. While it cannot be said what the kernel shall be, because EC2 has not told the CIDR of a subnet, what the kernel was is
//! kept.

use super::granted::Granted;
use super::kernel::{Converged, Kernel, KernelError};
use super::status::{Health, NodeStatus};
use super::subnets::Subnets;
use super::wanted::{NodeInputs, WantedError, kernel_mac, node_wanted, unknown_subnets};
use crate::chain::chain;
use spur_cloud::{Cloud, EniId};
use spur_datapath::MacAddr;
use spur_datapath::node::NodeWanted;
use spur_ipamd_core::{DatapathWanted, Event};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// How long a rule that somebody deleted may be missing: "within seconds", at the price of a few dumps of small tables.
const REPAIR: Duration = Duration::from_millis(2500);

/// What the task works with.
pub(super) struct NodeParts<C, K> {
    /// The kernel.
    pub(super) kernel: Arc<K>,
    /// The cloud, for CIDRs of subnets that nobody told of.
    pub(super) cloud: Arc<C>,
    /// What does not come from the pool, as last known.
    pub(super) inputs: watch::Receiver<NodeInputs>,
    /// What the pool wants; generation 0 is nothing yet.
    pub(super) wanted: watch::Receiver<DatapathWanted>,
    /// What the controller grants and tells.
    pub(super) granted: watch::Receiver<Granted>,
    /// Outcomes, to the pool.
    pub(super) outcomes: mpsc::UnboundedSender<Event>,
    /// Outcomes, for everybody.
    pub(super) status: watch::Sender<NodeStatus>,
    /// Ends the task; the kernel stays as it is.
    pub(super) stop: CancellationToken,
}

struct NodeTask<C, K> {
    parts: NodeParts<C, K>,
    links_changed: Arc<Notify>,
    /// What does not come from the pool, and the CIDRs of subnets that were learned here.
    inputs: NodeInputs,
    /// Learns those.
    subnets: Subnets<C>,
    /// What the pool was told last.
    told: Option<Told>,
    /// What the kernel was made like last.
    kept: Option<Kept>,
}

/// What the kernel was made like. What is changed while all of it stays the same is a repair.
#[derive(PartialEq)]
struct Kept {
    node: NodeWanted,
    /// ENIs whose links were there; none after an attempt to make the kernel otherwise, which may have changed it.
    ready: Option<BTreeSet<MacAddr>>,
}

/// A generation could not be applied.
struct Failed {
    message: String,
    /// Somebody changed the kernel, and it cannot be made again as it was.
    repair: bool,
}

/// What became of a generation: the ENIs that are ready, or why not.
#[derive(Debug, PartialEq)]
struct Told {
    generation: u64,
    outcome: Result<BTreeSet<EniId>, String>,
}

/// Starts the task.
pub(super) fn spawn<C: Cloud, K: Kernel>(parts: NodeParts<C, K>) -> tokio::task::JoinHandle<()> {
    let links_changed = Arc::new(Notify::new());
    let (notify, stop) = (Arc::clone(&links_changed), parts.stop.clone());
    let watched = parts.kernel.watch_links(move || {
        notify.notify_one();
        !stop.is_cancelled()
    });
    if let Err(error) = watched {
        // The timer finds new links too, only later.
        tracing::warn!(error = %chain(&error), "links cannot be watched; they are listed every few seconds");
    }
    let inputs = parts.inputs.borrow().clone();
    let subnets = Subnets::new(Arc::clone(&parts.cloud));
    let task = NodeTask { parts, links_changed, inputs, subnets, told: None, kept: None };
    tokio::spawn(task.run())
}

impl<C: Cloud, K: Kernel> NodeTask<C, K> {
    async fn run(mut self) {
        let mut repair = tokio::time::interval(REPAIR);
        repair.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = self.parts.stop.clone();
        let mut wanted = self.parts.wanted.clone();
        let mut inputs = self.parts.inputs.clone();
        let mut granted = self.parts.granted.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = wanted.changed() => if changed.is_err() { return },
                Ok(()) = inputs.changed() => {}
                Ok(()) = granted.changed() => {}
                Some(learned) = self.subnets.answer() => self.inputs.subnets.extend(learned),
                () = self.links_changed.notified() => {}
                _ = repair.tick() => {}
            }
            let now_wanted = wanted.borrow_and_update().clone();
            self.take(&inputs.borrow_and_update());
            self.inputs.granted.clone_from(&granted.borrow_and_update());
            if now_wanted.generation > 0 {
                self.converge(now_wanted).await;
            }
        }
    }

    /// CIDRs of subnets do not change, so what was learned stays.
    fn take(&mut self, inputs: &NodeInputs) {
        let learned = std::mem::replace(&mut self.inputs, inputs.clone()).subnets;
        self.inputs.subnets.extend(learned);
    }

    async fn converge(&mut self, wanted: DatapathWanted) {
        self.subnets.ask(unknown_subnets(&wanted, &self.inputs));
        match node_wanted(&wanted, &self.inputs) {
            Ok(node) => match self.make(node.clone()).await {
                Ok(converged) => self.converged(&wanted, &converged),
                Err(message) => {
                    let repair = self.has_lost(node).await;
                    self.failed(wanted.generation, Failed { message, repair });
                }
            },
            Err(error) => self.keep(wanted.generation, error).await,
        }
    }

    /// Nobody can say what the kernel shall be: it is kept as it was.
    async fn keep(&mut self, generation: u64, error: WantedError) {
        let (message, is_asked) = match (&error, self.subnets.trouble()) {
            (WantedError::UnknownSubnet(_), None) => (error.to_string(), true),
            (WantedError::UnknownSubnet(_), Some(why)) => (format!("{error}: {why}"), false),
            _ => (chain(&error).to_string(), false),
        };
        let repaired = match self.kept.as_ref().map(|kept| kept.node.clone()) {
            Some(node) => self.make(node).await.map(drop),
            None => {
                self.not_prepared(false, &message);
                Ok(())
            }
        };
        match repaired {
            // Whether it is a failure, EC2's answer says.
            Ok(()) if is_asked => {}
            Ok(()) => self.failed(generation, Failed { message, repair: false }),
            Err(broken) => {
                self.failed(generation, Failed { message: format!("{broken}; {message}"), repair: true });
            }
        }
    }

    /// One attempt to make the kernel so.
    async fn make(&mut self, node: NodeWanted) -> Result<Converged, String> {
        let attempt = node.clone();
        let converged = self.on_thread(move |kernel| kernel.converge(&attempt)).await?;
        let kept = Kept { node, ready: Some(converged.ready.clone()) };
        let repaired = self.kept.as_ref() == Some(&kept);
        self.kept = Some(kept);
        for change in &converged.changes {
            if repaired {
                tracing::warn!(change, "repaired: the kernel was not as we left it");
            } else {
                tracing::info!(change, "kernel changed");
            }
        }
        let repairs = if repaired { converged.changes.len() as u64 } else { 0 };
        self.publish(|status| {
            status.primary_mtu_bytes = converged.primary_mtu_bytes;
            status.repairs += repairs;
        });
        if converged.ready.contains(&kernel_mac(self.inputs.primary_mac)) {
            self.publish(|status| status.health = Health::Sound);
        } else {
            self.not_prepared(true, "the primary ENI has no link in this network namespace");
        }
        Ok(converged)
    }

    /// Whether the kernel has lost something that was there before what failed just now, so that pods that run may suffer. It is not led back to what it was:
    /// the next attempt would change it again, and so on, every few seconds.
    async fn has_lost(&mut self, wanted: NodeWanted) -> bool {
        let Some(kept) = &mut self.kept else { return false };
        if kept.node == wanted {
            return true;
        }
        kept.ready = None;
        let kept = kept.node.clone();
        self.on_thread(move |kernel| kernel.has_lost(&kept, &wanted)).await.unwrap_or(true)
    }

    async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&K) -> Result<T, KernelError> + Send + 'static,
    ) -> Result<T, String> {
        let kernel = Arc::clone(&self.parts.kernel);
        match tokio::task::spawn_blocking(move || work(&kernel)).await {
            Ok(done) => done.map_err(|error| chain(&error).to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn converged(&mut self, wanted: &DatapathWanted, converged: &Converged) {
        let ready: BTreeSet<EniId> = wanted
            .enis
            .iter()
            .filter(|eni| converged.ready.contains(&kernel_mac(eni.mac)))
            .map(|eni| eni.eni.clone())
            .collect();
        let told = Told { generation: wanted.generation, outcome: Ok(ready.clone()) };
        if self.told.as_ref() != Some(&told) {
            self.told = Some(told);
            self.tell(Event::DatapathApplied { generation: wanted.generation, ready });
        }
    }

    fn failed(&mut self, generation: u64, Failed { message, repair }: Failed) {
        let told = Told { generation, outcome: Err(message.clone()) };
        if self.told.as_ref() != Some(&told) {
            tracing::error!(
                generation,
                message,
                "the kernel cannot be prepared; tried again every few seconds"
            );
            self.told = Some(told);
            self.tell(Event::DatapathFailed { generation, message: message.clone() });
        }
        self.not_prepared(repair, &format!("the kernel could not be prepared: {message}"));
        self.publish(|status| status.failed_updates += 1);
    }

    fn not_prepared(&self, repair: bool, reason: &str) {
        let now = Instant::now();
        self.publish(|status| status.health.fail(now, repair, reason.to_owned()));
    }

    fn publish(&self, change: impl FnOnce(&mut NodeStatus)) {
        self.parts.status.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            *status != before
        });
    }

    fn tell(&self, event: Event) {
        // Gone only when the agent goes down.
        let _ = self.parts.outcomes.send(event);
    }
}
