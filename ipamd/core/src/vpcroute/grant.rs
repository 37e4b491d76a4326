//! What the controller tells the nodes, and the only thing it tells them: one JSON file per node ([`NodeGrant`]) and one for all
//! ([`ClusterFacts`]). The controller writes them whole or not at all; an agent in `vpcRoute` mode reads its own and the
//! common one, and nothing else of the controller.
//!
//! ```text
//! <grantDir>/cluster.json       ClusterFacts
//! <grantDir>/nodes/<node>.json  NodeGrant
//! ```
//! A file that is absent says nothing: the node is not ready. A file that stays says what was last known, which is what a node goes on
//! with while the controller is away. A node that left the cluster has no file any more.
//!
//! # Version rule
//! Readers ignore fields that they do not know. A change that an older reader would misread raises [`GRANT_VERSION`], and
//! [`NodeGrant::parse`] refuses what is newer than it.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use spur_cloud::{EniId, InstanceId, RouteTableId, SubnetId, VpcId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// Version of both files.
pub const GRANT_VERSION: u32 = 1;

/// Name of the common file in the grant directory.
pub const CLUSTER_FILE: &str = "cluster.json";

/// The name of a node: what Kubernetes accepts as one, up to 240 characters, so that it can be a file name with an ending, too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

/// The text names no node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no node name: expected 1 to 240 lower-case letters, digits, '-' or '.', the first and last a letter or digit"
)]
pub struct NodeNameError(String);

impl NodeName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the node's grant is, relative to the grant directory.
    #[must_use]
    pub fn grant_file(&self) -> String {
        format!("nodes/{}.json", self.0)
    }
}

impl TryFrom<String> for NodeName {
    type Error = NodeNameError;

    fn try_from(text: String) -> Result<Self, NodeNameError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let fits = (1..=240).contains(&bytes.len())
            && bytes.iter().all(|byte| plain(*byte) || matches!(byte, b'-' | b'.'))
            && bytes.first().is_some_and(|byte| plain(*byte))
            && bytes.last().is_some_and(|byte| plain(*byte));
        if fits { Ok(Self(text)) } else { Err(NodeNameError(text.chars().take(64).collect())) }
    }
}

impl std::str::FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(text: &str) -> Result<Self, NodeNameError> {
        Self::try_from(text.to_owned())
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What one node has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeGrant {
    /// [`GRANT_VERSION`] of the writer.
    pub version: u32,
    /// For which node.
    pub node: NodeName,
    /// The machine that the grant was made for. An agent on another one must not use it: the name went to a new machine, and
    /// the controller has not seen that yet.
    pub instance: InstanceId,
    /// Where the node's pods get their addresses from.
    pub placement: Placement,
    /// Whether the node may serve ADD: it has a block, the route to each of its blocks is active in every managed table, and EC2
    /// does not check source and destination on the target.
    pub ready: bool,
    /// What stands between the node and `ready`, weightiest first; empty if it is.
    pub waits: Vec<String>,
    /// The VPC; none before it was read for the first time.
    pub vpc: Option<VpcFacts>,
    /// Subnets whose hosts have a way back to this node's pods: their route table is managed and holds the node's routes.
    pub covered_subnets: BTreeMap<SubnetId, IpNet>,
}

/// Where a node's pods get their addresses from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Placement {
    /// From blocks that the VPC routes to the node.
    VpcRoute {
        /// The blocks, at most two of each family.
        blocks: BTreeSet<IpNet>,
        /// The target of their routes: the ENI with the node's primary address. None before it was found.
        eni: Option<EniId>,
        /// Whether EC2 has stopped to check source and destination on it.
        source_dest_check_off: bool,
        /// How far the routes are, by managed table.
        tables: BTreeMap<RouteTableId, TableReadiness>,
    },
    /// From an `eni` pool, because the route tables are too full for another node.
    EniPool {
        /// Its name.
        pool: String,
    },
    /// From nowhere: the node has no block (`waits` says why).
    None,
}

/// How far a node's routes are in one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum TableReadiness {
    /// All there, seen active after the last change.
    Active,
    /// Not all there, or not seen yet.
    Pending {
        /// What it waits for.
        reason: String,
    },
}

/// The VPC as nodes need it for translation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpcFacts {
    /// Its id.
    pub id: VpcId,
    /// Every associated CIDR, the primary one first (the resolver is at its base + 2).
    pub cidrs: Vec<IpNet>,
}

/// What all nodes share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterFacts {
    /// [`GRANT_VERSION`] of the writer.
    pub version: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// CIDRs of the pool: destinations in them are pods.
    pub pool_cidrs: BTreeSet<IpNet>,
    /// Addresses of the nodes themselves, by node.
    pub node_addresses: BTreeMap<NodeName, BTreeSet<IpAddr>>,
}

/// A file of the controller cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadFile {
    /// It is no such JSON.
    #[error("the file makes no sense")]
    Json(#[source] serde_json::Error),
    /// The controller is newer than this reader.
    #[error("the file is of version {0}, and this agent reads up to {GRANT_VERSION}")]
    Version(u32),
}

/// Read before the rest, because a newer version may look different.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, BadFile> {
    let Versioned { version } = serde_json::from_str(text).map_err(BadFile::Json)?;
    if version > GRANT_VERSION {
        return Err(BadFile::Version(version));
    }
    serde_json::from_str(text).map_err(BadFile::Json)
}

/// JSON for people and machines, with a line break at its end.
fn text<T: Serialize>(value: &T) -> String {
    let json = serde_json::to_string_pretty(value).expect("maps have text keys and nothing else can fail");
    format!("{json}\n")
}

impl NodeGrant {
    /// Reads the text of a node's file.
    ///
    /// # Errors
    /// When it makes no sense, or is newer than this code.
    pub fn parse(text: &str) -> Result<Self, BadFile> {
        parse(text)
    }

    /// The text of the file; equal grants have equal texts.
    #[must_use]
    pub fn text(&self) -> String {
        text(self)
    }
}

impl ClusterFacts {
    /// Reads the text of the common file.
    ///
    /// # Errors
    /// When it makes no sense, or is newer than this code.
    pub fn parse(text: &str) -> Result<Self, BadFile> {
        parse(text)
    }

    /// The text of the file; equal facts have equal texts.
    #[must_use]
    pub fn text(&self) -> String {
        text(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> NodeGrant {
        NodeGrant {
            version: GRANT_VERSION,
            node: "worker-1".parse().unwrap(),
            instance: "i-1".parse().unwrap(),
            placement: Placement::VpcRoute {
                blocks: BTreeSet::from(["10.200.0.0/25".parse().unwrap()]),
                eni: Some("eni-1".parse().unwrap()),
                source_dest_check_off: true,
                tables: BTreeMap::from([
                    ("rtb-1".parse().unwrap(), TableReadiness::Active),
                    ("rtb-2".parse().unwrap(), TableReadiness::Pending { reason: "no route yet".to_owned() }),
                ]),
            },
            ready: false,
            waits: vec!["10.200.0.0/25 in rtb-2: no route yet".to_owned()],
            vpc: Some(VpcFacts { id: "vpc-1".parse().unwrap(), cidrs: vec!["10.0.0.0/16".parse().unwrap()] }),
            covered_subnets: BTreeMap::from([("subnet-1".parse().unwrap(), "10.0.1.0/24".parse().unwrap())]),
        }
    }

    #[test]
    fn a_grant_round_trips_and_keeps_its_names() {
        let text = grant().text();
        assert_eq!(NodeGrant::parse(&text).unwrap(), grant());
        for name in [
            "\"mode\": \"vpcRoute\"",
            "\"sourceDestCheckOff\": true",
            "\"coveredSubnets\"",
            "\"state\": \"active\"",
        ] {
            assert!(text.contains(name), "{name} in {text}");
        }
    }

    #[test]
    fn a_newer_grant_is_refused_and_an_unknown_field_is_not() {
        let newer = grant().text().replacen("\"version\": 1", "\"version\": 2", 1);
        assert!(matches!(NodeGrant::parse(&newer), Err(BadFile::Version(2))));
        let more = grant().text().replacen("\"version\": 1", "\"version\": 1, \"later\": 1", 1);
        assert_eq!(NodeGrant::parse(&more).unwrap(), grant());
    }

    #[test]
    fn a_node_name_that_could_leave_the_directory_is_refused() {
        for bad in ["", ".", "..", "../x", "a/b", "-a", "a-", "A", "a_b", &"a".repeat(241)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
        assert_eq!("ip-10-0-0-1.eu".parse::<NodeName>().unwrap().grant_file(), "nodes/ip-10-0-0-1.eu.json");
    }
}
