//! What the kernel was asked to know and what it confirmed. The pool states its whole wish each time; here it becomes a generation if it
//! differs, and each address remembers in which generation it came or went. An address may be handed out only when its arrival is confirmed,
//! and taken from the ENI only when its departure is.

use crate::action::{DatapathWanted, EniDatapath};
use spur_cloud::EniId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

type Key = (EniId, IpAddr);

/// The kernel, as far as it is confirmed.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    sent: DatapathWanted,
    came: BTreeMap<Key, u64>,
    went: BTreeMap<Key, u64>,
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
        let same = |eni: &EniDatapath| {
            let head = |eni: &EniDatapath| EniDatapath { addresses: BTreeSet::new(), ..eni.clone() };
            self.sent.enis.iter().any(|old| head(old) == head(eni))
        };
        let mut came = BTreeMap::new();
        for eni in &enis {
            let known = same(eni);
            for address in eni.addresses.iter().chain([&eni.primary]) {
                let key = (eni.eni.clone(), *address);
                let since = self.came.get(&key).filter(|_| known).copied().unwrap_or(generation);
                self.went.remove(&key);
                came.insert(key, since);
            }
        }
        for key in std::mem::replace(&mut self.came, came).into_keys() {
            if !self.came.contains_key(&key) {
                self.went.insert(key, generation);
            }
        }
        self.sent = DatapathWanted { generation, enis };
        Some(self.sent.clone())
    }

    /// Notes a confirmation.
    pub(crate) fn applied(&mut self, generation: u64, ready: BTreeSet<EniId>) {
        if generation < self.confirmed || generation > self.sent.generation {
            return;
        }
        self.confirmed = generation;
        self.ready = ready;
        self.failure = None;
        self.went.retain(|_, went| *went > generation);
    }

    /// Notes a failure.
    pub(crate) fn failed(&mut self, message: String) {
        self.failure = Some(message);
    }

    /// Why the kernel is not as wanted, if it failed.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Whether the address works.
    pub(crate) fn has(&self, eni: &EniId, address: IpAddr) -> bool {
        let came = self.came.get(&(eni.clone(), address));
        came.is_some_and(|came| *came <= self.confirmed) && self.ready.contains(eni)
    }

    /// Whether the address is surely out. Before the first confirmation nothing is sure: an earlier process may have
    /// put it there.
    pub(crate) fn lacks(&self, eni: &EniId, address: IpAddr) -> bool {
        let key = (eni.clone(), address);
        self.confirmed > 0 && !self.came.contains_key(&key) && !self.went.contains_key(&key)
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
