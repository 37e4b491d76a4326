//! Rest: an address whose pod is gone is nobody's for the cooldown, and after that until the kernel tracks no connection to or from it:
//! the next pod must not meet what was meant for the last. The kernel is asked once for all whose time is over; those that are
//! busy rest on, longer each time, and are asked for again. That nobody can tell keeps no address for ever: after some tries
//! the cooldown alone counts, and that is said.
//!
//! An address that left the node, or was not seen since the start, rests in the same way, because it may come back at any moment, and
//! no clock says that it may be handed out then: one that was set forward would let it go while connections to its last pod live on.

use super::Pool;
use crate::action::Action;
use crate::address::State;
use crate::finding::Finding;
use crate::record::StoreChange;
use crate::time::Timestamp;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// Between two questions about a busy address at first; doubled each time.
const AGAIN: Duration = Duration::from_secs(5);
/// Longest time between two questions.
const AGAIN_CAP: Duration = Duration::from_secs(120);
/// So many questions answered "busy" are worth a report.
const STUBBORN: u8 = 6;
/// So many questions without an answer, and the cooldown alone counts.
const UNANSWERED: u8 = 3;

/// The rest of an address that the book does not have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    /// At least until then.
    pub(super) until: Timestamp,
    /// How often the kernel was found to know flows towards it.
    pub(super) busy: u8,
}

/// The question to the kernel.
#[derive(Debug, Default)]
pub(super) struct Probe {
    /// About these, under way.
    asked: Option<BTreeSet<IpAddr>>,
    /// Not before then, because the last one had no answer.
    blocked: Option<Timestamp>,
    /// Questions in a row that had no answer.
    unanswered: u8,
}

impl Pool {
    /// Asks about addresses whose time is over.
    pub(super) fn end_rests(&mut self) {
        let now = self.now;
        if self.probe.asked.is_some() || self.probe.blocked.is_some_and(|until| until > now) {
            return;
        }
        let elsewhere =
            self.resting.iter().filter(|(_, rest)| rest.until <= now).map(|(address, _)| *address);
        let addresses: BTreeSet<IpAddr> = self.table.rested(now).chain(elsewhere).collect();
        if !addresses.is_empty() {
            self.probe.asked = Some(addresses.clone());
            self.out.push(Action::ProbeFlows { addresses });
        }
    }

    /// When there is something to ask next.
    pub(super) fn next_rested(&self) -> Option<Timestamp> {
        let elsewhere = self.resting.values().map(|rest| rest.until).filter(|until| *until > self.now);
        let waits = self.table.next_rested(self.now).into_iter().chain(elsewhere).min();
        match self.probe.blocked.filter(|until| *until > self.now) {
            Some(until) => Some(waits.map_or(until, |at| at.min(until))),
            None => waits,
        }
    }

    /// The kernel answered.
    pub(super) fn flows_seen(&mut self, result: Result<BTreeSet<IpAddr>, String>) {
        let Some(asked) = self.probe.asked.take() else { return };
        match result {
            Ok(busy) => {
                self.probe.unanswered = 0;
                self.probe.blocked = None;
                asked.into_iter().for_each(|address| self.rested(address, busy.contains(&address)));
                self.drop_rest_findings();
            }
            Err(_) if self.probe.unanswered + 1 < UNANSWERED => {
                self.probe.unanswered += 1;
                self.probe.blocked = Some(self.now.after(self.jitter.spread(AGAIN)));
            }
            Err(message) => {
                self.probe.blocked = None;
                self.raise(Finding::FlowsUnknown { message });
                asked.into_iter().for_each(|address| self.rested(address, false));
            }
        }
    }

    fn rested(&mut self, address: IpAddr, busy: bool) {
        // It may have been given back to the subnet in the meantime.
        let Some(rest) = self.rest_of(address).filter(|rest| rest.until <= self.now) else { return };
        if !busy {
            return self.end_rest(address);
        }
        let busy = rest.busy.saturating_add(1);
        let pause = AGAIN.saturating_mul(1 << (busy - 1).min(10)).min(AGAIN_CAP);
        let until = self.now.after(self.jitter.spread(pause));
        match self.resting.get_mut(&address) {
            Some(rest) => *rest = Rest { until, busy },
            None => self.table.set(address, State::Cooling { until, busy }),
        }
        if busy >= STUBBORN {
            self.raise(Finding::FlowsLinger { address });
        }
    }

    fn rest_of(&self, address: IpAddr) -> Option<Rest> {
        let here = || match self.table.get(address)?.state {
            State::Cooling { until, busy } => Some(Rest { until, busy }),
            _ => None,
        };
        self.resting.get(&address).copied().or_else(here)
    }

    fn end_rest(&mut self, address: IpAddr) {
        self.dirty.push(StoreChange::Uncool(address));
        if self.resting.remove(&address).is_some() {
            return;
        }
        self.table.set(address, State::Free { since: self.now });
        if !self.at_home(address) {
            self.forget_address(address);
        }
    }

    /// Takes back what is no longer so.
    fn drop_rest_findings(&mut self) {
        let findings = std::mem::take(&mut self.findings).into_iter();
        let stands = |finding: &Finding| match finding {
            Finding::FlowsLinger { address } => self.rest_of(*address).is_some(),
            Finding::FlowsUnknown { .. } => false,
            _ => true,
        };
        self.findings = findings.filter(stands).collect();
    }
}
