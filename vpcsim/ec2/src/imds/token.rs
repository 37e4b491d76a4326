//! Session tokens of IMDSv2. A token carries the end of its life and a seal over it and the instance, so that the service
//! needs no memory of tokens; a token of one node is nothing on another. The seal keeps mistakes apart, not attackers: whoever
//! is in a node of a simulation may know its seed.

use crate::random::seal as seal_of;
use crate::time::SimTime;
use crate::world::Instance;

/// Longest life of a token: six hours.
const MAX_TTL_SECONDS: u64 = 21_600;

/// The lifetime that a request asks for, if it is one.
pub(super) fn lifetime(header: Option<&str>) -> Option<u64> {
    header?.trim().parse().ok().filter(|seconds| (1..=MAX_TTL_SECONDS).contains(seconds))
}

pub(super) fn issue(seal: u64, instance: &Instance, now: SimTime, ttl: u64) -> String {
    let end = now.seconds().saturating_add(ttl);
    format!("AQAEA{end:012x}{:016x}{:016x}==", sign(seal, instance, end), sign(seal ^ 1, instance, end))
}

/// Seconds that a token has left; none if it is no token, another node's, or over.
pub(super) fn left(seal: u64, instance: &Instance, token: &str, now: SimTime) -> Option<u64> {
    let end = u64::from_str_radix(token.strip_prefix("AQAEA")?.get(..12)?, 16).ok()?;
    let issued =
        format!("AQAEA{end:012x}{:016x}{:016x}==", sign(seal, instance, end), sign(seal ^ 1, instance, end));
    (issued == token).then(|| end.checked_sub(now.seconds())).flatten().filter(|left| *left > 0)
}

fn sign(seal: u64, instance: &Instance, end: u64) -> u64 {
    seal_of(seal, format!("{}/{end}", instance.id).as_bytes())
}
