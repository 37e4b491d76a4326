//! Harness for the whole: a VPC on this machine, agents on its nodes, pods by the real plugin, real packets.
//!
//! Everything here drives programs from outside, as operators and runtimes do: vpcsim and the agents are processes, the plugin is
//! executed, EC2 is asked over HTTP. The demo (`spur-demo`) and the tests of the whole are built on it. It knows no
//! internals of the product but the namespaces of `datapath`.

pub mod checks;
pub mod cloud;
pub mod http;
pub mod interrupt;
pub mod process;
pub mod rest;
pub mod routes;
pub mod runtime;
pub mod snapshot;
pub mod table;
pub mod torture;
pub mod traffic;
pub mod upgrade;
pub mod world;
