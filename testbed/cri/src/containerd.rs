//! A containerd of the testbed as a guard: started on a node, ended with everything in it when dropped.
//!
//! The script `testbed/containerd/start` owns namespaces, configuration and clean-up; this owns only its process. The guard waits for the
//! script after SIGTERM, because the script removes the cgroups after the last process: when the drop is over, nothing is left.

use crate::{Client, CriError};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use thiserror::Error;

/// How long containerd may take to serve; it takes one to two seconds.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long it may take to find its CNI configuration, which is there already.
const NETWORK_TIMEOUT: Duration = Duration::from_secs(60);

/// Why no containerd runs.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The script cannot be executed.
    #[error("execute {}", script.display())]
    Execute {
        /// The script.
        script: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// It ended, or said something else than that it is ready. What went wrong is on its standard error, which is the test's.
    #[error("containerd did not start; it said {said:?}")]
    Start {
        /// Its standard output until then.
        said: String,
    },
    /// It said nothing in time.
    #[error("containerd was not ready within {0:?}")]
    Late(Duration),
    /// It runs, but does not serve.
    #[error("ask containerd whether it is ready")]
    Serve(#[source] CriError),
}

/// Where a containerd runs and where it finds its CNI plugins.
#[derive(Debug)]
pub struct Place<'a> {
    /// The node's network namespace: a name beneath `/run/netns`, or a path.
    pub netns: &'a Path,
    /// A directory for configuration, log and socket.
    pub dir: &'a Path,
    /// Where the CNI plugins are.
    pub cni_bin: &'a Path,
    /// Where the CNI configuration is.
    pub cni_conf: &'a Path,
    /// Paths beneath `/run` and `/var/lib` that stay visible on the node.
    pub keep: &'a [&'a Path],
}

/// A containerd on one node.
#[derive(Debug)]
pub struct Containerd {
    script: Child,
    socket: PathBuf,
}

impl Containerd {
    /// Starts one and waits until it and its network are ready.
    ///
    /// # Errors
    /// When it does not come up; then nothing is left of it.
    pub fn start(place: &Place<'_>) -> Result<Self, StartError> {
        let mut running = Self { script: spawn(place)?, socket: PathBuf::new() };
        let stdout = running.script.stdout.take().expect("its standard output was piped");
        running.socket = ready(stdout)?;
        running
            .client()
            .and_then(|mut client| client.wait_ready(NETWORK_TIMEOUT))
            .map_err(StartError::Serve)?;
        Ok(running)
    }

    /// A new connection to it.
    ///
    /// # Errors
    /// When it does not serve any more.
    pub fn client(&self) -> Result<Client, CriError> {
        Client::connect(&self.socket)
    }

    /// The process that owns it: after SIGTERM, or SIGKILL, everything in it ends.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.script.id()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if matches!(self.script.try_wait(), Ok(None)) {
            if let Some(pid) = i32::try_from(self.script.id()).ok().and_then(Pid::from_raw) {
                // ESRCH: it is gone already, which is what a signal is for.
                let _ = kill_process(pid, Signal::TERM);
            }
            // The script gives up by itself when something cannot be removed, so this ends.
            let _ = self.script.wait();
        }
    }
}

fn spawn(place: &Place<'_>) -> Result<Child, StartError> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../containerd/start");
    let mut command = Command::new(&script);
    command.arg(place.netns).arg(place.dir);
    command.arg("--cni-bin").arg(place.cni_bin).arg("--cni-conf").arg(place.cni_conf);
    for path in place.keep {
        command.arg("--keep").arg(path);
    }
    // A group of its own: an interrupt typed at the terminal is the test's, which ends this in order.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    command.spawn().map_err(|cause| StartError::Execute { script, cause })
}

fn ready(stdout: ChildStdout) -> Result<PathBuf, StartError> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let mut stdout = BufReader::new(stdout);
        // What cannot be read is an empty line, and that is no socket.
        let _ = stdout.read_line(&mut line);
        let _ = send.send(line);
    });
    let line = receive.recv_timeout(START_TIMEOUT).map_err(|_| StartError::Late(START_TIMEOUT))?;
    match line.trim_end().strip_prefix("ready ") {
        Some(socket) => Ok(PathBuf::from(socket)),
        None => Err(StartError::Start { said: line }),
    }
}
