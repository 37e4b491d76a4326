//! EC2's answers into domain types: the only place where an SDK structure is read.
//!
//! Total: an answer that makes no sense gives an error of class `Bug` that names the thing, the field by EC2's own name,
//! and what would be right; it never panics, and it never invents a value for a field that matters. IPv6 addresses of
//! an ENI are left out until Spur gives them to pods.

mod answer;
mod eni;
mod instance;
mod network;
mod route;

pub(crate) use answer::Answer;
pub(crate) use eni::{assigned, eni};
pub(crate) use instance::{existing_instance, instance, limits};
pub(crate) use network::{subnet, vpc};
pub(crate) use route::route_table;

#[cfg(test)]
mod tests;
