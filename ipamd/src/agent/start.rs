//! The start: everything that must be known before the pool can begin, each step retried until it succeeds, with what it waits for
//! published. When nothing changed since the last run it costs no EC2 call here, and the pool reads the ENIs with one.

use super::clock::Clock;
use super::kernel::Kernel;
use super::placement::{Placement, Remembered, find, is_asked_for, known_cidrs};
use super::recovered::{Recovered, recover, unknown_pods};
use super::settings::settings;
use super::status::Phase;
use crate::chain::chain;
use crate::config::{Config, Mode};
use crate::store::books::{Books, NodeMark, write_limits, write_node, write_placement, writes_between};
use crate::store::{StoreHandle, Write};
use ipnet::Ipv4Net;
use spur_cloud::{Cloud, EniQuery, InstanceType, SubnetId};
use spur_cloud_aws::imds::InstanceIdentity;
use spur_ipamd_core::{NodeFacts, PoolSettings, Record};
use spur_quotas::{Hypervisor, InstanceLimits};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// First wait after a failed step; doubled up to the last.
pub(super) const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest wait after a failed step.
pub(super) const LAST_RETRY: Duration = Duration::from_secs(15);

/// What the start works with.
pub(super) struct Starter<'a, K> {
    /// The configuration.
    pub(super) config: &'a Config,
    /// The kernel.
    pub(super) kernel: Arc<K>,
    /// Durability.
    pub(super) store: StoreHandle,
    /// The time.
    pub(super) clock: Clock,
    /// The store was set aside, so that nothing is known of what was held and what rested.
    pub(super) rebuild: bool,
    /// The `eni` pool that the node was moved to.
    pub(super) moved_to: Option<String>,
    /// Where it is said what the start waits for.
    pub(super) phase: &'a watch::Sender<Phase>,
}

/// What the pool begins with.
pub(super) struct Prepared {
    /// Sizes, template, times.
    pub(super) settings: PoolSettings,
    /// The node.
    pub(super) facts: NodeFacts,
    /// What survived.
    pub(super) record: Record,
    /// Pods that only the kernel knew of.
    pub(super) recovered: Recovered,
    /// Where new ENIs go.
    pub(super) placement: Placement,
    /// CIDRs of subnets that are known.
    pub(super) subnets: BTreeMap<SubnetId, Ipv4Net>,
    /// The store was set aside.
    pub(super) rebuilt: bool,
    /// The built-in limits are used because EC2 did not answer.
    pub(super) limits_are_builtin: bool,
}

/// Repeats `attempt` until it succeeds, and says meanwhile what stands in the way.
pub(super) async fn insist<T, E: Error + 'static>(
    phase: &watch::Sender<Phase>,
    doing: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let mut wait = FIRST_RETRY;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => {
                let reason = format!("{doing}: {}", chain(&error));
                tracing::warn!(reason, retry_seconds = wait.as_secs(), "the start cannot go on yet");
                phase.send_replace(Phase::Starting { reason });
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LAST_RETRY);
            }
        }
    }
}

impl<K: Kernel> Starter<'_, K> {
    /// Everything that must be known beside who we are.
    pub(super) async fn prepare<C: Cloud>(
        &self,
        cloud: &C,
        identity: &InstanceIdentity,
        books: Books,
        boot_id: &str,
    ) -> Prepared {
        let stored = books.record.clone();
        let mut record = self.drop_foreign(books.record, books.node.as_ref(), identity, boot_id);
        let (limits, limits_are_builtin) = self.limits(cloud, &identity.instance_type, &books.limits).await;
        let (placement, found) = self.placement(cloud, identity, books.placement).await;
        self.recover(cloud, identity, &mut record).await;
        let mark = NodeMark {
            boot_id: boot_id.to_owned(),
            instance: identity.instance.clone(),
            moved_to: self.moved_to.clone(),
        };
        let mut writes = writes_between(&stored, &record);
        if books.node.as_ref() != Some(&mark) {
            writes.push(write_node(&mark));
        }
        writes.extend(found);
        if !writes.is_empty() {
            insist(self.phase, "store", async || self.store.commit(writes.clone()).await).await;
        }
        Prepared {
            settings: settings(self.config, identity, &placement),
            facts: NodeFacts {
                instance: identity.instance.clone(),
                limits,
                primary: identity.primary.eni.clone(),
            },
            recovered: Recovered::in_record(&record),
            record,
            subnets: known_cidrs(identity, &placement),
            placement,
            rebuilt: self.rebuild,
            limits_are_builtin,
        }
    }

    /// What another boot or another machine left is not about the pods that run here.
    fn drop_foreign(
        &self,
        mut record: Record,
        written: Option<&NodeMark>,
        identity: &InstanceIdentity,
        boot_id: &str,
    ) -> Record {
        let Some(written) = written else { return record };
        if written.instance != identity.instance {
            tracing::warn!(of = %written.instance, "the store is another instance's; nothing of it is used");
            return Record::default();
        }
        if written.boot_id != boot_id {
            tracing::info!(
                assignments = record.holdings.len(),
                "the node was rebooted; assignments are dropped"
            );
            record.holdings.clear();
            record.enis.clear();
        }
        record
    }

    async fn limits<C: Cloud>(
        &self,
        cloud: &C,
        instance_type: &InstanceType,
        cached: &BTreeMap<InstanceType, InstanceLimits>,
    ) -> (InstanceLimits, bool) {
        if self.config.pool.mode == Mode::VpcRoute {
            // EC2 is not asked in this mode, and nothing depends on them.
            return (spur_quotas::builtin(instance_type.as_str()).unwrap_or_else(one_eni), false);
        }
        if let Some(limits) = cached.get(instance_type) {
            return (limits.clone(), false);
        }
        let found = insist(self.phase, "limits of the instance type", async || {
                match ask_limits(cloud, instance_type).await {
                    Ok(limits) => Ok((limits, false)),
                    Err(error) => match spur_quotas::builtin(instance_type.as_str()) {
                        Some(limits) => {
                            tracing::warn!(%error, %instance_type, "EC2 does not tell the limits; the built-in table does");
                            Ok((limits, true))
                        }
                        None => Err(error),
                    },
                }
            })
            .await;
        if !found.1 {
            remember_limits(&self.store, instance_type, &found.0).await;
        }
        found
    }

    /// Where new ENIs go: as the agent before this one knew, if it was asked the same.
    async fn placement<C: Cloud>(
        &self,
        cloud: &C,
        identity: &InstanceIdentity,
        remembered: Option<Remembered>,
    ) -> (Placement, Option<Write>) {
        let pool = &self.config.pool;
        if let Some(placement) = remembered.and_then(|remembered| remembered.answer(pool)) {
            return (placement, None);
        }
        let placement =
            insist(self.phase, "where new ENIs go", async || find(cloud, identity, pool).await).await;
        let write = is_asked_for(pool).then(|| write_placement(&Remembered::of(pool, &placement)));
        (placement, write)
    }

    /// Pods that run and that the record does not know keep their addresses.
    async fn recover<C: Cloud>(&self, cloud: &C, identity: &InstanceIdentity, record: &mut Record) {
        let wired = insist(self.phase, "pods in the kernel", async || {
            let kernel = Arc::clone(&self.kernel);
            match tokio::task::spawn_blocking(move || kernel.wired_pods()).await {
                Ok(result) => result,
                Err(cause) => Err(super::kernel::KernelError {
                    doing: "read the pods in the kernel",
                    cause: cause.into(),
                }),
            }
        })
        .await;
        let unknown = unknown_pods(record, wired);
        if unknown.is_empty() && !self.rebuild {
            return;
        }
        tracing::warn!(
            pods = unknown.len(),
            "pods that run and that the store does not know keep their addresses; all others rest first"
        );
        let query = EniQuery::OfInstance(identity.instance.clone());
        let enis = match self.config.pool.mode {
            Mode::Eni => insist(self.phase, "ENIs of the instance", async || cloud.enis(&query).await).await,
            Mode::VpcRoute => Vec::new(),
        };
        let now = self.clock.now();
        let rested = now.after(self.config.pool.cooldown);
        recover(record, &unknown, &enis, &identity.primary.eni, (now, rested));
    }
}

/// The limits of a node of which nothing but its primary ENI counts.
fn one_eni() -> InstanceLimits {
    InstanceLimits::new(1, 1, Vec::new(), 0, Hypervisor::Nitro, false)
        .expect("one of each is no contradiction")
}

/// Asks EC2 for the limits of one type.
pub(super) async fn ask_limits<C: Cloud>(
    cloud: &C,
    instance_type: &InstanceType,
) -> Result<InstanceLimits, spur_cloud::CloudError> {
    let mut answer = cloud.instance_limits(&BTreeSet::from([instance_type.clone()])).await?;
    answer.remove(instance_type).ok_or_else(|| spur_cloud::CloudError {
        api: spur_cloud::Api::DescribeInstanceTypes,
        class: spur_cloud::ErrorClass::Bug,
        code: None,
        message: format!("the answer does not tell about {instance_type}"),
        request_id: None,
    })
}

/// Stores the limits, so that the next start need not ask.
pub(super) async fn remember_limits(
    store: &StoreHandle,
    instance_type: &InstanceType,
    limits: &InstanceLimits,
) {
    if let Err(error) = store.commit(vec![write_limits(instance_type, limits)]).await {
        // The next start asks again, that is all.
        tracing::warn!(error = %chain(&error), "the limits cannot be remembered");
    }
}
