//! What the kernel was asked to know and what it confirmed. The pool states its whole wish when it may have changed; here it becomes a
//! generation if it differs, and each address remembers in which generation it came or went. An address may be handed out only when its arrival is confirmed,
//! and taken from the ENI only when its departure is.

use crate::action::{DatapathWanted, EniDatapath};
use spur_cloud::EniId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// In which generation each address came or went, by ENI.
type Generations = BTreeMap<EniId, BTreeMap<IpAddr, u64>>;

/// The kernel, as far as it is confirmed.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    sent: DatapathWanted,
    known: BTreeMap<EniId, BTreeSet<IpAddr>>,
    /// Came, and not confirmed yet.
    coming: Generations,
    /// Went, and not confirmed yet.
    going: Generations,
    confirmed: u64,
    ready: BTreeSet<EniId>,
    failure: Option<String>,
}

impl Kernel {
    /// States the wish; a new generation if it differs from the last.
    pub(crate) fn want(&mut self, enis: Vec<EniDatapath>) -> Option<DatapathWanted> {
        if self.sent.generation > 0 && self.sent.enis == enis {
            return None;
        }
        let generation = self.sent.generation + 1;
        let head = |eni: &EniDatapath| EniDatapath { addresses: BTreeSet::new(), ..eni.clone() };
        let mut before = std::mem::take(&mut self.known);
        for eni in &enis {
            let now: BTreeSet<IpAddr> = eni.addresses.iter().copied().chain([eni.primary]).collect();
            let old = before.remove(&eni.eni).unwrap_or_default();
            let same = self.sent.enis.iter().any(|sent| head(sent) == head(eni));
            let new: Vec<IpAddr> =
                if same { now.difference(&old).copied().collect() } else { now.iter().copied().collect() };
            self.leave(&eni.eni, old.difference(&now), generation);
            self.arrive(&eni.eni, new, generation);
            self.known.insert(eni.eni.clone(), now);
        }
        for (eni, old) in before {
            self.leave(&eni, old.iter(), generation);
        }
        self.sent = DatapathWanted { generation, enis };
        Some(self.sent.clone())
    }

    fn arrive(&mut self, eni: &EniId, addresses: Vec<IpAddr>, generation: u64) {
        for address in addresses {
            if let Some(going) = self.going.get_mut(eni) {
                going.remove(&address);
            }
            self.coming.entry(eni.clone()).or_default().insert(address, generation);
        }
    }

    fn leave<'a>(&mut self, eni: &EniId, addresses: impl Iterator<Item = &'a IpAddr>, generation: u64) {
        for address in addresses {
            if let Some(coming) = self.coming.get_mut(eni) {
                coming.remove(address);
            }
            self.going.entry(eni.clone()).or_default().insert(*address, generation);
        }
    }

    /// Whether a wish was stated.
    pub(crate) const fn told(&self) -> bool {
        self.sent.generation > 0
    }

    /// Notes a confirmation.
    pub(crate) fn applied(&mut self, generation: u64, ready: BTreeSet<EniId>) {
        if generation < self.confirmed || generation > self.sent.generation {
            return;
        }
        self.confirmed = generation;
        self.ready = ready;
        self.failure = None;
        for generations in [&mut self.coming, &mut self.going] {
            generations.values_mut().for_each(|of| of.retain(|_, since| *since > generation));
            generations.retain(|_, of| !of.is_empty());
        }
    }

    /// Notes a failure.
    pub(crate) fn failed(&mut self, message: String) {
        self.failure = Some(message);
    }

    /// Why the kernel is not as wanted, if it failed.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Whether the ENI's netdev is there and prepared.
    pub(crate) fn is_ready(&self, eni: &EniId) -> bool {
        self.ready.contains(eni)
    }

    /// Whether the address works.
    pub(crate) fn has(&self, eni: &EniId, address: IpAddr) -> bool {
        let holds = |of: Option<&BTreeMap<IpAddr, u64>>| of.is_some_and(|of| of.contains_key(&address));
        self.is_ready(eni)
            && self.known.get(eni).is_some_and(|known| known.contains(&address))
            && !holds(self.coming.get(eni))
    }

    /// Addresses of the ENI that were sent and are not confirmed yet.
    pub(crate) fn unconfirmed(&self, eni: &EniId) -> impl Iterator<Item = IpAddr> {
        self.coming.get(eni).into_iter().flat_map(|of| of.keys().copied())
    }

    /// Whether the address is surely out. Before the first confirmation nothing is sure: an earlier process may have
    /// put it there.
    pub(crate) fn lacks(&self, eni: &EniId, address: IpAddr) -> bool {
        let going = self.going.get(eni).is_some_and(|of| of.contains_key(&address));
        self.confirmed > 0 && !going && self.known.get(eni).is_none_or(|known| !known.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eni(addresses: &[u8]) -> Vec<EniDatapath> {
        vec![EniDatapath {
            eni: "eni-1".parse().unwrap(),
            mac: "02:00:00:00:00:01".parse().unwrap(),
            ordinal: 1,
            subnet: "subnet-1".parse().unwrap(),
            primary: [10, 0, 0, 1].into(),
            addresses: addresses.iter().map(|last| [10, 0, 0, *last].into()).collect(),
        }]
    }

    #[test]
    fn an_address_works_from_its_own_generation_on() {
        let mut kernel = Kernel::default();
        let id: EniId = "eni-1".parse().unwrap();
        let ready = BTreeSet::from([id.clone()]);
        let at = |last| IpAddr::from([10, 0, 0, last]);
        assert_eq!(kernel.want(eni(&[5])).unwrap().generation, 1);
        assert_eq!(kernel.want(eni(&[5])), None);
        assert_eq!(kernel.want(eni(&[5, 6])).unwrap().generation, 2);
        kernel.applied(1, ready.clone());
        assert!(kernel.has(&id, at(5)) && !kernel.has(&id, at(6)));
        kernel.applied(2, BTreeSet::new());
        assert!(!kernel.has(&id, at(5)), "the netdev is gone");
        kernel.applied(2, ready.clone());
        assert!(kernel.has(&id, at(6)));
        kernel.applied(9, ready);
        assert!(kernel.has(&id, at(6)), "a generation that was never sent says nothing");
    }

    #[test]
    fn an_address_is_out_when_a_generation_without_it_is_confirmed() {
        let mut kernel = Kernel::default();
        let (id, six): (EniId, IpAddr) = ("eni-1".parse().unwrap(), [10, 0, 0, 6].into());
        assert!(!kernel.lacks(&id, six), "an earlier process may have put it there");
        kernel.want(eni(&[5, 6]));
        kernel.applied(1, BTreeSet::new());
        kernel.want(eni(&[5]));
        assert!(!kernel.lacks(&id, six));
        kernel.want(eni(&[5, 7]));
        kernel.applied(3, BTreeSet::new());
        assert!(kernel.lacks(&id, six));
    }
}
