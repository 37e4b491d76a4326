//! The pool as a picture: what the status page, the metrics and the tests look at. A copy; changing it changes nothing.

use crate::action::CallId;
use crate::finding::Finding;
use crate::record::{AttachmentKey, Place, PodName};
use crate::settings::Targets;
use crate::time::Timestamp;
use crate::wait::Wait;
use ipnet::IpNet;
use serde::Serialize;
use spur_cloud::{EniId, SubnetId};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The whole pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PoolView {
    /// Whether the ENIs were read from EC2.
    pub observed: bool,
    /// What is aimed at.
    pub targets: Targets,
    /// Counts over all ENIs.
    pub counts: Counts,
    /// ENIs the node may have at most, as far as is known now.
    pub max_enis: u32,
    /// Each ENI.
    pub enis: Vec<EniView>,
    /// Pods that wait, first come first.
    pub waiting: Vec<WaitingView>,
    /// Calls under way, by EC2's action.
    pub calls: Vec<(CallId, String)>,
    /// What hinders growth or release now.
    pub blocked: Vec<Wait>,
    /// Contradictions that stand.
    pub findings: Vec<Finding>,
    /// How often each kind of contradiction was found since the start, by [`Finding::kind`].
    pub found: BTreeMap<&'static str, u64>,
}

/// Addresses by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Can be handed out now.
    pub free: u32,
    /// On their way: asked for, or not yet in the kernel.
    pub coming: u32,
    /// Held by pods.
    pub held: u32,
    /// Resting.
    pub cooling: u32,
    /// On their way back to the subnet.
    pub leaving: u32,
    /// Prefixes of which all addresses are free.
    pub free_prefixes: u32,
    /// Prefixes of which some addresses are in use or rest: how scattered pods are over prefixes.
    pub used_prefixes: u32,
}

/// One ENI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EniView {
    /// Its id.
    pub id: EniId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Where it is plugged in.
    pub place: Option<Place>,
    /// Where it is in its life: `foreign`, `unattached`, `attaching`, `ready`, `lost`, `leaving`.
    pub phase: &'static str,
    /// Addresses for pods that it may have.
    pub capacity: u32,
    /// Delegated prefixes on it.
    pub prefixes: Vec<PrefixView>,
    /// Its addresses, the primary one left out, those of prefixes included.
    pub addresses: Vec<AddressView>,
}

/// One delegated prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrefixView {
    /// The prefix.
    pub prefix: IpNet,
    /// Free addresses in it.
    pub free: u32,
    /// Addresses of pods in it.
    pub held: u32,
    /// Resting addresses in it.
    pub cooling: u32,
}

/// One address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AddressView {
    /// The address.
    pub address: IpAddr,
    /// What becomes of it: `free`, `preparing`, `granting`, `held`, `releasing`, `cooling`, `leaving`.
    pub state: &'static str,
    /// Who holds it.
    pub attachment: Option<AttachmentKey>,
    /// The pod.
    pub pod: Option<PodName>,
    /// Path of the pod's network namespace.
    pub sandbox: Option<String>,
    /// Since when it is held.
    pub since: Option<Timestamp>,
    /// Until when it rests.
    pub until: Option<Timestamp>,
}

/// A pod that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WaitingView {
    /// Who.
    pub attachment: AttachmentKey,
    /// The pod.
    pub pod: Option<PodName>,
    /// Since when.
    pub since: Timestamp,
    /// For what, weightiest first.
    pub waits: Vec<Wait>,
}
