//! Where Spur puts things in a node's kernel: routing tables, rule priorities, marks, the route protocol that tags what
//! is ours, the nft table's name and chain priorities. Plugin, agent and tools read the numbers from here.
//!
//! | priority | rule | table |
//! |---|---|---|
//! | 512 | from all | [`PODS_TABLE`] |
//! | 1024 | fwmark [`PRIMARY_MARK`] | main |
//! | 1090 | no ENI's fwmark, no source yet | main |
//! | 1091 | no ENI's fwmark, from the primary ENI's address | main |
//! | 1100 + n | fwmark of ENI n | 5000 + n |
//! | 1200 + n | from ENI n's own address | 5000 + n |

use crate::netlink::RuleSpec;
use crate::{Mark, RulePriority, TableId};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// `rtm_protocol`, `FRA_PROTOCOL` and `IFA_PROTO` of everything of ours: not in use by any daemon in iproute2's list.
pub const PROTOCOL: u8 = 83;

/// The table that holds one host route per local pod.
pub const PODS_TABLE: TableId = TableId::new(5000);
/// Asked before everything but `local`: no match falls through.
pub const PODS_RULE: RulePriority = RulePriority::new(512);
/// Packets of flows through the primary ENI.
pub const PRIMARY_RULE: RulePriority = RulePriority::new(1024);
/// What the node itself sends and what has no source address yet. Such a packet would end in main after all rules of ENIs, too; here
/// it does not pass them one by one.
pub const UNBOUND_RULE: RulePriority = RulePriority::new(1090);
/// What the node itself sends from its primary address; as [`UNBOUND_RULE`].
pub const NODE_RULE: RulePriority = RulePriority::new(1091);
/// The mark of what no ENI was chosen for.
pub const NO_ENI_MARK: Mark = Mark { value: 0, mask: ENI_MASK };
/// The mark of flows through the primary ENI: those that came in by it for the host's own address, and those that are translated to its
/// address. The bit that the VPC CNI uses, too.
pub const PRIMARY_MARK: Mark = Mark { value: 0x80, mask: 0x80 };
/// The bits that hold the ordinal of an ENI.
pub const ENI_MASK: u32 = 0x7f;

/// The gateway that every pod sees; it exists only as a permanent neighbour in the pod.
pub const POD_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// How the host ends of pods' veths begin; Calico's policy-only mode expects it.
pub const HOST_VETH_PREFIX: &str = "eni";
/// The link group of the host ends of pods' veths: by it the agent knows what is its own to sweep.
pub const POD_GROUP: u32 = 5083;
/// The link group of host ends whose pod is gone: nothing leads to them any more, and they are deleted all at once.
pub const LEAVING_GROUP: u32 = 5084;
/// The nft table, in the family `ip` and, to refuse pods' IPv6, in the family `ip6`.
pub const NFT_TABLE: &str = "spur";
/// Counter of packets that pods sent with an address that is not theirs: in `ip spur` of forged IPv4, in `ip6 spur` of
/// all IPv6 while pods have no IPv6 address.
pub const SPOOFED_COUNTER: &str = "spoofed";
/// Counter of packets that pods sent to the instance metadata service, where that is blocked.
pub const METADATA_COUNTER: &str = "instance_metadata";
/// The instance metadata service. Its IPv6 address, fd00:ec2::254, is out of pods' reach like all IPv6.
pub const INSTANCE_METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// The number that the agent gives to a secondary ENI while it is attached: 1 to 99, so that the ranges of rule
/// priorities do not meet and the mark fits [`ENI_MASK`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EniOrdinal(u8);

/// The number cannot be an ENI's ordinal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no ordinal of a secondary ENI: expected 1 to {max}", max = EniOrdinal::MAX)]
pub struct OrdinalError(u32);

impl EniOrdinal {
    /// The highest ordinal.
    pub const MAX: u8 = 99;

    /// Checks the range.
    ///
    /// # Errors
    /// When the number is not 1 to 99.
    pub const fn new(number: u32) -> Result<Self, OrdinalError> {
        #[expect(clippy::cast_possible_truncation, reason = "at most 99")]
        match number {
            1..=99 => Ok(Self(number as u8)),
            _ => Err(OrdinalError(number)),
        }
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The ENI's routing table.
    #[must_use]
    pub const fn table(self) -> TableId {
        TableId::new(PODS_TABLE.number() + self.0 as u32)
    }

    /// The mark of packets whose source address is on the ENI.
    #[must_use]
    pub const fn mark(self) -> Mark {
        Mark { value: self.0 as u32, mask: ENI_MASK }
    }

    /// Priority of the rule that matches the mark.
    #[must_use]
    pub const fn mark_rule(self) -> RulePriority {
        RulePriority::new(1100 + self.0 as u32)
    }

    /// Priority of the rule that matches the ENI's own primary address.
    #[must_use]
    pub const fn source_rule(self) -> RulePriority {
        RulePriority::new(1200 + self.0 as u32)
    }
}

impl std::fmt::Display for EniOrdinal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ENI {}", self.0)
    }
}

/// The rules that keep the node's own packets from passing two rules per ENI on their way to main.
#[must_use]
pub fn shortcut_rules(primary: Ipv4Addr) -> [RuleSpec; 2] {
    [(UNBOUND_RULE, Ipv4Addr::UNSPECIFIED), (NODE_RULE, primary)].map(|(priority, source)| RuleSpec {
        mark: Some(NO_ENI_MARK),
        ..RuleSpec::from_source(priority, Ipv4Net::from(source).into(), TableId::MAIN)
    })
}

/// True when the table is one that only Spur writes: the pods' or an ENI's.
#[must_use]
pub const fn is_our_table(table: TableId) -> bool {
    table.number() >= PODS_TABLE.number() && table.number() <= PODS_TABLE.number() + EniOrdinal::MAX as u32
}
