//! The state of the fake cloud, its clock, and what a test may do to it from outside: build it, let time pass, break it.
//!
//! Attachments and detachments end at a point in virtual time. Reads see the ENIs as they were [`World::set_read_lag`] ago.

use super::routes::Routing;
use super::space::Space;
use crate::{
    Api, AttachmentId, AttachmentStatus, AvailabilityZone, ClientToken, CloudError, CreateEni, Eni, EniId,
    EniStatus, ErrorClass, Instance, InstanceId, InstanceType, MacAddr, SecurityGroupId, Subnet, SubnetId,
    Vpc, VpcId,
};
use ipnet::{IpNet, Ipv4Net};
use spur_quotas::InstanceLimits;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// What is done to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call has no effect and fails with this class.
    Refuse(ErrorClass),
    /// The call has its effect, and its answer is lost: the caller sees a `Transient` error.
    LoseReply,
}

/// A call that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// When, since the start of the world.
    pub at: Duration,
    /// Which action.
    pub api: Api,
    /// What the caller saw.
    pub outcome: Result<(), ErrorClass>,
}

#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) facts: Instance,
    pub(super) limits: InstanceLimits,
}

/// What an attachment becomes, and when.
#[derive(Debug, Clone)]
struct Transition {
    due: Duration,
    attachment: AttachmentId,
}

/// An in-memory cloud. See the module's documentation.
#[derive(Debug, Clone, Default)]
pub struct World {
    now: Duration,
    attach_delay: Duration,
    detach_delay: Duration,
    pub(super) read_lag: Duration,
    serial: u32,
    pub(super) vpcs: BTreeMap<VpcId, Vpc>,
    pub(super) subnets: BTreeMap<SubnetId, Subnet>,
    pub(super) spaces: BTreeMap<SubnetId, Space>,
    pub(super) groups: BTreeMap<SecurityGroupId, (VpcId, BTreeMap<String, String>)>,
    pub(super) machines: BTreeMap<InstanceId, Machine>,
    pub(super) enis: BTreeMap<EniId, Eni>,
    pub(super) routing: Routing,
    pub(super) tokens: BTreeMap<ClientToken, (CreateEni, Eni)>,
    history: VecDeque<(Duration, BTreeMap<EniId, Eni>)>,
    transitions: Vec<Transition>,
    faults: BTreeMap<Api, VecDeque<Fault>>,
    calls: Vec<Call>,
}

impl World {
    /// An empty world in which everything happens at once.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a VPC; its id is `vpc-<name>`.
    ///
    /// # Panics
    /// Like every builder here: when the name is no part of an id.
    pub fn add_vpc(&mut self, name: &str, cidrs: &[Ipv4Net]) -> VpcId {
        let id: VpcId = format!("vpc-{name}").parse().expect("a test names a VPC in lower case");
        self.vpcs.insert(
            id.clone(),
            Vpc { id: id.clone(), cidrs: cidrs.iter().copied().map(IpNet::V4).collect() },
        );
        id
    }

    /// Adds a subnet with all its addresses free; its id is `subnet-<name>`.
    pub fn add_subnet(&mut self, name: &str, vpc: &VpcId, zone: &str, cidr: Ipv4Net) -> SubnetId {
        let id: SubnetId = format!("subnet-{name}").parse().expect("a test names a subnet in lower case");
        let zone: AvailabilityZone = zone.parse().expect("a test names a zone in lower case");
        let (vpc, cidr_block, tags) = (vpc.clone(), IpNet::V4(cidr), BTreeMap::new());
        self.spaces.insert(id.clone(), Space::new(cidr));
        let subnet = Subnet { id: id.clone(), vpc, zone, cidr: cidr_block, free_addresses: 0, tags };
        self.subnets.insert(id.clone(), subnet);
        id
    }

    /// Sets a tag of a subnet.
    pub fn tag_subnet(&mut self, subnet: &SubnetId, key: &str, value: &str) {
        if let Some(subnet) = self.subnets.get_mut(subnet) {
            subnet.tags.insert(key.to_owned(), value.to_owned());
        }
    }

    /// Adds a security group; its id is `sg-<name>`.
    pub fn add_security_group(&mut self, name: &str, vpc: &VpcId, tags: &[(&str, &str)]) -> SecurityGroupId {
        let id: SecurityGroupId = format!("sg-{name}").parse().expect("a test names a group in lower case");
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.groups.insert(id.clone(), (vpc.clone(), tags));
        id
    }

    /// Starts an instance with a primary ENI in the subnet; its id is `i-<name>`. None if the type is not in the built-in
    /// table, or the subnet is unknown or full.
    pub fn add_instance(&mut self, name: &str, instance_type: &str, subnet: &SubnetId) -> Option<InstanceId> {
        self.add_machine(name, instance_type, spur_quotas::builtin(instance_type)?, subnet)
    }

    /// Starts an instance of a type that may be made up. None if the subnet is unknown or full.
    pub fn add_machine(
        &mut self,
        name: &str,
        instance_type: &str,
        limits: InstanceLimits,
        subnet: &SubnetId,
    ) -> Option<InstanceId> {
        let id: InstanceId = format!("i-{name}").parse().ok()?;
        let home = self.subnets.get(subnet)?.clone();
        let instance_type: InstanceType = instance_type.parse().ok()?;
        let eni = self.primary_eni(&home, &id)?;
        let enis = BTreeSet::from([eni.id.clone()]);
        let facts =
            Instance { id: id.clone(), instance_type, zone: home.zone, vpc: home.vpc, subnet: home.id, enis };
        self.machines.insert(id.clone(), Machine { facts, limits });
        self.enis.insert(eni.id.clone(), eni);
        self.changed();
        Some(id)
    }

    fn primary_eni(&mut self, home: &Subnet, instance: &InstanceId) -> Option<Eni> {
        let address = self.spaces.get(&home.id)?.pick(1)?.first().copied()?;
        self.spaces.get_mut(&home.id)?.take(address);
        let attachment = crate::Attachment {
            id: self.new_attachment_id(),
            instance: Some(instance.clone()),
            device_index: crate::DeviceIndex(0),
            card: crate::CardIndex(0),
            status: AttachmentStatus::Attached,
            delete_on_termination: true,
        };
        let (id, mac) = self.new_eni_id();
        Some(Eni {
            id,
            mac,
            subnet: home.id.clone(),
            vpc: home.vpc.clone(),
            zone: home.zone.clone(),
            security_groups: BTreeSet::new(),
            primary: address,
            addresses: BTreeSet::new(),
            prefixes: BTreeSet::new(),
            status: EniStatus::InUse,
            attachment: Some(attachment),
            source_dest_check: true,
            description: String::new(),
            tags: BTreeMap::new(),
        })
    }

    /// Terminates an instance: ENIs that die with it are gone, the others become available.
    pub fn terminate(&mut self, instance: &InstanceId) {
        self.machines.remove(instance);
        let attached =
            |eni: &Eni| eni.attachment.as_ref().is_some_and(|at| at.instance.as_ref() == Some(instance));
        let ids: Vec<EniId> =
            self.enis.values().filter(|eni| attached(eni)).map(|eni| eni.id.clone()).collect();
        for id in ids {
            let dies = self
                .enis
                .get(&id)
                .and_then(|eni| eni.attachment.as_ref())
                .is_some_and(|at| at.delete_on_termination);
            if dies {
                self.forget(&id);
            } else if let Some(eni) = self.enis.get_mut(&id) {
                eni.attachment = None;
                eni.status = EniStatus::Available;
            }
        }
        self.changed();
    }

    /// An ENI is gone from one moment to the next, attached or not, as when somebody removes it by hand.
    pub fn vanish(&mut self, eni: &EniId) {
        self.forget(eni);
    }

    /// How long an attachment and a detachment take from now on.
    pub const fn set_delays(&mut self, attach: Duration, detach: Duration) {
        self.attach_delay = attach;
        self.detach_delay = detach;
    }

    /// How old the ENIs are that a read shows, and for how long reads of route tables flip-flop after a write.
    pub const fn set_read_lag(&mut self, lag: Duration) {
        self.read_lag = lag;
    }

    /// The next call of this action meets the fault; several queue up.
    pub fn inject(&mut self, api: Api, fault: Fault) {
        self.faults.entry(api).or_default().push_back(fault);
    }

    /// Time since the start of the world.
    #[must_use]
    pub const fn now(&self) -> Duration {
        self.now
    }

    /// Every call so far.
    #[must_use]
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// The ENIs as they really are now, whatever the reads show.
    #[must_use]
    pub const fn true_enis(&self) -> &BTreeMap<EniId, Eni> {
        &self.enis
    }

    /// Lets time pass; attachments and detachments that are due end, in the order of their time.
    pub fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(at) = self.next_transition(until) {
            let transition = self.transitions.remove(at);
            self.now = transition.due;
            self.finish(&transition.attachment);
        }
        self.now = until;
    }

    fn next_transition(&self, until: Duration) -> Option<usize> {
        let due = self.transitions.iter().enumerate().filter(|(_, transition)| transition.due <= until);
        due.min_by_key(|(at, transition)| (transition.due, *at)).map(|(at, _)| at)
    }

    fn finish(&mut self, id: &AttachmentId) {
        let holds = |eni: &&mut Eni| eni.attachment.as_ref().is_some_and(|attachment| attachment.id == *id);
        let Some(eni) = self.enis.values_mut().find(holds) else { return };
        let Some(attachment) = &mut eni.attachment else { return };
        match attachment.status {
            AttachmentStatus::Attaching => {
                attachment.status = AttachmentStatus::Attached;
                eni.status = EniStatus::InUse;
            }
            AttachmentStatus::Detaching => {
                eni.attachment = None;
                eni.status = EniStatus::Available;
            }
            AttachmentStatus::Attached | AttachmentStatus::Detached => {}
        }
        self.changed();
    }

    pub(super) fn schedule(&mut self, attachment: &AttachmentId, detach: bool) {
        let delay = if detach { self.detach_delay } else { self.attach_delay };
        self.transitions.push(Transition { due: self.now + delay, attachment: attachment.clone() });
        // A delay of nothing ends at once, without anybody advancing the clock.
        self.advance(Duration::ZERO);
    }

    /// Removes an ENI and frees its addresses.
    pub(super) fn forget(&mut self, id: &EniId) {
        let Some(eni) = self.enis.remove(id) else { return };
        if let Some(space) = self.spaces.get_mut(&eni.subnet) {
            space.give_back(eni.primary);
            eni.addresses.iter().for_each(|address| space.give_back(*address));
            eni.prefixes.iter().for_each(|prefix| space.give_back_prefix(*prefix));
        }
        self.changed();
    }

    /// Remembers how the ENIs are now, for reads that lag. Within the lag every state is kept, and one older than it.
    pub(super) fn changed(&mut self) {
        self.history.push_back((self.now, self.enis.clone()));
        let horizon = self.now.saturating_sub(self.read_lag);
        while self.history.get(1).is_some_and(|(at, _)| *at <= horizon) {
            self.history.pop_front();
        }
    }

    /// The ENIs as a read sees them.
    pub(super) fn seen(&self) -> &BTreeMap<EniId, Eni> {
        let horizon = self.now.saturating_sub(self.read_lag);
        let old = self.history.iter().rev().find(|(at, _)| *at <= horizon);
        if self.read_lag.is_zero() { &self.enis } else { old.map_or(&self.enis, |(_, enis)| enis) }
    }

    pub(super) fn new_attachment_id(&mut self) -> AttachmentId {
        self.serial += 1;
        format!("eni-attach-{:017x}", self.serial).parse().expect("hexadecimal digits make an id")
    }

    pub(super) fn new_eni_id(&mut self) -> (EniId, MacAddr) {
        self.serial += 1;
        let [a, b, c, d] = self.serial.to_be_bytes();
        let id = format!("eni-{:017x}", self.serial).parse().expect("hexadecimal digits make an id");
        (id, MacAddr::new([0x02, 0x5f, a, b, c, d]))
    }

    /// Runs one call: faults first, then the effect, then the record.
    pub(super) fn call<T>(
        &mut self,
        api: Api,
        act: impl FnOnce(&mut Self) -> Result<T, CloudError>,
    ) -> Result<T, CloudError> {
        let fault = self.faults.get_mut(&api).and_then(VecDeque::pop_front);
        let outcome = match fault {
            Some(Fault::Refuse(class)) => {
                Err(error(api, class, "Injected", "the test wants this call to fail"))
            }
            Some(Fault::LoseReply) => {
                let lost = |_| error(api, ErrorClass::Transient, "Injected", "the answer was lost");
                act(self).map(lost).map_or_else(Err, Err)
            }
            None => act(self),
        };
        let seen = outcome.as_ref().map(|_| ()).map_err(CloudError::class);
        self.calls.push(Call { at: self.now, api, outcome: seen });
        outcome
    }
}

pub(super) fn error(api: Api, class: ErrorClass, code: &str, message: impl Into<String>) -> CloudError {
    CloudError { api, class, code: Some(code.to_owned()), message: message.into(), request_id: None }
}
