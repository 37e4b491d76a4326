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
mod churn;
mod cluster;
mod harness;
mod operations;
mod scenarios;
mod shell;
mod soak;

use chaos::Chaos;
use cluster::Cluster;

/// Operations of one run; then faults end and the world must come to rest.
const OPERATIONS: u32 = 2_500;

/// Runs one seed; says how many steps the pools made, or what was broken.
fn run(seed: u64, operations: u32, print: bool) -> Result<u64, String> {
    let chaos = chaos_of(seed);
    let mut cluster = Cluster::new(seed, &chaos);
    if print {
        cluster.print();
    }
    for _ in 0..operations {
        cluster.random_step();
        let broken = cluster.violations();
        if !broken.is_empty() {
            return Err(format!("seed {seed} ({}), step {}: {broken:#?}", chaos.name, cluster.steps()));
        }
    }
    cluster.calm_down();
    let left = cluster.leftovers();
    if !left.is_empty() {
        return Err(format!("seed {seed} ({}), after the end: {left:#?}", chaos.name));
    }
    Ok(cluster.steps())
}

fn chaos_of(seed: u64) -> Chaos {
    match seed % 6 {
        0 => Chaos::calm(),
        1 => Chaos::flaky(),
        2 => Chaos::stale(),
        3 => Chaos::crashing(),
        4 => Chaos::cramped(),
        _ => Chaos::shared(),
    }
}

fn runs(first: u64, count: usize) {
    for seed in (first..).step_by(6).take(count) {
        let broken = run(seed, OPERATIONS, false).err();
        assert!(broken.is_none(), "{}\n{}", broken.unwrap(), soak::replay_command(seed));
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
fn rules_hold_when_all_that_meets_several_nodes() {
    runs(5, 8);
}
