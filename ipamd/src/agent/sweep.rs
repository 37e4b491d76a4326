//! The agent's own collection of what nobody gave back. containerd calls no GC, and a runtime that forgot a sandbox sends no DEL:
//! an attachment whose network namespace is gone *and* whose veth is gone, and stays so for [`GONE_FOR`], is released.
//!
//! Both, because each alone has an innocent reason: an agent that does not see the runtime's directory sees no namespace, and
//! a pod that is being wired has no veth yet. What the kernel shows is asked anew each time; nothing is remembered over a
//! restart but the path of the namespace, so a restart only makes it later.

use super::answer::release;
use super::grants::Grants;
use super::kernel::{Kernel, KernelError};
use super::reaper::Reaper;
use super::recovered::host_mac_of;
use super::status::Running;
use crate::chain::chain;
use spur_datapath::MacAddr;
use spur_ipamd_core::{AddressView, AttachmentKey, PoolView, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How long an attachment must be found gone before it is released.
pub(super) const GONE_FOR: Duration = Duration::from_secs(30);
/// Between two looks; two or three of them fit into [`GONE_FOR`], so that one look is never enough.
pub(super) const INTERVAL: Duration = Duration::from_secs(12);

/// The name of the finding, in logs.
const FINDING: &str = "abandonedAttachment";

/// A grant: an attachment that is given back and granted again is another one.
type Grant = (AttachmentKey, Timestamp);

/// Attachments that were found gone.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Since when each is found gone at every look.
    gone_since: BTreeMap<Grant, Timestamp>,
    /// Released so far.
    collected: u64,
}

impl Sweep {
    /// Looks once and releases what is gone for long enough. What cannot be done now is tried again at the next look.
    pub(super) async fn look<K: Kernel>(
        &mut self,
        now: Timestamp,
        running: &Running,
        reaper: &Reaper<K>,
        grants: &Grants,
    ) {
        let Ok(view) = running.pool.view().await else { return };
        let held: Vec<AddressView> = held(view).collect();
        let gone = if held.is_empty() { BTreeSet::new() } else { gone(reaper.kernel(), held).await };
        for key in self.due(now, gone) {
            match release(running, reaper, grants, key.clone()).await {
                Ok(addresses) => {
                    self.collected += 1;
                    tracing::warn!(
                        kind = FINDING, attachment = %key, ?addresses, collected = self.collected,
                        "released: the pod's namespace and its veth are gone, and nobody gave the address back"
                    );
                }
                Err(refused) => {
                    tracing::warn!(kind = FINDING, attachment = %key, ?refused, "not released yet")
                }
            }
        }
    }

    /// Those that were gone at every look since [`GONE_FOR`] ago.
    fn due(&mut self, now: Timestamp, gone: BTreeSet<Grant>) -> Vec<AttachmentKey> {
        self.gone_since.retain(|grant, _| gone.contains(grant));
        for grant in gone {
            self.gone_since.entry(grant).or_insert(now);
        }
        let due = self.gone_since.iter().filter(|(_, since)| now.since(**since) >= GONE_FOR);
        due.map(|((key, _), _)| key.clone()).collect()
    }
}

fn held(view: PoolView) -> impl Iterator<Item = AddressView> {
    view.enis.into_iter().flat_map(|eni| eni.addresses).filter(|address| address.state == "held")
}

/// The grants whose namespace and veth are both gone; none if the kernel cannot be read.
async fn gone<K: Kernel>(kernel: &Arc<K>, held: Vec<AddressView>) -> BTreeSet<Grant> {
    let kernel = Arc::clone(kernel);
    let looked = tokio::task::spawn_blocking(move || {
        let veths = kernel.host_veths()?;
        Ok::<_, KernelError>(held.into_iter().filter_map(|address| gone_grant(address, &veths)).collect())
    });
    match looked.await {
        Ok(Ok(gone)) => gone,
        Ok(Err(error)) => {
            tracing::warn!(error = %chain(&error), "the pods' veths cannot be listed; nothing is collected");
            BTreeSet::new()
        }
        Err(error) => {
            tracing::error!(%error, "the look at what is gone failed; nothing is collected");
            BTreeSet::new()
        }
    }
}

fn gone_grant(address: AddressView, veths: &BTreeSet<MacAddr>) -> Option<Grant> {
    let key = address.attachment?;
    let mac = host_mac_of(&key)?;
    // Nobody told the namespace of a pod that was found in the kernel: its veth was all there was.
    let sandbox_is_gone = address.sandbox.is_none_or(|path| is_absent(&path));
    (sandbox_is_gone && !veths.contains(&mac)).then_some((key, address.since?))
}

/// Only what is surely not there; a path that cannot be looked at may be.
fn is_absent(path: &str) -> bool {
    std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(container: &str, since: u64) -> Grant {
        let key = AttachmentKey {
            network: "n".to_owned(),
            container_id: container.to_owned(),
            if_name: "eth0".to_owned(),
        };
        (key, at(since))
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn c63_only_what_is_gone_at_every_look_for_long_enough_is_due() {
        let mut sweep = Sweep::default();
        let gone = || BTreeSet::from([grant("c1", 1), grant("c2", 1)]);
        for seconds in [100, 112, 124, 129] {
            assert!(sweep.due(at(seconds), gone()).is_empty(), "{seconds}");
        }
        // The second was seen in between, so its time begins anew.
        sweep.due(at(129), BTreeSet::from([grant("c1", 1)]));
        let due = sweep.due(at(130), gone());
        assert_eq!(due, [grant("c1", 1).0]);
        assert!(sweep.due(at(159), BTreeSet::from([grant("c2", 1)])).is_empty());
        assert_eq!(sweep.due(at(160), BTreeSet::from([grant("c2", 1)])), [grant("c2", 1).0]);
    }

    #[test]
    fn c63_an_attachment_that_was_granted_again_begins_anew() {
        let mut sweep = Sweep::default();
        sweep.due(at(100), BTreeSet::from([grant("c1", 1)]));
        assert!(sweep.due(at(140), BTreeSet::from([grant("c1", 120)])).is_empty());
        assert_eq!(sweep.due(at(170), BTreeSet::from([grant("c1", 120)])), [grant("c1", 120).0]);
    }

    #[test]
    fn c63_a_namespace_or_a_veth_that_is_there_keeps_the_address() {
        let (key, since) = grant("c1", 1);
        let veth = host_mac_of(&key).unwrap();
        let address = |sandbox: Option<&str>| AddressView {
            address: "10.0.0.7".parse().unwrap(),
            state: "held",
            attachment: Some(key.clone()),
            pod: None,
            sandbox: sandbox.map(str::to_owned),
            since: Some(since),
            until: None,
        };
        let (here, gone) = (BTreeSet::from([veth]), BTreeSet::new());
        for (sandbox, veths, is_gone) in [
            (Some("/proc/self/ns/net"), &gone, false),
            (Some("/nonexistent/netns"), &here, false),
            (Some("/nonexistent/netns"), &gone, true),
            (Some("/proc/self/status/not-a-directory"), &gone, false),
            (None, &here, false),
            (None, &gone, true),
        ] {
            assert_eq!(gone_grant(address(sandbox), veths).is_some(), is_gone, "{sandbox:?} {veths:?}");
        }
    }
}
