//! What the tests of the running binary share: a world that ends with its guard, a client for the EC2 API and for the
//! inspection endpoints, and commands inside a namespace. The client is a few lines over a socket on purpose: it is a
//! witness from outside and shares nothing with the server's HTTP stack.

use serde_json::Value;
use spur_datapath::netns::NetNs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub(crate) const VPCSIM: &str = env!("CARGO_BIN_EXE_vpcsim");
/// Far above what anything here takes, so that a slow machine is not a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A name that no other test, process or leftover has.
pub(crate) fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Three nodes: `a1` and `a2` in one subnet, `b1` in another.
pub(crate) fn scenario(nodes: &[(&str, &str)]) -> String {
    let mut text = String::from(
        "name: test\n\
         vpc: { cidrs: [10.0.0.0/16] }\n\
         subnets:\n\
         - { name: a, zone: eu-central-1a, cidr: 10.0.0.0/24 }\n\
         - { name: b, zone: eu-central-1b, cidr: 10.0.1.0/24 }\n\
         internet: { address: 203.0.113.10 }\n\
         delays: { attachMillis: 300, detachMillis: 200 }\n\
         nodes:\n",
    );
    for (name, subnet) in nodes {
        text.push_str(&format!("- {{ name: {name}, type: m5.large, subnet: {subnet} }}\n"));
    }
    text
}

pub(crate) const THREE: &[(&str, &str)] = &[("a1", "a"), ("a2", "a"), ("b1", "b")];

/// A running vpcsim. Dropping it stops the process and removes whatever it left.
pub(crate) struct World {
    child: Child,
    pub(crate) name: String,
    pub(crate) ready: Value,
    pub(crate) took: Duration,
    _dir: tempfile::TempDir,
}

impl World {
    pub(crate) fn up(scenario: &str) -> Self {
        Self::start("up", scenario, &unique_name(), &[])
    }

    pub(crate) fn start(verb: &str, scenario: &str, name: &str, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("scenario.yaml");
        std::fs::write(&file, scenario).unwrap();
        let begun = Instant::now();
        let mut child = Command::new(VPCSIM)
            .arg(verb)
            .arg("--scenario")
            .arg(&file)
            .args(["--name", name])
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let took = begun.elapsed();
        let ready = serde_json::from_str(&line).unwrap_or_else(|_| {
            let _ = child.kill();
            panic!("vpcsim {verb} did not get ready ({:?}): {line:?}; it needs root", child.wait())
        });
        Self { child, name: name.to_owned(), ready, took, _dir: dir }
    }

    pub(crate) fn node(&self, name: &str) -> &Value {
        let nodes = self.ready["nodes"].as_array().unwrap();
        nodes.iter().find(|node| node["name"] == name).unwrap()
    }

    pub(crate) fn address(&self, node: &str) -> &str {
        self.node(node)["primaryAddress"].as_str().unwrap()
    }

    pub(crate) fn netns(&self, node: &str) -> &str {
        self.node(node)["netns"].as_str().unwrap()
    }

    /// Runs a command in a node's namespace.
    pub(crate) fn on(&self, node: &str, command: &[&str]) -> Output {
        inside(self.netns(node), command)
    }

    pub(crate) fn endpoint(&self) -> &str {
        self.ready["endpoint"].as_str().unwrap().strip_prefix("http://").unwrap()
    }

    /// An EC2 call in a node's name.
    pub(crate) fn call(&self, node: &str, action: &str, parameters: &[(&str, &str)]) -> (u16, String) {
        let key = self.node(node)["accessKeyId"].as_str().unwrap();
        call(self.endpoint(), key, action, parameters)
    }

    /// An EC2 call that must succeed; returns the text of the first element `element` of the answer.
    pub(crate) fn must(
        &self,
        node: &str,
        action: &str,
        parameters: &[(&str, &str)],
        element: &str,
    ) -> String {
        let (status, body) = self.call(node, action, parameters);
        assert_eq!(status, 200, "{action}: {body}");
        text_of(&body, element).unwrap_or_else(|| panic!("{action}: no {element} in {body}")).to_owned()
    }

    /// What an inspection endpoint answers.
    pub(crate) fn inspect(&self, what: &str) -> Value {
        let (status, _, body) = request(self.endpoint(), "GET", &format!("/_vpcsim/{what}"), &[], "");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// How many packets were dropped for `reason`, over all ENIs.
    pub(crate) fn dropped(&self, reason: &str) -> u64 {
        let drops = self.inspect("drops");
        let drops = drops.as_array().unwrap();
        let counts = drops
            .iter()
            .filter(|drop| drop["reason"] == reason)
            .map(|drop| drop["packets"].as_u64().unwrap());
        counts.sum()
    }

    /// What its process has used of processors so far, in hundredths of a second.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // After the name, which may hold anything: utime and stime are the 12th and 13th.
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(10 * ticks)
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "vpcsim did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(rustix::process::Signal::TERM);
            let end = Instant::now() + PATIENCE;
            while let Ok(None) = self.child.try_wait() {
                if Instant::now() > end {
                    let _ = self.child.kill();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = self.child.wait();
        // Does nothing after an orderly end.
        let _ = Command::new(VPCSIM).args(["down", "--name", &self.name]).output();
    }
}

/// Runs a command in a named namespace.
pub(crate) fn inside(netns: &str, command: &[&str]) -> Output {
    Command::new("ip").args(["netns", "exec", netns]).args(command).output().unwrap()
}

pub(crate) fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a closure in a named namespace.
pub(crate) fn enter<T: Send>(netns: &str, work: impl FnOnce() -> T + Send) -> T {
    NetNs::open_named(netns).unwrap().run(work).unwrap()
}

/// Waits until `met` gives something.
pub(crate) fn eventually<T>(what: &str, mut met: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = met() {
            return value;
        }
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An EC2 call as an SDK sends it, with a signature that nobody checks.
pub(crate) fn call(endpoint: &str, key: &str, action: &str, parameters: &[(&str, &str)]) -> (u16, String) {
    let mut body = format!("Action={action}&Version=2016-11-15");
    for (name, value) in parameters {
        body.push_str(&format!("&{name}={value}"));
    }
    let signed = format!(
        "AWS4-HMAC-SHA256 Credential={key}/20261121/eu-central-1/ec2/aws4_request, SignedHeaders=host, Signature=0"
    );
    let headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Authorization", signed.as_str())];
    let (status, _, answer) = request(endpoint, "POST", "/", &headers, &body);
    (status, answer)
}

/// One HTTP request on a connection of its own: status, head, body.
pub(crate) fn request(
    endpoint: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String, String) {
    let mut stream = TcpStream::connect(endpoint).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {endpoint}\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP answer: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap(), head.to_lowercase(), body.to_owned())
}

/// The text of the first element of that name.
pub(crate) fn text_of<'x>(xml: &'x str, element: &str) -> Option<&'x str> {
    let rest = xml.split_once(&format!("<{element}>"))?.1;
    Some(rest.split_once(&format!("</{element}>"))?.0)
}

/// Sends a datagram from `source` in one namespace to `target` in another; who the receiver saw as sender.
pub(crate) fn datagram(from: &str, source: &str, to: &str, target: &str) -> Option<String> {
    arrival((from, source), (to, target), PATIENCE)
}

/// Sends a datagram likewise; whether it does not come.
pub(crate) fn is_lost(from: &str, source: &str, to: &str, target: &str) -> bool {
    arrival((from, source), (to, target), Duration::from_millis(500)).is_none()
}

fn arrival((from, source): (&str, &str), (to, target): (&str, &str), within: Duration) -> Option<String> {
    let receiver = enter(to, || UdpSocket::bind((target, 0)).unwrap());
    receiver.set_read_timeout(Some(within)).unwrap();
    let sender = enter(from, || UdpSocket::bind((source, 0)).unwrap());
    sender.send_to(b"who am I", receiver.local_addr().unwrap()).unwrap();
    let mut text = [0; 16];
    receiver.recv_from(&mut text).ok().map(|(_, peer)| peer.ip().to_string())
}

/// One ping from inside a namespace that must be answered, with further arguments.
#[track_caller]
pub(crate) fn assert_answers(netns: &str, target: &str, more: &[&str]) {
    let wait = format!("-W{}", PATIENCE.as_secs());
    let ping = inside(netns, &[&["ping", "-c1", &wait, target], more].concat());
    assert!(ping.status.success(), "{target}: {}", words(&ping));
}

/// One ping from inside a namespace that nobody may answer.
#[track_caller]
pub(crate) fn assert_silent(netns: &str, target: &str) {
    assert!(!inside(netns, &["ping", "-c1", "-W1", target]).status.success(), "{target} answers");
}

/// Puts a second address on a node's loopback, so that a process may send from it.
pub(crate) fn give(world: &World, node: &str, address: &str) {
    let given = world.on(node, &["ip", "address", "add", &format!("{address}/32"), "dev", "lo"]);
    assert!(given.status.success(), "{}", words(&given));
}
