//! What exists in the cloud: facts as EC2 reports them, parsed once at the edge. Plain data, ordered collections, so
//! that two observations of the same world are equal.

use crate::{
    AttachmentId, AvailabilityZone, CardIndex, DeviceIndex, EniId, InstanceId, InstanceType, MacAddr,
    SecurityGroupId, SubnetId, VpcId,
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// An elastic network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eni {
    /// Its id.
    pub id: EniId,
    /// Its hardware address; the netdev that appears in the instance carries it.
    pub mac: MacAddr,
    /// The subnet that its addresses come from.
    pub subnet: SubnetId,
    /// The VPC of that subnet.
    pub vpc: VpcId,
    /// The zone of that subnet.
    pub zone: AvailabilityZone,
    /// Security groups of the ENI.
    pub security_groups: BTreeSet<SecurityGroupId>,
    /// The primary private IPv4 address; it is never given to a pod. [`Eni::NO_ADDRESS`] on an ENI that has none.
    pub primary: IpAddr,
    /// Secondary private addresses, without the primary one.
    pub addresses: BTreeSet<IpAddr>,
    /// Delegated prefixes (/28 in IPv4).
    pub prefixes: BTreeSet<IpNet>,
    /// Where it is in its life.
    pub status: EniStatus,
    /// The attachment to an instance, if it has one.
    pub attachment: Option<Attachment>,
    /// Whether EC2 drops packets from or to addresses that are not the ENI's.
    pub source_dest_check: bool,
    /// The description given at creation.
    pub description: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

impl Eni {
    /// What stands for the primary address of an ENI without IPv4: one for EFA alone, or in a subnet for IPv6 alone. Somebody
    /// else has put it there; it takes a place on its instance, and that is all.
    pub const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    /// Whether it has IPv4 at all.
    #[must_use]
    pub fn has_address(&self) -> bool {
        self.primary != Self::NO_ADDRESS
    }
}

/// Life of an ENI, in EC2's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EniStatus {
    /// Created, not yet usable.
    Pending,
    /// Not attached.
    Available,
    /// An attachment is under way.
    Attaching,
    /// Attached.
    InUse,
    /// A detachment is under way.
    Detaching,
}

/// How an ENI is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The attachment's own id.
    pub id: AttachmentId,
    /// The instance; none if EC2 hides it (an ENI of another service or account).
    pub instance: Option<InstanceId>,
    /// Index on the network card.
    pub device_index: DeviceIndex,
    /// The network card.
    pub card: CardIndex,
    /// How far it is.
    pub status: AttachmentStatus,
    /// Whether EC2 deletes the ENI when its instance terminates.
    pub delete_on_termination: bool,
}

/// Life of an attachment, in EC2's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttachmentStatus {
    /// On its way in.
    Attaching,
    /// There.
    Attached,
    /// On its way out.
    Detaching,
    /// Gone.
    Detached,
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Its id.
    pub id: SubnetId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its zone.
    pub zone: AvailabilityZone,
    /// Its IPv4 CIDR.
    pub cidr: IpNet,
    /// Addresses that EC2 says are free; EC2's own five are already taken off.
    pub free_addresses: u32,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// A VPC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vpc {
    /// Its id.
    pub id: VpcId,
    /// Every associated CIDR, the primary one first.
    pub cidrs: Vec<IpNet>,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Its type.
    pub instance_type: InstanceType,
    /// Its zone.
    pub zone: AvailabilityZone,
    /// Its VPC.
    pub vpc: VpcId,
    /// The subnet of its primary ENI.
    pub subnet: SubnetId,
    /// Ids of its ENIs.
    pub enis: BTreeSet<EniId>,
}

/// What an assignment call really added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// New secondary addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// New prefixes.
    pub prefixes: BTreeSet<IpNet>,
}
