//! Prepares a node: what the agent wants of the kernel beyond single pods, as data; what is there; the difference as an
//! ordered list of changes, each with its reason; and the application of such a list.
//!
//! Ours are: rules, routes and addresses that carry our protocol number, and the nft table. Everything else is left alone: a
//! foreign rule or route is never removed, an address that somebody else put on a link is accepted as it is. Applying a plan and planning again
//! gives an empty plan. A link that has not appeared yet is a reported absence, not an error: its ENI is prepared
//! when it comes.
//!
//! The table and the routes of single pods are not planned here: the plugin writes those routes.

mod guard;
mod plan;
mod table;
mod wanted;

pub use plan::{Action, Change, NodePlan};
pub use wanted::{Nat6Wanted, NatWanted, NodeWanted, PortRange, PortRangeError, PrimaryEni, SecondaryEni};

use crate::layout;
use crate::netlink::{AddressSpec, Link, LinkChange, Netlink, NetlinkError, RouteSpec, RuleSpec};
use crate::netns::{NetNs, NsError};
use crate::nft::{Family, Nft, Shape};
use crate::sysctl::{self, SysctlError, SysctlKey};
use std::collections::BTreeMap;

/// What a node's kernel has of what a plan looks at.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NodeObserved {
    /// All links.
    pub links: Vec<Link>,
    /// All addresses.
    pub addresses: Vec<AddressSpec>,
    /// Routes in the tables of ENIs.
    pub routes: Vec<RouteSpec>,
    /// Policy rules of ours.
    pub rules: Vec<RuleSpec>,
    /// Forwarding, and the reverse-path filters, of links that are not pods'.
    pub sysctls: BTreeMap<SysctlKey, Option<String>>,
    /// The nft tables of ours that are there.
    pub tables: BTreeMap<Family, Shape>,
}

/// The kernel could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A socket could not be opened, in this namespace or another.
    #[error("open the node's network namespace")]
    Open(#[source] NsError),
    /// Route netlink or nf_tables.
    #[error("talk to the node's kernel")]
    Netlink(#[source] NetlinkError),
    /// A sysctl.
    #[error("adjust the node's kernel")]
    Sysctl(#[source] SysctlError),
}

/// A change that could not be made; the others of its plan were tried all the same.
#[derive(Debug, thiserror::Error)]
#[error("{change}")]
pub struct Failure {
    /// What was to be changed.
    pub change: Change,
    /// Why it could not be.
    #[source]
    pub cause: NodeError,
}

/// A node's kernel: sockets that stay open. Blocking.
#[derive(Debug)]
pub struct NodeKernel {
    ns: NetNs,
    netlink: Netlink,
    nft: Nft,
}

impl NodeKernel {
    /// The calling thread's namespace.
    ///
    /// # Errors
    /// When the kernel gives no sockets.
    pub fn open() -> Result<Self, NodeError> {
        Self::open_in(NetNs::current().map_err(NodeError::Open)?)
    }

    /// Another namespace.
    ///
    /// # Errors
    /// As [`NodeKernel::open`].
    pub fn open_in(ns: NetNs) -> Result<Self, NodeError> {
        let netlink = Netlink::open_in(&ns).map_err(NodeError::Netlink)?;
        let nft = Nft::open_in(&ns).map_err(NodeError::Netlink)?;
        Ok(Self { ns, netlink, nft })
    }

    /// Reads what a plan looks at. Changes nothing.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn observe(&mut self) -> Result<NodeObserved, NodeError> {
        let links = self.netlink.links().map_err(NodeError::Netlink)?;
        let mut routes = self.netlink.routes(None).map_err(NodeError::Netlink)?;
        routes.retain(|route| layout::is_our_table(route.table) && route.table != layout::PODS_TABLE);
        let mut rules = self.netlink.rules().map_err(NodeError::Netlink)?;
        rules.retain(|rule| rule.protocol == layout::PROTOCOL);
        let mut keys = vec![plan::ip_forward(), plan::default_forwarding()];
        for link in links.iter().filter(|link| !plan::is_pod_veth(link)) {
            keys.extend([plan::rp_filter(&link.name), plan::forwarding(&link.name)]);
        }
        let values = sysctl::read(&self.ns, &keys).map_err(NodeError::Sysctl)?;
        let mut tables = BTreeMap::new();
        for family in [Family::Ip, Family::Ip6] {
            let shape = self.nft.observe(family, layout::NFT_TABLE).map_err(NodeError::Netlink)?;
            tables.extend(shape.map(|shape| (family, shape)));
        }
        Ok(NodeObserved {
            links,
            addresses: self.netlink.addresses().map_err(NodeError::Netlink)?,
            routes,
            rules,
            sysctls: keys.into_iter().zip(values).collect(),
            tables,
        })
    }

    /// Makes the changes in order. One that fails does not keep the later ones from being tried; those that build on it fail
    /// by themselves, and the next plan has them again.
    pub fn apply(&mut self, plan: &NodePlan) -> Vec<Failure> {
        let mut failures = Vec::new();
        for change in &plan.changes {
            if let Err(cause) = self.apply_one(&change.action) {
                failures.push(Failure { change: change.clone(), cause });
            }
        }
        failures
    }

    fn apply_one(&mut self, action: &Action) -> Result<(), NodeError> {
        let done = match action {
            Action::SetSysctl { key, value } => {
                return sysctl::write(&self.ns, &[(key.clone(), value.clone())]).map_err(NodeError::Sysctl);
            }
            Action::SetLink { link, mtu_bytes, .. } => {
                let change = LinkChange { up: Some(true), mtu_bytes: *mtu_bytes, ..LinkChange::default() };
                self.netlink.set_link(*link, &change)
            }
            Action::AddAddress(address) => self.netlink.ensure_address(address).map(drop),
            Action::RemoveAddress(address) => self.netlink.remove_address(address).map(drop),
            Action::SetRoute(route) => self.netlink.replace_route(route),
            Action::RemoveRoute(route) => self.netlink.remove_route(route).map(drop),
            Action::AddRule(rule) => self.netlink.ensure_rule(rule).map(drop),
            Action::RemoveRule(rule) => self.netlink.remove_rule(rule).map(drop),
            Action::UpdateTable { table, diff } => self.nft.update(table, diff),
            Action::DeleteTable(family) => self.nft.delete_table(*family, layout::NFT_TABLE),
        };
        done.map_err(NodeError::Netlink)
    }
}

#[cfg(test)]
mod tests;
