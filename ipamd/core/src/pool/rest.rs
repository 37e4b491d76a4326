//! Rest: an address whose pod is gone is nobody's for the cooldown, and after that until the kernel tracks no connection to or from it:
//! the next pod must not meet what was meant for the last. The kernel is asked once for all whose time is over; those that are
//! busy rest on, longer each time, and are asked for again. That nobody can tell keeps no address for ever: after some tries
//! the cooldown alone counts, and that is said.

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
    /// Asks about addresses whose time is over, and forgets those that were rested for elsewhere.
    pub(super) fn end_rests(&mut self) {
        let now = self.now;
        // Before the first reading they are only not seen yet, and rest on as soon as they are.
        if self.sight.observed.is_some() {
            let over: Vec<IpAddr> =
                self.resting.iter().filter(|(_, until)| **until <= now).map(|(a, _)| *a).collect();
            for address in over {
                self.resting.remove(&address);
                self.dirty.push(StoreChange::Uncool(address));
            }
        }
        if self.probe.asked.is_some() || self.probe.blocked.is_some_and(|until| until > now) {
            return;
        }
        let addresses: BTreeSet<IpAddr> = self.table.rested(now).collect();
        if !addresses.is_empty() {
            self.probe.asked = Some(addresses.clone());
            self.out.push(Action::ProbeFlows { addresses });
        }
    }

    /// When there is something to ask next.
    pub(super) fn next_rested(&self) -> Option<Timestamp> {
        let waits = self.table.next_rested(self.now);
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
        // It may have vanished in the meantime, or be given back to the subnet.
        let Some(State::Cooling { until, busy: before }) = self.table.get(address).map(|slot| &slot.state)
        else {
            return;
        };
        if *until > self.now {
            return;
        }
        if !busy {
            self.table.set(address, State::Free { since: self.now });
            self.dirty.push(StoreChange::Uncool(address));
            if !self.at_home(address) {
                self.forget_address(address);
            }
            return;
        }
        let busy = before.saturating_add(1);
        let pause = AGAIN.saturating_mul(1 << (busy - 1).min(10)).min(AGAIN_CAP);
        let until = self.now.after(self.jitter.spread(pause));
        self.table.set(address, State::Cooling { until, busy });
        if busy >= STUBBORN {
            self.raise(Finding::FlowsLinger { address });
        }
    }

    /// Takes back what is no longer so.
    fn drop_rest_findings(&mut self) {
        let table = &self.table;
        let rests = |address: &IpAddr| {
            table.get(*address).is_some_and(|slot| matches!(slot.state, State::Cooling { .. }))
        };
        self.findings.retain(|finding| match finding {
            Finding::FlowsLinger { address } => rests(address),
            Finding::FlowsUnknown { .. } => false,
            _ => true,
        });
    }
}
