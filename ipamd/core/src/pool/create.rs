//! Making ENIs. The intent is durable before the call, and the call has a token, so it may be repeated until it is answered. Only when the
//! repetition is refused after an unclear first try does the token not help: then the ENI is searched by its tags.

use super::store::Then;
use super::{Creation, Making, Pool};
use crate::action::{CloudCall, Reason};
use crate::backoff::Key;
use crate::eni::{EniState, Phase, Role, record_of};
use crate::record::{Intent, IntentId, StoreChange};
use crate::time::Timestamp;
use spur_cloud::{Api, CloudError, CreateEni, Eni, EniQuery, ErrorClass};

impl Creation {
    /// Whether nobody knows if it was made, and it is searched.
    pub(super) const fn searched(&self) -> bool {
        matches!(self.phase, Making::Searched { .. })
    }
}

impl Pool {
    /// Begins creations whose intent is durable.
    pub(super) fn make_enis(&mut self) {
        if self.backoffs.blocks(&Key::Api(Api::CreateNetworkInterface), self.now) {
            return;
        }
        let waiting = u32::try_from(self.waiters.len()).unwrap_or(u32::MAX);
        for intent in self.creations.keys().copied().collect::<Vec<_>>() {
            let Some(creation) = self.creations.get_mut(&intent) else { continue };
            let full = self.backoffs.blocks(&Key::Subnet(creation.create.subnet.clone()), self.now);
            if creation.phase == Making::Due && (creation.uncertain || !full) {
                creation.phase = Making::Calling;
                let reason = Reason::Grow { waiting, missing: creation.addresses };
                let create = Box::new(creation.create.clone());
                self.call(CloudCall::CreateEni(create), reason);
            }
        }
    }

    fn creation_of(&self, create: &CreateEni) -> Option<IntentId> {
        self.creations.iter().find(|(_, c)| c.create.token == create.token).map(|(intent, _)| *intent)
    }

    pub(super) fn created(&mut self, create: &CreateEni, seen: &Eni) {
        let Some(intent) = self.creation_of(create) else { return };
        let Some(Creation { create, since, .. }) = self.creations.remove(&intent) else { return };
        self.relax(&seen.subnet);
        if self.enis.contains_key(&seen.id) {
            self.store(vec![StoreChange::DropIntent(intent)], Then::Nothing);
            return;
        }
        self.enter_made(seen, intent);
        let made = Intent::Create { create, made: Some(record_of(seen, None)), since };
        self.store(vec![StoreChange::PutIntent(intent, made)], Then::Nothing);
    }

    /// Takes in an ENI that was made by us and is not attached as far as we know.
    fn enter_made(&mut self, seen: &Eni, intent: IntentId) {
        let mut eni = EniState::new(record_of(seen, None), Role::Secondary, Phase::Unattached, self.now);
        eni.touched = self.step;
        eni.intent = Some(intent);
        if seen.attachment.is_some() {
            // A repeated creation answers with the ENI as it is by now.
            eni.look_at(self.now, "the attachment");
        }
        self.enis.insert(seen.id.clone(), eni);
        for address in &seen.addresses {
            self.take_up(*address, &seen.id);
        }
    }

    pub(super) fn create_failed(&mut self, create: &CreateEni, error: &CloudError) {
        let Some(intent) = self.creation_of(create) else { return };
        let Some(creation) = self.creations.get_mut(&intent) else { return };
        let asked = creation.addresses;
        creation.phase = Making::Due;
        match error.class() {
            ErrorClass::Transient => creation.uncertain = true,
            // These say nothing about an earlier call with the same token: to be repeated.
            ErrorClass::Throttled | ErrorClass::Denied if creation.uncertain => {}
            // Not sent: the intent stands.
            ErrorClass::OverBudget { .. } => {}
            _ if creation.uncertain => creation.phase = Making::Searched { since: self.now, at: self.now },
            _ => {
                self.creations.remove(&intent);
                self.store(vec![StoreChange::DropIntent(intent)], Then::Nothing);
            }
        }
        if error.class() == ErrorClass::SubnetFull {
            self.subnet_full(&create.subnet, asked);
        } else {
            self.back_off(None, error);
        }
    }

    /// Looks by tags for ENIs that were perhaps made.
    pub(super) fn search(&mut self) {
        let due =
            |creation: &Creation| matches!(creation.phase, Making::Searched { at, .. } if at <= self.now);
        let blocked = self.backoffs.blocks(&Key::Api(Api::DescribeNetworkInterfaces), self.now);
        if blocked || self.sight.searching.is_some() || !self.creations.values().any(due) {
            return;
        }
        let Some(vpc) = self.sight.vpc.clone() else { return };
        let query = EniQuery::Tagged(vpc, self.settings.eni.ownership.clone());
        let reason = Reason::Look { unclear: "whether an ENI was made".to_owned() };
        self.sight.searching = Some(self.call(CloudCall::ReadEnis(query), reason));
    }

    /// Takes in what the search found. What was not found is given up when it had time to show.
    pub(super) fn searched(&mut self, began: Timestamp, enis: &[Eni]) {
        let settle = self.settings.timings.settle;
        let searched: Vec<IntentId> =
            self.creations.iter().filter(|(_, c)| c.searched()).map(|(id, _)| *id).collect();
        let found = enis.iter().filter(|seen| seen.attachment.is_none() && !self.enis.contains_key(&seen.id));
        let mut found = found.collect::<Vec<_>>().into_iter();
        for intent in searched {
            let Some(creation) = self.creations.get_mut(&intent) else { continue };
            let Making::Searched { since, .. } = creation.phase else { continue };
            if let Some(seen) = found.next() {
                let create = creation.create.clone();
                self.created(&create, seen);
            } else if since.after(settle) <= began {
                self.creations.remove(&intent);
                self.store(vec![StoreChange::DropIntent(intent)], Then::Nothing);
            } else {
                creation.phase = Making::Searched { since, at: since.after(settle) };
            }
        }
    }
}
