//! Answers to the plugin. Requests are checked before anything is asked of the pool; the pool's replies become wire
//! messages here, with the pool's reasons in words.

use super::gc;
use super::grants::Grants;
use super::handle::Client;
use super::kernel::Kernel;
use super::reaper::Reaper;
use super::status::{Phase, Running, Unready};
use crate::config::Config;
use crate::metrics::requests::Requests;
use crate::server::{Handler, refuse};
use spur_datapath::layout;
use spur_ipamd_core::{AttachmentKey, PodName, Reply, Wait};
use spur_wire::{
    AddReply, AddRequest, Attachment, CheckReply, DelReply, GcRequest, PodRef, RefusalKind, Request,
    RequestBody, Response, StatusReply,
};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Longest name of a container or network; runtimes use 64 hexadecimal digits.
const ID_MAX: usize = 253;

/// Answers the plugin.
pub(super) struct Answers<K> {
    /// How far the agent is.
    pub(super) phase: watch::Receiver<Phase>,
    /// Since when who holds what.
    pub(super) grants: Arc<Grants>,
    /// Deletes what the plugin detached, and flows.
    pub(super) reaper: Arc<Reaper<K>>,
    /// What the operator wants.
    pub(super) config: watch::Receiver<Arc<Config>>,
    /// How long requests took.
    pub(super) requests: Arc<Requests>,
}

impl<K: Kernel> Handler for Answers<K> {
    async fn handle(&self, request: Request) -> Response {
        let underway = self.requests.begin(&request.body);
        let network = &request.network;
        let answer = match request.body {
            RequestBody::Add(add) => self.add(network, add).await,
            RequestBody::Del(del) => self.del(network, &del.attachment).await,
            RequestBody::Check(check) => self.check(network, &check.attachment).await,
            RequestBody::Gc(gc) => self.gc(network, &gc).await,
            RequestBody::Status => Ok(Response::Status(self.status())),
        };
        let response = answer.unwrap_or_else(|refusal| refusal);
        underway.answered(&response);
        response
    }
}

impl<K: Kernel> Answers<K> {
    /// What requests need, waiting for it if the agent is still starting.
    async fn running(&self, limit: Duration) -> Result<Arc<Running>, Response> {
        let mut phase = self.phase.clone();
        let started =
            tokio::time::timeout(limit, phase.wait_for(|phase| !matches!(phase, Phase::Starting { .. })))
                .await;
        if let Ok(Ok(phase)) = &started
            && let Phase::Running(running) = &**phase
        {
            return Ok(Arc::clone(running));
        }
        drop(started);
        Err(self.not_running())
    }

    /// What is running now; for questions whose answer nobody waits for.
    fn running_now(&self) -> Result<Arc<Running>, Response> {
        match &*self.phase.borrow() {
            Phase::Running(running) => Ok(Arc::clone(running)),
            Phase::Starting { .. } | Phase::Stopping => Err(self.not_running()),
        }
    }

    fn not_running(&self) -> Response {
        refuse(RefusalKind::NotReady, self.status().reason.unwrap_or_default())
    }

    fn status(&self) -> StatusReply {
        let unready = self.phase.borrow().unready();
        StatusReply {
            ready: unready.is_none(),
            limited: matches!(unready, Some(Unready::Broken { .. })),
            reason: unready.map(|unready| unready.to_string()),
        }
    }

    async fn add(&self, network: &str, add: AddRequest) -> Result<Response, Response> {
        let key = key_of(network, &add.attachment)?;
        let limit = self.add_wait();
        let deadline = tokio::time::Instant::now() + limit;
        let running = self.running(limit).await?;
        let key = running.recovered.resolve(key);
        let limit = deadline.saturating_duration_since(tokio::time::Instant::now());
        let client = Client { pod: add.pod.as_ref().map(name_of), sandbox: Some(add.netns) };
        let reply = running.pool.add(key.clone(), client, limit).await;
        match reply.map_err(|stopping| refuse(RefusalKind::TryAgain, stopping.to_string()))? {
            Reply::Granted { attachment, address, eni } => {
                self.grants.granted(&attachment);
                let pod = add.pod.as_ref().map(|pod| format!("{}/{}", pod.namespace, pod.name));
                tracing::info!(%attachment, pod, %address, %eni, "granted");
                Ok(Response::Add(self.wiring(&running, address)))
            }
            Reply::AlreadyHeld { address, .. } => Err(refuse(
                RefusalKind::AlreadyAttached,
                format!(
                    "container {} has {address} on {} already",
                    add.attachment.container_id, add.attachment.if_name
                ),
            )),
            Reply::Busy { .. } => {
                Err(refuse(RefusalKind::TryAgain, format!("another ADD of {key} is under way")))
            }
            Reply::Refused { waits } => {
                self.requests.refused(&waits);
                let reason = self.reason(&running, &waits);
                tracing::info!(attachment = %key, reason, "no address in time");
                Err(refuse(RefusalKind::TryAgain, reason))
            }
            Reply::StoreFailed { message } => {
                Err(refuse(RefusalKind::Internal, format!("the grant could not be stored: {message}")))
            }
            Reply::Released { .. } => Err(refuse(RefusalKind::Internal, "the pool answered an ADD as a DEL")),
        }
    }

    fn reason(&self, running: &Running, waits: &[Wait]) -> String {
        if waits == [Wait::Deleted] {
            return format!("no address: {}", Wait::Deleted);
        }
        let mut reasons: Vec<String> = waits.iter().map(ToString::to_string).collect();
        reasons.extend(running.unready().map(|unready| unready.to_string()));
        if reasons.is_empty() {
            reasons.push("no address became free".to_owned());
        }
        format!("no address within {} s: {}", self.add_wait().as_secs(), reasons.join("; "))
    }

    /// How long an ADD may wait.
    fn add_wait(&self) -> Duration {
        self.config.borrow().add_wait
    }

    fn wiring(&self, running: &Running, address: IpAddr) -> AddReply {
        let mtu_bytes = self.config.borrow().mtu_bytes;
        AddReply {
            addresses: vec![address],
            mtu_bytes: mtu_bytes.unwrap_or_else(|| running.node.borrow().primary_mtu_bytes),
            pods_table: layout::PODS_TABLE.number(),
            node_address: running.node_address.into(),
        }
    }

    async fn del(&self, network: &str, attachment: &Attachment) -> Result<Response, Response> {
        let key = key_of(network, attachment)?;
        let running = self.running(self.add_wait()).await?;
        let addresses = release(&running, &self.reaper, &self.grants, key).await?;
        Ok(Response::Del(DelReply { addresses, reaps_links: true }))
    }

    async fn check(&self, network: &str, attachment: &Attachment) -> Result<Response, Response> {
        let key = key_of(network, attachment)?;
        let running = self.running_now()?;
        let problem = match running.unready() {
            // Nobody has looked at the node's kernel since the start, so nobody can say what is wrong with it.
            Some(unready @ Unready::Unprepared(_)) => {
                return Err(refuse(RefusalKind::NotReady, unready.to_string()));
            }
            other => other.map(|unready| unready.to_string()),
        };
        let key = running.recovered.resolve(key);
        let view = running.pool.view().await;
        let view = view.map_err(|stopping| refuse(RefusalKind::TryAgain, stopping.to_string()))?;
        let held = view.enis.iter().flat_map(|eni| &eni.addresses).filter(|address| {
            address.attachment.as_ref() == Some(&key) && matches!(address.state, "held" | "granting")
        });
        let addresses = held.map(|address| address.address).collect();
        Ok(Response::Check(CheckReply { addresses, problems: problem.into_iter().collect() }))
    }
}

impl<K: Kernel> Answers<K> {
    async fn gc(&self, network: &str, request: &GcRequest) -> Result<Response, Response> {
        check_id("network", network)?;
        let running = self.running_now()?;
        let view = running.pool.view().await;
        let view = view.map_err(|stopping| refuse(RefusalKind::TryAgain, stopping.to_string()))?;
        let asked = (network, &view, request);
        Ok(Response::Gc(gc::collect(&running, &self.reaper, &self.grants, asked).await))
    }
}

/// Gives back what the attachment holds. The flows of the address are forgotten in the background: its cooldown is longer.
///
/// # Errors
/// With the refusal for the plugin, when the release is not durable.
pub(super) async fn release<K: Kernel>(
    running: &Running,
    reaper: &Reaper<K>,
    grants: &Grants,
    key: AttachmentKey,
) -> Result<Vec<IpAddr>, Response> {
    let key = running.recovered.resolve(key);
    let reply = running.pool.del(key.clone()).await;
    match reply.map_err(|stopping| refuse(RefusalKind::TryAgain, stopping.to_string()))? {
        Reply::Released { addresses } => {
            grants.released(&key);
            if !addresses.is_empty() {
                tracing::info!(attachment = %key, ?addresses, "released");
            }
            reaper.call(&addresses);
            Ok(addresses)
        }
        Reply::StoreFailed { message } => {
            Err(refuse(RefusalKind::Internal, format!("the release could not be stored: {message}")))
        }
        other => Err(refuse(RefusalKind::Internal, format!("the pool answered a DEL with {other:?}"))),
    }
}

pub(super) fn key_of(network: &str, attachment: &Attachment) -> Result<AttachmentKey, Response> {
    check_id("network", network)?;
    check_id("containerId", &attachment.container_id)?;
    if attachment.if_name.parse::<spur_datapath::IfName>().is_err() {
        let reason =
            format!("ifName is {:.80?}; expected an interface name of 1 to 15 bytes", attachment.if_name);
        return Err(refuse(RefusalKind::Invalid, reason));
    }
    Ok(AttachmentKey {
        network: network.to_owned(),
        container_id: attachment.container_id.clone(),
        if_name: attachment.if_name.clone(),
    })
}

/// Networks and containers are named by the same rule.
fn check_id(field: &str, id: &str) -> Result<(), Response> {
    let fits = (1..=ID_MAX).contains(&id.len())
        && id.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if fits {
        return Ok(());
    }
    let reason =
        format!("{field} is {id:.80?}; expected letters, digits, '-', '_' and '.', at most {ID_MAX}");
    Err(refuse(RefusalKind::Invalid, reason))
}

fn name_of(pod: &PodRef) -> PodName {
    PodName { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() }
}
