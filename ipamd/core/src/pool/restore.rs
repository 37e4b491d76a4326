//! The beginning, with what survived. Holdings come first and beat everything: an address in the hands of a pod is neither resting nor leaving,
//! whatever else was written about it before. Intents are taken up where they were: creations are repeated with their token,
//! addresses and ENIs on their way out stay on their way out.

use super::rest::{Probe, Rest};
use super::{Creation, Making, Pool, Release, Releasing, Sight};
use crate::address::{Slot, State};
use crate::backoff::Backoffs;
use crate::eni::{EniState, Leaving, Phase, Role};
use crate::kernel::Kernel;
use crate::placement::Ask;
use crate::prefix;
use crate::record::{EniRecord, Intent, IntentId, Record, StoreChange};
use crate::settings::{NodeFacts, PoolSettings};
use crate::table::AddressTable;
use crate::time::{Jitter, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

impl Pool {
    /// A pool that continues from what survived. `seed` spreads retries; nodes need different ones. Begin with `Event::Tick`.
    #[must_use]
    pub fn new(settings: PoolSettings, node: NodeFacts, record: Record, seed: u64, now: Timestamp) -> Self {
        let settle = settings.timings.settle;
        let mut pool = Self {
            settings,
            node,
            jitter: Jitter::new(seed),
            now,
            step: 0,
            last_id: record.intents.last_key_value().map_or(0, |(intent, _)| intent.0),
            enis: BTreeMap::new(),
            creations: BTreeMap::new(),
            releases: BTreeMap::new(),
            table: AddressTable::default(),
            resting: BTreeMap::new(),
            probe: Probe::default(),
            waiters: VecDeque::new(),
            backoffs: Backoffs::default(),
            tight: BTreeMap::new(),
            tight_prefixes: BTreeMap::new(),
            calls: BTreeMap::new(),
            stores: BTreeMap::new(),
            dirty: Vec::new(),
            kernel: Kernel::default(),
            told: Vec::new(),
            sight: Sight {
                observed: None,
                reading: None,
                searching: None,
                next: now,
                vpc: None,
                // Not at once: a new node has better things to do, and so has EC2 when many start.
                recall: record.enis.is_empty().then(|| now.after(settle)),
            },
            surplus: None,
            learned_enis: None,
            blocks: None,
            findings: BTreeSet::new(),
            counters: BTreeMap::new(),
            out: Vec::new(),
        };
        pool.restore(record);
        pool
    }

    fn restore(&mut self, record: Record) {
        for (key, holding) in record.holdings {
            let (address, eni) = (holding.address, holding.eni.clone());
            self.table.add(address, eni, None, State::Held { key, holding }, self.now);
        }
        // A clock that was ahead before the restart must not keep addresses away for long.
        let latest = self.now.after(self.settings.timings.cooldown);
        for (address, until) in record.cooling {
            if self.table.get(address).is_none() {
                self.resting.insert(address, Rest { until: until.min(latest), busy: 0 });
            }
        }
        for eni in record.enis.into_values() {
            let phase = Phase::Attaching { since: self.now };
            let state = self.enter(eni, phase);
            state.stored = true;
        }
        for (intent, what) in record.intents {
            self.resume(intent, what);
        }
    }

    fn enter(&mut self, record: EniRecord, phase: Phase) -> &mut EniState {
        let role = if record.id == self.node.primary { Role::Primary } else { Role::Secondary };
        let now = self.now;
        self.enis.entry(record.id.clone()).or_insert_with(|| EniState::new(record, role, phase, now))
    }

    fn resume(&mut self, intent: IntentId, what: Intent) {
        match what {
            Intent::Create { made: Some(record), .. } => {
                let eni = self.enter(record, Phase::Unattached);
                eni.intent = Some(intent);
            }
            Intent::Create { create, made: None, since } => {
                let ask = Ask::of(&create.request);
                let creation = Creation { create, since, ask, phase: Making::Due, uncertain: true };
                self.creations.insert(intent, creation);
            }
            Intent::Unassign { eni, mut addresses, mut prefixes } => {
                // An address may be named by an older intent, too, of another ENI perhaps: the newer one counts.
                let leaves = |slot: &Slot| matches!(slot.state, State::Leaving { .. });
                let nobodys = |address: IpAddr| self.table.get(address).is_none_or(leaves);
                addresses.retain(|address| nobodys(*address));
                // A prefix with an address of a pod in it was given to us again after this was written.
                prefixes.retain(|prefix| prefix::addresses(*prefix).all(nobodys));
                // What rests was a pod's since this was written, so it came again: a reading says where it is now.
                let again = |address: &IpAddr| self.resting.contains_key(address);
                let single =
                    addresses.iter().filter(|address| !again(address)).map(|address| (*address, None));
                let whole = prefixes
                    .iter()
                    .filter(|prefix| !prefix::addresses(**prefix).any(|address| again(&address)))
                    .flat_map(|prefix| prefix::addresses(*prefix).map(|address| (address, Some(*prefix))));
                for (address, prefix) in single.chain(whole).collect::<Vec<_>>() {
                    self.table.remove(address);
                    self.table.add(address, eni.clone(), prefix, State::Leaving { intent }, self.now);
                }
                let phase = Releasing::Going;
                self.releases.insert(intent, Release { eni, addresses, prefixes, phase, unclear: true });
            }
            Intent::Remove { eni } => {
                if self.table.tally(&eni.id).live() == 0 {
                    let state = self.enter(eni, Phase::Unattached);
                    state.phase = Phase::Leaving(Leaving::Going);
                    state.intent = Some(intent);
                } else {
                    self.dirty.push(StoreChange::DropIntent(intent));
                }
            }
        }
    }

    /// After the first reading: what it did not show is looked at one by one.
    pub(super) fn look_after_start(&mut self) {
        let now = self.now;
        for eni in self.enis.values_mut() {
            let known = eni.attachment.is_some() || eni.role == Role::Foreign;
            if !known {
                eni.look_at(now, "the attachment");
            }
        }
        for release in self.releases.values_mut() {
            if !self.enis.contains_key(&release.eni) {
                for address in release.all() {
                    if self.table.get(address).is_some_and(|slot| slot.eni == release.eni) {
                        self.table.remove(address);
                    }
                }
                release.phase = Releasing::Gone(now);
            }
        }
    }
}
