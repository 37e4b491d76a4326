//! What the world looks like from outside: plain serializable data for the fabric, the demo and tests. A view is a copy;
//! changing it changes nothing, and what happens later does not change it. Names of fields are part of what `vpcsim` prints,
//! so they change only with a reason.

use crate::id::{EniId, GatewayId, InstanceId, Mac, RouteTableId, SecurityGroupId, SubnetId, VpcId};
use ipnet::{IpNet, Ipv4Net};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// The whole world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct State {
    /// The scenario's name.
    pub name: String,
    /// The region.
    pub region: String,
    /// The account that owns everything.
    pub account: String,
    /// The VPC's id.
    pub vpc: VpcId,
    /// The VPC's CIDRs, primary first, without those that are still being associated.
    pub vpc_cidrs: Vec<Ipv4Net>,
    /// A host on the internet side.
    pub internet: Ipv4Addr,
    /// Subnets, in the scenario's order.
    pub subnets: Vec<SubnetView>,
    /// The gateway to the internet.
    pub internet_gateway: GatewayId,
    /// Route tables by id, as they are: no settling shows here.
    pub route_tables: BTreeMap<RouteTableId, RouteTableView>,
    /// Nodes, in the scenario's order.
    pub nodes: Vec<NodeView>,
    /// ENIs by id, unattached ones included.
    pub enis: BTreeMap<EniId, EniView>,
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SubnetView {
    /// Its id.
    pub id: SubnetId,
    /// Its name in the scenario.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// Its CIDR.
    pub cidr: Ipv4Net,
    /// The table that it routes by, its own or the main one.
    pub route_table: RouteTableId,
    /// The VPC router's address in it.
    pub gateway: Ipv4Addr,
    /// Addresses that can still be had.
    pub free: u32,
    /// Addresses that a fault keeps from everybody.
    pub held: u32,
}

/// A route table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteTableView {
    /// Its name in the scenario; empty if a call made it.
    pub name: String,
    /// Whether subnets without a table of their own route by it.
    pub main: bool,
    /// Its routes: local ones, those that were written, those that were propagated or advertised.
    pub routes: Vec<RouteView>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteView {
    /// What it matches.
    pub destination: IpNet,
    /// Where it leads.
    pub target: TargetView,
    /// EC2's word for how it came into the table.
    pub origin: &'static str,
    /// `active` or `blackhole`.
    pub state: &'static str,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum TargetView {
    /// Into the VPC.
    Local,
    /// To an ENI.
    Eni(EniId),
    /// To the internet gateway.
    Internet,
    /// Out of this world.
    Foreign(String),
}

/// A node: an instance and what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeView {
    /// Its name in the scenario.
    pub name: String,
    /// Its instance id.
    pub instance: InstanceId,
    /// Its instance type.
    pub instance_type: String,
    /// The subnet of its primary ENI.
    pub subnet: SubnetId,
    /// Its zone.
    pub zone: String,
    /// The access key that the metadata service gives it: calls signed with it are recorded as this node's.
    pub access_key: String,
    /// `running` or `terminated`.
    pub state: &'static str,
    /// Its ENIs in any state of attachment, primary first, then by card and device index.
    pub enis: Vec<EniId>,
}

/// An ENI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EniView {
    /// Its id.
    pub id: EniId,
    /// Its hardware address.
    pub mac: Mac,
    /// The subnet of its addresses.
    pub subnet: SubnetId,
    /// Its security groups.
    pub security_groups: Vec<SecurityGroupId>,
    /// Its primary address.
    pub primary: Ipv4Addr,
    /// Its secondary addresses.
    pub secondary: Vec<Ipv4Addr>,
    /// Its delegated prefixes.
    pub prefixes: Vec<Ipv4Net>,
    /// Whether packets of addresses that are not its own are dropped.
    pub source_dest_check: bool,
    /// Its description.
    pub description: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// `available` or `in-use`, the latter from the first moment of an attachment to its last.
    pub status: &'static str,
    /// Where it is attached, if it is.
    pub attachment: Option<AttachmentView>,
}

impl EniView {
    /// Whether `address` is the ENI's own: primary, secondary or in a delegated prefix.
    #[must_use]
    pub fn owns(&self, address: Ipv4Addr) -> bool {
        self.primary == address
            || self.secondary.contains(&address)
            || self.prefixes.iter().any(|prefix| prefix.contains(&address))
    }
}

/// Where an ENI is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttachmentView {
    /// The node.
    pub node: String,
    /// Index on the card; 0 on card 0 is the primary ENI.
    pub device_index: u32,
    /// The network card.
    pub card: u32,
    /// `attaching`, `attached` or `detaching`. The netdev is in the node in the last two.
    pub status: &'static str,
    /// Whether the ENI dies with the instance.
    pub delete_on_termination: bool,
}

/// What became true in the world, for whoever gives it a body. In the order in which it happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Happening {
    /// An attachment landed: the netdev is to appear in the node.
    EniArrived {
        /// The ENI, attached.
        eni: Box<EniView>,
    },
    /// A detachment landed: the netdev is to leave the node.
    EniLeft {
        /// The node.
        node: String,
        /// The ENI.
        eni: EniId,
        /// Its hardware address.
        mac: Mac,
        /// Where it was.
        device_index: u32,
        /// On which card.
        card: u32,
    },
    /// Addresses, prefixes or the source/destination check of an ENI changed (attached or not).
    EniChanged {
        /// The ENI as it is now.
        eni: Box<EniView>,
    },
    /// A route table, an association or a CIDR of the VPC changed.
    RoutesChanged,
    /// One destination of a table is led elsewhere, and all else stays.
    RouteChanged {
        /// The table.
        table: RouteTableId,
        /// What is matched.
        destination: IpNet,
        /// Where that leads now; nowhere if the table has no such route any more.
        target: Option<TargetView>,
    },
}
