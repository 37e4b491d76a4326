//! Making ENIs. The intent is durable before the call, and the call has a token, so it may be repeated until it is answered. Only when the
//! repetition is refused after an unclear first try does the token not help: then the ENI is searched by its tags.

use super::store::Then;
use super::{Creation, Making, Pool};
use crate::action::{CloudCall, Reason};
use crate::backoff::Key;
use crate::eni::{EniState, Phase, Role, record_of};
use crate::finding::Finding;
use crate::placement::Ask;
use crate::record::{Intent, IntentId, StoreChange};
use crate::time::Timestamp;
use spur_cloud::{
    AddressRequest, Api, ClientToken, CloudError, CreateEni, Eni, EniQuery, EniStatus, ErrorClass,
};

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
                let reason = Reason::Grow { waiting, missing: creation.ask.addresses() };
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
        self.gave(&seen.subnet, &create.request);
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
            self.take_up(*address, None, &seen.id);
        }
        for prefix in &seen.prefixes {
            self.take_up_prefix(*prefix, &seen.id);
        }
    }

    pub(super) fn create_failed(&mut self, create: &CreateEni, error: &CloudError) {
        let Some(intent) = self.creation_of(create) else { return };
        let Some(creation) = self.creations.get_mut(&intent) else { return };
        let asked = creation.ask;
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
            match asked {
                Ask::Singles(asked) => self.subnet_full(&create.subnet, asked),
                Ask::Prefixes(asked) => self.no_prefixes(&create.subnet, asked),
            }
        } else {
            self.back_off(None, error);
        }
    }

    /// Looks by tags for ENIs that were perhaps made.
    pub(super) fn search(&mut self) {
        let due =
            |creation: &Creation| matches!(creation.phase, Making::Searched { at, .. } if at <= self.now);
        // An ENI that is just being made would look as if nobody remembered it.
        let recall = self.sight.recall.is_some_and(|at| at <= self.now) && self.creations.is_empty();
        let blocked = self.backoffs.blocks(&Key::Api(Api::DescribeNetworkInterfaces), self.now);
        if blocked || self.sight.searching.is_some() || !(recall || self.creations.values().any(due)) {
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
        if self.sight.recall.is_some_and(|at| at <= began) && self.creations.is_empty() {
            self.sight.recall = None;
            found.for_each(|seen| self.recall(seen));
        }
    }

    /// An unattached ENI of this node that nobody remembers: taken into use if there is use for it, deleted otherwise.
    fn recall(&mut self, seen: &Eni) {
        if !self.settings.eni.owns(seen)
            || seen.status != EniStatus::Available
            || self.enis.contains_key(&seen.id)
        {
            return;
        }
        self.report(Finding::LeftoverEni { eni: seen.id.clone() });
        let needed = !self.stock().need(self.aim()).met() && self.free_places() > 0;
        let intent = IntentId(self.next_id());
        self.enter_made(seen, intent);
        if !needed {
            return self.leave(&seen.id);
        }
        let create = CreateEni {
            subnet: seen.subnet.clone(),
            security_groups: seen.security_groups.clone(),
            request: AddressRequest::Count(0),
            description: seen.description.clone(),
            tags: seen.tags.clone(),
            token: ClientToken(seen.id.to_string()),
        };
        let made = Intent::Create { create, made: Some(record_of(seen, None)), since: self.now };
        self.store(vec![StoreChange::PutIntent(intent, made)], Then::Nothing);
    }
}
