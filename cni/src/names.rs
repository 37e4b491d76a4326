//! Names that come from outside, each checked once and then carried by its type: container id, network name, interface name.
//! The rules are those of the CNI specification and of the kernel; nothing is trimmed or corrected.
//! The type of interface names is the datapath's; that a name is *free* is the kernel's to say.

use crate::mistake::Mistake;
use spur_datapath::IfName;

/// `CNI_CONTAINERID`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerId(String);

/// `name` of the network configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetworkName(String);

/// The specification's pattern for container ids and network names: `^[A-Za-z0-9][A-Za-z0-9_.\-]*$`.
fn is_id(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

impl ContainerId {
    pub(crate) fn parse(text: &str) -> Result<Self, Mistake> {
        if is_id(text) { Ok(Self(text.to_owned())) } else { Err(Mistake::ContainerId(text.to_owned())) }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl NetworkName {
    pub(crate) fn parse(text: &str) -> Result<Self, Mistake> {
        if is_id(text) { Ok(Self(text.to_owned())) } else { Err(Mistake::NetworkName(text.to_owned())) }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// `CNI_IFNAME`: what the kernel takes, less all white space, which libcni refuses too.
pub(crate) fn parse_if_name(text: &str) -> Result<IfName, Mistake> {
    let name = text.parse().ok().filter(|_| !text.contains(char::is_whitespace));
    name.ok_or_else(|| Mistake::IfName(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_the_specification() {
        for good in ["a", "0", "A_b.c-d", &"f".repeat(200)] {
            assert!(ContainerId::parse(good).is_ok() && NetworkName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "_a", "a/b", "a b", "a\n", "ä", "a:b", "../x"] {
            assert!(ContainerId::parse(bad).is_err() && NetworkName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn interface_names_are_measured_in_bytes() {
        for good in ["eth0", "a", "123456789012345", "é"] {
            assert!(parse_if_name(good).is_ok(), "{good}");
        }
        for bad in ["", "1234567890123456", "éééééééé", ".", "..", "a/b", "a:b", "a b", "a\tb", "a\u{a0}b"]
        {
            assert!(parse_if_name(bad).is_err(), "{bad}");
        }
    }
}
