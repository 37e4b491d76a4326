//! What the operator wants of `vpcRoute` mode, and what the shell tells about each node. Values are checked where they enter
//! ([`PoolSpec::mistakes`] for what contradicts itself); the controller takes them as they are.

use super::NodeName;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use spur_cloud::{EniId, InstanceId, RouteTableId, VpcId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// Tag of a route table that says which CIDRs a cluster claims in it; the cluster's name follows.
pub const CLAIM_TAG: &str = "spur.dev/routes/";

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name of the cluster, part of the claim.
    pub cluster: String,
    /// The VPC.
    pub vpc: VpcId,
    /// Where blocks come from.
    pub pool: PoolSpec,
    /// Tables beside those that node subnets use.
    pub tables: TableChoice,
    /// How full tables may become.
    pub quota: Quota,
    /// The `eni` pool for nodes that find no place in the tables.
    pub fallback: Option<String>,
    /// The override of the limit on deletes: so many routes of one table may go in one pass, even if the list of nodes is empty.
    pub allow_deletes: Option<u32>,
    /// Share of each action's bucket that the controller may spend, in percent.
    pub budget_percent: u32,
    /// Times.
    pub timings: Timings,
}

/// Where blocks come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSpec {
    /// Addresses of pods, outside the VPC's own.
    pub cidrs: BTreeSet<IpNet>,
    /// Prefix length of IPv4 blocks.
    pub block_v4: u8,
    /// Prefix length of IPv6 blocks.
    pub block_v6: u8,
    /// Who cuts them.
    pub blocks_from: BlocksFrom,
    /// Addresses of services, which never leave a node.
    pub service_cidrs: BTreeSet<IpNet>,
    /// Routes that cover pool addresses with the operator's consent (a summary route to other networks).
    pub accepted_routes: BTreeSet<IpNet>,
}

/// Who decides on a node's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlocksFrom {
    /// The controller, from the pool's CIDRs.
    Pool,
    /// Kubernetes: `node.spec.podCIDRs`.
    NodeSpec,
}

/// Tables that are managed beside those of node subnets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableChoice {
    /// These.
    pub ids: BTreeSet<RouteTableId>,
    /// And those of the VPC that carry all of these tags; none means no table.
    pub tags: BTreeMap<String, String>,
}

/// How full a table may become; IPv4 and IPv6 are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// IPv4 routes that a table holds.
    pub v4: u32,
    /// IPv6 routes that a table holds.
    pub v6: u32,
    /// Share of it, in percent, from which on new nodes are refused.
    pub admission_percent: u32,
}

impl Default for Quota {
    /// What AWS gives without asking; at 85 % there is time left to ask.
    fn default() -> Self {
        Self { v4: 500, v6: 500, admission_percent: 85 }
    }
}

/// Times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timings {
    /// How often tables and ENIs are read.
    pub reconcile: Duration,
    /// How often all tables, subnets and CIDRs of the VPC are read.
    pub discovery: Duration,
    /// How long a read that contradicts a write is taken for an old one.
    pub settle: Duration,
    /// How long a block rests after its last route was gone.
    pub cooldown: Duration,
    /// How long a table stays managed that no node needs any more.
    pub table_grace: Duration,
    /// How long a node that vanished from the list keeps its routes while EC2 shows its machine.
    pub node_grace: Duration,
    /// First wait after a failure.
    pub backoff: Duration,
    /// First wait after a failure that time alone does not cure.
    pub backoff_denied: Duration,
    /// Longest wait after failures.
    pub backoff_cap: Duration,
    /// How soon a write is looked after.
    pub look: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            reconcile: Duration::from_secs(60),
            discovery: Duration::from_secs(600),
            settle: Duration::from_secs(120),
            cooldown: Duration::from_secs(300),
            table_grace: Duration::from_secs(3600),
            node_grace: Duration::from_secs(300),
            backoff: Duration::from_secs(1),
            backoff_denied: Duration::from_secs(60),
            backoff_cap: Duration::from_secs(600),
            look: Duration::from_secs(1),
        }
    }
}

/// A node that pods may run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Its machine.
    pub instance: InstanceId,
    /// Its primary address: its ENI is the one that holds it.
    pub address: Option<IpAddr>,
    /// Its primary ENI, if it is known beforehand.
    pub eni: Option<EniId>,
    /// Blocks of each family that it wants, 1 or 2.
    pub blocks: u8,
    /// Blocks that Kubernetes gave it.
    pub pod_cidrs: BTreeSet<IpNet>,
}

/// The nodes, by name.
pub type Nodes = BTreeMap<NodeName, NodeSpec>;

/// Blocks of one family that a node has at most.
pub const BLOCKS_MAX: u8 = 2;
