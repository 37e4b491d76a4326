//! Why a conversation with the kernel failed: which request it was about, the kernel's error number and its own words.
//! Callers decide on [`NetlinkError::errno`], never on text. Shared by route netlink, nf_tables and conntrack.

use crate::netns::NsError;
use rustix::io::Errno;
use std::io;

/// A conversation with the kernel failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket.
    #[error("open a netlink socket")]
    Open(#[source] io::Error),
    /// The namespace could not be entered.
    #[error("open a netlink socket in another network namespace")]
    Namespace(#[source] NsError),
    /// The request did not reach the kernel.
    #[error("send to the kernel: {what}")]
    Send {
        /// What we wanted.
        what: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The answer did not reach us.
    #[error("receive the kernel's answer: {what}")]
    Receive {
        /// What we wanted.
        what: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The kernel refused.
    #[error("{what}{}", .detail.as_deref().map(|said| format!(" (kernel: {said})")).unwrap_or_default())]
    Refused {
        /// What we wanted.
        what: String,
        /// The kernel's explanation, where it gave one.
        detail: Option<String>,
        /// Why.
        #[source]
        errno: Errno,
    },
    /// The kernel's bytes make no sense to us.
    #[error("{what}: the kernel's answer cannot be read")]
    Garbled {
        /// What we wanted.
        what: String,
    },
    /// A dump was interrupted by changes each time.
    #[error("{what}: kept changing while it was read")]
    Unsteady {
        /// What we wanted.
        what: String,
    },
    /// A request cannot be expressed.
    #[error("{what}: longer than a netlink message can be")]
    TooLong {
        /// What we wanted.
        what: String,
    },
}

impl NetlinkError {
    /// The kernel's error number when it refused.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}
