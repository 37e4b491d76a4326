//! A VPC on one Linux machine: what `vpcsim` does, for its binary and its tests.
//!
//! The model of EC2 is `vpcsim-ec2`, which knows neither sockets nor kernels; this crate gives it both. [`serve`] is the
//! API alone, [`up`] the whole world: [`world`] drives the model in real time, [`fabric`] is the network, [`http`] the
//! servers, [`registry`] remembers which namespaces are ours. Nothing in the product depends on this crate.

pub mod down;
pub mod error;
pub mod fabric;
pub mod http;
mod picture;
mod ready;
pub mod registry;
pub mod scenario;
pub mod serve;
pub mod up;
pub mod world;
