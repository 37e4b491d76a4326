//! The CNI plugin `spur`: executed by the container runtime once per pod and verb. Blocking and single-threaded; it executes no
//! other program and knows nothing of clouds. The agent decides (which address, which table, which MTU), the plugin wires.
//!
//! Each verb goes the same way: observe (environment, standard input, namespace) → validate everything, all mistakes at
//! once → ask the agent → change the kernel → print. What a verb may run on is a type that only validation makes
//! (`request.rs`), so the steps cannot be called out of order. Standard output carries the result or the error object and
//! nothing else; the log goes to standard error or a file. `docs/cni.md` has the keys and the codes.

mod add;
mod agent;
mod args;
mod check;
mod code;
mod del;
#[cfg(test)]
mod docs;
mod env;
mod failure;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod gc;
mod input;
mod job;
mod log;
mod mistake;
mod names;
mod netconf;
mod previous;
mod request;
mod result;
mod status;
mod version;
mod wiring;

use crate::env::Environment;
use crate::failure::{ErrorReply, Failure};
pub use crate::gate::{Gate, Point};
use crate::input::InputError;
use crate::job::Job;
use crate::log::Log;
use crate::mistake::Mistake;
use crate::netconf::{LogConf, NetConf};
use crate::request::Input;
use crate::version::SpecVersion;
use serde::Serialize;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The verbs of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

/// How long VERSION waits for a configuration that it could do without.
const VERSION_PATIENCE: Duration = Duration::from_secs(1);
/// How long the others wait for one, before they know the configured timeout.
const INPUT_PATIENCE: Duration = Duration::from_secs(netconf::DEFAULT_TIMEOUT_SECONDS);

/// One invocation, from environment to exit code.
#[must_use]
pub fn run() -> ExitCode {
    run_through(&gate::open)
}

/// One invocation that fails where the gate is shut: for tests, which need a binary of their own for it.
#[must_use]
pub fn run_through(gate: Gate<'_>) -> ExitCode {
    let started = Instant::now();
    answer_panics();
    let env = Environment::observe(std::env::var_os);
    if env.command.is_missing() {
        return about();
    }
    let verb = parse_verb(&env);
    let input = observe_input(verb.as_ref().ok().copied(), started);
    let echo = echoed_version(&input);
    let outcome = match verb {
        Ok(Verb::Version) => print_versions(&input),
        Ok(verb) => dispatch(verb, &env, input, Start { at: started, gate }),
        Err(mistake) => Err(Failure::Invalid(vec![mistake])),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // If even this cannot be written, the exit code still says that something failed.
            let _ = print(&failure.reply(&echo));
            ExitCode::FAILURE
        }
    }
}

fn parse_verb(env: &Environment) -> Result<Verb, Mistake> {
    match env.command.text()? {
        Some("ADD") => Ok(Verb::Add),
        Some("DEL") => Ok(Verb::Del),
        Some("CHECK") => Ok(Verb::Check),
        Some("GC") => Ok(Verb::Gc),
        Some("STATUS") => Ok(Verb::Status),
        Some("VERSION") => Ok(Verb::Version),
        other => Err(Mistake::Command(other.unwrap_or_default().to_owned())),
    }
}

fn observe_input(verb: Option<Verb>, started: Instant) -> Input {
    let patience = if verb == Some(Verb::Version) { VERSION_PATIENCE } else { INPUT_PATIENCE };
    match input::read_to_end(&io::stdin(), started + patience) {
        Ok(bytes) => netconf::parse_object(&bytes),
        Err(InputError::Io(cause)) => Err(Mistake::Stdin(cause)),
        Err(InputError::TooLong) => Err(Mistake::StdinTooLong(input::MAX_INPUT)),
    }
}

fn echoed_version(input: &Input) -> String {
    input.as_ref().map_or(SpecVersion::LATEST.as_str(), netconf::version_to_echo).to_owned()
}

/// What an invocation begins with.
#[derive(Clone, Copy)]
struct Start<'a> {
    at: Instant,
    gate: Gate<'a>,
}

fn dispatch(verb: Verb, env: &Environment, input: Input, start: Start<'_>) -> Result<(), Failure> {
    let conf = input.as_ref().map_or_else(|_| LogConf::default(), netconf::parse_log);
    let log = Log::open(&conf, subject_of_log(verb, env));
    let outcome = match verb {
        Verb::Add => run_add(env, input, start, &log),
        Verb::Del => {
            let request = request::del(env, input).map_err(Failure::Invalid)?;
            del::del(&request, &start.job(&request.conf, &log))
        }
        Verb::Check => {
            let request = request::check(env, input, request::open_netns).map_err(Failure::Invalid)?;
            check::check(&request, start.at + request.add.conf.timeout)
        }
        Verb::Gc => gc::gc(&request::gc(env, input).map_err(Failure::Invalid)?, start.at, &log),
        Verb::Status => status::status(&request::status(input).map_err(Failure::Invalid)?, start.at),
        Verb::Version => print_versions(&input),
    };
    if let Err(failure) = &outcome {
        log.info(format_args!("failed: {failure}: {}", failure::causes(failure)));
    }
    outcome
}

impl<'a> Start<'a> {
    fn job(self, conf: &NetConf, log: &'a Log) -> Job<'a> {
        Job { deadline: self.at + conf.timeout, log, gate: self.gate }
    }
}

fn run_add(env: &Environment, input: Input, start: Start<'_>, log: &Log) -> Result<(), Failure> {
    let request = request::add(env, input, request::open_netns).map_err(Failure::Invalid)?;
    let job = start.job(&request.conf, log);
    let added = add::add(request, &job)?;
    let printed = job.pass(Point::Print).and_then(|()| print(&added.result).map_err(Failure::Print));
    printed.inspect_err(|_| added.undo(&job))
}

fn subject_of_log(verb: Verb, env: &Environment) -> String {
    // Not validated yet: a line's end in a variable must not make a second line of log.
    let text =
        |variable: &env::Variable| variable.text().ok().flatten().unwrap_or("-").escape_default().to_string();
    format!("{verb:?} {}/{}", text(&env.container_id), text(&env.if_name))
}

fn print_versions(input: &Input) -> Result<(), Failure> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Versions<'a> {
        cni_version: &'a str,
        supported_versions: [SpecVersion; SpecVersion::ALL.len()],
    }
    let given = input.as_ref().ok().filter(|object| object.contains_key("cniVersion"));
    let cni_version = given.map_or(SpecVersion::LATEST.as_str(), netconf::version_to_echo);
    print(&Versions { cni_version, supported_versions: SpecVersion::ALL }).map_err(Failure::Print)
}

fn about() -> ExitCode {
    eprintln!("Spur CNI plugin {}", env!("CARGO_PKG_VERSION"));
    eprintln!("CNI protocol versions supported: {}", SpecVersion::list());
    ExitCode::SUCCESS
}

/// One JSON value and a line's end, in one write.
fn print(value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.flush()
}

/// A bug must not look to the runtime like a plugin without an answer.
fn answer_panics() {
    std::panic::set_hook(Box::new(|info| {
        eprintln!("spur: {info}");
        let _ = print(&ErrorReply {
            cni_version: SpecVersion::LATEST.as_str(),
            code: code::Code::Internal,
            msg: format!("bug in the plugin: {info}"),
            details: String::new(),
        });
        std::process::exit(1);
    }));
}
