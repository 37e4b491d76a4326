//! The environment of an invocation, read once, by whoever calls [`Environment::observe`]; nothing else reads it. The rest of
//! the crate sees text. An empty variable counts as a missing one, as libcni has it.
//! `TRACEPARENT`, `TRACESTATE` and `BAGGAGE`, which newer runtimes set, are left alone.

use crate::mistake::Mistake;
use std::ffi::OsString;

/// The variables of the specification, as they were found.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    pub(crate) command: Variable,
    pub(crate) container_id: Variable,
    pub(crate) netns: Variable,
    pub(crate) if_name: Variable,
    pub(crate) args: Variable,
    pub(crate) path: Variable,
    /// `CNI_NETNS_OVERRIDE`: the runtime insists on the plugin's own namespace.
    pub(crate) netns_override: Variable,
}

/// One variable.
#[derive(Debug, Default)]
pub(crate) struct Variable {
    name: &'static str,
    value: Option<OsString>,
}

impl Environment {
    pub(crate) fn observe(source: impl Fn(&'static str) -> Option<OsString>) -> Self {
        let variable = |name| Variable { name, value: source(name).filter(|value| !value.is_empty()) };
        Self {
            command: variable("CNI_COMMAND"),
            container_id: variable("CNI_CONTAINERID"),
            netns: variable("CNI_NETNS"),
            if_name: variable("CNI_IFNAME"),
            args: variable("CNI_ARGS"),
            path: variable("CNI_PATH"),
            netns_override: variable("CNI_NETNS_OVERRIDE"),
        }
    }
}

impl Variable {
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The text; `None` when missing or empty.
    pub(crate) fn text(&self) -> Result<Option<&str>, Mistake> {
        match &self.value {
            None => Ok(None),
            Some(value) => value.to_str().map(Some).ok_or(Mistake::NotUtf8(self.name)),
        }
    }

    pub(crate) fn is_missing(&self) -> bool {
        self.value.is_none()
    }
}
