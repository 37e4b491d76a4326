//! DEL: detach the pod in the kernel (routes, neighbours), then release the address; whatever is already gone is
//! fine. It needs neither the pod's namespace nor a previous result. The kernel comes first, so that the agent never sees an address as
//! free that a veth still answers for.
//!
//! What takes the kernel long is not waited for: to delete the pair, which carries nothing any more, and to search its whole table for flows
//! of the address, which nobody has before it has rested. The agent does both, for many at once. When no agent takes that on, the plugin does
//! it here and now, so that nothing depends on an agent that may never come back.
//!
//! When the agent is away, or not ready to take it, the release is spooled durably and DEL succeeds: a runtime that cannot
//! delete keeps a dead pod. When the agent works but fails at this release, DEL fails and the runtime retries.

use crate::agent::{Agent, AgentError};
use crate::failure::Failure;
use crate::gate::Point;
use crate::job::Job;
use crate::log::Log;
use crate::netconf::NetConf;
use crate::request::{DelRequest, Subject};
use crate::wiring;
use spur_wire::{RefusalKind, SpooledRelease, VERSION};
use std::net::IpAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// What became of a release.
pub(crate) struct Released {
    /// The addresses that the agent took.
    addresses: Vec<IpAddr>,
    /// The agent deletes what is detached, and the flows.
    agent_reaps: bool,
}

pub(crate) fn del(request: &DelRequest, job: &Job<'_>) -> Result<(), Failure> {
    job.pass(Point::Detach)?;
    // An address that is still reachable would be a second pod's, too, once it is released.
    let detached = wiring::detach(&request.subject, job.log).map_err(Failure::Unwire)?;
    let outcome = release(&request.conf, &request.subject, job);
    if outcome.as_ref().is_ok_and(|released| released.agent_reaps) {
        return Ok(());
    }
    if detached.veth {
        job.pass(Point::Unlink)?;
        wiring::remove(&request.subject, job.log).map_err(Failure::Unwire)?;
    }
    // The veth may have gone with its namespace before we came; only the agent knows its address then.
    let mut addresses = detached.addresses;
    addresses.extend(outcome?.addresses);
    job.pass(Point::Forget)?;
    wiring::forget_flows(&addresses, job.log);
    Ok(())
}

/// Gives the addresses back to the agent, now or by way of the spool.
pub(crate) fn release(conf: &NetConf, subject: &Subject, job: &Job<'_>) -> Result<Released, Failure> {
    let request = spur_wire::DelRequest { attachment: subject.attachment() };
    let network = conf.network.as_str();
    job.pass(Point::Release)?;
    match Agent::new(&conf.socket, network, job.deadline).del(request.clone()) {
        Ok(reply) => {
            job.log.info(format_args!("released {:?}", reply.addresses));
            job.pass(Point::Released)?;
            let path = SpooledRelease::path(&conf.spool_dir, network, &request.attachment);
            if path.exists() {
                forget_spooled(&path, job.log);
            }
            Ok(Released { addresses: reply.addresses, agent_reaps: reply.reaps_links })
        }
        Err(agent) if is_away(&agent) => {
            job.pass(Point::Spool)?;
            let release = SpooledRelease {
                version: VERSION,
                network: network.to_owned(),
                request,
                released_unix_ms: unix_ms(),
            };
            match release.write(&conf.spool_dir) {
                Ok(path) => {
                    job.log.warn(format_args!("{agent}: the release waits in {}", path.display()));
                    Ok(Released { addresses: Vec::new(), agent_reaps: false })
                }
                Err(cause) => Err(Failure::Spool { agent, cause }),
            }
        }
        Err(agent) => Err(Failure::Release(agent)),
    }
}

/// Removes a spooled release that the agent has taken; should it stay, the agent sees that it is old.
pub(crate) fn forget_spooled(path: &Path, log: &Log) {
    if let Err(error) = SpooledRelease::remove(path) {
        log.warn(format_args!("{error}"));
    }
}

/// An agent that starts, stops or does not speak our protocol cannot take releases, and one that can will come. An agent that
/// works and fails at this one release is another matter: the runtime has to see that, and tries again.
fn is_away(error: &AgentError) -> bool {
    match error {
        AgentError::Refused(refusal) => {
            matches!(refusal.kind, RefusalKind::NotReady | RefusalKind::TryAgain | RefusalKind::Version)
        }
        _ => true,
    }
}

/// Wall-clock time: the agent compares it with the time of its grants.
pub(crate) fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
