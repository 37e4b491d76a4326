//! Tests of the whole, as operators would see it: vpcsim, agents, the plugin, real packets. They need root and namespaces.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod budget;
mod chain;
mod collect;
mod common;
mod containerd;
mod controller;
mod crash;
mod demo;
mod faults;
mod first_pod;
mod foreign;
mod metrics;
mod reload;
mod status;
mod store;
mod torture;
mod upgrade;
mod vpc_route;
