//! The agent: one per node. It drives the pure pool of `spur-ipamd-core` with I/O: the cloud, the kernel, a durable store, and
//! the socket on which the CNI plugin asks.
//!
//! Where to find what: [`config`] what an operator may say, [`store`] what survives, [`server`] who may ask, [`follow`] the
//! configuration while the agent runs, [`conflist`] how the runtime learns of us, [`agent`] everything put together; [`collect`]
//! deletes the leaked ENIs of a cluster; [`metrics`] what Prometheus may fetch.

pub mod agent;
pub mod chain;
pub mod collect;
pub mod config;
pub mod conflist;
pub mod controller;
pub mod follow;
pub mod metrics;
pub mod server;
pub mod store;
