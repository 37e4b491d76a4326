//! The rules, and the random operations that try to break them.

use crate::harness::{Pod, Sim};
use spur_cloud::fake::Fault;
use spur_cloud::{AddressRequest, CloudError, Eni, EniId, ErrorClass};
use spur_ipamd_core::{AttachmentKey, CallDone, CloudCall, Event, Finding};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

impl Sim {
    /// One operation of the world, or time.
    pub(crate) fn random_step(&mut self) {
        if self.chance(self.chaos.crash) {
            return self.crash();
        }
        if self.chance(self.chaos.meddle) {
            self.meddle();
        }
        // Waves of load: for a while mostly pods come, for a while mostly they go.
        let (come, go) = if (self.steps / 300).is_multiple_of(2) { (200, 60) } else { (60, 200) };
        match self.rng.bits() % 1000 {
            dice if dice < come => self.come(),
            dice if dice < come + go => self.go(),
            dice if dice < come + go + 10 => self.cancel_one(),
            _ => self.next(),
        }
    }

    pub(crate) fn come(&mut self) {
        let key = AttachmentKey {
            network: "n".into(),
            container_id: format!("c{}", self.rng.bits() % 40),
            if_name: "eth0".into(),
        };
        if self.pods.contains_key(&key) {
            return self.next();
        }
        self.add(key);
    }

    pub(crate) fn add(&mut self, key: AttachmentKey) {
        let ticket = self.ticket();
        self.pods.insert(key.clone(), Pod::Adding { ticket });
        self.feed(Event::Add { ticket, attachment: key, pod: None, sandbox: None });
    }

    fn some_pod(&mut self, wanted: impl Fn(&Pod) -> bool) -> Option<(AttachmentKey, Pod)> {
        let fits: Vec<_> = self.pods.iter().filter(|(_, pod)| wanted(pod)).collect();
        let count = u64::try_from(fits.len()).unwrap().max(1);
        let at = usize::try_from(self.rng.bits() % count).unwrap();
        fits.get(at).map(|(key, pod)| ((*key).clone(), (*pod).clone()))
    }

    fn go(&mut self) {
        match self.some_pod(|pod| !matches!(pod, Pod::Deleting { .. })) {
            // A DEL may overtake its ADD; the ADD is answered with a refusal then, and the pod is still to be deleted.
            Some((key, Pod::Adding { ticket })) => {
                self.feed(Event::Cancel { ticket });
                if matches!(self.pods.get(&key), Some(Pod::Adding { .. })) {
                    self.broken.push(format!("{key} was cancelled and got no answer"));
                }
            }
            Some((key, pod)) => self.delete(key, &pod),
            None => self.next(),
        }
    }

    pub(crate) fn delete(&mut self, key: AttachmentKey, pod: &Pod) {
        let now = self.now();
        if let Pod::Live { address, .. } = pod {
            self.asked_back.insert(*address, now);
        }
        let ticket = self.ticket();
        self.pods.insert(key.clone(), Pod::Deleting { ticket });
        self.feed(Event::Del { ticket, attachment: key });
    }

    fn cancel_one(&mut self) {
        if let Some((_, Pod::Adding { ticket })) = self.some_pod(|pod| matches!(pod, Pod::Adding { .. })) {
            self.feed(Event::Cancel { ticket });
        }
    }

    /// Somebody else takes or gives addresses: another node of the subnet, or an operator on ours.
    fn meddle(&mut self) {
        let hog = self.hog.clone();
        let own: BTreeSet<IpAddr> = self.world.true_enis()[&hog].addresses.clone();
        match self.rng.bits() % 4 {
            0 => drop(
                self.world.assign(&hog, &AddressRequest::Count(9 - u32::try_from(own.len()).unwrap().min(8))),
            ),
            1 if !own.is_empty() => drop(self.world.unassign(&hog, &own, &BTreeSet::new())),
            2 => {
                let ours = self.ours().into_iter().find(|eni| !eni.addresses.is_empty());
                if let Some(eni) = ours {
                    let at = usize::try_from(self.rng.bits()).unwrap_or(0) % eni.addresses.len();
                    let address = eni.addresses.iter().nth(at).copied().unwrap();
                    drop(self.world.unassign(&eni.id, &BTreeSet::from([address]), &BTreeSet::new()));
                    self.robbed.insert(address, eni.id);
                }
            }
            _ => {
                if let Some(eni) = self.ours().into_iter().find(|eni| eni.addresses.len() < 9) {
                    drop(self.world.assign(&eni.id, &AddressRequest::Count(1)));
                }
            }
        }
    }

    fn ours(&self) -> Vec<Eni> {
        let attached =
            |eni: &&Eni| eni.attachment.as_ref().is_some_and(|a| a.instance.as_ref() == Some(&self.instance));
        self.world.true_enis().values().filter(attached).cloned().collect()
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
        let known = |wanted: &&spur_ipamd_core::EniDatapath| {
            wanted.eni == *eni && wanted.addresses.contains(&address)
        };
        if !self.kernel.applied.enis.iter().any(|wanted| known(&wanted)) {
            self.broken.push(format!("{address} was handed out before the kernel knew it"));
        }
    }

    /// What growth may not do: ask for more than the targets allow, with all counted that is under way.
    pub(crate) fn check_growth(&mut self) {
        let there: usize =
            self.world.true_enis().values().filter(|eni| eni.id != self.hog).map(|e| e.addresses.len()).sum();
        let counts = self.pool.view().counts;
        let gone = counts.held + counts.cooling + counts.leaving;
        let supply = (u32::try_from(there).unwrap() + self.incoming()).saturating_sub(gone);
        let waiting = u32::try_from(self.pool.view().waiting.len()).unwrap();
        let targets = &self.settings.targets;
        let wanted = (waiting + targets.warm_ip_target).max(targets.minimum_ip_target);
        if supply > wanted + targets.max_above_warm {
            self.broken.push(format!("grows to {supply} free for {waiting} waiting and {targets:?}"));
        }
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
        if alarm && self.innocent {
            self.broken.push(format!("a false alarm: {finding}"));
        }
    }

    /// What no call may do.
    pub(crate) fn before_effect(&mut self, call: &CloudCall, fault: Option<Fault>, late: bool) {
        if matches!(fault, Some(Fault::Refuse(_))) {
            return;
        }
        let (eni, addresses) = match call {
            CloudCall::Unassign { eni, addresses } => (eni, addresses.clone()),
            CloudCall::DetachEni { eni, .. } => {
                let seen = self.world.true_enis().get(eni);
                (eni, seen.map(|eni| eni.addresses.clone()).unwrap_or_default())
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
                && !self.robbed.contains_key(&address)
            {
                self.broken.push(format!("{address} was taken away while it rested: {call:?}"));
            }
        }
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
    }

    /// The rules that hold always, as the world shows them.
    pub(crate) fn violations(&mut self) -> Vec<String> {
        let mut broken = std::mem::take(&mut self.broken);
        let enis = self.world.true_enis();
        let robbed_enis = &self.robbed_enis;
        self.robbed.retain(|address, eni| {
            robbed_enis.contains(eni) || enis.get(eni).is_none_or(|eni| !eni.addresses.contains(address))
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
                eni.addresses.contains(&address)
                    && eni.attachment.as_ref().is_some_and(|a| a.instance.as_ref() == Some(&self.instance))
            });
            if !attached && !self.robbed.contains_key(&address) {
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

    /// Faults end, everything asked gets its answer, and pods go.
    pub(crate) fn calm_down(&mut self) {
        self.chaos = crate::chaos::Chaos { cramped: self.chaos.cramped, ..crate::chaos::Chaos::calm() };
        self.world.set_read_lag(Duration::ZERO);
        let hog = self.hog.clone();
        let own = self.world.true_enis()[&hog].addresses.clone();
        drop(self.world.unassign(&hog, &own, &BTreeSet::new()));
        self.pass(Duration::from_secs(900));
        if self.pods.values().filter(|pod| matches!(pod, Pod::Live { .. } | Pod::Unknown)).count() < 20 {
            let stuck: Vec<_> =
                self.pods.iter().filter(|(_, pod)| matches!(pod, Pod::Adding { .. })).collect();
            if !stuck.is_empty() && !self.chaos.cramped {
                self.broken.push(format!("{stuck:?} wait, but there is room: {:#?}", self.pool.view()));
            }
        }
        for pod in self.pods.clone().into_values() {
            if let Pod::Adding { ticket } = pod {
                self.feed(Event::Cancel { ticket });
            }
        }
        for (key, pod) in self.pods.clone() {
            if !matches!(pod, Pod::Deleting { .. }) {
                self.delete(key, &pod);
            }
        }
        self.pass(Duration::from_secs(3600));
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
        for eni in self.world.true_enis().values().filter(|eni| eni.tags.contains_key("spur.dev/instance")) {
            let known = view.enis.iter().find(|known| known.id == eni.id);
            if known.is_none_or(|known| known.phase != "ready") || eni.attachment.is_none() {
                left.push(format!("an ENI leaked: {eni:?}, known as {known:?}"));
            }
            if eni.attachment.as_ref().is_some_and(|attachment| !attachment.delete_on_termination) {
                left.push(format!("{} would outlive the instance", eni.id));
            }
        }
        let (targets, free) = (&self.settings.targets, view.counts.free);
        let wanted = targets.warm_ip_target.max(targets.minimum_ip_target);
        if free < wanted || free > wanted + targets.max_above_warm {
            left.push(format!("{free} free addresses for {targets:?}"));
        }
        let booked: BTreeSet<IpAddr> =
            view.enis.iter().flat_map(|eni| eni.addresses.iter().map(|address| address.address)).collect();
        let real: BTreeSet<IpAddr> = self.ours().into_iter().flat_map(|eni| eni.addresses).collect();
        if booked != real {
            left.push(format!("booked {booked:?}, real {real:?}"));
        }
        left
    }
}
