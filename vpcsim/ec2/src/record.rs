//! The record of calls: who called what, when, and what came of it. Kept whole, so that a test can assert a call budget;
//! the caller drains it if a long run would make it grow too much. Refused calls are in it too: EC2 counts them against the
//! budget like all others.

use crate::time::SimTime;
use serde::Serialize;
use std::time::Duration;

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// When it was answered.
    pub at: SimTime,
    /// The node's name, `operator` for any other key, `anonymous` for none.
    pub caller: String,
    /// The action as sent; empty if there was none.
    pub action: String,
    /// The parameters in short: `Name=value` joined by blanks, cut off where it gets long.
    pub parameters: String,
    /// `OK` or the error code of what was performed, whatever the caller was told.
    pub outcome: String,
    /// HTTP status that was sent; 0 if the connection ended without an answer.
    pub status: u16,
    /// Id of the request.
    pub request_id: String,
    /// How long the answer is held back; zero while no fault asks for it.
    pub held: Duration,
    /// Names of the faults that struck.
    pub faults: Vec<String>,
}
