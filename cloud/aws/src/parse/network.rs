//! VPCs and subnets.

use super::answer::{Answer, tags};
use aws_sdk_ec2::types::{Subnet as SdkSubnet, Vpc as SdkVpc, VpcCidrBlockAssociation};
use ipnet::IpNet;
use spur_cloud::{CloudError, Subnet, SubnetId, Vpc, VpcId};

pub(crate) fn subnet(answer: &Answer, from: &SdkSubnet) -> Result<Subnet, CloudError> {
    let id: SubnetId = answer.parsed("subnetId", from.subnet_id())?;
    let answer = &answer.about(&id);
    let cidr = answer.ipv4_net("cidrBlock", from.cidr_block())?;
    let free_addresses = answer.count("availableIpAddressCount", from.available_ip_address_count())?;
    let size = 1_u64 << (32 - cidr.prefix_len());
    if u64::from(free_addresses) > size {
        let problem = format!("is {free_addresses}, but {cidr} has only {size} addresses");
        return Err(answer.bug("availableIpAddressCount", problem));
    }
    Ok(Subnet {
        vpc: answer.parsed("vpcId", from.vpc_id())?,
        zone: answer.parsed("availabilityZone", from.availability_zone())?,
        cidr,
        free_addresses,
        tags: tags(from.tags.as_deref()),
        id,
    })
}

pub(crate) fn vpc(answer: &Answer, from: &SdkVpc) -> Result<Vpc, CloudError> {
    let id: VpcId = answer.parsed("vpcId", from.vpc_id())?;
    let answer = &answer.about(&id);
    let mut cidrs = vec![answer.ipv4_net("cidrBlock", from.cidr_block())?];
    for association in from.cidr_block_association_set().iter().filter(|entry| in_force(entry)) {
        let cidr: IpNet = answer.ipv4_net("cidrBlockAssociationSet.cidrBlock", association.cidr_block())?;
        if !cidrs.contains(&cidr) {
            cidrs.push(cidr);
        }
    }
    Ok(Vpc { id, cidrs })
}

/// Whether packets to the CIDR may still be meant for the VPC: all but associations that failed or ended.
fn in_force(association: &VpcCidrBlockAssociation) -> bool {
    let state = association.cidr_block_state().and_then(|state| state.state()).map(|state| state.as_str());
    !matches!(state, Some("disassociated" | "failed" | "failing"))
}
