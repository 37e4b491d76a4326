//! `make bench`: measures, writes the report and the picture, prints the goals. A missed goal does not fail the command; what cannot be
//! measured does.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use spur_benches::plan::Plan;
use spur_benches::{goals, plot, report, run};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Measures Spur beside ptp with host-local, and its routing beside rules per pod.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where performance.md and performance.svg are written.
    #[arg(long, default_value = "docs")]
    out: PathBuf,
    /// Seconds instead of minutes: shows that measuring works, the numbers mean nothing.
    #[arg(long)]
    quick: bool,
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
    ensure!(arguments.out.is_dir(), "{} is no directory", arguments.out.display());
    let plan = if arguments.quick { Plan::quick() } else { Plan::full() };
    let begin = Instant::now();
    let say = |text: &str| println!("[{:6.1} s] {text}", begin.elapsed().as_secs_f64());
    let results = run::run(&plan, &say)?;
    for (name, text) in [
        ("performance.md", report::markdown(&results, "performance.svg")),
        ("performance.svg", plot::svg(&results)),
    ] {
        let path = arguments.out.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    say(&format!("performance.md and performance.svg are in {}", arguments.out.display()));
    println!("\n{}", report::goals(&goals::judge(&results)));
    Ok(())
}
