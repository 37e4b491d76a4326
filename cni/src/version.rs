//! The versions of the CNI specification that the plugin speaks, and how a configuration's `cniVersion` is judged.
//! A version decides the shape of a result and which verbs exist; it never changes what is done to the kernel.
//! What is no version at all (an error of decoding) is told apart from a version that is not spoken (an incompatibility).

use serde::{Serialize, Serializer};

/// A version of the specification that this plugin speaks, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SpecVersion {
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

/// The text is no version, or none that is spoken here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VersionError {
    Unparsable,
    Unsupported,
}

impl SpecVersion {
    pub(crate) const ALL: [Self; 7] =
        [Self::V0_1_0, Self::V0_2_0, Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// What answers carry when the caller's version is unknown.
    pub(crate) const LATEST: Self = Self::V1_1_0;

    /// What a configuration without `cniVersion` means, by the specification.
    pub(crate) const WHEN_ABSENT: &'static str = "0.1.0";

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// `"0.1.0, 0.2.0, …, 1.1.0"`.
    pub(crate) fn list() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }

    /// Whether a result has `ip4` and `ip6` instead of lists of interfaces, addresses and routes.
    pub(crate) fn has_legacy_result(self) -> bool {
        self < Self::V0_3_0
    }

    pub(crate) fn parse(text: &str) -> Result<Self, VersionError> {
        if !is_version(text) {
            return Err(VersionError::Unparsable);
        }
        Self::ALL.into_iter().find(|version| version.as_str() == text).ok_or(VersionError::Unsupported)
    }
}

/// One to three numbers joined by dots, as libcni's own parser has it.
pub(crate) fn is_version(text: &str) -> bool {
    let number =
        |part: &str| !part.is_empty() && part.len() <= 9 && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split('.').count() <= 3 && text.split('.').all(number)
}

impl Serialize for SpecVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_listed_oldest_first() {
        assert!(SpecVersion::ALL.is_sorted() && SpecVersion::ALL.last() == Some(&SpecVersion::LATEST));
        assert_eq!(SpecVersion::list(), "0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0");
    }

    #[test]
    fn spoken_versions_are_exact_strings() {
        for version in SpecVersion::ALL {
            assert_eq!(SpecVersion::parse(version.as_str()), Ok(version));
        }
        for text in ["0.0.0", "0.3.2", "0.5.0", "1.0", "1", "1.1.1", "01.0.0", "2.0.0"] {
            assert_eq!(SpecVersion::parse(text), Err(VersionError::Unsupported), "{text}");
        }
        for text in
            ["", "banana", "1.0.0.0", "1..0", "v1.0.0", "1.0.0-rc1", "-1.0.0", "1.0.0 ", "99999999999.0.0"]
        {
            assert_eq!(SpecVersion::parse(text), Err(VersionError::Unparsable), "{text}");
        }
    }
}
