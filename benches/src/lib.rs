//! Measures what Spur promises: how long a pod waits for its network, what routing costs with many pods on a node, and how
//! much memory it takes; always beside something that others use, in the same run.
//!
//! Rules of measuring: the sides take turns within each round and the order rotates, so that a machine that gets slower does
//! so for all; what is compared is the ratio within a round. Programs are executed from outside, as a runtime does, and nothing
//! here knows how the plugin does its work. A pod's removal is timed twice: until the plugin returns, and until the kernel shows
//! its interface no more, so that work which is put off is not hidden.
//!
//! A missed goal is a result, not a failure: the report says by how much. What fails is a measurement that could not be made.

pub mod exec;
pub mod goals;
pub mod layouts;
pub mod machine;
pub mod node;
pub mod packets;
pub mod parts;
pub mod plan;
pub mod plot;
pub mod progress;
pub mod report;
pub mod rounds;
pub mod run;
pub mod samples;
