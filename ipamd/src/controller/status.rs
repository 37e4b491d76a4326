//! What operators see of the controller: conditions in the log when they change, and everything in one file, `status.json` in the state
//! directory.

use serde_json::{Value, json};
use spur_ipamd_core::vpcroute::{Condition, Planned, Problem, View};
use std::collections::BTreeMap;

/// Name of the file.
pub(super) const STATUS_FILE: &str = "status.json";

/// The conditions as they were last told.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<&'static str, Condition>);

impl Told {
    /// Logs conditions that changed.
    pub(super) fn tell(&mut self, conditions: &[Condition]) {
        for condition in conditions {
            let before = self.0.insert(condition.name, condition.clone());
            let same =
                |before: &Condition| (before.status, before.reason) == (condition.status, condition.reason);
            if before.as_ref().is_some_and(same) {
                continue;
            }
            let Condition { name, status, reason, message } = condition;
            match status {
                true => tracing::info!(condition = name, status, reason, message, "condition"),
                false => tracing::warn!(condition = name, status, reason, message, "condition"),
            }
        }
    }
}

/// Everything, for people and scripts.
pub(super) fn render(view: &View, plan: &[Planned]) -> Value {
    let counters = &view.counters;
    let calls: BTreeMap<String, _> =
        counters.calls.iter().map(|(api, counts)| (api.to_string(), counts)).collect();
    let problem = |problem: &Problem| json!({ "kind": problem.kind(), "message": problem.to_string() });
    json!({
        "conditions": view.conditions,
        "problems": view.problems.iter().map(problem).collect::<Vec<_>>(),
        "tables": view.tables,
        "calls": calls,
        "drift": counters.drift,
        "counters": { "adopted": counters.adopted, "parked": counters.parked, "tablesGone": counters.tables_gone },
        "plan": plan.iter().map(line).collect::<Vec<_>>(),
    })
}

/// One line of a plan.
pub(super) fn line(planned: &Planned) -> String {
    use spur_ipamd_core::vpcroute::Hold;
    let held = match &planned.hold {
        Some(Hold::Problem(problem)) => format!(" – held: {problem}"),
        Some(Hold::Running | Hold::NotFresh) | None => String::new(),
    };
    format!("{} ({}){held}", planned.call, planned.reason)
}
