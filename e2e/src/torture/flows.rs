//! Flows that live as long as the run, between pods that do, or a pod and somebody else: a TCP connection and a UDP conversation, probed all the
//! time. Whatever happens to agents, plugins and the cloud, nothing of it may reach them.
//!
//! # What is tolerated
//! A TCP connection must not break, and each probe must be answered within [`PATIENCE`]. Of the datagrams, one in [`LOSS`] may be lost (a full
//! queue of a busy machine drops, and nothing sends them again), but not all of [`PATIENCE`] in a row.

use crate::runtime::Pod;
use anyhow::{Context, Result};
use spur_datapath::netns::NetNs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two probes.
const PACE: Duration = Duration::from_millis(20);
/// How long an answer may take: far above what a busy machine adds, far below what anybody would call a working network.
const PATIENCE: Duration = Duration::from_secs(10);
/// One datagram of so many may be lost.
const LOSS: u64 = 1000;

/// What was seen of a flow so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Probes sent.
    pub sent: u64,
    /// Probes that no answer came to in time.
    pub lost: u64,
    /// The longest wait for an answer.
    pub slowest: Duration,
    /// Why it broke.
    pub broken: Option<String>,
}

/// One flow, and the threads at its ends.
#[derive(Debug)]
pub struct Flow {
    /// What it is, for people.
    pub name: String,
    /// The address that the answering end saw at first.
    pub source: IpAddr,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Where a flow begins or ends.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// For people.
    pub name: &'a str,
    /// Where its socket is.
    pub netns: &'a NetNs,
    /// Under which address it is reached.
    pub address: IpAddr,
}

impl<'a> End<'a> {
    /// A pod that was added.
    ///
    /// # Errors
    /// When it was not.
    pub fn of(pod: &'a Pod) -> Result<Self> {
        let address = pod.address.with_context(|| format!("pod {} has no address", pod.name))?;
        Ok(Self { name: &pod.name, netns: &pod.netns, address })
    }
}

/// Either transport, at the asking end.
enum Wire {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl Flow {
    /// Begins both flows between two pods.
    ///
    /// # Errors
    /// As [`Flow::open`].
    pub fn between(from: &Pod, to: &Pod) -> Result<[Self; 2]> {
        Self::open(End::of(from)?, End::of(to)?)
    }

    /// Begins both flows.
    ///
    /// # Errors
    /// When a socket cannot be made or the connection does not come about.
    pub fn open(from: End<'_>, to: End<'_>) -> Result<[Self; 2]> {
        let stop = Arc::new(AtomicBool::new(false));
        let (udp, udp_end) = udp(from.netns, to.netns, to.address)?;
        let connected = tcp(from.netns, to.netns, to.address);
        let (tcp, tcp_end) =
            connected.with_context(|| format!("a flow from {} to {}", from.name, to.name))?;
        let source = tcp_end.peer_addr().context("ask whom a flow comes from")?.ip();
        let name = |kind: &str| format!("{kind} {} → {}", from.name, to.name);
        let answer_udp = spawn(&stop, move |stop| answer_datagrams(&udp_end, stop));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let noted = Arc::clone(&seen);
        let answer_tcp = spawn(&stop, move |stop| {
            if let Err(error) = answer_stream(tcp_end, stop) {
                break_off(&noted, &format!("the answering end: {error}"));
            }
        });
        let flow = |kind, seen, answering| Self {
            name: name(kind),
            source,
            seen,
            stop: Arc::clone(&stop),
            threads: vec![answering],
        };
        Ok([
            flow("TCP", seen, answer_tcp).asked_by(Wire::Tcp(tcp)),
            flow("UDP", Arc::default(), answer_udp).asked_by(Wire::Udp(udp)),
        ])
    }

    fn asked_by(mut self, wire: Wire) -> Self {
        let noted = Arc::clone(&self.seen);
        self.threads.push(spawn(&self.stop, move |stop| {
            if let Err(error) = probe(wire, &noted, stop) {
                break_off(&noted, &format!("{error:#}"));
            }
        }));
        self
    }

    /// What was seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        note(&self.seen).clone()
    }

    /// What must not be, in words.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        let seen = self.seen();
        let name = &self.name;
        if let Some(why) = seen.broken {
            return Some(format!("the flow {name} broke: {why}"));
        }
        (seen.lost > seen.sent / LOSS + 1).then(|| {
            format!("the flow {name} lost {} of {} probes; one in {LOSS} is tolerated", seen.lost, seen.sent)
        })
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn note(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first end to notice says why.
fn break_off(seen: &Mutex<Seen>, why: &str) {
    note(seen).broken.get_or_insert_with(|| why.to_owned());
}

fn spawn(stop: &Arc<AtomicBool>, work: impl FnOnce(&AtomicBool) + Send + 'static) -> JoinHandle<()> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || work(&stop))
}

fn udp(from: &NetNs, to: &NetNs, address: IpAddr) -> Result<(UdpSocket, UdpSocket)> {
    let bind = |netns: &NetNs| -> Result<UdpSocket> {
        let socket =
            netns.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?.context("bind a flow's end")?;
        socket.set_read_timeout(Some(PACE))?;
        Ok(socket)
    };
    let (near, far) = (bind(from)?, bind(to)?);
    near.connect((address, far.local_addr()?.port())).context("connect a flow's end")?;
    Ok((near, far))
}

fn tcp(from: &NetNs, to: &NetNs, address: IpAddr) -> Result<(TcpStream, TcpStream)> {
    let listener = to.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))?.context("listen for a flow")?;
    let target = SocketAddr::new(address, listener.local_addr()?.port());
    let near = from.run(move || TcpStream::connect_timeout(&target, PATIENCE))?;
    let near = near.with_context(|| format!("connect a flow to {target}"))?;
    let (far, _) = listener.accept().context("accept a flow")?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    near.set_read_timeout(Some(PATIENCE))?;
    far.set_read_timeout(Some(PACE))?;
    Ok((near, far))
}

fn answer_datagrams(socket: &UdpSocket, stop: &AtomicBool) {
    let mut probe = [0; 8];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut probe) {
            // What is lost here shows at the other end.
            let _ = socket.send_to(&probe[..length], from);
        }
    }
}

fn answer_stream(mut stream: TcpStream, stop: &AtomicBool) -> std::io::Result<()> {
    let mut bytes = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut bytes) {
            // The other end was stopped first.
            Ok(0) => return Ok(()),
            Ok(length) => stream.write_all(&bytes[..length])?,
            Err(error) if is_nothing_yet(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Nothing came within the time that a read may take, or a signal ended it.
fn is_nothing_yet(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// One probe after the other: the next is sent when the one before was answered, or is lost.
fn probe(mut wire: Wire, seen: &Mutex<Seen>, stop: &AtomicBool) -> Result<()> {
    let mut silent_since: Option<Instant> = None;
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let number = note(seen).sent + 1;
        note(seen).sent = number;
        let answered = match &mut wire {
            Wire::Tcp(stream) => {
                stream.write_all(&number.to_be_bytes()).context("send")?;
                let mut answer = [0; 8];
                stream.read_exact(&mut answer).with_context(|| format!("no answer within {PATIENCE:?}"))?;
                anyhow::ensure!(answer == number.to_be_bytes(), "the answer to probe {number} is {answer:?}");
                true
            }
            Wire::Udp(socket) => ask_datagram(socket, number, stop)?,
        };
        if answered {
            silent_since = None;
            let mut seen = note(seen);
            seen.slowest = seen.slowest.max(begin.elapsed());
        } else if !stop.load(Ordering::Relaxed) {
            note(seen).lost += 1;
            let since = *silent_since.get_or_insert(begin);
            anyhow::ensure!(since.elapsed() < PATIENCE, "not one datagram was answered for {PATIENCE:?}");
        }
        std::thread::sleep(PACE.saturating_sub(begin.elapsed()));
    }
    Ok(())
}

/// A datagram is lost when so many looks of [`PACE`] each find no answer: between these pods there is nothing that could hold it for a
/// second. Looks, and not a clock: while the machine stands still, nobody who could answer gets on either.
const LOOKS: u32 = 50;

fn ask_datagram(socket: &UdpSocket, number: u64, stop: &AtomicBool) -> Result<bool> {
    match socket.send(&number.to_be_bytes()) {
        Ok(_) => {}
        // What ICMP said of an earlier probe. The probe counts as lost.
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable) => {
            return Ok(false);
        }
        Err(error) => return Err(error).context("send a datagram"),
    }
    let mut answer = [0; 8];
    for _ in 0..LOOKS {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if matches!(socket.recv(&mut answer), Ok(8)) && answer == number.to_be_bytes() {
            return Ok(true);
        }
    }
    Ok(false)
}
