//! The [`Cloud`] that callers use.

use crate::folding::{Answer, Question, read};
use crate::shared::{Sent, Shared};
use ipnet::IpNet;
use spur_cloud::budget::Meter;
use spur_cloud::{
    AddressRequest, Api, Assigned, AttachmentId, CardIndex, Cloud, CloudError, CreateEni, DeviceIndex, Eni,
    EniId, EniQuery, Instance, InstanceId, InstanceType, Priority, SecurityGroupId, Subnet, SubnetQuery, Vpc,
    VpcId,
};
use spur_quotas::InstanceLimits;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

/// A cloud with a budget, for calls of one urgency.
#[derive(Debug)]
pub struct Prioritized<C> {
    shared: Arc<Shared<C>>,
    priority: Priority,
}

/// A write that was sent. Reads that begin before it is dropped are not shared with those who ask afterwards.
struct Writing<'a, C> {
    shared: &'a Shared<C>,
    sent: Sent,
    is_answered: bool,
}

impl<'a, C> Writing<'a, C> {
    fn begin(shared: &'a Shared<C>, sent: Sent) -> Self {
        shared.with(|books| books.reads.written());
        Self { shared, sent, is_answered: false }
    }
}

impl<C> Drop for Writing<'_, C> {
    fn drop(&mut self) {
        self.shared.with(|books| books.reads.written());
        if !self.is_answered {
            self.shared.abandoned(self.sent);
        }
    }
}

/// The answer of this kind, which is what the question of this kind gives.
macro_rules! read {
    ($self:ident, $question:expr, $kind:ident) => {
        match read(&$self.shared, $self.priority, $question).await? {
            Answer::$kind(answer) => Ok(answer),
            _ => unreachable!("a question is answered in its own kind"),
        }
    };
}

impl<C: Cloud> Prioritized<C> {
    pub(crate) const fn new(shared: Arc<Shared<C>>, priority: Priority) -> Self {
        Self { shared, priority }
    }

    /// The cloud below.
    pub(crate) fn below(&self) -> &C {
        &self.shared.cloud
    }

    /// A read that is not shared; `requests` says how many it took.
    pub(crate) async fn read_alone<T>(
        &self,
        api: Api,
        call: impl Future<Output = Result<T, CloudError>> + Send,
        requests: impl FnOnce(&T) -> u32 + Send,
    ) -> Result<T, CloudError> {
        let sent = self.wait(api).await?;
        let result = call.await;
        self.shared.answered(sent, result.as_ref().map_or(1, requests), &result);
        result
    }

    async fn wait(&self, api: Api) -> Result<Sent, CloudError> {
        let nothing_else = |_: &mut _, _| None::<Infallible>;
        match self.shared.turn(Meter::of(api), self.priority, nothing_else).await? {
            Ok(sent) => Ok(sent),
            Err(never) => match never {},
        }
    }

    pub(crate) async fn write<T>(
        &self,
        api: Api,
        call: impl Future<Output = Result<T, CloudError>> + Send,
    ) -> Result<T, CloudError> {
        let sent = self.wait(api).await?;
        let mut writing = Writing::begin(&self.shared, sent);
        let result = call.await;
        self.shared.answered(sent, 1, &result);
        writing.is_answered = true;
        result
    }
}

impl<C: Cloud> Cloud for Prioritized<C> {
    async fn instance_limits(
        &self,
        types: &BTreeSet<InstanceType>,
    ) -> Result<BTreeMap<InstanceType, InstanceLimits>, CloudError> {
        read!(self, Question::Limits(types.clone()), Limits)
    }

    async fn instance(&self, id: &InstanceId) -> Result<Instance, CloudError> {
        let found: Result<Box<Instance>, CloudError> = read!(self, Question::Instance(id.clone()), Instance);
        found.map(|found| *found)
    }

    async fn existing_instances(
        &self,
        ids: &BTreeSet<InstanceId>,
    ) -> Result<BTreeSet<InstanceId>, CloudError> {
        read!(self, Question::Existing(ids.clone()), Existing)
    }

    async fn vpc(&self, id: &VpcId) -> Result<Vpc, CloudError> {
        read!(self, Question::Vpc(id.clone()), Vpc)
    }

    async fn subnets(&self, query: &SubnetQuery) -> Result<Vec<Subnet>, CloudError> {
        let answer: Result<Vec<Subnet>, CloudError> = read!(self, Question::Subnets(query.clone()), Subnets);
        answer.inspect(|subnets| self.shared.with(|books| books.told(subnets)))
    }

    async fn security_groups(
        &self,
        vpc: &VpcId,
        tags: &BTreeMap<String, String>,
    ) -> Result<BTreeSet<SecurityGroupId>, CloudError> {
        read!(self, Question::Groups(vpc.clone(), tags.clone()), Groups)
    }

    async fn enis(&self, query: &EniQuery) -> Result<Vec<Eni>, CloudError> {
        read!(self, Question::Enis(query.clone()), Enis)
    }

    async fn create_eni(&self, wanted: &CreateEni) -> Result<Eni, CloudError> {
        self.write(Api::CreateNetworkInterface, self.shared.cloud.create_eni(wanted)).await
    }

    async fn attach_eni(
        &self,
        eni: &EniId,
        instance: &InstanceId,
        index: DeviceIndex,
        card: CardIndex,
    ) -> Result<AttachmentId, CloudError> {
        let call = self.shared.cloud.attach_eni(eni, instance, index, card);
        self.write(Api::AttachNetworkInterface, call).await
    }

    async fn detach_eni(&self, attachment: &AttachmentId) -> Result<(), CloudError> {
        self.write(Api::DetachNetworkInterface, self.shared.cloud.detach_eni(attachment)).await
    }

    async fn delete_eni(&self, eni: &EniId) -> Result<(), CloudError> {
        self.write(Api::DeleteNetworkInterface, self.shared.cloud.delete_eni(eni)).await
    }

    async fn set_delete_on_termination(
        &self,
        eni: &EniId,
        attachment: &AttachmentId,
        delete: bool,
    ) -> Result<(), CloudError> {
        let call = self.shared.cloud.set_delete_on_termination(eni, attachment, delete);
        self.write(Api::ModifyNetworkInterfaceAttribute, call).await
    }

    async fn set_source_dest_check(&self, eni: &EniId, check: bool) -> Result<(), CloudError> {
        let call = self.shared.cloud.set_source_dest_check(eni, check);
        self.write(Api::ModifyNetworkInterfaceAttribute, call).await
    }

    async fn assign(&self, eni: &EniId, request: &AddressRequest) -> Result<Assigned, CloudError> {
        self.write(Api::AssignPrivateIpAddresses, self.shared.cloud.assign(eni, request)).await
    }

    async fn unassign(
        &self,
        eni: &EniId,
        addresses: &BTreeSet<IpAddr>,
        prefixes: &BTreeSet<IpNet>,
    ) -> Result<(), CloudError> {
        let call = self.shared.cloud.unassign(eni, addresses, prefixes);
        self.write(Api::UnassignPrivateIpAddresses, call).await
    }

    async fn tag_eni(&self, eni: &EniId, tags: &BTreeMap<String, String>) -> Result<(), CloudError> {
        self.write(Api::CreateTags, self.shared.cloud.tag_eni(eni, tags)).await
    }
}
