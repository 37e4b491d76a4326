//! Watches the links of a namespace: an agent learns of a hotplugged interface at once, by its hardware address.
//!
//! Notifications can be lost when they come faster than they are read; that is an event of its own, [`LinkEvent::Missed`], and
//! the reader then lists the links anew.

use super::link::{RTM_DELLINK, RTM_NEWLINK, decode};
use super::{Errno, Link, NetlinkError};
use crate::netns::NetNs;
use crate::socket::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use std::os::fd::{AsFd, BorrowedFd};

const RTNLGRP_LINK: u32 = 1;

/// Something happened to a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// It is new, or something about it changed.
    Present(Link),
    /// It is gone (deleted, or moved to another namespace).
    Gone(Link),
    /// Events were lost: list the links.
    Missed,
}

/// A socket that receives link notifications. Its descriptor becomes readable when there are any.
#[derive(Debug)]
pub struct LinkWatcher {
    pub(crate) socket: Socket,
}

impl LinkWatcher {
    /// Watches the calling thread's namespace, from now on: open it before listing the links.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self { socket: Socket::listen(NETLINK_ROUTE, RTNLGRP_LINK).map_err(NetlinkError::Open)? })
    }

    /// Watches another namespace.
    ///
    /// # Errors
    /// As [`LinkWatcher::open`], and when the namespace cannot be entered.
    pub fn open_in(ns: &NetNs) -> Result<Self, NetlinkError> {
        ns.run(Self::open).map_err(NetlinkError::Namespace)?
    }

    /// Waits for the next events. Blocks: use a thread of its own, or read only when the descriptor is readable.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn next_events(&mut self) -> Result<Vec<LinkEvent>, NetlinkError> {
        let received = match self.socket.receive("watch the links") {
            Ok(received) => received,
            Err(NetlinkError::Receive { cause, .. })
                if cause.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) =>
            {
                return Ok(vec![LinkEvent::Missed]);
            }
            Err(NetlinkError::Garbled { .. }) => return Ok(vec![LinkEvent::Missed]),
            Err(other) => return Err(other),
        };
        let event = |kind, link| match kind {
            RTM_NEWLINK => Some(LinkEvent::Present(link)),
            RTM_DELLINK => Some(LinkEvent::Gone(link)),
            _ => None,
        };
        Ok(received.iter().filter_map(|one| event(one.kind, decode(&one.payload)?)).collect())
    }
}

impl AsFd for LinkWatcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
