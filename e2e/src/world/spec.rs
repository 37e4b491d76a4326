//! What a world is made of: VPC, nodes and their modes, settings of whoever runs in it.
//!
//! With a node in `vpcRoute` mode the VPC gets route tables of its own for each subnet, a controller, and a third subnet whose table nobody
//! manages, with a host in it that knows nothing of pods.

use clap::ValueEnum;
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

/// Modes of the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "camelCase")]
pub enum Mode {
    /// Pod addresses are addresses of the nodes' ENIs.
    Eni,
    /// Pod addresses are from blocks that the VPC's route tables lead to the nodes.
    VpcRoute,
    /// Some nodes so, some so.
    Mixed,
}

impl fmt::Display for Mode {
    /// As it is chosen on the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", clap::builder::PossibleValue::get_name))
    }
}

impl Mode {
    /// In order over the nodes, which alternate between two subnets: with four nodes, both modes are in both.
    #[must_use]
    pub const fn of_nodes(self) -> &'static [NodeMode] {
        match self {
            Self::Eni => &[NodeMode::Eni],
            Self::VpcRoute => &[NodeMode::VpcRoute],
            Self::Mixed => &[NodeMode::VpcRoute, NodeMode::Eni, NodeMode::Eni, NodeMode::VpcRoute],
        }
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
    /// Machines beside the nodes that can be put on the controller's list: it has routes to make and to remove for them.
    pub spares: u32,
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
        let nodes =
            (1..=self.nodes).map(|number| (format!("node-{number}"), number, self.instance_type.as_str()));
        let spares = (1..=self.spares).map(|number| (format!("spare-{number}"), number, "t3.nano"));
        for (name, number, instance_type) in nodes.chain(spares) {
            let subnet = if number % 2 == 1 { "a" } else { "b" };
            let _ = writeln!(text, "- {{name: {name}, type: {instance_type}, subnet: {subnet}}}");
        }
        if self.has_controller() {
            text.push_str("- {name: outside, type: t3.nano, subnet: c}\n");
        }
        text
    }
}
