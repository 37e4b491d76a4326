//! The controller's metrics: [`samples`] turns its view, which is made for `status.json` anyway, into samples; [`Published`] keeps the last view for those
//! who scrape.

use crate::metrics::budget::headroom;
use crate::metrics::catalog::{
    ADOPTED, BUILD, CONDITION, CONTROLLER, DRIFT, EC2_REQUESTS, FOREIGN, NODES, PARKED, PARKINGS,
    PASS_SECONDS, PROBLEMS, QUOTA, ROUTES, SYNCED, TABLES_GONE,
};
use crate::metrics::{Samples, Source};
use prometheus_client::metrics::histogram::Histogram;
use spur_ipamd_core::vpcroute::{Problem, View};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// From a pass with nothing to do to one over a thousand nodes.
const BOUNDS_SECONDS: [f64; 10] = [0.000_1, 0.000_25, 0.001, 0.002_5, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5];

/// What those who scrape are told.
#[derive(Debug)]
pub(super) struct Published {
    /// None before the first pass.
    view: Mutex<Option<Arc<View>>>,
    passes: Histogram,
}

impl Published {
    pub(super) fn new() -> Self {
        Self { view: Mutex::default(), passes: Histogram::new(BOUNDS_SECONDS) }
    }

    pub(super) fn show(&self, view: View) {
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(view));
    }

    pub(super) fn passed(&self, took: Duration) {
        self.passes.observe(took.as_secs_f64());
    }
}

impl Source for Published {
    async fn text(&self) -> String {
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut samples = view.map_or_else(Samples::default, |view| samples(&view));
        samples.level(&BUILD, &[env!("CARGO_PKG_VERSION")], 1);
        samples.times(&PASS_SECONDS, &[], self.passes.clone());
        samples.text(CONTROLLER)
    }
}

/// All samples but those of the process itself. Pure.
fn samples(view: &View) -> Samples {
    let mut samples = Samples::default();
    let nodes = &view.nodes;
    for (state, count) in [("ready", nodes.ready), ("waiting", nodes.waiting), ("fallback", nodes.fallback)] {
        samples.number(&NODES, &[state], usize::try_from(count).unwrap_or(usize::MAX));
    }
    for condition in &view.conditions {
        samples.level(&CONDITION, &[condition.name], u32::from(condition.status));
    }
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for problem in &view.problems {
        *kinds.entry(problem.kind()).or_default() += 1;
    }
    for (kind, count) in kinds {
        samples.number(&PROBLEMS, &[kind], count);
    }
    of_tables(&mut samples, view);
    of_counters(&mut samples, view);
    headroom(&mut samples, &view.headroom);
    samples
}

fn of_tables(samples: &mut Samples, view: &View) {
    for (id, table) in &view.tables {
        for (family, of) in [(&ROUTES, &table.routes), (&QUOTA, &table.quota), (&SYNCED, &table.synced)] {
            for (version, count) in of {
                samples.level(family, &[id.as_str(), version], *count);
            }
        }
        samples.number(&FOREIGN, &[id.as_str()], table.foreign.len());
    }
    let parked = view.problems.iter().filter(|problem| matches!(problem, Problem::Full { .. }));
    samples.number(&PARKED, &[], parked.count());
}

fn of_counters(samples: &mut Samples, view: &View) {
    let counters = &view.counters;
    let drift = &counters.drift;
    for (cause, count) in [
        ("missing", drift.missing),
        ("wrong_target", drift.wrong_target),
        ("blackhole", drift.blackhole),
        ("foreign", drift.foreign),
        ("check", drift.check),
        ("claim", drift.claim),
    ] {
        samples.count(&DRIFT, &[cause], count);
    }
    samples.count(&PARKINGS, &[], counters.parked);
    samples.count(&ADOPTED, &[], counters.adopted);
    samples.count(&TABLES_GONE, &[], counters.tables_gone);
    for (api, calls) in &counters.calls {
        let action = api.to_string();
        for (outcome, count) in
            [("ok", calls.succeeded), ("throttled", calls.throttled), ("failed", calls.failed)]
        {
            samples.count(&EC2_REQUESTS, &[&action, outcome], count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spur_cloud::Api;
    use spur_cloud::budget::{Headroom, Meter};
    use spur_ipamd_core::vpcroute::{
        CallCounts, Condition, Counters, DriftCounts, Family, NodeCounts, TableView,
    };

    fn view() -> View {
        let both = |v4, v6| BTreeMap::from([("IPv4".to_owned(), v4), ("IPv6".to_owned(), v6)]);
        let table = TableView {
            why: None,
            routes: both(430, 0),
            quota: both(500, 500),
            synced: both(428, 0),
            foreign: BTreeMap::from([("10.200.0.0/16".parse().unwrap(), "tgw-1".to_owned())]),
        };
        let full = Problem::Full {
            table: "rtb-1".parse().unwrap(),
            family: Family::V4,
            until: spur_ipamd_core::Timestamp::from_epoch(Duration::ZERO),
        };
        let calls = CallCounts { begun: 9, succeeded: 5, throttled: 3, failed: 1 };
        View {
            conditions: vec![Condition {
                name: "RoutesSynced",
                status: false,
                reason: "RouteLimitExceeded",
                message: "words with \"quotes\"".to_owned(),
            }],
            problems: [full, Problem::NoPodCidr].into(),
            tables: BTreeMap::from([("rtb-1".parse().unwrap(), table)]),
            nodes: NodeCounts { ready: 7, waiting: 2, fallback: 1 },
            counters: Counters {
                calls: BTreeMap::from([(Api::CreateRoute, calls)]),
                drift: DriftCounts { missing: 4, ..DriftCounts::default() },
                parked: 2,
                ..Counters::default()
            },
            headroom: BTreeMap::from([(
                Meter::of(Api::CreateRoute),
                Headroom { tokens: 12, capacity: 30, rate_percent: 50, waiting: 1 },
            )]),
        }
    }

    #[tokio::test]
    async fn a_view_becomes_samples_of_bounded_labels() {
        let published = Published::new();
        let before = published.text().await;
        assert!(before.contains("spur_controller_pass_duration_seconds_count 0\n"), "{before}");
        published.show(view());
        published.passed(Duration::from_millis(3));
        let text = published.text().await;
        for line in [
            "spur_controller_nodes{state=\"ready\"} 7.0",
            "spur_controller_nodes{state=\"waiting\"} 2.0",
            "spur_controller_condition{condition=\"RoutesSynced\"} 0.0",
            "spur_controller_problems{kind=\"RouteLimitExceeded\"} 1.0",
            "spur_controller_problems{kind=\"NoPodCidr\"} 1.0",
            "spur_route_table_routes{table=\"rtb-1\",family=\"IPv4\"} 430.0",
            "spur_route_table_quota{table=\"rtb-1\",family=\"IPv4\"} 500.0",
            "spur_route_table_synced_routes{table=\"rtb-1\",family=\"IPv4\"} 428.0",
            "spur_route_table_foreign_routes{table=\"rtb-1\"} 1.0",
            "spur_route_tables_parked 1.0",
            "spur_route_table_parkings_total 2",
            "spur_route_drift_total{cause=\"missing\"} 4",
            "spur_ec2_requests_total{action=\"CreateRoute\",outcome=\"throttled\"} 3",
            "spur_ec2_budget_tokens{action=\"CreateRoute\"} 12.0",
            "spur_ec2_budget_rate_ratio{action=\"CreateRoute\"} 0.5",
            "spur_controller_pass_duration_seconds_bucket{le=\"0.01\"} 1",
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "{line} in {text}");
        }
        assert!(!text.contains("quotes"), "what people read is in no label");
    }
}
