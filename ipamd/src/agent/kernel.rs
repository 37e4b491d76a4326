//! The kernel as the agent needs it: make the node so, which pods are wired, forget the flows of an address, tell when links come
//! and go. Two implementations: [`NodeKernel`] does it with `spur-datapath`, the tests have one in memory. All methods block and
//! are called on threads that may block; none of them decides anything.

use ipnet::Ipv4Net;
use spur_datapath::MacAddr;
use spur_datapath::conntrack::Translated;
use spur_datapath::node::NodeWanted;
use spur_datapath::pod::PodLink;
use std::collections::BTreeSet;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};

mod node;

pub use node::NodeKernel;

/// Something in the kernel failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct KernelError {
    /// What we were doing.
    pub doing: &'static str,
    /// Why it failed.
    #[source]
    pub cause: Box<dyn Error + Send + Sync>,
}

/// What became of an attempt to make the kernel so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Converged {
    /// ENIs whose link is there and wholly prepared.
    pub ready: BTreeSet<MacAddr>,
    /// What was changed, and why, one line each; empty when everything was as it should be.
    pub changes: Vec<String>,
    /// MTU of the primary ENI's link.
    pub primary_mtu_bytes: u32,
}

/// A pod that is wired, as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WiredPod {
    /// Its address.
    pub address: IpAddr,
    /// Hardware address of the host's end of its veth, which tells the container (`names::host_mac`).
    pub host_mac: MacAddr,
    /// Name of that end.
    pub host_if_name: String,
}

/// The kernel of the node.
pub trait Kernel: Send + Sync + 'static {
    /// Compares the kernel with `wanted` and changes what differs. Idempotent.
    ///
    /// # Errors
    /// When the kernel refuses; what was changed before stays, and the next attempt goes on from there.
    fn converge(&self, wanted: &NodeWanted) -> Result<Converged, KernelError>;

    /// Whether the kernel lacks something that `wanted` needs and `kept` needed as well, so that the pods which run may suffer. Changes nothing.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    fn has_lost(&self, kept: &NodeWanted, wanted: &NodeWanted) -> Result<bool, KernelError>;

    /// The pods that are wired now.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    fn wired_pods(&self) -> Result<Vec<WiredPod>, KernelError>;

    /// Hardware addresses of the host's ends of all pods' veths, routed or not.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    fn host_veths(&self) -> Result<BTreeSet<MacAddr>, KernelError>;

    /// The host's ends of pods' veths that Spur wired and nobody detached.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    fn pod_links(&self) -> Result<Vec<PodLink>, KernelError>;

    /// Takes away what leads to these, and marks them for [`Kernel::reap_links`].
    ///
    /// # Errors
    /// When the kernel refuses one; the others were tried all the same.
    fn detach_links(&self, links: &[PodLink]) -> Result<(), KernelError>;

    /// Deletes every veth that is marked; tells how many.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn reap_links(&self) -> Result<usize, KernelError>;

    /// Deletes what connection tracking knows of these addresses.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn forget_flows(&self, addresses: &[IpAddr]) -> Result<(), KernelError>;

    /// Rules of others that translate traffic from `pods`, one line each.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    fn masqueraders(&self, pods: &[Ipv4Net]) -> Result<Vec<String>, KernelError>;

    /// Those of the addresses to or from which connections are tracked.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn busy_flows(&self, addresses: &BTreeSet<IpAddr>) -> Result<BTreeSet<IpAddr>, KernelError>;

    /// Flows from `pods` that are translated to `address`, with at most `most` destinations.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn translated(&self, pods: &[Ipv4Net], address: Ipv4Addr, most: usize)
    -> Result<Translated, KernelError>;

    /// Calls `changed` whenever a link came, went or changed, until it answers `false`. Returns at once.
    ///
    /// # Errors
    /// When links cannot be watched.
    fn watch_links(&self, changed: impl Fn() -> bool + Send + 'static) -> Result<(), KernelError>;
}
