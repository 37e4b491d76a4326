//! The controller of `vpcRoute` mode, stand-alone: it drives the pure one of `ipamd/core` with I/O. Nodes come from a file, grants go
//! into a directory, what must survive into the store. Its state directory is locked for its life, so that there is one writer;
//! election among several comes with Kubernetes.
//!
//! [`crate::config::controller`] is what an operator may say, [`nodes`] who the nodes are, [`driver`] the task that owns the state machine, [`grants`] what
//! nodes are told, [`dry_run`] the plan without the deeds, [`metrics`] the figures.

mod books;
mod calls;
mod driver;
mod dry_run;
mod grants;
mod metrics;
pub mod nodes;
mod status;

pub(crate) use books::show;
pub use dry_run::{DryRunError, dry_run};

use crate::agent::clock::Clock;
use crate::chain::chain;
use crate::config::controller::ControllerConfig;
use crate::store::{Origin, Store, StoreError, spawn_writer};
use driver::{Driver, Paths};
use metrics::Published;
use spur_cloud::CloudRoutes;
use spur_ipamd_core::vpcroute::Controller;
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Runs until `stop`. `config_file` is read again when it changes.
///
/// # Errors
/// When the store cannot be opened: another controller runs, or the file system refuses.
pub async fn run<C: CloudRoutes>(
    config: ControllerConfig,
    config_file: &Path,
    cloud: C,
    clock: Clock,
    stop: CancellationToken,
) -> Result<(), StoreError> {
    let (store, record, origin) = Store::open(&config.state_dir, books::decode)?;
    match &origin {
        Origin::SetAside { kept, why } => {
            tracing::error!(why, kept = %kept.display(), "the store was unusable; blocks are found again by their routes");
        }
        Origin::Fresh | Origin::Restored => {}
    }
    tracing::info!(blocks = record.blocks().len(), tables = record.tables().len(), ?origin, "store opened");
    let (store, writer) = spawn_writer(store);
    let seed = clock.now().since_epoch().subsec_nanos();
    let controller = Controller::new(config.settings.clone(), record, seed.into(), clock.now());
    let published = Arc::new(Published::new());
    tokio::spawn(crate::metrics::serve(config.metrics_listen, Arc::clone(&published), stop.clone()));
    let paths = Paths { config: config_file.to_owned(), started_with: config };
    Driver::new(controller, cloud, clock, store, paths, published).run(stop).await;
    // Every handle of the store is gone now: what was queued is written before the lock goes.
    if let Err(error) = writer.await {
        tracing::error!(error = %chain(&error), "the store's writer did not end well");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
