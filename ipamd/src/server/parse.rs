//! The bytes of a request frame into a [`Request`], or into the refusal that says why not.
//!
//! Pure and without the rest of the agent, so that a fuzzer can have it without the AWS SDK. What a well-formed request means,
//! and whether its names make sense, is the handler's business.

use serde_json::Value;
use spur_wire::{Refusal, RefusalKind, Request, Response, VERSION};

/// A refusal as an answer.
pub fn refuse(kind: RefusalKind, reason: impl Into<String>) -> Response {
    Response::Refused(Refusal { kind, reason: reason.into() })
}

/// The version comes first: a frame of another version may have any shape.
pub(super) fn parse_request(bytes: &[u8]) -> Result<Request, Response> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| refuse(RefusalKind::Invalid, format!("the frame is not JSON: {error}")))?;
    match value.get("version").and_then(Value::as_u64) {
        Some(version) if version == u64::from(VERSION) => {}
        Some(version) => {
            let reason =
                format!("protocol version {version} is not spoken here; this agent speaks {VERSION}");
            return Err(refuse(RefusalKind::Version, reason));
        }
        None => {
            let reason = format!("the request has no version; expected {VERSION}");
            return Err(refuse(RefusalKind::Version, reason));
        }
    }
    serde_json::from_value(value).map_err(|error| {
        // A verb that came later than this agent is a matter of versions, everything else is a mistake.
        let unknown_verb = error.to_string().starts_with("unknown variant");
        let kind = if unknown_verb { RefusalKind::Version } else { RefusalKind::Invalid };
        refuse(kind, format!("the request makes no sense: {error}"))
    })
}
