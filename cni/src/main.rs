//! The binary `spur`: what a container runtime executes once per pod and verb. Everything is in the library; this file exists
//! so that the library can be tested without a process per case. Standard output belongs to the CNI result or error alone,
//! standard error to the log, and the exit code is 0 exactly on success.

use std::process::ExitCode;

fn main() -> ExitCode {
    spur_cni::run()
}
