//! ENIs: what they are, and how they are made and deleted. Attaching is in `attach.rs`, addresses are in `address.rs`. Each
//! change is all or nothing: it checks everything first, or gives back what it took. An ENI that no instance limits may have
//! as many addresses as the largest type allows.

use super::{Tags, World};
use crate::error::{ApiError, Code};
use crate::id::{AttachmentId, EniId, InstanceId, Mac, SecurityGroupId, SubnetId};
use crate::random::Random;
use crate::time::SimTime;
use ipnet::Ipv4Net;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Addresses and prefixes that an ENI can have while no instance says less; no type has more.
pub(super) const MOST_PER_ENI: usize = 64;

/// An ENI.
#[derive(Debug, Clone)]
pub(crate) struct Eni {
    pub(crate) id: EniId,
    pub(crate) mac: Mac,
    pub(crate) subnet: SubnetId,
    pub(crate) groups: BTreeSet<SecurityGroupId>,
    pub(crate) description: String,
    pub(crate) primary: Ipv4Addr,
    /// In the order of assignment, as EC2 lists them.
    pub(crate) secondary: Vec<Ipv4Addr>,
    pub(crate) prefixes: Vec<Ipv4Net>,
    pub(crate) source_dest_check: bool,
    pub(crate) attachment: Option<Attachment>,
    pub(crate) tags: Tags,
    pub(crate) requester: String,
}

/// Where an ENI is attached, or about to be.
#[derive(Debug, Clone)]
pub(crate) struct Attachment {
    pub(crate) id: AttachmentId,
    pub(crate) instance: InstanceId,
    pub(crate) device_index: u32,
    pub(crate) card: u32,
    pub(crate) status: AttachmentStatus,
    pub(crate) delete_on_termination: bool,
    pub(crate) attached_at: SimTime,
    /// Whether its netdev has been in the node.
    pub(crate) arrived: bool,
}

/// How far an attachment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttachmentStatus {
    Attaching,
    Attached,
    Detaching,
}

impl AttachmentStatus {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Attaching => "attaching",
            Self::Attached => "attached",
            Self::Detaching => "detaching",
        }
    }
}

impl Attachment {
    /// Whether it is the one that the instance was launched with.
    pub(crate) const fn is_primary(&self) -> bool {
        self.device_index == 0 && self.card == 0
    }

    pub(crate) fn new(
        random: &mut Random,
        instance: InstanceId,
        device_index: u32,
        card: u32,
        now: SimTime,
    ) -> Self {
        Self {
            id: AttachmentId::draw(random),
            instance,
            device_index,
            card,
            status: AttachmentStatus::Attaching,
            delete_on_termination: false,
            attached_at: now,
            arrived: false,
        }
    }
}

/// Addresses that a call asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Wanted {
    #[default]
    Nothing,
    Count(u32),
    Addresses(Vec<Ipv4Addr>),
    PrefixCount(u32),
    Prefixes(Vec<Ipv4Net>),
}

impl Wanted {
    /// How many places it takes on the ENI.
    pub(crate) fn places(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Count(count) | Self::PrefixCount(count) => usize::try_from(*count).unwrap_or(usize::MAX),
            Self::Addresses(addresses) => addresses.len(),
            Self::Prefixes(prefixes) => prefixes.len(),
        }
    }
}

/// An ENI to be made.
#[derive(Debug, Clone)]
pub(crate) struct NewEni {
    pub(crate) subnet: SubnetId,
    pub(crate) groups: BTreeSet<SecurityGroupId>,
    pub(crate) description: String,
    pub(crate) primary: Option<Ipv4Addr>,
    pub(crate) wanted: Wanted,
    pub(crate) tags: Tags,
    pub(crate) requester: String,
}

/// What an assignment gave.
#[derive(Debug, Clone, Default)]
pub(crate) struct Got {
    pub(crate) addresses: Vec<Ipv4Addr>,
    pub(crate) prefixes: Vec<Ipv4Net>,
}

impl Eni {
    /// EC2's word for the ENI's state: it is in use from the first moment of an attachment to the last, and only the
    /// attachment itself says how far it is.
    pub(crate) const fn status(&self) -> &'static str {
        if self.attachment.is_some() { "in-use" } else { "available" }
    }

    /// The name that EC2's DNS gives an address.
    pub(crate) fn dns_name(address: Ipv4Addr, region: &str) -> String {
        let [a, b, c, d] = address.octets();
        let domain = if region == "us-east-1" { "ec2".to_owned() } else { format!("{region}.compute") };
        format!("ip-{a}-{b}-{c}-{d}.{domain}.internal")
    }

    pub(crate) fn places(&self) -> usize {
        1 + self.secondary.len() + self.prefixes.len()
    }
}

impl NewEni {
    /// One with nothing but a primary address that EC2 picks.
    pub(crate) fn plain(subnet: SubnetId, groups: BTreeSet<SecurityGroupId>) -> Self {
        Self {
            subnet,
            groups,
            description: String::new(),
            primary: None,
            wanted: Wanted::Nothing,
            tags: Tags::new(),
            requester: String::new(),
        }
    }
}

impl World {
    pub(crate) fn eni(&self, id: &EniId) -> Result<&Eni, ApiError> {
        self.enis.get(id).ok_or_else(|| no_eni(id))
    }

    pub(crate) fn eni_mut(&mut self, id: &EniId) -> Result<&mut Eni, ApiError> {
        self.enis.get_mut(id).ok_or_else(|| no_eni(id))
    }

    /// Makes an ENI.
    pub(crate) fn create_eni(&mut self, new: NewEni) -> Result<EniId, ApiError> {
        if new.wanted.places() >= MOST_PER_ENI {
            return Err(Code::AddressLimitExceeded.because("Number of private addresses will exceed limit."));
        }
        let primary = self.take_primary(&new.subnet, new.primary)?;
        let got = self
            .take(&new.subnet, &new.wanted)
            .inspect_err(|_| self.release(&new.subnet, &[primary], &[]))?;
        let id = EniId::draw(&mut self.random);
        let eni = Eni {
            id: id.clone(),
            mac: Mac::draw(&mut self.random),
            subnet: new.subnet,
            groups: new.groups,
            description: new.description,
            primary,
            secondary: got.addresses,
            prefixes: got.prefixes,
            source_dest_check: true,
            attachment: None,
            tags: new.tags,
            requester: new.requester,
        };
        self.enis.insert(id.clone(), eni);
        Ok(id)
    }

    /// Deletes an ENI that is not attached.
    pub(crate) fn delete_eni(&mut self, id: &EniId) -> Result<(), ApiError> {
        if self.eni(id)?.attachment.is_some() {
            // Not InvalidNetworkInterface.InUse: that is AttachNetworkInterface's answer.
            return Err(
                Code::InvalidParameterValue.because(format!("Network interface '{id}' is currently in use."))
            );
        }
        if let Some(eni) = self.enis.remove(id) {
            let mut addresses = eni.secondary;
            addresses.push(eni.primary);
            self.release(&eni.subnet, &addresses, &eni.prefixes);
        }
        Ok(())
    }
}

fn no_eni(eni: &EniId) -> ApiError {
    Code::EniNotFound.because(format!("The networkInterface ID '{eni}' does not exist"))
}
