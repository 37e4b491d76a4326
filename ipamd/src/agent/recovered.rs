//! Pods that the kernel shows and the store does not: the store was set aside, or its last commit was torn. Their addresses must
//! not be given to others. The kernel does not name their containers, but the hardware address of a veth's host end is made
//! from the container id and the interface name, so the DEL of such a pod is recognised when it comes.

use super::kernel::WiredPod;
use spur_cloud::{Eni, EniId};
use spur_datapath::{MacAddr, names};
use spur_ipamd_core::{AttachmentKey, Holding, Record, Timestamp, carried};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// No container id begins with a dot, so this is nobody else's.
const PREFIX: &str = ".recovered-";

/// Recovered attachments by the hardware address of their veth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Recovered(BTreeMap<MacAddr, AttachmentKey>);

impl Recovered {
    /// Those that an earlier start entered into the record.
    #[must_use]
    pub(super) fn in_record(record: &Record) -> Self {
        let keys = record.holdings.keys();
        Self(
            keys.filter_map(|key| Some((key.container_id.strip_prefix(PREFIX)?.parse().ok()?, key.clone())))
                .collect(),
        )
    }

    /// Hardware addresses of the host's ends of their veths.
    pub(super) fn host_macs(&self) -> impl Iterator<Item = MacAddr> {
        self.0.keys().copied()
    }

    /// The key under which the record has this attachment.
    #[must_use]
    pub(super) fn resolve(&self, key: AttachmentKey) -> AttachmentKey {
        if self.0.is_empty() {
            return key;
        }
        self.0.get(&names::host_mac(&key.container_id, &key.if_name)).cloned().unwrap_or(key)
    }
}

/// Hardware address of the host's end of the attachment's veth; none if it cannot be told.
#[must_use]
pub(super) fn host_mac_of(key: &AttachmentKey) -> Option<MacAddr> {
    match key.container_id.strip_prefix(PREFIX) {
        Some(mac) => mac.parse().ok(),
        None => Some(names::host_mac(&key.container_id, &key.if_name)),
    }
}

/// The pods whose address the record does not hold.
#[must_use]
pub(super) fn unknown_pods(record: &Record, wired: Vec<WiredPod>) -> Vec<WiredPod> {
    let known = |address: IpAddr| record.holdings.values().any(|holding| holding.address == address);
    wired.into_iter().filter(|pod| !known(pod.address)).collect()
}

/// Enters `pods` into the record. An address that no ENI shows stays with the primary ENI: held is held, and the pool
/// reports the contradiction. All other addresses rest until `rested`, because nobody remembers which were given back just now.
pub(super) fn recover(
    record: &mut Record,
    pods: &[WiredPod],
    enis: &[Eni],
    primary: &EniId,
    (now, rested): (Timestamp, Timestamp),
) {
    for pod in pods {
        let owner = enis.iter().find(|eni| carried(eni).any(|address| address == pod.address));
        let holding = Holding {
            address: pod.address,
            eni: owner.map_or_else(|| primary.clone(), |eni| eni.id.clone()),
            pod: None,
            sandbox: None,
            since: now,
        };
        let key = AttachmentKey {
            network: String::new(),
            container_id: format!("{PREFIX}{}", pod.host_mac),
            if_name: pod.host_if_name.clone(),
        };
        record.holdings.insert(key, holding);
    }
    for address in enis.iter().flat_map(carried) {
        record.cooling.entry(address).or_insert(rested);
    }
    for holding in record.holdings.values() {
        record.cooling.remove(&holding.address);
    }
}

#[cfg(test)]
mod tests;
