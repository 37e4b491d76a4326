//! Contradictions between EC2 and our own book, by name. None of them is obeyed when a live pod would suffer; each is shown and
//! counted ([`Finding::kind`]) until it is over.

use crate::kind::kinds;
use ipnet::IpNet;
use serde::Serialize;
use spur_cloud::{EniId, SubnetId};
use std::fmt;
use std::net::IpAddr;

/// What EC2 shows and we did not expect.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Finding {
    /// EC2 does not show an address that a pod holds. Kept, and assigned again.
    HeldAddressMissing {
        /// The address.
        address: IpAddr,
        /// Its ENI.
        eni: EniId,
    },
    /// EC2 shows the address of a pod on another ENI. Kept where it is.
    HeldAddressElsewhere {
        /// The address.
        address: IpAddr,
        /// Our ENI for it.
        eni: EniId,
        /// EC2's.
        seen: EniId,
    },
    /// A pod holds an address outside the blocks that the controller granted. Kept until the pod is gone.
    HeldOutsideBlocks {
        /// The address.
        address: IpAddr,
    },
    /// An ENI with addresses of live pods is not attached (any more). Kept, not filled.
    HeldEniGone {
        /// The ENI.
        eni: EniId,
    },
    /// A free or resting address was taken away. Forgotten.
    AddressMissing {
        /// The address.
        address: IpAddr,
        /// Its ENI.
        eni: EniId,
    },
    /// An address appeared that we did not ask for. Taken into the stock.
    AddressAdopted {
        /// The address.
        address: IpAddr,
        /// Its ENI.
        eni: EniId,
    },
    /// An ENI without addresses of live pods is gone or not attached any more. Removed.
    EniGone {
        /// The ENI.
        eni: EniId,
    },
    /// An attached ENI is not ours. Left alone, counted against the limits.
    ForeignEni {
        /// The ENI.
        eni: EniId,
    },
    /// EC2 says that the instance may have fewer ENIs than its type.
    LowerEniLimit {
        /// So many.
        limit: u32,
    },
    /// An attachment did not come about in time. Given up.
    AttachTimedOut {
        /// The ENI.
        eni: EniId,
    },
    /// An address that a pod holds cannot be brought back: its network does not work. Tried again.
    PodNetworkBroken {
        /// The address.
        address: IpAddr,
        /// Its ENI.
        eni: EniId,
    },
    /// A prefix appeared that we did not ask for. Taken into the stock.
    PrefixAdopted {
        /// The prefix.
        prefix: IpNet,
        /// Its ENI.
        eni: EniId,
    },
    /// A subnet has free addresses, but no free /28. Single addresses are used there, and prefixes tried again later.
    SubnetFragmented {
        /// The subnet.
        subnet: SubnetId,
    },
    /// An unattached ENI of this node was found that nobody remembered. Taken into use, or deleted.
    LeftoverEni {
        /// The ENI.
        eni: EniId,
    },
    /// The kernel has tracked connections to an address for long after its pod was gone. It rests on.
    FlowsLinger {
        /// The address.
        address: IpAddr,
    },
    /// Nobody can tell which connections the kernel tracks. Addresses rest for the cooldown alone.
    FlowsUnknown {
        /// Why.
        message: String,
    },
    /// A block that the controller granted cannot be handed out. Ignored.
    UselessBlock {
        /// The block.
        block: IpNet,
    },
    /// An answer of EC2 made no sense. Ignored.
    BadAnswer {
        /// What it was.
        what: String,
    },
}

kinds! {
    Finding {
        HeldAddressMissing => "held_address_missing",
        HeldAddressElsewhere => "held_address_elsewhere",
        HeldOutsideBlocks => "held_outside_blocks",
        HeldEniGone => "held_eni_gone",
        AddressMissing => "address_missing",
        AddressAdopted => "address_adopted",
        EniGone => "eni_gone",
        ForeignEni => "foreign_eni",
        LowerEniLimit => "lower_eni_limit",
        AttachTimedOut => "attach_timed_out",
        PodNetworkBroken => "pod_network_broken",
        PrefixAdopted => "prefix_adopted",
        SubnetFragmented => "subnet_fragmented",
        LeftoverEni => "leftover_eni",
        FlowsLinger => "flows_linger",
        FlowsUnknown => "flows_unknown",
        UselessBlock => "useless_block",
        BadAnswer => "bad_answer",
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeldAddressMissing { address, eni } => {
                write!(f, "EC2 does not show {address} on {eni}, but a pod holds it: kept and assigned again")
            }
            Self::HeldAddressElsewhere { address, eni, seen } => {
                write!(f, "EC2 shows {address} on {seen}, but a pod holds it on {eni}: kept")
            }
            Self::HeldOutsideBlocks { address } => {
                write!(
                    f,
                    "a pod holds {address}, which is in none of the node's blocks: kept until the pod is gone"
                )
            }
            Self::HeldEniGone { eni } => {
                write!(f, "{eni} is not attached, but pods hold addresses of it: kept")
            }
            Self::AddressMissing { address, eni } => write!(f, "{address} vanished from {eni}: forgotten"),
            Self::AddressAdopted { address, eni } => {
                write!(f, "{address} appeared on {eni}: taken into the stock")
            }
            Self::EniGone { eni } => write!(f, "{eni} is not attached any more: removed"),
            Self::ForeignEni { eni } => write!(f, "{eni} is not ours: left alone"),
            Self::LowerEniLimit { limit } => write!(f, "EC2 allows {limit} ENIs here"),
            Self::AttachTimedOut { eni } => write!(f, "{eni} was not attached in time: given up"),
            Self::PodNetworkBroken { address, eni } => {
                write!(f, "{address} cannot be brought back to {eni}: the network of its pod does not work")
            }
            Self::PrefixAdopted { prefix, eni } => {
                write!(f, "{prefix} appeared on {eni}: taken into the stock")
            }
            Self::SubnetFragmented { subnet } => {
                write!(
                    f,
                    "{subnet} has free addresses, but no free /28: single addresses are used for a while"
                )
            }
            Self::LeftoverEni { eni } => write!(f, "{eni} was made for this node and forgotten: found again"),
            Self::FlowsLinger { address } => {
                write!(f, "connections to or from {address} go on after its pod is gone: it rests on")
            }
            Self::FlowsUnknown { message } => {
                write!(
                    f,
                    "tracked connections cannot be read ({message}): addresses rest for the cooldown alone"
                )
            }
            Self::UselessBlock { block } => {
                write!(f, "the granted block {block} is of no use: expected IPv4, a /20 at most")
            }
            Self::BadAnswer { what } => write!(f, "EC2's answer makes no sense: {what}"),
        }
    }
}
