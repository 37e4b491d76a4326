//! The task that owns the controller. It feeds events in, begins what comes out, and waits for none of it: commits and cloud calls run
//! elsewhere and come back as events. Once a second it looks whether the list of nodes or the configuration changed.

use super::books::write_of;
use super::calls::perform;
use super::grants::{Grants, apply, write_whole};
use super::metrics::Published;
use super::nodes;
use super::status::{STATUS_FILE, Told, render};
use crate::agent::clock::Clock;
use crate::chain::chain;
use crate::config::controller::ControllerConfig;
use crate::store::StoreHandle;
use spur_cloud::CloudRoutes;
use spur_ipamd_core::vpcroute::{Action, Change, Controller, Event, Reason, RouteCall};
use spur_ipamd_core::{CallId, StoreId};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// The controller may not be asked to wake up more often than this, whatever it says: a bug there must not burn a processor.
const SHORTEST_SLEEP: Duration = Duration::from_millis(5);
/// How often files are looked at: soon enough for a new node, and a read of a small file.
const LOOK: Duration = Duration::from_secs(1);
/// Grants are written at most so often; what changes meanwhile goes into the same round.
const PUBLISH: Duration = Duration::from_millis(200);

/// Files of the operator.
pub(super) struct Paths {
    /// The configuration.
    pub(super) config: PathBuf,
    /// What it said at start.
    pub(super) started_with: ControllerConfig,
}

/// The task.
pub(super) struct Driver<C> {
    controller: Controller,
    cloud: Arc<C>,
    clock: Clock,
    store: StoreHandle,
    paths: Paths,
    grants: Grants,
    told: Told,
    published: Arc<Published>,
    /// Texts of the files when they were last looked at.
    nodes_text: Option<String>,
    config_text: Option<String>,
    feedback: mpsc::UnboundedSender<Event>,
    outcomes: mpsc::UnboundedReceiver<Event>,
}

impl<C: CloudRoutes> Driver<C> {
    pub(super) fn new(
        controller: Controller,
        cloud: C,
        clock: Clock,
        store: StoreHandle,
        paths: Paths,
        published: Arc<Published>,
    ) -> Self {
        let (feedback, outcomes) = mpsc::unbounded_channel();
        Self {
            controller,
            cloud: Arc::new(cloud),
            clock,
            store,
            grants: Grants::new(paths.started_with.grant_dir.clone()),
            paths,
            told: Told::default(),
            published,
            nodes_text: None,
            config_text: None,
            feedback,
            outcomes,
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK);
        let mut publish = tokio::time::interval(PUBLISH);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        publish.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changed = true;
        loop {
            let wakeup = self.next_wakeup();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(event) = self.outcomes.recv() => {
                    self.step(event);
                    changed = true;
                }
                _ = look.tick() => changed |= self.look().await,
                _ = publish.tick(), if changed => {
                    changed = false;
                    self.publish().await;
                }
                () = tokio::time::sleep_until(wakeup) => {
                    self.step(Event::Tick);
                    changed = true;
                }
            }
        }
        tracing::info!("controller stops; calls that are under way are looked for at the next start");
    }

    fn next_wakeup(&self) -> Instant {
        let earliest = Instant::now() + SHORTEST_SLEEP;
        // Nothing to wake up for is no reason to sleep forever: a tick costs nothing.
        let latest = earliest + Duration::from_secs(60);
        let wanted = self.controller.next_wakeup().map(|time| self.clock.instant_of(time));
        wanted.unwrap_or(latest).clamp(earliest, latest)
    }

    fn step(&mut self, event: Event) {
        let begun = Instant::now();
        let actions = self.controller.step(self.clock.now(), event);
        self.published.passed(begun.elapsed());
        for action in actions {
            match action {
                Action::Store { id, changes } => self.store(id, &changes),
                Action::Call { id, call, reason } => self.call(id, call, &reason),
            }
        }
    }

    fn store(&self, id: StoreId, changes: &[Change]) {
        for change in changes {
            tracing::info!(%change, "record");
        }
        let commit = self.store.commit(changes.iter().map(write_of).collect());
        let feedback = self.feedback.clone();
        tokio::spawn(async move {
            let event = match commit.await {
                Ok(()) => Event::Stored(id),
                Err(error) => {
                    tracing::error!(error = %chain(&error), "the store does not take changes");
                    Event::StoreFailed(id, chain(&error).to_string())
                }
            };
            // Gone only when the controller goes down.
            let _ = feedback.send(event);
        });
    }

    fn call(&self, id: CallId, call: RouteCall, reason: &Reason) {
        if call.is_read() {
            tracing::debug!(call = id.0, what = %call, %reason, "cloud call");
        } else {
            tracing::info!(call = id.0, what = %call, %reason, "cloud call");
        }
        let (cloud, feedback) = (Arc::clone(&self.cloud), self.feedback.clone());
        tokio::spawn(async move {
            let result = perform(&*cloud, &call).await;
            if let Err(error) = &result {
                tracing::warn!(call = id.0, what = %call, class = ?error.class(), %error, "cloud call failed");
            }
            // Gone only when the controller goes down.
            let _ = feedback.send(Event::CallFinished { call: id, result });
        });
    }

    /// Looks at the operator's files; says whether one changed.
    async fn look(&mut self) -> bool {
        let config = tokio::fs::read_to_string(&self.paths.config).await.ok();
        let nodes = tokio::fs::read_to_string(&self.paths.started_with.nodes_file).await;
        let mut changed = false;
        if config.is_some() && config != self.config_text {
            changed |= self.take_config(config.as_deref().unwrap_or_default());
            self.config_text = config;
        }
        match nodes {
            Ok(text) if self.nodes_text.as_ref() != Some(&text) => changed |= self.take_nodes(text),
            Ok(_) => {}
            Err(error) => {
                // Told once; the nodes that were known stay.
                if self.nodes_text.take().is_some() || self.controller.nodes_unknown() {
                    let path = self.paths.started_with.nodes_file.display();
                    tracing::warn!(%path, %error, "the list of nodes cannot be read");
                }
            }
        }
        changed
    }

    /// Takes a list in. That it may be half written is the state machine's to bear.
    fn take_nodes(&mut self, text: String) -> bool {
        let parsed = nodes::parse(&text);
        self.nodes_text = Some(text);
        match parsed {
            Ok(nodes) => {
                tracing::info!(nodes = nodes.len(), "list of nodes read");
                self.step(Event::Nodes(nodes));
                true
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "the list of nodes is not used");
                false
            }
        }
    }

    fn take_config(&mut self, text: &str) -> bool {
        let first = self.config_text.is_none();
        match ControllerConfig::parse(text) {
            Ok(config) if config.settings == self.paths.started_with.settings => false,
            Ok(config) => {
                if config.needs_restart(&self.paths.started_with) {
                    tracing::warn!(
                        "clusterName, region, vpc, files, metrics and logs are read at start only"
                    );
                }
                tracing::info!("configuration read again");
                let mut settings = config.settings;
                settings.cluster.clone_from(&self.paths.started_with.settings.cluster);
                settings.vpc.clone_from(&self.paths.started_with.settings.vpc);
                self.paths.started_with.settings = settings.clone();
                self.step(Event::Reload(Box::new(settings)));
                true
            }
            Err(error) if !first => {
                tracing::error!(error = %chain(&error), "the configuration is not used; the one before stays");
                false
            }
            Err(_) => false,
        }
    }

    /// Writes what changed: grants, conditions, the status file.
    async fn publish(&mut self) {
        let pending = self.grants.pending(&self.controller);
        let dir = self.grants.dir().to_owned();
        let written = tokio::task::spawn_blocking(move || {
            let write = |(file, text): (String, Option<String>)| {
                let result = apply(&dir, &file, text.as_deref());
                (file, text, result)
            };
            pending.into_iter().map(write).collect::<Vec<_>>()
        });
        for (file, text, result) in written.await.unwrap_or_default() {
            match result {
                Ok(()) => self.grants.done(file, text),
                Err(error) => tracing::error!(error = %chain(&error), "a node is not told what it has"),
            }
        }
        let view = self.controller.view();
        self.told.tell(&view.conditions);
        let status = format!("{:#}\n", render(&view, &self.controller.plan()));
        let path = self.paths.started_with.state_dir.join(STATUS_FILE);
        let wrote = tokio::task::spawn_blocking(move || write_whole(&path, &status)).await;
        if let Ok(Err(error)) = wrote {
            tracing::warn!(%error, "the status cannot be written");
        }
        self.published.show(view);
    }
}
