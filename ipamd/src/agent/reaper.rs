//! Deletes the veths of pods that are gone. The plugin only detaches a veth (no route leads to it, it is marked), because the kernel
//! takes some 20 ms to delete one and hardly longer to delete fifty: here they are collected and deleted together, while
//! nobody waits.
//!
//! The flows of released addresses go the same way: to find those that were translated to an address the kernel lists its whole
//! table, once for all of them. An address rests before its next pod has it, for longer than this takes.
//!
//! Now and then it also looks for veths of ours that no grant stands for: a plugin that was killed, a GC that was not finished. The links
//! are listed *before* the grants are read, and a grant stands before its veth is made: what is listed and has no grant was released,
//! and is not being wired. Nothing is remembered over a restart; the mark is in the kernel.

use super::grants::Grants;
use super::kernel::{Kernel, KernelError};
use super::recovered::Recovered;
use crate::chain::chain;
use spur_datapath::pod::PodLink;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// DELs come in bursts, and deleting holds a lock of the kernel that they need: it waits until none came for so long …
const QUIET: Duration = Duration::from_millis(10);
/// … but not for ever.
const LONGEST: Duration = Duration::from_millis(80);
/// Between two looks for what was left behind.
const SWEEP: Duration = Duration::from_secs(30);

/// Collects and deletes.
pub(super) struct Reaper<K> {
    kernel: Arc<K>,
    grants: Arc<Grants>,
    called: Notify,
    /// Whose flows are to be forgotten. The lock is held for single operations only.
    released: Mutex<Vec<IpAddr>>,
}

impl<K: Kernel> Reaper<K> {
    pub(super) fn new(kernel: Arc<K>, grants: Arc<Grants>) -> Self {
        Self { kernel, grants, called: Notify::new(), released: Mutex::default() }
    }

    /// These addresses were released, and a veth may wait. Returns at once.
    pub(super) fn call(&self, released: &[IpAddr]) {
        self.queue().extend(released);
        self.called.notify_one();
    }

    pub(super) const fn kernel(&self) -> &Arc<K> {
        &self.kernel
    }

    fn queue(&self) -> MutexGuard<'_, Vec<IpAddr>> {
        // A panic between two operations leaves the list whole.
        self.released.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until dropped; begins with what an earlier agent left.
    pub(super) async fn live(&self, recovered: &Recovered) {
        let mut look = interval(SWEEP);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.called.notified() => self.settle().await,
                _ = look.tick() => self.sweep(recovered).await,
            }
            self.reap().await;
        }
    }

    async fn settle(&self) {
        let begin = Instant::now();
        while begin.elapsed() < LONGEST && timeout(QUIET, self.called.notified()).await.is_ok() {}
    }

    /// Deletes everything that is marked, and the flows of what was released.
    pub(super) async fn reap(&self) {
        let released = std::mem::take(&mut *self.queue());
        if !released.is_empty() {
            let forgotten = self.on_thread(move |kernel| kernel.forget_flows(&released)).await;
            if let Err(error) = forgotten {
                tracing::warn!(error = %chain(&error), "flows of released addresses stay behind");
            }
        }
        match self.on_thread(Kernel::reap_links).await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "deleted the veths of pods that are gone"),
            Err(error) => tracing::warn!(
                error = %chain(&error),
                "the veths of pods that are gone cannot be deleted; tried again soon"
            ),
        }
    }

    /// Detaches what no grant stands for.
    async fn sweep(&self, recovered: &Recovered) {
        let links = match self.on_thread(Kernel::pod_links).await {
            Ok(links) => links,
            Err(error) => {
                return tracing::warn!(error = %chain(&error), "the pods' veths cannot be listed");
            }
        };
        let mut known = self.grants.host_macs();
        known.extend(recovered.host_macs());
        // Without a hardware address nobody can tell whose it is.
        let is_known = |link: &PodLink| link.mac.is_none_or(|mac| known.contains(&mac));
        let left: Vec<PodLink> = links.into_iter().filter(|link| !is_known(link)).collect();
        if left.is_empty() {
            return;
        }
        for link in &left {
            tracing::warn!(kind = "abandonedVeth", link = %link.name, "no pod holds an address on it; it is deleted");
        }
        if let Err(error) = self.on_thread(move |kernel| kernel.detach_links(&left)).await {
            tracing::warn!(error = %chain(&error), "abandoned veths cannot be detached; tried again later");
        }
    }

    async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&K) -> Result<T, KernelError> + Send + 'static,
    ) -> Result<T, KernelError> {
        let kernel = Arc::clone(&self.kernel);
        match tokio::task::spawn_blocking(move || work(&kernel)).await {
            Ok(result) => result,
            Err(cause) => Err(KernelError { doing: "look after pods' veths", cause: cause.into() }),
        }
    }
}
