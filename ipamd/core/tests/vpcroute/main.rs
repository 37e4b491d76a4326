//! The controller of `vpcRoute` mode against the in-memory cloud, in virtual time: every requirement by name, a property test over table
//! contents and faults, and figures.

mod bench;
mod figures;
mod oracle;
mod property;
mod requirements;
