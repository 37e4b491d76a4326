//! Since when who holds what: enough to tell a spooled release that is older than the grant it would end from one that is due, and
//! a veth that somebody left behind from a pod's.

use super::clock::Clock;
use super::recovered::host_mac_of;
use spur_datapath::MacAddr;
use spur_ipamd_core::{AttachmentKey, Record, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The times of all grants that stand. The lock is held for single map operations only.
#[derive(Debug)]
pub(super) struct Grants {
    clock: Clock,
    since: Mutex<BTreeMap<AttachmentKey, Timestamp>>,
}

impl Grants {
    /// Those of the record.
    #[must_use]
    pub(super) fn of(record: &Record, clock: Clock) -> Self {
        let since = record.holdings.iter().map(|(key, holding)| (key.clone(), holding.since)).collect();
        Self { clock, since: Mutex::new(since) }
    }

    pub(super) fn granted(&self, key: &AttachmentKey) {
        let now = self.clock.now();
        self.map().insert(key.clone(), now);
    }

    pub(super) fn released(&self, key: &AttachmentKey) {
        self.map().remove(key);
    }

    /// Whether the attachment was granted after this time.
    pub(super) fn younger_than(&self, key: &AttachmentKey, time: Timestamp) -> bool {
        self.map().get(key).is_some_and(|since| *since > time)
    }

    /// Hardware addresses of the host's ends of the veths that the grants stand for.
    pub(super) fn host_macs(&self) -> BTreeSet<MacAddr> {
        self.map().keys().filter_map(host_mac_of).collect()
    }

    fn map(&self) -> MutexGuard<'_, BTreeMap<AttachmentKey, Timestamp>> {
        // A panic between two map operations leaves the map whole.
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
