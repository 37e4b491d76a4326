//! What is shown: the view for status and metrics, and why a pod waits. Reads only.

use super::Pool;
use super::stock::whole;
use crate::address::{Slot, State};
use crate::backoff::Key;
use crate::eni::{EniState, Phase, Role};
use crate::table::Group;
use crate::view::{AddressView, Counts, EniView, PoolView, PrefixView, WaitingView};
use crate::wait::Wait;
use ipnet::IpNet;
use spur_cloud::Api;
use std::net::IpAddr;

impl Pool {
    /// The pool as it is.
    #[must_use]
    pub fn view(&self) -> PoolView {
        let waits = self.waits();
        let waiting = self.waiters.iter().map(|waiter| WaitingView {
            attachment: waiter.key.clone(),
            pod: waiter.pod.clone(),
            since: waiter.since,
            waits: waits.clone(),
        });
        PoolView {
            observed: self.sight.observed.is_some(),
            targets: self.settings.targets.clone(),
            counts: self.counts(),
            max_enis: self.max_enis(),
            enis: self.enis.values().map(|eni| self.view_eni(eni)).collect(),
            waiting: waiting.collect(),
            calls: self.calls.iter().map(|(id, running)| (*id, running.call.api().to_string())).collect(),
            blocked: self.backoffs.waits(self.now).map(|(_, wait)| wait.clone()).collect(),
            findings: self.findings.iter().cloned().collect(),
            found: self.counters.clone(),
        }
    }

    fn counts(&self) -> Counts {
        let stock = self.stock();
        let mut counts = Counts { free: stock.free, coming: stock.coming, ..Counts::default() };
        for (_, slot) in self.table.iter() {
            match slot.state {
                State::Free { .. } if self.goes(slot) => counts.leaving += 1,
                State::Free { .. } => {}
                State::Cooling { .. } => counts.cooling += 1,
                State::Leaving { .. } => counts.leaving += 1,
                State::Granting { .. } | State::Held { .. } | State::Releasing { .. } => counts.held += 1,
            }
        }
        let shelves = self.enis.keys().map(|id| self.table.shelf(id));
        for (_, group) in shelves.flat_map(|shelf| shelf.groups()).filter(|(prefix, _)| prefix.is_some()) {
            counts.free_prefixes += u32::from(whole(group));
            counts.used_prefixes += u32::from(group.tally.live() + group.tally.cooling > 0);
        }
        counts
    }

    /// Whether the address goes with its ENI.
    fn goes(&self, slot: &Slot) -> bool {
        self.enis.get(&slot.eni).is_some_and(|eni| matches!(eni.phase, Phase::Leaving(_)))
    }

    fn view_eni(&self, eni: &EniState) -> EniView {
        let phase = match eni.phase {
            _ if eni.role == Role::Foreign => "foreign",
            _ if eni.lost => "lost",
            Phase::Unattached => "unattached",
            Phase::Attaching { .. } => "attaching",
            Phase::Ready => "ready",
            Phase::Leaving(_) => "leaving",
        };
        let addresses = self.table.on(&eni.record.id).map(|(address, slot)| self.view_address(address, slot));
        EniView {
            id: eni.record.id.clone(),
            subnet: eni.record.subnet.clone(),
            place: eni.record.place,
            phase,
            capacity: self.addresses_per_eni(),
            prefixes: self.table.shelf(&eni.record.id).groups().filter_map(view_prefix).collect(),
            addresses: addresses.collect(),
        }
    }

    fn view_address(&self, address: IpAddr, slot: &Slot) -> AddressView {
        let (state, holder, until) = match &slot.state {
            State::Free { .. } if self.usable(address, slot) => ("free", None, None),
            State::Free { .. } if self.goes(slot) => ("leaving", None, None),
            State::Free { .. } => ("preparing", None, None),
            State::Granting { key, holding, .. } => ("granting", Some((key, holding)), None),
            State::Held { key, holding } => ("held", Some((key, holding)), None),
            State::Releasing { key, holding, .. } => ("releasing", Some((key, holding)), None),
            State::Cooling { until, .. } => ("cooling", None, Some(*until)),
            State::Leaving { .. } => ("leaving", None, None),
        };
        AddressView {
            address,
            state,
            attachment: holder.map(|(key, _)| key.clone()),
            pod: holder.and_then(|(_, holding)| holding.pod.clone()),
            sandbox: holder.and_then(|(_, holding)| holding.sandbox.clone()),
            since: holder.map(|(_, holding)| holding.since),
            until,
        }
    }

    /// What stands between a pod and an address now, weightiest first.
    pub(super) fn waits(&self) -> Vec<Wait> {
        let mut waits = self.block_waits();
        if self.blocks.is_none() && self.sight.observed.is_none() {
            waits.insert(Wait::NotObserved);
        }
        let growth = |key: &Key| {
            let giving = [
                Api::UnassignPrivateIpAddresses,
                Api::DetachNetworkInterface,
                Api::DeleteNetworkInterface,
                Api::ModifyNetworkInterfaceAttribute,
            ];
            !matches!(key, Key::Api(api) | Key::Eni(_, api) if giving.contains(api))
        };
        waits.extend(
            self.backoffs.waits(self.now).filter(|(key, _)| growth(key)).map(|(_, wait)| wait.clone()),
        );
        waits.extend(self.kernel.failure().map(|message| Wait::Datapath { message: message.to_owned() }));
        for api in [Api::AssignPrivateIpAddresses, Api::CreateNetworkInterface] {
            if self.calling(api) {
                waits.insert(Wait::CallPending { api: api.to_string() });
            }
        }
        for eni in self.enis.values().filter(|eni| eni.grows()) {
            if eni.phase != Phase::Ready {
                waits.insert(Wait::AttachPending { eni: eni.record.id.clone() });
            } else if self.kernel.unconfirmed(&eni.record.id).next().is_some() {
                waits.insert(Wait::DatapathPending { eni: eni.record.id.clone() });
            }
        }
        waits.extend(self.wait_for_cooldown());
        let stock = self.stock();
        if self.blocks.is_none()
            && self.sight.observed.is_some()
            && stock.free + stock.coming < stock.waiting
            && self.full()
        {
            waits.insert(Wait::Full { enis: self.max_enis(), addresses_per_eni: self.addresses_per_eni() });
        }
        if waits.is_empty() {
            waits.insert(Wait::Queued);
        }
        waits.into_iter().collect()
    }

    fn wait_for_cooldown(&self) -> Option<Wait> {
        let (addresses, until) = self.table.resting()?;
        Some(Wait::Cooldown { addresses, until })
    }
}

fn view_prefix((prefix, group): (Option<IpNet>, &Group)) -> Option<PrefixView> {
    let tally = group.tally;
    prefix.map(|prefix| PrefixView { prefix, free: tally.free, held: tally.live(), cooling: tally.cooling })
}
