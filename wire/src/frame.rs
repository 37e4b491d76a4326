//! Framing: a length and JSON. Blocking `Read`/`Write`; the agent reads the length and the bytes with its own async I/O
//! and shares only the limit.
//! A length beyond the limit is refused before a byte of the body is read or a byte of memory is reserved for it.

use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};

/// Longest frame in bytes; a longer one is refused before it is read. The longest honest one is a GC with an attachment (about
/// 110 bytes) for each of a node's pods, of which large nodes run more than 700.
pub const MAX_FRAME: u32 = 1024 * 1024;

/// Room for everything but GC's lists: one read then takes a whole frame.
const USUAL_FRAME: usize = 4096;

/// A frame could not be exchanged.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream ended or failed.
    #[error("exchange a frame with the peer")]
    Io(#[source] io::Error),
    /// The announced length is beyond [`MAX_FRAME`].
    #[error("frame of {0} bytes is longer than the {MAX_FRAME} that are allowed")]
    TooLong(u64),
    /// The bytes are not the JSON that was expected.
    #[error("frame is not a valid message")]
    Json(#[source] serde_json::Error),
}

/// Writes one message in one `write`.
///
/// # Errors
/// When the message is too long or the stream fails.
pub fn write_frame<T: Serialize>(stream: &mut impl Write, message: &T) -> Result<(), FrameError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message).map_err(FrameError::Json)?;
    let length = frame.len() - 4;
    let short = u32::try_from(length).ok().filter(|length| *length <= MAX_FRAME);
    let length = short.ok_or(FrameError::TooLong(length as u64))?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    stream.write_all(&frame).map_err(FrameError::Io)
}

/// Reads one message.
///
/// # Errors
/// When the stream ends early, the length is beyond the limit or the JSON is not a `T`.
pub fn read_frame<T: DeserializeOwned>(stream: &mut impl Read) -> Result<T, FrameError> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).map_err(FrameError::Io)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length.into()));
    }
    // Not `read_exact` into `length` zeroed bytes: beyond what most frames need, memory follows what really comes.
    let mut bytes = Vec::with_capacity((length as usize + 1).min(USUAL_FRAME));
    stream.take(length.into()).read_to_end(&mut bytes).map_err(FrameError::Io)?;
    if bytes.len() < length as usize {
        return Err(FrameError::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    serde_json::from_slice(&bytes).map_err(FrameError::Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_round_trips() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &vec![1, 2]).unwrap();
        assert_eq!(bytes, b"\x05\0\0\0[1,2]");
        assert_eq!(read_frame::<Vec<u8>>(&mut bytes.as_slice()).unwrap(), [1, 2]);
    }

    #[test]
    fn a_long_frame_is_refused_before_it_is_read() {
        let error = read_frame::<u8>(&mut &b"\xff\xff\xff\xff"[..]).unwrap_err();
        assert!(matches!(error, FrameError::TooLong(0xffff_ffff)), "{error}");
        assert!(write_frame(&mut Vec::new(), &"x".repeat(MAX_FRAME as usize)).is_err());
    }

    #[test]
    fn a_torn_frame_is_an_error() {
        assert!(matches!(read_frame::<u8>(&mut &b"\x05\0\0\0[1"[..]), Err(FrameError::Io(_))));
        assert!(matches!(read_frame::<u8>(&mut &b"\x02\0\0\0[1"[..]), Err(FrameError::Json(_))));
    }
}
