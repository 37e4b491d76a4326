//! DEL: clean the kernel (interface, routes, known flows), then release the address; whatever is already gone is fine. It needs neither the pod's namespace nor
//! a previous result. The kernel comes first, so that the agent never sees an address as free that a veth still answers for.
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

pub(crate) fn del(request: &DelRequest, job: &Job<'_>) -> Result<(), Failure> {
    job.pass(Point::Remove)?;
    // A veth that could not be removed still answers for its address: releasing that would give it to a second pod.
    let unwired = wiring::remove(&request.subject, job.log).map_err(Failure::Unwire)?;
    job.pass(Point::Forget)?;
    wiring::forget_flows(&unwired, job.log);
    let released = release(&request.conf, &request.subject, job)?;
    // The veth may have gone with its namespace before we came; only the agent knows its address then.
    let others: Vec<_> = released.into_iter().filter(|address| !unwired.contains(address)).collect();
    wiring::forget_flows(&others, job.log);
    Ok(())
}

/// Gives the addresses back to the agent, now or by way of the spool; tells which the agent took.
pub(crate) fn release(conf: &NetConf, subject: &Subject, job: &Job<'_>) -> Result<Vec<IpAddr>, Failure> {
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
            Ok(reply.addresses)
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
                    Ok(Vec::new())
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
