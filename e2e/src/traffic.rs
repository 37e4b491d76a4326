//! Real packets, and what their receiver saw.
//!
//! An [`Echo`] answers every datagram with the source address that it saw, so the asker learns whether its address was
//! translated on the way. Sockets are made in their namespaces and used from here: a socket stays where it was born.

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RawProtocol, SendFlags, SocketType, sendto, socket};
use spur_datapath::netns::NetNs;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The port that echoes answer on.
pub const ECHO_PORT: u16 = 7007;

/// The payload of a forged datagram; echoes count it and do not answer.
const FORGED: &[u8] = b"forged";

/// How long an answer may take: far above what a busy machine adds.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Echoes in many namespaces, served by one thread.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    forged: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts an echo in each of these namespaces.
    ///
    /// # Errors
    /// When a socket cannot be made.
    pub fn start(namespaces: &[&NetNs]) -> Result<Self> {
        let sockets: Result<Vec<_>> = namespaces
            .iter()
            .map(|netns| {
                let socket = netns.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, ECHO_PORT)))?;
                let socket = socket.context("bind the echo")?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            })
            .collect();
        let sockets = sockets?;
        let stop = Arc::new(AtomicBool::new(false));
        let forged = Arc::new(AtomicU64::new(0));
        let thread = std::thread::spawn({
            let (stop, forged) = (Arc::clone(&stop), Arc::clone(&forged));
            move || serve(&sockets, &stop, &forged)
        });
        Ok(Self { stop, forged, thread: Some(thread) })
    }

    /// How many forged datagrams arrived; none should.
    #[must_use]
    pub fn forged(&self) -> u64 {
        self.forged.load(Ordering::Relaxed)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(sockets: &[UdpSocket], stop: &AtomicBool, forged: &AtomicU64) {
    let mut buffer = [0; 64];
    let tick = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    while !stop.load(Ordering::Relaxed) {
        let mut polled: Vec<_> = sockets.iter().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        if poll(&mut polled, Some(&tick)).is_err() {
            continue;
        }
        let ready: Vec<_> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        for (socket, _) in sockets.iter().zip(ready).filter(|(_, ready)| *ready) {
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if &buffer[..length] == FORGED {
                    forged.fetch_add(1, Ordering::Relaxed);
                } else {
                    // A lost answer shows at the asker.
                    let _ = socket.send_to(from.ip().to_string().as_bytes(), from);
                }
            }
        }
    }
}

/// Asks the echoes at `targets` from inside `netns`, all at once. Each target's answer is the source address that it saw; a target that
/// did not answer in time is absent.
///
/// # Errors
/// When the socket fails; silence is no error.
pub fn ask(netns: &NetNs, targets: &[IpAddr]) -> Result<BTreeMap<IpAddr, IpAddr>> {
    let socket =
        netns.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?.context("make the asking socket")?;
    let mut seen = BTreeMap::new();
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    // Datagrams may be lost on a busy machine: those still unanswered are asked again.
    while seen.len() < targets.len() && Instant::now() < deadline {
        for target in targets.iter().filter(|target| !seen.contains_key(*target)) {
            match socket.send_to(b"who am I?", (*target, ECHO_PORT)) {
                Ok(_) => {}
                // What ICMP reported of an earlier datagram: the target stays unanswered.
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable) => {}
                Err(error) if error.kind() == ErrorKind::NetworkUnreachable => return Ok(seen),
                Err(error) => return Err(error).with_context(|| format!("send to {target}")),
            }
        }
        collect(&socket, targets.len(), &mut seen)?;
    }
    Ok(seen)
}

fn collect(socket: &UdpSocket, wanted: usize, seen: &mut BTreeMap<IpAddr, IpAddr>) -> Result<()> {
    let mut buffer = [0; 64];
    let round = Instant::now() + Duration::from_millis(500);
    while seen.len() < wanted {
        let left = round.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                let text = std::str::from_utf8(&buffer[..length]).context("read an echo's answer")?;
                seen.insert(from.ip(), text.parse().with_context(|| format!("{text:?} is no address"))?);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            // ICMP errors of single targets surface here.
            Err(error) if error.kind() != ErrorKind::Interrupted => {}
            Err(_) => {}
        }
    }
    Ok(())
}

/// Sends `count` datagrams from inside `netns` to an echo with a source address that is not the sender's.
///
/// # Errors
/// When the raw socket cannot be used.
pub fn forge(netns: &NetNs, source: Ipv4Addr, target: Ipv4Addr, count: u32) -> Result<()> {
    let raw = RawProtocol::new(255).map(rustix::net::Protocol::from_raw);
    let socket =
        netns.run(|| socket(AddressFamily::INET, SocketType::RAW, raw))?.context("make a raw socket")?;
    let packet = udp_packet(source, target, FORGED);
    for _ in 0..count {
        let to = SocketAddr::V4(SocketAddrV4::new(target, 0));
        sendto(socket.as_fd(), &packet, SendFlags::empty(), &to).context("send a forged packet")?;
    }
    Ok(())
}

/// An IPv4 packet with a UDP datagram to the echo port; the kernel fills in length and checksum of the IP header, and a UDP
/// checksum of zero means none.
fn udp_packet(source: Ipv4Addr, target: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(source.octets());
    packet.extend(target.octets());
    packet.extend(40_000_u16.to_be_bytes());
    packet.extend(ECHO_PORT.to_be_bytes());
    packet.extend(u16::try_from(8 + payload.len()).unwrap_or(u16::MAX).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

/// Sends `bytes` over TCP from one namespace to a listener in another, and returns the source address that the listener saw. Full-size
/// segments show an MTU that does not fit, which small datagrams would not.
///
/// # Errors
/// When the bytes do not all arrive in time.
pub fn transfer(from: &NetNs, to: &NetNs, address: IpAddr, bytes: usize) -> Result<IpAddr> {
    let listener = to.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))?.context("listen")?;
    let port = listener.local_addr()?.port();
    listener.set_nonblocking(true)?;
    let receiver = std::thread::spawn(move || receive(&listener));
    let target = SocketAddr::new(address, port);
    let stream = from.run(move || TcpStream::connect_timeout(&target, ANSWER_TIMEOUT))?;
    let mut stream = stream.with_context(|| format!("connect to {address}"))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(&vec![0x5a; bytes]).with_context(|| format!("send {bytes} bytes to {address}"))?;
    drop(stream);
    let Ok(received) = receiver.join() else { bail!("the receiving thread failed") };
    let (peer, count) = received?;
    if count != bytes {
        bail!("{count} of {bytes} bytes arrived at {address}");
    }
    Ok(peer)
}

fn receive(listener: &TcpListener) -> Result<(IpAddr, usize)> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let (mut stream, peer) = loop {
        match listener.accept() {
            Ok(accepted) => break accepted,
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error).context("accept a connection"),
        }
    };
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).context("receive")?;
    Ok((peer.ip(), all.len()))
}
