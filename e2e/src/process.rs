//! Daemons under test: started in a network namespace, logging to a file, stopped by their own process id.
//!
//! Each runs in a process group of its own, so that an interrupt typed at the demo's terminal reaches the demo alone and the
//! demo takes its world down in order. Dropping a [`Daemon`] ends it: SIGTERM first, SIGKILL when it does not listen.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use spur_datapath::netns::NetNs;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a daemon may take to obey SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// The path of a program that `make build` made.
///
/// # Errors
/// When it is neither in `SPUR_BIN` nor beside this program.
pub fn binary(name: &str) -> Result<PathBuf> {
    let mut tried = Vec::new();
    let here = std::env::current_exe().context("find this program's own path")?;
    let dirs =
        std::env::var_os("SPUR_BIN").map(PathBuf::from).into_iter().chain(here.parent().map(Path::to_owned));
    for dir in dirs {
        let path = dir.join(name);
        if path.is_file() {
            return Ok(path);
        }
        tried.push(path.display().to_string());
    }
    bail!("{name} is not built: run `make build` (looked for {})", tried.join(", "))
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command` with its stderr in `log`; in `netns` if one is given.
    ///
    /// # Errors
    /// When the log cannot be made or the program cannot be started.
    pub fn start(name: &str, mut command: Command, netns: Option<&NetNs>, log: &Path) -> Result<Self> {
        let stderr = File::options().create(true).append(true).open(log);
        let stderr = stderr.with_context(|| format!("open the log of {name}"))?;
        command.stderr(stderr).stdin(Stdio::null()).process_group(0);
        let spawned = match netns {
            Some(netns) => netns.run(move || command.spawn())?,
            None => command.spawn(),
        };
        let child = spawned.with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// The first line of its standard output (the child must have been started with a piped stdout).
    ///
    /// # Errors
    /// When it ends, or says nothing within `timeout`; the end of its log is part of the error.
    pub fn first_line(&mut self, timeout: Duration) -> Result<String> {
        let stdout = self.child.stdout.take().context("standard output was not piped")?;
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            let _ = send.send(lines.next());
            // Keep reading: a full pipe would stop the daemon.
            lines.for_each(drop);
        });
        match receive.recv_timeout(timeout) {
            Ok(Some(Ok(line))) => Ok(line),
            Ok(Some(Err(error))) => Err(error).with_context(|| format!("read the output of {}", self.name)),
            Ok(None) => bail!("{} ended before it was ready:\n{}", self.name, self.log_tail()),
            Err(_) => bail!("{} was not ready within {timeout:?}:\n{}", self.name, self.log_tail()),
        }
    }

    /// What it is called in errors.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, if it has ended.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("wait for {}", self.name))
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // ESRCH: it is gone already, which is what a signal is for.
            let _ = kill_process(pid, signal);
        }
    }

    /// Ends it at this instant, as a crash would.
    ///
    /// # Errors
    /// When the kernel does not tell how it ended.
    pub fn kill(mut self) -> Result<()> {
        self.signal(Signal::KILL);
        self.child.wait().with_context(|| format!("wait for {}", self.name))?;
        Ok(())
    }

    /// Asks it to stop and waits.
    ///
    /// # Errors
    /// When it does not stop in time or ends with a failure.
    pub fn stop(mut self) -> Result<()> {
        let status = self.terminate()?;
        if !status.success() {
            bail!("{} ended with {status}:\n{}", self.name, self.log_tail());
        }
        Ok(())
    }

    fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.signal(Signal::KILL);
        let _ = self.child.wait();
        bail!("{} did not stop within {STOP_TIMEOUT:?} of SIGTERM:\n{}", self.name, self.log_tail())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // The way out after a failure: the first error is the one that is reported.
            let _ = self.terminate();
        }
    }
}
