//! Many seeds on all cores: `make soak STEPS=… SEED=…`. One seed again, with every event and action: what a failure prints.

use crate::{OPERATIONS, run};
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// After so many failing seeds more would say nothing new.
const ENOUGH: usize = 5;
/// Progress is shown so often.
const SHARES: u64 = 40;

#[test]
#[ignore = "runs the seed in SPUR_SIM_SEED, for debugging"]
fn replay() {
    let seed = from_outside("SPUR_SIM_SEED").expect("SPUR_SIM_SEED is a number");
    if let Err(broken) = run(seed, OPERATIONS, true) {
        panic!("{broken}");
    }
}

#[test]
#[ignore = "takes minutes"]
fn soak() {
    let steps = from_outside("SPUR_SIM_STEPS").unwrap_or(10_000_000);
    let first = from_outside("SPUR_SIM_SEED").unwrap_or(1_000);
    let soak =
        Soak { steps, next: AtomicU64::new(first), done: AtomicU64::new(0), failed: Mutex::new(Vec::new()) };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| soak.work());
        }
    });
    let failed = soak.failed.into_inner().unwrap();
    let (seeds, done) = (soak.next.into_inner() - first, soak.done.into_inner());
    println!("{done} steps, {seeds} seeds from {first} on");
    assert!(failed.is_empty(), "{} seeds failed:\n{}", failed.len(), failed.join("\n"));
}

struct Soak {
    steps: u64,
    next: AtomicU64,
    done: AtomicU64,
    failed: Mutex<Vec<String>>,
}

impl Soak {
    fn over(&self) -> bool {
        self.done.load(Ordering::Relaxed) >= self.steps || self.failed.lock().unwrap().len() >= ENOUGH
    }

    fn work(&self) {
        while !self.over() {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            let outcome = catch_unwind(|| run(seed, OPERATIONS, false));
            match outcome.unwrap_or_else(|_| Err(format!("seed {seed}: a panic"))) {
                Ok(made) => self.show(self.done.fetch_add(made, Ordering::Relaxed), made),
                Err(broken) => {
                    let line = format!("{broken}\n{}", replay_command(seed));
                    println!("{line}");
                    self.failed.lock().unwrap().push(line);
                }
            }
        }
    }

    fn show(&self, before: u64, made: u64) {
        let share = |done: u64| done * SHARES / self.steps.max(1);
        if share(before) < share(before + made) {
            println!("{} of {} steps", before + made, self.steps);
        }
    }
}

/// What runs a seed again.
pub(crate) fn replay_command(seed: u64) -> String {
    format!(
        "again: SPUR_SIM_SEED={seed} cargo test --locked -p spur-ipamd-core --test simulation replay -- --ignored --nocapture"
    )
}

#[expect(clippy::disallowed_methods, reason = "a run for people takes its size and its seed from outside")]
fn from_outside(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
