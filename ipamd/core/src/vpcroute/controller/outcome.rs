//! What an answer means (R7). Successes are known at once; contradictions are settled by reading; failures make the thing wait that they
//! are about – a route, a table, an action – and nothing else (R8).

use super::super::Family;
use super::super::call::{RouteCall, RouteDone, Subject};
use super::super::problem::Problem;
use super::super::record::BlockState;
use super::super::settings::CLAIM_TAG;
use super::super::sight::{Doubt, Seen};
use super::{Controller, Key};
use crate::time::Timestamp;
use spur_cloud::budget::Meter;
use spur_cloud::{Api, CloudError, EniQuery, ErrorClass, RouteTable, RouteTableId, RouteTableQuery};
use std::collections::BTreeSet;

impl Controller {
    pub(super) fn finished(
        &mut self,
        call: &RouteCall,
        begun: Timestamp,
        result: Result<RouteDone, CloudError>,
    ) {
        let api = call.api();
        self.count(api, &result);
        if result.is_ok() {
            self.backoffs.clear(&Key::Api(api));
            if let Some(table) = call.table() {
                self.backoffs.clear(&Key::Table(table.clone(), api));
            }
            if let Some(subject) = call.subject() {
                self.backoffs.clear(&Key::Subject(subject));
            }
        }
        if call.is_read() {
            self.read_ended(call, begun, result.is_ok());
        } else {
            self.reads.look_after_write(self.now.after(self.settings.timings.look));
        }
        if let (RouteCall::Delete { table, .. }, Ok(_) | Err(ErrorClass::Transient)) =
            (call, result.as_ref().map_err(CloudError::class))
        {
            self.note_delete(table);
        }
        match result {
            Ok(done) => self.succeeded(call, begun, done),
            Err(error) => self.failed(call, begun, &error),
        }
    }

    /// A route was deleted, or perhaps: whose answer is lost counts, too.
    fn note_delete(&mut self, table: &RouteTableId) {
        let (now, interval) = (self.now, self.settings.timings.reconcile);
        let times = self.deleted.entry(table.clone()).or_default();
        times.retain(|at| now.since(*at) < interval);
        times.push(now);
    }

    fn count(&mut self, api: Api, result: &Result<RouteDone, CloudError>) {
        let counts = self.counters.calls.entry(api).or_default();
        match result.as_ref().map_err(CloudError::class) {
            Ok(_) => counts.succeeded += 1,
            Err(ErrorClass::Throttled) => counts.throttled += 1,
            Err(_) => counts.failed += 1,
        }
    }

    fn succeeded(&mut self, call: &RouteCall, begun: Timestamp, done: RouteDone) {
        let now = self.now;
        match (call, done) {
            (RouteCall::ReadTables(query), RouteDone::Tables(tables)) => {
                self.saw_tables(query, tables, begun)
            }
            (RouteCall::ReadEnis(query), RouteDone::Enis(enis)) => self.saw_enis(query, &enis, begun),
            (RouteCall::ReadSubnets(_), RouteDone::Subnets(subnets)) => {
                self.subnets = Some(subnets.into_iter().map(|subnet| (subnet.id, subnet.cidr)).collect());
            }
            (RouteCall::ReadVpc(_), RouteDone::Vpc(vpc)) => self.vpc = Some(vpc),
            (RouteCall::Create { table, block, target }, RouteDone::Done) => {
                let family = Family::of(*block);
                self.learned.remove(&(table.clone(), family));
                self.backoffs.clear(&Key::Full(table.clone(), family));
                self.sights.written(table, *block, Some(target.clone()), now);
            }
            (RouteCall::Replace { table, block, target }, RouteDone::Done) => {
                self.sights.written(table, *block, Some(target.clone()), now);
            }
            (RouteCall::Delete { table, block }, RouteDone::Done) => {
                self.sights.written(table, *block, None, now);
            }
            (RouteCall::CheckOff { eni }, RouteDone::Done) => self.targets.switched_off(eni, now),
            (RouteCall::Claim { table, .. }, RouteDone::Done) => {
                self.claimed.insert(table.clone());
                self.claims_written.insert(table.clone(), now);
            }
            (RouteCall::Unclaim { table, .. }, RouteDone::Done) => drop(self.claimed.remove(table)),
            (call, _) => {
                let message = format!("{} was answered with something else", call.api());
                let error = CloudError {
                    api: call.api(),
                    class: ErrorClass::Transient,
                    code: None,
                    message,
                    request_id: None,
                };
                self.failed(call, begun, &error);
            }
        }
    }

    fn saw_tables(&mut self, query: &RouteTableQuery, tables: Vec<RouteTable>, begun: Timestamp) {
        let settle = self.settings.timings.settle;
        let before: BTreeSet<_> =
            self.sights.tables().map(|table| (table.id.clone(), table.associations.clone())).collect();
        let asked: Vec<RouteTableId> = match query {
            RouteTableQuery::ByIds(ids) => ids.iter().cloned().collect(),
            RouteTableQuery::Tagged(..) => self.sights.ids().cloned().collect(),
        };
        self.note_claims(&tables, begun);
        self.sights.observe(tables, asked.iter(), begun, settle);
        let gone = self.sights.forget_gone(begun, settle);
        self.counters.tables_gone += gone.len() as u64;
        let after: BTreeSet<_> =
            self.sights.tables().map(|table| (table.id.clone(), table.associations.clone())).collect();
        let is_partial = matches!(query, RouteTableQuery::ByIds(_));
        let missing = self.sights.iter().any(|sight| sight.missing == Some(begun));
        if is_partial && (missing || before != after) {
            // Somebody changed who routes by which table; only all tables of the VPC tell the whole of it.
            self.reads.discover(self.now);
        }
        self.note_drift();
        self.plan_look();
    }

    /// A claim that we wrote is believed for the settle time; one that vanished is written again.
    fn note_claims(&mut self, tables: &[RouteTable], begun: Timestamp) {
        let (key, value) = (format!("{CLAIM_TAG}{}", self.settings.cluster), self.settings.pool.claim());
        for table in tables {
            if table.tags.get(&key) == Some(&value) {
                self.claimed.insert(table.id.clone());
            } else if !self.wrote_claim_lately(&table.id, begun) && self.claimed.remove(&table.id) {
                self.counters.drift.claim += 1;
            }
        }
    }

    fn wrote_claim_lately(&self, table: &RouteTableId, begun: Timestamp) -> bool {
        let settle = self.settings.timings.settle;
        self.claims_written.get(table).is_some_and(|at| begun < at.after(settle))
    }

    fn saw_enis(&mut self, query: &EniQuery, enis: &[spur_cloud::Eni], begun: Timestamp) {
        let Some(nodes) = self.nodes.clone() else { return };
        let asked = match query {
            EniQuery::ByIds(ids) => Some(ids),
            EniQuery::OfInstance(_) | EniQuery::Tagged(..) => None,
        };
        let on = self.targets.observe(&nodes, enis, asked, begun, self.settings.timings.settle);
        self.counters.drift.check += on.iter().filter(|node| self.served.contains(*node)).count() as u64;
        self.plan_listing(asked.is_none());
    }

    fn failed(&mut self, call: &RouteCall, begun: Timestamp, error: &CloudError) {
        let class = error.class();
        if class == ErrorClass::Throttled {
            self.budget.throttled(self.now.since_epoch(), Meter::of(call.api()), begun.since_epoch());
            return;
        }
        if call.is_read() {
            self.read_failed(call, error);
            return;
        }
        match (call, class) {
            // EC2 has said what there is.
            (
                RouteCall::Replace { table, block, .. } | RouteCall::Delete { table, block },
                ErrorClass::NoRoute,
            ) => {
                self.sights.written(table, *block, None, self.now);
            }
            (RouteCall::Create { table, block, .. }, ErrorClass::Conflict) => {
                self.sights.doubt(table, *block, Doubt::Exists, self.now);
                self.reads.look(self.now);
                // EC2 may say of the same route that it cannot be replaced because there is none.
                self.wait_for_subject(call, error, false);
            }
            (RouteCall::Create { table, block, .. }, ErrorClass::QuotaExceeded) => {
                self.table_is_full(table, Family::of(*block))
            }
            (_, ErrorClass::Denied) => {
                let on = call.table().map_or_else(|| subject_text(call), ToString::to_string);
                let key = match call.table() {
                    Some(table) => Key::Table(table.clone(), call.api()),
                    None => call.subject().map_or_else(|| Key::Api(call.api()), Key::Subject),
                };
                self.wait(key, true, |until| denied(error, on, until));
            }
            (_, class) => {
                if class == ErrorClass::NotFound {
                    // The table or the ENI is gone, or not there yet: find out which.
                    self.reads.discover(self.now);
                    self.reads.list_enis(self.now);
                }
                self.lost(call, class);
                let long = matches!(class, ErrorClass::Bug | ErrorClass::QuotaExceeded);
                self.wait_for_subject(call, error, long);
            }
        }
    }

    fn wait_for_subject(&mut self, call: &RouteCall, error: &CloudError, long: bool) {
        let Some(subject) = call.subject() else { return };
        let on = subject.to_string();
        self.wait(Key::Subject(subject), long, |until| failed(error, on, until));
    }

    /// The effect may have happened or not.
    fn lost(&mut self, call: &RouteCall, class: ErrorClass) {
        if class != ErrorClass::Transient {
            return;
        }
        if let Some(Subject::Route(table, block)) = call.subject() {
            self.sights.doubt(&table, block, Doubt::Lost, self.now);
        }
    }

    fn read_failed(&mut self, call: &RouteCall, error: &CloudError) {
        let class = error.class();
        if class == ErrorClass::NotFound && matches!(call, RouteCall::ReadEnis(EniQuery::ByIds(_))) {
            // One of them is gone, and EC2 shows none of the others either.
            self.reads.list_enis(self.now);
            return;
        }
        let (on, api) = (self.settings.vpc.to_string(), call.api());
        match class {
            ErrorClass::Denied => self.wait(Key::Api(api), true, |until| denied(error, on, until)),
            _ => self.wait(Key::Api(api), false, |until| failed(error, on, until)),
        }
    }

    /// The table is parked: nothing is created in it for a while, and longer each time. Its other routes are kept true all the same.
    fn table_is_full(&mut self, table: &RouteTableId, family: Family) {
        let held = self.counts().get(&(table.clone(), family)).copied().unwrap_or(0);
        let absent = self.absent_in(table, family);
        self.learned.insert((table.clone(), family), (held.saturating_sub(absent), self.now));
        self.counters.parked += 1;
        let full = table.clone();
        self.wait(Key::Full(table.clone(), family), true, |until| Problem::Full {
            table: full,
            family,
            until,
        });
    }

    /// Routes of nodes that are not in the table.
    pub(super) fn absent_in(&self, table: &RouteTableId, family: Family) -> u32 {
        let held = self.record.blocks.iter().filter(|(_, known)| known.state == BlockState::Held);
        let lacking = held.filter(|(block, _)| {
            Family::of(**block) == family
                && matches!(self.sights.seen(table, **block), Seen::Absent | Seen::Unclear)
        });
        u32::try_from(lacking.count()).unwrap_or(u32::MAX)
    }

    fn wait(&mut self, key: Key, long: bool, problem: impl FnOnce(Timestamp) -> Problem) {
        let policy = self.policy(long);
        self.backoffs.fail(key, self.now, policy, &mut self.jitter, problem);
    }
}

fn denied(error: &CloudError, on: String, until: Timestamp) -> Problem {
    Problem::Denied { permission: format!("ec2:{}", error.api), on, until, message: error.message.clone() }
}

fn failed(error: &CloudError, on: String, until: Timestamp) -> Problem {
    Problem::Failed { call: error.api.to_string(), on, until, message: error.to_string() }
}

fn subject_text(call: &RouteCall) -> String {
    call.subject().map_or_else(String::new, |subject| subject.to_string())
}
