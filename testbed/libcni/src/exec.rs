//! Finding and executing one plugin: environment, standard input, standard output, and what a failure says.
//!
//! The child inherits this thread's namespaces; who wants a plugin to run on a node calls from there. Its standard error is read and becomes part of
//! a failure only when standard output is empty, as libcni has it. No time limit: libcni's callers set one, and tests have their own.

use serde::Deserialize;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use thiserror::Error;

/// Tries of a program that somebody is writing: one, and libcni's five more.
const BUSY_TRIES: u32 = 6;

/// The error object of the specification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Error, Deserialize)]
#[error("code {code}: {msg} {details}")]
#[serde(default)]
pub struct PluginError {
    /// The code; 0 when the plugin said nothing that could be read.
    pub code: u32,
    /// What went wrong.
    pub msg: String,
    /// More of it.
    pub details: String,
}

/// Why a plugin did not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExecError {
    /// There is no such program.
    #[error("{name:?} is in none of {path:?}")]
    NotFound {
        /// `type` of the plugin.
        name: String,
        /// Where it was looked for.
        path: Vec<PathBuf>,
    },
    /// It cannot be executed.
    #[error("execute {}", program.display())]
    Execute {
        /// The program.
        program: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// It failed.
    #[error("{} refused", program.display())]
    Refused {
        /// The program.
        program: PathBuf,
        /// In its own words.
        #[source]
        error: PluginError,
    },
}

/// One execution to be.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) program: PathBuf,
    /// `CNI_COMMAND` and the rest; what is not here comes from this process's environment.
    pub(crate) env: Vec<(&'static str, String)>,
    pub(crate) stdin: &'a [u8],
    /// The pause before a program that is being written is tried again.
    pub(crate) busy_pause: Duration,
}

/// The first regular file of this name.
pub(crate) fn find(name: &str, path: &[PathBuf]) -> Result<PathBuf, ExecError> {
    let candidates =
        path.iter().filter(|_| !name.is_empty() && !name.contains('/')).map(|dir| dir.join(name));
    let found = candidates.into_iter().find(|candidate| candidate.is_file());
    found.ok_or_else(|| ExecError::NotFound { name: name.to_owned(), path: path.to_owned() })
}

/// Executes a plugin and returns its standard output.
pub(crate) fn run(call: &Call<'_>) -> Result<Vec<u8>, ExecError> {
    let mut tries = 1;
    let output = loop {
        match spawn(call) {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                tries += 1;
                std::thread::sleep(call.busy_pause);
            }
            Err(cause) => return Err(ExecError::Execute { program: call.program.clone(), cause }),
            Ok(output) => break output,
        }
    };
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(ExecError::Refused { error: plugin_error(&call.program, &output), program: call.program.clone() })
}

fn spawn(call: &Call<'_>) -> std::io::Result<Output> {
    let mut command = Command::new(&call.program);
    command.envs(call.env.iter().map(|(key, value)| (key, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().expect("standard input is piped");
    // Beside reading: a plugin may answer before it has read everything, and pipes are short.
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || stdin.write_all(call.stdin));
        let output = child.wait_with_output();
        match writing.join() {
            // A plugin need not read its input.
            Ok(Err(error)) if error.kind() != ErrorKind::BrokenPipe => Err(error),
            _ => output,
        }
    })
}

fn plugin_error(program: &Path, output: &Output) -> PluginError {
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.stdout.is_empty() {
        let msg = if stderr.is_empty() {
            format!("{} said nothing: {}", program.display(), output.status)
        } else {
            format!("{} failed: {stderr:?}", program.display())
        };
        return PluginError { msg, ..PluginError::default() };
    }
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| PluginError {
        msg: format!(
            "{} printed no error object ({error}): {}",
            program.display(),
            output.stdout.escape_ascii()
        ),
        ..PluginError::default()
    })
}

#[cfg(test)]
mod tests;
