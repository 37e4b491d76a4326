//! gRPC over a Unix socket, as far as unary calls need it: one HTTP/2 stream per call, with the status in its trailers.
//!
//! Built on h2 and prost, which the workspace compiles anyway, instead of on tonic: tonic turns on further features of tower and syn, and
//! every change of those compiles aws-sdk-ec2 a second time. Facts: "gRPC over HTTP2" in the grpc repository
//! (`doc/PROTOCOL-HTTP2.md`). No compression, no streaming, no reconnecting; a broken connection fails the call.

use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use prost::Message;
use std::path::Path;
use std::time::Duration;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Before each message: one byte that says whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// The longest answer that is read: CRI caps what a command may print at 16 MiB, twice.
const MAX_ANSWER_BYTES: usize = 40 << 20;

/// Why a call brought no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GrpcError {
    /// The HTTP/2 connection or stream broke.
    #[error("exchange HTTP/2 frames")]
    Transport(#[source] h2::Error),
    /// The server did not end the call in time.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// The server answered with an error: a gRPC code and its own words.
    #[error("code {code}: {words}")]
    Refused {
        /// Number of the gRPC code.
        code: u32,
        /// What the server said.
        words: String,
    },
    /// The answer is not what gRPC or the method prescribes.
    #[error("the answer is malformed: {0}")]
    Malformed(String),
}

/// An open connection. It advances only while a call runs on its reactor, which is enough for calls that are made one by one.
#[derive(Debug)]
pub(crate) struct Connection(SendRequest<Bytes>);

impl Connection {
    /// Connects and spawns the connection's own task on the current reactor.
    pub(crate) async fn open(socket: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(socket).await?;
        let (send, connection) = h2::client::handshake(stream).await.map_err(std::io::Error::other)?;
        // How it ends is seen by the call that needs it.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self(send))
    }

    /// One unary call of `path` (`/package.Service/Method`).
    pub(crate) async fn call<A: Message + Default>(
        &mut self,
        path: &str,
        message: &impl Message,
        limit: Duration,
    ) -> Result<A, GrpcError> {
        timeout(limit, self.exchange(path, message, limit)).await.map_err(|_| GrpcError::Late(limit))?
    }

    async fn exchange<A: Message + Default>(
        &mut self,
        path: &str,
        message: &impl Message,
        limit: Duration,
    ) -> Result<A, GrpcError> {
        let request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            // So that the server, too, gives up what nobody waits for.
            .header("grpc-timeout", format!("{}m", limit.as_millis()))
            .body(())
            .map_err(|error| GrpcError::Malformed(format!("the path {path}: {error}")))?;
        let mut send = self.0.clone().ready().await.map_err(GrpcError::Transport)?;
        let (response, mut body) = send.send_request(request, false).map_err(GrpcError::Transport)?;
        body.send_data(frame(message), true).map_err(GrpcError::Transport)?;
        let (head, body) = response.await.map_err(GrpcError::Transport)?.into_parts();
        if !head.status.is_success() {
            return Err(GrpcError::Malformed(format!("HTTP status {}", head.status)));
        }
        let (data, trailers) = read(body).await?;
        // A refusal may come in the headers alone, without body and trailers.
        status(trailers.as_ref().unwrap_or(&head.headers))?;
        A::decode(payload(&data)?).map_err(|error| GrpcError::Malformed(error.to_string()))
    }
}

fn frame(message: &impl Message) -> Bytes {
    let encoded = message.encode_to_vec();
    let length = u32::try_from(encoded.len()).expect("requests are far shorter than 4 GiB");
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + encoded.len());
    frame.put_u8(0);
    frame.put_u32(length);
    frame.put_slice(&encoded);
    frame.freeze()
}

async fn read(mut body: RecvStream) -> Result<(BytesMut, Option<HeaderMap>), GrpcError> {
    let mut data = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(GrpcError::Transport)?;
        if data.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(GrpcError::Malformed(format!("longer than {MAX_ANSWER_BYTES} bytes")));
        }
        body.flow_control().release_capacity(chunk.len()).map_err(GrpcError::Transport)?;
        data.extend_from_slice(&chunk);
    }
    Ok((data, body.trailers().await.map_err(GrpcError::Transport)?))
}

fn status(headers: &HeaderMap) -> Result<(), GrpcError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status").ok_or_else(|| GrpcError::Malformed("it has no grpc-status".to_owned()))?;
    match code.parse() {
        Ok(0) => Ok(()),
        Ok(code) => {
            Err(GrpcError::Refused { code, words: percent_decoded(text("grpc-message").unwrap_or_default()) })
        }
        Err(_) => Err(GrpcError::Malformed(format!("grpc-status {code:?} is no number"))),
    }
}

/// The one message of a unary answer.
fn payload(data: &[u8]) -> Result<&[u8], GrpcError> {
    let malformed = |what: &str| GrpcError::Malformed(what.to_owned());
    let (prefix, message) = data
        .split_first_chunk::<PREFIX_BYTES>()
        .ok_or_else(|| malformed("it ends within a message's prefix"))?;
    let [compressed, length @ ..] = prefix;
    if *compressed != 0 {
        return Err(malformed("it is compressed, which was not offered"));
    }
    if usize::try_from(u32::from_be_bytes(*length)) != Ok(message.len()) {
        return Err(malformed("its length is not the one in its prefix"));
    }
    Ok(message)
}

/// gRPC sends words with %XX for bytes that are not printable ASCII; what is no such escape stays as it is.
fn percent_decoded(words: &str) -> String {
    let mut bytes = Vec::with_capacity(words.len());
    let mut rest = words.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, after @ ..]) => {
                hex(*high).zip(hex(*low)).map(|(high, low)| (high * 16 + low, after))
            }
            _ => None,
        };
        let (byte, after) = escaped.unwrap_or((*first, tail));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::PodSandboxName;

    #[test]
    fn a_framed_message_is_read_back() {
        let message = PodSandboxName { pod_sandbox_id: "abc".to_owned() };
        assert_eq!(frame(&message).as_ref(), b"\0\0\0\0\x05\x0a\x03abc");
        assert_eq!(payload(&frame(&message)).unwrap(), b"\x0a\x03abc");
    }

    #[test]
    fn an_answer_of_another_shape_is_refused() {
        for data in [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x02a", b"\0\0\0\0\x01ab", b"\x01\0\0\0\x01a"] {
            assert!(matches!(payload(data), Err(GrpcError::Malformed(_))), "{data:?}");
        }
    }

    #[test]
    fn a_status_tells_success_refusal_and_nonsense_apart() {
        let headers = |code: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", code.parse().unwrap());
            headers.insert("grpc-message", "no%20way%3A 100%25, 5%".parse().unwrap());
            headers
        };
        assert!(status(&headers("0")).is_ok());
        assert_eq!(status(&headers("5")).unwrap_err().to_string(), "code 5: no way: 100%, 5%");
        assert!(matches!(status(&headers("x")), Err(GrpcError::Malformed(_))));
        assert!(matches!(status(&HeaderMap::new()), Err(GrpcError::Malformed(_))));
    }
}
