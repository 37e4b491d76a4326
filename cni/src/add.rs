//! ADD: ask the agent for an address, wire the kernel, hand back what was made. The request was validated before.
//!
//! # Order and failure
//! Until the agent grants, nothing is changed. After the grant every failure undoes the kernel in reverse and then gives the
//! address back; a release that the agent cannot take is spooled. If no answer came at all it is unknown whether something
//! was granted, and this container may have held an address before: then nothing is released, the DEL that runtimes send after
//! a failed ADD does it.

use crate::agent::Agent;
use crate::del;
use crate::failure::{Failure, causes};
use crate::log::Log;
use crate::request::AddRequest;
use crate::result::CniResult;
use crate::wiring::{self, Wiring};
use serde_json::Value;
use spur_wire::SpooledRelease;
use std::time::{Duration, Instant};

/// What giving an address back may take even if the time is up: spooling it would keep it from others for longer.
const UNDO_PATIENCE: Duration = Duration::from_secs(2);

/// A wired pod whose result nobody has seen yet.
#[must_use = "print the result or undo"]
pub(crate) struct Added {
    pub(crate) result: Value,
    wiring: Wiring,
    request: AddRequest,
}

pub(crate) fn add(request: AddRequest, deadline: Instant, log: &Log) -> Result<Added, Failure> {
    let agent = Agent::new(&request.conf.socket, request.conf.network.as_str(), deadline);
    redeem_own_release(&request, &agent, log)?;
    let reply = agent.add(wire_request(&request)).map_err(Failure::Add)?;
    log.debug(format_args!("granted {reply:?}"));
    let wired = wiring::plan(&request, &reply).and_then(|wiring| {
        log.debug(format_args!("plan {wiring:?}"));
        wiring.apply(&request.netns).map(|()| wiring)
    });
    let wiring = match wired {
        Ok(wiring) => wiring,
        Err(error) => {
            if error.left_nothing() {
                give_back(&request, deadline, log);
            }
            return Err(Failure::Wire(error));
        }
    };
    let result = CniResult::new(request.conf.version, &wiring.wired(&request), &request.conf.dns);
    match result.after(request.previous.as_ref()) {
        Ok(result) => {
            log.info(format_args!("added {:?}", reply.addresses));
            Ok(Added { result, wiring, request })
        }
        Err(error) => {
            undo(&wiring, &request, deadline, log);
            Err(Failure::Encode(error))
        }
    }
}

impl Added {
    /// Takes everything back: the runtime did not get the result.
    pub(crate) fn undo(self, deadline: Instant, log: &Log) {
        undo(&self.wiring, &self.request, deadline, log);
    }
}

fn wire_request(request: &AddRequest) -> spur_wire::AddRequest {
    spur_wire::AddRequest {
        attachment: request.subject.attachment(),
        pod: request.subject.pod.clone(),
        netns: request.sandbox.clone(),
        host_if_name: request.subject.host_if_name().to_string(),
    }
}

/// A DEL of this very attachment may wait in the spool. It must reach the agent before the new grant: afterwards it would
/// release the address of a live pod.
fn redeem_own_release(request: &AddRequest, agent: &Agent<'_>, log: &Log) -> Result<(), Failure> {
    let attachment = request.subject.attachment();
    let path = SpooledRelease::path(&request.conf.spool_dir, request.conf.network.as_str(), &attachment);
    if !path.exists() {
        return Ok(());
    }
    log.info(format_args!("an earlier release waits in {}: it goes first", path.display()));
    agent.del(spur_wire::DelRequest { attachment }).map_err(Failure::Add)?;
    del::forget_spooled(&path, log);
    Ok(())
}

/// The kernel first; while it still answers for the address, the address is not free, and DEL has to come back.
fn undo(wiring: &Wiring, request: &AddRequest, deadline: Instant, log: &Log) {
    match wiring.undo() {
        Ok(()) => give_back(request, deadline, log),
        Err(error) => log.error(format_args!("undo: {error}: {}", causes(&error))),
    }
}

fn give_back(request: &AddRequest, deadline: Instant, log: &Log) {
    let deadline = deadline.max(Instant::now() + UNDO_PATIENCE);
    if let Err(failure) = del::release(&request.conf, &request.subject, deadline, log) {
        log.error(format_args!("undo: {failure}: {}", causes(&failure)));
    }
}
