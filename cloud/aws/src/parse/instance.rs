//! Instances and instance types.

use super::answer::Answer;
use aws_sdk_ec2::types::{Instance as SdkInstance, InstanceTypeInfo, NetworkCardInfo};
use spur_cloud::{CloudError, Instance, InstanceId, InstanceType};
use spur_quotas::{Hypervisor, InstanceLimits, NetworkCard};

/// EC2 shows a terminated instance for an hour, without VPC and subnet.
fn is_terminated(instance: &SdkInstance) -> bool {
    instance.state().and_then(|state| state.name()).is_some_and(|name| name.as_str() == "terminated")
}

/// Its id, unless it is terminated.
pub(crate) fn existing_instance(
    answer: &Answer,
    from: &SdkInstance,
) -> Result<Option<InstanceId>, CloudError> {
    let id = answer.parsed("instanceId", from.instance_id())?;
    Ok((!is_terminated(from)).then_some(id))
}

pub(crate) fn instance(answer: &Answer, from: &SdkInstance) -> Result<Instance, CloudError> {
    let id: InstanceId = answer.parsed("instanceId", from.instance_id())?;
    let answer = &answer.about(&id);
    if is_terminated(from) {
        return Err(answer.not_found("is terminated"));
    }
    let zone = from.placement().and_then(|placement| placement.availability_zone());
    Ok(Instance {
        instance_type: answer.parsed("instanceType", from.instance_type().map(|name| name.as_str()))?,
        zone: answer.parsed("placement.availabilityZone", zone)?,
        vpc: answer.parsed("vpcId", from.vpc_id())?,
        subnet: answer.parsed("subnetId", from.subnet_id())?,
        enis: from
            .network_interfaces()
            .iter()
            .map(|eni| answer.parsed("networkInterfaceSet.networkInterfaceId", eni.network_interface_id()))
            .collect::<Result<_, _>>()?,
        id,
    })
}

pub(crate) fn limits(
    answer: &Answer,
    from: &InstanceTypeInfo,
) -> Result<(InstanceType, InstanceLimits), CloudError> {
    let name: InstanceType = answer.parsed("instanceType", from.instance_type().map(|name| name.as_str()))?;
    let answer = &answer.about(&name);
    let network = answer.some("networkInfo", from.network_info())?;
    let hypervisor = match from.hypervisor().map(|name| name.as_str()) {
        Some("nitro") => Hypervisor::Nitro,
        Some("xen") => Hypervisor::Xen,
        _ => Hypervisor::Unknown,
    };
    let limits = InstanceLimits::new(
        answer.count("networkInfo.maximumNetworkInterfaces", network.maximum_network_interfaces())?,
        answer.count("networkInfo.ipv4AddressesPerInterface", network.ipv4_addresses_per_interface())?,
        network.network_cards().iter().map(|info| card(answer, info)).collect::<Result<_, _>>()?,
        answer
            .count("networkInfo.defaultNetworkCardIndex", network.default_network_card_index().or(Some(0)))?,
        hypervisor,
        answer.some("bareMetal", from.bare_metal())?,
    )
    .map_err(|error| answer.bug("networkInfo", error))?;
    Ok((name, limits))
}

fn card(answer: &Answer, info: &NetworkCardInfo) -> Result<NetworkCard, CloudError> {
    Ok(NetworkCard {
        index: answer.count("networkInfo.networkCards.networkCardIndex", info.network_card_index())?,
        max_enis: answer
            .count("networkInfo.networkCards.maximumNetworkInterfaces", info.maximum_network_interfaces())?,
    })
}
