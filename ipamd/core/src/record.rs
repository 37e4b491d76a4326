//! What survives a crash: who holds which address, which addresses rest, the ENIs under held addresses, and *intents*, written
//! before the calls they announce. The shell keeps a [`Record`] in its store by applying each [`StoreChange`] and hands it
//! to the next `Pool::new`.
//!
//! Order is part of the contract: transactions become durable in the order in which they were asked for. A holding
//! beats a cooldown and an intent for the same address, because it was written later.

use crate::time::Timestamp;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use spur_cloud::{CardIndex, CreateEni, DeviceIndex, EniId, MacAddr, SubnetId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// An interface of a container in a network: the key of everything a pod holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttachmentKey {
    /// The CNI network; empty if only the kernel told of the pod, which does not know it.
    pub network: String,
    /// The container (sandbox) id.
    pub container_id: String,
    /// The interface in it.
    pub if_name: String,
}

impl fmt::Display for AttachmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.network, self.container_id, self.if_name)
    }
}

/// The pod behind an attachment, for people; nothing is decided on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, if known.
    pub uid: Option<String>,
}

/// An address in the hands of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// The address.
    pub address: IpAddr,
    /// The ENI that it belongs to.
    pub eni: EniId,
    /// The pod.
    pub pod: Option<PodName>,
    /// Path of its network namespace, if it was told: for the shell, which looks whether the pod is still there.
    #[serde(default)]
    pub sandbox: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

/// Where an ENI is plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The network card.
    pub card: CardIndex,
    /// The index on it.
    pub index: DeviceIndex,
    /// Our small number for it, which routing tables and marks are made of: 0 is the primary ENI, others are 1 to 127.
    pub ordinal: u8,
}

/// An ENI as far as the kernel needs it, so that a restart can keep its pods connected even if EC2 does not show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EniRecord {
    /// The ENI.
    pub id: EniId,
    /// Its hardware address.
    pub mac: MacAddr,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its own address.
    pub primary: IpAddr,
    /// Where it is plugged in; none before it is attached.
    pub place: Option<Place>,
}

/// The name of an intent, unique in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IntentId(pub u64);

/// A change to the cloud that was begun; finished or undone after a restart, never forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intent {
    /// Make an ENI and attach it.
    Create {
        /// The call, with its token: repeating it gives the same ENI.
        create: CreateEni,
        /// The ENI, once it is known.
        made: Option<EniRecord>,
        /// Since when.
        since: Timestamp,
    },
    /// Give addresses, or prefixes, back to the subnet.
    Unassign {
        /// Whose.
        eni: EniId,
        /// Which addresses that came one by one.
        addresses: BTreeSet<IpAddr>,
        /// Which prefixes; records from before there were any do not say.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        prefixes: BTreeSet<IpNet>,
    },
    /// Detach an ENI and delete it.
    Remove {
        /// Which.
        eni: EniRecord,
    },
}

/// Everything that must survive.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Record {
    /// Addresses of live pods.
    pub holdings: BTreeMap<AttachmentKey, Holding>,
    /// Addresses that rest, until when.
    pub cooling: BTreeMap<IpAddr, Timestamp>,
    /// ENIs that carry held addresses.
    pub enis: BTreeMap<EniId, EniRecord>,
    /// Changes under way.
    pub intents: BTreeMap<IntentId, Intent>,
}

/// One change of the [`Record`]; idempotent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreChange {
    /// The pod holds the address.
    Hold(AttachmentKey, Holding),
    /// The pod holds nothing any more.
    Release(AttachmentKey),
    /// The address rests.
    Cool(IpAddr, Timestamp),
    /// The address rests no more.
    Uncool(IpAddr),
    /// The ENI is this.
    PutEni(EniRecord),
    /// The ENI is gone.
    DropEni(EniId),
    /// The change begins.
    PutIntent(IntentId, Intent),
    /// The change is done or undone.
    DropIntent(IntentId),
}

impl Record {
    /// Applies one change.
    pub fn apply(&mut self, change: &StoreChange) {
        match change.clone() {
            StoreChange::Hold(key, holding) => drop(self.holdings.insert(key, holding)),
            StoreChange::Release(key) => drop(self.holdings.remove(&key)),
            StoreChange::Cool(address, until) => drop(self.cooling.insert(address, until)),
            StoreChange::Uncool(address) => drop(self.cooling.remove(&address)),
            StoreChange::PutEni(eni) => drop(self.enis.insert(eni.id.clone(), eni)),
            StoreChange::DropEni(id) => drop(self.enis.remove(&id)),
            StoreChange::PutIntent(id, intent) => drop(self.intents.insert(id, intent)),
            StoreChange::DropIntent(id) => drop(self.intents.remove(&id)),
        }
    }
}
