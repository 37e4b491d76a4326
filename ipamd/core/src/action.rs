//! What the pool asks the shell to do. Data only, in the order in which it is to be begun; the shell executes without
//! deciding, several calls at a time, and reports each outcome as an `Event`.

use crate::event::Ticket;
use crate::finding::Finding;
use crate::record::{AttachmentKey, StoreChange};
use crate::wait::Wait;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use spur_cloud::{
    AddressRequest, Api, AttachmentId, CardIndex, CreateEni, DeviceIndex, EniId, EniQuery, InstanceId,
    MacAddr, Priority, SubnetId,
};
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

/// A call under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallId(pub u64);

/// A transaction under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StoreId(pub u64);

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make these changes durable, all or none, after all that were asked for before; then `Event::Stored` or `StoreFailed`.
    /// The shell may store more of its own in the same transaction, and may commit several transactions as one.
    Store {
        /// To report.
        id: StoreId,
        /// What.
        changes: Vec<StoreChange>,
    },
    /// Answer a request.
    Reply {
        /// Which.
        ticket: Ticket,
        /// How.
        reply: Reply,
    },
    /// Call the cloud; then `Event::CallFinished`.
    Call {
        /// To report.
        id: CallId,
        /// What.
        call: CloudCall,
        /// Why.
        reason: Reason,
    },
    /// Make the kernel like this; then `Event::DatapathApplied` or `DatapathFailed`. The newest one replaces all before it, applied or not.
    /// Never sent before the ENIs were observed, so a restart does not tear down what runs.
    Datapath(DatapathWanted),
    /// Look whether the kernel tracks connections to or from these addresses, whose rest is over otherwise; then `Event::FlowsSeen`. One
    /// question at a time, however many addresses: the kernel lists its whole table for it.
    ProbeFlows {
        /// Which.
        addresses: BTreeSet<IpAddr>,
    },
    /// Tell the operator: a contradiction was found or is over. Nothing is to be done.
    Report(Finding),
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The pod holds this address, durably, and the kernel is ready for it.
    Granted {
        /// Who.
        attachment: AttachmentKey,
        /// What.
        address: IpAddr,
        /// Whose address it is in the cloud.
        eni: EniId,
    },
    /// The attachment holds an address already.
    AlreadyHeld {
        /// Who.
        attachment: AttachmentKey,
        /// What.
        address: IpAddr,
    },
    /// An ADD of the same attachment is under way.
    Busy {
        /// Who.
        attachment: AttachmentKey,
    },
    /// No address came; what it waited for, weightiest first.
    Refused {
        /// The reasons.
        waits: Vec<Wait>,
    },
    /// These addresses were released and rest now; none if nothing was held.
    Released {
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// The store failed; nothing changed.
    StoreFailed {
        /// Why.
        message: String,
    },
}

/// A call of the `Cloud` trait.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the fields are the parameters of the method of the same name in spur_cloud::Cloud"
)]
pub enum CloudCall {
    /// `Cloud::enis`.
    ReadEnis(EniQuery),
    /// `Cloud::create_eni`.
    CreateEni(Box<CreateEni>),
    /// `Cloud::attach_eni`.
    AttachEni { eni: EniId, instance: InstanceId, index: DeviceIndex, card: CardIndex },
    /// `Cloud::set_delete_on_termination`, to true.
    SetDeleteOnTermination { eni: EniId, attachment: AttachmentId },
    /// `Cloud::detach_eni`.
    DetachEni { eni: EniId, attachment: AttachmentId },
    /// `Cloud::delete_eni`.
    DeleteEni { eni: EniId },
    /// `Cloud::assign`.
    Assign { eni: EniId, request: AddressRequest },
    /// `Cloud::unassign`, either of addresses or of prefixes: EC2 takes one kind at a time.
    Unassign { eni: EniId, addresses: BTreeSet<IpAddr>, prefixes: BTreeSet<IpNet> },
}

impl CloudCall {
    /// The EC2 action that it is.
    #[must_use]
    pub const fn api(&self) -> Api {
        match self {
            Self::ReadEnis(_) => Api::DescribeNetworkInterfaces,
            Self::CreateEni(_) => Api::CreateNetworkInterface,
            Self::AttachEni { .. } => Api::AttachNetworkInterface,
            Self::SetDeleteOnTermination { .. } => Api::ModifyNetworkInterfaceAttribute,
            Self::DetachEni { .. } => Api::DetachNetworkInterface,
            Self::DeleteEni { .. } => Api::DeleteNetworkInterface,
            Self::Assign { .. } => Api::AssignPrivateIpAddresses,
            Self::Unassign { .. } => Api::UnassignPrivateIpAddresses,
        }
    }

    /// The ENI that it changes; none for reads and creation.
    #[must_use]
    pub const fn changes(&self) -> Option<&EniId> {
        match self {
            Self::ReadEnis(_) | Self::CreateEni(_) => None,
            Self::AttachEni { eni, .. }
            | Self::SetDeleteOnTermination { eni, .. }
            | Self::DetachEni { eni, .. }
            | Self::DeleteEni { eni }
            | Self::Assign { eni, .. }
            | Self::Unassign { eni, .. } => Some(eni),
        }
    }
}

/// Why a call is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// To learn what there is, after a start.
    Start,
    /// To compare, as every so often.
    Reconcile,
    /// To learn what became of a call, or of an ENI.
    Look {
        /// What is not known.
        unclear: String,
    },
    /// To have more addresses.
    Grow {
        /// Pods that wait for one.
        waiting: u32,
        /// Addresses that lack for the targets.
        missing: u32,
    },
    /// To bring an ENI into use that was made before.
    BringUp,
    /// So that the ENI dies with its instance.
    DieWithInstance,
    /// EC2 lost an address that a pod holds.
    Repair {
        /// The address.
        address: IpAddr,
    },
    /// There are more free addresses than wanted.
    Shrink,
    /// The ENI is not needed.
    Unneeded,
}

impl Reason {
    /// How urgent a call for this reason is.
    #[must_use]
    pub const fn priority(&self) -> Priority {
        match self {
            Self::Repair { .. } | Self::BringUp => Priority::Pod,
            Self::Grow { waiting, .. } if *waiting > 0 => Priority::Pod,
            Self::Grow { .. } | Self::Start | Self::Reconcile | Self::Look { .. } => Priority::Stock,
            Self::Shrink | Self::DieWithInstance => Priority::Release,
            Self::Unneeded => Priority::Garbage,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("read the ENIs after a start"),
            Self::Reconcile => f.write_str("compare with EC2"),
            Self::Look { unclear } => write!(f, "find out: {unclear}"),
            Self::Grow { waiting, missing } => {
                write!(f, "{missing} addresses missing, {waiting} pods waiting")
            }
            Self::BringUp => f.write_str("bring the ENI into use"),
            Self::DieWithInstance => f.write_str("let the ENI die with its instance"),
            Self::Repair { address } => write!(f, "bring back {address}, which a pod holds"),
            Self::Shrink => f.write_str("give back addresses beyond the targets"),
            Self::Unneeded => f.write_str("the ENI is not needed"),
        }
    }
}

/// One ENI as the kernel shall know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EniDatapath {
    /// The ENI.
    pub eni: EniId,
    /// By which its netdev is found.
    pub mac: MacAddr,
    /// 0 for the primary ENI, 1 to 127 for others; stable for the life of the attachment.
    pub ordinal: u8,
    /// Its subnet, whose CIDR gives gateway and prefix length.
    pub subnet: SubnetId,
    /// Its own address.
    pub primary: IpAddr,
    /// Addresses for pods.
    pub addresses: BTreeSet<IpAddr>,
}

/// The whole of what the kernel shall know about ENIs; what is not in it is to be removed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DatapathWanted {
    /// Counts up with each change.
    pub generation: u64,
    /// By ordinal.
    pub enis: Vec<EniDatapath>,
}
