//! Route tables as EC2 reports them. An association or a route that is on its way out is not shown: what is here is in
//! force, or was until its target went.

use crate::{EniId, RouteTableId, SubnetId, VpcId};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A route table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// Its id.
    pub id: RouteTableId,
    /// Its VPC.
    pub vpc: VpcId,
    /// What routes by it.
    pub associations: BTreeSet<Association>,
    /// Its routes; destinations are unique.
    pub routes: Vec<Route>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

impl RouteTable {
    /// Whether subnets without a table of their own route by it. EC2 does not name those subnets.
    #[must_use]
    pub fn is_main(&self) -> bool {
        self.associations.contains(&Association::Main)
    }

    /// Whether it routes what enters the VPC at a gateway (an edge table), and not what subnets send.
    #[must_use]
    pub fn is_edge(&self) -> bool {
        self.associations.iter().any(|association| matches!(association, Association::Gateway(_)))
    }

    /// The route to exactly this destination.
    #[must_use]
    pub fn route(&self, destination: IpNet) -> Option<&Route> {
        self.routes.iter().find(|route| route.destination == Destination::Cidr(destination))
    }
}

/// What routes by a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Association {
    /// Every subnet of the VPC that has no table of its own.
    Main,
    /// This subnet.
    Subnet(SubnetId),
    /// A gateway, for what enters the VPC there.
    Gateway(String),
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    /// Where packets are going that it matches.
    pub destination: Destination,
    /// Where it sends them.
    pub target: RouteTarget,
    /// How it came into the table.
    pub origin: RouteOrigin,
    /// Whether it works.
    pub state: RouteState,
}

/// What a route matches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Destination {
    /// Addresses of this network.
    Cidr(IpNet),
    /// Addresses of a prefix list, `pl-…`; which ones they are is another question to EC2.
    PrefixList(String),
}

impl Destination {
    /// The network, if it is one.
    #[must_use]
    pub const fn cidr(&self) -> Option<IpNet> {
        match self {
            Self::Cidr(net) => Some(*net),
            Self::PrefixList(_) => None,
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cidr(net) => net.fmt(f),
            Self::PrefixList(id) => f.write_str(id),
        }
    }
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RouteTarget {
    /// Into the VPC.
    Local,
    /// To an ENI. A route that was made to an instance leads to an ENI, too, once EC2 has looked it up.
    Eni(EniId),
    /// Anything else (internet, NAT or transit gateway, peering, …), by EC2's id.
    Other(String),
}

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Eni(id) => id.fmt(f),
            Self::Other(id) => f.write_str(id),
        }
    }
}

/// How a route came into its table, in EC2's words. Only [`RouteOrigin::CreateRoute`] can be ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RouteOrigin {
    /// With the table.
    CreateRouteTable,
    /// By a call: ours or an operator's.
    CreateRoute,
    /// Propagated by a virtual private gateway.
    EnableVgwRoutePropagation,
    /// Advertised by a route server.
    Advertisement,
    /// A way that EC2 invented later; the name is EC2's.
    Other(String),
}

/// Whether a route works, in EC2's words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RouteState {
    /// It does.
    Active,
    /// Its target is gone or not attached: what it matches is dropped.
    Blackhole,
    /// Another state; the name is EC2's.
    Other(String),
}
