//! `make upgrade`: replaces agents, plugins and controller of an earlier revision by the current ones, and back, under live flows.

use anyhow::Result;
use clap::Parser;
use spur_e2e::interrupt::Interrupt;
use spur_e2e::upgrade::{Build, Upgrade};
use spur_e2e::world::Mode;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Upgrades a small cluster from an earlier build, downgrades a node, and looks whether anything was lost or cut off.
#[derive(Debug, Parser)]
struct Arguments {
    /// The directory with spur and spur-ipamd of the earlier build.
    #[arg(long)]
    from: PathBuf,
    /// Where the pods of the two nodes get their addresses from.
    #[arg(long, value_enum, default_value_t = Mode::Eni)]
    mode: Mode,
    /// Where to keep what the earlier build leaves on a node.
    #[arg(long)]
    capture: Option<PathBuf>,
}

fn main() -> ExitCode {
    match upgrade(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nupgrade failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn upgrade(arguments: Arguments) -> Result<()> {
    let (interrupt, begin) = (Interrupt::register()?, Instant::now());
    let run = Upgrade {
        name: format!("upgrade-{}", std::process::id()),
        mode: arguments.mode,
        old: Build::earlier(&arguments.from)?,
        new: Build::current()?,
        capture: arguments.capture,
    };
    let say = |line: &str| println!("[{:5.1} s] {line}", begin.elapsed().as_secs_f64());
    let summary = run.run(&say, &|| interrupt.check())?;
    say(&format!("nothing cut off, nothing left: {summary}"));
    Ok(())
}
