//! What a day costs: pods come and go for three days, and the addresses that the node holds are averaged. Beside it, on the same pods, the
//! default rule of the VPC CNI.
//!
//! The model: pods come as a Poisson process and live for an exponentially distributed time, one hour in the mean. The rate
//! follows the day: 30 % more in the afternoon, 30 % less at night. Time and chance are the simulation's, so a run repeats.

mod rule;
mod spur;

use rule::{Rule, Unit};
use spur_ipamd_core::{Jitter, PrefixDelegation};
use std::collections::BTreeSet;
use std::f64::consts::TAU;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
const DAYS: u32 = 3;
const LIFETIME: Duration = Duration::from_secs(3600);
const SWING: f64 = 0.3;
/// Between two samples.
const SAMPLE: Duration = Duration::from_secs(30);

/// A pod comes or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    at: Duration,
    pod: usize,
    comes: bool,
}

fn uniform(rng: &mut Jitter) -> f64 {
    // 53 bits are what a double holds; never 0, because its logarithm is taken.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let number = ((rng.bits() >> 11) + 1) as f64;
    number / 9_007_199_254_740_993.0
}

fn exponential(rng: &mut Jitter, mean: Duration) -> Duration {
    mean.mul_f64(-uniform(rng).ln())
}

/// The pods of three days, `mean` of them at a time; so many are there from the start.
fn pods(mean: u32, seed: u64) -> BTreeSet<Turn> {
    let mut rng = Jitter::new(seed);
    let mut turns = BTreeSet::new();
    let mut number = 0;
    let mut live = |from: Duration, rng: &mut Jitter| {
        turns.insert(Turn { at: from, pod: number, comes: true });
        turns.insert(Turn { at: from + exponential(rng, LIFETIME), pod: number, comes: false });
        number += 1;
    };
    for _ in 0..mean {
        live(Duration::ZERO, &mut rng);
    }
    // Thinning: pods of the busiest hour, of which those of quieter hours are left out.
    let busiest = LIFETIME.div_f64(f64::from(mean) * (1.0 + SWING));
    let mut at = exponential(&mut rng, busiest);
    while at < DAY * DAYS {
        let share = 1.0 + SWING * (TAU * at.as_secs_f64() / DAY.as_secs_f64()).sin();
        if uniform(&mut rng) * (1.0 + SWING) < share {
            live(at, &mut rng);
        }
        at += exponential(&mut rng, busiest);
    }
    turns.retain(|turn| turn.at < DAY * DAYS);
    turns
}

/// What came out.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outcome {
    /// Pods that ran, in the mean.
    pub(super) pods: f64,
    /// Addresses for pods that the node held, in the mean.
    pub(super) held: f64,
    /// Calls that change something.
    pub(super) changes: usize,
    /// Calls that read.
    pub(super) reads: usize,
    /// Pods that waited for longer than a second.
    pub(super) waited: usize,
}

/// Something that has a node's addresses.
trait Holder {
    fn turn(&mut self, turn: Turn);
    /// Lets time pass until then.
    fn pass_until(&mut self, at: Duration);
    /// Pods and addresses now.
    fn count(&self) -> (usize, usize);
    /// Everything but the means.
    fn outcome(&self) -> Outcome;
}

fn three_days(holder: &mut impl Holder, turns: &BTreeSet<Turn>) -> Outcome {
    let mut turns = turns.iter().peekable();
    let (mut samples, mut pods, mut held) = (0_u32, 0_usize, 0_usize);
    while SAMPLE * samples < DAY * DAYS {
        let until = SAMPLE * (samples + 1);
        while let Some(turn) = turns.next_if(|turn| turn.at < until) {
            holder.pass_until(turn.at);
            holder.turn(*turn);
        }
        holder.pass_until(until);
        let now = holder.count();
        (samples, pods, held) = (samples + 1, pods + now.0, held + now.1);
    }
    let mean = |sum: usize| f64::from(u32::try_from(sum).unwrap()) / f64::from(samples);
    Outcome { pods: mean(pods), held: mean(held), ..holder.outcome() }
}

fn spur(delegation: PrefixDelegation, mean: u32) -> Outcome {
    three_days(&mut spur::Node::new(delegation), &pods(mean, 7))
}

fn rule(unit: Unit, mean: u32) -> Outcome {
    three_days(&mut Rule::new(unit), &pods(mean, 7))
}

#[test]
fn three_days_with_60_pods_in_prefix_mode_hold_83_addresses_at_most() {
    let outcome = spur(PrefixDelegation::On, 60);
    assert!((56.0..64.0).contains(&outcome.pods), "{outcome:?}");
    assert!(outcome.held <= 83.0, "{outcome:?}");
}

#[test]
fn three_days_with_140_pods_in_prefix_mode_hold_169_addresses_at_most() {
    let outcome = spur(PrefixDelegation::On, 140);
    assert!((134.0..146.0).contains(&outcome.pods), "{outcome:?}");
    assert!(outcome.held <= 169.0, "{outcome:?}");
}

#[test]
fn three_days_hold_fewer_addresses_than_the_default_rule_of_the_vpc_cni() {
    for mean in [60, 140] {
        let (ours, theirs) = (spur(PrefixDelegation::Off, mean), rule(Unit::Address, mean));
        assert!(ours.held < theirs.held, "{mean} pods, single addresses: {ours:?} {theirs:?}");
        let (ours, theirs) = (spur(PrefixDelegation::On, mean), rule(Unit::Prefix, mean));
        assert!(ours.held < theirs.held, "{mean} pods, prefixes: {ours:?} {theirs:?}");
    }
}

#[test]
#[ignore = "prints the table of docs/simulation.md"]
fn figures() {
    println!(
        "| pods | addresses come as | who | pods, mean | held, mean | calls that change | reads | pods that waited > 1 s |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for mean in [60, 140] {
        for (kind, delegation, unit) in [
            ("single addresses", PrefixDelegation::Off, Unit::Address),
            ("prefixes", PrefixDelegation::On, Unit::Prefix),
        ] {
            for (who, outcome) in [("Spur", spur(delegation, mean)), ("default rule", rule(unit, mean))] {
                let Outcome { pods, held, changes, reads, waited } = outcome;
                println!(
                    "| {mean} | {kind} | {who} | {pods:.1} | {held:.1} | {changes} | {reads} | {waited} |"
                );
            }
        }
    }
}
