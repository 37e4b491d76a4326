//! A proxy before LocalStack that mends the one defect which hides all others: hardware addresses that are none.
//!
//! Spur's client refuses such an answer whole, rightly, so nothing else could be tested. LocalStack formats each of the last
//! three bytes as decimal digits followed by the letters "02x"; the proxy writes the byte that was meant. A contract of its
//! own shows the defect without the proxy.

use anyhow::Context;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const OPEN: &str = "<macAddress>";
const CLOSE: &str = "</macAddress>";

/// Starts the proxy; it ends with the runtime.
pub(crate) async fn start(upstream: SocketAddr) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("listen on the loopback")?;
    let address = listener.local_addr().context("the proxy's own address")?;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // A connection that breaks is the client's to report.
            tokio::spawn(async move { forward(client, upstream).await });
        }
    });
    Ok(address)
}

/// One request and its answer, then the connection ends.
async fn forward(mut client: TcpStream, upstream: SocketAddr) -> anyhow::Result<()> {
    let (head, body) = message(&mut client).await?;
    let mut server = TcpStream::connect(upstream).await?;
    let lines = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let head: String = lines.flat_map(|line| [line, "\r\n"]).collect();
    server.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).await?;
    server.write_all(&body).await?;
    let (head, body) = message(&mut server).await?;
    let body = mend(&String::from_utf8_lossy(&body));
    let kept = |line: &&str| {
        let line = line.to_ascii_lowercase();
        !["content-length:", "connection:", "transfer-encoding:"].iter().any(|name| line.starts_with(name))
    };
    let head: String = head.lines().filter(kept).flat_map(|line| [line, "\r\n"]).collect();
    let head = format!("{head}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    client.write_all(head.as_bytes()).await?;
    client.write_all(body.as_bytes()).await?;
    Ok(client.shutdown().await?)
}

/// Head and body of an HTTP message; a body without length ends with the connection.
async fn message(stream: &mut TcpStream) -> anyhow::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        anyhow::ensure!(stream.read_buf(&mut bytes).await? > 0, "the connection ended in the head");
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let lower = head.to_ascii_lowercase();
    anyhow::ensure!(!lower.contains("transfer-encoding: chunked"), "chunked bodies are not expected");
    let length: Option<usize> =
        lower.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = bytes.split_off(end + 4);
    while length.is_none_or(|length| body.len() < length) {
        if stream.read_buf(&mut body).await? == 0 {
            break;
        }
    }
    Ok((head, body))
}

/// The text with every hardware address as it was meant.
fn mend(text: &str) -> String {
    let mut mended = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let (mac, after) = after.split_once(CLOSE).unwrap_or((after, ""));
        let bytes: Vec<String> = mac.split(':').map(meant).collect();
        mended.extend([before, OPEN, &bytes.join(":"), CLOSE]);
        rest = after;
    }
    mended.push_str(rest);
    mended
}

fn meant(byte: &str) -> String {
    let decimal = byte.strip_suffix("02x").and_then(|digits| digits.parse::<u8>().ok());
    decimal.map_or_else(|| byte.to_owned(), |value| format!("{value:02x}"))
}

#[cfg(test)]
mod tests {
    use super::mend;

    #[test]
    fn only_the_broken_bytes_are_mended() {
        let broken = "<a>1302x</a><macAddress>02:00:00:1302x:25102x:702x</macAddress><b/><macAddress>0a:00:00:00:00:01</macAddress>";
        let right = "<a>1302x</a><macAddress>02:00:00:0d:fb:07</macAddress><b/><macAddress>0a:00:00:00:00:01</macAddress>";
        assert_eq!(mend(broken), right);
    }
}
