//! Domain types into the pieces of EC2 requests.

use aws_sdk_ec2::types::{Filter, ResourceType, Tag, TagSpecification};
use spur_cloud::{Api, CloudError, ErrorClass};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A filter on one exact value.
pub(crate) fn filter(name: impl Into<String>, value: &str) -> Filter {
    Filter::builder().name(name).values(exact(value)).build()
}

/// A filter that any of these exact values passes.
pub(crate) fn any_of(name: &str, values: &[String]) -> Filter {
    Filter::builder().name(name).set_values(Some(values.iter().map(|value| exact(value)).collect())).build()
}

/// EC2 reads `*` and `?` in filter values as wildcards, so they are escaped.
fn exact(value: &str) -> String {
    let mut exact = String::with_capacity(value.len());
    for letter in value.chars() {
        if matches!(letter, '*' | '?' | '\\') {
            exact.push('\\');
        }
        exact.push(letter);
    }
    exact
}

/// Filters for things in a VPC that carry all these tags.
pub(crate) fn in_vpc(vpc: &str, tags: &BTreeMap<String, String>) -> Vec<Filter> {
    let tags = tags.iter().map(|(key, value)| filter(format!("tag:{key}"), value));
    std::iter::once(filter("vpc-id", vpc)).chain(tags).collect()
}

/// Tags as EC2 wants them.
pub(crate) fn tags(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

/// Tags to set on a new ENI; nothing if there are none, because EC2 refuses an empty specification.
pub(crate) fn eni_tags(wanted: &BTreeMap<String, String>) -> Option<Vec<TagSpecification>> {
    let specification = TagSpecification::builder()
        .resource_type(ResourceType::NetworkInterface)
        .set_tags(Some(tags(wanted)))
        .build();
    (!wanted.is_empty()).then(|| vec![specification])
}

/// A number for EC2's signed integers.
pub(crate) fn number(api: Api, field: &str, value: u32) -> Result<i32, CloudError> {
    i32::try_from(value).map_err(|_| bug(api, format!("{field} {value} is more than EC2 can be asked for")))
}

/// Addresses for a call that speaks IPv4 only.
pub(crate) fn ipv4<'a>(
    api: Api,
    addresses: impl IntoIterator<Item = &'a IpAddr>,
) -> Result<Vec<String>, CloudError> {
    addresses
        .into_iter()
        .map(|address| match address {
            IpAddr::V4(address) => Ok(address.to_string()),
            IpAddr::V6(address) => {
                Err(bug(api, format!("{address} is IPv6; this call takes IPv4 addresses")))
            }
        })
        .collect()
}

fn bug(api: Api, message: String) -> CloudError {
    CloudError { api, class: ErrorClass::Bug, code: None, message, request_id: None }
}
