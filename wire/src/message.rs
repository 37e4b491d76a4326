//! The messages. All knowledge about a pod's network that the plugin needs is in [`AddReply`]; the plugin decides nothing.
//! Fields may be added when they are optional; the golden frames of the tests show what both sides of an upgrade must read.
//! Nothing here checks that a value makes sense for the kernel: each side does so with its own types.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Version of the protocol.
pub const VERSION: u32 = 1;

/// What the plugin asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`] of the sender.
    pub version: u32,
    /// The name of the CNI network, which separates two conflists that use the same agent.
    pub network: String,
    /// The verb and its operands.
    pub body: RequestBody,
}

/// The verbs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RequestBody {
    /// A pod needs an address. Answered by [`Response::Add`] or [`Response::Refused`].
    Add(AddRequest),
    /// A pod gives its address back. Answered by [`Response::Del`]; unknown attachments are no error.
    Del(DelRequest),
    /// Does a pod still hold its address? Answered by [`Response::Check`].
    Check(CheckRequest),
    /// Release every attachment of this network that is not listed. Answered by [`Response::Gc`].
    Gc(GcRequest),
    /// Can the agent serve ADD? Answered by [`Response::Status`].
    Status,
}

/// An interface of a container: what CNI keys everything by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub if_name: String,
}

/// The pod, as the runtime names it in `CNI_ARGS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodRef {
    /// `K8S_POD_NAMESPACE`.
    pub namespace: String,
    /// `K8S_POD_NAME`.
    pub name: String,
    /// `K8S_POD_UID`, if the runtime gives it.
    pub uid: Option<String>,
}

/// A pod needs an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddRequest {
    /// For which interface.
    pub attachment: Attachment,
    /// For which pod; absent outside Kubernetes.
    pub pod: Option<PodRef>,
    /// `CNI_NETNS`.
    pub netns: String,
    /// The name that the host end of the veth will have.
    pub host_if_name: String,
}

/// What the plugin wires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddReply {
    /// The pod's addresses, one per family, each as a host address (/32, /128).
    pub addresses: Vec<IpAddr>,
    /// MTU of both ends of the veth.
    pub mtu_bytes: u32,
    /// The routing table of all pod routes.
    pub pods_table: u32,
    /// The node's primary address: preferred source of the host's route to the pod.
    pub node_address: IpAddr,
}

/// A pod gives its address back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DelRequest {
    /// From which interface.
    pub attachment: Attachment,
}

/// What was released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DelReply {
    /// The addresses that now cool down; empty if nothing was held.
    pub addresses: Vec<IpAddr>,
    /// The agent deletes the veths that plugins detached, and all flows of these addresses. One that does not say so leaves that to
    /// the plugin.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reaps_links: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Does a pod still hold its address?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckRequest {
    /// On which interface.
    pub attachment: Attachment,
}

/// What the pod holds, by the agent's books.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckReply {
    /// The addresses; empty if nothing is held.
    pub addresses: Vec<IpAddr>,
    /// What else is wrong on the node for this pod (a missing rule, a flushed table), in words; empty if nothing is.
    pub problems: Vec<String>,
}

/// The attachments that are valid; all others of the same network are stale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GcRequest {
    /// What stays; empty means that everything goes.
    pub valid: Vec<Attachment>,
    /// When the plugin was started, in milliseconds since 1970: a younger grant is never collected.
    pub started_unix_ms: u64,
}

/// What was collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GcReply {
    /// The stale attachments that were released.
    pub released: Vec<Attachment>,
    /// What could not be released and why; the sweep went on.
    pub problems: Vec<String>,
}

/// Whether the agent can serve ADD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusReply {
    /// True when the node is prepared.
    pub ready: bool,
    /// Why not, in words.
    pub reason: Option<String>,
    /// Pods that run may be cut off too (CNI code 51, otherwise 50).
    #[serde(default, skip_serializing_if = "is_false")]
    pub limited: bool,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// The kind that the plugin turns into a CNI error code.
    pub kind: RefusalKind,
    /// Which limit, which subnet, which call, until when.
    pub reason: String,
}

/// Kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RefusalKind {
    /// No address came in time; the same ADD may succeed later (CNI code 11).
    TryAgain,
    /// The agent has not prepared the node yet (CNI code 11).
    NotReady,
    /// The attachment already holds an address (CNI code 100).
    AlreadyAttached,
    /// The request makes no sense (CNI code 7).
    Invalid,
    /// The protocol version or the verb is not spoken here: one of the two is yet to be upgraded (CNI code 11).
    Version,
    /// The agent failed: its store, its kernel (CNI code 999).
    Internal,
}

impl RefusalKind {
    /// The code that the plugin answers its runtime.
    #[must_use]
    pub const fn cni_code(self) -> u16 {
        match self {
            Self::TryAgain | Self::NotReady => 11,
            Self::AlreadyAttached => 100,
            Self::Invalid => 7,
            Self::Version => 101,
            Self::Internal => 999,
        }
    }
}

/// What the agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Response {
    /// To [`RequestBody::Add`].
    Add(AddReply),
    /// To [`RequestBody::Del`].
    Del(DelReply),
    /// To [`RequestBody::Check`].
    Check(CheckReply),
    /// To [`RequestBody::Gc`].
    Gc(GcReply),
    /// To [`RequestBody::Status`].
    Status(StatusReply),
    /// To any.
    Refused(Refusal),
}

#[cfg(test)]
mod tests;
