//! Executes a CNI plugin as a runtime does (environment, configuration on standard input, result on standard output) and takes
//! the time from before the fork until the process was waited for.
//!
//! The caller's thread enters the node's namespace first, outside of the measured time.

use anyhow::{Context, Result, bail};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use spur_datapath::netns::NetNs;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Long enough for any plugin to get as far as printing its result.
const UNTIL_PRINTING: Duration = Duration::from_millis(400);

/// One page: the smallest pipe that the kernel makes.
const PIPE_BYTES: usize = 4096;

/// An execution, ready to go.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The plugin.
    pub program: PathBuf,
    /// Its whole environment.
    pub env: Vec<(&'static str, String)>,
    /// Its standard input.
    pub stdin: Vec<u8>,
}

impl Invocation {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn start(&self, command: &mut Command) -> Result<Child> {
        let mut child = command.spawn().with_context(|| format!("execute {}", self.program.display()))?;
        let mut stdin = child.stdin.take().context("the plugin has no standard input")?;
        match stdin.write_all(&self.stdin) {
            // A plugin need not read it: its exit status tells whether it should have.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            other => other.context("write the configuration")?,
        }
        Ok(child)
    }

    /// What it printed, if it succeeded.
    fn printed(&self, output: Output) -> Result<Vec<u8>> {
        if !output.status.success() {
            let words = [output.stdout, output.stderr].concat();
            bail!(
                "{} ended with {}: {}",
                self.program.display(),
                output.status,
                String::from_utf8_lossy(&words)
            );
        }
        Ok(output.stdout)
    }
}

/// Executes all of them at once in the node's namespace; tells how long it took until the last one had ended, and what each printed.
///
/// # Errors
/// When one cannot be executed or fails, after all have ended.
pub fn run_all(node: &NetNs, invocations: &[Invocation]) -> Result<(Duration, Vec<Vec<u8>>)> {
    let (took, outputs) = node.run(|| {
        let mut commands: Vec<_> = invocations.iter().map(Invocation::command).collect();
        let begin = Instant::now();
        let children: Vec<_> =
            invocations.iter().zip(&mut commands).map(|(one, command)| one.start(command)).collect();
        // All are waited for, whatever became of the others.
        let outputs: Vec<_> = children
            .into_iter()
            .map(|child| child.and_then(|child| child.wait_with_output().context("wait for the plugin")))
            .collect();
        (begin.elapsed(), outputs)
    })?;
    let printed: Result<Vec<_>> =
        invocations.iter().zip(outputs).map(|(one, output)| one.printed(output?)).collect();
    Ok((took, printed?))
}

/// Executes it and tells the most memory that it had resident until it printed its result, in KiB, and the result.
///
/// The pipe for the result is full, so that the plugin stops where it prints and its own high-water mark can be read. (What `wait4`
/// tells would count this program's memory, too: the kernel takes the larger one of before and after `execve`.)
///
/// # Errors
/// When it cannot be executed or fails.
pub fn peak_memory(node: &NetNs, invocation: &Invocation) -> Result<(u64, Vec<u8>)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
    let full = vec![b' '; fcntl_setpipe_size(&writer, PIPE_BYTES).context("shrink the pipe")?];
    let mut writer = File::from(writer);
    writer.write_all(&full).context("fill the pipe")?;
    let child = node.run(|| {
        let mut command = invocation.command();
        command.stdout(writer).stderr(Stdio::null());
        invocation.start(&mut command)
    })?;
    let mut child = child?;
    std::thread::sleep(UNTIL_PRINTING);
    let peak = status_kib(child.id(), "VmHWM");
    // Whatever it told, the process is let go on and ends.
    let mut printed = Vec::new();
    File::from(reader).read_to_end(&mut printed).context("read the result")?;
    let status = child.wait().context("wait for the plugin")?;
    let result = printed.split_off(full.len().min(printed.len()));
    if !status.success() {
        bail!("{} ended with {status}: {}", invocation.program.display(), String::from_utf8_lossy(&result));
    }
    Ok((peak?, result))
}

/// A value in KiB of `/proc/<pid>/status`.
///
/// # Errors
/// When the process or the line is not there.
pub fn status_kib(pid: u32, name: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = line.and_then(|line| line.split_whitespace().next()).and_then(|value| value.parse().ok());
    value.with_context(|| format!("{path} has no {name}"))
}
