//! What the tests of the binary share: running it as a runtime does (environment and standard input alone), and an agent that
//! answers what a test tells it to. The agent here is not the product's: it only speaks the protocol, so that the tests
//! can make it misbehave. Nothing here needs privileges.
#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses a part; a test may unwrap")]

use spur_wire::{
    AddReply, Attachment, CheckReply, DelReply, GcReply, Refusal, RefusalKind, Request, RequestBody,
    Response, StatusReply, read_frame, write_frame,
};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The plugin, or the one that can be made to fail, whichever the tests are of.
const PLUGIN: &str = match (option_env!("CARGO_BIN_EXE_spur"), option_env!("CARGO_BIN_EXE_spur-faults")) {
    (Some(plugin), _) | (None, Some(plugin)) => plugin,
    (None, None) => panic!("cargo tells integration tests where the package's binary is"),
};

/// What one execution of the plugin left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

/// One execution of the plugin to be.
#[derive(Debug, Clone)]
pub(crate) struct Invocation {
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) stdin: Vec<u8>,
    /// What the configuration points at must outlive the invocation.
    home: Option<Arc<TempDir>>,
}

impl Invocation {
    /// Changes the network configuration.
    pub(crate) fn edit(mut self, change: impl FnOnce(&mut serde_json::Value)) -> Self {
        let mut conf = serde_json::from_slice(&self.stdin).unwrap();
        change(&mut conf);
        self.stdin = conf.to_string().into();
        self
    }

    pub(crate) fn stdin(mut self, stdin: impl Into<Vec<u8>>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// The directory of the agent that the configuration points at.
    pub(crate) fn home(&self) -> &Path {
        self.home.as_ref().unwrap().path()
    }

    /// Only `CNI_COMMAND` and standard input.
    pub(crate) fn bare(command: &str, stdin: impl Into<Vec<u8>>) -> Self {
        Self {
            env: BTreeMap::from([("CNI_COMMAND".into(), command.into())]),
            stdin: stdin.into(),
            home: None,
        }
    }

    pub(crate) fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }

    pub(crate) fn without(mut self, key: &str) -> Self {
        self.env.remove(key);
        self
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(PLUGIN);
        command.env_clear().envs(&self.env);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts the plugin and gives it its standard input.
    pub(crate) fn spawn(&self) -> Child {
        let mut child = self.command().spawn().unwrap();
        // A plugin that does not read its input closes the pipe; that is for the test to judge.
        let _ = child.stdin.take().unwrap().write_all(&self.stdin);
        child
    }

    pub(crate) fn run(&self) -> Ran {
        let started = Instant::now();
        finish(self.spawn(), started)
    }
}

pub(crate) fn finish(child: Child, started: Instant) -> Ran {
    let output = child.wait_with_output().unwrap();
    Ran {
        success: output.status.success(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        took: started.elapsed(),
    }
}

impl Ran {
    /// Asserts success with an empty standard output.
    #[track_caller]
    pub(crate) fn assert_silent_success(&self) {
        assert!(self.success && self.stdout.is_empty(), "{self:?}");
    }

    /// Asserts success and gives the JSON on standard output.
    #[track_caller]
    pub(crate) fn result(&self) -> serde_json::Value {
        assert!(self.success, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts a failure that is one well-formed error object with this code, and gives `msg` and `details`.
    #[track_caller]
    pub(crate) fn failure(&self, code: u64) -> String {
        assert!(!self.success, "{self:?}");
        let object: serde_json::Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        assert_eq!(object["code"], code, "{self:?}");
        assert!(object["cniVersion"].is_string(), "{self:?}");
        let keys: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
        assert!(keys.iter().all(|key| ["cniVersion", "code", "msg", "details"].contains(key)), "{keys:?}");
        format!("{}; {}", object["msg"].as_str().unwrap(), object["details"].as_str().unwrap_or_default())
    }
}

/// What the agent does with a request.
pub(crate) enum Behaviour {
    Answer(Response),
    /// These bytes, then close.
    Bytes(Vec<u8>),
    /// Nothing, until the plugin goes away.
    Hang,
    /// One byte of a long answer now and then.
    Drip,
    /// Nothing, and close.
    Close,
    /// SIGKILL to the plugin that asks.
    Kill,
}

/// An agent on a socket of its own.
pub(crate) struct FakeAgent {
    home: Arc<TempDir>,
    requests: Arc<Mutex<Vec<Request>>>,
    active: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl FakeAgent {
    pub(crate) fn start(behave: impl Fn(&Request) -> Behaviour + Send + Sync + 'static) -> Self {
        let home = Arc::new(tempfile::tempdir().unwrap());
        let mut agent = Self {
            home,
            requests: Arc::default(),
            active: Arc::default(),
            stop: Arc::default(),
            listener: None,
        };
        agent.listen(behave);
        agent
    }

    /// A directory and no agent.
    pub(crate) fn absent() -> Self {
        let home = Arc::new(tempfile::tempdir().unwrap());
        Self { home, requests: Arc::default(), active: Arc::default(), stop: Arc::default(), listener: None }
    }

    /// Starts to listen, after [`FakeAgent::absent`] or a stop.
    pub(crate) fn listen(&mut self, behave: impl Fn(&Request) -> Behaviour + Send + Sync + 'static) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let (requests, active, behave) = (self.requests.clone(), self.active.clone(), Arc::new(behave));
        let stop = Arc::new(AtomicBool::new(false));
        self.stop = stop.clone();
        self.listener = Some(std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                active.fetch_add(1, Ordering::SeqCst);
                let (stream, requests, active, behave) =
                    (stream.unwrap(), requests.clone(), active.clone(), behave.clone());
                std::thread::spawn(move || {
                    serve(stream, &requests, &*behave);
                    active.fetch_sub(1, Ordering::SeqCst);
                });
            }
        }));
    }

    /// Waits until everything that was sent so far is dealt with, also for plugins that were killed meanwhile.
    pub(crate) fn settle(&self) {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        write_frame(&mut stream, &"not a request").unwrap();
        let _ = stream.read(&mut [0]);
        wait_until("the agent has no open calls", || self.active.load(Ordering::SeqCst) == 0);
    }

    pub(crate) fn stop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(listener) = self.listener.take() {
            let _ = UnixStream::connect(self.socket());
            listener.join().unwrap();
            std::fs::remove_file(self.socket()).unwrap();
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.home.path().join("agent.sock")
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.home.path().join("spool")
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// A network configuration that leads here.
    pub(crate) fn conf(&self, version: &str) -> serde_json::Value {
        serde_json::json!({
            "cniVersion": version, "name": "spur-test", "type": "spur",
            "socket": self.socket(), "spoolDir": self.spool(), "timeoutSeconds": 10,
        })
    }

    /// A complete invocation with a configuration that leads here.
    pub(crate) fn invocation(&self, command: &str, container: &str, netns: impl AsRef<Path>) -> Invocation {
        let mut invocation = Invocation::bare(command, self.conf("1.1.0").to_string())
            .with("CNI_CONTAINERID", container)
            .with("CNI_IFNAME", "eth0")
            .with("CNI_NETNS", netns.as_ref().to_str().unwrap())
            .with("CNI_PATH", "/opt/cni/bin");
        invocation.home = Some(self.home.clone());
        invocation
    }

    pub(crate) fn spooled(&self) -> Vec<spur_wire::SpooledRelease> {
        let spool = spur_wire::SpooledRelease::read_all(&self.spool()).unwrap();
        assert!(spool.broken.is_empty(), "{:?}", spool.broken);
        spool.releases.into_iter().map(|(_, release)| release).collect()
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Polls until it is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < patience, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn serve(mut stream: UnixStream, requests: &Mutex<Vec<Request>>, behave: &dyn Fn(&Request) -> Behaviour) {
    let Ok(request) = read_frame::<Request>(&mut stream) else { return };
    requests.lock().unwrap().push(request.clone());
    match behave(&request) {
        Behaviour::Answer(response) => _ = write_frame(&mut stream, &response),
        Behaviour::Kill => {
            let plugin = rustix::net::sockopt::socket_peercred(&stream).unwrap().pid;
            rustix::process::kill_process(plugin, rustix::process::Signal::KILL).unwrap();
            // Until the kernel has closed its end.
            let _ = stream.read(&mut [0]);
        }
        Behaviour::Bytes(bytes) => _ = stream.write_all(&bytes),
        Behaviour::Hang => _ = stream.read(&mut [0]),
        Behaviour::Drip => {
            let _ = stream.write_all(&60_000_u32.to_le_bytes());
            while stream.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Behaviour::Close => {}
    }
}

impl FakeAgent {
    /// An agent that does everything right, and its books.
    pub(crate) fn honest() -> (Self, Pool) {
        let pool = Pool::default();
        let books = pool.clone();
        (Self::start(move |request| Behaviour::Answer(books.answer(request))), pool)
    }
}

/// The honest part of an agent: who holds which address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pool(Arc<Mutex<BTreeMap<(String, Attachment), IpAddr>>>);

impl Pool {
    pub(crate) fn held(&self) -> BTreeMap<(String, Attachment), IpAddr> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn answer(&self, request: &Request) -> Response {
        let network = request.network.clone();
        let mut held = self.0.lock().unwrap();
        match &request.body {
            RequestBody::Add(add) => {
                let key = (network, add.attachment.clone());
                if held.contains_key(&key) {
                    return refused(RefusalKind::AlreadyAttached, "the attachment holds an address");
                }
                let free = (1..=u8::MAX).map(|last| IpAddr::from(Ipv4Addr::new(10, 77, 1, last)));
                let Some(address) =
                    free.into_iter().find(|address| !held.values().any(|other| other == address))
                else {
                    return refused(RefusalKind::TryAgain, "the pool is empty");
                };
                held.insert(key, address);
                Response::Add(grant(address))
            }
            RequestBody::Del(del) => {
                let address = held.remove(&(network, del.attachment.clone()));
                Response::Del(DelReply { addresses: address.into_iter().collect(), reaps_links: false })
            }
            RequestBody::Check(check) => {
                let address = held.get(&(network, check.attachment.clone())).copied();
                Response::Check(CheckReply { addresses: address.into_iter().collect(), problems: Vec::new() })
            }
            RequestBody::Gc(gc) => {
                let stale = |key: &(String, Attachment)| key.0 == network && !gc.valid.contains(&key.1);
                let released: Vec<_> =
                    held.keys().filter(|key| stale(key)).map(|key| key.1.clone()).collect();
                held.retain(|key, _| !stale(key));
                Response::Gc(GcReply { released, problems: Vec::new() })
            }
            RequestBody::Status => {
                Response::Status(StatusReply { ready: true, reason: None, limited: false })
            }
        }
    }
}

pub(crate) fn grant(address: IpAddr) -> AddReply {
    AddReply {
        addresses: vec![address],
        mtu_bytes: 9001,
        pods_table: 5000,
        node_address: Ipv4Addr::new(10, 77, 0, 1).into(),
    }
}

pub(crate) fn refused(kind: RefusalKind, reason: &str) -> Response {
    Response::Refused(Refusal { kind, reason: reason.into() })
}
