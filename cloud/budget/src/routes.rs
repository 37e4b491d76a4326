//! Route tables within the same budget.

use crate::cloud::Prioritized;
use ipnet::IpNet;
use spur_cloud::{Api, CloudError, CloudRoutes, EniId, RouteTable, RouteTableId, RouteTableQuery};
use std::collections::{BTreeMap, BTreeSet};

/// Route tables on a page of an answer.
const PAGE: usize = 100;

impl<C: CloudRoutes> CloudRoutes for Prioritized<C> {
    async fn route_tables(&self, query: &RouteTableQuery) -> Result<Vec<RouteTable>, CloudError> {
        let pages = |tables: &Vec<RouteTable>| u32::try_from(tables.len().div_ceil(PAGE)).unwrap_or(u32::MAX);
        let call = self.below().route_tables(query);
        self.read_alone(Api::DescribeRouteTables, call, |tables| pages(tables).max(1)).await
    }

    async fn create_route(
        &self,
        table: &RouteTableId,
        destination: IpNet,
        target: &EniId,
    ) -> Result<(), CloudError> {
        self.write(Api::CreateRoute, self.below().create_route(table, destination, target)).await
    }

    async fn replace_route(
        &self,
        table: &RouteTableId,
        destination: IpNet,
        target: &EniId,
    ) -> Result<(), CloudError> {
        self.write(Api::ReplaceRoute, self.below().replace_route(table, destination, target)).await
    }

    async fn delete_route(&self, table: &RouteTableId, destination: IpNet) -> Result<(), CloudError> {
        self.write(Api::DeleteRoute, self.below().delete_route(table, destination)).await
    }

    async fn tag_route_table(
        &self,
        table: &RouteTableId,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), CloudError> {
        self.write(Api::CreateTags, self.below().tag_route_table(table, tags)).await
    }

    async fn untag_route_table(
        &self,
        table: &RouteTableId,
        keys: &BTreeSet<String>,
    ) -> Result<(), CloudError> {
        self.write(Api::DeleteTags, self.below().untag_route_table(table, keys)).await
    }
}
