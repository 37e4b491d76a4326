//! A MAC address: six bytes, written in lower case with colons, as IMDS, EC2 and the kernel write it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A 48-bit hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
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
}

impl std::str::FromStr for MacAddr {
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

impl TryFrom<String> for MacAddr {
    type Error = MacError;

    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_reads_back_as_it_was_written() {
        let mac: MacAddr = "02:00:00:aB:cd:0f".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:00:ab:cd:0f");
        assert_eq!(mac, MacAddr::new([2, 0, 0, 0xab, 0xcd, 0x0f]));
    }

    #[test]
    fn what_emulators_hand_out_is_refused_not_truncated() {
        for bad in ["", "02:00", "02:00:00:17702x:00:01", "02:00:00:00:00:00:00", "+2:00:00:00:00:00"] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad:?}");
        }
    }
}
