//! The comparison of an ENI's addresses with EC2: what appears is taken up, what vanished is forgotten, unless a pod has it or EC2's reads may
//! not show it yet; and what was unclear about calls becomes clear.

use super::Pool;
use super::delegate::shows;
use super::observe::Reading;
use crate::address::State;
use crate::backoff::Key;
use crate::eni::Phase;
use crate::finding::Finding;
use spur_cloud::{Api, Eni, EniId};
use std::collections::BTreeSet;
use std::net::IpAddr;

impl Pool {
    /// Compares the addresses of an ENI.
    pub(super) fn see_addresses(&mut self, reading: Reading, seen: &Eni, new: bool) {
        let id = &seen.id;
        let before = self.drop_findings(id);
        let settle = self.settings.timings.settle;
        let young = move |pool: &Self, address: IpAddr| {
            pool.table.get(address).is_some_and(|slot| slot.given.after(settle) > reading.at)
        };
        let mut adopted = self.see_prefixes(seen, young, new, &before);
        for address in &seen.addresses {
            match self.table.get(*address).map(|slot| (slot.eni == *id, young(self, *address))) {
                None if self.buried(*address, id) && !self.resting.contains_key(address) => {}
                None => {
                    // What rests came again after it was given back; the call that did so may come late.
                    let doubtful = self.buried(*address, id);
                    self.dig_up(*address, id);
                    self.adopt(*address, None, id);
                    self.table.set_doubtful(*address, doubtful);
                    adopted += 1;
                    if self.unexpected(id, new) {
                        self.report(Finding::AddressAdopted { address: *address, eni: id.clone() });
                    }
                }
                // Its prefix went back, and it came again by itself.
                Some((true, _)) if self.leaves_with_a_prefix(*address) => {
                    self.table.remove(*address);
                    self.adopt(*address, None, id);
                }
                Some((true, young)) => {
                    self.table.set_missing(*address, false);
                    self.table.regroup(*address, None);
                    self.mended(*address);
                    if !young {
                        self.table.set_doubtful(*address, false);
                    }
                }
                // It was here before it was given to the other.
                Some((false, true)) => {}
                Some((false, false)) => self.see_elsewhere(*address, id, &before),
            }
        }
        for (address, state, eni) in self.unseen(seen) {
            match state {
                State::Leaving { .. } => self.table.remove(address),
                _ if young(self, address) => {}
                State::Free { .. } | State::Cooling { .. } => {
                    self.forget_address(address);
                    self.report(Finding::AddressMissing { address, eni });
                }
                State::Granting { .. } | State::Held { .. } | State::Releasing { .. } => {
                    self.table.set_missing(address, true);
                    self.raise_again(Finding::HeldAddressMissing { address, eni }, &before);
                }
            }
        }
        if self.enis.get(id).is_some_and(|eni| eni.retired) {
            self.raise_again(Finding::ForeignEni { eni: id.clone() }, &before);
        }
        self.close_releases(id);
        self.clear_up(reading, seen, adopted);
    }

    fn leaves_with_a_prefix(&self, address: IpAddr) -> bool {
        let leaves = |state: &State| matches!(state, State::Leaving { .. });
        self.table.get(address).is_some_and(|slot| slot.prefix.is_some() && leaves(&slot.state))
    }

    /// What was unclear about the ENI is clear now, or is looked at again.
    fn clear_up(&mut self, reading: Reading, seen: &Eni, adopted: u32) {
        let wait = self.settings.timings.look.saturating_mul(2);
        let Some(eni) = self.enis.get_mut(&seen.id) else { return };
        match eni.uncertain {
            Some(uncertain) if adopted == 0 && uncertain.since.after(wait) > reading.at => {
                self.look(&seen.id, "what became of an assignment");
            }
            _ => eni.uncertain = None,
        }
        if adopted > 0 {
            self.backoffs.clear(&Key::Eni(seen.id.clone(), Api::AssignPrivateIpAddresses));
        }
    }

    /// Of an ENI on its way out only this counts: which of the addresses that leave are gone.
    pub(super) fn see_leaving(&mut self, seen: &Eni) {
        for (address, state, _) in self.unseen(seen) {
            if matches!(state, State::Leaving { .. }) {
                self.table.remove(address);
            }
        }
        self.close_releases(&seen.id);
    }

    fn unseen(&self, seen: &Eni) -> Vec<(IpAddr, State, EniId)> {
        let slots = self.table.on(&seen.id).filter(|(address, _)| !shows(seen, *address));
        slots.map(|(address, slot)| (address, slot.state.clone(), slot.eni.clone())).collect()
    }

    /// Whether nothing of ours explains what appears on an ENI.
    pub(super) fn unexpected(&self, id: &EniId, new: bool) -> bool {
        let uncertain =
            self.enis.get(id).is_some_and(|eni| eni.uncertain.is_some() || eni.phase == Phase::Unattached);
        !new && !uncertain && self.sight.observed.is_some()
    }

    /// EC2 shows an address on this ENI that we have on another.
    pub(super) fn see_elsewhere(&mut self, address: IpAddr, seen: &EniId, before: &BTreeSet<Finding>) {
        let Some(slot) = self.table.get(address) else { return };
        let eni = slot.eni.clone();
        if slot.live() {
            self.raise_again(Finding::HeldAddressElsewhere { address, eni, seen: seen.clone() }, before);
        } else {
            // Whether it really moved, the next reading of the other ENI says; then it is free to be taken up here.
            self.sight.next = self.sight.next.min(self.now.after(self.settings.timings.look));
        }
    }

    /// Whether EC2 may still show this address on the ENI, though it was given back.
    fn buried(&self, address: IpAddr, id: &EniId) -> bool {
        self.releases.values().any(|release| release.eni == *id && release.addresses.contains(&address))
    }

    /// Takes back the findings about an ENI; says which they were.
    pub(super) fn drop_findings(&mut self, id: &EniId) -> BTreeSet<Finding> {
        let about = |finding: &Finding| match finding {
            Finding::HeldAddressMissing { eni, .. }
            | Finding::HeldEniGone { eni }
            | Finding::ForeignEni { eni } => eni == id,
            Finding::HeldAddressElsewhere { seen, .. } => seen == id,
            _ => false,
        };
        let (gone, stay) = std::mem::take(&mut self.findings).into_iter().partition(about);
        self.findings = stay;
        gone
    }

    /// Shows a finding; quietly if it stood before.
    fn raise_again(&mut self, finding: Finding, before: &BTreeSet<Finding>) {
        if before.contains(&finding) {
            self.findings.insert(finding);
        } else {
            self.raise(finding);
        }
    }
}
