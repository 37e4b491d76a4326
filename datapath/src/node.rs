//! Prepares a node: what the agent wants of the kernel beyond single pods, as data; what is there; the difference as an
//! ordered list of changes, each with its reason; and the application of such a list.
//!
//! Ours are: rules and routes that carry our protocol number, the nft table, and the addresses of secondary ENIs on their own
//! links. Everything else is left alone. Applying a plan and planning again gives an empty plan. A link that has not appeared yet
//! is a reported absence, not an error: its ENI is prepared when it comes.

mod wanted;

pub use wanted::{NatWanted, NodeWanted, PortRange, PortRangeError, PrimaryEni, SecondaryEni};
