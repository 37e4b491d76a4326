//! Route tables: one paged read, and the writes. All reads ask for pages, because EC2 refuses large answers in one piece
//! ("Unpaginated and unqualified requests are not permitted"), and by filter, because one id that is gone fails a read by id.

use super::AwsCloud;
use super::pages::follow;
use crate::error::failed;
use crate::parse::{self, Answer};
use crate::request::{any_of, in_vpc, tags};
use aws_sdk_ec2::types::{Filter, Tag};
use ipnet::IpNet;
use spur_cloud::{Api, CloudError, CloudRoutes, EniId, RouteTable, RouteTableId, RouteTableQuery};
use std::collections::{BTreeMap, BTreeSet};

/// The largest page of route tables that EC2 gives.
const PAGE: i32 = 100;

/// A call takes at most this many filter values.
const VALUES_AT_ONCE: usize = 200;

/// A call about one route. The SDK has a type of its own for each action, with the same three methods; IPv4 and IPv6 are different
/// parameters.
macro_rules! about_route {
    ($call:expr, $table:expr, $destination:expr) => {{
        let (text, is_v4) = ($destination.to_string(), matches!($destination, IpNet::V4(_)));
        let call = $call.route_table_id($table.as_str());
        if is_v4 { call.destination_cidr_block(text) } else { call.destination_ipv6_cidr_block(text) }
    }};
}

impl AwsCloud {
    async fn pages(&self, filters: Vec<Filter>, found: &mut Vec<RouteTable>) -> Result<(), CloudError> {
        const API: Api = Api::DescribeRouteTables;
        let request = self.client.describe_route_tables().max_results(PAGE).set_filters(Some(filters));
        let answer = Answer::of(API);
        let ask = |token| request.clone().set_next_token(token).send();
        follow(API, ask, |page| {
            for table in page.route_tables() {
                found.push(parse::route_table(&answer, table)?);
            }
            Ok(page.next_token)
        })
        .await
    }
}

impl CloudRoutes for AwsCloud {
    async fn route_tables(&self, query: &RouteTableQuery) -> Result<Vec<RouteTable>, CloudError> {
        let mut found = Vec::new();
        match query {
            RouteTableQuery::ByIds(ids) => {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                for ids in ids.chunks(VALUES_AT_ONCE) {
                    self.pages(vec![any_of("route-table-id", ids)], &mut found).await?;
                }
            }
            RouteTableQuery::Tagged(vpc, tags) => {
                self.pages(in_vpc(vpc.as_str(), tags), &mut found).await?;
            }
        }
        Ok(found)
    }

    async fn create_route(
        &self,
        table: &RouteTableId,
        destination: IpNet,
        target: &EniId,
    ) -> Result<(), CloudError> {
        let request = about_route!(self.client.create_route(), table, destination);
        let request = request.network_interface_id(target.as_str());
        let answer = request.send().await.map_err(|error| failed(Api::CreateRoute, error))?;
        // EC2 says what it did in the answer's only field.
        if answer.r#return() == Some(false) {
            return Err(Answer::of(Api::CreateRoute).about(table).bug("return", "is false in a success"));
        }
        Ok(())
    }

    async fn replace_route(
        &self,
        table: &RouteTableId,
        destination: IpNet,
        target: &EniId,
    ) -> Result<(), CloudError> {
        let request = about_route!(self.client.replace_route(), table, destination);
        let request = request.network_interface_id(target.as_str());
        request.send().await.map_err(|error| failed(Api::ReplaceRoute, error))?;
        Ok(())
    }

    async fn delete_route(&self, table: &RouteTableId, destination: IpNet) -> Result<(), CloudError> {
        let request = about_route!(self.client.delete_route(), table, destination);
        request.send().await.map_err(|error| failed(Api::DeleteRoute, error))?;
        Ok(())
    }

    async fn tag_route_table(
        &self,
        table: &RouteTableId,
        wanted: &BTreeMap<String, String>,
    ) -> Result<(), CloudError> {
        if wanted.is_empty() {
            return Ok(());
        }
        let request = self.client.create_tags().resources(table.as_str()).set_tags(Some(tags(wanted)));
        request.send().await.map_err(|error| failed(Api::CreateTags, error))?;
        Ok(())
    }

    async fn untag_route_table(
        &self,
        table: &RouteTableId,
        keys: &BTreeSet<String>,
    ) -> Result<(), CloudError> {
        // Without a tag, EC2 would take away all of them.
        if keys.is_empty() {
            return Ok(());
        }
        let keys = keys.iter().map(|key| Tag::builder().key(key).build()).collect();
        let request = self.client.delete_tags().resources(table.as_str()).set_tags(Some(keys));
        request.send().await.map_err(|error| failed(Api::DeleteTags, error))?;
        Ok(())
    }
}
