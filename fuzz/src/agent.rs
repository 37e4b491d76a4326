//! The agent's edges: requests of the plugin on its socket, and its configuration. The socket's framing is asynchronous in the agent
//! and blocking here; the limit is the same one, and what the bytes mean is read by the agent's own source file.
//! Metadata is in `imds_answer.rs`, kernel bytes in `spur_datapath::fuzzing`.

#[doc(hidden)]
#[path = "../../ipamd/src/server/parse.rs"]
pub mod parse;

use crate::config::Config;
use parse::parse_request;
use serde_json::Value;
use spur_wire::{FrameError, RefusalKind, Request, Response, VERSION, read_frame, write_frame};

/// A frame of the plugin. True when the handler would get it.
pub(crate) fn request(bytes: &[u8]) -> bool {
    let by_plugin_rules = read_frame::<Request>(&mut &bytes[..]);
    let Some(body) = body(bytes) else {
        assert!(matches!(by_plugin_rules, Err(FrameError::Io(_) | FrameError::TooLong(_))), "a torn frame");
        return false;
    };
    match parse_request(body) {
        Ok(request) => {
            assert_eq!(request.version, VERSION);
            // A key that is there twice is refused by one reader and read once by the other; neither misreads it.
            if let Ok(read) = by_plugin_rules {
                assert_eq!(read, request, "both readers agree");
            }
            round_trip(&request);
            true
        }
        Err(Response::Refused(refusal)) => {
            assert!(matches!(refusal.kind, RefusalKind::Invalid | RefusalKind::Version), "{refusal:?}");
            assert!(!refusal.reason.is_empty());
            // A field that nobody asked for may hold what is no JSON value at all: only the stricter reader looks at it.
            if let (Ok(read), Ok(_)) = (by_plugin_rules, serde_json::from_slice::<Value>(body)) {
                assert_ne!(read.version, VERSION, "refused although it is a request: {}", refusal.reason);
            }
            false
        }
        Err(other) => unreachable!("a refusal is an answer of that kind, not {other:?}"),
    }
}

/// What is behind a length that is allowed and true.
fn body(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = u32::from_le_bytes(*length);
    if length > spur_wire::MAX_FRAME { None } else { rest.get(..usize::try_from(length).ok()?) }
}

fn round_trip(request: &Request) {
    let mut frame = Vec::new();
    match write_frame(&mut frame, request) {
        Ok(()) => {
            let read = read_frame::<Request>(&mut frame.as_slice()).expect("what was written can be read");
            assert_eq!(read, *request);
        }
        // Absent optional fields are written as null, so the limit can be passed on the way back.
        Err(error) => assert!(matches!(error, FrameError::TooLong(_)), "{error}"),
    }
}

/// The agent's YAML. True when it would start with it.
pub(crate) fn configuration(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match Config::parse(text) {
        Ok(config) => {
            assert!(config.socket.is_absolute() && config.state_dir.is_absolute(), "{config:?}");
            assert!(!config.cluster_name.is_empty(), "{config:?}");
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}
