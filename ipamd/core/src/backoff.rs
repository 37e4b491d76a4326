//! Waiting after failures, per failing thing: an EC2 action that is throttled or denied, a subnet that is full, one action on one ENI.
//! Exponential with a cap; the caller spreads the waits. An entry outlives its wait, so that the next failure waits longer, and
//! ends with a success. The controller of `vpcRoute` mode has things of its own that fail, and words of its own for the wait.

use crate::time::{Jitter, Timestamp};
use crate::wait::Wait;
use spur_cloud::{Api, EniId, SubnetId};
use std::collections::BTreeMap;
use std::time::Duration;

/// What failed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// An action as a whole.
    Api(Api),
    /// A subnet without addresses.
    Subnet(SubnetId),
    /// A subnet without a free /28.
    Prefixes(SubnetId),
    /// An action on an ENI.
    Eni(EniId, Api),
}

#[derive(Debug)]
struct Entry<W> {
    failures: u32,
    until: Timestamp,
    wait: W,
}

/// How long to wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) first: Duration,
    pub(crate) cap: Duration,
}

/// All things that failed lately.
#[derive(Debug)]
pub(crate) struct Backoffs<K = Key, W = Wait>(BTreeMap<K, Entry<W>>);

impl<K, W> Default for Backoffs<K, W> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, W> Backoffs<K, W> {
    /// Notes a failure; `wait` is told until when.
    pub(crate) fn fail(
        &mut self,
        key: K,
        now: Timestamp,
        policy: Policy,
        jitter: &mut Jitter,
        wait: impl FnOnce(Timestamp) -> W,
    ) {
        let failures = self.0.get(&key).map_or(0, |entry| entry.failures);
        let pause = policy.first.saturating_mul(1 << failures.min(16)).min(policy.cap.max(policy.first));
        let until = now.after(jitter.spread(pause));
        self.0.insert(key, Entry { failures: failures + 1, until, wait: wait(until) });
    }

    /// Notes a success.
    pub(crate) fn clear(&mut self, key: &K) {
        self.0.remove(key);
    }

    /// Whether to wait.
    pub(crate) fn blocks(&self, key: &K, now: Timestamp) -> bool {
        self.0.get(key).is_some_and(|entry| entry.until > now)
    }

    /// Until when a thing has to wait, if it has to.
    pub(crate) fn until(&self, key: &K, now: Timestamp) -> Option<Timestamp> {
        self.0.get(key).map(|entry| entry.until).filter(|until| *until > now)
    }

    /// What a thing waits for now.
    pub(crate) fn wait(&self, key: &K, now: Timestamp) -> Option<&W> {
        self.0.get(key).filter(|entry| entry.until > now).map(|entry| &entry.wait)
    }

    /// What is waited for now.
    pub(crate) fn waits(&self, now: Timestamp) -> impl Iterator<Item = (&K, &W)> {
        self.0.iter().filter(move |(_, entry)| entry.until > now).map(|(key, entry)| (key, &entry.wait))
    }

    /// When the next wait is over.
    pub(crate) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        self.0.values().map(|entry| entry.until).filter(|until| *until > now).min()
    }
}

impl Backoffs {
    /// Forgets an ENI.
    pub(crate) fn forget(&mut self, eni: &EniId) {
        self.0.retain(|key, _| !matches!(key, Key::Eni(id, _) if id == eni));
    }

    /// Whether an action on an ENI has to wait.
    pub(crate) fn blocks_call(&self, eni: &EniId, api: Api, now: Timestamp) -> bool {
        self.blocks(&Key::Api(api), now) || self.blocks(&Key::Eni(eni.clone(), api), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { first: Duration::from_secs(1), cap: Duration::from_secs(60) };

    fn until(backoffs: &Backoffs, now: Timestamp) -> f64 {
        backoffs.next(now).map_or(0.0, |at| at.since(now).as_secs_f64())
    }

    #[test]
    fn waits_double_up_to_the_cap_and_start_over_after_a_success() {
        let (mut backoffs, mut jitter, now) = (Backoffs::default(), Jitter::new(1), Timestamp::default());
        let key = Key::Api(Api::CreateNetworkInterface);
        for expected in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            backoffs.fail(key.clone(), now, POLICY, &mut jitter, |_| Wait::Queued);
            let got = until(&backoffs, now);
            assert!((expected * 0.75..=expected * 1.25).contains(&got), "{expected} {got}");
        }
        backoffs.clear(&key);
        assert!(!backoffs.blocks(&key, now));
        backoffs.fail(key, now, POLICY, &mut jitter, |_| Wait::Queued);
        assert!(until(&backoffs, now) <= 1.25);
    }

    #[test]
    fn a_failing_eni_does_not_hinder_another() {
        let (mut backoffs, mut jitter, now) = (Backoffs::default(), Jitter::new(1), Timestamp::default());
        let (one, two): (EniId, EniId) = ("eni-1".parse().unwrap(), "eni-2".parse().unwrap());
        let api = Api::AssignPrivateIpAddresses;
        backoffs.fail(Key::Eni(one.clone(), api), now, POLICY, &mut jitter, |_| Wait::Queued);
        assert!(backoffs.blocks_call(&one, api, now) && !backoffs.blocks_call(&two, api, now));
        backoffs.forget(&one);
        assert!(!backoffs.blocks_call(&one, api, now));
    }
}
