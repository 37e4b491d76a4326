//! The instance metadata service of a node, version 2: a tree of texts, and a token to see it.
//!
//! The tree is built from the world at each look. Directories list their entries one per line, those that have entries
//! themselves with a `/` at the end, as the real service does. The service is as fresh as EC2 itself unless a fault makes
//! it stale or fail; a terminated instance has none.

#[cfg(test)]
mod tests;
pub(crate) use tree::IMAGE;

mod token;
mod tree;

use crate::fault::{Delivery, MetadataFault};
use crate::time::SimTime;
use crate::world::{Instance, World};
use std::time::Duration;

/// Name of the role whose credentials every node finds.
const ROLE: &str = "vpcsim-node";

/// A request to the metadata service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImdsRequest<'r> {
    /// HTTP method.
    pub method: &'r str,
    /// Path with its leading `/`; a query is ignored.
    pub path: &'r str,
    /// The header `X-aws-ec2-metadata-token`.
    pub token: Option<&'r str>,
    /// The header `X-aws-ec2-metadata-token-ttl-seconds`.
    pub ttl: Option<&'r str>,
    /// Whether there is a header `X-Forwarded-For`: whoever came through a proxy gets no token.
    pub forwarded: bool,
}

/// An answer of the metadata service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImdsReply {
    /// HTTP status.
    pub status: u16,
    /// The body, `text/plain`.
    pub body: String,
    /// For a token: the header `X-aws-ec2-metadata-token-ttl-seconds` of the answer.
    pub ttl: Option<u64>,
    /// How long to hold the answer back.
    pub hold: Duration,
    /// Whether to send it at all.
    pub delivery: Delivery,
}

impl ImdsReply {
    pub(crate) const fn empty(status: u16) -> Self {
        Self::of(status, String::new())
    }

    const fn of(status: u16, body: String) -> Self {
        Self { status, body, ttl: None, hold: Duration::ZERO, delivery: Delivery::Send }
    }
}

pub(crate) fn answer(
    world: &World,
    instance: &Instance,
    seal: u64,
    request: &ImdsRequest<'_>,
    now: SimTime,
) -> ImdsReply {
    let path = request.path.split('?').next().unwrap_or_default();
    let is_token = path.trim_end_matches('/') == "/latest/api/token";
    match request.method {
        "PUT" if is_token && request.forwarded => ImdsReply::empty(403),
        "PUT" if is_token => match token::lifetime(request.ttl) {
            Some(ttl) => {
                let body = token::issue(seal, instance, now, ttl);
                ImdsReply { ttl: Some(ttl), ..ImdsReply::of(200, body) }
            }
            None => ImdsReply::empty(400),
        },
        "GET" | "HEAD" if is_token => ImdsReply::empty(405),
        "GET" | "HEAD" => match request.token.and_then(|token| token::left(seal, instance, token, now)) {
            None => ImdsReply::empty(401),
            Some(_) => match find(world, instance, path, now) {
                Some(body) => ImdsReply::of(200, body),
                None => ImdsReply::empty(404),
            },
        },
        _ => ImdsReply::empty(405),
    }
}

/// Changes an answer as these faults have it.
pub(crate) fn spoil(mut reply: ImdsReply, faults: &[MetadataFault]) -> ImdsReply {
    for fault in faults {
        match *fault {
            // Looked at before the answer was made.
            MetadataFault::Stale(_) => {}
            MetadataFault::Status(status) => {
                reply = ImdsReply { hold: reply.hold, delivery: reply.delivery, ..ImdsReply::empty(status) };
            }
            MetadataFault::Empty => reply.body.clear(),
            MetadataFault::Timeout(hold) => {
                reply.hold = reply.hold.max(hold);
                reply.delivery = Delivery::Drop;
            }
            MetadataFault::Slow(hold) => reply.hold = reply.hold.max(hold),
        }
    }
    reply
}

/// The content at `path`, with or without a `/` at the end.
pub(crate) fn find(world: &World, instance: &Instance, path: &str, now: SimTime) -> Option<String> {
    let path = path.trim_matches('/');
    let (version, rest) = path.split_once('/').unwrap_or((path, ""));
    if version.is_empty() {
        return Some("latest".to_owned());
    }
    let is_date = version.len() == 10 && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if version != "latest" && !is_date {
        return None;
    }
    tree::look(&tree::build(world, instance, now), rest)
}

/// The principal that a node's credentials stand for.
pub(crate) fn role_arn(world: &World, instance: &Instance) -> String {
    format!("arn:aws:sts::{}:assumed-role/{ROLE}/{}", world.account, instance.id)
}
