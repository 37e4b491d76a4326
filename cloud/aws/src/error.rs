//! Failures of the SDK into [`CloudError`]: EC2's code decides the class, by one table; without a code it is the kind of
//! failure and the HTTP status that decide.
//!
//! The codes are those of the EC2 API reference, "Error codes for the Amazon EC2 API", plus what EC2 is seen to answer
//! where that page is silent (the cases by action). A code that is in no table is a `Bug` if EC2 blames the request (4xx),
//! `Transient` if it blames itself (5xx).

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::operation::RequestId;
use spur_cloud::{Api, CloudError, ErrorClass};
use std::error::Error;

/// Codes that mean something else for one action than in general: EC2 says `InvalidParameterValue` for these states of
/// the world, although nothing is wrong with the request.
const BY_ACTION: &[(Api, &str, ErrorClass)] = &[
    // "Some of the specified addresses are not assigned to interface eni-…"
    (Api::UnassignPrivateIpAddresses, "InvalidParameterValue", ErrorClass::NotFound),
    // "[10.0.0.5] is already in use": for secondary addresses there is no code of its own.
    (Api::AssignPrivateIpAddresses, "InvalidParameterValue", ErrorClass::Conflict),
    // "Network interface 'eni-…' is currently in use."
    (Api::DeleteNetworkInterface, "InvalidParameterValue", ErrorClass::Conflict),
    // "Instance i-… already has an interface attached at device index 1"
    (Api::AttachNetworkInterface, "InvalidParameterValue", ErrorClass::Conflict),
    // "There is no route defined for '10.4.0.0/25' in the route table. Use CreateRoute instead."
    (Api::ReplaceRoute, "InvalidParameterValue", ErrorClass::NoRoute),
];

const BY_CODE: &[(&str, ErrorClass)] = &[
    ("AccessDenied", ErrorClass::Denied),
    ("AccessDeniedException", ErrorClass::Denied),
    ("AttachmentLimitExceeded", ErrorClass::QuotaExceeded),
    ("AuthFailure", ErrorClass::Denied),
    ("Blocked", ErrorClass::Denied),
    ("ConcurrentTagAccess", ErrorClass::Transient),
    ("EC2ThrottledException", ErrorClass::Throttled),
    ("ExpiredToken", ErrorClass::Denied),
    ("ExpiredTokenException", ErrorClass::Denied),
    ("IncompleteSignature", ErrorClass::Denied),
    ("IncorrectInstanceState", ErrorClass::Conflict),
    ("IncorrectState", ErrorClass::Conflict),
    ("InsufficientCidrBlocks", ErrorClass::SubnetFull),
    ("InsufficientFreeAddressesInSubnet", ErrorClass::SubnetFull),
    ("InternalError", ErrorClass::Transient),
    ("InternalFailure", ErrorClass::Transient),
    ("InvalidClientTokenId", ErrorClass::Denied),
    // CreateTags and DeleteTags, of what they cannot find.
    ("InvalidID", ErrorClass::NotFound),
    ("InvalidIPAddress.InUse", ErrorClass::Conflict),
    ("InvalidInstanceType", ErrorClass::NotFound),
    ("InvalidNetworkInterface.InUse", ErrorClass::Conflict),
    ("InvalidRoute.NotFound", ErrorClass::NoRoute),
    ("MissingAuthenticationToken", ErrorClass::Denied),
    ("NetworkInterfaceLimitExceeded", ErrorClass::QuotaExceeded),
    ("OperationNotPermitted", ErrorClass::Denied),
    ("OptInRequired", ErrorClass::Denied),
    ("PendingVerification", ErrorClass::Denied),
    ("PrivateIpAddressLimitExceeded", ErrorClass::QuotaExceeded),
    ("RequestExpired", ErrorClass::Denied),
    ("RequestLimitExceeded", ErrorClass::Throttled),
    ("RequestTimeout", ErrorClass::Transient),
    ("ResourceCountExceeded", ErrorClass::QuotaExceeded),
    ("ResourceLimitExceeded", ErrorClass::QuotaExceeded),
    ("RouteAlreadyExists", ErrorClass::Conflict),
    ("RouteLimitExceeded", ErrorClass::QuotaExceeded),
    ("SecurityGroupsPerInterfaceLimitExceeded", ErrorClass::QuotaExceeded),
    ("ServiceUnavailable", ErrorClass::Transient),
    ("SignatureDoesNotMatch", ErrorClass::Denied),
    ("TagLimitExceeded", ErrorClass::QuotaExceeded),
    ("Throttling", ErrorClass::Throttled),
    ("ThrottlingException", ErrorClass::Throttled),
    ("UnauthorizedOperation", ErrorClass::Denied),
    ("Unavailable", ErrorClass::Transient),
    ("UnrecognizedClientException", ErrorClass::Denied),
];

/// What EC2's code means for this action, if the tables know it. Codes that end in `.NotFound` are the same for every
/// kind of thing.
fn class_of_code(api: Api, code: &str) -> Option<ErrorClass> {
    let by_action = BY_ACTION.iter().find(|(of, name, _)| *of == api && *name == code).map(|entry| entry.2);
    by_action
        .or_else(|| BY_CODE.binary_search_by(|entry| entry.0.cmp(code)).ok().map(|at| BY_CODE[at].1))
        .or_else(|| code.ends_with(".NotFound").then_some(ErrorClass::NotFound))
}

/// What an HTTP status means when no code says more.
const fn class_of_status(status: u16) -> ErrorClass {
    match status {
        401 | 403 => ErrorClass::Denied,
        429 => ErrorClass::Throttled,
        500.. => ErrorClass::Transient,
        _ => ErrorClass::Bug,
    }
}

/// The error of one call.
pub(crate) fn failed<E>(api: Api, error: SdkError<E, HttpResponse>) -> CloudError
where
    E: Error + ProvideErrorMetadata + 'static,
{
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    let header_id = error.request_id().map(str::to_owned);
    let class = match &error {
        SdkError::ServiceError(failure) => return refused(api, status, failure.err(), header_id),
        SdkError::ConstructionFailure(_) => ErrorClass::Bug,
        // The bytes of the answer did not arrive whole: the effect may have happened.
        SdkError::ResponseError(_) | SdkError::TimeoutError(_) => ErrorClass::Transient,
        other => class_of_connection(other),
    };
    CloudError { api, class, code: None, message: chain(&error), request_id: header_id }
}

/// EC2 answered, and the answer is no success.
fn refused<E>(api: Api, status: u16, error: &E, header_id: Option<String>) -> CloudError
where
    E: Error + ProvideErrorMetadata,
{
    let meta = error.meta();
    let code = meta.code().map(str::to_owned);
    let known = code.as_deref().and_then(|code| class_of_code(api, code));
    let unreadable =
        || format!("HTTP status {status} with an answer that is none of EC2's: {}", chain(error));
    CloudError {
        api,
        class: known.unwrap_or_else(|| class_of_status(status)),
        message: meta.message().map_or_else(unreadable, str::to_owned),
        request_id: meta.request_id().map(str::to_owned).or(header_id),
        code,
    }
}

/// Nothing was answered. Missing or refused credentials do not heal by themselves; a network may.
fn class_of_connection(error: &(dyn Error + 'static)) -> ErrorClass {
    let mut cause = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<CredentialsError>() {
            Some(CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)) => {
                return ErrorClass::Denied;
            }
            Some(_) => return ErrorClass::Transient,
            None => cause = error.source(),
        }
    }
    ErrorClass::Transient
}

/// The error and its causes in one line; the SDK's own `Display` says only "dispatch failure".
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
