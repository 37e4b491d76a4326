//! The agent, put together: open the store, listen, find out who we are, start the pool and the kernel's keeper, serve until told
//! to stop.
//!
//! # Stopping
//! Nothing that pods need is undone: routes, rules, the nft table and the conflist stay. Waiting ADDs are told to try again, requests
//! in flight are finished, the store is closed. Being killed instead loses nothing either, only the manners.

mod answer;
mod calls;
pub mod clock;
mod driver;
mod fallback;
mod gc;
mod granted;
mod grants;
mod handle;
pub mod kernel;
pub mod metadata;
mod metrics;
mod nodework;
mod opening;
mod placement;
mod reaper;
mod recovered;
mod reload;
mod rivals;
mod scrape;
mod settings;
mod spool;
mod start;
mod status;
mod subnets;
mod sweep;
mod tally;
mod upkeep;
mod wanted;

pub(crate) use calls::in_time;
pub use placement::Remembered;

use crate::chain::chain;
use crate::config::{Config, Mode};
use crate::metrics::requests::Requests;
use crate::server::{BindError, bind, serve};
use crate::store::books::Books;
use crate::store::{StoreError, StoreHandle, spawn_writer};
use answer::Answers;
use clock::Clock;
use granted::{Granted, Place};
use grants::Grants;
use kernel::Kernel;
use metadata::Metadata;
use nodework::NodeParts;
use reaper::Reaper;
use reload::{Reload, confirm_limits};
use scrape::Scraped;
use spur_cloud::{Cloud, Priority};
use spur_cloud_aws::imds::InstanceIdentity;
use spur_cloud_budget::Budgeted;
use spur_ipamd_core::{DatapathWanted, EniRecord, Event, Pool};
use spur_quotas::InstanceLimits;
use start::{Prepared, Starter, insist};
use status::{NodeStatus, Phase, Running};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wanted::NodeInputs;

/// How long requests in flight may take to finish once the agent is told to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// The world around the agent; tests put their own in.
pub struct World<M, K> {
    /// Who we are.
    pub metadata: M,
    /// The kernel.
    pub kernel: Arc<K>,
    /// The time.
    pub clock: Clock,
    /// Changes with every boot (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
}

/// The agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The store cannot be used.
    #[error("open the store")]
    Store(#[source] StoreError),
    /// The socket cannot be made.
    #[error("make the socket")]
    Bind(#[source] BindError),
}

/// What others say and may change at any time.
struct Watched<'a> {
    /// What the kernel's keeper knows beside the pool.
    inputs: &'a watch::Sender<NodeInputs>,
    /// What the controller grants and tells.
    granted: watch::Receiver<Granted>,
    /// Notified when a subnet has no address left.
    subnet_full: &'a Arc<Notify>,
}

/// Runs the agent until `stop`, with the configuration as it is now and as it changes. `connect` gives the cloud once the region is
/// known.
///
/// # Errors
/// When it cannot begin: another agent runs, or there is no place for a socket. What the network or the store's file system refuses is tried
/// again and again.
pub async fn run<C, M, K>(
    config: watch::Receiver<Arc<Config>>,
    world: World<M, K>,
    connect: impl AsyncFnOnce(&InstanceIdentity) -> C,
    stop: CancellationToken,
) -> Result<(), AgentError>
where
    C: Cloud,
    M: Metadata,
    K: Kernel,
{
    let started_with = Arc::clone(&config.borrow());
    let (phase, phase_seen) = watch::channel(Phase::Starting { reason: "opening the store".to_owned() });
    let requests = Arc::new(Requests::default());
    let scraped = Scraped {
        phase: phase_seen.clone(),
        config: config.clone(),
        requests: Arc::clone(&requests),
        kernel: Arc::clone(&world.kernel),
        flows: Mutex::default(),
    };
    tokio::spawn(crate::metrics::serve(started_with.metrics_listen, Arc::new(scraped), stop.clone()));
    let Some((store, books, rebuild)) = opening::open_store(&started_with, &stop).await? else {
        return Ok(());
    };
    let socket = bind(&started_with.socket).map_err(AgentError::Bind)?;
    let (store, writer) = spawn_writer(store);
    phase.send_replace(Phase::Starting { reason: "reading the instance metadata".to_owned() });
    let grants = Arc::new(Grants::of(&books.record, world.clock));
    let reaper = Arc::new(Reaper::new(Arc::clone(&world.kernel), Arc::clone(&grants)));
    // An agent that was killed after a release may not have come to their flows.
    reaper.call(&books.record.cooling.keys().copied().collect::<Vec<_>>());
    let answers = Answers {
        phase: phase_seen,
        grants: Arc::clone(&grants),
        reaper: Arc::clone(&reaper),
        config: config.clone(),
        requests,
    };
    let server = tokio::spawn(serve(socket, Arc::new(answers), stop.clone()));
    let agent = Agent {
        config,
        world,
        store,
        phase,
        grants,
        reaper: Arc::clone(&reaper),
        tasks: TaskTracker::new(),
        stop: stop.clone(),
    };
    tokio::select! {
        () = agent.live(books, rebuild, connect) => {}
        () = stop.cancelled() => {}
    }
    tracing::info!("stopping; pods keep their network");
    agent.phase.send_replace(Phase::Stopping);
    let tasks = agent.tasks.clone();
    drop(agent);
    tasks.close();
    let drained = tokio::time::timeout(DRAIN_LIMIT, async {
        // Answers first; with the last of them the last handle of the pool is gone, and so on down to the store.
        let _ = server.await;
        // Nobody may come after us, and these DELs were told that we see to it.
        reaper.reap().await;
        tasks.wait().await;
        let _ = writer.await;
    });
    if drained.await.is_err() {
        tracing::warn!("not everything was finished in time; the next start takes it up");
    }
    Ok(())
}

struct Agent<M, K> {
    config: watch::Receiver<Arc<Config>>,
    world: World<M, K>,
    store: StoreHandle,
    phase: watch::Sender<Phase>,
    grants: Arc<Grants>,
    reaper: Arc<Reaper<K>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl<M: Metadata, K: Kernel> Agent<M, K> {
    /// Starts, then looks after what recurs; never ends by itself.
    async fn live<C: Cloud>(
        &self,
        books: Books,
        rebuild: bool,
        connect: impl AsyncFnOnce(&InstanceIdentity) -> C,
    ) {
        let (identity, node_address) = self.identify().await;
        // What changes until the pool runs is taken up right after.
        let granted = self.watch_grants(&identity).await;
        let (moved_to, mut config) = self.settle(&identity, &books, granted.clone()).await;
        let started_with = Arc::clone(&config.borrow_and_update());
        let starter = Starter {
            config: &started_with,
            kernel: Arc::clone(&self.world.kernel),
            store: self.store.clone(),
            clock: self.world.clock,
            rebuild,
            moved_to,
            phase: &self.phase,
        };
        let budget = Budgeted::new(connect(&identity).await, started_with.budget);
        let cloud = Arc::new(budget.with_priority(Priority::Stock));
        let prepared = starter.prepare(&*cloud, &identity, books, &self.world.boot_id).await;
        drop(starter);
        let inputs = inputs_of(&started_with, &identity, &prepared, node_address, &granted);
        let inputs = Arc::new(watch::channel(inputs).0);
        let (placement, told) = (prepared.placement.clone(), prepared.settings.clone());
        let builtin = prepared.limits_are_builtin.then(|| prepared.facts.limits.clone());
        let subnet_full = Arc::new(Notify::new());
        let (running, events) = self.start_pool(
            &budget,
            &identity,
            prepared,
            Watched { inputs: &inputs, granted, subnet_full: &subnet_full },
        );
        self.phase.send_replace(Phase::Running(Arc::clone(&running)));
        if let Some(builtin) = builtin {
            self.confirm_later(&cloud, &identity, (builtin, events.clone()));
        }
        let primary = identity.primary.mac;
        let (store, vpc_cidrs) = (self.store.clone(), Arc::clone(&inputs));
        let reload = Reload {
            config,
            current: started_with,
            cloud,
            identity,
            store,
            events,
            inputs,
            subnet_full,
            told,
            placement,
        };
        tokio::join!(
            self.announce(&running),
            self.recur(&running, &vpc_cidrs, primary),
            reload.live(),
            self.sweep(&running),
            self.reaper.live(&running.recovered),
        );
    }

    /// Who we are, and the address that pods' traffic is translated to.
    async fn identify(&self) -> (InstanceIdentity, Ipv4Addr) {
        let (phase, doing) = (&self.phase, "instance metadata");
        let identity = insist(phase, doing, async || self.world.metadata.identity().await).await;
        let address = insist(phase, doing, async || ipv4(identity.primary.primary_address)).await;
        tracing::info!(
            instance = %identity.instance, instance_type = %identity.instance_type, zone = %identity.zone,
            primary = %identity.primary.eni, node_address = %address, "this node"
        );
        (identity, address)
    }

    /// The `eni` pool that this node was moved to, if it was, and the configuration that counts here.
    async fn settle(
        &self,
        identity: &InstanceIdentity,
        books: &Books,
        granted: watch::Receiver<Granted>,
    ) -> (Option<String>, watch::Receiver<Arc<Config>>) {
        let config = Arc::clone(&self.config.borrow());
        let moved_to = fallback::moved_to(&config, identity, books, granted, &self.phase).await;
        let Some(pool) = &moved_to else { return (None, self.config.clone()) };
        tracing::info!(pool, "the route tables are too full for this node: pods get addresses of ENIs");
        (moved_to, fallback::in_eni_mode(self.config.clone(), &self.stop))
    }

    /// Asks EC2 later for the limits that the built-in ones stand in for.
    fn confirm_later<C: Cloud>(
        &self,
        cloud: &Arc<C>,
        identity: &InstanceIdentity,
        told: (InstanceLimits, mpsc::UnboundedSender<Event>),
    ) {
        let confirmed = confirm_limits(Arc::clone(cloud), self.store.clone(), identity.clone(), told);
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(confirmed));
    }

    /// Starts the pool and the kernel's keeper. The second result takes events for the pool.
    fn start_pool<C: Cloud>(
        &self,
        budget: &Budgeted<C>,
        identity: &InstanceIdentity,
        prepared: Prepared,
        Watched { inputs, granted, subnet_full }: Watched<'_>,
    ) -> (Arc<Running>, mpsc::UnboundedSender<Event>) {
        let mut seed = DefaultHasher::new();
        identity.instance.hash(&mut seed);
        let clock = self.world.clock;
        let Prepared { settings, facts, record, .. } = prepared;
        let (mode, seed) = (inputs.borrow().mode, seed.finish());
        let cooldown = settings.timings.cooldown;
        let pool = match mode {
            Mode::Eni => Pool::new(settings, facts, record, seed, clock.now()),
            Mode::VpcRoute => {
                Pool::with_blocks(settings, facts, record, primary_record(identity), seed, clock.now())
            }
        };
        let (wanted, wanted_seen) = watch::channel(DatapathWanted::default());
        let (status, node) = watch::channel(NodeStatus::unknown());
        let (handle, events, driver) = driver::spawn(driver::Parts {
            pool,
            clock,
            store: self.store.clone(),
            cloud: budget.clone(),
            kernel: Arc::clone(&self.world.kernel),
            wanted,
            subnet_full: Arc::clone(subnet_full),
            stop: self.stop.clone(),
        });
        if mode == Mode::VpcRoute {
            // Nobody remembers which addresses were given back just now: all of them rest first.
            let rest = if prepared.rebuilt { cooldown } else { Duration::ZERO };
            let supply = granted::supply(granted.clone(), events.clone(), rest);
            self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(supply));
        }
        let rivals = rivals::watch(Arc::clone(&self.world.kernel), wanted_seen.clone(), status.clone());
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(rivals));
        let keeper = nodework::spawn(NodeParts {
            kernel: Arc::clone(&self.world.kernel),
            cloud: Arc::new(budget.with_priority(Priority::Stock)),
            inputs: inputs.subscribe(),
            wanted: wanted_seen.clone(),
            granted: granted.clone(),
            outcomes: events.clone(),
            status,
            stop: self.stop.clone(),
        });
        self.tasks.spawn(async move {
            // A panic in either is logged by the runtime's hook; the other must not be waited for in vain.
            let _ = tokio::join!(driver, keeper);
        });
        let node_address = inputs.borrow().primary_address;
        let granted = (mode == Mode::VpcRoute).then_some(granted);
        let running = Running {
            pool: handle,
            node,
            wanted: wanted_seen,
            granted,
            node_address,
            recovered: prepared.recovered,
        };
        (Arc::new(running), events)
    }

    /// What the controller tells; never anything without a grant directory.
    async fn watch_grants(&self, identity: &InstanceIdentity) -> watch::Receiver<Granted> {
        let place = Place::of(&self.config.borrow(), &identity.instance);
        match place {
            Ok(Some(place)) => granted::watch(place, self.stop.clone()).await,
            Ok(None) => watch::channel(Granted::default()).1,
            Err(error) => {
                let trouble = chain(&error).to_string();
                tracing::error!(trouble, "the node's grant cannot be found");
                watch::channel(Granted { trouble: Some(trouble), ..Granted::default() }).1
            }
        }
    }
}

/// What the kernel's keeper begins with.
fn inputs_of(
    config: &Config,
    identity: &InstanceIdentity,
    prepared: &Prepared,
    node_address: Ipv4Addr,
    granted: &watch::Receiver<Granted>,
) -> NodeInputs {
    NodeInputs {
        primary_mac: identity.primary.mac,
        primary_address: node_address,
        vpc_cidrs: identity.primary.vpc_cidrs.clone(),
        subnets: prepared.subnets.clone(),
        mode: config.pool.mode,
        granted: granted.borrow().clone(),
        nat: config.pool.nat.clone(),
        block_instance_metadata: config.pool.block_instance_metadata,
    }
}

/// The ENI that the VPC's routes lead to.
fn primary_record(identity: &InstanceIdentity) -> EniRecord {
    let primary = &identity.primary;
    EniRecord {
        id: primary.eni.clone(),
        mac: primary.mac,
        subnet: primary.subnet.clone(),
        primary: primary.primary_address,
        place: None,
    }
}

/// The node has no IPv4 address to translate to.
#[derive(Debug, thiserror::Error)]
#[error("the primary address is {0}; expected an IPv4 address")]
struct NoIpv4(IpAddr);

fn ipv4(address: IpAddr) -> Result<Ipv4Addr, NoIpv4> {
    match address {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => Err(NoIpv4(address)),
    }
}

#[cfg(test)]
mod tests;
