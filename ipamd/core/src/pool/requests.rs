//! Pods: who asks, who waits, who gives back. First come, first served. A grant and a release are answered when they are durable, not before.

use super::store::Then;
use super::{Pool, Waiter};
use crate::action::{Action, Reply};
use crate::address::{Grant, Slot, State};
use crate::eni::Phase;
use crate::event::Ticket;
use crate::record::{AttachmentKey, Holding, PodName, StoreChange};
use crate::wait::Wait;
use spur_cloud::EniId;
use std::cmp::Reverse;
use std::net::IpAddr;

impl Pool {
    pub(super) fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.out.push(Action::Reply { ticket, reply });
    }

    pub(super) fn add(
        &mut self,
        ticket: Ticket,
        key: AttachmentKey,
        pod: Option<PodName>,
        sandbox: Option<String>,
    ) {
        let held = self.table.of(&key).and_then(|address| Some((address, self.table.get(address)?)));
        match held {
            Some((address, Slot { state: State::Held { .. }, .. })) => {
                self.reply(ticket, Reply::AlreadyHeld { attachment: key, address });
            }
            Some(_) => self.reply(ticket, Reply::Busy { attachment: key }),
            None if self.waiters.iter().any(|waiter| waiter.key == key) => {
                self.reply(ticket, Reply::Busy { attachment: key });
            }
            None => self.waiters.push_back(Waiter { ticket, key, pod, sandbox, since: self.now }),
        }
    }

    pub(super) fn cancel(&mut self, ticket: Ticket) {
        if let Some(at) = self.waiters.iter().position(|waiter| waiter.ticket == ticket) {
            let waits = self.waits();
            self.waiters.remove(at);
            self.reply(ticket, Reply::Refused { waits });
            return;
        }
        if let Some(address) = self.table.granting(ticket) {
            self.undo_grant(address, Wait::Storing, None);
        }
    }

    pub(super) fn del(&mut self, ticket: Ticket, key: &AttachmentKey) {
        if let Some(at) = self.waiters.iter().position(|waiter| waiter.key == *key)
            && let Some(waiter) = self.waiters.remove(at)
        {
            self.reply(waiter.ticket, Reply::Refused { waits: vec![Wait::Deleted] });
        }
        let held =
            self.table.of(key).and_then(|address| Some((address, self.table.get(address)?.state.clone())));
        match held {
            Some((address, State::Held { .. })) => self.release(address, vec![ticket]),
            Some((address, State::Granting { .. })) => self.undo_grant(address, Wait::Deleted, Some(ticket)),
            Some((address, State::Releasing { key, holding, mut tickets })) => {
                tickets.push(ticket);
                self.table.set(address, State::Releasing { key, holding, tickets });
            }
            _ => self.reply(ticket, Reply::Released { addresses: Vec::new() }),
        }
    }

    /// Nobody wants the grant any more before it is durable: let it become durable, then release it, so that a crash in between
    /// leaves no doubt about who was told what. `why` is what its ADD hears.
    fn undo_grant(&mut self, address: IpAddr, why: Wait, told: Option<Ticket>) {
        let Some(slot) = self.table.get(address) else { return };
        let State::Granting { key, holding, grant } = slot.state.clone() else { return };
        let mut tickets = match grant {
            Grant::Undo(tickets) => tickets,
            Grant::Answer(ticket) => {
                self.reply(ticket, Reply::Refused { waits: vec![why] });
                Vec::new()
            }
        };
        tickets.extend(told);
        self.table.set(address, State::Granting { key, holding, grant: Grant::Undo(tickets) });
    }

    /// Gives a held address back.
    pub(super) fn release(&mut self, address: IpAddr, tickets: Vec<Ticket>) {
        let Some(slot) = self.table.get(address) else { return };
        let State::Held { key, holding } = slot.state.clone() else { return };
        let until = self.now.after(self.settings.timings.cooldown);
        let changes = vec![StoreChange::Release(key.clone()), StoreChange::Cool(address, until)];
        self.table.set(address, State::Releasing { key, holding, tickets });
        self.store(changes, Then::Release(address));
    }

    /// Hands out what is free.
    pub(super) fn serve(&mut self) {
        if self.waiters.is_empty() || !self.may_serve() {
            return;
        }
        while !self.waiters.is_empty() {
            let Some((address, eni)) = self.best_free() else { return };
            let Some(waiter) = self.waiters.pop_front() else { return };
            let (pod, sandbox) = (waiter.pod, waiter.sandbox);
            let holding = Holding { address, eni: eni.clone(), pod, sandbox, since: self.now };
            let mut changes = vec![StoreChange::Hold(waiter.key.clone(), holding.clone())];
            if let Some(eni) = self.enis.get(&eni).filter(|eni| !eni.stored) {
                changes.insert(0, StoreChange::PutEni(eni.record.clone()));
            }
            let grant = Grant::Answer(waiter.ticket);
            self.table.set(address, State::Granting { key: waiter.key, holding, grant });
            self.store(changes, Then::Grant(address));
        }
    }

    /// The address to hand out next: not of a kind that is to go, if there is another; on the ENI with most pods, and there in the
    /// prefix with most pods, so that others become empty; and of these the one that was free longest.
    fn best_free(&self) -> Option<(IpAddr, EniId)> {
        let mut groups: Vec<_> = Vec::new();
        for eni in self.enis.values().filter(|eni| eni.phase == Phase::Ready && !eni.lost && !eni.retired) {
            let shelf = self.table.shelf(&eni.record.id);
            let used = Reverse(shelf.tally().live());
            for (prefix, group) in shelf.groups().filter(|(_, group)| group.tally.free > 0) {
                let outdated = self.outdated(eni, prefix);
                let taken = Reverse(group.tally.live() + group.tally.cooling);
                // Single addresses before prefixes: they go back one by one, but each takes a place.
                let rank = (outdated, used, eni.record.place, prefix.is_some(), taken, prefix);
                groups.push((rank, group));
            }
        }
        groups.sort_unstable_by_key(|(rank, _)| *rank);
        let usable =
            |address: &IpAddr| self.table.get(*address).is_some_and(|slot| self.usable(*address, slot));
        let address = groups.iter().find_map(|(_, group)| group.free().find(usable))?;
        Some((address, self.table.get(address)?.eni.clone()))
    }

    /// Whether a pod could have this address now.
    pub(super) fn usable(&self, address: IpAddr, slot: &Slot) -> bool {
        let ready = self
            .enis
            .get(&slot.eni)
            .is_some_and(|eni| eni.phase == Phase::Ready && !eni.lost && !eni.retired);
        slot.free() && !slot.missing && !slot.doubtful && ready && self.kernel.has(&slot.eni, address)
    }
}
