//! The default rule of the VPC CNI (WARM_ENI_TARGET 1, WARM_PREFIX_TARGET 1), as its documentation states it, without anything that
//! can go wrong: every 5 s it looks at its stock; below one ENI's worth (one prefix' worth) of free addresses it adds
//! one ENI with all it can carry (one prefix); what is empty goes when the stock is as much again above that. A free address
//! is taken from any ENI and any prefix, and rests for 30 s after its pod.

use super::{Holder, Outcome, Turn};
use spur_ipamd_core::Jitter;
use std::collections::BTreeMap;
use std::time::Duration;

const LOOK: Duration = Duration::from_secs(5);
const REST: Duration = Duration::from_secs(30);
/// An m5.4xlarge.
pub(super) const ENIS: usize = 8;
const PLACES: usize = 29;

/// What an ENI's places are filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Address,
    Prefix,
}

impl Unit {
    const fn size(self) -> usize {
        match self {
            Self::Address => 1,
            Self::Prefix => 16,
        }
    }
}

/// One place: addresses of pods in it, and when the others' rest ends.
#[derive(Debug, Default)]
struct Place {
    held: usize,
    rests: Vec<Duration>,
}

pub(super) struct Rule {
    unit: Unit,
    now: Duration,
    next_look: Duration,
    rng: Jitter,
    /// Each with its places, by number.
    enis: Vec<BTreeMap<u64, Place>>,
    serial: u64,
    /// ENI's place of each pod.
    pods: BTreeMap<usize, u64>,
    waiting: Vec<(usize, Duration)>,
    changes: usize,
    waited: usize,
}

impl Rule {
    pub(super) fn new(unit: Unit) -> Self {
        Self {
            unit,
            now: Duration::ZERO,
            next_look: Duration::ZERO,
            rng: Jitter::new(1),
            enis: vec![BTreeMap::new()],
            serial: 0,
            pods: BTreeMap::new(),
            waiting: Vec::new(),
            changes: 0,
            waited: 0,
        }
    }

    fn free(&self) -> usize {
        let places = self.enis.iter().flat_map(BTreeMap::values);
        places.map(|place| self.unit.size() - place.held - place.rests.len()).sum()
    }

    fn add(&mut self, eni: usize, count: usize) {
        self.changes += 1;
        for _ in 0..count {
            self.serial += 1;
            self.enis[eni].insert(self.serial, Place::default());
        }
    }

    fn empty(place: &Place) -> bool {
        place.held + place.rests.len() == 0
    }

    fn look(&mut self) {
        let worth = if self.unit == Unit::Prefix { self.unit.size() } else { PLACES };
        if self.free() < worth {
            let batch = if self.unit == Unit::Prefix { 1 } else { PLACES };
            match self.enis.iter().position(|eni| eni.len() < PLACES) {
                Some(eni) => self.add(eni, batch.min(PLACES - self.enis[eni].len())),
                None if self.enis.len() < ENIS => {
                    // Made with its addresses, attached, and made to die with the instance.
                    self.enis.push(BTreeMap::new());
                    self.add(self.enis.len() - 1, batch);
                    self.changes += 2;
                }
                None => {}
            }
        } else if self.unit == Unit::Prefix {
            let whole =
                self.enis.iter().flat_map(BTreeMap::values).filter(|place| Self::empty(place)).count();
            if whole > 1 {
                self.drop_prefix();
            }
        } else if self.free() >= 2 * worth
            && let Some(eni) = (1..self.enis.len()).find(|eni| self.enis[*eni].values().all(Self::empty))
        {
            self.enis.remove(eni);
            self.changes += 2;
        }
    }

    fn drop_prefix(&mut self) {
        for eni in 0..self.enis.len() {
            let empty = self.enis[eni].iter().find(|(_, place)| Self::empty(place));
            if let Some(number) = empty.map(|(number, _)| *number) {
                self.enis[eni].remove(&number);
                self.changes += 1;
                if eni > 0 && self.enis[eni].is_empty() {
                    self.enis.remove(eni);
                    self.changes += 2;
                }
                return;
            }
        }
    }

    /// Gives addresses to those who wait.
    fn serve(&mut self) {
        while let Some((pod, since)) = self.waiting.first().copied() {
            let size = self.unit.size();
            let places = self.enis.iter_mut().flat_map(BTreeMap::iter_mut);
            let mut open: Vec<_> =
                places.filter(|(_, place)| place.held + place.rests.len() < size).collect();
            if open.is_empty() {
                return;
            }
            let count = u64::try_from(open.len()).unwrap();
            let (number, place) = open.swap_remove(usize::try_from(self.rng.bits() % count).unwrap());
            place.held += 1;
            self.pods.insert(pod, *number);
            self.waited += usize::from(since + Duration::from_secs(1) < self.now);
            self.waiting.remove(0);
        }
    }
}

impl Holder for Rule {
    fn turn(&mut self, turn: Turn) {
        if turn.comes {
            self.waiting.push((turn.pod, self.now));
            return self.serve();
        }
        self.waiting.retain(|(pod, _)| *pod != turn.pod);
        let Some(number) = self.pods.remove(&turn.pod) else { return };
        if let Some(place) = self.enis.iter_mut().find_map(|eni| eni.get_mut(&number)) {
            place.held -= 1;
            place.rests.push(self.now + REST);
        }
    }

    fn pass_until(&mut self, at: Duration) {
        while self.next_look <= at {
            self.now = self.next_look;
            self.next_look += LOOK;
            let now = self.now;
            for place in self.enis.iter_mut().flat_map(BTreeMap::values_mut) {
                place.rests.retain(|until| *until > now);
            }
            self.look();
            self.serve();
        }
        self.now = at;
    }

    fn count(&self) -> (usize, usize) {
        let places: usize = self.enis.iter().map(BTreeMap::len).sum();
        (self.pods.len() + self.waiting.len(), places * self.unit.size())
    }

    fn outcome(&self) -> Outcome {
        Outcome { changes: self.changes, waited: self.waited, ..Outcome::default() }
    }
}
