//! What happens in a round, as data: drawn from the seed and the round's number, so that it can be shown and drawn again.

use super::dice::Dice;
use serde_json::{Value, json};

/// A time in milliseconds, from and to.
pub type Range = (u64, u64);

/// The schedule of one round; what each worker does with it is drawn as it goes.
#[derive(Debug, Clone, PartialEq)]
pub struct RoundPlan {
    /// How long pods come and go.
    pub churn_millis: u64,
    /// Pods that each worker aims at.
    pub pods: usize,
    /// Of a hundred executions of the plugin, so many are killed.
    pub plugin_kills: usize,
    /// After how long.
    pub fuse: Range,
    /// How long an agent lives.
    pub agent_lives: Range,
    /// How long the node has none.
    pub agent_away: Range,
    /// What is wrong with the cloud.
    pub faults: Vec<Value>,
    /// Whether an ENI without pods vanishes, too.
    pub vanish: bool,
    /// So many addresses does each node lose while it has no agent, at the end; pods' among them.
    pub lost: usize,
    /// Whether a machine on the controller's list ends.
    pub ends: bool,
}

/// The most that a worker aims at: with three workers and an anchor or two that is all an m5.large has.
const MOST_PODS: usize = 8;

impl RoundPlan {
    /// The plan of this round.
    #[must_use]
    pub fn draw(seed: u64, round: u64) -> Self {
        let mut dice = Dice::of(seed, &[round]);
        let agent_lives = [(50, 700), (300, 1500), (800, 3000)][dice.below(3)];
        let mut faults = Vec::new();
        for _ in 0..dice.below(5) {
            let fault = fault(&mut dice, faults.len());
            faults.push(fault);
        }
        // Setting another fault ends an attachment's being stuck for good, and the agent gives it up after minutes only.
        let stuck = faults.iter().any(|fault| fault["kind"] == "stuck");
        Self {
            churn_millis: 3000 + 1000 * dice.below(5) as u64,
            pods: 1 + dice.below(MOST_PODS),
            plugin_kills: [15, 40, 70][dice.below(3)],
            fuse: [(0, 6), (0, 20), (0, 120)][dice.below(3)],
            agent_lives,
            agent_away: [(0, 5), (0, 200), (100, 600)][dice.below(3)],
            faults,
            vanish: dice.chance(40) && !stuck,
            lost: if dice.chance(30) { 1 + dice.below(3) } else { 0 },
            ends: dice.chance(30) && !stuck,
        }
    }
}

const WRITES: [&str; 7] = [
    "CreateNetworkInterface",
    "AttachNetworkInterface",
    "AssignPrivateIpAddresses",
    "UnassignPrivateIpAddresses",
    "CreateRoute",
    "ReplaceRoute",
    "ModifyNetworkInterfaceAttribute",
];
const REMOVALS: [&str; 3] = ["DetachNetworkInterface", "DeleteNetworkInterface", "DeleteRoute"];

/// One fault. A permission that is missing makes an agent wait for minutes: until it is killed, because the next one does not know of that.
fn fault(dice: &mut Dice, number: usize) -> Value {
    let subnet = if dice.chance(50) { "a" } else { "b" };
    let mut fault = match dice.below(16) {
        0 => json!({"kind": "throttle", "capacity": 3, "refillPerSecond": 2}),
        1 => json!({"kind": "error", "code": "InternalError", "probability": 0.4}),
        2 => json!({"kind": "error", "code": "ServiceUnavailable", "every": 2}),
        3 => json!({
            "kind": "error", "code": "InsufficientFreeAddressesInSubnet", "probability": 0.6,
            "actions": ["CreateNetworkInterface", "AssignPrivateIpAddresses"],
        }),
        4 => json!({"kind": "lostReply", "probability": 0.4, "actions": WRITES}),
        5 => json!({"kind": "lostReply", "probability": 0.5, "actions": REMOVALS}),
        6 => json!({"kind": "timeout", "millis": 700, "probability": 0.3}),
        7 => json!({"kind": "slow", "millis": 100 + 100 * dice.below(6), "probability": 0.5}),
        8 => json!({"kind": "stale", "lagMillis": 300 + 100 * dice.below(9), "probability": 0.5}),
        9 => json!({"kind": "late", "millis": 300 + 300 * dice.below(6)}),
        10 => json!({"kind": "stuck", "untilMillis": 1500, "actions": ["AttachNetworkInterface"]}),
        11 => json!({"kind": "fillSubnet", "subnet": subnet, "leave": dice.below(3)}),
        12 => json!({"kind": "fragmentSubnet", "subnet": subnet, "leave": dice.below(2)}),
        13 => {
            let all = [&WRITES[..], &REMOVALS[..]].concat();
            json!({"kind": "deny", "actions": [all[dice.below(all.len())]]})
        }
        14 => json!({"kind": "imdsError", "status": 503, "probability": 0.3}),
        _ => json!({"kind": "imdsTimeout", "millis": 400, "probability": 0.2}),
    };
    fault["name"] = json!(format!("f{number}-{}", fault["kind"].as_str().unwrap_or_default().to_lowercase()));
    fault
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_round_is_drawn_the_same_again_and_rounds_differ() {
        assert_eq!(RoundPlan::draw(3, 9), RoundPlan::draw(3, 9));
        let plans: BTreeSet<String> =
            (0..50).map(|round| format!("{:?}", RoundPlan::draw(3, round))).collect();
        assert!(plans.len() > 40, "{} of 50 differ", plans.len());
    }

    #[test]
    fn every_kind_of_fault_comes_within_a_hundred_rounds() {
        let faults = (0..100).flat_map(|round| RoundPlan::draw(1, round).faults);
        let kinds: BTreeSet<String> = faults.map(|fault| fault["kind"].to_string()).collect();
        assert_eq!(kinds.len(), 13, "{kinds:?}");
    }
}
