//! `spur-ipamd agent --config FILE`: reads the configuration, starts the logs, runs the agent until SIGTERM or SIGINT. SIGHUP reads the
//! configuration again. `spur-ipamd controller --config FILE` does the same for the controller of `vpcRoute` mode.
//! `spur-ipamd store FILE` shows what a store holds. `spur-ipamd collect --config FILE` makes one pass over the cluster's leaked ENIs.
//!
//! Exit codes: 0 after a stop on request or a pass in which everything was done, 1 when the agent cannot run or something was not
//! done, 2 when the command line or the configuration is wrong.

mod memory;

use clap::{Parser, Subcommand};
use spur_cloud::budget::Terms;
use spur_cloud::{Priority, Region, VpcId};
use spur_cloud_aws::imds::{Imds, ImdsError, InstanceIdentity};
use spur_cloud_aws::{AwsCloud, AwsOptions};
use spur_cloud_budget::Budgeted;
use spur_ipamd::agent::clock::Clock;
use spur_ipamd::agent::kernel::NodeKernel;
use spur_ipamd::agent::{World, run};
use spur_ipamd::chain::chain;
use spur_ipamd::collect::{Mode, collect};
use spur_ipamd::config::controller::ControllerConfig;
use spur_ipamd::config::{Config, LogConfig, LogFormat};
use spur_ipamd::follow::follow;
use spur_ipamd::store::peek;
use spur_ipamd::store::shown::show;
use spur_ipamd_core::leaked::CollectRules;
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
/// Threads for what blocks: the store's commits, reads of the kernel, the deletion of veths, name lookups. More would only be more
/// stacks and heaps.
const BLOCKING_THREADS: usize = 6;
/// What blocking work may take to end after the agent is done; none of it is needed any more.
const LAST_WORK: Duration = Duration::from_millis(500);
/// A pass of collecting is in no hurry: it rather waits for its turn than leaves something for the next pass.
const COLLECT_WAIT: Duration = Duration::from_secs(120);

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
    /// Runs once per cluster in vpcRoute mode: gives nodes blocks of addresses and leads the VPC's route tables to them.
    Controller {
        /// The configuration, a YAML file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Reads everything, prints what would be done, and changes nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Shows as JSON what a store holds: an agent's or the controller's, in use or set aside. Changes nothing.
    Store {
        /// The file, `agent.redb` in the state directory.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Run once, or by a job every so often, for the whole cluster: deletes its ENIs that nobody answers for any more.
    Collect {
        /// The configuration that the agents have.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Shows the decisions and changes nothing.
        #[arg(long)]
        dry_run: bool,
        /// The region, where there is no instance metadata to tell it.
        #[arg(long, requires = "vpc")]
        region: Option<Region>,
        /// The cluster's VPC.
        #[arg(long, requires = "region")]
        vpc: Option<VpcId>,
    },
}

fn main() -> ExitCode {
    memory::keep_small();
    match Cli::parse().command {
        Command::Agent { config } => {
            with_config(&config, async |read, set_level| agent(config.clone(), read, set_level).await)
        }
        Command::Controller { config, dry_run } => run_controller(&config, dry_run),
        Command::Store { file } => show_store(&file),
        Command::Collect { config, dry_run, region, vpc } => {
            let mode = if dry_run { Mode::DryRun } else { Mode::Act };
            with_config(&config, async |config, _| collect_leaked(config, mode, region.zip(vpc)).await)
        }
    }
}

fn show_store(file: &Path) -> ExitCode {
    match peek(file, show) {
        Ok(contents) => {
            println!("{contents:#}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, 1),
    }
}

/// Reads the configuration, starts the logs and runs `work`.
fn with_config(
    file: &Path,
    work: impl AsyncFnOnce(Config, SetLevel) -> Result<ExitCode, Box<dyn Error>>,
) -> ExitCode {
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(error) => return fail(&error, 2),
    };
    let set_level = start_logs(config.log);
    block_on(work(config, set_level))
}

fn block_on(work: impl Future<Output = Result<ExitCode, Box<dyn Error>>>) -> ExitCode {
    // One thread: the agent waits far more than it computes, and a request that is handed from worker to worker waits each time
    // until the processor has come round to the next.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, 1),
    };
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(LAST_WORK);
    result.unwrap_or_else(|error| fail(&*error, 1))
}

fn run_controller(file: &Path, dry_run: bool) -> ExitCode {
    let config = match ControllerConfig::load(file) {
        Ok(config) => config,
        Err(error) => return fail(&error, 2),
    };
    // Its level is read at start.
    drop(start_logs(config.log));
    block_on(controller(config, file.to_owned(), dry_run))
}

async fn controller(
    config: ControllerConfig,
    file: PathBuf,
    dry_run: bool,
) -> Result<ExitCode, Box<dyn Error>> {
    let cloud = AwsCloud::new(&AwsOptions::new(config.region.clone())).await;
    if dry_run {
        print!("{}", spur_ipamd::controller::dry_run(&config, &cloud, Clock::start()).await?);
        return Ok(ExitCode::SUCCESS);
    }
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone())?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), vpc = %config.settings.vpc, "controller starts");
    spur_ipamd::controller::run(config, &file, cloud, Clock::start(), stop).await?;
    Ok(ExitCode::SUCCESS)
}

/// One pass of collecting, at the least urgency there is.
async fn collect_leaked(
    config: Config,
    mode: Mode,
    place: Option<(Region, VpcId)>,
) -> Result<ExitCode, Box<dyn Error>> {
    let (region, vpc) = match place {
        Some(place) => place,
        None => {
            let identity = InstanceIdentity::observe(&Imds::new(None)?).await.map_err(NoPlace)?;
            (identity.region, identity.primary.vpc)
        }
    };
    let terms = Terms { longest_wait: COLLECT_WAIT, ..config.budget };
    let budget = Budgeted::new(AwsCloud::new(&AwsOptions::new(region)).await, terms);
    let rules = CollectRules {
        cluster: config.cluster_name,
        grace: config.collect.grace,
        most: config.collect.max_deletions as usize,
    };
    let now = (Clock::start().now(), mode);
    let tell = |line: String| println!("{line}");
    let pass = collect(&budget.with_priority(Priority::Garbage), &vpc, &rules, now, tell).await?;
    let words = if mode == Mode::DryRun { "; a dry run, nothing was changed" } else { "" };
    println!("cluster {} in {vpc}: {pass}{words}", rules.cluster);
    Ok(if pass.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Neither told nor found out.
#[derive(Debug, thiserror::Error)]
#[error("find out the region and the VPC from the instance metadata (elsewhere give --region and --vpc)")]
struct NoPlace(#[source] ImdsError);

async fn agent(path: PathBuf, config: Config, set_level: SetLevel) -> Result<ExitCode, Box<dyn Error>> {
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
    Ok(ExitCode::SUCCESS)
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
