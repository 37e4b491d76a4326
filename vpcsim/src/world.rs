//! The running world: the model under a lock, a clock, and the fabric that gives the model a body.
//!
//! Every call and every due event goes the same way: the model changes, and if that changed the network, the fabric is
//! ordered to follow while the lock is still held, so that orders keep the order of changes. A call is answered
//! when the kernel has followed: an address that EC2 says is assigned is routed, one that was unassigned is not.

use crate::fabric::FabricError;
use crate::fabric::firewall::DropCount;
use crate::fabric::worker::{FabricWorker, Wanted};
use crate::picture;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use vpcsim_ec2::{
    Answer, Caller, Ec2, FaultView, Happening, ImdsReply, ImdsRequest, Mistake, Record, Scenario, SimTime,
    State,
};

/// Where nodes reach the EC2 API.
pub const API_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// On which port.
pub const API_PORT: u16 = 8773;

/// A model that lives in real time.
#[derive(Debug)]
pub struct World {
    model: Mutex<Ec2>,
    clock: Clock,
    changed: Notify,
    fabric: Option<FabricWorker>,
}

impl World {
    /// The scenario's world, from now on; without a fabric it has no network.
    #[must_use]
    pub fn new(scenario: &Scenario, fabric: Option<FabricWorker>) -> Self {
        let clock = Clock::start();
        Self { model: Mutex::new(Ec2::new(scenario, clock.now())), clock, changed: Notify::new(), fabric }
    }

    /// Answers an EC2 call.
    pub async fn call(&self, caller: &Caller, form: &[u8]) -> Answer {
        let (answer, followed) = {
            let mut model = self.model();
            let answer = model.call(self.clock.now(), caller, form);
            (answer, self.let_time_pass(&mut model))
        };
        self.changed.notify_one();
        if let Some(followed) = followed {
            // To EC2's callers the call has succeeded; the fabric has logged what it could not do.
            let _ = followed.await;
        }
        tokio::time::sleep(answer.hold).await;
        answer
    }

    /// Brings the network up to what is due by now.
    ///
    /// # Errors
    /// What the fabric could not do. It has been logged, too.
    pub async fn settle(&self) -> Result<(), FabricError> {
        let followed = self.let_time_pass(&mut self.model());
        match followed {
            Some(followed) => followed.await,
            None => Ok(()),
        }
    }

    /// Lets what is due happen when it is due. Never ends.
    pub async fn keep_time(self: Arc<Self>) {
        loop {
            let next = self.model().next_event();
            let changed = self.changed.notified();
            match next {
                None => changed.await,
                Some(at) => {
                    let left = at.0.saturating_sub(self.clock.now().0);
                    tokio::select! {
                        () = tokio::time::sleep(left) => {}
                        () = changed => {}
                    }
                }
            }
            // Logged; the next change tries again.
            let _ = self.settle().await;
        }
    }

    /// Answers a node's metadata service.
    pub async fn metadata(&self, node: &str, request: &ImdsRequest<'_>) -> ImdsReply {
        let reply = self.model().imds_request(node, request, self.clock.now());
        tokio::time::sleep(reply.hold).await;
        reply
    }

    /// The faults at work.
    pub fn faults(&self) -> Vec<FaultView> {
        self.model().faults()
    }

    /// Sets other faults, from now on. What they do at once is done when this returns, in the network, too.
    ///
    /// # Errors
    /// All mistakes that there are; then nothing has changed.
    pub async fn set_faults(&self, text: &str) -> Result<(), Vec<Mistake>> {
        self.change(|model, now| model.set_faults(now, text)).await
    }

    /// Changes the model from outside and waits until the network has followed.
    async fn change<T>(&self, change: impl FnOnce(&mut Ec2, SimTime) -> T) -> T {
        let (changed, followed) = {
            let mut model = self.model();
            let changed = change(&mut model, self.clock.now());
            (changed, self.let_time_pass(&mut model))
        };
        self.changed.notify_one();
        if let Some(followed) = followed {
            // The fabric has logged what it could not do.
            let _ = followed.await;
        }
        changed
    }

    /// Puts routes into tables, or takes them out, behind the back of whoever calls the API; packets follow at once.
    ///
    /// # Errors
    /// All mistakes that there are; then nothing has changed.
    pub async fn place_routes(&self, text: &str) -> Result<(), Vec<Mistake>> {
        self.change(|model, now| model.place_routes(now, text)).await
    }

    /// A text of a node's metadata, without asking for a token.
    pub fn metadata_text(&self, node: &str, path: &str) -> Option<String> {
        self.model().imds(node, path, self.clock.now())
    }

    /// The world as it is.
    pub fn state(&self) -> State {
        self.model().state()
    }

    /// Every call so far.
    pub fn record(&self) -> Vec<Record> {
        self.model().record().to_vec()
    }

    /// Begins a new record; the old one.
    pub fn take_record(&self) -> Vec<Record> {
        self.model().take_record()
    }

    /// What the fabric dropped; nothing without a fabric.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub async fn drops(&self) -> Result<Vec<DropCount>, FabricError> {
        match &self.fabric {
            Some(fabric) => fabric.drops().await,
            None => Ok(Vec::new()),
        }
    }

    fn model(&self) -> MutexGuard<'_, Ec2> {
        // A call that panicked may have left half a change behind; the model is still the only truth there is.
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn let_time_pass(
        &self,
        model: &mut Ec2,
    ) -> Option<impl Future<Output = Result<(), FabricError>> + Send + use<>> {
        let news = model.advance(self.clock.now());
        for happening in &news {
            tell(happening);
        }
        let fabric = self.fabric.as_ref().filter(|_| !news.is_empty())?;
        let detours = picture::detours(&news).filter(|_| !fabric.is_behind());
        Some(fabric.follow(match detours {
            Some(detours) => Wanted::Detours(detours),
            None => Wanted::Picture(picture::of(&model.state())),
        }))
    }
}

fn tell(happening: &Happening) {
    match happening {
        Happening::EniArrived { eni } => {
            let node = eni.attachment.as_ref().map(|place| place.node.as_str()).unwrap_or_default();
            tracing::info!(eni = %eni.id, node, mac = %eni.mac, "attached");
        }
        Happening::EniLeft { node, eni, .. } => tracing::info!(%eni, node, "detached"),
        Happening::RoutesChanged => tracing::debug!("routes changed"),
        Happening::RouteChanged { table, destination, .. } => {
            tracing::debug!(%table, %destination, "route changed");
        }
        Happening::EniChanged { eni } => {
            tracing::debug!(eni = %eni.id, addresses = eni.secondary.len(), prefixes = eni.prefixes.len(), "changed");
        }
    }
}

/// Model time: the calendar's at the start, then what the monotonic clock counts.
#[derive(Debug)]
struct Clock {
    origin: Instant,
    began: Duration,
}

impl Clock {
    fn start() -> Self {
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { origin: Instant::now(), began }
    }

    fn now(&self) -> SimTime {
        SimTime(self.began.saturating_add(self.origin.elapsed()))
    }
}
