//! `spur-ipamd agent --config FILE`: reads the configuration, starts the logs, runs the agent until SIGTERM or SIGINT.
//! `spur-ipamd store FILE` shows what a store holds.
//!
//! Exit codes: 0 after a stop on request, 1 when the agent cannot run, 2 when the command line or the configuration is wrong.

use clap::{Parser, Subcommand};
use spur_cloud_aws::imds::{Imds, InstanceIdentity};
use spur_cloud_aws::{AwsCloud, AwsOptions};
use spur_ipamd::agent::clock::Clock;
use spur_ipamd::agent::kernel::NodeKernel;
use spur_ipamd::agent::{World, run};
use spur_ipamd::chain::chain;
use spur_ipamd::config::{Config, LogConfig, LogFormat};
use spur_ipamd::store::books::Books;
use spur_ipamd::store::peek;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Threads of the runtime: the agent waits far more than it computes, and nodes are small.
const WORKERS: usize = 2;
/// What blocking work may take to end after the agent is done; none of it is needed any more.
const LAST_WORK: Duration = Duration::from_millis(500);

#[derive(Parser)]
#[command(name = "spur-ipamd", version, about = "Gives pods addresses of the cloud's own network")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs on each node: keeps its pool of addresses and serves the CNI plugin.
    Agent {
        /// The configuration, a YAML file; an empty one is complete.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Shows as JSON what a store holds: the agent's own, or one that was set aside. Changes nothing.
    Store {
        /// The file, `agent.redb` in the state directory.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Agent { config } => run_agent(&config),
        Command::Store { file } => show_store(&file),
    }
}

fn show_store(file: &Path) -> ExitCode {
    match peek(file, Books::decode) {
        Ok(books) => {
            println!("{:#}", books.show());
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, 1),
    }
}

fn run_agent(config: &Path) -> ExitCode {
    let config = match Config::load(config) {
        Ok(config) => config,
        Err(error) => return fail(&error, 2),
    };
    start_logs(config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, 1),
    };
    let result = runtime.block_on(agent(config));
    runtime.shutdown_timeout(LAST_WORK);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&*error, 1),
    }
}

async fn agent(config: Config) -> Result<(), Box<dyn Error>> {
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone())?;
    let world = World {
        metadata: Imds::new(None)?,
        kernel: Arc::new(NodeKernel::new()),
        clock: Clock::start(),
        boot_id: std::fs::read_to_string(BOOT_ID)?.trim().to_owned(),
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), socket = %config.socket.display(), "agent starts");
    let connect =
        async |identity: &InstanceIdentity| AwsCloud::new(&AwsOptions::new(identity.region.clone())).await;
    run(config, world, connect, stop).await?;
    Ok(())
}

fn stop_on_signals(stop: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}

fn start_logs(config: LogConfig) {
    // The SDK's own spans would drown the agent's decisions; its warnings are kept.
    let filter = tracing_subscriber::EnvFilter::new(format!(
        "warn,spur_ipamd={}",
        config.level.as_str().to_lowercase()
    ));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.init(),
    }
}

fn fail(error: &(dyn Error + 'static), code: u8) -> ExitCode {
    eprintln!("spur-ipamd: {}", chain(error));
    ExitCode::from(code)
}
