//! The pool of an m5.4xlarge with its default targets and times, on the simulated node.

use super::{Holder, Outcome, Turn};
use crate::chaos::Chaos;
use crate::harness::{Pod, Sim};
use crate::shell::calls;
use spur_cloud::Api;
use spur_ipamd_core::{AttachmentKey, Event, PrefixDelegation, Targets, Timings};
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) struct Node {
    sim: Sim,
    asked: BTreeMap<AttachmentKey, Duration>,
    waited: usize,
}

impl Node {
    pub(super) fn new(prefix_delegation: PrefixDelegation) -> Self {
        let targets = Targets { prefix_delegation, ..Targets::default() };
        let sim = Sim::of("m5.4xlarge", 1, Chaos::calm(), targets, Timings::default());
        Self { sim, asked: BTreeMap::new(), waited: 0 }
    }

    /// Those who have their address now waited until now at most.
    fn note_served(&mut self) {
        let now = self.sim.now();
        let waits = |key: &AttachmentKey| matches!(self.sim.pods.get(key), Some(Pod::Adding { .. }));
        self.asked.retain(|key, since| {
            let late = *since + Duration::from_secs(1) < now;
            self.waited += usize::from(late);
            waits(key) && !late
        });
    }
}

impl Holder for Node {
    fn turn(&mut self, turn: Turn) {
        let key =
            AttachmentKey { network: "n".into(), container_id: turn.pod.to_string(), if_name: "eth0".into() };
        match self.sim.pods.get(&key).cloned() {
            None if turn.comes => {
                self.asked.insert(key.clone(), self.sim.now());
                self.sim.add(key);
            }
            // A pod that is gone before it had an address: the runtime gives up, then cleans up.
            Some(Pod::Adding { ticket }) if !turn.comes => {
                self.sim.feed(Event::Cancel { ticket });
                self.sim.delete(key, &Pod::Unknown);
            }
            Some(pod) if !turn.comes => self.sim.delete(key, &pod),
            _ => {}
        }
    }

    fn pass_until(&mut self, at: Duration) {
        while self.sim.now() < at {
            self.sim.next_within(at.saturating_sub(self.sim.now()));
            self.note_served();
        }
        assert!(self.sim.broken.is_empty(), "{:?}", self.sim.broken);
    }

    fn count(&self) -> (usize, usize) {
        let enis = self.sim.ours();
        let held = enis.iter().map(|eni| eni.addresses.len() + 16 * eni.prefixes.len()).sum();
        (self.sim.pods.len(), held)
    }

    fn outcome(&self) -> Outcome {
        let calls = calls(&self.sim.world);
        let reads = calls.get(&Api::DescribeNetworkInterfaces).copied().unwrap_or_default();
        Outcome {
            changes: calls.values().sum::<usize>() - reads,
            reads,
            waited: self.waited,
            ..Outcome::default()
        }
    }
}
