//! What recurs while the agent runs: the conflist, the spool, the VPC's CIDRs, and the collection of what nobody gave back. Each goes on
//! by itself and none decides anything for another.

use super::kernel::Kernel;
use super::metadata::Metadata;
use super::status::{Health, Running};
use super::sweep::{self, Sweep};
use super::wanted::NodeInputs;
use super::{Agent, spool};
use crate::chain::chain;
use crate::conflist;
use spur_cloud::MacAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// After a conflist that could not be written.
const CONFLIST_RETRY: Duration = Duration::from_secs(5);

impl<M: Metadata, K: Kernel> Agent<M, K> {
    /// Writes the conflist as soon as ADD can be served, and again when it shall be another.
    pub(super) async fn announce(&self, running: &Running) {
        if let Some(mut granted) = running.granted.clone()
            && granted.wait_for(|granted| granted.not_ready().is_none()).await.is_err()
        {
            return;
        }
        if running.node.clone().wait_for(|status| status.health == Health::Sound).await.is_err() {
            return;
        }
        tracing::info!("ready: ADD can be served");
        let mut config = self.config.clone();
        loop {
            let wanted = Arc::clone(&config.borrow_and_update());
            let name = wanted.cni.conf_name.clone();
            let written =
                tokio::task::spawn_blocking(move || conflist::write(&wanted.cni, &wanted.spool_dir)).await;
            let retry = match written {
                Ok(Ok(true)) => {
                    tracing::info!(name, "conflist written");
                    None
                }
                Ok(Ok(false)) => None,
                Ok(Err(error)) => {
                    tracing::error!(error = %chain(&error), "the conflist cannot be written");
                    Some(CONFLIST_RETRY)
                }
                Err(error) => {
                    tracing::error!(%error, "the conflist cannot be written");
                    Some(CONFLIST_RETRY)
                }
            };
            tokio::select! {
                Ok(()) = config.changed() => {}
                () = tokio::time::sleep(retry.unwrap_or_default()), if retry.is_some() => {}
                // Neither: it is written, and nobody follows the configuration.
                else => return,
            }
        }
    }

    /// Collects what nobody gave back, every so often.
    pub(super) async fn sweep(&self, running: &Running) {
        let mut sweep = Sweep::default();
        loop {
            tokio::time::sleep(sweep::INTERVAL).await;
            sweep.look(self.world.clock.now(), running, &self.reaper, &self.grants).await;
        }
    }

    /// Drains the spool and reads the VPC's CIDRs again, now and every so often.
    pub(super) async fn recur(
        &self,
        running: &Running,
        inputs: &watch::Sender<NodeInputs>,
        primary: MacAddr,
    ) {
        loop {
            let config = Arc::clone(&self.config.borrow());
            spool::drain(&config.spool_dir, running, &self.reaper, &self.grants).await;
            tokio::time::sleep(config.reconcile).await;
            match self.world.metadata.vpc_cidrs(primary).await {
                Ok(cidrs) if cidrs.is_empty() => {
                    tracing::warn!("instance metadata shows no CIDR of the VPC; the last ones stay in use");
                }
                Ok(cidrs) => {
                    inputs.send_if_modified(|known| {
                        let changed = known.vpc_cidrs != cidrs;
                        if changed {
                            tracing::info!(?cidrs, "the VPC's CIDRs changed");
                            known.vpc_cidrs = cidrs;
                        }
                        changed
                    });
                }
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "the VPC's CIDRs cannot be read; the last ones stay in use");
                }
            }
        }
    }
}
