//! The goals, and how far each was reached. The worst case counts, not the average: of all numbers of pods, and of both ways to see
//! growth (beside a node with few pods in the same rounds; against the same node before it had many).

use crate::layouts::Layout;
use crate::rounds::{BySide, Point, Side};
use crate::run::{LayoutPoint, Results, Routing};
use crate::samples::Samples;

/// How many times faster than the reference ADD is to be, one at a time and many at once.
const ADD_ADVANTAGE: f64 = 4.5;
/// The same for DEL.
const DEL_ADVANTAGE: f64 = 8.0;
/// What the most pods may cost, as a multiple of few.
const GROWTH: f64 = 1.3;
/// The same for what every packet pays.
const FLAT: f64 = 1.1;
/// Resident memory in MiB.
const PLUGIN_MIB: f64 = 6.0;
const AGENT_MIB: f64 = 20.0;

/// A goal and the worst that was measured for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    /// What.
    pub what: String,
    /// The limit.
    pub limit: f64,
    /// Whether less is better.
    pub at_most: bool,
    /// What the values count in.
    pub unit: &'static str,
    /// The worst.
    pub worst: f64,
    /// Where that was.
    pub at: String,
}

impl Goal {
    /// Whether it was reached.
    #[must_use]
    pub fn met(&self) -> bool {
        if self.at_most { self.worst <= self.limit } else { self.worst >= self.limit }
    }

    /// The goal in words.
    #[must_use]
    pub fn wanted(&self) -> String {
        format!("{} {}{}", if self.at_most { "≤" } else { "≥" }, self.limit, self.unit)
    }

    /// "met", or by how much not.
    #[must_use]
    pub fn verdict(&self) -> String {
        if self.met() {
            return "met".to_owned();
        }
        if self.at_most {
            format!("**missed**: {:.0} % above", (self.worst / self.limit - 1.0) * 100.0)
        } else {
            format!("**missed**: {:.0} % of it reached", self.worst / self.limit * 100.0)
        }
    }
}

/// All goals, judged.
#[must_use]
pub fn judge(results: &Results) -> Vec<Goal> {
    let mut goals = Vec::new();
    let ways: Vec<(u32, &str)> = vec![(1, "one at a time"), (results.plan.at_once, "at once")];
    for (verb, limit, pick) in [
        ("ADD", ADD_ADVANTAGE, (|point: &Point| &point.add) as fn(&Point) -> &BySide),
        ("DEL", DEL_ADVANTAGE, |point| &point.del),
    ] {
        for (at_once, way) in &ways {
            let way = if *at_once == 1 { (*way).to_owned() } else { format!("{at_once} {way}") };
            let points: Vec<_> = results.points.iter().filter(|point| point.at_once == *at_once).collect();
            let cases = points.iter().map(|point| (pick(point).advantage().median(), pods(point.pods)));
            goals.push(goal(
                format!("{verb}, {way}: faster than ptp + host-local"),
                limit,
                false,
                "×",
                cases,
            ));
            goals.push(growth(format!("{verb}, {way}: growth with pods"), results, &points, pick));
        }
    }
    goals.extend(routing(results));
    goals.push(memory("plugin, most resident memory", PLUGIN_MIB, results.memory.plugin, "ADD".to_owned()));
    goals.push(memory("agent, resident memory", AGENT_MIB, results.memory.agent, pods(results.memory.pods)));
    goals
}

fn goal(
    what: String,
    limit: f64,
    at_most: bool,
    unit: &'static str,
    cases: impl Iterator<Item = (f64, String)>,
) -> Goal {
    let worse = |a: &(f64, String), b: &(f64, String)| {
        let order = a.0.total_cmp(&b.0);
        if at_most { order } else { order.reverse() }
    };
    let (worst, at) = cases.max_by(worse).unwrap_or_else(|| (f64::NAN, "not measured".to_owned()));
    Goal { what, limit, at_most, unit, worst, at }
}

fn growth(what: String, results: &Results, points: &[&Point], pick: fn(&Point) -> &BySide) -> Goal {
    let (small, large) = (results.plan.small, results.plan.large());
    let at = |pods: u32| points.iter().find(|point| point.pods == pods);
    let cases = at(small).zip(at(large)).into_iter().flat_map(|(small, large)| {
        let before = pick(small).of(Side::Spur).median();
        [
            (pick(large).growth().median(), format!("{} beside {}", large.pods, small.pods)),
            (pick(large).of(Side::Spur).median() / before, format!("{} after {}", large.pods, small.pods)),
        ]
    });
    goal(what, GROWTH, true, "×", cases)
}

/// What one value of routing is called, and how many times worse one place is than another.
type Worse = (&'static str, fn(&Routing, &Routing) -> Samples);

const ROUTING: [Worse; 3] = [
    ("lookup of a pod's route", |many, few| many.to_pod.over(&few.to_pod)),
    ("lookup of another route", |many, few| many.elsewhere.over(&few.elsewhere)),
    ("packets per second", |many, few| few.packets.over(&many.packets)),
];

fn routing(results: &Results) -> Vec<Goal> {
    let own: Vec<&LayoutPoint> =
        results.layouts.iter().filter(|point| point.layout == Layout::PodsTable).collect();
    ROUTING
        .iter()
        .map(|(what, worse)| {
            let few = own.first().map(|point| &point.routing);
            let layouts = own.iter().skip(1).zip(few.into_iter().cycle()).map(|(many, few)| {
                (worse(&many.routing, few).median(), format!("{} pods, routing alone", many.pods))
            });
            let nodes = results.nodes.iter().map(|point| {
                (worse(&point.routing, &point.small).median(), format!("{} pods, whole node", point.pods))
            });
            goal(format!("{what}: flat"), FLAT, true, "×", layouts.chain(nodes))
        })
        .collect()
}

fn memory(what: &str, limit: f64, kib: u64, at: String) -> Goal {
    goal(what.to_owned(), limit, true, " MiB", std::iter::once((mib(kib), at)))
}

/// KiB as MiB.
#[must_use]
pub fn mib(kib: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let kib = kib as f64;
    kib / 1024.0
}

fn pods(pods: u32) -> String {
    format!("{pods} pods")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_case_decides() {
        let cases = |values: [f64; 2]| values.map(|value| (value, format!("{value}"))).into_iter();
        let faster = goal("faster".to_owned(), 4.5, false, "×", cases([9.0, 3.0]));
        assert_eq!((faster.worst, faster.met()), (3.0, false));
        assert_eq!(faster.verdict(), "**missed**: 67 % of it reached");
        let flat = goal("flat".to_owned(), 1.1, true, "×", cases([1.05, 1.1]));
        assert_eq!((flat.worst, flat.verdict()), (1.1, "met".to_owned()));
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        assert!(!goal("x".to_owned(), 1.0, true, "", std::iter::empty()).met());
        assert!(!goal("x".to_owned(), 1.0, false, "", std::iter::empty()).met());
    }
}
