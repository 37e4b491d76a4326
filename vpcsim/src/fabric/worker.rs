//! The thread that owns the [`Fabric`]: netlink blocks, the servers must not. Orders are taken one at a time and in the
//! order in which they were given, so the last picture sent is the one that stays. An order may also name only the routes
//! that differ; when one failed, the next must be a whole picture. The thread ends, and lets go of every namespace, when its
//! handle is dropped.

use super::firewall::DropCount;
use super::routing::Detour;
use super::{Fabric, FabricError, Picture};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// What the fabric is to carry from now on.
#[derive(Debug)]
pub enum Wanted {
    /// This.
    Picture(Picture),
    /// What it carries, but for these routes.
    Detours(Vec<Detour>),
}

enum Order {
    Follow { wanted: Wanted, done: oneshot::Sender<Result<(), FabricError>> },
    Drops { reply: oneshot::Sender<Result<Vec<DropCount>, FabricError>> },
}

/// Gives orders to the fabric's thread.
#[derive(Debug)]
pub struct FabricWorker {
    orders: Option<mpsc::Sender<Order>>,
    is_behind: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FabricWorker {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(fabric: Fabric) -> std::io::Result<Self> {
        let (orders, inbox) = mpsc::channel();
        let is_behind = Arc::new(AtomicBool::new(true));
        let flag = Arc::clone(&is_behind);
        let builder = std::thread::Builder::new().name("fabric".to_owned());
        let thread = builder.spawn(move || work(fabric, &inbox, &flag))?;
        Ok(Self { orders: Some(orders), is_behind, thread: Some(thread) })
    }

    /// Whether the fabric needs a whole picture: there was none yet, or an order failed.
    pub fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Relaxed)
    }

    /// Orders the fabric to carry `wanted`, at once; what is returned ends when the kernel does.
    ///
    /// # Errors
    /// What the fabric could not do. It has been logged, too.
    pub fn follow(&self, wanted: Wanted) -> impl Future<Output = Result<(), FabricError>> + Send + use<> {
        let (done, heard) = oneshot::channel();
        self.order(Order::Follow { wanted, done });
        async { heard.await.unwrap_or(Err(FabricError::Ended)) }
    }

    /// Asks for the counters of dropped packets.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn drops(&self) -> Result<Vec<DropCount>, FabricError> {
        let (reply, heard) = oneshot::channel();
        self.order(Order::Drops { reply });
        heard.await.unwrap_or(Err(FabricError::Ended))
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // A thread that has ended drops the order, and the waiting side hears of it by its closed channel.
            let _ = orders.send(order);
        }
    }
}

impl Drop for FabricWorker {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic was printed when it happened; there is nothing to save here.
            let _ = thread.join();
        }
    }
}

fn work(mut fabric: Fabric, inbox: &mpsc::Receiver<Order>, is_behind: &AtomicBool) {
    while let Ok(order) = inbox.recv() {
        match order {
            Order::Follow { wanted, done } => {
                let followed = match &wanted {
                    Wanted::Picture(picture) => {
                        let synced = fabric.sync(picture);
                        is_behind.store(synced.is_err(), Ordering::Relaxed);
                        synced
                    }
                    Wanted::Detours(detours) => fabric.detour(detours),
                };
                if let Err(error) = &followed {
                    is_behind.store(true, Ordering::Relaxed);
                    tracing::error!(error = %crate::error::Chain(error), "the fabric is out of step");
                }
                // Nobody waits when the caller has hung up.
                let _ = done.send(followed);
            }
            Order::Drops { reply } => {
                let _ = reply.send(fabric.drops());
            }
        }
    }
}
