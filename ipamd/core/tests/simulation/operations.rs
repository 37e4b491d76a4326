//! The random operations that try to break the rules: pods come and go, the process dies, the operator changes his mind, others
//! meddle with what is ours.

use crate::harness::{Pod, Sim, carried, some_targets, within};
use spur_cloud::{AddressRequest, Eni};
use spur_ipamd_core::{AttachmentKey, Event, NO_MANAGE_TAG};
use spur_quotas::{InstanceLimits, NetworkCard};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

impl Sim {
    /// One operation on this node; false if time shall pass instead.
    pub(crate) fn operate(&mut self) -> bool {
        if self.frozen_until > self.now() {
            return false;
        }
        if self.chance(self.chaos.crash) {
            self.die();
            return true;
        }
        if self.chance(self.chaos.meddle) {
            self.meddle();
        }
        if self.chance(self.chaos.reload) {
            self.reload();
        }
        if self.chance(self.chaos.limits) {
            let true_ones = self.chance(500);
            self.tell_limits(true_ones);
        }
        if self.chance(self.chaos.freeze) {
            let time = self.delay(Duration::from_secs(300));
            self.freeze(time);
            return true;
        }
        // Waves of load: for a while mostly pods come, for a while mostly they go.
        let (come, go) = if (self.steps / 300).is_multiple_of(2) { (200, 60) } else { (60, 200) };
        match self.rng.bits() % 1000 {
            dice if dice < come => self.come(),
            dice if dice < come + go => self.go(),
            dice if dice < come + go + 10 => self.cancel_one(),
            _ => false,
        }
    }

    fn die(&mut self) {
        if self.chance(150) {
            let (forward, by) = (self.chance(500), self.delay(Duration::from_secs(3600)));
            self.set_clock(forward, by);
        }
        if self.chance(100) {
            self.reboot();
        } else {
            self.crash();
        }
    }

    fn reload(&mut self) {
        self.settings.targets = some_targets(&mut self.rng);
        if self.chance(300) {
            self.settings.eni.subnets.reverse();
        }
        self.feed(Event::Reload(Box::new(self.settings.clone())));
    }

    /// EC2 tells the limits of the instance: as they are, or one ENI and one address less, as a built-in table that is behind would.
    fn tell_limits(&mut self, true_ones: bool) {
        self.node.limits = if true_ones { self.limits.clone() } else { fewer(&self.limits) };
        self.feed(Event::Limits(Box::new(self.node.limits.clone())));
    }

    fn come(&mut self) -> bool {
        let key = AttachmentKey {
            network: "n".into(),
            container_id: format!("c{}", self.rng.bits() % 40),
            if_name: "eth0".into(),
        };
        let comes = !self.pods.contains_key(&key);
        if comes {
            self.add(key);
        }
        comes
    }

    pub(crate) fn add(&mut self, key: AttachmentKey) {
        let ticket = self.ticket();
        self.pods.insert(key.clone(), Pod::Adding { ticket });
        self.feed(Event::Add { ticket, attachment: key, pod: None, sandbox: None });
    }

    fn some_pod(&mut self, wanted: impl Fn(&Pod) -> bool) -> Option<(AttachmentKey, Pod)> {
        let count = self.pods.values().filter(|pod| wanted(pod)).count();
        let at = self.pick(count);
        let mut fits = self.pods.iter().filter(|(_, pod)| wanted(pod));
        fits.nth(at).map(|(key, pod)| (key.clone(), pod.clone()))
    }

    fn go(&mut self) -> bool {
        match self.some_pod(|pod| !matches!(pod, Pod::Deleting { .. })) {
            // A DEL may overtake its ADD; the ADD is answered with a refusal then, and the pod is still to be deleted.
            Some((key, Pod::Adding { ticket })) => {
                self.feed(Event::Cancel { ticket });
                if matches!(self.pods.get(&key), Some(Pod::Adding { .. })) {
                    self.broken.push(format!("{key} was cancelled and got no answer"));
                }
            }
            Some((key, pod)) => self.delete(key, &pod),
            None => return false,
        }
        true
    }

    pub(crate) fn delete(&mut self, key: AttachmentKey, pod: &Pod) {
        let now = self.now();
        let address = match pod {
            Pod::Live { address, .. } => Some(*address),
            _ => None,
        };
        self.asked_back.extend(address.map(|address| (address, now)));
        if self.chance(self.chaos.linger) {
            let until = now + self.delay(Duration::from_secs(200));
            self.flows.extend(address.map(|address| (address, until)));
        }
        let ticket = self.ticket();
        self.pods.insert(key.clone(), Pod::Deleting { ticket, address });
        self.feed(Event::Del { ticket, attachment: key });
    }

    fn cancel_one(&mut self) -> bool {
        if let Some((_, Pod::Adding { ticket })) = self.some_pod(|pod| matches!(pod, Pod::Adding { .. })) {
            self.feed(Event::Cancel { ticket });
            return true;
        }
        false
    }

    /// Somebody else takes or gives: another node of the subnet, or an operator on ours.
    fn meddle(&mut self) {
        let hog = self.hog.clone();
        let own: BTreeSet<IpAddr> = self.world.true_enis()[&hog].addresses.clone();
        match self.rng.bits() % 9 {
            0 | 1 => {
                let most = 9 - u32::try_from(own.len()).unwrap().min(8);
                drop(self.world.assign(&hog, &AddressRequest::Count(most)));
            }
            2 if !own.is_empty() => drop(self.world.unassign(&hog, &own, &BTreeSet::new())),
            3 | 4 => self.rob(),
            5 => {
                if let Some(eni) = self.ours().into_iter().find(|eni| !self.foreign.contains(&eni.id)) {
                    let prefix = self.chance(300);
                    let request = if prefix { AddressRequest::Prefixes(1) } else { AddressRequest::Count(1) };
                    drop(self.world.assign(&eni.id, &request));
                }
            }
            6 => self.take_eni(),
            7 => self.tag_eni(),
            _ => self.foreign_comes_or_goes(),
        }
    }

    /// An address or a prefix disappears from one of our ENIs.
    fn rob(&mut self) {
        let with: Vec<Eni> = self.ours().into_iter().filter(|eni| !carried(eni).is_empty()).collect();
        let Some(eni) = with.get(self.pick(with.len())) else { return };
        let prefix = eni.prefixes.iter().nth(self.pick(eni.prefixes.len())).copied();
        let single = eni.addresses.iter().nth(self.pick(eni.addresses.len())).copied();
        let (addresses, prefixes) = match (single, prefix) {
            (Some(single), None) => (BTreeSet::from([single]), BTreeSet::new()),
            (_, prefix) => (BTreeSet::new(), prefix.into_iter().collect()),
        };
        drop(self.world.unassign(&eni.id, &addresses, &prefixes));
        let gone = addresses.into_iter().chain(prefixes.into_iter().flat_map(within));
        self.robbed.extend(gone.map(|address| (address, eni.id.clone())));
    }

    /// An ENI that we made is detached, or gone altogether.
    fn take_eni(&mut self) {
        let (primary, foreign) = (&self.node.primary, &self.foreign);
        let made: Vec<Eni> =
            self.ours().into_iter().filter(|eni| eni.id != *primary && !foreign.contains(&eni.id)).collect();
        let at = self.pick(made.len());
        let Some(eni) = made.get(at) else { return };
        self.robbed.extend(carried(eni).into_iter().map(|address| (address, eni.id.clone())));
        self.robbed_enis.insert(eni.id.clone());
        if self.chance(500) {
            self.world.vanish(&eni.id);
        } else if let Some(attachment) = &eni.attachment {
            drop(self.world.detach_eni(&attachment.id));
        }
    }

    /// The operator takes an ENI that we made out of our hands, or gives it back.
    fn tag_eni(&mut self) {
        let (primary, foreign) = (&self.node.primary, &self.foreign);
        let made = self.ours().into_iter().find(|eni| eni.id != *primary && !foreign.contains(&eni.id));
        if let Some(eni) = made {
            let value = if self.chance(500) { "true" } else { "false" };
            let tags = BTreeMap::from([(NO_MANAGE_TAG.to_owned(), value.to_owned())]);
            self.world.tag_eni(&eni.id, &tags).unwrap();
        }
    }

    fn foreign_comes_or_goes(&mut self) {
        let here = self.foreign.pop_first();
        match here {
            Some(eni) => self.world.vanish(&eni),
            None => {
                let subnet = self.settings.eni.subnets[0].clone();
                self.foreign_eni(&subnet);
            }
        }
    }

    /// Faults end.
    pub(crate) fn end_faults(&mut self) {
        self.tell_limits(true);
        self.chaos = self.chaos.over();
        self.frozen_until = self.frozen_until.min(self.now());
        self.world.set_read_lag(Duration::ZERO);
        let hog = self.hog.clone();
        let own = self.world.true_enis()[&hog].addresses.clone();
        drop(self.world.unassign(&hog, &own, &BTreeSet::new()));
        if let Some(eni) = self.foreign.pop_first() {
            self.world.vanish(&eni);
        }
        for eni in self.ours() {
            let tags = BTreeMap::from([(NO_MANAGE_TAG.to_owned(), "false".to_owned())]);
            self.world.tag_eni(&eni.id, &tags).unwrap();
        }
    }

    /// Pods go; those that still wait give up.
    pub(crate) fn end_pods(&mut self) {
        self.check_service();
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
    }
}

fn fewer(limits: &InstanceLimits) -> InstanceLimits {
    let less = |number: u32| number.saturating_sub(1).max(1);
    let cards = limits.cards().iter().map(|card| NetworkCard { max_enis: less(card.max_enis), ..*card });
    let (enis, addresses) = (less(limits.enis()), less(limits.ipv4_per_eni()));
    let (card, hypervisor) = (limits.default_card(), limits.hypervisor());
    InstanceLimits::new(enis, addresses, cards.collect(), card, hypervisor, limits.bare_metal()).unwrap()
}
