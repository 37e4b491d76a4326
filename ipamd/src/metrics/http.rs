//! The endpoint: `GET /metrics` over HTTP/1, and nothing else.
//!
//! # Rules
//! - Metrics are never worth a pod: an address that cannot be listened on is a condition in the log ([`CONDITION`]), and is tried again
//!   until it can.
//! - A client costs little whatever it does: [`CONNECTIONS`] at a time, the others wait in the kernel's queue; one request each, its head in at most [`HEAD_BYTES`];
//!   [`PATIENCE`] from the first byte to the last.
//! - No secret is told, and nothing can be changed. Whoever can connect may read; by default that is this machine.
//!
//! hyper alone, which the EC2 client is made of anyway: decision 0014.

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// A pair of Prometheus servers, a person, and some to spare.
const CONNECTIONS: usize = 8;
/// Prometheus sends some 300 bytes; hyper takes no lower limit.
const HEAD_BYTES: usize = 8 << 10;
/// Prometheus gives up after 10 s by default.
const PATIENCE: Duration = Duration::from_secs(10);
/// First wait until the address is tried again; doubled up to the last.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// What the log calls it when nobody can fetch metrics.
const CONDITION: &str = "MetricsUnavailable";
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Whom the metrics are about.
pub(crate) trait Source: Send + Sync + 'static {
    /// The metrics now, as text. The future is dropped if that takes too long.
    fn text(&self) -> impl Future<Output = String> + Send;
}

/// Serves until `stop`; without an address, not at all.
pub(crate) async fn serve<S: Source>(listen: Option<SocketAddr>, source: Arc<S>, stop: CancellationToken) {
    let Some(address) = listen else { return };
    let Some(listener) = stop.run_until_cancelled(bind(address)).await else { return };
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    stop.clone().run_until_cancelled_owned(accept(listener, source, slots, stop)).await;
}

/// Listens, as soon as that can be done.
async fn bind(address: SocketAddr) -> TcpListener {
    let mut wait = FIRST_RETRY;
    let mut told: Option<ErrorKind> = None;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!(%address, "metrics are served");
                return listener;
            }
            Err(error) if told == Some(error.kind()) => {}
            Err(error) => {
                told = Some(error.kind());
                tracing::warn!(
                    condition = CONDITION, key = "metrics.listen", %address, %error,
                    "nobody can fetch metrics; pods are served all the same, and the address is tried again"
                );
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LAST_RETRY);
    }
}

async fn accept<S: Source>(
    listener: TcpListener,
    source: Arc<S>,
    slots: Arc<Semaphore>,
    stop: CancellationToken,
) {
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let (source, stop) = (Arc::clone(&source), stop.clone());
                tokio::spawn(async move {
                    // Who leaves early, or is cut off, knows it.
                    let _ = stop
                        .run_until_cancelled(tokio::time::timeout(PATIENCE, converse(stream, source)))
                        .await;
                    drop(slot);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: asking again at once would only burn the processor.
                tracing::warn!(%error, "accept a connection for metrics");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse<S: Source>(stream: TcpStream, source: Arc<S>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let source = Arc::clone(&source);
        async move { Ok::<_, Infallible>(answer(request.method(), request.uri().path(), &*source).await) }
    });
    let conversation = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = conversation.await {
        tracing::debug!(%error, "a client of the metrics left");
    }
}

async fn answer<S: Source>(method: &Method, path: &str, source: &S) -> Response<String> {
    if path != "/metrics" {
        return reply(StatusCode::NOT_FOUND, PLAIN, "metrics are at /metrics\n".to_owned());
    }
    if method != Method::GET {
        let mut refusal = reply(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET\n".to_owned());
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return refusal;
    }
    reply(StatusCode::OK, OPEN_METRICS, source.text().await)
}

fn reply(status: StatusCode, content: HeaderValue, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    struct Words(&'static str);

    impl Source for Words {
        async fn text(&self) -> String {
            self.0.to_owned()
        }
    }

    /// A port that nobody has.
    async fn taken() -> TcpListener {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
    }

    fn serve_at(address: SocketAddr, stop: &CancellationToken) -> tokio::task::JoinHandle<()> {
        tokio::spawn(serve(Some(address), Arc::new(Words("spur_up 1\n# EOF\n")), stop.clone()))
    }

    /// Connects as soon as somebody listens, and says `request`.
    async fn say(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = loop {
            match TcpStream::connect(address).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        // Who is cut off in the middle of a long request is told or not, as the kernel's buffers have it.
        let _ = stream.write_all(request).await;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    #[tokio::test]
    async fn metrics_are_at_their_path_and_nothing_else_is_anywhere() {
        let address = taken().await.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = serve_at(address, &stop);
        for (request, status, body) in [
            ("GET /metrics HTTP/1.1\r\nHost: n\r\n\r\n", "200", "spur_up 1\n# EOF\n"),
            ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", "200", "spur_up 1\n# EOF\n"),
            ("GET / HTTP/1.0\r\n\r\n", "404", "metrics are at /metrics\n"),
            ("POST /metrics HTTP/1.0\r\nContent-Length: 0\r\n\r\n", "405", "only GET\n"),
            ("what?\r\n\r\n", "400", ""),
        ] {
            let answer = say(address, request.as_bytes()).await;
            assert!(
                answer.split(' ').nth(1) == Some(status) && answer.ends_with(body),
                "{request}: {answer}"
            );
        }
        let long = format!("GET /metrics HTTP/1.0\r\nX: {}\r\n\r\n", "x".repeat(2 * HEAD_BYTES));
        let answer = say(address, long.as_bytes()).await;
        assert!(!answer.contains("spur_up"), "{answer}");
        stop.cancel();
        served.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_that_is_taken_is_tried_again_until_it_is_free() {
        let other = taken().await;
        let address = other.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = serve_at(address, &stop);
        tokio::time::sleep(LAST_RETRY).await;
        assert!(!served.is_finished());
        drop(other);
        let answer = say(address, b"GET /metrics HTTP/1.0\r\n\r\n").await;
        assert!(answer.ends_with("spur_up 1\n# EOF\n"), "{answer}");
        stop.cancel();
        served.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_cut_off_and_does_not_keep_others_out() {
        let address = taken().await.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = serve_at(address, &stop);
        let silent = (0..2 * CONNECTIONS).map(|_| tokio::spawn(say(address, b"GET /me")));
        let silent: Vec<_> = silent.collect();
        let answer = say(address, b"GET /metrics HTTP/1.0\r\n\r\n").await;
        assert!(answer.ends_with("spur_up 1\n# EOF\n"), "{answer}");
        for one in silent {
            assert_eq!(one.await.unwrap(), "", "no answer to half a request");
        }
        stop.cancel();
        served.await.unwrap();
    }

    #[tokio::test]
    async fn without_an_address_nothing_is_served() {
        serve(None, Arc::new(Words("")), CancellationToken::new()).await;
    }
}
