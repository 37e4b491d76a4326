//! One error for every cloud call. It says which call failed, with EC2's own code and request id, and of which class
//! the failure is: callers decide on the class, never on text.

use std::fmt;
use std::time::Duration;

/// The EC2 actions that Spur calls, by EC2's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are EC2's own")]
pub enum Api {
    DescribeInstances,
    DescribeInstanceTypes,
    DescribeSubnets,
    DescribeVpcs,
    DescribeSecurityGroups,
    DescribeNetworkInterfaces,
    CreateNetworkInterface,
    AttachNetworkInterface,
    DetachNetworkInterface,
    DeleteNetworkInterface,
    ModifyNetworkInterfaceAttribute,
    AssignPrivateIpAddresses,
    UnassignPrivateIpAddresses,
    CreateTags,
    DeleteTags,
    DescribeRouteTables,
    CreateRoute,
    ReplaceRoute,
    DeleteRoute,
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a failure means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorClass {
    /// EC2 asks us to slow down.
    Throttled,
    /// Our own budget is spent; nothing was sent.
    OverBudget {
        /// How long until there is a token for such a call.
        wait: Duration,
    },
    /// The thing is not there (any more, or not yet).
    NotFound,
    /// The route table exists, and has no route to this destination.
    NoRoute,
    /// A limit of the instance, the route table or the account is reached.
    QuotaExceeded,
    /// The subnet has no free address, or no free /28 for a prefix.
    SubnetFull,
    /// Permission is missing, or credentials are bad.
    Denied,
    /// It may work in a moment: 5xx, time-out, connection refused.
    Transient,
    /// The thing is in a state that does not allow the call now (already attached, already there, still in use).
    Conflict,
    /// EC2 says the request is malformed, or its answer makes no sense to us.
    Bug,
}

/// A cloud call failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{api}: {}{message}{}", code_text(.code), request_text(.request_id))]
pub struct CloudError {
    /// The action.
    pub api: Api,
    /// What it means.
    pub class: ErrorClass,
    /// EC2's error code, if EC2 answered with one.
    pub code: Option<String>,
    /// EC2's message, or ours.
    pub message: String,
    /// EC2's request id, for a support case.
    pub request_id: Option<String>,
}

fn code_text(code: &Option<String>) -> String {
    code.as_ref().map_or_else(String::new, |code| format!("{code}: "))
}

fn request_text(id: &Option<String>) -> String {
    id.as_ref().map_or_else(String::new, |id| format!(" (request {id})"))
}

impl CloudError {
    /// What the failure means for the caller.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        self.class
    }
}
