//! The reads of the fake cloud. Only ENIs lag; what a test built does not change behind its back.

use super::world::{World, error};
use crate::{
    Api, CloudError, Eni, EniQuery, ErrorClass, Instance, InstanceId, InstanceType, SecurityGroupId, Subnet,
    SubnetId, SubnetQuery, Vpc, VpcId,
};
use spur_quotas::InstanceLimits;
use std::collections::{BTreeMap, BTreeSet};

fn carries(tags: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| tags.get(key) == Some(value))
}

impl World {
    /// See [`crate::Cloud::instance_limits`]; the figures are those of the built-in table.
    pub fn instance_limits(
        &mut self,
        types: &BTreeSet<InstanceType>,
    ) -> Result<BTreeMap<InstanceType, InstanceLimits>, CloudError> {
        const API: Api = Api::DescribeInstanceTypes;
        self.call(API, |_| {
            let of = |name: &InstanceType| {
                let limits = spur_quotas::builtin(name.as_str()).ok_or_else(|| {
                    error(API, ErrorClass::NotFound, "InvalidInstanceType", format!("no type {name}"))
                })?;
                Ok((name.clone(), limits))
            };
            types.iter().map(of).collect()
        })
    }

    /// See [`crate::Cloud::instance`].
    pub fn instance(&mut self, id: &InstanceId) -> Result<Instance, CloudError> {
        const API: Api = Api::DescribeInstances;
        self.call(API, |world| {
            let machine = world.machines.get(id).ok_or_else(|| {
                error(API, ErrorClass::NotFound, "InvalidInstanceID.NotFound", format!("no instance {id}"))
            })?;
            let of_machine =
                |eni: &&Eni| eni.attachment.as_ref().is_some_and(|at| at.instance.as_ref() == Some(id));
            let enis = world.seen().values().filter(of_machine).map(|eni| eni.id.clone()).collect();
            Ok(Instance { enis, ..machine.facts.clone() })
        })
    }

    /// See [`crate::Cloud::existing_instances`].
    pub fn existing_instances(
        &mut self,
        ids: &BTreeSet<InstanceId>,
    ) -> Result<BTreeSet<InstanceId>, CloudError> {
        self.call(Api::DescribeInstances, |world| {
            Ok(ids.iter().filter(|id| world.machines.contains_key(id)).cloned().collect())
        })
    }

    /// See [`crate::Cloud::vpc`].
    pub fn vpc(&mut self, id: &VpcId) -> Result<Vpc, CloudError> {
        const API: Api = Api::DescribeVpcs;
        self.call(API, |world| {
            let vpc = world.vpcs.get(id).cloned();
            vpc.ok_or_else(|| {
                error(API, ErrorClass::NotFound, "InvalidVpcID.NotFound", format!("no VPC {id}"))
            })
        })
    }

    /// See [`crate::Cloud::subnets`].
    pub fn subnets(&mut self, query: &SubnetQuery) -> Result<Vec<Subnet>, CloudError> {
        self.call(Api::DescribeSubnets, |world| match query {
            SubnetQuery::ByIds(ids) => ids.iter().map(|id| world.subnet(Api::DescribeSubnets, id)).collect(),
            SubnetQuery::Tagged(vpc, tags) => {
                let matching =
                    world.subnets.values().filter(|subnet| subnet.vpc == *vpc && carries(&subnet.tags, tags));
                matching.map(|subnet| world.subnet(Api::DescribeSubnets, &subnet.id)).collect()
            }
        })
    }

    pub(super) fn subnet(&self, api: Api, id: &SubnetId) -> Result<Subnet, CloudError> {
        let not_found =
            || error(api, ErrorClass::NotFound, "InvalidSubnetID.NotFound", format!("no subnet {id}"));
        let (subnet, space) = self.subnets.get(id).zip(self.spaces.get(id)).ok_or_else(not_found)?;
        Ok(Subnet { free_addresses: space.free(), ..subnet.clone() })
    }

    /// See [`crate::Cloud::security_groups`].
    pub fn security_groups(
        &mut self,
        vpc: &VpcId,
        tags: &BTreeMap<String, String>,
    ) -> Result<BTreeSet<SecurityGroupId>, CloudError> {
        self.call(Api::DescribeSecurityGroups, |world| {
            let matching = world.groups.iter().filter(|(_, (home, own))| home == vpc && carries(own, tags));
            Ok(matching.map(|(id, _)| id.clone()).collect())
        })
    }

    /// See [`crate::Cloud::enis`].
    pub fn enis(&mut self, query: &EniQuery) -> Result<Vec<Eni>, CloudError> {
        const API: Api = Api::DescribeNetworkInterfaces;
        self.call(API, |world| {
            let seen = world.seen();
            match query {
                EniQuery::ByIds(ids) => {
                    let by_id = |id| {
                        seen.get(id).cloned().ok_or_else(|| {
                            let message = format!("no ENI {id}");
                            error(API, ErrorClass::NotFound, "InvalidNetworkInterfaceID.NotFound", message)
                        })
                    };
                    ids.iter().map(by_id).collect()
                }
                EniQuery::OfInstance(instance) => {
                    let of_instance = |eni: &&Eni| {
                        eni.attachment.as_ref().is_some_and(|at| at.instance.as_ref() == Some(instance))
                    };
                    Ok(seen.values().filter(of_instance).cloned().collect())
                }
                EniQuery::Tagged(vpc, tags) => {
                    let matching = seen.values().filter(|eni| eni.vpc == *vpc && carries(&eni.tags, tags));
                    Ok(matching.cloned().collect())
                }
            }
        })
    }
}
