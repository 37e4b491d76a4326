//! What comes into the controller and what goes out of it: data only. The shell executes calls without deciding, several at a time,
//! and reports each outcome once.

use super::NodeName;
use super::record::Change;
use super::settings::{Nodes, Settings};
use crate::action::{CallId, StoreId};
use ipnet::IpNet;
use serde::Serialize;
use spur_cloud::{
    Api, CloudError, Eni, EniId, EniQuery, RouteTable, RouteTableId, RouteTableQuery, Subnet, SubnetQuery,
    Vpc, VpcId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Something happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// Time passed: at start, and at `Controller::next_wakeup`.
    Tick,
    /// The settings changed.
    Reload(Box<Settings>),
    /// All nodes, as they are now.
    Nodes(Nodes),
    /// The transaction is durable.
    Stored(StoreId),
    /// The transaction failed and has no effect.
    StoreFailed(StoreId, String),
    /// The call came back. Every call comes back exactly once; the shell gives up waiting with a `Transient` error.
    CallFinished {
        /// Which.
        call: CallId,
        /// How.
        result: Result<RouteDone, CloudError>,
    },
}

/// What a call brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteDone {
    /// To `RouteCall::ReadTables`.
    Tables(Vec<RouteTable>),
    /// To `RouteCall::ReadEnis`.
    Enis(Vec<Eni>),
    /// To `RouteCall::ReadSubnets`.
    Subnets(Vec<Subnet>),
    /// To `RouteCall::ReadVpc`.
    Vpc(Vpc),
    /// To all others.
    Done,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make these changes durable, all or none; then `Event::Stored` or `StoreFailed`. There is one at a time.
    Store {
        /// To report.
        id: StoreId,
        /// What, in order.
        changes: Vec<Change>,
    },
    /// Call the cloud; then `Event::CallFinished`.
    Call {
        /// To report.
        id: CallId,
        /// What.
        call: RouteCall,
        /// Why.
        reason: Reason,
    },
}

/// A call of `spur_cloud::CloudRoutes`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the parameters of the method that is named")]
pub enum RouteCall {
    /// `CloudRoutes::route_tables`.
    ReadTables(RouteTableQuery),
    /// `Cloud::enis`.
    ReadEnis(EniQuery),
    /// `Cloud::subnets`.
    ReadSubnets(SubnetQuery),
    /// `Cloud::vpc`.
    ReadVpc(VpcId),
    /// `CloudRoutes::create_route`.
    Create { table: RouteTableId, block: IpNet, target: EniId },
    /// `CloudRoutes::replace_route`.
    Replace { table: RouteTableId, block: IpNet, target: EniId },
    /// `CloudRoutes::delete_route`.
    Delete { table: RouteTableId, block: IpNet },
    /// `Cloud::set_source_dest_check`, to false.
    CheckOff { eni: EniId },
    /// `CloudRoutes::tag_route_table`.
    Claim { table: RouteTableId, tags: BTreeMap<String, String> },
    /// `CloudRoutes::untag_route_table`.
    Unclaim { table: RouteTableId, keys: BTreeSet<String> },
}

/// What a call changes; one at a time for each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// A route.
    Route(RouteTableId, IpNet),
    /// The check on an ENI.
    Check(EniId),
    /// The claim on a table.
    Claim(RouteTableId),
}

impl RouteCall {
    /// Every EC2 action that a call can be: what the controller needs to be permitted.
    pub const APIS: [Api; 10] = [
        Api::DescribeRouteTables,
        Api::DescribeNetworkInterfaces,
        Api::DescribeSubnets,
        Api::DescribeVpcs,
        Api::CreateRoute,
        Api::ReplaceRoute,
        Api::DeleteRoute,
        Api::ModifyNetworkInterfaceAttribute,
        Api::CreateTags,
        Api::DeleteTags,
    ];

    /// The EC2 action that it is.
    #[must_use]
    pub const fn api(&self) -> Api {
        match self {
            Self::ReadTables(_) => Api::DescribeRouteTables,
            Self::ReadEnis(_) => Api::DescribeNetworkInterfaces,
            Self::ReadSubnets(_) => Api::DescribeSubnets,
            Self::ReadVpc(_) => Api::DescribeVpcs,
            Self::Create { .. } => Api::CreateRoute,
            Self::Replace { .. } => Api::ReplaceRoute,
            Self::Delete { .. } => Api::DeleteRoute,
            Self::CheckOff { .. } => Api::ModifyNetworkInterfaceAttribute,
            Self::Claim { .. } => Api::CreateTags,
            Self::Unclaim { .. } => Api::DeleteTags,
        }
    }

    /// Whether it changes nothing.
    #[must_use]
    pub const fn is_read(&self) -> bool {
        matches!(self, Self::ReadTables(_) | Self::ReadEnis(_) | Self::ReadSubnets(_) | Self::ReadVpc(_))
    }

    /// The table that it changes.
    #[must_use]
    pub const fn table(&self) -> Option<&RouteTableId> {
        match self {
            Self::Create { table, .. }
            | Self::Replace { table, .. }
            | Self::Delete { table, .. }
            | Self::Claim { table, .. }
            | Self::Unclaim { table, .. } => Some(table),
            _ => None,
        }
    }

    pub(super) fn subject(&self) -> Option<Subject> {
        match self {
            Self::Create { table, block, .. }
            | Self::Replace { table, block, .. }
            | Self::Delete { table, block } => Some(Subject::Route(table.clone(), *block)),
            Self::CheckOff { eni } => Some(Subject::Check(eni.clone())),
            Self::Claim { table, .. } | Self::Unclaim { table, .. } => Some(Subject::Claim(table.clone())),
            _ => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route(table, block) => write!(f, "{block} in {table}"),
            Self::Check(eni) => eni.fmt(f),
            Self::Claim(table) => table.fmt(f),
        }
    }
}

impl fmt::Display for RouteCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { table, block, target } => write!(f, "create {block} -> {target} in {table}"),
            Self::Replace { table, block, target } => write!(f, "replace {block} -> {target} in {table}"),
            Self::Delete { table, block } => write!(f, "delete {block} in {table}"),
            Self::CheckOff { eni } => write!(f, "source/destination check off on {eni}"),
            Self::Claim { table, .. } => write!(f, "claim {table}"),
            Self::Unclaim { table, .. } => write!(f, "unclaim {table}"),
            read => read.api().fmt(f),
        }
    }
}

/// Why a call is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "camelCase")]
#[expect(missing_docs, reason = "Display says what each is")]
pub enum Reason {
    /// To learn what there is.
    Discover,
    /// To compare, as every so often.
    Reconcile,
    /// To learn what became of calls.
    Look,
    /// To find the ENIs of nodes.
    FindEnis,
    NewNode {
        node: NodeName,
    },
    Missing {
        node: NodeName,
    },
    WrongTarget {
        node: NodeName,
        eni: EniId,
    },
    Blackhole {
        node: NodeName,
    },
    NodeLeft {
        node: NodeName,
    },
    TableLeft,
    CheckOn {
        node: NodeName,
    },
    NoClaim,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discover => write!(f, "to learn what there is"),
            Self::Reconcile => write!(f, "to compare"),
            Self::Look => write!(f, "to learn what became of calls"),
            Self::FindEnis => write!(f, "to find the ENIs of nodes"),
            Self::NewNode { node } => write!(f, "node {node} is new"),
            Self::Missing { node } => write!(f, "the route of node {node} is missing"),
            Self::WrongTarget { node, eni } => write!(f, "node {node} is not at {eni}"),
            Self::Blackhole { node } => write!(f, "the route of node {node} leads nowhere"),
            Self::NodeLeft { node } => write!(f, "node {node} left"),
            Self::TableLeft => write!(f, "the table is not managed any more"),
            Self::CheckOn { node } => write!(f, "packets of node {node}'s pods would be dropped"),
            Self::NoClaim => write!(f, "the claim is not on the table"),
        }
    }
}
