//! What becomes of an address: one slot per address that the node's ENIs carry, each in exactly one state. When a state may change is
//! decided by the pool; `table` keeps the slots.

use crate::event::Ticket;
use crate::record::{AttachmentKey, Holding, IntentId};
use crate::time::Timestamp;
use ipnet::IpNet;
use spur_cloud::EniId;

/// What becomes of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Nobody's, since then.
    Free { since: Timestamp },
    /// Being made durable for a pod.
    Granting { key: AttachmentKey, holding: Holding, grant: Grant },
    /// A pod's.
    Held { key: AttachmentKey, holding: Holding },
    /// A pod's no more, as soon as that is durable.
    Releasing { key: AttachmentKey, holding: Holding, tickets: Vec<Ticket> },
    /// Nobody's, but packets for the last holder may still be on their way.
    Cooling {
        /// At least until then.
        until: Timestamp,
        /// How often the kernel was found to know flows towards it.
        busy: u8,
    },
    /// On its way back to the subnet.
    Leaving { intent: IntentId },
}

/// What happens when a grant is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Grant {
    /// The pod is told.
    Answer(Ticket),
    /// It is released again, because the pod is gone; these tickets are told.
    Undo(Vec<Ticket>),
}

/// An address of one of our ENIs.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// Whose.
    pub(crate) eni: EniId,
    /// The delegated prefix that it is part of; none if it takes a place of its own.
    pub(crate) prefix: Option<IpNet>,
    /// What becomes of it.
    pub(crate) state: State,
    /// When EC2 last gave it: a reading may not show it until some time later.
    pub(crate) given: Timestamp,
    /// EC2 does not show it.
    pub(crate) missing: bool,
    /// A call that takes it away may still come late: nobody gets it before a later reading shows it.
    pub(crate) doubtful: bool,
}

impl Slot {
    /// Whether a pod has it, or had it so lately that it counts.
    pub(crate) const fn in_use(&self) -> bool {
        !matches!(self.state, State::Free { .. } | State::Leaving { .. })
    }

    /// Whether a pod has it.
    pub(crate) const fn live(&self) -> bool {
        self.in_use() && !matches!(self.state, State::Cooling { .. })
    }

    /// Whether nobody has it and it stays.
    pub(crate) const fn free(&self) -> bool {
        matches!(self.state, State::Free { .. })
    }

    /// Whether the kernel shall know it. What a call on its way may still take is nobody's yet, and must not be found in use by it.
    pub(crate) const fn in_kernel(&self) -> bool {
        !self.doubtful && !matches!(self.state, State::Leaving { .. })
    }
}

/// Addresses of an ENI, or of one prefix of it, by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) free: u32,
    pub(crate) held: u32,
    pub(crate) releasing: u32,
    pub(crate) cooling: u32,
    pub(crate) leaving: u32,
}

impl Tally {
    /// All of them.
    pub(crate) const fn all(self) -> u32 {
        self.free + self.live() + self.cooling + self.leaving
    }

    /// Those that a pod has.
    pub(crate) const fn live(self) -> u32 {
        self.held + self.releasing
    }

    /// The number that counts addresses in this state.
    pub(crate) const fn of(&mut self, state: &State) -> &mut u32 {
        match state {
            State::Free { .. } => &mut self.free,
            State::Cooling { .. } => &mut self.cooling,
            State::Leaving { .. } => &mut self.leaving,
            State::Granting { .. } | State::Held { .. } => &mut self.held,
            State::Releasing { .. } => &mut self.releasing,
        }
    }
}
