//! The reads. Each follows EC2's pages to the end, and asks for none if it was asked about nothing: without ids EC2
//! would answer with everything in the account.
//!
//! EC2 refuses `MaxResults` together with ids, so only filtered reads ask for pages of a size.

use super::pages::follow;
use crate::error::failed;
use crate::parse::{self, Answer};
use crate::request::{any_of, filter, in_vpc};
use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{InstanceType as SdkInstanceType, Subnet as SdkSubnet};
use spur_cloud::{
    Api, CloudError, Eni, EniQuery, Instance, InstanceId, InstanceType, SecurityGroupId, Subnet, SubnetQuery,
    Vpc, VpcId,
};
use spur_quotas::InstanceLimits;
use std::collections::{BTreeMap, BTreeSet};

/// The largest page EC2 gives.
const PAGE: i32 = 1000;

/// A request's filters have at most this many values.
const FILTER_VALUES: usize = 200;

/// DescribeInstanceTypes takes at most this many names at once.
const TYPES_AT_ONCE: usize = 100;

fn texts<T: ToString>(ids: &BTreeSet<T>) -> Option<Vec<String>> {
    Some(ids.iter().map(ToString::to_string).collect())
}

pub(super) async fn instance_limits(
    client: &Client,
    types: &BTreeSet<InstanceType>,
) -> Result<BTreeMap<InstanceType, InstanceLimits>, CloudError> {
    const API: Api = Api::DescribeInstanceTypes;
    let answer = Answer::of(API);
    let mut limits = BTreeMap::new();
    let names: Vec<SdkInstanceType> = types.iter().map(|name| SdkInstanceType::from(name.as_str())).collect();
    for names in names.chunks(TYPES_AT_ONCE) {
        let request = client.describe_instance_types().set_instance_types(Some(names.to_vec()));
        let page = request.send().await.map_err(|error| failed(API, error))?;
        for info in page.instance_types() {
            let (name, of_type) = parse::limits(&answer, info)?;
            limits.insert(name, of_type);
        }
    }
    match types.iter().find(|name| !limits.contains_key(name)) {
        Some(name) => Err(answer.not_found(format_args!("instance type {name} is not in the answer"))),
        None => Ok(limits),
    }
}

pub(super) async fn instance(client: &Client, id: &InstanceId) -> Result<Instance, CloudError> {
    const API: Api = Api::DescribeInstances;
    let request = client.describe_instances().instance_ids(id.as_str());
    let page = request.send().await.map_err(|error| failed(API, error))?;
    let answer = Answer::of(API);
    let found = page
        .reservations()
        .iter()
        .flat_map(|reservation| reservation.instances())
        .find(|instance| instance.instance_id() == Some(id.as_str()));
    match found {
        Some(instance) => parse::instance(&answer, instance),
        None => Err(answer.not_found(format_args!("{id} is not in the answer"))),
    }
}

pub(super) async fn existing_instances(
    client: &Client,
    ids: &BTreeSet<InstanceId>,
) -> Result<BTreeSet<InstanceId>, CloudError> {
    const API: Api = Api::DescribeInstances;
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let (answer, mut found) = (Answer::of(API), BTreeSet::new());
    for ids in ids.chunks(FILTER_VALUES) {
        // By filter, because one unknown id would fail a read by ids as a whole.
        let request = client.describe_instances().max_results(PAGE).filters(any_of("instance-id", ids));
        let ask = |token| request.clone().set_next_token(token).send();
        follow(API, ask, |page| {
            for instance in page.reservations().iter().flat_map(|reservation| reservation.instances()) {
                found.extend(parse::existing_instance(&answer, instance)?);
            }
            Ok(page.next_token)
        })
        .await?;
    }
    Ok(found)
}

pub(super) async fn vpc(client: &Client, id: &VpcId) -> Result<Vpc, CloudError> {
    const API: Api = Api::DescribeVpcs;
    let page =
        client.describe_vpcs().vpc_ids(id.as_str()).send().await.map_err(|error| failed(API, error))?;
    let answer = Answer::of(API);
    match page.vpcs().iter().find(|vpc| vpc.vpc_id() == Some(id.as_str())) {
        Some(vpc) => parse::vpc(&answer, vpc),
        None => Err(answer.not_found(format_args!("{id} is not in the answer"))),
    }
}

pub(super) async fn subnets(client: &Client, query: &SubnetQuery) -> Result<Vec<Subnet>, CloudError> {
    const API: Api = Api::DescribeSubnets;
    let request = match query {
        SubnetQuery::ByIds(ids) if ids.is_empty() => return Ok(Vec::new()),
        SubnetQuery::ByIds(ids) => client.describe_subnets().set_subnet_ids(texts(ids)),
        SubnetQuery::Tagged(vpc, tags) => {
            client.describe_subnets().max_results(PAGE).set_filters(Some(in_vpc(vpc.as_str(), tags)))
        }
    };
    let (answer, mut found) = (Answer::of(API), Vec::new());
    let is_named = matches!(query, SubnetQuery::ByIds(_));
    let ask = |token| request.clone().set_next_token(token).send();
    follow(API, ask, |page| {
        // One for IPv6 alone is no use to anybody here, and no reason to see none of the others.
        for subnet in page.subnets().iter().filter(|subnet| is_named || !is_ipv6_only(subnet)) {
            found.push(parse::subnet(&answer, subnet)?);
        }
        Ok(page.next_token)
    })
    .await?;
    Ok(found)
}

fn is_ipv6_only(subnet: &SdkSubnet) -> bool {
    subnet.ipv6_native() == Some(true)
}

pub(super) async fn security_groups(
    client: &Client,
    vpc: &VpcId,
    tags: &BTreeMap<String, String>,
) -> Result<BTreeSet<SecurityGroupId>, CloudError> {
    const API: Api = Api::DescribeSecurityGroups;
    let request =
        client.describe_security_groups().max_results(PAGE).set_filters(Some(in_vpc(vpc.as_str(), tags)));
    let (answer, mut found) = (Answer::of(API), BTreeSet::new());
    let ask = |token| request.clone().set_next_token(token).send();
    follow(API, ask, |page| {
        for group in page.security_groups() {
            found.insert(answer.parsed("groupId", group.group_id())?);
        }
        Ok(page.next_token)
    })
    .await?;
    Ok(found)
}

pub(super) async fn enis(client: &Client, query: &EniQuery) -> Result<Vec<Eni>, CloudError> {
    const API: Api = Api::DescribeNetworkInterfaces;
    let all = client.describe_network_interfaces();
    let request = match query {
        EniQuery::ByIds(ids) if ids.is_empty() => return Ok(Vec::new()),
        EniQuery::ByIds(ids) => all.set_network_interface_ids(texts(ids)),
        EniQuery::OfInstance(instance) => {
            all.max_results(PAGE).filters(filter("attachment.instance-id", instance.as_str()))
        }
        EniQuery::Tagged(vpc, tags) => all.max_results(PAGE).set_filters(Some(in_vpc(vpc.as_str(), tags))),
    };
    let (answer, mut found) = (Answer::of(API), Vec::new());
    let ask = |token| request.clone().set_next_token(token).send();
    follow(API, ask, |page| {
        for eni in page.network_interfaces() {
            found.push(parse::eni(&answer, eni)?);
        }
        Ok(page.next_token)
    })
    .await?;
    Ok(found)
}
