//! What a world is made of: VPC, nodes and their modes, settings of whoever runs in it.
//!
//! With a node in `vpcRoute` mode the VPC gets route tables of its own for each subnet, a controller, and a third subnet whose table nobody
//! manages, with a host in it that knows nothing of pods.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// The host on the internet side.
const INTERNET: &str = "203.0.113.10";

/// The tag of the route tables that the controller is to manage.
pub(super) const MANAGED: (&str, &str) = ("spur-e2e", "managed");

/// The names of these tables: of both subnets of nodes.
pub const MANAGED_TABLES: [&str; 2] = ["main", "b"];

/// Where the addresses of a node's pods come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeMode {
    /// From its ENIs.
    Eni,
    /// From a block that the VPC's route tables lead to it.
    VpcRoute,
}

impl fmt::Display for NodeMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Eni => "eni",
            Self::VpcRoute => "vpcRoute",
        })
    }
}

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct WorldSpec {
    /// Name, the prefix of every namespace.
    pub name: String,
    /// Number of nodes; they alternate between the two subnets.
    pub nodes: u32,
    /// Modes of the nodes in order, and over again if there are more nodes; empty is `eni` for all.
    pub modes: Vec<NodeMode>,
    /// Instance type of the nodes.
    pub instance_type: String,
    /// Pool settings of the agents, as lines of YAML below `pool:`.
    pub pool: BTreeMap<&'static str, String>,
    /// Settings of the conflist, as lines of YAML below `cni:`.
    pub cni: BTreeMap<&'static str, String>,
    /// Further settings of the agents, as lines of YAML at the top.
    pub agent: BTreeMap<&'static str, String>,
    /// Settings of the controller, as lines of YAML at the top; only with nodes in `vpcRoute` mode is there one.
    pub controller: BTreeMap<&'static str, String>,
}

impl WorldSpec {
    /// The mode of a node.
    #[must_use]
    pub fn mode(&self, node: usize) -> NodeMode {
        self.modes.iter().cycle().nth(node).copied().unwrap_or(NodeMode::Eni)
    }

    /// Whether a node of it takes its addresses from what a controller grants.
    #[must_use]
    pub fn has_controller(&self) -> bool {
        self.modes.iter().take(self.nodes as usize).any(|mode| *mode == NodeMode::VpcRoute)
    }

    /// The scenario as vpcsim reads it.
    pub(super) fn scenario(&self) -> String {
        let mut text = format!(
            "name: {}\nvpc:\n  cidrs: [10.0.0.0/16]\ninternet: {{address: {INTERNET}}}\nsubnets:\n\
             - {{name: a, zone: eu-central-1a, cidr: 10.0.0.0/20}}\n\
             - {{name: b, zone: eu-central-1b, cidr: 10.0.16.0/20}}\n",
            self.name
        );
        if self.has_controller() {
            let (key, value) = MANAGED;
            // Writing to a String cannot fail, here and below.
            let _ = write!(
                text,
                "- {{name: c, zone: eu-central-1a, cidr: 10.0.32.0/20}}\nrouteTables:\n\
                 - {{name: main, main: true, tags: {{{key}: {value}}}}}\n\
                 - {{name: b, subnets: [b], tags: {{{key}: {value}}}}}\n\
                 - {{name: c, subnets: [c]}}\n"
            );
        }
        text.push_str("nodes:\n");
        for number in 1..=self.nodes {
            let subnet = if number % 2 == 1 { "a" } else { "b" };
            let _ =
                writeln!(text, "- {{name: node-{number}, type: {}, subnet: {subnet}}}", self.instance_type);
        }
        if self.has_controller() {
            text.push_str("- {name: outside, type: t3.nano, subnet: c}\n");
        }
        text
    }
}
