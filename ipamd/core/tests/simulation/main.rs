//! The pool against the in-memory cloud, in virtual time: random pods, random failures, lost and late answers, stale reads, crashes between any
//! two steps. After every step the rules that hold always are checked from outside, on what the cloud, the kernel, the store
//! and the pods themselves know, never on what the pool believes.
//!
//! That it would notice was tried by breaking the pool by hand, one rule at a time: cooldown cut short or forgotten by a restart; holdings,
//! creations, releases or removals forgotten by a restart; answers before the store; addresses used before, or given back before,
//! the kernel knows; ENIs removed with pods or resting addresses; EC2 obeyed or believed at once when it does not show an
//! address; stale readings taken up; releases undone or addresses handed out while an unclear call is on its way; calls or creations
//! under way not counted; limits too high by one; creations repeated with another token, given up, or not searched; intents never
//! closed. Each was caught. Not caught alone: judging an ENI by a reading begun before its last change, because what a reading does not
//! show is also believed only after a time.
//!
//! A failing run prints its seed; `SPUR_SIM_SEED=<seed> cargo test -p spur-ipamd-core --test simulation replay -- --ignored
//! --nocapture` runs it again with every action printed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod chaos;
mod check;
mod harness;
mod scenarios;

use chaos::Chaos;
use harness::Sim;

/// Steps of one run; then faults end and the world must come to rest.
const STEPS: u32 = 2_500;

fn run(seed: u64, chaos: Chaos, steps: u32, print: bool) {
    let name = chaos.name;
    let mut sim = Sim::new(seed, chaos);
    sim.print = print;
    for _ in 0..steps {
        sim.random_step();
        let violations = sim.violations();
        assert!(violations.is_empty(), "seed {seed} ({name}), step {}: {violations:#?}", sim.steps);
    }
    sim.calm_down();
    let left = sim.leftovers();
    assert!(left.is_empty(), "seed {seed} ({name}), after the end: {left:#?}");
}

fn chaos_of(seed: u64) -> Chaos {
    match seed % 5 {
        0 => Chaos::calm(),
        1 => Chaos::flaky(),
        2 => Chaos::stale(),
        3 => Chaos::crashing(),
        _ => Chaos::cramped(),
    }
}

fn runs(first: u64, count: u64) {
    for seed in (first..).step_by(5).take(usize::try_from(count).unwrap()) {
        run(seed, chaos_of(seed), STEPS, false);
    }
}

#[test]
fn rules_hold_in_a_calm_world() {
    runs(0, 6);
}

#[test]
fn rules_hold_when_calls_fail_and_answers_are_lost_or_late() {
    runs(1, 10);
}

#[test]
fn rules_hold_when_reads_lag() {
    runs(2, 12);
}

#[test]
fn rules_hold_through_crashes_at_any_point() {
    runs(3, 14);
}

#[test]
fn rules_hold_when_subnets_run_full_and_others_meddle() {
    runs(4, 8);
}

#[test]
#[ignore = "runs the seed in SPUR_SIM_SEED, for debugging"]
fn replay() {
    let seed = option_env_seed().expect("SPUR_SIM_SEED is a number");
    run(seed, chaos_of(seed), STEPS, true);
}

#[test]
#[ignore = "takes minutes"]
fn soak() {
    let first = option_env_seed().unwrap_or(1_000);
    for seed in first..first + 4_000 {
        run(seed, chaos_of(seed), STEPS, false);
    }
}

#[expect(clippy::disallowed_methods, reason = "a test for debugging takes its seed from outside")]
fn option_env_seed() -> Option<u64> {
    std::env::var("SPUR_SIM_SEED").ok()?.parse().ok()
}
