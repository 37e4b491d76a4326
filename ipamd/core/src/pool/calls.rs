//! Calls: begun here, ended here. A failure is sorted by its class: what must wait (an action, a subnet, an ENI), whether the effect is known,
//! and what to look at. An unclear outcome is resolved by looking, except for creation, which its token makes safe to repeat.

use super::{Pool, Release, Releasing, Running};
use crate::action::{Action, CallId, CloudCall, Reason};
use crate::address::State;
use crate::backoff::{Key, Policy};
use crate::eni::{Leaving, Phase, Uncertain};
use crate::event::CallDone;
use crate::finding::Finding;
use crate::placement::Ask;
use crate::prefix;
use crate::record::{Intent, StoreChange};
use crate::wait::Wait;
use ipnet::IpNet;
use spur_cloud::{AddressRequest, Api, Assigned, CloudError, EniId, EniQuery, ErrorClass};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

impl Pool {
    /// Begins a call.
    pub(super) fn call(&mut self, call: CloudCall, reason: Reason) -> CallId {
        let id = CallId(self.next_id());
        let (now, step) = (self.now, self.step);
        if let Some(eni) = call.changes().and_then(|eni| self.enis.get_mut(eni)) {
            eni.busy = Some(id);
            eni.touched = step;
            eni.changed = now;
        }
        self.out.push(Action::Call { id, call: call.clone(), reason });
        self.calls.insert(id, Running { call, step, at: now });
        id
    }

    pub(super) fn call_finished(&mut self, id: CallId, result: Result<CallDone, CloudError>) {
        let Some(running) = self.calls.remove(&id) else { return };
        let (now, step) = (self.now, self.step);
        let api = running.call.api();
        if let Some(eni) = running.call.changes().and_then(|eni| self.enis.get_mut(eni)) {
            eni.busy = None;
            eni.touched = step;
            eni.changed = now;
        }
        let result = result.and_then(|done| self.fits(&running.call, done));
        if result.is_ok() {
            self.backoffs.clear(&Key::Api(api));
            if let Some(eni) = running.call.changes() {
                self.backoffs.clear(&Key::Eni(eni.clone(), api));
            }
        }
        match (running.call.clone(), result) {
            (CloudCall::ReadEnis(query), result) => self.read_finished(id, &running, query, result),
            (CloudCall::CreateEni(create), Ok(CallDone::Created(eni))) => self.created(&create, &eni),
            (CloudCall::CreateEni(create), Err(error)) => self.create_failed(&create, &error),
            (CloudCall::AttachEni { eni, .. }, Ok(CallDone::Attached(attachment))) => {
                if let Some(eni) = self.enis.get_mut(&eni) {
                    eni.attachment = Some(attachment);
                    if eni.phase == Phase::Unattached {
                        eni.phase = Phase::Attaching { since: now };
                    }
                }
            }
            (CloudCall::Assign { eni, request }, Ok(CallDone::Assigned(assigned))) => {
                self.assigned(&eni, &request, assigned);
            }
            (CloudCall::Unassign { eni, addresses, prefixes }, Ok(_)) => {
                self.unassigned(&eni, &addresses);
                for prefix in prefixes {
                    self.unassigned(&eni, &prefix::addresses(prefix).collect());
                }
            }
            (CloudCall::SetDeleteOnTermination { eni, .. }, Ok(_)) => {
                self.enis.entry(eni).and_modify(|eni| eni.dies_with_instance = true);
            }
            (CloudCall::DetachEni { eni, .. }, Ok(_)) => self.detached(&eni),
            (CloudCall::DeleteEni { eni }, Ok(_)) => self.forget(&eni),
            (call, Err(error)) => self.change_failed(&call, &error),
            (_, Ok(_)) => {}
        }
    }

    /// An answer of another kind than the question may hide a change: its outcome is as unclear as a lost one. So is that of an assignment
    /// which names nothing: to ask again would bring more and more.
    fn fits(&mut self, call: &CloudCall, done: CallDone) -> Result<CallDone, CloudError> {
        let fits = matches!(
            (call, &done),
            (CloudCall::ReadEnis(_), CallDone::Enis(_))
                | (CloudCall::CreateEni(_), CallDone::Created(_))
                | (CloudCall::AttachEni { .. }, CallDone::Attached(_))
                | (CloudCall::Assign { request: AddressRequest::Addresses(_), .. }, CallDone::Assigned(_))
                | (CloudCall::Unassign { .. } | CloudCall::SetDeleteOnTermination { .. }, CallDone::Done)
                | (CloudCall::DetachEni { .. } | CloudCall::DeleteEni { .. }, CallDone::Done)
        );
        let brings = matches!(
            (call, &done),
            (CloudCall::Assign { .. }, CallDone::Assigned(Assigned { addresses, prefixes }))
                if !addresses.is_empty() || !prefixes.is_empty()
        );
        if fits || brings {
            return Ok(done);
        }
        let message = format!("{} was answered with something else", call.api());
        self.report(Finding::BadAnswer { what: message.clone() });
        Err(CloudError {
            api: call.api(),
            class: ErrorClass::Transient,
            code: None,
            message,
            request_id: None,
        })
    }

    fn read_finished(
        &mut self,
        id: CallId,
        running: &Running,
        query: EniQuery,
        result: Result<CallDone, CloudError>,
    ) {
        let one = match &query {
            EniQuery::ByIds(ids) => ids.first().cloned(),
            EniQuery::OfInstance(_) | EniQuery::Tagged(..) => None,
        };
        if let Some(eni) = one.as_ref().and_then(|one| self.enis.get_mut(one)) {
            eni.busy = None;
        } else if self.sight.reading == Some(id) {
            self.sight.reading = None;
        } else if self.sight.searching == Some(id) {
            self.sight.searching = None;
        }
        match (result, one) {
            (Ok(CallDone::Enis(enis)), None) if matches!(query, EniQuery::Tagged(..)) => {
                self.searched(running.at, &enis);
            }
            (Ok(CallDone::Enis(enis)), None) => self.observe(running.step, running.at, &enis),
            (Ok(CallDone::Enis(enis)), Some(one)) => self.looked(running.step, running.at, &one, &enis),
            (Err(error), Some(one)) if error.class() == ErrorClass::NotFound => {
                self.looked(running.step, running.at, &one, &[]);
            }
            (Err(error), one) => {
                self.back_off(None, &error);
                if let Some(one) = one {
                    self.look(&one, "the state");
                }
            }
            (Ok(_), _) => {}
        }
    }

    fn assigned(&mut self, id: &EniId, request: &AddressRequest, assigned: Assigned) {
        if let Some(eni) = self.enis.get(id) {
            let subnet = eni.record.subnet.clone();
            self.gave(&subnet, request);
        }
        match request {
            AddressRequest::Addresses(asked) => {
                for address in asked {
                    self.table.give_again(*address, self.now);
                    self.mended(*address);
                }
            }
            AddressRequest::Count(_) | AddressRequest::Prefixes(_) => {
                for address in assigned.addresses {
                    self.take_up(address, None, id);
                }
                for prefix in assigned.prefixes {
                    self.take_up_prefix(prefix, id);
                }
            }
        }
    }

    /// Takes an address into the stock that EC2 just gave to one of our ENIs.
    pub(super) fn take_up(&mut self, address: IpAddr, prefix: Option<IpNet>, eni: &EniId) {
        let leaves = |state: &State| matches!(state, State::Leaving { .. });
        if self
            .table
            .get(address)
            .is_some_and(|slot| slot.eni != *eni || leaves(&slot.state) && slot.prefix != prefix)
        {
            // It left its ENI or its prefix: the answer that says so is not here yet, or somebody else took it from there.
            self.forget_address(address);
        }
        if self.table.get(address).is_some() {
            let what = format!("{address} was given to {eni}, but is there already");
            self.report(Finding::BadAnswer { what });
            return;
        }
        let doubtful = self.dig_up(address, eni);
        self.adopt(address, prefix, eni);
        self.table.set_doubtful(address, doubtful);
    }

    /// An address that was given back was given to us again: a restart must not finish the old release with it. What says so
    /// rides along with the transaction that hands the address out, at the latest. Says whether a call to give it back had no
    /// clear outcome: then it may come late and take the address again.
    pub(super) fn dig_up(&mut self, address: IpAddr, eni: &EniId) -> bool {
        let mut doubtful = false;
        for (intent, release) in &mut self.releases {
            // From another ENI it is gone all the same, and reads may show it there for a while.
            if release.eni == *eni && release.addresses.remove(&address) {
                doubtful |= release.unclear;
                if !release.unclear {
                    // In doubt the intent stays as it is: a restart then finishes the release, and nobody gets the address.
                    let (eni, prefixes) = (release.eni.clone(), release.prefixes.clone());
                    let addresses = release.addresses.clone();
                    let rest = Intent::Unassign { eni, addresses, prefixes };
                    self.dirty.push(StoreChange::PutIntent(*intent, rest));
                }
            }
        }
        doubtful
    }

    fn unassigned(&mut self, eni: &EniId, addresses: &BTreeSet<IpAddr>) {
        for address in addresses {
            let leaving = |state: &State| matches!(state, State::Leaving { .. });
            if self.table.get(*address).is_some_and(|slot| slot.eni == *eni && leaving(&slot.state)) {
                self.table.remove(*address);
            }
        }
        self.close_releases(eni);
    }

    /// Releases of which nothing is left are done.
    pub(super) fn close_releases(&mut self, eni: &EniId) {
        let now = self.now;
        for release in self.releases.values_mut().filter(|release| release.eni == *eni) {
            let there = |address: &IpAddr| self.table.get(*address).is_some_and(|slot| slot.eni == *eni);
            let carried = |prefix: &IpNet| self.table.carrier(*prefix) == Some(eni);
            if release.phase == Releasing::Going
                && !release.addresses.iter().any(there)
                && !release.prefixes.iter().any(carried)
            {
                release.phase = Releasing::Gone(now);
            }
        }
    }

    fn detached(&mut self, id: &EniId) {
        if let Some(eni) = self.enis.get_mut(id) {
            eni.phase = Phase::Leaving(Leaving::Detaching);
            eni.looks = 0;
        }
        self.look(id, "the detachment");
    }

    /// A call that changes an ENI failed.
    fn change_failed(&mut self, call: &CloudCall, error: &CloudError) {
        let Some(id) = call.changes() else { return };
        let class = error.class();
        let gone = class == ErrorClass::NotFound && matches!(call, CloudCall::DeleteEni { .. });
        if gone {
            return self.forget(id);
        }
        let subnet = self.enis.get(id).map(|eni| eni.record.subnet.clone());
        match (call, class, subnet) {
            (
                CloudCall::Assign { request: AddressRequest::Count(asked), .. },
                ErrorClass::SubnetFull,
                Some(subnet),
            ) => {
                return self.subnet_full(&subnet, *asked);
            }
            (
                CloudCall::Assign { request: AddressRequest::Prefixes(asked), .. },
                ErrorClass::SubnetFull,
                Some(subnet),
            ) => {
                return self.no_prefixes(&subnet, *asked);
            }
            (CloudCall::AttachEni { .. }, ErrorClass::QuotaExceeded, _) => return self.attach_refused(id),
            _ => self.back_off(Some(id), error),
        }
        let unclear = matches!(class, ErrorClass::Transient | ErrorClass::NotFound | ErrorClass::Conflict);
        match call {
            CloudCall::Assign { request: AddressRequest::Addresses(addresses), .. } => {
                self.repair_failed(addresses, error);
            }
            CloudCall::Assign { request, .. } if class == ErrorClass::Transient => {
                if let Some(eni) = self.enis.get_mut(id) {
                    eni.uncertain = Some(Uncertain { since: self.now, ask: Ask::of(request) });
                }
            }
            CloudCall::Unassign { addresses, prefixes, .. } if unclear => {
                let of = |release: &&mut Release| release.concerns(addresses, prefixes);
                for release in self.releases.values_mut().filter(of) {
                    release.unclear = true;
                }
            }
            CloudCall::Unassign { addresses, prefixes, .. } => self.put_back(addresses, prefixes),
            CloudCall::AttachEni { .. } if class == ErrorClass::Conflict => {
                // The place may be taken by an ENI that somebody else attached.
                self.sight.next = self.now;
                self.enis.entry(id.clone()).and_modify(|eni| eni.record.place = None);
            }
            _ => {}
        }
        if unclear || class == ErrorClass::QuotaExceeded {
            let unclear = format!("what became of {}", call.api());
            self.look(id, &unclear);
        }
    }

    /// The instance takes no more ENIs: believe it for a while, and do not keep the one that found no place.
    fn attach_refused(&mut self, id: &EniId) {
        self.enis.entry(id.clone()).and_modify(|eni| eni.record.place = None);
        let there = self.enis.values().filter(|eni| eni.attachment.is_some()).count();
        let limit = u32::try_from(there).unwrap_or(u32::MAX);
        self.learned_enis =
            Some((limit, self.now.after(self.settings.timings.backoff_denied.saturating_mul(5))));
        self.sight.next = self.now;
        self.raise(Finding::LowerEniLimit { limit });
        self.leave(id);
    }

    /// The subnet refused `asked` addresses: ask for half, or wait if that was one.
    pub(super) fn subnet_full(&mut self, subnet: &spur_cloud::SubnetId, asked: u32) {
        self.tight.insert(subnet.clone(), (asked / 2).max(1));
        if asked <= 1 || self.settings.eni.subnets.len() > 1 {
            let timings = &self.settings.timings;
            let policy = Policy { first: timings.backoff.saturating_mul(10), cap: timings.backoff_cap };
            let wait = |until| Wait::SubnetFull { subnet: subnet.clone(), until };
            self.backoffs.fail(Key::Subnet(subnet.clone()), self.now, policy, &mut self.jitter, wait);
        }
    }

    /// The subnet gave addresses.
    pub(super) fn relax(&mut self, subnet: &spur_cloud::SubnetId) {
        self.backoffs.clear(&Key::Subnet(subnet.clone()));
        if let Some(most) = self.tight.get_mut(subnet) {
            *most = most.saturating_mul(2);
        }
        self.tight.retain(|_, most| *most < 64);
    }

    /// Makes what failed wait: the action as a whole, or only on this ENI.
    pub(super) fn back_off(&mut self, eni: Option<&EniId>, error: &CloudError) {
        let timings = &self.settings.timings;
        let class = error.class();
        if let ErrorClass::OverBudget { wait } = class {
            return self.wait_for_budget(error.api, wait);
        }
        let long = matches!(class, ErrorClass::Denied | ErrorClass::Bug | ErrorClass::QuotaExceeded);
        let policy = Policy {
            first: if long { timings.backoff_denied } else { timings.backoff },
            cap: timings.backoff_cap,
        };
        let everywhere = matches!(class, ErrorClass::Throttled | ErrorClass::Denied);
        let key = match eni.filter(|_| !everywhere) {
            Some(eni) => Key::Eni(eni.clone(), error.api),
            None => Key::Api(error.api),
        };
        let (api, message) = (error.api.to_string(), error.message.clone());
        let wait = |until| match class {
            ErrorClass::Throttled => Wait::Throttled { api, until },
            ErrorClass::Denied => Wait::Denied { api, until, message },
            ErrorClass::QuotaExceeded => Wait::CloudQuota { api, until, message },
            _ => Wait::CallFailed { api, until, message },
        };
        self.backoffs.fail(key, self.now, policy, &mut self.jitter, wait);
    }

    /// The budget knows when it is worth asking again; no doubling, because nothing failed.
    fn wait_for_budget(&mut self, api: Api, wait: Duration) {
        self.backoffs.clear(&Key::Api(api));
        let policy = Policy { first: wait.saturating_mul(4) / 3, cap: Duration::ZERO };
        let reason = |until| Wait::Budget { api: api.to_string(), until };
        self.backoffs.fail(Key::Api(api), self.now, policy, &mut self.jitter, reason);
    }

    /// Asks EC2 about an ENI soon; later each time that it does not help.
    pub(super) fn look(&mut self, id: &EniId, unclear: &str) {
        let pause = self.settings.timings.look;
        if let Some(eni) = self.enis.get_mut(id) {
            let pause = pause.saturating_mul(1 << eni.looks.min(5));
            eni.looks += 1;
            eni.look_at(self.now.after(pause), unclear);
        }
    }

    /// Whether an action is under way for any ENI.
    pub(super) fn calling(&self, api: Api) -> bool {
        self.calls.values().any(|running| running.call.api() == api)
    }
}
