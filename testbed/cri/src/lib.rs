//! A small client of the Container Runtime Interface: what a kubelet asks of a runtime to run a pod, as blocking calls.
//!
//! Owns one connection over a Unix socket and the reactor under it, so that a plain test can drive a real runtime without
//! being async itself. Refuses to be complete: no streaming, no images to pull (the testbed's runtime holds one image, [`IMAGE`]), no resources.
//! Every call has a deadline, because a test that hangs says nothing. The client keeps no state: ids are the caller's.

mod containerd;
mod grpc;
mod message;

pub use containerd::{Containerd, Place, StartError};
pub use grpc::GrpcError;
pub use testbed_libcni::reference_plugins;

use grpc::Connection;
use message as m;
use prost::Message;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::runtime::{Builder, Runtime};

/// The one image that the testbed's runtime holds: busybox, for sandboxes and containers alike.
pub const IMAGE: &str = "testbed.local/busybox:1";

/// How long a call may take. `RunPodSandbox` includes the whole ADD, whose own limit is 30 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// The time between two looks at a runtime that is not ready yet.
const POLL: Duration = Duration::from_millis(20);

/// Why a call to the runtime failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CriError {
    /// The reactor under the connection cannot be made.
    #[error("start the reactor of the CRI client")]
    Reactor(#[source] std::io::Error),
    /// Nobody serves there.
    #[error("connect to the runtime at {}", socket.display())]
    Connect {
        /// The runtime's socket.
        socket: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// The runtime refused or did not answer.
    #[error("{call}")]
    Call {
        /// The method of `runtime.v1.RuntimeService`.
        call: &'static str,
        /// Why; what the runtime said, which includes what a CNI plugin said.
        #[source]
        cause: GrpcError,
    },
    /// The answer lacks what it must have.
    #[error("{call}: the runtime's answer has no usable {field}")]
    Answer {
        /// The method.
        call: &'static str,
        /// What is missing or malformed.
        field: &'static str,
    },
    /// Runtime and network did not get ready.
    #[error("the runtime was not ready within {waited:?}: {reason}")]
    NotReady {
        /// How long it was waited for.
        waited: Duration,
        /// What the runtime says of itself.
        reason: String,
    },
}

/// The identity of a pod, as the kubelet gives it to the runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodSpec {
    /// Pod name.
    pub name: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Pod uid.
    pub uid: String,
    /// How many sandboxes this pod had before.
    pub attempt: u32,
    /// TCP ports of the node that lead to the pod: on the node, in the pod.
    pub ports: Vec<(u16, u16)>,
    /// Annotations; some tell the runtime what to ask of the network, such as `kubernetes.io/ingress-bandwidth`.
    pub annotations: Vec<(String, String)>,
}

/// A sandbox as the runtime sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Whether its processes and network stand.
    pub ready: bool,
    /// Its addresses, the primary one first; none for a sandbox without network.
    pub addresses: Vec<IpAddr>,
}

/// What a command within a container left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// Its exit code.
    pub code: i32,
    /// Standard output; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

/// A connection to one runtime.
#[derive(Debug)]
pub struct Client {
    reactor: Runtime,
    connection: Connection,
}

impl Client {
    /// Connects to the runtime that listens at `socket`.
    ///
    /// # Errors
    /// When nobody serves there.
    pub fn connect(socket: &Path) -> Result<Self, CriError> {
        let reactor = Builder::new_current_thread().enable_all().build().map_err(CriError::Reactor)?;
        let connection = reactor
            .block_on(Connection::open(socket))
            .map_err(|cause| CriError::Connect { socket: socket.to_owned(), cause })?;
        Ok(Self { reactor, connection })
    }

    /// Waits until the runtime says that it and its network are ready, which is: it has read a CNI configuration.
    ///
    /// # Errors
    /// When it does not within `timeout`; its own reason is in the error.
    pub fn wait_ready(&mut self, timeout: Duration) -> Result<(), CriError> {
        let start = Instant::now();
        loop {
            let reason = match self.call::<m::StatusResponse>("Status", &m::Empty {}) {
                Ok(answer) => match not_ready(&answer) {
                    None => return Ok(()),
                    Some(reason) => reason,
                },
                // Until its plugins are loaded, containerd answers with an error.
                Err(error) => chain(&error),
            };
            if start.elapsed() >= timeout {
                return Err(CriError::NotReady { waited: timeout, reason });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Makes a pod's sandbox, network included, and returns its id.
    ///
    /// # Errors
    /// When the runtime or the CNI plugin refuses.
    pub fn run_pod_sandbox(&mut self, pod: &PodSpec) -> Result<String, CriError> {
        let request = m::RunPodSandboxRequest { config: Some(pod.config()) };
        let answer: m::PodSandboxName = self.call("RunPodSandbox", &request)?;
        present("RunPodSandbox", "pod_sandbox_id", answer.pod_sandbox_id)
    }

    /// How a sandbox is.
    ///
    /// # Errors
    /// When there is none of this id, or the runtime reports what is no address.
    pub fn pod_sandbox_status(&mut self, id: &str) -> Result<Sandbox, CriError> {
        const CALL: &str = "PodSandboxStatus";
        let answer: m::PodSandboxStatusResponse = self.call(CALL, &sandbox(id))?;
        let status = answer.status.ok_or(CriError::Answer { call: CALL, field: "status" })?;
        let network = status.network.unwrap_or_default();
        let addresses = std::iter::once(network.ip)
            .chain(network.additional_ips.into_iter().map(|more| more.ip))
            .filter(|address| !address.is_empty())
            .map(|address| address.parse().map_err(|_| CriError::Answer { call: CALL, field: "ip" }))
            .collect::<Result<_, _>>()?;
        Ok(Sandbox { ready: status.state == 0, addresses })
    }

    /// The ids of all sandboxes, stopped ones included.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub fn pod_sandboxes(&mut self) -> Result<Vec<String>, CriError> {
        let answer: m::PodSandboxList = self.call("ListPodSandbox", &m::Empty {})?;
        Ok(answer.items.into_iter().map(|item| item.id).collect())
    }

    /// Makes and starts a container of [`IMAGE`] in a sandbox; `command` is its program with arguments. Returns its id.
    ///
    /// # Errors
    /// When the runtime refuses.
    pub fn run_container(
        &mut self,
        sandbox: &str,
        pod: &PodSpec,
        name: &str,
        command: &[&str],
    ) -> Result<String, CriError> {
        let config = m::ContainerConfig {
            metadata: Some(m::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(m::ImageSpec { image: IMAGE.to_owned() }),
            command: owned(command),
            linux: Some(m::LinuxContainerConfig {}),
        };
        let request = m::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(pod.config()),
        };
        let answer: m::ContainerName = self.call("CreateContainer", &request)?;
        let id = present("CreateContainer", "container_id", answer.container_id)?;
        let _: m::Empty = self.call("StartContainer", &m::ContainerName { container_id: id.clone() })?;
        Ok(id)
    }

    /// Runs a command within a container and waits for it. A command that fails is not an error of this call.
    ///
    /// # Errors
    /// When the runtime cannot run it.
    pub fn exec_sync(&mut self, container: &str, command: &[&str]) -> Result<Executed, CriError> {
        let request = m::ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: owned(command),
            // A little below the call's own limit, so that it is the runtime that ends the command.
            timeout: 50,
        };
        let answer: m::ExecSyncResponse = self.call("ExecSync", &request)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Executed { code: answer.exit_code, stdout: text(answer.stdout), stderr: text(answer.stderr) })
    }

    /// Stops a sandbox: its containers end and its network is taken away (DEL). Idempotent.
    ///
    /// # Errors
    /// When the runtime or the CNI plugin fails.
    pub fn stop_pod_sandbox(&mut self, id: &str) -> Result<(), CriError> {
        self.call::<m::Empty>("StopPodSandbox", &sandbox(id)).map(drop)
    }

    /// Removes a sandbox and its containers. Idempotent; containerd sends another DEL.
    ///
    /// # Errors
    /// When the runtime or the CNI plugin fails.
    pub fn remove_pod_sandbox(&mut self, id: &str) -> Result<(), CriError> {
        self.call::<m::Empty>("RemovePodSandbox", &sandbox(id)).map(drop)
    }

    fn call<A: Message + Default>(
        &mut self,
        call: &'static str,
        request: &impl Message,
    ) -> Result<A, CriError> {
        let path = format!("/runtime.v1.RuntimeService/{call}");
        self.reactor
            .block_on(self.connection.call(&path, request, CALL_TIMEOUT))
            .map_err(|cause| CriError::Call { call, cause })
    }
}

impl PodSpec {
    /// As the kubelet fills it in. The labels are what other programs find a pod by.
    fn config(&self) -> m::PodSandboxConfig {
        let labels = [
            ("io.kubernetes.pod.name", &self.name),
            ("io.kubernetes.pod.namespace", &self.namespace),
            ("io.kubernetes.pod.uid", &self.uid),
        ];
        m::PodSandboxConfig {
            metadata: Some(m::PodSandboxMetadata {
                name: self.name.clone(),
                uid: self.uid.clone(),
                namespace: self.namespace.clone(),
                attempt: self.attempt,
            }),
            hostname: self.name.clone(),
            labels: labels
                .map(|(key, value)| (key.to_owned(), value.clone()))
                .into_iter()
                .collect::<HashMap<_, _>>(),
            ports: self.ports.iter().map(|(host, pod)| port(*host, *pod)).collect(),
            annotations: self.annotations.iter().cloned().collect(),
            linux: Some(m::LinuxPodSandboxConfig { cgroup_parent: format!("/pods/{}", self.uid) }),
        }
    }
}

fn port(host: u16, pod: u16) -> m::PortMapping {
    // Protocol 0 is TCP; without an address it is every address of the node.
    m::PortMapping { protocol: 0, container_port: pod.into(), host_port: host.into() }
}

fn sandbox(id: &str) -> m::PodSandboxName {
    m::PodSandboxName { pod_sandbox_id: id.to_owned() }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().copied().map(str::to_owned).collect()
}

fn present(call: &'static str, field: &'static str, id: String) -> Result<String, CriError> {
    if id.is_empty() { Err(CriError::Answer { call, field }) } else { Ok(id) }
}

/// The first condition that does not hold, in words.
fn not_ready(answer: &m::StatusResponse) -> Option<String> {
    let conditions = answer.status.as_ref().map_or(&[][..], |status| &status.conditions);
    if conditions.is_empty() {
        return Some("it reports no condition".to_owned());
    }
    let unmet = conditions.iter().find(|condition| !condition.status)?;
    Some(format!("{}: {}: {}", unmet.kind, unmet.reason, unmet.message))
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
