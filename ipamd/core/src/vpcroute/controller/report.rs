//! What operators are told: conditions, counters and the state of each table.

use super::super::call::{Reason, RouteCall};
use super::super::plan::{Hold, Planned};
use super::super::problem::Problem;
use super::super::record::BlockState;
use super::super::settings::Nodes;
use super::super::sight::{Seen, is_foreign, origin_name};
use super::super::{Family, Why};
use super::{Controller, NodeCounts};
use ipnet::IpNet;
use serde::Serialize;
use spur_cloud::budget::{Headroom, Meter};
use spur_cloud::{Api, RouteTableId, RouteTarget};
use std::collections::{BTreeMap, BTreeSet};

/// A statement about the whole, as Kubernetes writes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which: `RoutesSynced`, `QuotaHeadroom` or `PoolValid`.
    pub name: &'static str,
    /// Whether it holds.
    pub status: bool,
    /// In a word.
    pub reason: &'static str,
    /// In words.
    pub message: String,
}

/// Calls of an action.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct CallCounts {
    pub begun: u64,
    pub succeeded: u64,
    pub throttled: u64,
    pub failed: u64,
}

/// Differences that somebody else caused, by cause (R11).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names say it")]
pub struct DriftCounts {
    pub missing: u64,
    pub wrong_target: u64,
    pub blackhole: u64,
    pub foreign: u64,
    pub check: u64,
    pub claim: u64,
}

/// Everything that is counted since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Counters {
    pub calls: BTreeMap<Api, CallCounts>,
    pub drift: DriftCounts,
    pub adopted: u64,
    pub parked: u64,
    pub tables_gone: u64,
}

/// A managed table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TableView {
    /// Why it is managed; none: no node needs it any more, and after a while our routes go.
    pub why: Option<Why>,
    /// Routes of each family, with those that are to come.
    pub routes: BTreeMap<String, u32>,
    /// How many of each it may hold.
    pub quota: BTreeMap<String, u32>,
    /// Nodes' routes of each family that are as they should be.
    pub synced: BTreeMap<String, u32>,
    /// Routes of other origins or other targets inside the pool, which are left alone (R12).
    pub foreign: BTreeMap<IpNet, String>,
}

/// What is to be seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Statements about the whole.
    pub conditions: Vec<Condition>,
    /// What stands in the way anywhere, weightiest first.
    pub problems: BTreeSet<Problem>,
    /// Tables.
    pub tables: BTreeMap<RouteTableId, TableView>,
    /// Nodes.
    pub nodes: NodeCounts,
    /// Counters.
    pub counters: Counters,
    /// What is left of each bucket of EC2's that was used.
    pub headroom: BTreeMap<Meter, Headroom>,
}

impl Controller {
    /// Counts what somebody else changed since the last read, and notes what is in sync now.
    pub(super) fn note_drift(&mut self) {
        let (mut synced, mut drift) = (BTreeMap::new(), self.counters.drift.clone());
        for (block, known) in self.record.blocks.iter().filter(|(_, known)| known.state == BlockState::Held) {
            let Some(target) = self.targets.get(&known.node) else { continue };
            for table in self.managed() {
                let key = (table.clone(), *block);
                let was = self.synced.get(&key) == Some(&target.eni);
                match self.sights.seen(table, *block) {
                    Seen::ToEni { eni, blackhole: false, confirmed, .. } if eni == target.eni => {
                        if confirmed || was {
                            synced.insert(key, eni);
                        }
                    }
                    Seen::ToEni { eni, .. } if eni == target.eni => drift.blackhole += u64::from(was),
                    Seen::ToEni { .. } => drift.wrong_target += u64::from(was),
                    Seen::Absent => drift.missing += u64::from(was),
                    Seen::Foreign(_) => drift.foreign += u64::from(was),
                    Seen::Unclear => {}
                }
            }
        }
        (self.synced, self.counters.drift) = (synced, drift);
    }

    /// What is to be seen from outside.
    #[must_use]
    pub fn view(&self) -> View {
        let mut problems = BTreeSet::new();
        problems.extend(self.not_observed());
        problems.extend(self.no_nodes());
        problems.extend(self.backoffs.waits(self.now).map(|(_, problem)| problem.clone()));
        problems.extend(self.discovery_problems());
        if self.not_observed().is_none() {
            problems
                .extend(self.nodes.iter().flat_map(Nodes::keys).flat_map(|node| self.node_problems(node)));
            problems.extend(self.refusals.values().flatten().cloned());
            problems.extend(self.plan().into_iter().filter_map(delete_problem));
            problems.extend(self.orphans());
            problems.extend(self.departing());
            problems
                .extend(self.pool_mistakes.iter().map(|mistake| Problem::Pool { mistake: mistake.clone() }));
        }
        let tables = self.table_views();
        let conditions = vec![routes_synced(&problems), self.quota_headroom(&tables), self.pool_valid()];
        View {
            conditions,
            problems,
            tables,
            nodes: self.node_counts(),
            counters: self.counters.clone(),
            headroom: self.budget.headroom(self.now.since_epoch()),
        }
    }

    fn discovery_problems(&self) -> impl Iterator<Item = Problem> {
        let found = &self.discovery;
        let edges = found.edges.iter().map(|table| Problem::EdgeTable { table: table.clone() });
        let absent = found.absent.iter().map(|table| Problem::AbsentTable { table: table.clone() });
        let without = found.without.iter().map(|subnet| Problem::NoTable { subnet: subnet.clone() });
        let missing = self.sights.iter().filter(|sight| sight.missing.is_some());
        let missing = missing.map(|sight| Problem::TableMissing { table: sight.table.id.clone() });
        edges.chain(absent).chain(without).chain(missing)
    }

    fn orphans(&self) -> Vec<Problem> {
        let mut orphans = Vec::new();
        for sight in self.record.tables.keys().filter_map(|table| self.sights.get(table)) {
            for (destination, route) in sight.routes() {
                let RouteTarget::Eni(eni) = &route.target else { continue };
                let known = self.record.blocks.contains_key(destination);
                if !known && !is_foreign(route) && self.settings.pool.is_block(*destination) {
                    let (table, eni) = (sight.table.id.clone(), eni.clone());
                    orphans.push(Problem::Orphan { table, destination: *destination, eni });
                }
            }
        }
        orphans
    }

    fn table_views(&self) -> BTreeMap<RouteTableId, TableView> {
        let counts = self.counts();
        let by_family = |of: &dyn Fn(Family) -> u32| {
            Family::ALL.into_iter().map(|family| (family.to_string(), of(family))).collect()
        };
        let view = |table: &RouteTableId| {
            let sight = self.sights.get(table);
            let routes = sight.into_iter().flat_map(|sight| sight.routes());
            let foreign = routes.filter(|(net, route)| {
                let near =
                    self.settings.pool.cidrs.iter().any(|cidr| super::super::family::overlap(*cidr, **net));
                near && is_foreign(route)
            });
            TableView {
                why: self.discovery.managed.get(table).cloned(),
                routes: by_family(&|family| counts.get(&(table.clone(), family)).copied().unwrap_or(0)),
                quota: by_family(&|family| self.quota(table, family)),
                synced: by_family(&|family| self.synced_in(table, family)),
                foreign: foreign
                    .map(|(net, route)| (*net, format!("{} ({})", route.target, origin_name(&route.origin))))
                    .collect(),
            }
        };
        self.record.tables.keys().map(|table| (table.clone(), view(table))).collect()
    }

    fn quota_headroom(&self, tables: &BTreeMap<RouteTableId, TableView>) -> Condition {
        let mut worst: Option<(u32, String)> = None;
        for (table, view) in tables {
            for (family, routes) in &view.routes {
                let quota = view.quota.get(family).copied().unwrap_or(0).max(1);
                let percent = routes.saturating_mul(100) / quota;
                let text = format!("{table} holds {routes} of {quota} {family} routes ({percent} %)");
                if worst.as_ref().is_none_or(|(most, _)| percent > *most) {
                    worst = Some((percent, text));
                }
            }
        }
        let (percent, message) = worst.unwrap_or_else(|| (0, "no table is managed".to_owned()));
        let status = percent < self.settings.quota.admission_percent;
        let reason = if status { "Enough" } else { "AdmissionLimitReached" };
        Condition { name: "QuotaHeadroom", status, reason, message }
    }

    fn pool_valid(&self) -> Condition {
        let list: Vec<String> = self.pool_mistakes.iter().map(ToString::to_string).collect();
        let (status, reason) = if list.is_empty() { (true, "Valid") } else { (false, "PoolRefused") };
        let message = if status { "the pool collides with nothing".to_owned() } else { list.join("; ") };
        Condition { name: "PoolValid", status, reason, message }
    }
}

/// A delete that is due says that a route was left, or why nothing is deleted.
fn delete_problem(planned: Planned) -> Option<Problem> {
    match (planned.call, planned.reason, planned.hold) {
        (RouteCall::Delete { .. }, _, Some(Hold::Problem(problem))) => Some(problem),
        (RouteCall::Delete { table, block }, Reason::NodeLeft { .. } | Reason::TableLeft, _) => {
            Some(Problem::Leaving { table, block })
        }
        _ => None,
    }
}

fn routes_synced(problems: &BTreeSet<Problem>) -> Condition {
    let mut wrong = problems.iter().filter(|problem| !problem.is_notice());
    let (first, more) = (wrong.next(), wrong.count());
    match first {
        None => Condition {
            name: "RoutesSynced",
            status: true,
            reason: "Synced",
            message: "every node's routes are active in every managed table".to_owned(),
        },
        Some(first) => {
            let rest = if more == 0 { String::new() } else { format!(" (and {more} more)") };
            Condition {
                name: "RoutesSynced",
                status: false,
                reason: first.kind(),
                message: format!("{first}{rest}"),
            }
        }
    }
}
