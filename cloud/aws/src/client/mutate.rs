//! The effects. One call each, never repeated here: after a lost answer only the caller knows where to look.
//!
//! A request for nothing (no address, no tag) makes no call, because EC2 would refuse it.

use crate::error::failed;
use crate::parse::{self, Answer};
use crate::request::{self, ipv4, number};
use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{
    AttributeBooleanValue, NetworkInterfaceAttachmentChanges, PrivateIpAddressSpecification,
};
use ipnet::IpNet;
use spur_cloud::{
    AddressRequest, Api, Assigned, AttachmentId, CardIndex, CloudError, CreateEni, DeviceIndex, Eni, EniId,
    InstanceId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

pub(super) async fn create_eni(client: &Client, wanted: &CreateEni) -> Result<Eni, CloudError> {
    const API: Api = Api::CreateNetworkInterface;
    let groups: Vec<String> = wanted.security_groups.iter().map(ToString::to_string).collect();
    let request = client
        .create_network_interface()
        .subnet_id(wanted.subnet.as_str())
        .set_groups((!groups.is_empty()).then_some(groups))
        .description(&wanted.description)
        .set_tag_specifications(request::eni_tags(&wanted.tags))
        .client_token(&wanted.token.0);
    let request = match &wanted.request {
        AddressRequest::Count(0) | AddressRequest::Prefixes(0) => request,
        AddressRequest::Count(count) => {
            request.secondary_private_ip_address_count(number(API, "address count", *count)?)
        }
        AddressRequest::Prefixes(count) => request.ipv4_prefix_count(number(API, "prefix count", *count)?),
        AddressRequest::Addresses(addresses) => {
            let secondary = |address| {
                PrivateIpAddressSpecification::builder().primary(false).private_ip_address(address).build()
            };
            let specifications: Vec<_> = ipv4(API, addresses)?.into_iter().map(secondary).collect();
            request.set_private_ip_addresses((!specifications.is_empty()).then_some(specifications))
        }
    };
    let answer = request.send().await.map_err(|error| failed(API, error))?;
    let reader = Answer::of(API);
    let eni = parse::eni(&reader, reader.some("networkInterface", answer.network_interface())?)?;
    match answer.client_token() {
        // A create that ignored the token is not safe to repeat; EC2 always echoes it.
        Some(token) if token != wanted.token.0 => Err(reader.bug(
            "clientToken",
            format_args!("is {token:?}, expected the {:?} of the request", wanted.token.0),
        )),
        _ => Ok(eni),
    }
}

pub(super) async fn attach_eni(
    client: &Client,
    eni: &EniId,
    instance: &InstanceId,
    index: DeviceIndex,
    card: CardIndex,
) -> Result<AttachmentId, CloudError> {
    const API: Api = Api::AttachNetworkInterface;
    let request = client
        .attach_network_interface()
        .network_interface_id(eni.as_str())
        .instance_id(instance.as_str())
        .device_index(number(API, "device index", index.0)?)
        .network_card_index(number(API, "network card index", card.0)?);
    let answer = request.send().await.map_err(|error| failed(API, error))?;
    Answer::of(API).about(eni).parsed("attachmentId", answer.attachment_id())
}

pub(super) async fn detach_eni(client: &Client, attachment: &AttachmentId) -> Result<(), CloudError> {
    let request = client.detach_network_interface().attachment_id(attachment.as_str());
    request.send().await.map_err(|error| failed(Api::DetachNetworkInterface, error))?;
    Ok(())
}

pub(super) async fn delete_eni(client: &Client, eni: &EniId) -> Result<(), CloudError> {
    let request = client.delete_network_interface().network_interface_id(eni.as_str());
    request.send().await.map_err(|error| failed(Api::DeleteNetworkInterface, error))?;
    Ok(())
}

pub(super) async fn set_delete_on_termination(
    client: &Client,
    eni: &EniId,
    attachment: &AttachmentId,
    delete: bool,
) -> Result<(), CloudError> {
    let change = NetworkInterfaceAttachmentChanges::builder()
        .attachment_id(attachment.as_str())
        .delete_on_termination(delete)
        .build();
    let request =
        client.modify_network_interface_attribute().network_interface_id(eni.as_str()).attachment(change);
    request.send().await.map_err(|error| failed(Api::ModifyNetworkInterfaceAttribute, error))?;
    Ok(())
}

pub(super) async fn set_source_dest_check(
    client: &Client,
    eni: &EniId,
    check: bool,
) -> Result<(), CloudError> {
    let value = AttributeBooleanValue::builder().value(check).build();
    let request = client
        .modify_network_interface_attribute()
        .network_interface_id(eni.as_str())
        .source_dest_check(value);
    request.send().await.map_err(|error| failed(Api::ModifyNetworkInterfaceAttribute, error))?;
    Ok(())
}

pub(super) async fn assign(
    client: &Client,
    eni: &EniId,
    wanted: &AddressRequest,
) -> Result<Assigned, CloudError> {
    const API: Api = Api::AssignPrivateIpAddresses;
    let request = client.assign_private_ip_addresses().network_interface_id(eni.as_str());
    let request = match wanted {
        AddressRequest::Count(0) | AddressRequest::Prefixes(0) => return Ok(Assigned::default()),
        AddressRequest::Addresses(addresses) if addresses.is_empty() => return Ok(Assigned::default()),
        AddressRequest::Count(count) => {
            request.secondary_private_ip_address_count(number(API, "address count", *count)?)
        }
        AddressRequest::Prefixes(count) => request.ipv4_prefix_count(number(API, "prefix count", *count)?),
        // EC2 moves an address from another ENI if reassignment is allowed: never, a pod there may hold it.
        AddressRequest::Addresses(addresses) => {
            request.set_private_ip_addresses(Some(ipv4(API, addresses)?)).allow_reassignment(false)
        }
    };
    let answer = request.send().await.map_err(|error| failed(API, error))?;
    parse::assigned(&Answer::of(API).about(eni), &answer)
}

pub(super) async fn unassign(
    client: &Client,
    eni: &EniId,
    addresses: &BTreeSet<IpAddr>,
    prefixes: &BTreeSet<IpNet>,
) -> Result<(), CloudError> {
    const API: Api = Api::UnassignPrivateIpAddresses;
    if addresses.is_empty() && prefixes.is_empty() {
        return Ok(());
    }
    let prefixes: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
    let addresses = ipv4(API, addresses)?;
    let request = client
        .unassign_private_ip_addresses()
        .network_interface_id(eni.as_str())
        .set_private_ip_addresses((!addresses.is_empty()).then_some(addresses))
        .set_ipv4_prefixes((!prefixes.is_empty()).then_some(prefixes));
    request.send().await.map_err(|error| failed(API, error))?;
    Ok(())
}

pub(super) async fn tag_eni(
    client: &Client,
    eni: &EniId,
    tags: &BTreeMap<String, String>,
) -> Result<(), CloudError> {
    if tags.is_empty() {
        return Ok(());
    }
    let request = client.create_tags().resources(eni.as_str()).set_tags(Some(request::tags(tags)));
    request.send().await.map_err(|error| failed(Api::CreateTags, error))?;
    Ok(())
}
