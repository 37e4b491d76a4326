//! GC: the runtime lists the attachments that are valid, and everything else of this network goes: reservations by the
//! agent, which alone knows them, and then their veths, found by hardware address and deleted together. Errors do not stop the sweep.
//! Other networks are not touched: the agent keeps them apart by name. A missing list is refused in `request.rs`.

use crate::agent::Agent;
use crate::del::unix_ms;
use crate::failure::{Failure, causes};
use crate::log::Log;
use crate::request::GcRequest;
use crate::wiring;
use std::time::Instant;

pub(crate) fn gc(request: &GcRequest, started: Instant, log: &Log) -> Result<(), Failure> {
    let deadline = started + request.conf.timeout;
    let agent = Agent::new(&request.conf.socket, request.conf.network.as_str(), deadline);
    let elapsed = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let wanted = spur_wire::GcRequest {
        valid: request.valid.clone(),
        started_unix_ms: unix_ms().saturating_sub(elapsed),
    };
    let reply = agent.gc(wanted).map_err(Failure::Gc)?;
    let mut problems = reply.problems;
    for attachment in &reply.released {
        log.info(format_args!("collected {}/{}", attachment.container_id, attachment.if_name));
        if let Err(error) = wiring::detach_stale(attachment) {
            problems.push(format!(
                "{}/{}: {error}: {}",
                attachment.container_id,
                attachment.if_name,
                causes(&error)
            ));
        }
    }
    if let Err(error) = wiring::reap() {
        problems.push(format!("{error}: {}", causes(&error)));
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::Incomplete(problems)) }
}
