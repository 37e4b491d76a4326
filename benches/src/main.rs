//! `make bench`: measures, writes the report and the picture, prints the goals. A missed goal does not fail the command; what cannot be
//! measured does.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use spur_benches::plan::Plan;
use spur_benches::progress::Progress;
use spur_benches::{goals, plot, report, run};
use std::path::PathBuf;
use std::process::ExitCode;

/// Measures Spur beside ptp with host-local, and its routing beside rules per pod.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where performance.md and performance.svg are written.
    #[arg(long, default_value = "docs")]
    out: PathBuf,
    /// Seconds instead of minutes: shows that measuring works, the numbers mean nothing.
    #[arg(long)]
    quick: bool,
    /// Only ADD and DEL with these numbers of pods present, printed and not written: for who works on them.
    #[arg(long, value_name = "PODS", value_delimiter = ',', conflicts_with = "quick")]
    verbs: Vec<u32>,
    /// How many rounds of one pod at a time, with --verbs.
    #[arg(long, requires = "verbs")]
    rounds: Option<u32>,
}

fn main() -> ExitCode {
    match bench(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> Result<()> {
    let progress = Progress::begin()?;
    if !arguments.verbs.is_empty() {
        let mut plan = Plan::narrow(arguments.verbs.clone());
        plan.rounds = arguments.rounds.unwrap_or(plan.rounds);
        let points = run::run_verbs(&plan, &progress)?;
        println!("\n{}", report::verbs(&plan, &points));
        return Ok(());
    }
    ensure!(arguments.out.is_dir(), "{} is no directory", arguments.out.display());
    let plan = if arguments.quick { Plan::quick() } else { Plan::full() };
    let results = run::run(&plan, &progress)?;
    for (name, text) in [
        ("performance.md", report::markdown(&results, "performance.svg")),
        ("performance.svg", plot::svg(&results)),
    ] {
        let path = arguments.out.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    progress.say(&format!("performance.md and performance.svg are in {}", arguments.out.display()));
    println!("\n{}", report::goals(&goals::judge(&results)));
    Ok(())
}
