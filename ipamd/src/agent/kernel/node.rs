//! The real kernel, in the network namespace that the agent runs in. Sockets stay open between runs and are opened anew after an
//! error, because a socket that lost its place in a conversation answers the wrong question.

use super::{Converged, Kernel, KernelError, WiredPod};
use crate::chain::chain;
use ipnet::Ipv4Net;
use spur_datapath::MacAddr;
use spur_datapath::conntrack::{Conntrack, Translated};
use spur_datapath::layout;
use spur_datapath::netlink::{Link, LinkEvent, LinkWatcher, Netlink};
use spur_datapath::nft::Nft;
use spur_datapath::node::{Failure, NodeKernel as Sockets, NodePlan, NodeWanted};
use spur_datapath::pod::{self, PodLink};
use std::collections::BTreeSet;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The kernel of this network namespace.
#[derive(Debug, Default)]
pub struct NodeKernel {
    sockets: Mutex<Option<Sockets>>,
}

/// Changes that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(|failure| chain(failure).to_string()).collect::<Vec<_>>().join("; "))]
struct Failures(Vec<Failure>);

fn failed<E: Error + Send + Sync + 'static>(doing: &'static str) -> impl FnOnce(E) -> KernelError {
    move |cause| KernelError { doing, cause: Box::new(cause) }
}

impl NodeKernel {
    /// Makes no system call yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Kernel for NodeKernel {
    fn converge(&self, wanted: &NodeWanted) -> Result<Converged, KernelError> {
        // Held while we talk to the kernel, by the one task that does so.
        let mut kept = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sockets = match kept.take() {
            Some(sockets) => sockets,
            None => Sockets::open().map_err(failed("open sockets to the kernel"))?,
        };
        let observed = sockets.observe().map_err(failed("read the node's kernel"))?;
        let plan = NodePlan::new(&observed, wanted);
        let failures = sockets.apply(&plan);
        if !failures.is_empty() {
            return Err(failed("prepare the node's kernel")(Failures(failures)));
        }
        *kept = Some(sockets);
        let wanted_macs = wanted.secondaries.iter().map(|eni| eni.mac).chain([wanted.primary.mac]);
        let primary = observed.links.iter().find(|link| is_eni(link) && link.mac == Some(wanted.primary.mac));
        Ok(Converged {
            ready: wanted_macs.filter(|mac| !plan.missing.contains(mac)).collect(),
            changes: plan.changes.iter().map(ToString::to_string).collect(),
            primary_mtu_bytes: primary.map_or(0, |link| link.mtu_bytes),
        })
    }

    fn has_lost(&self, kept: &NodeWanted, wanted: &NodeWanted) -> Result<bool, KernelError> {
        let mut sockets = Sockets::open().map_err(failed("open sockets to the kernel"))?;
        let observed = sockets.observe().map_err(failed("read the node's kernel"))?;
        Ok(NodePlan::new(&observed, wanted).shares_a_loss_with(&NodePlan::new(&observed, kept)))
    }

    fn wired_pods(&self) -> Result<Vec<WiredPod>, KernelError> {
        let mut netlink = Netlink::open().map_err(failed("open a socket to the kernel"))?;
        let links = netlink.links().map_err(failed("list links"))?;
        let routes = netlink.routes(Some(layout::PODS_TABLE)).map_err(failed("list the routes of pods"))?;
        let pods = routes.iter().filter_map(|route| {
            let link = links.iter().find(|link| Some(link.index) == route.link)?;
            let ours = route.protocol == layout::PROTOCOL
                && link.name.as_str().starts_with(layout::HOST_VETH_PREFIX)
                && route.destination.prefix_len() == route.destination.max_prefix_len();
            ours.then(|| WiredPod {
                address: route.destination.addr(),
                host_mac: link.mac.unwrap_or(MacAddr::new([0; 6])),
                host_if_name: link.name.to_string(),
            })
        });
        Ok(pods.collect())
    }

    fn host_veths(&self) -> Result<BTreeSet<MacAddr>, KernelError> {
        let mut netlink = Netlink::open().map_err(failed("open a socket to the kernel"))?;
        let links = netlink.links().map_err(failed("list links"))?;
        Ok(links.iter().filter(|link| !is_eni(link)).filter_map(|link| link.mac).collect())
    }

    fn pod_links(&self) -> Result<Vec<PodLink>, KernelError> {
        let mut netlink = Netlink::open().map_err(failed("open a socket to the kernel"))?;
        pod::links(&mut netlink).map_err(failed("list pods' veths"))
    }

    fn detach_links(&self, links: &[PodLink]) -> Result<(), KernelError> {
        let mut netlink = Netlink::open().map_err(failed("open a socket to the kernel"))?;
        pod::mark(&mut netlink, links).map_err(failed("detach veths"))
    }

    fn reap_links(&self) -> Result<usize, KernelError> {
        let mut netlink = Netlink::open().map_err(failed("open a socket to the kernel"))?;
        pod::reap(&mut netlink).map_err(failed("delete veths"))
    }

    fn forget_flows(&self, addresses: &[IpAddr]) -> Result<(), KernelError> {
        let mut conntrack = Conntrack::open().map_err(failed("open a socket to connection tracking"))?;
        conntrack.delete_addresses(addresses).map_err(failed("delete flows"))
    }

    fn masqueraders(&self, pods: &[Ipv4Net]) -> Result<Vec<String>, KernelError> {
        let mut nft = Nft::open().map_err(failed("open a socket to nf_tables"))?;
        let found = nft.masqueraders(layout::NFT_TABLE, pods).map_err(failed("read the rules of others"))?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    fn busy_flows(&self, addresses: &BTreeSet<IpAddr>) -> Result<BTreeSet<IpAddr>, KernelError> {
        let mut conntrack = Conntrack::open().map_err(failed("open a socket to connection tracking"))?;
        conntrack.busy(addresses).map_err(failed("list flows"))
    }

    fn translated(
        &self,
        pods: &[Ipv4Net],
        address: Ipv4Addr,
        most: usize,
    ) -> Result<Translated, KernelError> {
        let mut conntrack = Conntrack::open().map_err(failed("open a socket to connection tracking"))?;
        conntrack.translated(pods, address, most).map_err(failed("count translated flows"))
    }

    fn watch_links(&self, changed: impl Fn() -> bool + Send + 'static) -> Result<(), KernelError> {
        let mut watcher = LinkWatcher::open().map_err(failed("watch links"))?;
        // A thread of its own: it blocks until the process ends.
        let watch = move || {
            loop {
                match watcher.next_events() {
                    Ok(events) => {
                        if events.iter().any(concerns_enis) && !changed() {
                            return;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(error = %chain(&error), "watch links");
                        std::thread::sleep(Duration::from_secs(1));
                    }
                }
            }
        };
        let started = std::thread::Builder::new().name("links".to_owned()).spawn(watch);
        started.map(drop).map_err(failed("start a thread that watches links"))
    }
}

/// Pods come and go too often to look at everything each time.
fn concerns_enis(event: &LinkEvent) -> bool {
    match event {
        LinkEvent::Present(link) | LinkEvent::Gone(link) => is_eni(link),
        LinkEvent::Missed => true,
    }
}

/// The simulated VPC plugs in veths too, so the kind alone does not tell; the name of a pod's does.
fn is_eni(link: &Link) -> bool {
    link.kind.as_deref() != Some("veth") || !link.name.as_str().starts_with(layout::HOST_VETH_PREFIX)
}
