//! The command line: `serve` (the API alone), `up` (the whole world), `down` (what a killed `up` left behind).
//!
//! Standard output carries exactly one line, the JSON description of what was started; everything else goes to standard
//! error. Exit status: 0 after an orderly end, 1 when something failed, 2 for a wrong command line.

use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use vpcsim::{down, serve, up};

/// A VPC on one Linux machine: EC2's API, instance metadata and a network that behaves like Amazon's.
#[derive(Parser)]
#[command(name = "vpcsim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the EC2 API alone: no root, no network namespaces.
    Serve(Source),
    /// Build the world of a scenario and keep it until SIGTERM or SIGINT.
    Up {
        #[command(flatten)]
        source: Source,
        /// Remove what a killed process left under this name, first.
        #[arg(long)]
        replace: bool,
    },
    /// Remove what a killed `up` left behind.
    Down {
        /// The world's name.
        #[arg(long)]
        name: String,
    },
}

#[derive(Args)]
struct Source {
    /// The scenario file (YAML).
    #[arg(long, value_name = "FILE")]
    scenario: PathBuf,
    /// Use this name for the world instead of the scenario's.
    #[arg(long)]
    name: Option<String>,
    /// Where the EC2 API listens in the namespace of the caller; it must be a loopback address.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("VPCSIM_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vpcsim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(source) => {
            let scenario = vpcsim::scenario::load(&source.scenario, source.name.as_deref())?;
            Ok(serve::run(&scenario, source.listen)?)
        }
        Command::Up { source, replace } => {
            let scenario = vpcsim::scenario::load(&source.scenario, source.name.as_deref())?;
            let leftovers = if replace { up::Leftovers::Remove } else { up::Leftovers::Refuse };
            Ok(up::run(&scenario, source.listen, leftovers)?)
        }
        Command::Down { name } => Ok(down::run(&name)?),
    }
}
