//! What an EC2 instance type may have: ENIs, IPv4 addresses per ENI, network cards, prefix delegation.
//!
//! Pure data and lookups, no I/O. The figures come from EC2's DescribeInstanceTypes; [`builtin`] is the table to fall back on when the API cannot be
//! asked. Only this crate makes an [`InstanceLimits`], and only a consistent one.

mod builtin;
mod generated;
mod limits;

pub use builtin::{builtin, builtin_types};
pub use limits::{Hypervisor, InstanceLimits, LimitsError, NetworkCard};
