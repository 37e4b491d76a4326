//! `spur-ipamd agent --config FILE`: reads the configuration, starts the logs, runs the agent until SIGTERM or SIGINT. SIGHUP reads the
//! configuration again. `spur-ipamd store FILE` shows what a store holds.
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
use spur_ipamd::follow::follow;
use spur_ipamd::store::books::Books;
use spur_ipamd::store::peek;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::Level;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};

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

fn run_agent(path: &Path) -> ExitCode {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => return fail(&error, 2),
    };
    let set_level = start_logs(config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, 1),
    };
    let result = runtime.block_on(agent(path.to_owned(), config, set_level));
    runtime.shutdown_timeout(LAST_WORK);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&*error, 1),
    }
}

async fn agent(path: PathBuf, config: Config, set_level: SetLevel) -> Result<(), Box<dyn Error>> {
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone())?;
    let asked = Arc::new(Notify::new());
    reload_on_hangup(Arc::clone(&asked))?;
    let world = World {
        metadata: Imds::new(None)?,
        kernel: Arc::new(NodeKernel::new()),
        clock: Clock::start(),
        boot_id: std::fs::read_to_string(BOOT_ID)?.trim().to_owned(),
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), socket = %config.socket.display(), "agent starts");
    let connect =
        async |identity: &InstanceIdentity| AwsCloud::new(&AwsOptions::new(identity.region.clone())).await;
    let (config, seen) = watch::channel(Arc::new(config));
    tokio::spawn(follow_level(seen.clone(), set_level));
    tokio::spawn(follow(path, config, asked));
    run(seen, world, connect, stop).await?;
    Ok(())
}

fn reload_on_hangup(asked: Arc<Notify>) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            asked.notify_one();
        }
    });
    Ok(())
}

async fn follow_level(mut config: watch::Receiver<Arc<Config>>, set_level: SetLevel) {
    while config.changed().await.is_ok() {
        set_level(config.borrow_and_update().log.level);
    }
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

/// Changes from which level on is logged.
type SetLevel = Box<dyn Fn(Level) + Send>;

fn start_logs(config: LogConfig) -> SetLevel {
    let (filter, handle) = reload::Layer::new(filter_of(config.level));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match config.format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).init(),
        LogFormat::Text => registry.with(lines).init(),
    }
    // Fails only when nobody logs any more.
    Box::new(move |level| drop(handle.reload(filter_of(level))))
}

/// The SDK's own spans would drown the agent's decisions; its warnings are kept.
fn filter_of(level: Level) -> EnvFilter {
    EnvFilter::new(format!("warn,spur_ipamd={}", level.as_str().to_lowercase()))
}

fn fail(error: &(dyn Error + 'static), code: u8) -> ExitCode {
    eprintln!("spur-ipamd: {}", chain(error));
    ExitCode::from(code)
}
