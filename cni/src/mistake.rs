//! What can be wrong with an invocation: environment, standard input, configuration. Each mistake names the variable or key,
//! shows its value and says what would be right. All mistakes of one invocation are reported together; nothing has been
//! changed when one is. Failures of the work itself are in `failure.rs`.

use crate::code::Code;
use crate::version::SpecVersion;
use std::io;

/// One thing wrong with the invocation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Mistake {
    #[error("CNI_COMMAND {0:?} is unknown: expected ADD, DEL, CHECK, GC, STATUS or VERSION")]
    Command(String),
    #[error("{} missing from the environment: {}", if .0.len() == 1 { "variable" } else { "variables" }, .0.join(", "))]
    Missing(Vec<&'static str>),
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    #[error("CNI_CONTAINERID {0:?} must match ^[A-Za-z0-9][A-Za-z0-9_.\\-]*$")]
    ContainerId(String),
    #[error(
        "CNI_IFNAME {0:?} cannot name an interface: expected 1 to 15 bytes without '/', ':' or white space, not \".\" or \"..\""
    )]
    IfName(String),
    #[error("CNI_ARGS {args:?}: {why}")]
    Args { args: String, why: String },
    #[error("CNI_NETNS {path:?} is not a network namespace: {why}")]
    Netns { path: String, why: String },
    #[error("CNI_NETNS {0:?} is the plugin's own network namespace")]
    OwnNetns(String),
    #[error("read the network configuration from standard input: {0}")]
    Stdin(io::Error),
    #[error("the network configuration on standard input is longer than {0} bytes")]
    StdinTooLong(usize),
    #[error("the network configuration on standard input is not a JSON object: {0}")]
    Json(String),
    #[error("cniVersion {0} is not a version")]
    UnparsableVersion(String),
    #[error("cniVersion {0:?} is not supported")]
    UnsupportedVersion(String),
    #[error("{verb} needs cniVersion {needed} or later, not {given}", needed = .needed.as_str(), given = .given.as_str())]
    VerbTooNew { verb: &'static str, needed: SpecVersion, given: SpecVersion },
    #[error("name is missing from the network configuration")]
    NoNetworkName,
    #[error("name {0:?} must match ^[A-Za-z0-9][A-Za-z0-9_.\\-]*$")]
    NetworkName(String),
    #[error("{key} = {value}: {why}")]
    Value { key: &'static str, value: String, why: String },
    #[error("{key} = {value} is not supported: {why}")]
    Unsupported { key: &'static str, value: String, why: &'static str },
    #[error("{key} is missing from the network configuration: {why}")]
    NoKey { key: &'static str, why: &'static str },
}

impl Mistake {
    /// The CNI code of this mistake.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Command(_)
            | Self::Missing(_)
            | Self::NotUtf8(_)
            | Self::ContainerId(_)
            | Self::IfName(_)
            | Self::Args { .. }
            // Not 3 (unknown container): that code tells the runtime that no DEL is needed, and an earlier, killed ADD of
            // the same container may have left an assignment.
            | Self::Netns { .. } => Code::InvalidEnvironment,
            Self::OwnNetns(_) => Code::OwnNetns,
            Self::Stdin(_) => Code::Io,
            Self::StdinTooLong(_) | Self::Json(_) | Self::UnparsableVersion(_) => Code::Decode,
            Self::UnsupportedVersion(_) | Self::VerbTooNew { .. } => Code::IncompatibleVersion,
            Self::NoNetworkName | Self::NetworkName(_) | Self::Value { .. } | Self::NoKey { .. } => Code::InvalidConfig,
            Self::Unsupported { .. } => Code::UnsupportedField,
        }
    }

    /// More for whoever reads the error, if there is more to say.
    pub(crate) fn details(&self) -> Option<String> {
        match self {
            Self::UnsupportedVersion(_) => Some(format!("supported versions: {}", SpecVersion::list())),
            _ => None,
        }
    }
}

/// Runs one check and notes what it found wrong, so that the next check runs too.
pub(crate) fn note<T>(checked: Result<T, Mistake>, mistakes: &mut Vec<Mistake>) -> Option<T> {
    checked.map_err(|mistake| mistakes.push(mistake)).ok()
}
