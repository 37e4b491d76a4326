//! An in-memory cloud for unit tests: it obeys the quotas of instance types, the free addresses of subnets, ClientToken
//! idempotency, and it attaches and detaches some time later, as EC2 does.
//!
//! Deterministic and without clock: time is what [`World::advance`] says. [`World`] is the synchronous model, for tests of
//! pure code; [`FakeCloud`] shares one and is a [`Cloud`]. Reads may lag behind effects ([`World::set_read_lag`]), calls
//! may be made to fail or to lose their answer ([`World::inject`]), and every call is recorded ([`World::calls`]).
//! It is no EC2: wire format, throttling by rate and packets are `vpcsim`'s.

mod effects;
mod reads;
mod routes;
mod space;
mod world;

pub use world::{Call, Fault, World};

use crate::{
    AddressRequest, Assigned, AttachmentId, CardIndex, Cloud, CloudError, CloudRoutes, CreateEni,
    DeviceIndex, Eni, EniId, EniQuery, Instance, InstanceId, InstanceType, RouteTable, RouteTableId,
    RouteTableQuery, SecurityGroupId, Subnet, SubnetQuery, Vpc, VpcId,
};
use ipnet::IpNet;
use spur_quotas::InstanceLimits;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// A shared [`World`] behind the [`Cloud`] trait. Clones see the same world.
#[derive(Debug, Clone, Default)]
pub struct FakeCloud {
    world: Arc<Mutex<World>>,
}

impl FakeCloud {
    /// A cloud that shows this world.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self { world: Arc::new(Mutex::new(world)) }
    }

    /// Looks at the world, or changes it behind the caller's back.
    pub fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        act(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Cloud for FakeCloud {
    async fn instance_limits(
        &self,
        types: &BTreeSet<InstanceType>,
    ) -> Result<BTreeMap<InstanceType, InstanceLimits>, CloudError> {
        self.with(|world| world.instance_limits(types))
    }

    async fn instance(&self, id: &InstanceId) -> Result<Instance, CloudError> {
        self.with(|world| world.instance(id))
    }

    async fn existing_instances(
        &self,
        ids: &BTreeSet<InstanceId>,
    ) -> Result<BTreeSet<InstanceId>, CloudError> {
        self.with(|world| world.existing_instances(ids))
    }

    async fn vpc(&self, id: &VpcId) -> Result<Vpc, CloudError> {
        self.with(|world| world.vpc(id))
    }

    async fn subnets(&self, query: &SubnetQuery) -> Result<Vec<Subnet>, CloudError> {
        self.with(|world| world.subnets(query))
    }

    async fn security_groups(
        &self,
        vpc: &VpcId,
        tags: &BTreeMap<String, String>,
    ) -> Result<BTreeSet<SecurityGroupId>, CloudError> {
        self.with(|world| world.security_groups(vpc, tags))
    }

    async fn enis(&self, query: &EniQuery) -> Result<Vec<Eni>, CloudError> {
        self.with(|world| world.enis(query))
    }

    async fn create_eni(&self, wanted: &CreateEni) -> Result<Eni, CloudError> {
        self.with(|world| world.create_eni(wanted))
    }

    async fn attach_eni(
        &self,
        eni: &EniId,
        instance: &InstanceId,
        index: DeviceIndex,
        card: CardIndex,
    ) -> Result<AttachmentId, CloudError> {
        self.with(|world| world.attach_eni(eni, instance, index, card))
    }

    async fn detach_eni(&self, attachment: &AttachmentId) -> Result<(), CloudError> {
        self.with(|world| world.detach_eni(attachment))
    }

    async fn delete_eni(&self, eni: &EniId) -> Result<(), CloudError> {
        self.with(|world| world.delete_eni(eni))
    }

    async fn set_delete_on_termination(
        &self,
        eni: &EniId,
        attachment: &AttachmentId,
        delete: bool,
    ) -> Result<(), CloudError> {
        self.with(|world| world.set_delete_on_termination(eni, attachment, delete))
    }

    async fn set_source_dest_check(&self, eni: &EniId, check: bool) -> Result<(), CloudError> {
        self.with(|world| world.set_source_dest_check(eni, check))
    }

    async fn assign(&self, eni: &EniId, request: &AddressRequest) -> Result<Assigned, CloudError> {
        self.with(|world| world.assign(eni, request))
    }

    async fn unassign(
        &self,
        eni: &EniId,
        addresses: &BTreeSet<IpAddr>,
        prefixes: &BTreeSet<IpNet>,
    ) -> Result<(), CloudError> {
        self.with(|world| world.unassign(eni, addresses, prefixes))
    }

    async fn tag_eni(&self, eni: &EniId, tags: &BTreeMap<String, String>) -> Result<(), CloudError> {
        self.with(|world| world.tag_eni(eni, tags))
    }
}

impl CloudRoutes for FakeCloud {
    async fn route_tables(&self, query: &RouteTableQuery) -> Result<Vec<RouteTable>, CloudError> {
        self.with(|world| world.route_tables(query))
    }

    async fn create_route(
        &self,
        table: &RouteTableId,
        destination: IpNet,
        target: &EniId,
    ) -> Result<(), CloudError> {
        self.with(|world| world.create_route(table, destination, target))
    }

    async fn replace_route(
        &self,
        table: &RouteTableId,
        destination: IpNet,
        target: &EniId,
    ) -> Result<(), CloudError> {
        self.with(|world| world.replace_route(table, destination, target))
    }

    async fn delete_route(&self, table: &RouteTableId, destination: IpNet) -> Result<(), CloudError> {
        self.with(|world| world.delete_route(table, destination))
    }

    async fn tag_route_table(
        &self,
        table: &RouteTableId,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), CloudError> {
        self.with(|world| world.tag_route_table(table, tags))
    }

    async fn untag_route_table(
        &self,
        table: &RouteTableId,
        keys: &BTreeSet<String>,
    ) -> Result<(), CloudError> {
        self.with(|world| world.untag_route_table(table, keys))
    }
}

#[cfg(test)]
mod route_tests;
#[cfg(test)]
mod tests;
