//! Reads and writes `/proc/sys/net`. The files show the namespace of the thread that opens them, so every call names the
//! namespace and runs inside it on a thread of its own.
//!
//! A key is `ipv4/ip_forward`, with slashes, because interface names may hold dots. Values are compared as text.

use crate::netns::{NetNs, NsError};
use std::fmt;
use std::path::PathBuf;

/// A file under `/proc/sys/net`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SysctlKey(String);

impl SysctlKey {
    /// A key below `/proc/sys/net`, such as `ipv4/ip_forward`.
    #[must_use]
    pub fn new(key: &str) -> Self {
        Self(key.to_owned())
    }

    /// `ipv4/conf/<interface>/<name>`.
    #[must_use]
    pub fn ipv4_conf(interface: &crate::IfName, name: &str) -> Self {
        Self(format!("ipv4/conf/{interface}/{name}"))
    }

    /// `ipv6/conf/<interface>/<name>`.
    #[must_use]
    pub fn ipv6_conf(interface: &crate::IfName, name: &str) -> Self {
        Self(format!("ipv6/conf/{interface}/{name}"))
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/proc/sys/net").join(&self.0)
    }
}

impl fmt::Display for SysctlKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net/{}", self.0)
    }
}

/// A sysctl could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// The file could not be read.
    #[error("read sysctl {key}")]
    Read {
        /// Which.
        key: SysctlKey,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The file could not be written.
    #[error("write {value:?} to sysctl {key}")]
    Write {
        /// Which.
        key: SysctlKey,
        /// What.
        value: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The namespace could not be entered.
    #[error("enter the namespace whose sysctl is meant")]
    Namespace(#[source] NsError),
}

/// The values of `keys` in `ns`, in order; `None` where the kernel has no such file (interface gone, no IPv6).
///
/// # Errors
/// When the namespace cannot be entered or a file that exists cannot be read.
pub fn read(ns: &NetNs, keys: &[SysctlKey]) -> Result<Vec<Option<String>>, SysctlError> {
    ns.run(|| keys.iter().map(read_here).collect()).map_err(SysctlError::Namespace)?
}

/// Writes the values in order; what already has its value is not written again.
///
/// # Errors
/// At the first file that cannot be written; the earlier ones stay.
pub fn write(ns: &NetNs, values: &[(SysctlKey, String)]) -> Result<(), SysctlError> {
    ns.run(|| values.iter().try_for_each(|(key, value)| write_here(key, value)))
        .map_err(SysctlError::Namespace)?
}

fn read_here(key: &SysctlKey) -> Result<Option<String>, SysctlError> {
    match std::fs::read_to_string(key.path()) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(SysctlError::Read { key: key.clone(), cause }),
    }
}

fn write_here(key: &SysctlKey, value: &str) -> Result<(), SysctlError> {
    // Writing ip_forward resets other settings even when the value stays; and /proc/sys may be read-only.
    if read_here(key)?.as_deref() == Some(value) {
        return Ok(());
    }
    std::fs::write(key.path(), value).map_err(|cause| SysctlError::Write {
        key: key.clone(),
        value: value.to_owned(),
        cause,
    })
}
