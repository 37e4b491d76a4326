//! Where an emulator is known not to behave like EC2: who is wrong, what each does, and where EC2's behaviour is written.
//!
//! `docs/emulator-differences.md` is [`list`], word for word; a test compares them.

use std::fmt::Write;

/// What plays EC2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emulator {
    /// LocalStack 4.7, whose EC2 is a fork of moto 5.1.
    LocalStack,
    /// Our own.
    Vpcsim,
}

impl Emulator {
    /// Its name as people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LocalStack => "LocalStack",
            Self::Vpcsim => "vpcsim",
        }
    }
}

/// A behaviour in which one emulator differs from EC2; the other one is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// What it is about.
    pub about: &'static str,
    /// Who is wrong.
    pub wrong: Emulator,
    /// What EC2 does.
    pub ec2: &'static str,
    /// What the wrong one does.
    pub instead: &'static str,
    /// Where EC2's behaviour is documented.
    pub source: &'static str,
}

macro_rules! differences {
    ($($name:ident { $about:literal, $wrong:ident, $ec2:literal, $instead:literal, $source:literal })*) => {
        $(
            #[doc = $about]
            pub(crate) const $name: Difference = Difference {
                about: $about,
                wrong: Emulator::$wrong,
                ec2: $ec2,
                instead: $instead,
                source: $source,
            };
        )*
        /// Every known difference.
        pub const DIFFERENCES: &[Difference] = &[$($name),*];
    };
}

differences! {
    HARDWARE_ADDRESS {
        "Hardware addresses", LocalStack,
        "gives every ENI a valid 48-bit address",
        "writes decimal numbers followed by \"02x\" (a mistake in a format string)",
        "API reference: NetworkInterface, macAddress"
    }
    CLIENT_TOKEN {
        "ClientToken of CreateNetworkInterface", LocalStack,
        "answers a repeated token with the first ENI",
        "creates another ENI each time",
        "API reference: CreateNetworkInterface, ClientToken; EC2 Developer Guide: Ensuring idempotency in Amazon EC2 API requests"
    }
    TOKEN_MISMATCH {
        "ClientToken repeated with other parameters", LocalStack,
        "refuses with IdempotentParameterMismatch",
        "creates another ENI",
        "EC2 Developer Guide: Ensuring idempotency in Amazon EC2 API requests"
    }
    PREFIXES_AT_CREATION {
        "Ipv4PrefixCount of CreateNetworkInterface", LocalStack,
        "delegates /28 prefixes to the new ENI",
        "ignores it",
        "API reference: CreateNetworkInterface, Ipv4PrefixCount"
    }
    PREFIXES {
        "Ipv4PrefixCount of AssignPrivateIpAddresses", LocalStack,
        "delegates /28 prefixes to the ENI",
        "succeeds and does nothing",
        "API reference: AssignPrivateIpAddresses, Ipv4PrefixCount; EC2 User Guide: Prefix delegation for EC2 network interfaces"
    }
    TAGS_OF_NOTHING {
        "CreateTags on an ENI that does not exist", LocalStack,
        "refuses with InvalidNetworkInterfaceID.NotFound or InvalidID",
        "succeeds",
        "API reference: Error codes for the Amazon EC2 API"
    }
    ASSIGNMENT_ANSWER {
        "The answer of AssignPrivateIpAddresses", LocalStack,
        "lists the addresses that the call assigned",
        "lists every address of the ENI, the primary one included",
        "API reference: AssignPrivateIpAddresses, response elements"
    }
    FOREIGN_ADDRESS {
        "Assigning an address that another ENI has, without AllowReassignment", LocalStack,
        "refuses and leaves the address where it is",
        "gives it to both ENIs",
        "API reference: AssignPrivateIpAddresses, AllowReassignment"
    }
    ABSENT_ADDRESS {
        "Unassigning an address that the ENI does not have", LocalStack,
        "refuses with InvalidParameterValue",
        "succeeds",
        "API reference: UnassignPrivateIpAddresses and Error codes for the Amazon EC2 API, InvalidParameterValue"
    }
    PRIMARY_ADDRESS {
        "Unassigning the primary address", LocalStack,
        "refuses with InvalidParameterValue: only secondary addresses can be unassigned",
        "takes it away",
        "EC2 User Guide: Secondary IP addresses for your EC2 instances"
    }
    FULL_SUBNET {
        "More addresses than a subnet has", LocalStack,
        "refuses with InsufficientFreeAddressesInSubnet",
        "hands them out, also those of other subnets or reserved ones, and counts below zero",
        "API reference: Error codes for the Amazon EC2 API, InsufficientFreeAddressesInSubnet"
    }
    ADDRESS_QUOTA {
        "More addresses than the instance type allows on an ENI", LocalStack,
        "refuses with PrivateIpAddressLimitExceeded",
        "assigns them",
        "API reference: Error codes for the Amazon EC2 API, PrivateIpAddressLimitExceeded; EC2 User Guide: Maximum IP addresses per network interface"
    }
    INSTANT_ATTACHMENT {
        "The state of a new attachment", LocalStack,
        "shows it as attaching until the instance has the interface",
        "shows it as attached at once",
        "API reference: NetworkInterfaceAttachment, status"
    }
    ENI_QUOTA {
        "More ENIs than the instance type allows", LocalStack,
        "refuses with AttachmentLimitExceeded",
        "attaches them",
        "API reference: Error codes for the Amazon EC2 API, AttachmentLimitExceeded"
    }
    DEVICE_INDEX {
        "A device index that is taken", LocalStack,
        "refuses with InvalidParameterValue",
        "attaches a second ENI there",
        "API reference: AttachNetworkInterface, DeviceIndex"
    }
    SECOND_ATTACHMENT {
        "Attaching an ENI that is attached", LocalStack,
        "refuses with InvalidNetworkInterface.InUse",
        "attaches it again",
        "API reference: Error codes for the Amazon EC2 API, InvalidNetworkInterface.InUse"
    }
    OTHER_ZONE {
        "Attaching an ENI to an instance in another zone", LocalStack,
        "refuses with InvalidParameterCombination",
        "attaches it",
        "EC2 User Guide: Elastic network interfaces (subnet and instance must be in one Availability Zone)"
    }
    DELETE_ATTACHED {
        "Deleting an attached ENI", LocalStack,
        "refuses: it must be detached first",
        "deletes it",
        "API reference: DeleteNetworkInterface"
    }
    DELETE_ON_TERMINATION {
        "DeleteOnTermination of an attachment", LocalStack,
        "keeps what ModifyNetworkInterfaceAttribute sets",
        "succeeds and does nothing",
        "API reference: ModifyNetworkInterfaceAttribute, Attachment"
    }
    ROUTE_EXISTS {
        "CreateRoute to a destination that has a route", LocalStack,
        "refuses with RouteAlreadyExists",
        "gives the route the new target",
        "API reference: Error codes for the Amazon EC2 API, RouteAlreadyExists"
    }
    MORE_SPECIFIC_THAN_LOCAL {
        "A route to a part of a subnet", LocalStack,
        "refuses with InvalidParameterValue",
        "makes it",
        "VPC User Guide: Configure route tables (more specific than the local route only for a whole subnet)"
    }
    RESERVED_DESTINATION {
        "A route to 169.254.168.0/22 or fd00:ec2::/32, or a part of them", LocalStack,
        "refuses with InvalidParameterValue",
        "makes it",
        "VPC User Guide: Subnet route tables (rules and considerations)"
    }
    BLACKHOLE {
        "The state of a route to an ENI that is not attached", LocalStack,
        "shows blackhole",
        "shows active",
        "API reference: Route, state"
    }
    ROUTE_QUOTA {
        "More routes than a table may have", LocalStack,
        "refuses with RouteLimitExceeded",
        "makes them",
        "API reference: Error codes for the Amazon EC2 API, RouteLimitExceeded; VPC User Guide: Amazon VPC quotas"
    }
}

/// The differences as a document.
#[must_use]
pub fn list() -> String {
    let mut text = String::from(HEAD);
    for emulator in [Emulator::LocalStack, Emulator::Vpcsim] {
        let of_emulator: Vec<_> = DIFFERENCES.iter().filter(|known| known.wrong == emulator).collect();
        let _ = write!(text, "\n## Where {} is wrong\n\n", emulator.name());
        if of_emulator.is_empty() {
            text.push_str("No difference is known within the contract.\n");
            continue;
        }
        text.push_str("| about | EC2 | instead | source |\n|---|---|---|---|\n");
        for known in of_emulator {
            let Difference { about, ec2, instead, source, .. } = known;
            let _ = writeln!(text, "| {about} | {ec2} | {instead} | {source} |");
        }
    }
    text
}

const HEAD: &str = "\
# Where emulators differ from EC2

The contract tests in `localstack-tests/` run the same behaviours through Spur's real EC2 client on LocalStack 4.7 (whose EC2 is a
fork of moto 5.1) and on vpcsim. Where one of them is known to differ from EC2, the test asserts the wrong behaviour too, so that a fix
shows; this list is generated from those tests (`cargo test -p localstack-tests --lib` compares it).

A test on the wrong emulator proves nothing about the behaviour in its row.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_the_list() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/emulator-differences.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, list()).unwrap();
        }
        let document = std::fs::read_to_string(path).unwrap();
        assert!(
            document == list(),
            "run `UPDATE_DOCS=1 cargo test -p localstack-tests --lib` and commit the result"
        );
    }
}
