//! The small types of the kernel's vocabulary: interface names, MAC addresses, link indexes, routing tables, rule
//! priorities and packet marks. Each is parsed or made once and proves what its name says; a [`LinkIndex`] comes only
//! from a reader of kernel state.
//!
//! `cloud` has a MAC address type of its own: the CNI plugin links this crate and must not link that one.

use std::fmt;
use std::str::FromStr;

/// Name of a network interface: 1 to 15 bytes that the kernel accepts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfName(String);

/// The text cannot name a network interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no interface name: expected 1 to 15 bytes without '/', ':' or white space, not \".\" or \"..\""
)]
pub struct IfNameError(String);

impl IfName {
    /// The longest name, in bytes: `IFNAMSIZ` less the terminating zero.
    pub const MAX_BYTES: usize = 15;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IfName {
    type Err = IfNameError;

    fn from_str(text: &str) -> Result<Self, IfNameError> {
        // The kernel's dev_valid_name(): bytes count, not characters.
        let bad_byte = |byte: u8| {
            byte == b'/' || byte == b':' || byte == 0 || byte == 0x0b || byte.is_ascii_whitespace()
        };
        let refused = text.is_empty()
            || text.len() > Self::MAX_BYTES
            || text == "."
            || text == ".."
            || text.bytes().any(bad_byte);
        if refused { Err(IfNameError(text.chars().take(64).collect())) } else { Ok(Self(text.to_owned())) }
    }
}

impl TryFrom<&str> for IfName {
    type Error = IfNameError;

    fn try_from(text: &str) -> Result<Self, IfNameError> {
        text.parse()
    }
}

impl AsRef<str> for IfName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A 48-bit hardware address, written in lower case with colons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr([u8; 6]);

/// The text is no MAC address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no MAC address: expected six pairs of hexadecimal digits joined by ':'")]
pub struct MacError(String);

impl MacAddr {
    /// The address of these bytes, in transmission order.
    #[must_use]
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// The six bytes in transmission order.
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// False for groups, broadcast and zero, which no interface may have.
    #[must_use]
    pub const fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && !matches!(self.0, [0, 0, 0, 0, 0, 0])
    }
}

impl FromStr for MacAddr {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let refuse = || MacError(text.chars().take(32).collect());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(refuse)?;
            if !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(refuse());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
        }
        if parts.next().is_some() { Err(refuse()) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The kernel's number of a link inside one network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkIndex(pub(crate) u32);

impl LinkIndex {
    /// The number, for messages and logs.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for LinkIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link {}", self.0)
    }
}

/// A routing table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(u32);

impl TableId {
    /// The table `main`.
    pub const MAIN: Self = Self(254);

    /// The table of that number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::MAIN { f.write_str("table main") } else { write!(f, "table {}", self.0) }
    }
}

/// Priority of a routing policy rule; lower is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RulePriority(u32);

impl RulePriority {
    /// The priority of that number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// Some bits of a packet mark: `value` under `mask`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// What the bits are.
    pub value: u32,
    /// Which bits count.
    pub mask: u32,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{:#x}", self.value, self.mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_are_what_the_kernel_takes() {
        for good in ["eth0", "e", "eni0123456789a", "123456789012345"] {
            assert_eq!(good.parse::<IfName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a b", "a/b", "a:b", "a\n", "1234567890123456", "ééééééé\u{e9}", "a\0"]
        {
            assert!(bad.parse::<IfName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn mac_addresses_round_trip_and_garbage_is_refused() {
        assert_eq!("02:00:00:aB:cd:0f".parse::<MacAddr>().unwrap().to_string(), "02:00:00:ab:cd:0f");
        for bad in ["", "02:00", "02:00:00:00:00:00:00", "+2:00:00:00:00:00", "02:00:00:17702x:00:01"] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad:?}");
        }
    }
}
