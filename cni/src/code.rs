//! The CNI error codes that the plugin answers with, well-known ones and its own (from 100 on). This table is the contract with
//! runtimes and operators, so it is documented in `docs/cni.md` and a test compares the two.
//! Which failure gets which code is decided in `failure.rs` and nowhere else.

use serde::{Serialize, Serializer};

/// A CNI error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Code {
    IncompatibleVersion = 1,
    UnsupportedField = 2,
    InvalidEnvironment = 4,
    Io = 5,
    Decode = 6,
    InvalidConfig = 7,
    OwnNetns = 8,
    TryAgain = 11,
    NotAvailable = 50,
    LimitedConnectivity = 51,
    AlreadyAttached = 100,
    AgentProtocol = 101,
    InterfaceExists = 102,
    Kernel = 103,
    Drift = 104,
    Incomplete = 105,
    Internal = 999,
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(*self as u32)
    }
}
