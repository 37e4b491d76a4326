//! The agent: one per node. It drives the pure pool of `spur-ipamd-core` with I/O.
pub mod config;
