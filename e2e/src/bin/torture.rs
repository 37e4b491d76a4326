//! `make torture`: kills agents, plugins and the controller with SIGKILL at random instants, thousands of times, under pods that come and go and a cloud with faults, and
//! compares after each round what store, kernel, cloud and pods say.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use spur_e2e::torture::Torture;
use spur_e2e::world::Mode;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Kills Spur's processes again and again, and looks whether anything was lost, doubled, leaked or cut off.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where all chance comes from; without it one that was never used before.
    #[arg(long)]
    seed: Option<u64>,
    /// Rounds.
    #[arg(long, default_value_t = 60)]
    rounds: u64,
    /// The number of the first round: a later one replays a part of a longer run.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Where the pods of the two nodes get their addresses from.
    #[arg(long, value_enum, default_value_t = Mode::Eni)]
    mode: Mode,
}

fn main() -> ExitCode {
    match torture(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ntorture failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn torture(arguments: &Arguments) -> Result<()> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("listen for signals")?;
    }
    let begin = Instant::now();
    let seed = arguments.seed.unwrap_or_else(fresh_seed);
    println!("seed {seed}, rounds {} to {}", arguments.first, arguments.first + arguments.rounds - 1);
    let run = Torture {
        name: format!("torture-{}", std::process::id()),
        mode: arguments.mode,
        seed,
        first: arguments.first,
        rounds: arguments.rounds,
    };
    let say = |line: &str| println!("[{:6.1} s] {line}", begin.elapsed().as_secs_f64());
    let survived = run.run(&say, &|| {
        ensure!(!interrupted.load(Ordering::Relaxed), "interrupted");
        Ok(())
    })?;
    say(&format!("nothing lost, doubled, leaked or cut off: {}", survived.summary));
    Ok(())
}

fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs()
}
