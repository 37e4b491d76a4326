//! The controller of `vpcRoute` mode against the in-memory cloud, in virtual time: every requirement by name, a property test over table
//! contents and faults, and figures.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod bench;
mod departures;
mod edges;
mod figures;
mod oracle;
mod property;
mod requirements;
