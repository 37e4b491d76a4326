//! Network interfaces and what an assignment added.

use super::answer::{Answer, tags};
use aws_sdk_ec2::operation::assign_private_ip_addresses::AssignPrivateIpAddressesOutput;
use aws_sdk_ec2::types::{Ipv4PrefixSpecification, NetworkInterface, NetworkInterfaceAttachment};
use ipnet::IpNet;
use spur_cloud::{
    Assigned, Attachment, AttachmentStatus, CardIndex, CloudError, DeviceIndex, Eni, EniId, EniStatus,
};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// EC2 delegates IPv4 prefixes of this length only.
const PREFIX_LEN: u8 = 28;

pub(crate) fn eni(answer: &Answer, from: &NetworkInterface) -> Result<Eni, CloudError> {
    let id: EniId = answer.parsed("networkInterfaceId", from.network_interface_id())?;
    let answer = &answer.about(&id);
    let primary = primary_address(answer, from)?;
    Ok(Eni {
        mac: answer.parsed("macAddress", from.mac_address())?,
        subnet: answer.parsed("subnetId", from.subnet_id())?,
        vpc: answer.parsed("vpcId", from.vpc_id())?,
        zone: answer.parsed("availabilityZone", from.availability_zone())?,
        security_groups: from
            .groups()
            .iter()
            .map(|group| answer.parsed("groupSet.groupId", group.group_id()))
            .collect::<Result<_, _>>()?,
        addresses: secondary_addresses(answer, from, primary)?,
        prefixes: from.ipv4_prefixes().iter().map(|spec| prefix(answer, spec)).collect::<Result<_, _>>()?,
        status: status(answer, from)?,
        attachment: from.attachment().map(|attachment| self::attachment(answer, attachment)).transpose()?,
        source_dest_check: answer.some("sourceDestCheck", from.source_dest_check())?,
        description: from.description().unwrap_or_default().to_owned(),
        tags: tags(from.tag_set.as_deref()),
        primary,
        id,
    })
}

/// EC2 shows no address of an ENI that has none; one with addresses must have a primary one.
fn primary_address(answer: &Answer, from: &NetworkInterface) -> Result<IpAddr, CloudError> {
    let shown = from.private_ip_address().filter(|text| !text.is_empty());
    if shown.is_none() && from.private_ip_addresses().is_empty() {
        return Ok(Eni::NO_ADDRESS);
    }
    answer.ipv4("privateIpAddress", shown)
}

/// Every private address but the primary one, which must be in the list, marked as such, and be the only one so marked.
fn secondary_addresses(
    answer: &Answer,
    from: &NetworkInterface,
    primary: IpAddr,
) -> Result<BTreeSet<IpAddr>, CloudError> {
    const FIELD: &str = "privateIpAddressesSet";
    let mut secondary = BTreeSet::new();
    let mut primaries = 0;
    for entry in from.private_ip_addresses() {
        let address = answer.ipv4("privateIpAddressesSet.privateIpAddress", entry.private_ip_address())?;
        if entry.primary() == Some(true) {
            primaries += 1;
        }
        if (entry.primary() == Some(true)) != (address == primary) {
            return Err(answer.bug(
                FIELD,
                format_args!("does not mark {primary}, the ENI's privateIpAddress, as primary"),
            ));
        }
        if address != primary && !secondary.insert(address) {
            return Err(answer.bug(FIELD, format_args!("has {address} twice, expected each address once")));
        }
    }
    if primaries == usize::from(primary != Eni::NO_ADDRESS) {
        Ok(secondary)
    } else {
        Err(answer.bug(FIELD, format_args!("has {primaries} primary addresses, expected one")))
    }
}

fn prefix(answer: &Answer, spec: &Ipv4PrefixSpecification) -> Result<IpNet, CloudError> {
    const FIELD: &str = "ipv4PrefixSet.ipv4Prefix";
    let net = answer.ipv4_net(FIELD, spec.ipv4_prefix())?;
    if net.prefix_len() == PREFIX_LEN {
        Ok(net)
    } else {
        Err(answer.bug(FIELD, format_args!("is {net}, expected a /{PREFIX_LEN}")))
    }
}

fn status(answer: &Answer, from: &NetworkInterface) -> Result<EniStatus, CloudError> {
    match answer.some("status", from.status().map(|status| status.as_str()))? {
        "pending" => Ok(EniStatus::Pending),
        "available" => Ok(EniStatus::Available),
        "attaching" => Ok(EniStatus::Attaching),
        "in-use" | "associated" => Ok(EniStatus::InUse),
        "detaching" => Ok(EniStatus::Detaching),
        other => Err(answer.bug(
            "status",
            format_args!("is {other:?}, expected pending, available, attaching, in-use or detaching"),
        )),
    }
}

fn attachment(answer: &Answer, from: &NetworkInterfaceAttachment) -> Result<Attachment, CloudError> {
    let instance = from.instance_id().filter(|id| !id.is_empty());
    Ok(Attachment {
        id: answer.parsed("attachment.attachmentId", from.attachment_id())?,
        instance: instance.map(|id| answer.parsed("attachment.instanceId", Some(id))).transpose()?,
        device_index: DeviceIndex(answer.count("attachment.deviceIndex", from.device_index())?),
        // Absent on types with a single card.
        card: CardIndex(answer.count("attachment.networkCardIndex", from.network_card_index().or(Some(0)))?),
        status: attachment_status(answer, from)?,
        delete_on_termination: answer.some("attachment.deleteOnTermination", from.delete_on_termination())?,
    })
}

fn attachment_status(
    answer: &Answer,
    from: &NetworkInterfaceAttachment,
) -> Result<AttachmentStatus, CloudError> {
    match answer.some("attachment.status", from.status().map(|status| status.as_str()))? {
        "attaching" => Ok(AttachmentStatus::Attaching),
        "attached" => Ok(AttachmentStatus::Attached),
        "detaching" => Ok(AttachmentStatus::Detaching),
        "detached" => Ok(AttachmentStatus::Detached),
        other => Err(answer.bug(
            "attachment.status",
            format_args!("is {other:?}, expected attaching, attached, detaching or detached"),
        )),
    }
}

pub(crate) fn assigned(
    answer: &Answer,
    from: &AssignPrivateIpAddressesOutput,
) -> Result<Assigned, CloudError> {
    const FIELD: &str = "assignedPrivateIpAddressesSet.privateIpAddress";
    let address =
        |entry: &aws_sdk_ec2::types::AssignedPrivateIpAddress| answer.ipv4(FIELD, entry.private_ip_address());
    Ok(Assigned {
        addresses: from.assigned_private_ip_addresses().iter().map(address).collect::<Result<_, _>>()?,
        prefixes: from
            .assigned_ipv4_prefixes()
            .iter()
            .map(|spec| prefix(answer, spec))
            .collect::<Result<_, _>>()?,
    })
}
