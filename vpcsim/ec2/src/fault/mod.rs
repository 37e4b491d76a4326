//! What can go wrong, as data: a [`Fault`] says what happens (`Kind`), to whom and when (`Select`). Faults are read by the
//! scenario's parser, at the start or at run time, and carried out by the engine. This file has no behaviour.
//!
//! Everything that is by chance is drawn from the seed, the fault's name, the caller, the action and how often that caller
//! has called it: so what one node meets does not depend on how its calls interleave with those of others.

mod bucket;
mod engine;
mod history;
mod select;

pub(crate) use bucket::Figures;
pub(crate) use engine::{Faults, Refusal, Ruling};
pub(crate) use select::{Select, When};

use crate::error::Code;
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::time::Duration;

/// Something that goes wrong.
#[derive(Debug, Clone)]
pub struct Fault {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) select: Select,
    /// As it was written.
    pub(crate) written: Value,
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.written.serialize(serializer)
    }
}

/// A fault at work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FaultView {
    /// Its name: the one it was given, otherwise its kind and its place in the list.
    pub name: String,
    /// What was written.
    pub fault: Value,
    /// Calls, requests or points of time that it was meant for.
    pub seen: u64,
    /// How often it struck.
    pub fired: u64,
}

/// What becomes of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Delivery {
    /// It is sent.
    #[default]
    Send,
    /// The connection ends without a byte of it.
    Drop,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Call(CallFault),
    Metadata(MetadataFault),
    Event(Event),
}

/// To a call of EC2's API.
#[derive(Debug, Clone)]
pub(crate) enum CallFault {
    /// Refused while a bucket is empty: these figures, or EC2's own.
    Throttle(Option<Figures>),
    /// Refused before anything has happened.
    Error { code: Code, message: Option<String> },
    /// Refused for want of a permission.
    Deny,
    /// Neither performed nor answered; the connection ends after a while.
    Timeout(Duration),
    /// Performed, and the caller does not learn it: another answer instead, or none.
    LostReply(Option<Code>),
    /// Answered late.
    Slow(Duration),
    /// A read of the world as it was.
    Stale(Duration),
    /// An attachment or detachment lands after another delay.
    Late(Duration),
    /// An attachment or detachment lands when the fault is over.
    Stuck,
}

/// To a request for metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetadataFault {
    Stale(Duration),
    Status(u16),
    Empty,
    Timeout(Duration),
    Slow(Duration),
}

/// To the world, without a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A secondary ENI is detached and deleted.
    Vanish { which: Which, every: Option<Duration> },
    /// A secondary ENI loses addresses, or a prefix if it has no address.
    LoseAddresses { which: Which, count: u32, every: Option<Duration> },
    /// Somebody else takes addresses until this many are free.
    FillSubnet { subnet: String, leave: u32, every: Option<Duration> },
    /// Somebody else takes one address of every free /28 but this many.
    FragmentSubnet { subnet: String, leave: u32, every: Option<Duration> },
    /// An instance is terminated.
    Terminate { node: String },
}

/// Some secondary ENI: chance picks among those that fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Which {
    pub(crate) node: Option<String>,
    pub(crate) device_index: Option<u32>,
    pub(crate) eni: Option<String>,
}

impl Event {
    pub(crate) const fn every(&self) -> Option<Duration> {
        match self {
            Self::Vanish { every, .. }
            | Self::LoseAddresses { every, .. }
            | Self::FillSubnet { every, .. }
            | Self::FragmentSubnet { every, .. } => *every,
            Self::Terminate { .. } => None,
        }
    }
}
