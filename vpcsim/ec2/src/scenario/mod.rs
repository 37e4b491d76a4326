//! The scenario: one YAML file that describes VPC, subnets, nodes, types and delays. A [`Scenario`] can only be had from
//! [`Scenario::parse`], which checks everything against everything and reports *all* mistakes at once, each with the
//! path of the key and what would be right. Unknown keys are mistakes. Whoever holds a `Scenario` holds a possible world.

mod check;
mod faults;
mod read;
mod routes;
#[cfg(test)]
mod tests;

use crate::fault::Fault;
pub(crate) use faults::{Known, parse as parse_faults};
use ipnet::Ipv4Net;
use read::Reader;
pub(crate) use routes::parse_placements;
pub use routes::{RouteOrigin, RouteSpec, RouteTableSpec};
use serde::Serialize;
use spur_quotas::InstanceLimits;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

/// One thing that is wrong with a scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct Mistake {
    /// Path of the key, or `(file)` for the file as a whole.
    pub path: String,
    /// What is there and what would be right.
    pub problem: String,
}

/// A possible world.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Scenario {
    /// Its name; namespaces on the machine carry it.
    pub name: String,
    /// The region.
    pub region: String,
    /// The account that owns everything.
    pub account: String,
    /// Source of all chance.
    pub seed: u64,
    /// CIDRs of the VPC, primary first.
    pub vpc_cidrs: Vec<Ipv4Net>,
    /// Security groups.
    pub security_groups: Vec<SecurityGroupSpec>,
    /// Subnets.
    pub subnets: Vec<SubnetSpec>,
    /// Route tables; without a main one among them, there is one all the same.
    pub route_tables: Vec<RouteTableSpec>,
    /// Nodes.
    pub nodes: Vec<NodeSpec>,
    /// How much of what there may be.
    pub quotas: Quotas,
    /// How long things take.
    pub delays: Delays,
    /// A host on the internet side.
    pub internet: Ipv4Addr,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

/// A security group.
#[derive(Debug, Clone, Serialize)]
pub struct SecurityGroupSpec {
    /// Its name.
    pub name: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A subnet.
#[derive(Debug, Clone, Serialize)]
pub struct SubnetSpec {
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// Its CIDR.
    pub cidr: Ipv4Net,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A node.
#[derive(Debug, Clone, Serialize)]
pub struct NodeSpec {
    /// Its name.
    pub name: String,
    /// Its instance type.
    pub instance_type: String,
    /// What that type may have.
    pub limits: InstanceLimits,
    /// Name of the subnet of its primary ENI.
    pub subnet: String,
    /// Names of the security groups of its primary ENI.
    pub security_groups: Vec<String>,
    /// Actions that its role may not call.
    pub denied: BTreeSet<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// How much of what there may be, where EC2 lets an account choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Quotas {
    /// Routes of a table, IPv4 and IPv6 apart, without those that were propagated or advertised.
    pub routes_per_table: usize,
}

/// How long things take that EC2 does in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Delays {
    /// From AttachNetworkInterface until the netdev is there.
    pub attach: Duration,
    /// From DetachNetworkInterface until the netdev is gone.
    pub detach: Duration,
    /// From AssociateVpcCidrBlock or DisassociateVpcCidrBlock until the local routes follow.
    pub cidr: Duration,
    /// For how long reads of a route table flip-flop after a write.
    pub route_settle: Duration,
}

/// Most nodes of a scenario; more would be a typing error on one machine.
const MAX_NODES: usize = 2_000;

impl Scenario {
    /// The scenario that `text` describes.
    ///
    /// # Errors
    /// All mistakes that there are, in the order of the file's sections; never an empty list.
    pub fn parse(text: &str) -> Result<Self, Vec<Mistake>> {
        let document = serde_saphyr::from_str(text).map_err(|error| {
            let problem = format!("cannot be read as YAML: {error}");
            vec![Mistake { path: "(file)".to_owned(), problem }]
        })?;
        let mut reader = Reader::default();
        let scenario = read::scenario(&mut reader, &document);
        if let Some(scenario) = &scenario {
            check::check(&mut reader, scenario);
        }
        match scenario {
            Some(scenario) if reader.mistakes.is_empty() => Ok(scenario),
            _ => Err(reader.mistakes),
        }
    }
}
