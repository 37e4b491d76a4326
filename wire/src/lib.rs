//! The protocol between the CNI plugin and the agent: one connection per call over a Unix stream socket, one request
//! frame, one response frame. A frame is a `u32` little-endian length and so many bytes of JSON, at most [`MAX_FRAME`].
//!
//! # Version rule
//! Every request carries [`VERSION`]. New optional fields do not raise it (unknown fields are ignored on both sides, so that
//! plugin and agent can be upgraded in any order); a change that an older side would misread does, and the agent then answers
//! [`RefusalKind::Version`] with the versions that it speaks.

mod frame;
mod message;
mod spool;

pub use frame::{FrameError, MAX_FRAME, read_frame, write_frame};
pub use message::{
    AddReply, AddRequest, Attachment, CheckReply, CheckRequest, DelReply, DelRequest, GcReply, GcRequest,
    PodRef, Refusal, RefusalKind, Request, RequestBody, Response, StatusReply, VERSION,
};
pub use spool::{DEFAULT_SPOOL, Spool, SpoolError, SpooledRelease};

/// Where the agent listens unless configured otherwise.
pub const DEFAULT_SOCKET: &str = "/run/spur/agent.sock";
