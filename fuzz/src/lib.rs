//! Everything in Spur and vpcsim that reads bytes of others, each as a function from bytes to "accepted?" that panics on what must
//! never happen. [`TARGETS`] lists them; libFuzzer drives them (`fuzz_targets/`), and `tests/replay.rs` replays the corpus.
//!
//! Two edges are compiled from the very source files of crates that would bring the AWS SDK with them (minutes, gigabytes):
//! the agent's configuration and its reader of metadata. Not reached without the SDK, and so not here: the readers of EC2's
//! answers in `cloud/aws/src/parse`, which take the SDK's own types; `cloud/aws/src/client/hostile.rs` damages answers at random instead.

#[cfg(not(fuzzing))]
compile_error!("build this with RUSTFLAGS=\"--cfg fuzzing\", as `make fuzz` and `make replay` do");

mod ec2;
mod imds_answer;

// Public, so that what the fuzzer does not call counts as used.
#[doc(hidden)]
pub mod agent;
#[doc(hidden)]
#[path = "../../ipamd/src/config/mod.rs"]
pub mod config;

/// A target: true when the bytes were accepted.
pub type Target = fn(&[u8]) -> bool;

/// Every target and its name, which is also its directory in the corpus.
pub const TARGETS: [(&str, Target); 11] = [
    // The plugin.
    ("stdin", spur_cni::fuzzing::stdin),
    ("environment", spur_cni::fuzzing::environment),
    ("previous_result", spur_cni::fuzzing::previous_result),
    ("response", spur_cni::fuzzing::response),
    // The kernel's answers, to plugin and agent.
    ("kernel", spur_datapath::fuzzing::kernel),
    // The agent.
    ("request", agent::request),
    ("agent_config", agent::configuration),
    ("imds_answer", imds_answer::read),
    // vpcsim.
    ("ec2_query", ec2::query),
    ("scenario", ec2::scenario),
    ("imds_request", ec2::metadata),
];

/// The target of that name.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn target(name: &str) -> Target {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.map(|(_, target)| *target).expect("every file of fuzz_targets names a target")
}
