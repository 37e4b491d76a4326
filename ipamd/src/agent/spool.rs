//! Drains the spool: releases that the plugin left behind while the agent was away. Each is made durable first and its file removed
//! then; one that is older than the grant it would end is dropped.

use super::answer::release;
use super::grants::Grants;
use super::kernel::Kernel;
use super::reaper::Reaper;
use super::status::Running;
use crate::chain::chain;
use spur_ipamd_core::{AttachmentKey, Timestamp};
use spur_wire::{Response, SpooledRelease};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Drains the directory once. What cannot be done now is tried again the next time.
pub(super) async fn drain<K: Kernel>(dir: &Path, running: &Running, reaper: &Reaper<K>, grants: &Grants) {
    let at = dir.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        match SpooledRelease::tidy(&at, SystemTime::now()) {
            Ok(0) => {}
            Ok(count) => {
                tracing::info!(count, "half-written releases of killed plugins removed from the spool")
            }
            Err(error) => tracing::warn!(error = %chain(&error), "the spool cannot be tidied"),
        }
        SpooledRelease::read_all(&at)
    })
    .await;
    let spool = match read {
        Ok(Ok(spool)) => spool,
        Ok(Err(error)) => return tracing::warn!(error = %chain(&error), "the spool cannot be read"),
        Err(error) => return tracing::warn!(%error, "the spool cannot be read"),
    };
    for error in &spool.broken {
        tracing::warn!(error = %chain(error), "a spooled release is left for a person to look at");
    }
    for (path, spooled) in spool.releases {
        let attachment = spooled.request.attachment;
        let (container_id, if_name) = (attachment.container_id, attachment.if_name);
        let key = AttachmentKey { network: spooled.network, container_id, if_name };
        let released = Timestamp::from_epoch(Duration::from_millis(spooled.released_unix_ms));
        if grants.younger_than(&key, released) {
            tracing::info!(attachment = %key, "spooled release dropped: the address was granted again after it");
        } else {
            match release(running, reaper, grants, key.clone()).await {
                Ok(addresses) => tracing::info!(attachment = %key, ?addresses, "spooled release done"),
                Err(Response::Refused(refusal)) => {
                    tracing::warn!(attachment = %key, reason = refusal.reason, "spooled release stays");
                    continue;
                }
                Err(_) => continue,
            }
        }
        remove(path).await;
    }
}

async fn remove(path: PathBuf) {
    let removed = tokio::task::spawn_blocking(move || SpooledRelease::remove(&path)).await;
    if let Ok(Err(error)) = removed {
        // It will be done again, which is harmless.
        tracing::warn!(error = %chain(&error), "a spooled release is done and cannot be removed");
    }
}
