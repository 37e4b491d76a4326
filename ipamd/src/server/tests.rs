//! Tests of the socket: permissions, a dead agent's file, garbage, slow and many clients, hanging up, stopping.

use super::*;
use serde_json::Value;
use spur_wire::{RequestBody, StatusReply};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Answers STATUS at once, everything else when told to; counts what it takes, and what is dropped unanswered.
#[derive(Default)]
struct Scripted {
    release: Notify,
    taken: AtomicUsize,
    dropped: Arc<AtomicUsize>,
}

struct CountDrop(Arc<AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Handler for Scripted {
    async fn handle(&self, request: Request) -> Response {
        if request.body != RequestBody::Status {
            let guard = CountDrop(Arc::clone(&self.dropped));
            self.taken.fetch_add(1, Ordering::SeqCst);
            self.release.notified().await;
            std::mem::forget(guard);
        }
        Response::Status(StatusReply { ready: true, reason: None, limited: false })
    }
}

struct Served {
    dir: tempfile::TempDir,
    handler: Arc<Scripted>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Served {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let handler = Arc::new(Scripted::default());
        let stop = CancellationToken::new();
        let socket = bind(&dir.path().join("run/agent.sock")).unwrap();
        let task = tokio::spawn(serve(socket, Arc::clone(&handler), stop.clone()));
        Self { dir, handler, stop, task }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("run/agent.sock")
    }
}

/// Sends bytes, closes the sending side if told to, and reads the answer; blocking, as the plugin is.
async fn send(path: &Path, bytes: impl Into<Vec<u8>>) -> Option<Response> {
    let (path, bytes) = (path.to_owned(), bytes.into());
    tokio::task::spawn_blocking(move || {
        let mut stream = StdStream::connect(path).unwrap();
        // A refusal may come, and the connection be gone, before all is written.
        let _ = stream.write_all(&bytes);
        spur_wire::read_frame(&mut stream).ok()
    })
    .await
    .unwrap()
}

fn frame(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    spur_wire::write_frame(&mut bytes, value).unwrap();
    bytes
}

fn status() -> Vec<u8> {
    frame(&serde_json::json!({"version": 1, "network": "spur", "body": "status"}))
}

fn slow() -> Vec<u8> {
    let attachment = serde_json::json!({"containerId": "c", "ifName": "eth0"});
    frame(&serde_json::json!({"version": 1, "network": "spur", "body": {"del": {"attachment": attachment}}}))
}

fn refusal(response: Option<Response>) -> (RefusalKind, String) {
    match response {
        Some(Response::Refused(refusal)) => (refusal.kind, refusal.reason),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_roots_alone_and_goes_when_the_agent_stops() {
    let served = Served::start();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&served.path()), 0o600);
    assert_eq!(mode(served.path().parent().unwrap()), 0o700);
    assert!(matches!(send(&served.path(), status()).await, Some(Response::Status(_))));
    served.stop.cancel();
    served.task.await.unwrap();
    assert!(!served.dir.path().join("run/agent.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_agents_socket_is_replaced_and_a_live_ones_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let live = bind(&path).unwrap();
    assert!(matches!(bind(&path), Err(BindError::Busy(_))));
    drop(live);
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(bind(&path), Err(BindError::NoSocket(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_others_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = bind(&dir.path().join("agent.sock")).unwrap_err();
    assert!(matches!(error, BindError::Writable { mode: 0o777, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_refused_with_what_would_be_right() {
    let served = Served::start();
    let too_long = format!("at most {MAX_FRAME}");
    let cases: &[(&str, Vec<u8>, RefusalKind, &str)] = &[
        ("oversize", vec![0xff; 8], RefusalKind::Invalid, &too_long),
        ("no JSON", b"\x03\0\0\0abc".to_vec(), RefusalKind::Invalid, "not JSON"),
        ("empty", b"\0\0\0\0".to_vec(), RefusalKind::Invalid, "not JSON"),
        ("no UTF-8", b"\x04\0\0\0\"\xff\xfe\"".to_vec(), RefusalKind::Invalid, "not JSON"),
        ("no version", frame(&serde_json::json!({"body": "status"})), RefusalKind::Version, "expected 1"),
        ("newer", frame(&serde_json::json!({"version": 2, "x": []})), RefusalKind::Version, "speaks 1"),
        (
            "newer verb",
            frame(&serde_json::json!({"version": 1, "network": "n", "body": "dance"})),
            RefusalKind::Version,
            "dance",
        ),
        (
            "no network",
            frame(&serde_json::json!({"version": 1, "body": "status"})),
            RefusalKind::Invalid,
            "missing field `network`",
        ),
        (
            "no operands",
            frame(&serde_json::json!({"version": 1, "network": "n", "body": {"add": {}}})),
            RefusalKind::Invalid,
            "missing field",
        ),
    ];
    for (what, bytes, kind, reason) in cases {
        let (found, text) = refusal(send(&served.path(), bytes.clone()).await);
        assert!(found == *kind && text.contains(reason), "{what}: {found:?} {text}");
    }
    assert!(matches!(send(&served.path(), status()).await, Some(Response::Status(_))));
}

#[test]
fn only_root_and_the_agents_own_user_may_ask() {
    for (uid, own, may) in
        [(0, 0, true), (0, 998, true), (998, 998, true), (1000, 0, false), (1000, 998, false)]
    {
        assert_eq!(may_ask(uid, own), may, "user {uid} of an agent of {own}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_frame_does_no_harm() {
    let served = Served::start();
    for bytes in [&b"\x05"[..], b"\x05\0\0\0[1"] {
        let mut stream = StdStream::connect(served.path()).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = tokio::task::spawn_blocking(move || spur_wire::read_frame::<Response>(&mut stream).ok());
        let (kind, reason) = refusal(answer.await.unwrap());
        assert!(kind == RefusalKind::Invalid && reason.contains("torn"), "{reason}");
    }
    drop(StdStream::connect(served.path()).unwrap());
    assert!(matches!(send(&served.path(), status()).await, Some(Response::Status(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_silent_clients_do_not_keep_a_plugin_waiting() {
    let served = Served::start();
    let silent: Vec<StdStream> = (0..400).map(|_| StdStream::connect(served.path()).unwrap()).collect();
    assert!(matches!(send(&served.path(), status()).await, Some(Response::Status(_))));
    let mut last = silent.into_iter().next_back().unwrap();
    let answer = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        last.read_to_end(&mut bytes).map(|_| bytes)
    });
    let bytes = tokio::time::timeout(READ_LIMIT * 4, answer).await.unwrap().unwrap().unwrap();
    let (kind, reason) = refusal(spur_wire::read_frame(&mut bytes.as_slice()).ok());
    assert!(kind == RefusalKind::Invalid && reason.contains("within 5 s"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_hangs_up_ends_its_request() {
    let served = Served::start();
    let mut stream = StdStream::connect(served.path()).unwrap();
    stream.write_all(&slow()).unwrap();
    drop(stream);
    let dropped = async {
        while served.handler.dropped.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(READ_LIMIT * 4, dropped).await.expect("the request goes on without its peer");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_finishes_what_is_in_flight() {
    let served = Served::start();
    let path = served.path();
    let waiting = tokio::spawn(async move { send(&path, slow()).await });
    while served.handler.taken.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    served.stop.cancel();
    while served.path().exists() {
        tokio::task::yield_now().await;
    }
    assert!(!served.task.is_finished());
    served.handler.release.notify_waiters();
    served.handler.release.notify_one();
    assert!(matches!(waiting.await.unwrap(), Some(Response::Status(_))));
    served.task.await.unwrap();
}
