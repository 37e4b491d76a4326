//! The rules, checked from outside: on what the cloud, the kernel, the store and the pods know, never on what the pool believes.

use crate::harness::{Pod, Sim, carried, carries, within};
use spur_cloud::fake::Fault;
use spur_cloud::{CloudError, Eni, EniId, ErrorClass};
use spur_ipamd_core::{AttachmentKey, CallDone, CloudCall, Finding, PrefixDelegation};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

impl Sim {
    pub(crate) fn ours(&self) -> Vec<Eni> {
        let attached =
            |eni: &&Eni| eni.attachment.as_ref().is_some_and(|a| a.instance.as_ref() == Some(&self.instance));
        self.world.true_enis().values().filter(attached).cloned().collect()
    }

    /// ENIs that are this node's, attached or not.
    fn own(&self) -> impl Iterator<Item = &Eni> {
        let owner = self.instance.to_string();
        let own = move |eni: &&Eni| {
            eni.id == self.node.primary || eni.tags.get("spur.dev/instance") == Some(&owner)
        };
        self.world.true_enis().values().filter(own)
    }

    fn live(&self) -> impl Iterator<Item = (&AttachmentKey, IpAddr, &EniId)> {
        self.pods.iter().filter_map(|(key, pod)| match pod {
            Pod::Live { address, eni } => Some((key, *address, eni)),
            _ => None,
        })
    }

    /// What no grant may do.
    pub(crate) fn check_grant(&mut self, address: IpAddr, eni: &EniId) {
        let cooldown = self.settings.timings.cooldown;
        if self.asked_back.get(&address).is_some_and(|at| *at + cooldown > self.now()) {
            self.broken.push(format!("{address} was handed out while it rested"));
        }
        if !self.untold.contains(&address)
            && self.flows.get(&address).is_some_and(|until| *until > self.now())
        {
            self.broken.push(format!("{address} was handed out while the kernel tracked its connections"));
        }
        let known = |wanted: &&spur_ipamd_core::EniDatapath| {
            wanted.eni == *eni && wanted.addresses.contains(&address)
        };
        if !self.kernel.applied.enis.iter().any(|wanted| known(&wanted)) {
            self.broken.push(format!("{address} was handed out before the kernel knew it"));
        }
    }

    /// What growth may not do: ask for more than the targets allow, with all counted that is under way.
    pub(crate) fn check_growth(&mut self) {
        let there: usize = self.own().map(|eni| carried(eni).len()).sum();
        let counts = self.pool.view().counts;
        let gone = counts.held + counts.cooling + counts.leaving;
        let supply = (u32::try_from(there).unwrap() + self.incoming()).saturating_sub(gone);
        let waiting = u32::try_from(self.pool.view().waiting.len()).unwrap();
        let (wanted, most) = self.aim();
        if supply > waiting + most {
            self.broken.push(format!("grows to {supply} free for {waiting} waiting and {wanted} wanted"));
        }
    }

    /// Free addresses that the targets ask for, and how many there may be at most.
    fn aim(&self) -> (u32, u32) {
        let targets = &self.settings.targets;
        let capacity = self.node.limits.ipv4_per_eni() - 1;
        let warm = targets.warm_ip_target.max(targets.warm_eni_target * capacity);
        let wanted = warm.max(targets.minimum_ip_target);
        let whole = if self.delegation() == PrefixDelegation::Off {
            0
        } else {
            16 * (1 + targets.warm_prefix_target)
        };
        (wanted, wanted + targets.max_above_warm + whole)
    }

    fn delegation(&self) -> PrefixDelegation {
        let nitro = self.node.limits.prefix_delegation();
        if nitro { self.settings.targets.prefix_delegation } else { PrefixDelegation::Off }
    }

    /// Nothing is reported missing that nobody took.
    pub(crate) fn check_finding(&mut self, finding: &Finding) {
        let alarm = matches!(
            finding,
            Finding::AddressMissing { .. }
                | Finding::HeldAddressMissing { .. }
                | Finding::HeldAddressElsewhere { .. }
                | Finding::HeldEniGone { .. }
        );
        let puzzle = matches!(
            finding,
            Finding::AddressAdopted { .. } | Finding::PrefixAdopted { .. } | Finding::BadAnswer { .. }
        );
        if alarm && self.innocent || puzzle && self.frugal {
            self.broken.push(format!("a false alarm: {finding}"));
        }
    }

    /// What no call may do.
    pub(crate) fn before_effect(&mut self, call: &CloudCall, fault: Option<Fault>, late: bool) {
        if matches!(fault, Some(Fault::Refuse(_))) {
            return;
        }
        if let Some(eni) = call.changes().filter(|eni| !self.may_touch(eni)) {
            self.broken.push(format!("{eni} is not ours: {call:?}"));
        }
        let (eni, addresses) = match call {
            CloudCall::Unassign { eni, addresses, prefixes } => {
                // A prefix that the ENI has no more takes nothing with it, not even addresses of it that came again one by one.
                let there = self.world.true_enis().get(eni).map(|eni| &eni.prefixes);
                let whole =
                    prefixes.iter().filter(|prefix| there.is_some_and(|there| there.contains(prefix)));
                let whole = whole.flat_map(|prefix| within(*prefix));
                (eni, addresses.iter().copied().chain(whole).collect())
            }
            CloudCall::DetachEni { eni, .. } | CloudCall::DeleteEni { eni } => {
                if !late && self.kernel.applied.enis.iter().any(|used| used.eni == *eni) {
                    self.broken.push(format!("{eni} was taken away while the kernel used it: {call:?}"));
                }
                let seen = self.world.true_enis().get(eni);
                (eni, seen.map(carried).unwrap_or_default())
            }
            _ => return,
        };
        let (now, cooldown) = (self.now(), self.settings.timings.cooldown);
        let held: BTreeSet<IpAddr> = self.live().filter(|(_, _, on)| *on == eni).map(|(_, a, _)| a).collect();
        for address in addresses {
            if held.contains(&address) {
                self.broken.push(format!("{address} of a live pod was taken away: {call:?}"));
            }
            if late {
                // Nobody knew any more that this call was under way; only pods must not suffer.
                continue;
            }
            let known = |wanted: &spur_ipamd_core::EniDatapath| {
                wanted.eni == *eni && wanted.addresses.contains(&address)
            };
            if self.kernel.applied.enis.iter().any(known) {
                self.broken.push(format!("{address} was taken away while the kernel used it: {call:?}"));
            }
            if self.asked_back.get(&address).is_some_and(|at| *at + cooldown > now)
                && !self.is_robbed(address)
            {
                self.broken.push(format!("{address} was taken away while it rested: {call:?}"));
            }
        }
    }

    /// Whether an ENI is this node's, or was.
    fn may_touch(&self, eni: &EniId) -> bool {
        self.own().any(|own| own.id == *eni) || !self.world.true_enis().contains_key(eni)
    }

    /// Learns from what the cloud answered.
    pub(crate) fn note(
        &mut self,
        call: &CloudCall,
        result: &Result<CallDone, CloudError>,
        fault: Option<Fault>,
    ) {
        let real = result.as_ref().err().filter(|error| error.code.as_deref() != Some("Injected"));
        let class = real.map(CloudError::class);
        if self.tidy && fault.is_none() && class == Some(ErrorClass::QuotaExceeded) {
            self.broken.push(format!("a quota was exceeded: {call:?}"));
        }
        // Where nobody else acts and nothing fails, a call that changes something is never in vain.
        if let Some(error) = real.filter(|_| self.frugal && call.changes().is_some()) {
            self.broken.push(format!("a call in vain: {call:?}: {error}"));
        }
    }

    /// The rules that hold always, as the world shows them.
    pub(crate) fn violations(&mut self) -> Vec<String> {
        let mut broken = std::mem::take(&mut self.broken);
        let enis = self.world.true_enis();
        let robbed_enis = &self.robbed_enis;
        self.robbed.retain(|(address, eni)| {
            robbed_enis.contains(eni) || enis.get(eni).is_none_or(|eni| !carries(eni, *address))
        });
        let mut holders: BTreeMap<IpAddr, &AttachmentKey> = BTreeMap::new();
        for (key, address, eni) in self.live() {
            if let Some(other) = holders.insert(address, key) {
                broken.push(format!("{address} belongs to {key} and {other}"));
            }
            if self.disk.holdings.get(key).map(|holding| holding.address) != Some(address) {
                broken.push(format!("{address} of {key} is not on disk"));
            }
            let there = self.world.true_enis().get(eni);
            let attached = there.is_some_and(|eni| {
                carries(eni, address)
                    && eni.attachment.as_ref().is_some_and(|a| a.instance.as_ref() == Some(&self.instance))
            });
            let taken = self.is_robbed(address) || self.robbed_enis.contains(eni);
            if !attached && !taken {
                broken.push(format!("{address} of {key} is not on {eni}"));
            }
            if !self.kernel.applied.enis.iter().any(|on| on.eni == *eni && on.addresses.contains(&address)) {
                broken.push(format!("{address} of {key} is not in the kernel"));
            }
        }
        let mut ordinals = BTreeSet::new();
        for eni in &self.kernel.applied.enis {
            if !ordinals.insert(eni.ordinal) {
                broken.push(format!("{} shares its ordinal", eni.eni));
            }
        }
        broken
    }

    /// Nobody waits while there is room.
    pub(crate) fn check_service(&mut self) {
        if self.pods.values().filter(|pod| matches!(pod, Pod::Live { .. } | Pod::Unknown)).count() >= 20 {
            return;
        }
        let stuck: Vec<_> = self.pods.iter().filter(|(_, pod)| matches!(pod, Pod::Adding { .. })).collect();
        let view = self.pool.view();
        let room = view.counts.held < self.places() && !self.chaos.cramped;
        if !stuck.is_empty() && room {
            self.broken.push(format!("{stuck:?} wait, but there is room: {view:#?}"));
        }
    }

    /// Addresses for pods that the node may have.
    fn places(&self) -> u32 {
        let limits = &self.node.limits;
        let enis = self.settings.targets.max_enis.unwrap_or(u32::MAX).min(limits.enis());
        enis * (limits.ipv4_per_eni() - 1)
    }

    /// A node at rest only compares.
    pub(crate) fn check_rest(&mut self, before: u64, time: Duration) {
        let most = time.as_secs() * 4 / 3 / self.settings.timings.reconcile.as_secs() + 2;
        let sent = self.sent - before;
        if sent > most {
            self.broken.push(format!("{sent} calls in {time:?} at rest, {most} are enough"));
        }
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now() + time;
        while self.now() < end {
            self.next_within(end.saturating_sub(self.now()));
            let broken = self.violations();
            self.broken.extend(broken);
            if self.broken.len() > 20 {
                return;
            }
        }
    }

    /// What must not be left when all pods are gone and the world is at rest.
    pub(crate) fn leftovers(&mut self) -> Vec<String> {
        let mut left = self.violations();
        if !self.pods.is_empty() {
            left.push(format!("pods are left: {:?}", self.pods));
        }
        if !self.disk.holdings.is_empty() || !self.disk.intents.is_empty() {
            left.push(format!("the store is not at rest: {:?}", self.disk));
        }
        let view = self.pool.view();
        // What somebody detached and a reboot made us forget is for the collection of garbage.
        let stolen = |eni: &&Eni| eni.attachment.is_none() && self.robbed_enis.contains(&eni.id);
        for eni in self.own().filter(|eni| !stolen(eni)) {
            let known = view.enis.iter().find(|known| known.id == eni.id);
            if known.is_none_or(|known| known.phase != "ready") || eni.attachment.is_none() {
                left.push(format!("an ENI leaked: {eni:?}, known as {known:?}"));
            }
            if eni.attachment.as_ref().is_some_and(|attachment| !attachment.delete_on_termination) {
                left.push(format!("{} would outlive the instance", eni.id));
            }
        }
        let (free, (wanted, most)) = (view.counts.free, self.aim());
        if free < wanted.min(self.places()) || free > most {
            left.push(format!("{free} free addresses for {:?}", self.settings.targets));
        }
        let enis = self.ours();
        let prefixes = enis.iter().any(|eni| !eni.prefixes.is_empty());
        // A few single addresses may stay beside prefixes: a quarter of the places of an ENI.
        let few = usize::try_from((self.node.limits.ipv4_per_eni() - 1) / 4).unwrap();
        let singles = enis.iter().any(|eni| eni.addresses.len() > few);
        match self.delegation() {
            PrefixDelegation::Off if prefixes => left.push("prefixes are left, and none are used".into()),
            PrefixDelegation::On if singles && !self.chaos.cramped => {
                left.push("single addresses are left, more than a few".into());
            }
            _ => {}
        }
        let booked: BTreeSet<IpAddr> =
            view.enis.iter().flat_map(|eni| eni.addresses.iter().map(|address| address.address)).collect();
        let real: BTreeSet<IpAddr> = self.ours().iter().flat_map(carried).collect();
        if booked != real {
            left.push(format!("booked {booked:?}, real {real:?}"));
        }
        left
    }
}
