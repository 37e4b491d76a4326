//! Identifiers as EC2 writes them. Each is its own type, checked once where it enters (`TryFrom`, serde), so that an
//! ENI id can never stand where a subnet id belongs.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: expected {expected}")]
pub struct IdError {
    what: &'static str,
    expected: &'static str,
    text: String,
}

/// Longest identifier that is accepted; EC2's are at most 40 bytes.
const MAX_LEN: usize = 64;

fn is_resource_id(text: &str, prefix: &str) -> bool {
    text.len() <= MAX_LEN
        && text.strip_prefix(prefix).is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        })
}

fn is_word(text: &str, also: &[u8]) -> bool {
    !text.is_empty()
        && text.len() <= MAX_LEN
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || also.contains(&byte))
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The identifier as EC2 writes it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                let check: fn(&str) -> bool = $check;
                if check(&text) { Ok(Self(text)) } else { Err(IdError { what: $what, expected: $expected, text }) }
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// A network interface, `eni-…`.
    EniId, "ENI id", "eni- and lower-case letters or digits", |text| is_resource_id(text, "eni-")
);
text_id!(
    /// The attachment of an ENI to an instance, `eni-attach-…` (to a load balancer: `ela-attach-…`).
    AttachmentId, "attachment id", "eni-attach- or ela-attach- and lower-case letters or digits",
    |text| is_resource_id(text, "eni-attach-") || is_resource_id(text, "ela-attach-")
);
text_id!(
    /// An instance, `i-…`.
    InstanceId, "instance id", "i- and lower-case letters or digits", |text| is_resource_id(text, "i-")
);
text_id!(
    /// A subnet, `subnet-…`.
    SubnetId, "subnet id", "subnet- and lower-case letters or digits", |text| is_resource_id(text, "subnet-")
);
text_id!(
    /// A VPC, `vpc-…`.
    VpcId, "VPC id", "vpc- and lower-case letters or digits", |text| is_resource_id(text, "vpc-")
);
text_id!(
    /// A security group, `sg-…`.
    SecurityGroupId, "security group id", "sg- and lower-case letters or digits", |text| is_resource_id(text, "sg-")
);
text_id!(
    /// A route table, `rtb-…`.
    RouteTableId, "route table id", "rtb- and lower-case letters or digits", |text| is_resource_id(text, "rtb-")
);
text_id!(
    /// An availability zone by name, for example `eu-central-1a`.
    AvailabilityZone, "availability zone", "lower-case letters, digits and '-'", |text| is_word(text, b"-")
);
text_id!(
    /// A region, for example `eu-central-1`.
    Region, "region", "lower-case letters, digits and '-'", |text| is_word(text, b"-")
);
text_id!(
    /// An instance type, for example `m5.large`.
    InstanceType, "instance type", "lower-case letters, digits, '.' and '-'", |text| is_word(text, b".-")
);

/// The index that an attached ENI has on its network card; the primary ENI is 0 on card 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceIndex(pub u32);

/// A network card of the instance; nearly every type has only card 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CardIndex(pub u32);

impl fmt::Display for DeviceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for CardIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_another_kind_is_refused_with_what_would_be_right() {
        let error = "subnet-1".parse::<EniId>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"subnet-1\" is no ENI id: expected eni- and lower-case letters or digits"
        );
    }

    #[test]
    fn an_id_round_trips_through_serde_and_a_bad_one_does_not_enter() {
        let id: EniId = serde_json::from_str("\"eni-0ab1\"").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"eni-0ab1\"");
        assert!(serde_json::from_str::<EniId>("\"eni-\"").is_err());
        assert!(serde_json::from_str::<EniId>(&format!("\"eni-{}\"", "a".repeat(80))).is_err());
        assert!("eni-0AB".parse::<EniId>().is_err());
    }
}
