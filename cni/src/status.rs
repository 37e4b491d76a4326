//! STATUS: can ADD be served? One question to the agent, nothing else: runtimes poll it, and a failing STATUS makes the whole
//! node NotReady and evicts healthy pods. So exhaustion of addresses is never an answer here; that is ADD's code 11.
//! The agent says whether pods that run are worse off too (51) or only new ones (50). Its word is final; the plugin adds only that an agent which does not answer cannot serve.

use crate::agent::Agent;
use crate::failure::Failure;
use crate::netconf::NetConf;
use spur_wire::StatusReply;
use std::time::{Duration, Instant};

/// The agent answers from memory; one that takes longer would not serve ADD either.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn status(conf: &NetConf, started: Instant) -> Result<(), Failure> {
    let deadline = started + conf.timeout.min(PATIENCE);
    let reply =
        Agent::new(&conf.socket, conf.network.as_str(), deadline).status().map_err(Failure::Status)?;
    if reply.ready {
        return Ok(());
    }
    Err(failure_of(reply))
}

/// What an answer that is not "ready" means.
pub(crate) fn failure_of(reply: StatusReply) -> Failure {
    let reason = reply.reason.unwrap_or_else(|| "the agent has not prepared the node".to_owned());
    if reply.limited { Failure::Limited(reason) } else { Failure::NotReady(reason) }
}
