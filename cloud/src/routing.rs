//! The [`CloudRoutes`] trait: route tables, for the controller alone. It is a trait of its own so that the agent, which
//! is given a [`crate::Cloud`], cannot write a route: nodes hold no such permission.

use crate::{Cloud, CloudError, EniId, RouteTable, RouteTableId, VpcId};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

/// Which route tables to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteTableQuery {
    /// Those of these that exist: a filter, because a read by id fails as a whole when one of the tables is gone.
    ByIds(BTreeSet<RouteTableId>),
    /// All in the VPC that carry these tags; no tags means all.
    Tagged(VpcId, BTreeMap<String, String>),
}

/// A cloud whose route tables can be read and written.
///
/// # Guarantees
/// Those of [`Cloud`]. Reads may contradict each other and an earlier write for a while after it.
///
/// # Errors
/// [`crate::ErrorClass::NoRoute`] says that the table has no route to the destination; [`crate::ErrorClass::NotFound`] that
/// the table or the ENI does not exist, and the code says which.
pub trait CloudRoutes: Cloud {
    /// Route tables (`DescribeRouteTables`), a page at a time: EC2 refuses large answers in one piece.
    fn route_tables(
        &self,
        query: &RouteTableQuery,
    ) -> impl Future<Output = Result<Vec<RouteTable>, CloudError>> + Send;

    /// Adds a route to an ENI (`CreateRoute`). A route to the same destination is an error of class `Conflict`, whatever
    /// its target; a full table one of class `QuotaExceeded`.
    fn create_route(
        &self,
        table: &RouteTableId,
        destination: IpNet,
        target: &EniId,
    ) -> impl Future<Output = Result<(), CloudError>> + Send;

    /// Gives the route to exactly this destination a new target (`ReplaceRoute`), without a gap. Without such a route, an
    /// error of class `NoRoute`.
    fn replace_route(
        &self,
        table: &RouteTableId,
        destination: IpNet,
        target: &EniId,
    ) -> impl Future<Output = Result<(), CloudError>> + Send;

    /// Removes the route to exactly this destination (`DeleteRoute`). Without such a route, an error of class `NoRoute`.
    fn delete_route(
        &self,
        table: &RouteTableId,
        destination: IpNet,
    ) -> impl Future<Output = Result<(), CloudError>> + Send;

    /// Sets tags on a route table (`CreateTags`).
    fn tag_route_table(
        &self,
        table: &RouteTableId,
        tags: &BTreeMap<String, String>,
    ) -> impl Future<Output = Result<(), CloudError>> + Send;

    /// Removes tags from a route table, whatever their values (`DeleteTags`); absent ones are no error.
    fn untag_route_table(
        &self,
        table: &RouteTableId,
        keys: &BTreeSet<String>,
    ) -> impl Future<Output = Result<(), CloudError>> + Send;
}
