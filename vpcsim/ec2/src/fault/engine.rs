//! The faults of a world at work. Each call and each request for metadata gets a [`Ruling`] before it is performed, each
//! event has its point of time; counters, buckets and copies of the past live here. Faults are asked in the order of the
//! list. One that refuses a call ends the matter: those behind it do not count that call.

use super::bucket::{Bucket, Figures};
use super::history::History;
use super::select::Count;
use super::{CallFault, Event, Fault, FaultView, Kind, MetadataFault};
use crate::action::Action;
use crate::error::{ApiError, Code};
use crate::random::{Random, seal};
use crate::time::SimTime;
use crate::world::World;
use crate::world::pace::Pace;
use std::collections::BTreeMap;
use std::time::Duration;

/// The faults at work.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    seed: u64,
    /// When they were set.
    since: SimTime,
    list: Vec<Installed>,
    due: BTreeMap<(SimTime, usize), Due>,
    history: History,
}

#[derive(Debug)]
struct Installed {
    fault: Fault,
    count: Count,
    buckets: BTreeMap<(&'static str, bool), Bucket>,
}

/// What a point of time brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Strike,
    /// What a fault holds is given back.
    Release,
}

/// What happens to a call.
#[derive(Debug, Default)]
pub(crate) struct Ruling {
    pub(crate) refusal: Option<Refusal>,
    /// Read the world as it was that long ago.
    pub(crate) stale: Option<Duration>,
    pub(crate) pace: Pace,
    /// The caller gets this answer instead (none: none), if the call succeeds.
    pub(crate) lost: Option<Option<Code>>,
    pub(crate) hold: Duration,
    /// The faults that struck.
    pub(crate) by: Vec<String>,
}

/// A call that is not performed.
#[derive(Debug)]
pub(crate) enum Refusal {
    Error(ApiError),
    Deny,
    Timeout,
}

impl Faults {
    pub(crate) fn begin(faults: Vec<Fault>, seed: u64, now: SimTime, world: &World) -> Self {
        let mut due = BTreeMap::new();
        let mut lag = Duration::ZERO;
        for (index, fault) in faults.iter().enumerate() {
            match &fault.kind {
                Kind::Event(event) => {
                    due.insert((now.after(fault.select.from), 2 * index + 1), Due::Strike);
                    let holds = matches!(event, Event::FillSubnet { .. } | Event::FragmentSubnet { .. });
                    if let Some(until) = fault.select.until.filter(|_| holds) {
                        due.insert((now.after(until), 2 * index), Due::Release);
                    }
                }
                Kind::Call(CallFault::Stale(back)) | Kind::Metadata(MetadataFault::Stale(back)) => {
                    lag = lag.max(*back);
                }
                _ => {}
            }
        }
        let installed = |fault| Installed { fault, count: Count::default(), buckets: BTreeMap::new() };
        let list = faults.into_iter().map(installed).collect();
        Self { seed, since: now, list, due, history: History::begin(lag, now, world) }
    }

    pub(crate) fn views(&self) -> Vec<FaultView> {
        let view = |installed: &Installed| FaultView {
            name: installed.fault.name.clone(),
            fault: installed.fault.written.clone(),
            seen: installed.count.seen,
            fired: installed.count.fired,
        };
        self.list.iter().map(view).collect()
    }

    /// What happens to this call. `is_narrowed`: a read that asks for something certain.
    pub(crate) fn rule_call(
        &mut self,
        action: Action,
        caller: &str,
        is_narrowed: bool,
        now: SimTime,
    ) -> Ruling {
        let (seed, since) = (self.seed, self.since);
        let age = now.0.saturating_sub(since.0);
        let mut ruling = Ruling::default();
        for installed in &mut self.list {
            let Kind::Call(kind) = &installed.fault.kind else { continue };
            let select = &installed.fault.select;
            if !select.is_awake(age) || !select.means_call(action.name(), caller) || !kind.concerns(action) {
                continue;
            }
            let strikes = if let CallFault::Throttle(figures) = kind {
                // Where EC2 has less patience with reads of everything, these have a bucket of their own.
                let of_ec2 = Figures::of_ec2(action, is_narrowed);
                let is_apart = figures.is_none() && of_ec2 != Figures::of_ec2(action, true);
                let figures = figures.unwrap_or(of_ec2);
                let bucket = installed.buckets.entry((action.name(), is_apart));
                let empty = !bucket.or_insert_with(|| Bucket::full(figures, now)).take(now);
                installed.count.seen += 1;
                installed.count.fired += u64::from(empty);
                empty
            } else {
                let seed = seal(seed, installed.fault.name.as_bytes());
                select.strikes(&mut installed.count, seed, caller, action.name())
            };
            if strikes {
                ruling.by.push(installed.fault.name.clone());
                ruling.add(kind, select.until.map(|until| since.after(until)), now);
            }
            if ruling.refusal.is_some() {
                break;
            }
        }
        ruling
    }

    /// What happens to a request for metadata: the faults that strike, in order.
    pub(crate) fn rule_metadata(&mut self, node: &str, path: &str, now: SimTime) -> Vec<MetadataFault> {
        let age = now.0.saturating_sub(self.since.0);
        let mut struck = Vec::new();
        for installed in &mut self.list {
            let Kind::Metadata(kind) = installed.fault.kind else { continue };
            let select = &installed.fault.select;
            if !select.is_awake(age) || !select.means_request(path, node) {
                continue;
            }
            let seed = seal(self.seed, installed.fault.name.as_bytes());
            if select.strikes(&mut installed.count, seed, node, path) {
                struck.push(kind);
            }
        }
        struck
    }

    /// The world as it was that long ago.
    pub(crate) fn past(&self, lag: Duration, now: SimTime) -> Option<&World> {
        self.history.look_back(lag, now)
    }

    /// Notes the world after a change.
    pub(crate) fn note(&mut self, now: SimTime, world: &World) {
        self.history.note(now, world);
    }

    /// When the next event happens.
    pub(crate) fn next_event(&self) -> Option<SimTime> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// Lets the next event happen.
    pub(crate) fn strike(&mut self, world: &mut World) {
        let Some(((at, key), due)) = self.due.pop_first() else { return };
        let Some(installed) = self.list.get_mut(key / 2) else { return };
        let Kind::Event(event) = &installed.fault.kind else { return };
        if due == Due::Release {
            world.release_held(Some(key / 2));
            return;
        }
        let select = &installed.fault.select;
        let age = at.0.saturating_sub(self.since.0);
        if !select.is_awake(age) || select.times.is_some_and(|times| installed.count.seen >= times) {
            return;
        }
        installed.count.seen += 1;
        let drawn = seal(self.seed ^ installed.count.seen, installed.fault.name.as_bytes());
        installed.count.fired += u64::from(world.suffer(event, key / 2, &mut Random::new(drawn)));
        if let Some(every) = event.every() {
            self.due.insert((at.after(every), key), Due::Strike);
        }
    }
}

impl CallFault {
    /// Whether an action can suffer it at all.
    const fn concerns(&self, action: Action) -> bool {
        match self {
            Self::Stale(_) => action.is_read(),
            Self::Late(_) | Self::Stuck => {
                matches!(action, Action::AttachNetworkInterface | Action::DetachNetworkInterface)
            }
            _ => true,
        }
    }
}

impl Ruling {
    fn add(&mut self, kind: &CallFault, over: Option<SimTime>, now: SimTime) {
        match kind {
            CallFault::Throttle(_) => {
                self.refusal =
                    Some(Refusal::Error(Code::RequestLimitExceeded.because("Request limit exceeded.")));
            }
            CallFault::Error { code, message } => {
                let message = message.clone().unwrap_or_else(|| code.usual_words().to_owned());
                self.refusal = Some(Refusal::Error(code.because(message)));
            }
            CallFault::Deny => self.refusal = Some(Refusal::Deny),
            CallFault::Timeout(hold) => {
                self.hold = self.hold.max(*hold);
                self.refusal = Some(Refusal::Timeout);
            }
            CallFault::LostReply(instead) => self.lost = Some(*instead),
            CallFault::Slow(hold) => self.hold = self.hold.max(*hold),
            CallFault::Stale(lag) => self.stale = Some(self.stale.unwrap_or_default().max(*lag)),
            CallFault::Late(delay) => self.pace = Pace::At(now.after(*delay)),
            CallFault::Stuck => self.pace = over.map_or(Pace::Never, Pace::At),
        }
    }
}
