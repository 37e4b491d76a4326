//! The shell's part: carries the pool's actions out with delays and failures, and dies. Calls on the wire, the disk and the kernel outlive it.

use crate::harness::{Due, EPOCH, Kernel, Pod, Sim};
use spur_cloud::fake::{Fault, World};
use spur_cloud::{Api, CloudError, Eni, EniId, EniStatus, ErrorClass};
use spur_ipamd_core::{Action, CallDone, CallId, CloudCall, DatapathWanted, Event, Pool};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

const ATTACH: Duration = Duration::from_secs(2);
const DETACH: Duration = Duration::from_secs(3);

impl Sim {
    /// Gives the pool an event and begins its actions.
    pub(crate) fn feed(&mut self, event: Event) {
        self.steps += 1;
        if self.print {
            eprintln!("{:10.3} {} > {event:?}", self.now().as_secs_f64(), self.instance);
        }
        let actions = self.pool.step(self.stamp(), event);
        // A creation is decided before its intent is durable, and pods may give up in between.
        let assigns = |call: &CloudCall| matches!(call, CloudCall::Assign { .. });
        let grows = actions.iter().any(|action| matches!(action, Action::Call { call, .. } if assigns(call)));
        for action in actions {
            if self.print {
                eprintln!("           {action:?}");
            }
            self.begin(action);
        }
        if grows && self.frugal {
            self.check_growth();
        }
    }

    fn begin(&mut self, action: Action) {
        let life = self.life;
        match action {
            Action::Store { id, changes } => {
                let fails = self.chance(self.chaos.store_fails);
                let at = (self.now() + self.delay(Duration::from_millis(5))).max(self.last_commit);
                self.last_commit = at;
                self.schedule(at - self.now(), Due::Commit { life, id, changes, fails });
            }
            Action::Call { id, call, .. } => self.send(id, call),
            Action::Datapath(wanted) => {
                let after = self.delay(Duration::from_millis(50));
                self.schedule(after, Due::Kernel { life, wanted });
            }
            Action::ProbeFlows { addresses } => {
                let (after, fails) = (self.delay(Duration::from_millis(30)), self.chance(self.chaos.blind));
                self.schedule(after, Due::Flows { life, addresses, fails });
            }
            Action::Reply { ticket, reply } => self.answer(ticket, reply),
            Action::Report(finding) => self.check_finding(&finding),
        }
    }

    fn send(&mut self, id: CallId, call: CloudCall) {
        self.sent += 1;
        let life = self.life;
        let (fault, late) = self.fault(&call);
        let after = self.delay(self.chaos.call);
        if late {
            let lost = CloudError {
                api: call.api(),
                class: ErrorClass::Transient,
                code: None,
                message: "given up".into(),
                request_id: None,
            };
            self.schedule(after, Due::Answer { life, id, result: Box::new(Err(lost)) });
        }
        let extra = if late { self.delay(Duration::from_secs(15)) } else { Duration::ZERO };
        self.schedule(after + extra, Due::Effect { life, id, call, fault, late });
    }

    fn fault(&mut self, call: &CloudCall) -> (Option<Fault>, bool) {
        let read = matches!(call, CloudCall::ReadEnis(_));
        if self.chance(self.chaos.refuse) {
            let mut classes = vec![
                ErrorClass::Throttled,
                ErrorClass::Throttled,
                ErrorClass::Transient,
                ErrorClass::Transient,
                ErrorClass::Denied,
                ErrorClass::Bug,
                ErrorClass::OverBudget { wait: self.delay(Duration::from_secs(5)) },
            ];
            match call {
                CloudCall::CreateEni(_) => {
                    classes.extend([ErrorClass::SubnetFull, ErrorClass::QuotaExceeded]);
                }
                CloudCall::Assign { .. } => classes.push(ErrorClass::SubnetFull),
                // What was just made is not known everywhere at once.
                CloudCall::AttachEni { .. } => {
                    classes.extend([ErrorClass::QuotaExceeded, ErrorClass::NotFound])
                }
                CloudCall::SetDeleteOnTermination { .. } => classes.push(ErrorClass::NotFound),
                _ => {}
            }
            return (Some(Fault::Refuse(classes[self.pick(classes.len())])), false);
        }
        if self.chance(self.chaos.lose) {
            return (Some(Fault::LoseReply), false);
        }
        (None, !read && self.chance(self.chaos.late))
    }

    /// When the next thing happens that the node knows of.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        let wake = self.wake();
        let due = self.queue.first_key_value().map(|((at, _), _)| *at);
        [wake, due].into_iter().flatten().min()
    }

    fn wake(&self) -> Option<Duration> {
        let at = self.pool.next_wakeup()?.since_epoch().saturating_sub(EPOCH + self.skew);
        Some(at.max(self.frozen_until))
    }

    /// Lets the next thing happen that is due, or the pool's next wake-up, or at most so much time pass.
    pub(crate) fn next_within(&mut self, most: Duration) {
        // A netdev comes or goes without anybody asking.
        let link = self.now() + if self.moves() { most.min(Duration::from_secs(1)) } else { most };
        let at = self.next_at().map_or(link, |at| at.min(link));
        self.world.advance(at.saturating_sub(self.now()));
        let now = self.now();
        if self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= now)
            && let Some((_, due)) = self.queue.pop_first()
        {
            self.happen(due);
        } else if self.wake().is_some_and(|wake| wake <= now) {
            self.feed(Event::Tick);
        }
        self.tell_links();
    }

    /// Whether an ENI is on its way to or from an instance.
    pub(crate) fn moves(&self) -> bool {
        let moving = |eni: &Eni| matches!(eni.status, EniStatus::Attaching | EniStatus::Detaching);
        self.world.true_enis().values().any(moving)
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Effect { life, id, call, fault, late } => {
                let result = self.take_effect(&call, fault, late);
                if !late {
                    let after = self.delay(self.chaos.call / 4);
                    let after = after.max(self.frozen_until.saturating_sub(self.now()));
                    self.schedule(after, Due::Answer { life, id, result: Box::new(result) });
                }
            }
            Due::Answer { life, id, result } if life == self.life => {
                self.feed(Event::CallFinished { call: id, result: *result });
            }
            Due::Commit { life, id, changes, fails } if life == self.life => {
                if fails {
                    return self.feed(Event::StoreFailed(id, "no space".into()));
                }
                changes.iter().for_each(|change| self.disk.apply(change));
                self.feed(Event::Stored(id));
            }
            Due::Flows { life, addresses, fails } if life == self.life => {
                let now = self.now();
                let busy = |address: &IpAddr| self.flows.get(address).is_some_and(|until| *until > now);
                let seen = addresses.iter().copied().filter(busy).collect();
                self.untold.retain(|address| !addresses.contains(address));
                self.untold.extend(addresses.into_iter().filter(|_| fails));
                self.feed(Event::FlowsSeen(if fails { Err("no memory".into()) } else { Ok(seen) }));
            }
            Due::Kernel { life, wanted } if life == self.life && self.newer(&wanted) => {
                if self.chance(self.chaos.kernel_fails) {
                    let generation = wanted.generation;
                    let after = self.delay(Duration::from_secs(1));
                    self.schedule(after, Due::Kernel { life, wanted });
                    return self.feed(Event::DatapathFailed { generation, message: "busy".into() });
                }
                self.kernel = Kernel { applied: wanted, life, told: None };
            }
            _ => {}
        }
    }

    fn newer(&self, wanted: &DatapathWanted) -> bool {
        self.kernel.life != self.life || self.kernel.applied.generation < wanted.generation
    }

    fn take_effect(
        &mut self,
        call: &CloudCall,
        fault: Option<Fault>,
        late: bool,
    ) -> Result<CallDone, CloudError> {
        if let Some(fault) = fault {
            self.world.inject(call.api(), fault);
        }
        self.before_effect(call, fault, late);
        if matches!(call, CloudCall::AttachEni { .. }) {
            let hangs = self.chance(self.chaos.hang);
            let attach = if hangs { self.delay(Duration::from_secs(400)) } else { ATTACH };
            self.world.set_delays(attach, DETACH);
        }
        // The world keeps its past as far as the longest lag; each read sees another part of it.
        let lag = self.delay(self.chaos.lag).min(self.chaos.lag);
        if matches!(call, CloudCall::ReadEnis(_)) {
            self.world.set_read_lag(lag);
        }
        let result = execute(&mut self.world, call);
        self.world.set_read_lag(self.chaos.lag);
        self.note(call, &result, fault);
        result
    }

    /// The kernel tells the process which ENIs are ready.
    pub(crate) fn tell_links(&mut self) {
        let frozen = self.frozen_until > self.now();
        if frozen || self.kernel.life != self.life || self.kernel.applied.generation == 0 {
            return;
        }
        let there = |eni: &EniId| {
            let eni = self.world.true_enis().get(eni);
            eni.is_some_and(|eni| eni.status == EniStatus::InUse || eni.status == EniStatus::Detaching)
        };
        let ready: BTreeSet<EniId> =
            self.kernel.applied.enis.iter().map(|eni| eni.eni.clone()).filter(there).collect();
        let now = (self.kernel.applied.generation, ready.clone());
        if self.kernel.told.as_ref() != Some(&now) {
            self.kernel.told = Some(now);
            self.feed(Event::DatapathApplied { generation: self.kernel.applied.generation, ready });
        }
    }

    /// The process dies. Calls on the wire still arrive, or not; of the transactions under way some are durable; the kernel did what it was last
    /// told, or not.
    pub(crate) fn crash(&mut self) {
        if self.print {
            eprintln!("{:10.3} {} crash", self.now().as_secs_f64(), self.instance);
        }
        let mut survives = true;
        for (at, due) in std::mem::take(&mut self.queue) {
            match due {
                Due::Commit { changes, fails, .. } => {
                    survives = survives && self.chance(500);
                    if survives && !fails {
                        changes.iter().for_each(|change| self.disk.apply(change));
                    }
                }
                Due::Effect { .. } if self.chance(700) => drop(self.queue.insert(at, due)),
                Due::Kernel { life, wanted } if self.newer(&wanted) && self.chance(500) => {
                    self.kernel = Kernel { applied: wanted, life, told: None };
                }
                _ => {}
            }
        }
        for pod in self.pods.values_mut() {
            if matches!(pod, Pod::Adding { .. } | Pod::Deleting { .. }) {
                *pod = Pod::Unknown;
            }
        }
        self.begin_life();
    }

    /// The machine goes down and comes up: the kernel forgets all, and the pods are gone with it. The agent drops what its
    /// store says about pods of another boot.
    pub(crate) fn reboot(&mut self) {
        if self.print {
            eprintln!("{:10.3} {} reboot", self.now().as_secs_f64(), self.instance);
        }
        self.queue.retain(|_, due| matches!(due, Due::Effect { .. }));
        self.kernel = Kernel::default();
        self.pods.clear();
        self.flows.clear();
        self.disk.holdings.clear();
        self.disk.enis.clear();
        // A real one takes longer than an address rests.
        self.asked_back.retain(|address, _| self.disk.cooling.contains_key(address));
        self.begin_life();
    }

    /// The clock was set while nobody looked: what was measured with it before the start is wrong by as much.
    pub(crate) fn set_clock(&mut self, forward: bool, by: Duration) {
        let before = self.skew;
        self.skew = if forward { before + by } else { before.saturating_sub(by) };
        let jump = self.skew.saturating_sub(before);
        let asked_back = std::mem::take(&mut self.asked_back).into_iter();
        self.asked_back =
            asked_back.filter_map(|(address, at)| Some((address, at.checked_sub(jump)?))).collect();
    }

    fn begin_life(&mut self) {
        self.life += 1;
        self.frozen_until = Duration::ZERO;
        let seed = self.rng.bits();
        self.pool =
            Pool::new(self.settings.clone(), self.node.clone(), self.disk.clone(), seed, self.stamp());
        self.feed(Event::Tick);
    }

    /// The process stands still: calls on the wire arrive, and nothing of it is heard before `until`.
    pub(crate) fn freeze(&mut self, time: Duration) {
        self.frozen_until = self.now() + time;
        let until = self.frozen_until;
        let queue = std::mem::take(&mut self.queue).into_iter();
        let later = |((at, serial), due): ((Duration, u64), Due)| {
            let waits = !matches!(due, Due::Effect { .. });
            ((if waits { at.max(until) } else { at }, serial), due)
        };
        self.queue = queue.map(later).collect();
        self.last_commit = self.last_commit.max(until);
    }
}

fn execute(world: &mut World, call: &CloudCall) -> Result<CallDone, CloudError> {
    match call {
        CloudCall::ReadEnis(query) => world.enis(query).map(CallDone::Enis),
        CloudCall::CreateEni(create) => world.create_eni(create).map(|eni| CallDone::Created(Box::new(eni))),
        CloudCall::AttachEni { eni, instance, index, card } => {
            world.attach_eni(eni, instance, *index, *card).map(CallDone::Attached)
        }
        CloudCall::SetDeleteOnTermination { eni, attachment } => {
            world.set_delete_on_termination(eni, attachment, true).map(|()| CallDone::Done)
        }
        CloudCall::DetachEni { attachment, .. } => world.detach_eni(attachment).map(|()| CallDone::Done),
        CloudCall::DeleteEni { eni } => world.delete_eni(eni).map(|()| CallDone::Done),
        CloudCall::Assign { eni, request } => world.assign(eni, request).map(CallDone::Assigned),
        CloudCall::Unassign { eni, addresses, prefixes } => {
            world.unassign(eni, addresses, prefixes).map(|()| CallDone::Done)
        }
    }
}

/// Calls so far by action.
pub(crate) fn calls(world: &World) -> BTreeMap<Api, usize> {
    let mut calls = BTreeMap::new();
    for call in world.calls() {
        *calls.entry(call.api).or_default() += 1;
    }
    calls
}
