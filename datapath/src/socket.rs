//! A blocking netlink socket of any protocol: send requests, collect answers, dump.
//!
//! The kernel handles the messages of one `send` in order and answers a refused one whether asked to or not, so only the last of a
//! chunk asks for an acknowledgement: when it is there, all the others have been handled.
//!
//! Rules that hold for every caller: answers are matched by sequence number and others are skipped; an interrupted dump
//! (`NLM_F_DUMP_INTR`, `EINTR`, `ENOBUFS`) is repeated from its start, some times; the kernel's own words (`NLMSGERR_ATTR_MSG`)
//! are kept in the error; no answer within [`PATIENCE`] is an error and not a hang. Requests of one batch are *not* atomic in
//! route netlink: later ones apply although an earlier one failed.

mod error;

pub use error::NetlinkError;

use crate::codec::{Attributes, F_DUMP, HEADER, Message, Received, split, text, u16_at, u32_at};
use crate::netns::NetNs;
use netlink_sys::SocketAddr;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// The kernel answers while it handles `send`; only a lost answer takes this long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Room for the refusals of a whole chunk and for bursts of notifications. Not memory, a limit.
const RECEIVE_BUFFER: usize = 4 << 20;
/// What a chunk of requests may weigh: below the smallest default send buffer.
const CHUNK_BYTES: usize = 32 << 10;
/// Requests per chunk, so that their refusals fit even a default receive buffer (300 do not).
const CHUNK_REQUESTS: usize = 64;
/// How often a dump is started again before somebody else's changes are called an error.
const DUMP_ATTEMPTS: usize = 16;
/// The kernel fills at most 32 KiB per datagram of a dump when the reader offers that.
const DATAGRAM: usize = 64 << 10;

const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const F_DUMP_INTR: u16 = 0x10;
const F_CAPPED: u16 = 0x100;
const F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// One thing to ask, with its name for errors and the refusals that mean "already so".
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) what: String,
    pub(crate) message: Message,
    pub(crate) tolerated: &'static [Errno],
}

/// What came of one request: `true` when the kernel did it, `false` when it was already so.
pub(crate) type Done = Result<bool, NetlinkError>;

pub(crate) struct Socket {
    pub(crate) inner: netlink_sys::Socket,
    sequence: u32,
    buffer: Vec<u8>,
    /// To what the send buffer was raised; 0 is the default.
    send_buffer: usize,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl Socket {
    /// A socket in the calling thread's namespace.
    pub(crate) fn open(protocol: isize) -> Result<Self, NetlinkError> {
        Self::make(protocol).map_err(NetlinkError::Open)
    }

    /// A socket in `ns`; it stays there and is used from any thread.
    pub(crate) fn open_in(protocol: isize, ns: &NetNs) -> Result<Self, NetlinkError> {
        ns.run(|| Self::open(protocol)).map_err(NetlinkError::Namespace)?
    }

    /// The same without a thread; the calling one is in `home` before and after.
    pub(crate) fn open_visiting(protocol: isize, ns: &NetNs, home: &NetNs) -> Result<Self, NetlinkError> {
        ns.visit(home, || Self::open(protocol)).map_err(NetlinkError::Namespace)?
    }

    fn make(protocol: isize) -> io::Result<Self> {
        let mut inner = netlink_sys::Socket::new(protocol)?;
        inner.bind(&SocketAddr::new(0, 0))?;
        // Explanations in errors; absent before Linux 4.12, and nothing depends on them.
        let _ = inner.set_ext_ack(true);
        let _ = inner.set_cap_ack(true);
        let strict = protocol == netlink_sys::protocols::NETLINK_ROUTE;
        if strict {
            // Lets the kernel filter dumps by table or link (4.20); readers filter again.
            let _ = inner.set_netlink_get_strict_chk(true);
        }
        if rustix::net::sockopt::set_socket_recv_buffer_size_force(&inner, RECEIVE_BUFFER).is_err() {
            rustix::net::sockopt::set_socket_recv_buffer_size(&inner, RECEIVE_BUFFER)?;
        }
        rustix::net::sockopt::set_socket_timeout(
            &inner,
            rustix::net::sockopt::Timeout::Recv,
            Some(PATIENCE),
        )?;
        Ok(Self { inner, sequence: 0, buffer: Vec::with_capacity(DATAGRAM), send_buffer: 0 })
    }

    /// Listens to a multicast group; nothing is asked on such a socket, and it waits without end.
    pub(crate) fn listen(protocol: isize, group: u32) -> io::Result<Self> {
        let socket = Self::make(protocol)?;
        socket.inner.add_membership(group)?;
        rustix::net::sockopt::set_socket_timeout(&socket.inner, rustix::net::sockopt::Timeout::Recv, None)?;
        Ok(socket)
    }

    /// Sends all requests, a chunk per `send`, and tells what became of each, in order. Every chunk is sent even when an
    /// earlier request was refused.
    pub(crate) fn ask_all(&mut self, asks: Vec<Ask>) -> Result<Vec<Done>, NetlinkError> {
        let mut done = Vec::with_capacity(asks.len());
        let mut asks = asks.into_iter().peekable();
        while asks.peek().is_some() {
            let mut chunk: Vec<Ask> = Vec::new();
            let mut weight = 0;
            while let Some(ask) = asks.next_if(|next| {
                chunk.is_empty()
                    || (weight + next.message.len() <= CHUNK_BYTES && chunk.len() < CHUNK_REQUESTS)
            }) {
                weight += ask.message.len();
                chunk.push(ask);
            }
            self.ask_chunk(chunk, &mut done)?;
        }
        Ok(done)
    }

    fn ask_chunk(&mut self, mut chunk: Vec<Ask>, done: &mut Vec<Done>) -> Result<(), NetlinkError> {
        let Some(last) = chunk.last_mut() else { return Ok(()) };
        last.message.acknowledge();
        let what = last.what.clone();
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        for ask in &chunk {
            self.sequence = self.sequence.wrapping_add(1);
            if !ask.message.finish_into(self.sequence, &mut bytes) {
                return Err(NetlinkError::TooLong { what: ask.what.clone() });
            }
        }
        self.send(&bytes).map_err(|cause| NetlinkError::Send { what: chunk[0].what.clone(), cause })?;
        let mut answers: Vec<Done> = chunk.iter().map(|_| Ok(true)).collect();
        let mut ended = false;
        while !ended {
            for received in self.receive(&what)? {
                let at = received.sequence.wrapping_sub(first) as usize;
                if let (NLMSG_ERROR, Some(answer), Some(ask)) =
                    (received.kind, answers.get_mut(at), chunk.get(at))
                {
                    *answer = judge(ask, &received);
                    ended |= at + 1 == chunk.len();
                }
            }
        }
        done.append(&mut answers);
        Ok(())
    }

    /// Asks one thing.
    pub(crate) fn ask(&mut self, ask: Ask) -> Done {
        self.ask_all(vec![ask])?.pop().unwrap_or(Ok(false))
    }

    /// Asks for one object; `None` when the refusal is one of the tolerated.
    pub(crate) fn fetch(&mut self, ask: &Ask) -> Result<Option<Received>, NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        if !ask.message.finish_into(self.sequence, &mut bytes) {
            return Err(NetlinkError::TooLong { what: ask.what.clone() });
        }
        self.send(&bytes).map_err(|cause| NetlinkError::Send { what: ask.what.clone(), cause })?;
        loop {
            for received in self.receive(&ask.what)? {
                match (received.sequence == self.sequence, received.kind) {
                    (true, NLMSG_ERROR) => return judge(ask, &received).map(|_| None),
                    (true, _) => return Ok(Some(received)),
                    (false, _) => {}
                }
            }
        }
    }

    /// Reads a whole list; a tolerated refusal is an empty list.
    pub(crate) fn dump(&mut self, ask: &Ask) -> Result<Vec<Received>, NetlinkError> {
        self.dump_some(ask, Some)
    }

    /// As [`Socket::dump`], for a list that may be longer than the memory is large: only what `keep` makes of an object is held.
    pub(crate) fn dump_some<T>(
        &mut self,
        ask: &Ask,
        keep: impl Fn(Received) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(all) = self.dump_once(ask, &keep)? {
                return Ok(all);
            }
        }
        Err(NetlinkError::Unsteady { what: ask.what.clone() })
    }

    fn dump_once<T>(
        &mut self,
        ask: &Ask,
        keep: &impl Fn(Received) -> Option<T>,
    ) -> Result<Option<Vec<T>>, NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        if !ask.message.finish_into(self.sequence, &mut bytes) {
            return Err(NetlinkError::TooLong { what: ask.what.clone() });
        }
        debug_assert!(u16_at(&bytes, 6).is_some_and(|flags| flags & F_DUMP == F_DUMP), "a dump has its flag");
        match self.send(&bytes) {
            Ok(()) => {}
            // The previous dump of this socket, abandoned by us, still runs: receiving ends it.
            Err(cause) if cause.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                self.receive(&ask.what)?;
                return Ok(None);
            }
            Err(cause) => return Err(NetlinkError::Send { what: ask.what.clone(), cause }),
        }
        let mut listing = Listing::new(keep);
        loop {
            let datagram = match self.receive(&ask.what) {
                Err(NetlinkError::Receive { cause, .. })
                    if cause.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) =>
                {
                    listing.torn = true;
                    continue;
                }
                other => other?,
            };
            for received in datagram.into_iter().filter(|received| received.sequence == self.sequence) {
                if let Some(end) = listing.take(ask, received) {
                    return end;
                }
            }
        }
    }

    /// Sends a netfilter batch whose last message asks for an acknowledgement. The batch took effect wholly when no
    /// message of it was refused, and not at all otherwise. `names` maps a message's place to words.
    pub(crate) fn transact(
        &mut self,
        what: &str,
        batch: &[Message],
        names: &[String],
    ) -> Result<(), NetlinkError> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        for message in batch {
            self.sequence = self.sequence.wrapping_add(1);
            if !message.finish_into(self.sequence, &mut bytes) {
                return Err(NetlinkError::TooLong { what: what.to_owned() });
            }
        }
        self.send(&bytes).map_err(|cause| NetlinkError::Send { what: what.to_owned(), cause })?;
        // The last but one: the batch's end is not acknowledged by older kernels.
        let acknowledged = self.sequence.wrapping_sub(1);
        loop {
            for received in self.receive(what)? {
                let place = received.sequence.wrapping_sub(first) as usize;
                if received.kind != NLMSG_ERROR || place >= batch.len() {
                    continue;
                }
                let step = names.get(place).map_or_else(|| what.to_owned(), |name| format!("{what}: {name}"));
                let ask = Ask { what: step, message: batch[place].clone(), tolerated: &[] };
                // The first refusal is the cause; answers that are still queued are skipped by the next request.
                judge(&ask, &received)?;
                if received.sequence == acknowledged {
                    return Ok(());
                }
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > CHUNK_BYTES && bytes.len() > self.send_buffer {
            // The kernel compares with twice the value; without the privilege the default may still do.
            if rustix::net::sockopt::set_socket_send_buffer_size_force(&self.inner, bytes.len()).is_err() {
                rustix::net::sockopt::set_socket_send_buffer_size(&self.inner, bytes.len())?;
            }
            self.send_buffer = bytes.len();
        }
        loop {
            match rustix::net::send(&self.inner, bytes, SendFlags::empty()) {
                Ok(sent) if sent == bytes.len() => return Ok(()),
                Ok(_) => return Err(io::Error::new(io::ErrorKind::WriteZero, "only a part was sent")),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// One datagram, split.
    pub(crate) fn receive(&mut self, what: &str) -> Result<Vec<Received>, NetlinkError> {
        let failed = |cause: io::Error| NetlinkError::Receive { what: what.to_owned(), cause };
        let length = loop {
            // Not zeroed before: sixteen pages would be touched for an answer of 36 bytes.
            self.buffer.clear();
            match rustix::net::recv(&self.inner, spare_capacity(&mut self.buffer), RecvFlags::TRUNC) {
                Ok((_, length)) => break length,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
        };
        // A datagram longer than the buffer was cut: its rest is lost.
        let datagram =
            self.buffer.get(..length).ok_or_else(|| NetlinkError::Garbled { what: what.to_owned() })?;
        split(datagram).ok_or_else(|| NetlinkError::Garbled { what: what.to_owned() })
    }
}

/// A list as it comes in.
struct Listing<'k, K, T> {
    keep: &'k K,
    kept: Vec<T>,
    /// Something changed meanwhile: objects may be missing or doubled.
    torn: bool,
}

impl<'k, T, K: Fn(Received) -> Option<T>> Listing<'k, K, T> {
    const fn new(keep: &'k K) -> Self {
        Self { keep, kept: Vec::new(), torn: false }
    }

    /// Takes the next message; at the end of the list, gives the list, or `None` when it has to be read again.
    fn take(&mut self, ask: &Ask, received: Received) -> Option<Result<Option<Vec<T>>, NetlinkError>> {
        self.torn |= received.flags & F_DUMP_INTR != 0;
        match received.kind {
            NLMSG_NOOP => return None,
            NLMSG_DONE | NLMSG_ERROR => {}
            _ => {
                self.kept.extend((self.keep)(received));
                return None;
            }
        }
        Some(match judge(ask, &received) {
            Err(refused) if matches!(refused.errno(), Some(Errno::INTR | Errno::BUSY)) => Ok(None),
            Err(refused) => Err(refused),
            Ok(_) if self.torn => Ok(None),
            Ok(_) => Ok(Some(std::mem::take(&mut self.kept))),
        })
    }
}

/// Turns an acknowledgement (or the end of a dump) into what it means for the request.
fn judge(ask: &Ask, received: &Received) -> Done {
    let Some(code) = u32_at(&received.payload, 0) else {
        // The end of a dump carries no code before Linux 4.
        return if received.kind == NLMSG_DONE {
            Ok(true)
        } else {
            Err(NetlinkError::Garbled { what: ask.what.clone() })
        };
    };
    if code == 0 || (received.kind == NLMSG_DONE && code.cast_signed() > 0) {
        return Ok(true);
    }
    let errno = Errno::from_raw_os_error(code.cast_signed().checked_neg().unwrap_or(i32::MAX).clamp(1, 4095));
    if ask.tolerated.contains(&errno) {
        return Ok(false);
    }
    Err(NetlinkError::Refused { what: ask.what.clone(), detail: explanation(received), errno })
}

fn explanation(received: &Received) -> Option<String> {
    if received.flags & F_ACK_TLVS == 0 {
        return None;
    }
    let skip = match received.kind {
        NLMSG_DONE => 4,
        _ if received.flags & F_CAPPED != 0 => 4 + HEADER,
        _ => 4 + u32_at(&received.payload, 4)? as usize,
    };
    Attributes::after(&received.payload, skip.next_multiple_of(4)).find(NLMSGERR_ATTR_MSG).map(text)
}

#[cfg(test)]
mod tests;
