//! What the pool and the kernel are told again while the agent runs: settings that an operator changed, subnets and security groups
//! that changed in the VPC, limits that EC2 tells later than at the start.
//!
//! # Calls
//! EC2 is asked for subnets and groups only where the configuration does not name them finally: when what it asks for changed, every
//! [`REFRESH`], and when a subnet was full, but not sooner than [`PAUSE`] after the last time. A call that fails changes
//! nothing: the last answer stays in force, and EC2 is asked again after [`RETRY`], and less and less often when it goes on failing. What an
//! operator changes does not wait for EC2.

use super::placement::{Placement, PlacementError, Remembered, find, is_asked_for, known_cidrs};
use super::settings::settings;
use super::start::{ask_limits, remember_limits};
use super::wanted::NodeInputs;
use crate::chain::chain;
use crate::config::{Config, PoolConfig};
use crate::store::StoreHandle;
use crate::store::books::write_placement;
use spur_cloud::Cloud;
use spur_cloud_aws::imds::InstanceIdentity;
use spur_ipamd_core::{Event, PoolSettings};
use spur_quotas::InstanceLimits;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

/// Between two readings when nothing asks for one: rare enough that an idle node stays at about one call a minute.
const REFRESH: Duration = Duration::from_secs(1800);
/// Between two readings that are asked for. A full subnet is asked again by the pool after a longer time.
const PAUSE: Duration = Duration::from_secs(60);
/// After a reading that failed; doubled with each further one, up to [`REFRESH`].
const RETRY: Duration = Duration::from_secs(15);
/// Between two questions to EC2 for limits that the built-in table stands in for.
const LIMITS_RETRY: Duration = Duration::from_secs(300);

/// What the task works with.
pub(super) struct Reload<C> {
    /// What the operator wants, as it changes.
    pub(super) config: watch::Receiver<Arc<Config>>,
    /// What is in force.
    pub(super) current: Arc<Config>,
    /// The cloud.
    pub(super) cloud: Arc<C>,
    /// Who we are.
    pub(super) identity: InstanceIdentity,
    /// Durability.
    pub(super) store: StoreHandle,
    /// To the pool.
    pub(super) events: mpsc::UnboundedSender<Event>,
    /// To the kernel's keeper.
    pub(super) inputs: Arc<watch::Sender<NodeInputs>>,
    /// A subnet had no address.
    pub(super) subnet_full: Arc<Notify>,
    /// What the pool was told last.
    pub(super) told: PoolSettings,
    /// Where new ENIs go.
    pub(super) placement: Placement,
}

impl<C: Cloud> Reload<C> {
    /// Works until dropped.
    pub(super) async fn live(mut self) {
        let mut refreshed = Instant::now();
        let mut due = refreshed + REFRESH;
        let mut retry = RETRY;
        // One at a time.
        let mut reading = JoinSet::new();
        loop {
            tokio::select! {
                Ok(()) = self.config.changed() => {
                    let new = Arc::clone(&self.config.borrow_and_update());
                    let before = std::mem::replace(&mut self.current, new);
                    if asks_otherwise(&before.pool, &self.current.pool) {
                        // Nobody wants the answer to the question before.
                        reading = JoinSet::new();
                        (due, retry) = (Instant::now(), RETRY);
                    }
                }
                Some(read) = reading.join_next() => {
                    if self.take(read).await {
                        (due, retry) = (refreshed + REFRESH, RETRY);
                    } else {
                        (due, retry) = (refreshed + retry, (retry * 2).min(REFRESH));
                    }
                }
                () = self.subnet_full.notified(), if reading.is_empty() && is_asked_for(&self.current.pool) => {
                    due = due.min(refreshed + PAUSE);
                }
                () = sleep_until(due), if reading.is_empty() => {}
            }
            if reading.is_empty() && due <= Instant::now() {
                refreshed = Instant::now();
                let (cloud, identity) = (Arc::clone(&self.cloud), self.identity.clone());
                let pool = self.current.pool.clone();
                reading.spawn(async move { find(&*cloud, &identity, &pool).await });
            }
            self.apply();
        }
    }

    /// Takes up where new ENIs go; `false` if that could not be read.
    async fn take(&mut self, read: Result<Result<Placement, PlacementError>, JoinError>) -> bool {
        let found = match read {
            Ok(found) => found.map_err(|error| chain(&error).to_string()),
            Err(error) => Err(error.to_string()),
        };
        match found {
            Ok(found) if found == self.placement => true,
            Ok(found) => {
                let subnets: Vec<_> = found.subnets.iter().map(|(id, _)| id.to_string()).collect();
                tracing::info!(?subnets, groups = ?found.security_groups, "where new ENIs go has changed");
                let remembered = Remembered::of(&self.current.pool, &found);
                self.placement = found;
                if let Err(error) = self.store.commit(vec![write_placement(&remembered)]).await {
                    // The next start asks EC2, that is all.
                    tracing::warn!(error = %chain(&error), "where new ENIs go cannot be remembered");
                }
                true
            }
            Err(error) => {
                tracing::warn!(error, "where new ENIs go cannot be read; the last answer stays in force");
                false
            }
        }
    }

    /// Tells the pool and the kernel's keeper what is new for them.
    fn apply(&mut self) {
        let config = &self.current;
        let wanted = settings(config, &self.identity, &self.placement);
        if wanted != self.told {
            self.told = wanted.clone();
            // Gone only when the agent goes down.
            let _ = self.events.send(Event::Reload(Box::new(wanted)));
        }
        let cidrs = known_cidrs(&self.identity, &self.placement);
        self.inputs.send_if_modified(|inputs| {
            let before = inputs.clone();
            inputs.nat = config.pool.nat.clone();
            inputs.block_instance_metadata = config.pool.block_instance_metadata;
            inputs.subnets.extend(cidrs);
            *inputs != before
        });
    }
}

fn asks_otherwise(one: &PoolConfig, other: &PoolConfig) -> bool {
    (&one.subnets, &one.security_groups) != (&other.subnets, &other.security_groups)
}

/// Asks EC2 for limits until it answers, and tells the pool, which began with the built-in ones.
pub(super) async fn confirm_limits<C: Cloud>(
    cloud: Arc<C>,
    store: StoreHandle,
    identity: InstanceIdentity,
    (builtin, events): (InstanceLimits, mpsc::UnboundedSender<Event>),
) {
    loop {
        sleep(LIMITS_RETRY).await;
        match ask_limits(&*cloud, &identity.instance_type).await {
            Ok(limits) => {
                remember_limits(&store, &identity.instance_type, &limits).await;
                if limits == builtin {
                    tracing::info!("EC2 confirms the built-in limits");
                } else {
                    tracing::warn!(
                        ?limits,
                        "EC2 tells other limits than the built-in table; they are in force now"
                    );
                    // Gone only when the agent goes down.
                    let _ = events.send(Event::Limits(Box::new(limits)));
                }
                return;
            }
            Err(error) => tracing::debug!(%error, "EC2 does not tell the limits yet"),
        }
    }
}

#[cfg(test)]
mod tests;
