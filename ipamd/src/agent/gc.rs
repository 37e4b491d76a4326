//! GC, as the runtime asks for it: every attachment of its network that it does not list is released. Other networks are not
//! looked at, and a grant that is not older than the request stays, because the list was made before it.
//!
//! A pod that only the kernel told of (`recovered.rs`) has no network, so no network's GC takes it; the sweep does when it is gone.

use super::answer::{key_of, release};
use super::grants::Grants;
use super::kernel::Kernel;
use super::reaper::Reaper;
use super::status::Running;
use spur_ipamd_core::{AttachmentKey, PoolView, Timestamp};
use spur_wire::{Attachment, GcReply, GcRequest, Response};
use std::collections::BTreeSet;
use std::time::Duration;

/// Releases what is stale; a release that fails does not stop the others.
pub(super) async fn collect<K: Kernel>(
    running: &Running,
    reaper: &Reaper<K>,
    grants: &Grants,
    (network, view, request): (&str, &PoolView, &GcRequest),
) -> GcReply {
    let started = Timestamp::from_epoch(Duration::from_millis(request.started_unix_ms));
    // What could not be the name of an attachment cannot name one that is held.
    let valid = request.valid.iter().filter_map(|attachment| key_of(network, attachment).ok());
    let valid = valid.map(|key| running.recovered.resolve(key)).collect();
    let mut reply = GcReply { released: Vec::new(), problems: Vec::new() };
    for key in stale(view, network, &valid, started) {
        let attachment = Attachment { container_id: key.container_id.clone(), if_name: key.if_name.clone() };
        match release(running, reaper, grants, key.clone()).await {
            Ok(_) => reply.released.push(attachment),
            Err(Response::Refused(refusal)) => reply.problems.push(format!("{key}: {}", refusal.reason)),
            Err(_) => reply.problems.push(format!("{key}: not released")),
        }
    }
    if !(reply.released.is_empty() && reply.problems.is_empty()) {
        tracing::warn!(network, released = reply.released.len(), failed = reply.problems.len(), "GC");
    }
    reply
}

/// The attachments of the network that are held since before `started` and not valid.
fn stale(
    view: &PoolView,
    network: &str,
    valid: &BTreeSet<AttachmentKey>,
    started: Timestamp,
) -> Vec<AttachmentKey> {
    let addresses = view.enis.iter().flat_map(|eni| &eni.addresses);
    let stale = addresses.filter_map(|address| {
        let key = address.attachment.as_ref()?;
        let is_stale = address.state == "held"
            && key.network == network
            && !valid.contains(key)
            && address.since.is_some_and(|since| since < started);
        is_stale.then(|| key.clone())
    });
    stale.collect()
}
