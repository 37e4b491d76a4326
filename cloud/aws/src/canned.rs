//! For tests: a server on the loopback that gives prepared answers and remembers what it was asked.
//!
//! It knows as much HTTP as the SDK's client needs: one request per connection, a body of known length.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What was asked: method, path and body.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: String,
}

/// Chooses the answer, a status and a body. No answer closes the connection.
type Answer = Box<dyn FnMut(&Asked) -> Option<(u16, String)> + Send>;

pub(crate) struct Canned {
    pub(crate) endpoint: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Canned {
    pub(crate) async fn start(answer: impl FnMut(&Asked) -> Option<(u16, String)> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let mut answer: Answer = Box::new(answer);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = serve(stream, &mut answer, &seen).await;
            }
        });
        Self { endpoint, asked }
    }

    /// A server that gives these answers in turn, all with status 200.
    pub(crate) async fn in_turn(answers: &[&str]) -> Self {
        let mut answers: VecDeque<String> = answers.iter().map(|text| (*text).to_owned()).collect();
        Self::start(move |_| answers.pop_front().map(|body| (200, body))).await
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no test panics with the lock").clone()
    }
}

async fn serve(mut stream: TcpStream, answer: &mut Answer, seen: &Mutex<Vec<Asked>>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let mut wanted = usize::MAX;
    while bytes.len() < wanted {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            wanted = end + 4 + length.unwrap_or(0);
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut words = head.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let asked = Asked { method, path, body: body.to_owned() };
    let answered = answer(&asked);
    seen.lock().expect("no test panics with the lock").push(asked);
    let Some((status, body)) = answered else { return Ok(()) };
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\nx-amzn-requestid: r-7\r\n\
         x-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await
}
