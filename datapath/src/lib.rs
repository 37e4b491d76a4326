//! Kernel work: netlink (links, addresses, routes, rules, neighbours), nftables, conntrack, network namespaces, sysctls;
//! and on top of them the two jobs of Spur on a node: wiring a pod ([`pod`]) and preparing the node ([`node`]).
//!
//! Blocking, no threads but the short ones that enter a namespace, no other program executed, no knowledge of clouds. What is
//! put where in the kernel is in [`layout`]; what names things get is in [`names`].

mod codec;
pub mod conntrack;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod layout;
pub mod names;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod node;
pub mod pod;
mod socket;
pub mod sysctl;
mod types;

pub use types::{IfName, IfNameError, LinkIndex, MacAddr, MacError, Mark, RulePriority, TableId};
