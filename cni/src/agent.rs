//! The plugin's side of the socket: one connection per call, everything bounded by one deadline. An agent that hangs, drips
//! bytes, answers garbage or closes early is an [`AgentError`], never a plugin that waits. What a refusal means in CNI codes
//! is decided in `failure.rs`.

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};
use spur_wire::{
    AddReply, AddRequest, CheckReply, CheckRequest, DelReply, DelRequest, FrameError, GcReply, GcRequest,
    Refusal, RefusalKind, Request, RequestBody, Response, StatusReply, VERSION, read_frame, write_frame,
};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the agent is and how long it may take.
#[derive(Debug)]
pub(crate) struct Agent<'a> {
    socket: &'a Path,
    network: &'a str,
    deadline: Instant,
}

/// The agent could not be asked, or did not do as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error("connect to the agent at {}", .socket.display())]
    Connect {
        socket: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("no answer from the agent at {} in time", .socket.display())]
    Timeout { socket: PathBuf },
    #[error("talk to the agent at {}", .socket.display())]
    Exchange {
        socket: PathBuf,
        #[source]
        cause: FrameError,
    },
    #[error("the agent at {} answered something else than was asked", .socket.display())]
    Confused { socket: PathBuf },
    #[error("the agent refuses: {}{}", .0.reason, hint(.0.kind))]
    Refused(Refusal),
}

/// What helps, if the agent's own words cannot say it: it may be older than this plugin.
fn hint(kind: RefusalKind) -> String {
    match kind {
        RefusalKind::Version => {
            format!("; this plugin speaks {VERSION}: try again when both have been upgraded")
        }
        _ => String::new(),
    }
}

impl<'a> Agent<'a> {
    pub(crate) fn new(socket: &'a Path, network: &'a str, deadline: Instant) -> Self {
        Self { socket, network, deadline }
    }

    pub(crate) fn add(&self, request: AddRequest) -> Result<AddReply, AgentError> {
        match self.call(RequestBody::Add(request))? {
            Response::Add(reply) => Ok(reply),
            _ => Err(self.confused()),
        }
    }

    pub(crate) fn del(&self, request: DelRequest) -> Result<DelReply, AgentError> {
        match self.call(RequestBody::Del(request))? {
            Response::Del(reply) => Ok(reply),
            _ => Err(self.confused()),
        }
    }

    pub(crate) fn check(&self, request: CheckRequest) -> Result<CheckReply, AgentError> {
        match self.call(RequestBody::Check(request))? {
            Response::Check(reply) => Ok(reply),
            _ => Err(self.confused()),
        }
    }

    pub(crate) fn gc(&self, request: GcRequest) -> Result<GcReply, AgentError> {
        match self.call(RequestBody::Gc(request))? {
            Response::Gc(reply) => Ok(reply),
            _ => Err(self.confused()),
        }
    }

    pub(crate) fn status(&self) -> Result<StatusReply, AgentError> {
        match self.call(RequestBody::Status)? {
            Response::Status(reply) => Ok(reply),
            _ => Err(self.confused()),
        }
    }

    fn call(&self, body: RequestBody) -> Result<Response, AgentError> {
        let request = Request { version: VERSION, network: self.network.to_owned(), body };
        let mut stream = Deadlined { stream: self.connect()?, deadline: self.deadline };
        let exchanged = write_frame(&mut stream, &request).and_then(|()| read_frame(&mut stream));
        match exchanged {
            Ok(Response::Refused(refusal)) => Err(AgentError::Refused(refusal)),
            Ok(response) => Ok(response),
            Err(FrameError::Io(cause)) if is_timeout(&cause) => Err(self.timeout()),
            Err(cause) => Err(AgentError::Exchange { socket: self.socket.to_owned(), cause }),
        }
    }

    /// A full backlog makes `connect` on a Unix socket wait; the send timeout bounds it, `O_NONBLOCK` would give up at once.
    fn connect(&self) -> Result<UnixStream, AgentError> {
        let connected = self.left().and_then(|left| {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(left))?;
            connect(&socket, &SocketAddrUnix::new(self.socket)?)?;
            Ok(UnixStream::from(socket))
        });
        connected.map_err(|cause| {
            if is_timeout(&cause) {
                self.timeout()
            } else {
                AgentError::Connect { socket: self.socket.to_owned(), cause }
            }
        })
    }

    fn left(&self) -> io::Result<Duration> {
        time_left(self.deadline)
    }

    fn timeout(&self) -> AgentError {
        AgentError::Timeout { socket: self.socket.to_owned() }
    }

    fn confused(&self) -> AgentError {
        AgentError::Confused { socket: self.socket.to_owned() }
    }
}

/// The kernel reports an expired socket timeout as EAGAIN.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Zero would switch a socket timeout off, so an expired deadline is an error here.
fn time_left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left.max(Duration::from_millis(1))) }
}

/// A stream whose operations together end by the deadline: a peer that sends a byte now and then gains nothing.
struct Deadlined {
    stream: UnixStream,
    deadline: Instant,
}

impl Read for Deadlined {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(time_left(self.deadline)?))?;
        self.stream.read(buffer)
    }
}

impl Write for Deadlined {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(time_left(self.deadline)?))?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
