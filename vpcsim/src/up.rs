//! `vpcsim up`: builds the world of a scenario, keeps it until it is told to end, and takes it down again.
//!
//! The names of all namespaces are recorded before the first one is made ([`crate::registry`]) and removed by a guard,
//! whichever way this ends. Signals are caught before anything is built, so that an early Ctrl-C cleans up, too.
//! Sockets and netlink descriptors keep a namespace alive: they are closed before the names go.

use crate::down;
use crate::fabric::place::Layout;
use crate::fabric::worker::FabricWorker;
use crate::fabric::{Fabric, FabricError};
use crate::registry::{Claim, RECORDS, RegistryError};
use crate::serve::{self, ServeError};
use crate::world::{API_ADDRESS, API_PORT, World};
use spur_datapath::netns::{NETNS_DIR, NsError};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use vpcsim_ec2::Scenario;

/// What to do about namespaces that a killed world of the same name left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftovers {
    /// Refuse to start.
    Refuse,
    /// Remove them first.
    Remove,
}

/// Why there is no world.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpError {
    /// Not root.
    #[error(
        "`vpcsim up` makes network namespaces and needs root; `vpcsim serve` serves the API alone and does not"
    )]
    NotRoot,
    /// The name is in use, or its record cannot be kept.
    #[error("claim the name of the world")]
    Claim(#[source] RegistryError),
    /// A killed process left this world behind.
    #[error(
        "an earlier world {name:?} was killed and left namespaces behind: run `vpcsim down --name {name}`, or add --replace"
    )]
    LeftBehind {
        /// The world.
        name: String,
    },
    /// A namespace of that name is there and not of our making.
    #[error(
        "the network namespace {name:?} exists already and is no leftover of this world; give the world another --name"
    )]
    NameTaken {
        /// The namespace.
        name: String,
    },
    /// The network could not be built.
    #[error("build the network")]
    Fabric(#[source] FabricError),
    /// The servers could not be started or failed.
    #[error("serve the world")]
    Serve(#[source] ServeError),
    /// Namespaces could not be removed.
    #[error("take the world down")]
    Remove(#[source] NsError),
}

/// Builds the world and keeps it until SIGTERM or SIGINT.
///
/// # Errors
/// What prevented it. Nothing half-built is left in any case but [`UpError::Remove`].
pub fn run(scenario: &Scenario, listen: SocketAddr, leftovers: Leftovers) -> Result<(), UpError> {
    if !rustix::process::geteuid().is_root() {
        return Err(UpError::NotRoot);
    }
    serve::require_loopback(listen).map_err(UpError::Serve)?;
    let layout = layout_of(scenario);
    let pins = Pins::claim(&layout, leftovers)?;
    let lived = live(scenario, layout, listen);
    // Whether the world ended well or not; the first error counts.
    let removed = pins.remove();
    lived.and(removed)
}

fn layout_of(scenario: &Scenario) -> Layout {
    Layout {
        name: scenario.name.clone(),
        vpc_ranges: scenario.vpc_cidrs.clone(),
        subnets: scenario.subnets.iter().map(|subnet| subnet.cidr).collect(),
        nodes: scenario.nodes.iter().map(|node| node.name.clone()).collect(),
        internet: scenario.internet,
        api: API_ADDRESS,
    }
}

/// The right to the world's names, and the duty to remove what has them.
struct Pins {
    names: Vec<String>,
    claim: Option<Claim>,
}

impl Pins {
    fn claim(layout: &Layout, leftovers: Leftovers) -> Result<Self, UpError> {
        let mut claim = Claim::take(Path::new(RECORDS), &layout.name).map_err(UpError::Claim)?;
        match (claim.leftovers(), leftovers) {
            ([], _) => {}
            (_, Leftovers::Refuse) => return Err(UpError::LeftBehind { name: layout.name.clone() }),
            (left, Leftovers::Remove) => {
                down::remove(left).map_err(UpError::Remove)?;
            }
        }
        let names = layout.namespaces();
        // Recording a name means that it is ours to remove: look before.
        if let Some(taken) = names.iter().find(|name| Path::new(NETNS_DIR).join(name).exists()) {
            claim.release().map_err(UpError::Claim)?;
            return Err(UpError::NameTaken { name: taken.clone() });
        }
        claim.record(&names).map_err(UpError::Claim)?;
        Ok(Self { names, claim: Some(claim) })
    }

    fn remove(mut self) -> Result<(), UpError> {
        self.try_remove()
    }

    fn try_remove(&mut self) -> Result<(), UpError> {
        let Some(claim) = self.claim.take() else { return Ok(()) };
        // On failure the record stays, so that `down` finds what is left.
        down::remove(&self.names).map_err(UpError::Remove)?;
        claim.release().map_err(UpError::Claim)
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = self.try_remove() {
            tracing::error!(error = %crate::error::Chain(&error), "the world is not taken down");
        }
    }
}

fn live(scenario: &Scenario, layout: Layout, listen: SocketAddr) -> Result<(), UpError> {
    let runtime = serve::runtime().map_err(UpError::Serve)?;
    // The runtime is dropped at the end of this function, and with it every task, socket and the fabric's thread.
    runtime.block_on(async move {
        let mut stop = serve::Stop::listen().map_err(UpError::Serve)?;
        let built = tokio::task::spawn_blocking(move || Fabric::build(&layout)).await;
        let fabric =
            built.map_err(|cause| UpError::Serve(ServeError::Task(cause)))?.map_err(UpError::Fabric)?;
        let api = fabric.listen_for_api(API_ADDRESS, API_PORT).map_err(UpError::Fabric)?;
        let metadata = scenario.nodes.iter().map(|node| {
            let listener = fabric.listen_for_metadata(&node.name).map_err(UpError::Fabric)?;
            Ok((node.name.clone(), listener))
        });
        let metadata = metadata.collect::<Result<Vec<_>, UpError>>()?;
        let worker =
            FabricWorker::start(fabric).map_err(|cause| UpError::Serve(ServeError::Thread(cause)))?;
        let world = Arc::new(World::new(scenario, Some(worker)));
        world.settle().await.map_err(UpError::Fabric)?;
        serve::all(&world, listen, Some(api), metadata, &mut stop).await.map_err(UpError::Serve)
    })
}
