//! What EC2 says when it refuses: code, message and HTTP status, as the API reference's list of error codes has them and,
//! where that list is silent, as EC2 has been seen to answer. Every code that a call can end with is in [`Code`], so
//! that a witness can check that it has seen them all.

use std::fmt;

macro_rules! codes {
    ($($name:ident $text:literal $status:literal,)*) => {
        /// Every error code that a call can end with.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code { $($name),* }

        impl Code {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];

            pub(crate) const fn text(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            pub(crate) const fn status(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }
        }
    };
}

codes! {
    AttachmentLimitExceeded "AttachmentLimitExceeded" 400,
    AuthFailure "AuthFailure" 401,
    CidrLimitExceeded "CidrLimitExceeded" 400,
    DependencyViolation "DependencyViolation" 400,
    DryRunOperation "DryRunOperation" 412,
    FilterLimitExceeded "FilterLimitExceeded" 400,
    IdempotentParameterMismatch "IdempotentParameterMismatch" 400,
    IncorrectState "IncorrectState" 400,
    InsufficientCidrBlocks "InsufficientCidrBlocks" 400,
    InsufficientFreeAddresses "InsufficientFreeAddressesInSubnet" 400,
    InternalError "InternalError" 500,
    InvalidAction "InvalidAction" 400,
    AssociationNotFound "InvalidAssociationID.NotFound" 400,
    AttachmentNotFound "InvalidAttachmentID.NotFound" 400,
    CidrInUse "InvalidCidrBlock.InUse" 400,
    GroupNotFound "InvalidGroup.NotFound" 400,
    GroupMalformed "InvalidGroupId.Malformed" 400,
    InvalidId "InvalidID" 400,
    AddressInUse "InvalidIPAddress.InUse" 400,
    InvalidInstance "InvalidInstanceID" 400,
    InstanceMalformed "InvalidInstanceID.Malformed" 400,
    InstanceNotFound "InvalidInstanceID.NotFound" 400,
    InvalidInstanceType "InvalidInstanceType" 400,
    GatewayNotFound "InvalidInternetGatewayID.NotFound" 400,
    GatewayMalformed "InvalidInternetGatewayId.Malformed" 400,
    EniInUse "InvalidNetworkInterface.InUse" 400,
    AttachmentMalformed "InvalidNetworkInterfaceAttachmentId.Malformed" 400,
    EniNotFound "InvalidNetworkInterfaceID.NotFound" 400,
    EniMalformed "InvalidNetworkInterfaceId.Malformed" 400,
    InvalidPaginationToken "InvalidPaginationToken" 400,
    InvalidParameterCombination "InvalidParameterCombination" 400,
    InvalidParameterValue "InvalidParameterValue" 400,
    RouteNotFound "InvalidRoute.NotFound" 400,
    AssociationMalformed "InvalidRouteTableAssociationId.Malformed" 400,
    RouteTableNotFound "InvalidRouteTableID.NotFound" 400,
    RouteTableMalformed "InvalidRouteTableId.Malformed" 400,
    SecurityGroupNotFound "InvalidSecurityGroupID.NotFound" 400,
    SubnetMalformed "InvalidSubnetID.Malformed" 400,
    SubnetNotFound "InvalidSubnetID.NotFound" 400,
    InvalidVpcRange "InvalidVpc.Range" 400,
    CidrAssociationNotFound "InvalidVpcCidrBlockAssociationID.NotFound" 400,
    VpcMalformed "InvalidVpcID.Malformed" 400,
    VpcNotFound "InvalidVpcID.NotFound" 400,
    MalformedQueryString "MalformedQueryString" 404,
    MissingAction "MissingAction" 400,
    MissingAuthenticationToken "MissingAuthenticationToken" 403,
    MissingParameter "MissingParameter" 400,
    NoSuchVersion "NoSuchVersion" 400,
    OperationNotPermitted "OperationNotPermitted" 400,
    AddressLimitExceeded "PrivateIpAddressLimitExceeded" 400,
    RequestLimitExceeded "RequestLimitExceeded" 503,
    AlreadyAssociated "Resource.AlreadyAssociated" 400,
    RouteAlreadyExists "RouteAlreadyExists" 400,
    RouteLimitExceeded "RouteLimitExceeded" 400,
    RouteTableLimitExceeded "RouteTableLimitExceeded" 400,
    GroupLimitExceeded "SecurityGroupsPerInterfaceLimitExceeded" 400,
    ServiceUnavailable "ServiceUnavailable" 503,
    TagLimitExceeded "TagLimitExceeded" 400,
    UnauthorizedOperation "UnauthorizedOperation" 403,
    UnknownParameter "UnknownParameter" 400,
    UnsupportedOperation "UnsupportedOperation" 400,
}

/// A refused call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub(crate) struct ApiError {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Code {
    /// The code of this text.
    pub(crate) fn named(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.text() == text)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Code {
    /// Words for a fault that brings none of its own.
    pub(crate) const fn usual_words(self) -> &'static str {
        match self {
            Self::RequestLimitExceeded => "Request limit exceeded.",
            Self::ServiceUnavailable => "Service is unable to handle request.",
            Self::InternalError => "An internal error has occurred",
            Self::InsufficientFreeAddresses => {
                "The specified subnet does not have enough free addresses to satisfy the request."
            }
            Self::InsufficientCidrBlocks => {
                "The specified subnet does not have enough free cidr blocks to satisfy the request."
            }
            _ => "The request was refused.",
        }
    }

    /// This code with the words for this case.
    pub(crate) fn because(self, message: impl Into<String>) -> ApiError {
        ApiError { code: self, message: message.into() }
    }
}

/// EC2 writes parameter names in messages with a small first letter.
fn as_written(parameter: &str) -> String {
    let mut letters = parameter.chars();
    letters.next().map(|first| first.to_ascii_lowercase().to_string() + letters.as_str()).unwrap_or_default()
}

impl ApiError {
    /// `value` makes no sense for `parameter`.
    pub(crate) fn invalid(parameter: &str, value: &str, problem: &str) -> Self {
        // A caller's own bytes come back to it, but not by the megabyte.
        let shown: String = value.chars().take(100).collect();
        Code::InvalidParameterValue
            .because(format!("Value ({shown}) for parameter {} is invalid. {problem}", as_written(parameter)))
    }

    /// A parameter that must be there is not.
    pub(crate) fn missing(parameter: &str) -> Self {
        Code::MissingParameter
            .because(format!("The request must contain the parameter {}", as_written(parameter)))
    }

    /// Two parameters exclude each other.
    pub(crate) fn combination(message: impl Into<String>) -> Self {
        Code::InvalidParameterCombination.because(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_witness_has_the_list_of_all_codes() {
        let mut codes: Vec<&str> = Code::ALL.iter().map(|code| code.text()).collect();
        codes.sort_unstable();
        let listed: Vec<&str> = include_str!("../witness/codes.txt").lines().collect();
        assert_eq!(listed, codes);
    }
}
