//! Prefixes: taken up when EC2 gives or shows one, dissolved when it is lost. The sixteen addresses of a prefix are addresses like all others
//! from then on; that they come and go together is all that is special.

use super::rest::Rest;
use super::{Pool, Release};
use crate::address::{Slot, State};
use crate::backoff::{Key, Policy};
use crate::finding::Finding;
use crate::prefix;
use crate::record::{Intent, StoreChange};
use crate::settings::PrefixDelegation;
use crate::wait::Wait;
use ipnet::IpNet;
use spur_cloud::{AddressRequest, Eni, EniId, SubnetId};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A subnet that had no free /28 is asked again after so many times the usual first wait …
const FIRST: u32 = 30;
/// … and after so many times the longest at most: blocks become free slowly.
const CAP: u32 = 5;

/// Whether EC2 shows the address on the ENI, by itself or in a prefix.
pub(super) fn shows(seen: &Eni, address: IpAddr) -> bool {
    seen.addresses.contains(&address)
        || prefix::around(address).is_some_and(|prefix| seen.prefixes.contains(&prefix))
}

impl Pool {
    /// Takes a prefix into the stock that EC2 just gave to one of our ENIs.
    pub(super) fn take_up_prefix(&mut self, prefix: IpNet, eni: &EniId) {
        if !prefix::understood(prefix) {
            self.report(Finding::BadAnswer { what: format!("{prefix} was given to {eni}, and is no /28") });
            return;
        }
        let doubtful = self.dig_up_prefix(prefix, eni);
        for address in prefix::addresses(prefix) {
            self.take_up(address, Some(prefix), eni);
            if doubtful {
                self.table.set_doubtful(address, true);
            }
        }
    }

    /// As [`Pool::dig_up`], for a prefix.
    fn dig_up_prefix(&mut self, prefix: IpNet, eni: &EniId) -> bool {
        let mut doubtful = false;
        for (intent, release) in &mut self.releases {
            if release.eni == *eni && release.prefixes.remove(&prefix) {
                doubtful |= release.unclear;
                if !release.unclear {
                    let eni = release.eni.clone();
                    let (addresses, prefixes) = (release.addresses.clone(), release.prefixes.clone());
                    let rest = Intent::Unassign { eni, addresses, prefixes };
                    self.dirty.push(StoreChange::PutIntent(*intent, rest));
                }
            }
        }
        doubtful
    }

    /// What EC2 shows of prefixes on an ENI; says how many addresses are new.
    pub(super) fn see_prefixes(
        &mut self,
        seen: &Eni,
        young: impl Fn(&Self, IpAddr) -> bool,
        new: bool,
        before: &BTreeSet<Finding>,
    ) -> u32 {
        let mut adopted = 0;
        for prefix in seen.prefixes.iter().copied().filter(|prefix| prefix::understood(*prefix)) {
            let given_back = |release: &Release| release.eni == seen.id && release.prefixes.contains(&prefix);
            let buried = self.releases.values().any(given_back) && self.table.carrier(prefix).is_none();
            let again = prefix::addresses(prefix).any(|address| self.resting.contains_key(&address));
            if buried && !again {
                continue;
            }
            if buried {
                self.dig_up_prefix(prefix, &seen.id);
            }
            let count = self.see_prefix(prefix, &seen.id, &young, before);
            for address in prefix::addresses(prefix).filter(|_| buried) {
                self.table.set_doubtful(address, true);
            }
            if count > 0 && self.unexpected(&seen.id, new) {
                self.report(Finding::PrefixAdopted { prefix, eni: seen.id.clone() });
            }
            adopted += count;
        }
        self.dissolve(seen, young);
        adopted
    }

    /// What EC2 shows of one prefix. Addresses of it that came one by one before are part of it now.
    fn see_prefix(
        &mut self,
        prefix: IpNet,
        id: &EniId,
        young: impl Fn(&Self, IpAddr) -> bool,
        before: &BTreeSet<Finding>,
    ) -> u32 {
        let mut adopted = 0;
        for address in prefix::addresses(prefix) {
            let slot = self.table.get(address);
            let alone = |slot: &Slot| slot.prefix.is_none() && matches!(slot.state, State::Leaving { .. });
            match slot.map(|slot| (slot.eni == *id, alone(slot))) {
                Some((true, true)) => {
                    // It went back, and came again with all of its prefix: a call that gives it back finds nothing.
                    self.table.remove(address);
                    self.dig_up(address, id);
                    self.adopt(address, Some(prefix), id);
                }
                Some((true, false)) => {
                    self.table.set_missing(address, false);
                    self.table.regroup(address, Some(prefix));
                    self.mended(address);
                    if !young(self, address) {
                        self.table.set_doubtful(address, false);
                    }
                }
                Some((false, _)) if young(self, address) => {}
                Some((false, _)) => self.see_elsewhere(address, id, before),
                None => {
                    self.adopt(address, Some(prefix), id);
                    adopted += 1;
                }
            }
        }
        adopted
    }

    /// A prefix that is not shown any more is none: what pods still have of it is brought back address by address.
    fn dissolve(&mut self, seen: &Eni, young: impl Fn(&Self, IpAddr) -> bool) {
        let here = self.table.shelf(&seen.id);
        let lost: Vec<IpNet> = here.prefixes().filter(|prefix| !seen.prefixes.contains(prefix)).collect();
        for prefix in lost {
            for address in prefix::addresses(prefix) {
                let live =
                    self.table.get(address).is_some_and(|slot| slot.live() && slot.prefix == Some(prefix));
                if live && !young(self, address) {
                    self.table.regroup(address, None);
                }
            }
        }
    }

    /// An address that EC2 shows and the book does not have: it rests if it did before.
    pub(super) fn adopt(&mut self, address: IpAddr, prefix: Option<IpNet>, id: &EniId) {
        let rests = self.resting.remove(&address);
        let rests = rests.map(|Rest { until, busy }| State::Cooling { until, busy });
        let state = rests.unwrap_or(State::Free { since: self.now });
        self.table.add(address, id.clone(), prefix, state, self.now);
    }

    /// The subnet has no free /28 for so many prefixes: ask for one next time, or use single addresses for a while.
    pub(super) fn no_prefixes(&mut self, subnet: &SubnetId, asked: u32) {
        if asked > 1 {
            self.tight_prefixes.insert(subnet.clone(), 1);
            return;
        }
        let timings = &self.settings.timings;
        let policy = Policy {
            first: timings.backoff.saturating_mul(FIRST),
            cap: timings.backoff_cap.saturating_mul(CAP),
        };
        let wait = |until| Wait::NoFreePrefix { subnet: subnet.clone(), until };
        self.backoffs.fail(Key::Prefixes(subnet.clone()), self.now, policy, &mut self.jitter, wait);
    }

    /// Where no prefixes are used, it is no matter whether there are any.
    pub(super) fn drop_prefix_findings(&mut self) {
        if self.delegation() == PrefixDelegation::Off {
            self.findings.retain(|finding| !matches!(finding, Finding::SubnetFragmented { .. }));
        }
    }

    /// The subnet gave what was asked for. Single addresses out of a subnet without a free /28 mean that it is fragmented.
    pub(super) fn gave(&mut self, subnet: &SubnetId, request: &AddressRequest) {
        match request {
            AddressRequest::Prefixes(_) => {
                self.backoffs.clear(&Key::Prefixes(subnet.clone()));
                self.tight_prefixes.remove(subnet);
                let fragmented = Finding::SubnetFragmented { subnet: subnet.clone() };
                self.findings.remove(&fragmented);
            }
            AddressRequest::Count(_) => {
                self.relax(subnet);
                if self.lacks_prefixes(subnet) {
                    self.raise(Finding::SubnetFragmented { subnet: subnet.clone() });
                }
            }
            AddressRequest::Addresses(_) => self.relax(subnet),
        }
    }
}
