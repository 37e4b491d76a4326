//! Why a verb failed, as the runtime sees it: one JSON object on standard output with a code that is chosen here and nowhere
//! else. The message is this layer's own words; the causes below it go into `details`, outermost first.
//! Mistakes of the caller are collected in [`Failure::Invalid`]; everything else happened while working.

use crate::agent::AgentError;
use crate::code::Code;
use crate::gate::Point;
use crate::mistake::Mistake;
use crate::wiring::WiringError;
use serde::Serialize;
use spur_datapath::pod::PodError;
use spur_wire::{RefusalKind, SpoolError};
use std::error::Error;
use std::io;

/// A verb failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Mistake>),
    #[error("no address: {0}")]
    Add(#[source] AgentError),
    #[error("wire the pod")]
    Wire(#[source] WiringError),
    #[error("remove the pod's interface")]
    Unwire(#[source] WiringError),
    #[error("release the address: {0}")]
    Release(#[source] AgentError),
    #[error("release the address: {agent}; and the release cannot be kept for later")]
    Spool {
        agent: AgentError,
        #[source]
        cause: SpoolError,
    },
    #[error("check the pod: {0}")]
    Check(#[source] AgentError),
    #[error("the pod's network is not as it was made: {}", .0.join("; "))]
    Drift(Vec<String>),
    #[error("collect stale attachments: {0}")]
    Gc(#[source] AgentError),
    #[error("some stale attachments remain: {}", .0.join("; "))]
    Incomplete(Vec<String>),
    #[error("not able to serve ADD: {0}")]
    Status(#[source] AgentError),
    #[error("not able to serve ADD: {0}")]
    NotReady(String),
    #[error("pods may be cut off: {0}")]
    Limited(String),
    #[error("write the result to standard output")]
    Print(#[source] io::Error),
    #[error("put the result into JSON")]
    Encode(#[source] serde_json::Error),
    #[error("stopped before {0:?}")]
    Stopped(Point),
}

/// The error object of the specification.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ErrorReply<'a> {
    pub(crate) cni_version: &'a str,
    pub(crate) code: Code,
    pub(crate) msg: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) details: String,
}

impl From<&Failure> for Code {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Invalid(mistakes) => mistakes.first().map_or(Self::Internal, Mistake::code),
            Failure::Add(error) | Failure::Release(error) | Failure::Check(error) | Failure::Gc(error) => {
                agent_code(error)
            }
            Failure::Wire(WiringError::Grant(_)) => Self::AgentProtocol,
            Failure::Wire(WiringError::Add(failure)) => match &failure.error {
                PodError::InterfaceExists { .. } => Self::InterfaceExists,
                PodError::HostNamespace { .. } => Self::OwnNetns,
                _ => Self::Kernel,
            },
            Failure::Wire(_) | Failure::Unwire(_) => Self::Kernel,
            Failure::Spool { .. } => Self::TryAgain,
            Failure::Drift(_) => Self::Drift,
            Failure::Incomplete(_) => Self::Incomplete,
            Failure::Status(_) | Failure::NotReady(_) => Self::NotAvailable,
            Failure::Limited(_) => Self::LimitedConnectivity,
            Failure::Print(_) => Self::Io,
            Failure::Encode(_) | Failure::Stopped(_) => Self::Internal,
        }
    }
}

/// An agent that is not there is expected back: runtimes and kubelet retry on code 11.
fn agent_code(error: &AgentError) -> Code {
    match error {
        AgentError::Connect { .. } | AgentError::Timeout { .. } => Code::TryAgain,
        // Closed in the middle: it was stopped. Anything else in the frame is not our protocol.
        AgentError::Exchange { cause: spur_wire::FrameError::Io(_), .. } => Code::TryAgain,
        AgentError::Exchange { .. } | AgentError::Confused { .. } => Code::AgentProtocol,
        AgentError::Refused(refusal) => match refusal.kind {
            // Of plugin and agent one was upgraded, and the other will be.
            RefusalKind::TryAgain | RefusalKind::NotReady | RefusalKind::Version => Code::TryAgain,
            RefusalKind::AlreadyAttached => Code::AlreadyAttached,
            RefusalKind::Invalid => Code::InvalidConfig,
            RefusalKind::Internal => Code::Internal,
        },
    }
}

impl Failure {
    /// After a failed ADD: true when the kernel holds nothing of the attempt, so that the address may be given back.
    /// Otherwise something still answers for it, and the DEL that follows a failed ADD has to finish the work first.
    pub(crate) fn left_nothing(&self) -> bool {
        !matches!(self, Self::Wire(WiringError::Add(failure)) if failure.undo.is_some())
    }

    /// The answer to the runtime.
    pub(crate) fn reply<'a>(&self, cni_version: &'a str) -> ErrorReply<'a> {
        let details = match self {
            Self::Invalid(mistakes) => mistakes.iter().find_map(Mistake::details).unwrap_or_default(),
            // The message already has the agent's error in it.
            Self::Add(error)
            | Self::Release(error)
            | Self::Check(error)
            | Self::Gc(error)
            | Self::Status(error) => causes(error),
            _ => causes(self),
        };
        ErrorReply { cni_version, code: self.into(), msg: self.to_string(), details }
    }
}

/// The causes below an error, outermost first, without the error itself.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut causes = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        // An error that only adds facts to its cause shows the same words as the cause.
        if causes.last() != Some(&cause.to_string()) {
            causes.push(cause.to_string());
        }
        next = cause.source();
    }
    causes[1..].join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use spur_wire::Refusal;

    #[test]
    fn each_refusal_of_the_agent_has_its_code() {
        for (kind, code) in [
            (RefusalKind::TryAgain, 11),
            (RefusalKind::NotReady, 11),
            (RefusalKind::AlreadyAttached, 100),
            (RefusalKind::Invalid, 7),
            (RefusalKind::Internal, 999),
        ] {
            let failure =
                Failure::Add(AgentError::Refused(Refusal { kind, reason: "subnet-1 is full".into() }));
            let reply = serde_json::to_value(failure.reply("1.0.0")).unwrap();
            let expected = serde_json::json!({
                "cniVersion": "1.0.0", "code": code, "msg": "no address: the agent refuses: subnet-1 is full",
            });
            assert_eq!(reply, expected);
            assert_eq!(kind.cni_code(), code, "the agent counts by the same code");
        }
    }

    #[test]
    fn another_version_of_the_protocol_is_named_and_tried_again() {
        let reason = "protocol version 1 is not spoken here; this agent speaks 2".to_owned();
        let refusal = Refusal { kind: RefusalKind::Version, reason };
        let reply = Failure::Add(AgentError::Refused(refusal)).reply("1.0.0");
        assert_eq!(reply.code, Code::TryAgain);
        assert_eq!(
            reply.msg,
            "no address: the agent refuses: protocol version 1 is not spoken here; this agent speaks 2; \
             this plugin speaks 1: try again when both have been upgraded"
        );
    }

    #[test]
    fn details_carry_the_causes() {
        let cause = io::Error::from(io::ErrorKind::NotFound);
        let failure = Failure::Status(AgentError::Connect { socket: "/run/s".into(), cause });
        let reply = failure.reply("1.1.0");
        assert_eq!(reply.code, Code::NotAvailable);
        assert_eq!(reply.msg, "not able to serve ADD: connect to the agent at /run/s");
        assert_eq!(reply.details, "entity not found");
    }
}
