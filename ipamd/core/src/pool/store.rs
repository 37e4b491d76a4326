//! Transactions: what is made durable, and what follows from it. Changes nobody waits for ride along with the next transaction; when
//! one fails, those that are still true are kept for a later one.

use super::{Making, Pool, Release, Releasing};
use crate::action::{Action, Reply, StoreId};
use crate::address::{Grant, State};
use crate::backoff::{Key, Policy};
use crate::eni::{Leaving, Phase};
use crate::finding::Finding;
use crate::record::{Intent, IntentId, StoreChange};
use crate::wait::Wait;
use spur_cloud::{Api, EniId};
use std::net::IpAddr;

/// A transaction under way.
#[derive(Debug)]
pub(super) struct Pending {
    changes: Vec<StoreChange>,
    then: Then,
}

/// What a transaction is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Then {
    /// A pod gets its address.
    Grant(IpAddr),
    /// A pod gave its address back.
    Release(IpAddr),
    /// An ENI may be made.
    Create(IntentId),
    /// Addresses may go.
    Unassign(IntentId),
    /// An ENI may go.
    Remove(EniId),
    /// Nobody waits.
    Nothing,
}

impl Pool {
    /// Makes changes durable, and with them what has waited.
    pub(super) fn store(&mut self, changes: Vec<StoreChange>, then: Then) -> StoreId {
        let id = StoreId(self.next_id());
        let mut all: Vec<StoreChange> = std::mem::take(&mut self.dirty);
        all.retain(|change| self.still_true(change));
        all.extend(changes);
        self.out.push(Action::Store { id, changes: all.clone() });
        self.stores.insert(id, Pending { changes: all, then });
        id
    }

    /// Makes durable what a transaction that failed should have: on a node at rest no other may come for a long time.
    pub(super) fn catch_up(&mut self) {
        let ends =
            |change: &StoreChange| matches!(change, StoreChange::DropIntent(_) | StoreChange::DropEni(_));
        if self.dirty.iter().any(|change| ends(change) && self.still_true(change)) {
            self.store(Vec::new(), Then::Nothing);
        }
    }

    /// Whether a change that was put off still says what is so.
    fn still_true(&self, change: &StoreChange) -> bool {
        match change {
            StoreChange::Uncool(address) => {
                let state = self.table.get(*address).map(|slot| &slot.state);
                !matches!(state, Some(State::Cooling { .. } | State::Releasing { .. }))
                    && !self.resting.contains_key(address)
            }
            StoreChange::PutEni(record) => self.enis.get(&record.id).is_some_and(|eni| eni.record == *record),
            StoreChange::DropEni(id) => !self.enis.contains_key(id),
            StoreChange::DropIntent(_) => true,
            StoreChange::PutIntent(intent, Intent::Unassign { addresses, prefixes, .. }) => {
                let same =
                    |release: &Release| release.addresses == *addresses && release.prefixes == *prefixes;
                self.releases.get(intent).is_some_and(same)
            }
            StoreChange::Hold(..)
            | StoreChange::Release(_)
            | StoreChange::Cool(..)
            | StoreChange::PutIntent(..) => false,
        }
    }

    pub(super) fn stored(&mut self, id: StoreId) {
        let Some(Pending { changes, then }) = self.stores.remove(&id) else { return };
        for change in changes {
            if let StoreChange::PutEni(record) = change
                && let Some(eni) = self.enis.get_mut(&record.id).filter(|eni| eni.record == record)
            {
                eni.stored = true;
            }
        }
        match then {
            Then::Grant(address) => self.granted(address),
            Then::Release(address) => self.released(address),
            Then::Create(intent) => {
                if let Some(creation) = self.creations.get_mut(&intent) {
                    creation.phase = Making::Due;
                }
            }
            Then::Unassign(intent) => {
                if let Some(release) = self.releases.get_mut(&intent) {
                    release.phase = Releasing::Going;
                }
            }
            Then::Remove(id) => {
                let storing = Phase::Leaving(Leaving::Storing);
                if let Some(eni) = self.enis.get_mut(&id).filter(|eni| eni.phase == storing) {
                    eni.phase = Phase::Leaving(Leaving::Going);
                }
            }
            Then::Nothing => {}
        }
    }

    pub(super) fn store_failed(&mut self, id: StoreId, message: &str) {
        let Some(Pending { changes, then }) = self.stores.remove(&id) else { return };
        let kept: Vec<StoreChange> = changes.into_iter().filter(|change| self.still_true(change)).collect();
        self.dirty.extend(kept);
        match then {
            Then::Grant(address) => self.grant_failed(address, message),
            Then::Release(address) => self.release_failed(address, message),
            Then::Create(intent) => {
                self.creations.remove(&intent);
                self.pause(Api::CreateNetworkInterface, message);
            }
            Then::Unassign(intent) => {
                self.keep_addresses(intent);
                self.pause(Api::UnassignPrivateIpAddresses, message);
            }
            Then::Remove(id) => self.keep_eni(&id),
            Then::Nothing => {}
        }
    }

    /// A store that fails must not be asked again at once for the same call.
    fn pause(&mut self, call: Api, message: &str) {
        let timings = &self.settings.timings;
        let policy = Policy { first: timings.backoff, cap: timings.backoff_cap };
        let (message, api) = (message.to_owned(), "the store".to_owned());
        let wait = |until| Wait::CallFailed { api, until, message };
        self.backoffs.fail(Key::Api(call), self.now, policy, &mut self.jitter, wait);
    }

    fn granted(&mut self, address: IpAddr) {
        let Some(slot) = self.table.get(address) else { return };
        let State::Granting { key, holding, grant } = slot.state.clone() else { return };
        let eni = slot.eni.clone();
        self.table.set(address, State::Held { key: key.clone(), holding });
        match grant {
            Grant::Answer(ticket) => self.reply(ticket, Reply::Granted { attachment: key, address, eni }),
            Grant::Undo(tickets) => self.release(address, tickets),
        }
    }

    fn grant_failed(&mut self, address: IpAddr, message: &str) {
        let Some(slot) = self.table.get(address) else { return };
        let State::Granting { grant, .. } = slot.state.clone() else { return };
        self.table.set(address, State::Free { since: self.now });
        match grant {
            Grant::Answer(ticket) => self.reply(ticket, Reply::StoreFailed { message: message.to_owned() }),
            Grant::Undo(tickets) => {
                for ticket in tickets {
                    self.reply(ticket, Reply::Released { addresses: Vec::new() });
                }
            }
        }
    }

    fn released(&mut self, address: IpAddr) {
        let Some(slot) = self.table.get(address) else { return };
        let State::Releasing { tickets, .. } = slot.state.clone() else { return };
        let until = self.now.after(self.settings.timings.cooldown);
        self.table.set(address, State::Cooling { until, busy: 0 });
        self.mended(address);
        self.findings.remove(&Finding::HeldOutsideBlocks { address });
        for ticket in tickets {
            self.reply(ticket, Reply::Released { addresses: vec![address] });
        }
    }

    fn release_failed(&mut self, address: IpAddr, message: &str) {
        let Some(slot) = self.table.get(address) else { return };
        let State::Releasing { key, holding, tickets } = slot.state.clone() else { return };
        self.table.set(address, State::Held { key, holding });
        for ticket in tickets {
            self.reply(ticket, Reply::StoreFailed { message: message.to_owned() });
        }
    }
}
