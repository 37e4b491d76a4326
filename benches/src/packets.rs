//! What routing costs: single route lookups, and small packets forwarded from pod to pod.
//!
//! A lookup is `connect()` of a UDP socket, which is a system call around one lookup; nothing is sent. Forwarding is measured by flooding from
//! one pod to another on one CPU: on veth the sender's `send()` carries the packet all the way into the receiver, so the
//! rate is the inverse of what a packet costs. What arrived is counted by the receiver's interface.

use anyhow::{Context, Result, ensure};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use spur_datapath::netns::NetNs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

/// The discard service.
const PORT: u16 = 9;

/// As small as a UDP packet gets on Ethernet without padding.
const PAYLOAD: [u8; 18] = [0; 18];

/// Packets between looks at the clock.
const BURST: u32 = 64;

/// How many destinations are looked up in turn.
const DESTINATIONS: usize = 10;

/// As many of these as are looked up in turn, spread over all: the same number everywhere, so that it is the lookup that is
/// compared and not how many destinations fit the processor's cache.
#[must_use]
pub fn spread(addresses: &[Ipv4Addr]) -> Vec<Ipv4Addr> {
    let count = DESTINATIONS.min(addresses.len());
    // The middle of each of `count` equal parts.
    (0..count).map(|part| addresses[(2 * part + 1) * addresses.len() / (2 * count)]).collect()
}

/// Nanoseconds that a route lookup in `netns` takes, on the average of `count` lookups over these destinations in turn.
///
/// # Errors
/// When there is no route.
pub fn lookup(netns: &NetNs, destinations: &[Ipv4Addr], count: u32) -> Result<f64> {
    netns.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("make a socket")?;
        let targets: Vec<_> = destinations.iter().map(|address| SocketAddrV4::new(*address, PORT)).collect();
        ensure!(!targets.is_empty(), "no destination to look up");
        let begin = Instant::now();
        for (target, _) in targets.iter().cycle().zip(0..count) {
            socket.connect(target).with_context(|| format!("look up the route to {target}"))?;
        }
        Ok(begin.elapsed().as_secs_f64() * 1e9 / f64::from(count))
    })?
}

/// A flow of small packets between two namespaces.
#[derive(Debug)]
pub struct Flow<'a> {
    to: &'a NetNs,
    out: UdpSocket,
    // Bound so that packets are dropped silently when its buffer is full, instead of being answered.
    _sink: UdpSocket,
}

impl<'a> Flow<'a> {
    /// From one namespace to another, which has this address on `eth0`.
    ///
    /// # Errors
    /// When the sockets cannot be made, or not one packet arrives.
    pub fn open(from: &NetNs, to: &'a NetNs, address: Ipv4Addr) -> Result<Self> {
        let sink = to.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)))?.context("bind the sink")?;
        set_socket_recv_buffer_size(&sink, 2048).context("shrink the sink")?;
        let out = from.run(|| -> std::io::Result<_> {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect((address, PORT))?;
            Ok(socket)
        })?;
        let flow = Self { to, out: out.context("make the sending socket")?, _sink: sink };
        let arrived = flow.rate(Duration::from_millis(5))?;
        ensure!(arrived > 0.0, "no packet arrives at {address}");
        Ok(flow)
    }

    /// Packets per second that arrive while this one sender sends as fast as it can.
    ///
    /// # Errors
    /// When sending fails, or the counters cannot be read.
    pub fn rate(&self, duration: Duration) -> Result<f64> {
        let before = received(self.to)?;
        let begin = Instant::now();
        while begin.elapsed() < duration {
            for _ in 0..BURST {
                match self.out.send(&PAYLOAD) {
                    Ok(_) => {}
                    // The queue is full: the packet is not sent and does not count.
                    Err(error) if error.kind() == ErrorKind::WouldBlock || is_no_buffer(&error) => {}
                    Err(error) => return Err(error).context("send"),
                }
            }
        }
        let took = begin.elapsed();
        let arrived = received(self.to)? - before;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 packets")]
        Ok(arrived as f64 / took.as_secs_f64())
    }
}

fn is_no_buffer(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error())
}

/// Packets that `eth0` of the namespace has received.
fn received(netns: &NetNs) -> Result<u64> {
    let table =
        netns.run(|| std::fs::read_to_string("/proc/thread-self/net/dev"))?.context("read counters")?;
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix("eth0:"));
    let packets = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|text| text.parse().ok());
    packets.context("eth0 has no counters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_spread_over_all() {
        let all: Vec<_> = (0..100).map(|last| Ipv4Addr::new(10, 0, 0, last)).collect();
        let some: Vec<_> = spread(&all).iter().map(|address| address.octets()[3]).collect();
        assert_eq!(some, [5, 15, 25, 35, 45, 55, 65, 75, 85, 95]);
        assert_eq!(spread(&all[..3]), all[..3]);
        assert!(spread(&[]).is_empty());
    }
}
