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
use crate::gate::Point;
use crate::job::Job;
use crate::request::AddRequest;
use crate::result::CniResult;
use crate::wiring::{self, Wiring};
use serde_json::Value;
use spur_wire::{AddReply, SpooledRelease};
use std::time::Duration;

/// What giving an address back may take even if the time is up: spooling it would keep it from others for longer.
const UNDO_PATIENCE: Duration = Duration::from_secs(2);

/// A wired pod whose result nobody has seen yet.
#[must_use = "print the result or undo"]
pub(crate) struct Added {
    pub(crate) result: Value,
    wiring: Wiring,
    request: AddRequest,
}

pub(crate) fn add(request: AddRequest, job: &Job<'_>) -> Result<Added, Failure> {
    let agent = Agent::new(&request.conf.socket, request.conf.network.as_str(), job.deadline);
    redeem_own_release(&request, &agent, job)?;
    job.pass(Point::Ask)?;
    let grant = agent.add(wire_request(&request)).map_err(Failure::Add)?;
    job.log.debug(format_args!("granted {grant:?}"));
    let wiring = wire(&request, &grant, job).inspect_err(|failure| {
        if failure.left_nothing() {
            give_back(&request, job);
        }
    })?;
    match encode(&request, &wiring, job) {
        Ok(result) => {
            job.log.info(format_args!("added {:?}", grant.addresses));
            Ok(Added { result, wiring, request })
        }
        Err(failure) => {
            undo(&wiring, &request, job);
            Err(failure)
        }
    }
}

impl Added {
    /// Takes everything back: the runtime did not get the result.
    pub(crate) fn undo(&self, job: &Job<'_>) {
        undo(&self.wiring, &self.request, job);
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
fn redeem_own_release(request: &AddRequest, agent: &Agent<'_>, job: &Job<'_>) -> Result<(), Failure> {
    let attachment = request.subject.attachment();
    let path = SpooledRelease::path(&request.conf.spool_dir, request.conf.network.as_str(), &attachment);
    if !path.exists() {
        return Ok(());
    }
    job.log.info(format_args!("an earlier release waits in {}: it goes first", path.display()));
    job.pass(Point::Redeem)?;
    agent.del(spur_wire::DelRequest { attachment }).map_err(Failure::Add)?;
    del::forget_spooled(&path, job.log);
    Ok(())
}

fn wire(request: &AddRequest, grant: &AddReply, job: &Job<'_>) -> Result<Wiring, Failure> {
    job.pass(Point::Plan)?;
    let wiring = wiring::plan(request, grant).map_err(Failure::Wire)?;
    job.log.debug(format_args!("plan {wiring:?}"));
    wiring.apply(&request.netns, job.gate).map_err(Failure::Wire)?;
    Ok(wiring)
}

fn encode(request: &AddRequest, wiring: &Wiring, job: &Job<'_>) -> Result<Value, Failure> {
    job.pass(Point::Encode)?;
    let result = CniResult::new(request.conf.version, &wiring.wired(request), &request.conf.dns);
    result.after(request.previous.as_ref()).map_err(Failure::Encode)
}

/// The kernel first; while it still answers for the address, the address is not free, and DEL has to come back.
fn undo(wiring: &Wiring, request: &AddRequest, job: &Job<'_>) {
    match job.pass(Point::Unwire).and_then(|()| wiring.undo().map_err(Failure::Unwire)) {
        Ok(()) => give_back(request, job),
        Err(error) => job.log.error(format_args!("undo: {error}: {}", causes(&error))),
    }
}

fn give_back(request: &AddRequest, job: &Job<'_>) {
    let job = job.with_patience(UNDO_PATIENCE);
    let given = job.pass(Point::GiveBack).and_then(|()| del::release(&request.conf, &request.subject, &job));
    if let Err(failure) = given.map(drop) {
        job.log.error(format_args!("undo: {failure}: {}", causes(&failure)));
    }
}
