//! Identifiers as EC2 writes them: a prefix and 17 hexadecimal digits, drawn from the scenario's seed so that the same
//! scenario always has the same ids. What a caller sends is checked here once: another prefix or another alphabet is
//! *malformed*, which EC2 tells apart from *not found*.

use crate::random::Random;
use serde::Serialize;
use std::fmt;

/// EC2 has ids of 8 (old) and 17 digits.
const DIGITS: [usize; 2] = [8, 17];

macro_rules! resource_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $name(String);

        impl $name {
            /// The id as EC2 writes it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The id that `text` is, if it is one of this kind.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                let digits = text.strip_prefix($prefix)?;
                let is_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                (is_hex && DIGITS.contains(&digits.len())).then(|| Self(text.to_owned()))
            }

            pub(crate) fn draw(random: &mut Random) -> Self {
                Self(format!("{}0{:016x}", $prefix, random.next()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

resource_id!(
    /// A network interface.
    EniId, "eni-"
);
resource_id!(
    /// The attachment of a network interface.
    AttachmentId, "eni-attach-"
);
resource_id!(
    /// An instance.
    InstanceId, "i-"
);
resource_id!(
    /// A subnet.
    SubnetId, "subnet-"
);
resource_id!(
    /// A VPC.
    VpcId, "vpc-"
);
resource_id!(
    /// A security group.
    SecurityGroupId, "sg-"
);

resource_id!(
    /// A route table.
    RouteTableId, "rtb-"
);
resource_id!(
    /// The association of a route table.
    RouteTableAssociationId, "rtbassoc-"
);
resource_id!(
    /// An internet gateway.
    GatewayId, "igw-"
);

/// A hardware address: unicast, locally administered, written as EC2 writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

impl Mac {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let [a, b, c, d, e, ..] = random.next().to_be_bytes();
        Self([0x0a, a, b, c, d, e])
    }

    /// The six bytes in transmission order.
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_seed_are_the_same_and_parse_as_their_own_kind_only() {
        let drawn = EniId::draw(&mut Random::new(7));
        assert_eq!(drawn, EniId::draw(&mut Random::new(7)));
        assert_eq!(EniId::parse(drawn.as_str()), Some(drawn.clone()));
        assert_eq!(AttachmentId::parse(drawn.as_str()), None);
        assert_eq!(EniId::parse(AttachmentId::draw(&mut Random::new(7)).as_str()), None);
        assert_eq!(EniId::parse("eni-0ABC0000"), None);
    }

    #[test]
    fn a_mac_is_unicast_and_locally_administered() {
        let mac = Mac::draw(&mut Random::new(1));
        assert_eq!(mac.octets()[0] & 0x03, 0x02);
        assert_eq!(mac.to_string().len(), 17);
    }
}
