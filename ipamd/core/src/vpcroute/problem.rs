//! What stands in the way, by name: of a node's readiness, of a table, of everything. Words for people, a kind for metrics, and
//! for conditions an order of weight: what an operator should hear first comes first.

use super::{Family, NodeName, PoolMistake, RouteCall};
use crate::time::Timestamp;
use ipnet::IpNet;
use serde::Serialize;
use spur_cloud::{EniId, InstanceId, RouteTableId, SubnetId};
use std::fmt;

/// Something that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
#[expect(missing_docs, reason = "Display says what each is")]
pub enum Problem {
    /// Nothing is allocated or deleted before the nodes are known.
    NodesUnknown,
    /// Nothing is allocated or deleted before everything was read once.
    NotObserved { what: &'static str },
    /// The list of nodes is empty, and blocks are held.
    NoNodes { held: usize },
    /// A pass would delete too many routes.
    TooManyDeletes { table: RouteTableId, planned: usize, limit: usize },
    /// The pool cannot be used.
    Pool { mistake: PoolMistake },
    /// A permission is missing.
    Denied { permission: String, on: String, until: Timestamp, message: String },
    /// A route of somebody else has the destination of a block.
    Foreign { table: RouteTableId, block: IpNet, what: String },
    /// EC2 takes no more routes in this table.
    Full { table: RouteTableId, family: Family, until: Timestamp },
    /// The node would take a table beyond what is agreed.
    Admission { table: RouteTableId, family: Family, routes: u32, limit: u32 },
    /// No block is free.
    NoBlock { family: Family },
    /// Blocks that Kubernetes gave cannot be used.
    BadPodCidr { node: NodeName, cidr: IpNet, why: String },
    /// Kubernetes has given no block yet.
    NoPodCidr,
    /// The node was sent to a fallback pool, which may have served it since, and none is named any more.
    FallbackGone,
    /// No ENI of the node's was found.
    NoEni { instance: InstanceId, address: Option<std::net::IpAddr> },
    /// The list does not name the block's node any more, or not with this block, and the machine may live.
    Unlisted { node: NodeName, block: IpNet, until: Timestamp },
    /// A listed table is an edge table.
    EdgeTable { table: RouteTableId },
    /// A listed table is not in the VPC.
    AbsentTable { table: RouteTableId },
    /// A subnet of nodes has no route table that was found.
    NoTable { subnet: SubnetId },
    /// A table was not seen by the last reads.
    TableMissing { table: RouteTableId },
    /// A call failed.
    Failed { call: String, on: String, until: Timestamp, message: String },
    /// The store does not take changes.
    Store { message: String },
    /// The table does not carry the claim yet.
    Unclaimed { table: RouteTableId },
    /// The route is not there yet.
    Absent { table: RouteTableId, block: IpNet },
    /// The route leads elsewhere.
    WrongTarget { table: RouteTableId, block: IpNet, eni: EniId },
    /// The route's target is not attached.
    Blackhole { table: RouteTableId, block: IpNet },
    /// No read has shown the route after it was written.
    Unconfirmed { table: RouteTableId, block: IpNet },
    /// EC2 still checks source and destination.
    CheckOn { eni: EniId },
    /// A block is not durable yet.
    NotDurable { block: IpNet },
    /// A route in the pool leads to an ENI, and no block of the record explains it. Never touched, never given out.
    Orphan { table: RouteTableId, destination: IpNet, eni: EniId },
    /// Routes of a node that left are still there.
    Leaving { table: RouteTableId, block: IpNet },
}

impl Problem {
    /// The call that would end it, if there is one, for a node whose routes are to lead to `target`.
    pub(super) fn remedy(&self, target: &EniId) -> Option<RouteCall> {
        let target = target.clone();
        match self.clone() {
            Self::CheckOn { eni } => Some(RouteCall::CheckOff { eni }),
            Self::Absent { table, block } => Some(RouteCall::Create { table, block, target }),
            Self::WrongTarget { table, block, .. } | Self::Blackhole { table, block } => {
                Some(RouteCall::Replace { table, block, target })
            }
            _ => None,
        }
    }

    /// A word for metrics and conditions.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::NodesUnknown => "NodesUnknown",
            Self::NotObserved { .. } => "NotObserved",
            Self::NoNodes { .. } => "EmptyNodeList",
            Self::TooManyDeletes { .. } => "TooManyDeletes",
            Self::Pool { .. } => "PoolRefused",
            Self::Denied { .. } => "PermissionMissing",
            Self::Foreign { .. } => "ForeignRoute",
            Self::Full { .. } => "RouteLimitExceeded",
            Self::Admission { .. } => "QuotaHeadroom",
            Self::NoBlock { .. } => "PoolExhausted",
            Self::BadPodCidr { .. } => "BadPodCidr",
            Self::NoPodCidr => "NoPodCidr",
            Self::FallbackGone => "FallbackGone",
            Self::NoEni { .. } => "NoEni",
            Self::Unlisted { .. } => "NodeUnlisted",
            Self::EdgeTable { .. } => "EdgeTable",
            Self::AbsentTable { .. } => "AbsentTable",
            Self::NoTable { .. } => "NoTable",
            Self::TableMissing { .. } => "TableMissing",
            Self::Failed { .. } => "CallFailed",
            Self::Store { .. } => "StoreFailed",
            Self::Unclaimed { .. } => "Unclaimed",
            Self::Absent { .. } => "RouteMissing",
            Self::WrongTarget { .. } => "WrongTarget",
            Self::Blackhole { .. } => "Blackhole",
            Self::Unconfirmed { .. } => "Unconfirmed",
            Self::CheckOn { .. } => "SourceDestCheckOn",
            Self::NotDurable { .. } => "NotDurable",
            Self::Orphan { .. } => "OrphanRoute",
            Self::Leaving { .. } => "RouteLeft",
        }
    }

    /// Whether routes are in sync all the same: it is told, and nothing is wrong with any node.
    #[must_use]
    pub const fn is_notice(&self) -> bool {
        matches!(self, Self::Orphan { .. } | Self::EdgeTable { .. } | Self::AbsentTable { .. })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodesUnknown => write!(f, "the list of nodes was not read yet"),
            Self::NotObserved { what } => write!(f, "{what} were not read yet"),
            Self::NoNodes { held } => {
                write!(
                    f,
                    "the list of nodes is empty while {held} blocks are held: nothing is deleted without an override"
                )
            }
            Self::TooManyDeletes { table, planned, limit } => write!(
                f,
                "{planned} routes of {table} would be deleted within one reconcile interval, more than {limit}: nothing is deleted there without an override"
            ),
            Self::Pool { mistake } => write!(f, "the pool gives no blocks: {mistake}"),
            Self::Denied { permission, on, until, message } => {
                write!(f, "permission {permission} is missing on {on}; tried again at {until}: {message}")
            }
            Self::Foreign { table, block, what } => {
                write!(f, "{block} in {table} is a route of somebody else, to {what}: left alone")
            }
            Self::Full { table, family, until } => {
                write!(
                    f,
                    "{table} takes no more {family} routes (RouteLimitExceeded); tried again at {until}"
                )
            }
            Self::Admission { table, family, routes, limit } => write!(
                f,
                "{table} would have {routes} {family} routes, and new nodes are admitted up to {limit}"
            ),
            Self::NoBlock { family } => write!(f, "no {family} block of the pool is free"),
            Self::BadPodCidr { node, cidr, why } => write!(f, "{cidr} of node {node} cannot be used: {why}"),
            Self::NoPodCidr => write!(f, "Kubernetes has given the node no block yet"),
            Self::FallbackGone => write!(
                f,
                "the node was sent to the fallback pool, and pool.fallbackPool names none now: name it again, or take the node off the list for a while"
            ),
            Self::Failed { call, on, until, message } => {
                write!(f, "{call} on {on} failed; tried again at {until}: {message}")
            }
            Self::Store { message } => write!(f, "the store does not take changes: {message}"),
            thing => thing.fmt_thing(f),
        }
    }
}

impl Problem {
    /// The words for what is wrong with one table, ENI or route.
    fn fmt_thing(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEni { instance, address: Some(address) } => {
                write!(f, "no ENI of {instance} with the address {address} was found")
            }
            Self::NoEni { instance, address: None } => write!(f, "no primary ENI of {instance} was found"),
            Self::Unlisted { node, block, until } => write!(
                f,
                "the list does not give {block} to node {node} any more: its routes go at {until}, sooner if its machine is gone"
            ),
            Self::EdgeTable { table } => write!(f, "{table} is a gateway's (edge) table: left alone"),
            Self::AbsentTable { table } => write!(f, "{table} is listed and not in the VPC"),
            Self::NoTable { subnet } => write!(f, "no route table of {subnet} was found"),
            Self::TableMissing { table } => write!(f, "the last reads did not show {table}"),
            Self::Unclaimed { table } => write!(f, "{table} does not carry the cluster's claim yet"),
            Self::Absent { table, block } => write!(f, "{block} in {table}: no route yet"),
            Self::WrongTarget { table, block, eni } => {
                write!(f, "{block} in {table}: the route leads to {eni}")
            }
            Self::Blackhole { table, block } => {
                write!(f, "{block} in {table}: the route's target is not attached")
            }
            Self::Unconfirmed { table, block } => write!(f, "{block} in {table}: not seen active yet"),
            Self::CheckOn { eni } => write!(f, "EC2 still checks source and destination on {eni}"),
            Self::NotDurable { block } => write!(f, "{block} is being stored"),
            Self::Orphan { table, destination, eni } => {
                write!(
                    f,
                    "{destination} in {table} leads to {eni}, and no node explains it: left alone, never given out"
                )
            }
            Self::Leaving { table, block } => {
                write!(f, "{block} in {table}: its node left, and the route is still there")
            }
            whole => f.write_str(whole.kind()),
        }
    }
}
