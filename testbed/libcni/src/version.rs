//! Versions of the CNI specification as libcni compares them: one to three numbers, missing ones are zero. The text is kept,
//! because plugins are asked for the exact string: "1.0" is equal to "1.0.0" in order, but no plugin lists it.

use std::cmp::Ordering;
use std::fmt;

/// The newest specification that libcni 1.3, and so this caller, implements.
pub const CURRENT: &str = "1.1.0";

/// A version of the specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecVersion {
    text: String,
    numbers: [u32; 3],
}

impl SpecVersion {
    /// Reads a version; nothing else than numbers and dots is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = [0; 3];
        for (index, part) in text.split('.').enumerate() {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            *numbers.get_mut(index)? = digits.then(|| part.parse().ok()).flatten()?;
        }
        Some(Self { text: text.to_owned(), numbers })
    }

    /// The text that it was read from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether this is `major.minor.0` or newer.
    #[must_use]
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        self.numbers >= [major, minor, 0]
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialOrd for SpecVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.numbers.cmp(&other.numbers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_numbers_and_not_as_text() {
        let ordered = ["0.1.0", "0.3.1", "0.4.0", "0.10.0", "1", "1.0.1", "1.1.0", "2.0.0"];
        for pair in ordered.map(|text| SpecVersion::parse(text).unwrap()).windows(2) {
            assert!(pair[0] < pair[1], "{pair:?}");
        }
        assert!(SpecVersion::parse("1.1.0").unwrap().is_at_least(1, 1));
        assert!(!SpecVersion::parse("1.0.9").unwrap().is_at_least(1, 1));
    }

    #[test]
    fn what_is_no_version_is_not_read_as_one() {
        for text in ["", "v1.0.0", "1.0.0.0", "1..0", "1.0.0-rc1", " 1.0.0", "99999999999"] {
            assert_eq!(SpecVersion::parse(text), None, "{text}");
        }
    }
}
