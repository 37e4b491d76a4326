//! The thread that owns the [`Fabric`]: netlink blocks, the servers must not. Orders are taken one at a time and in the
//! order in which they were given, so the last picture sent is the one that stays. The thread ends, and lets go of every
//! namespace, when its handle is dropped.

use super::firewall::DropCount;
use super::{Fabric, FabricError, Picture};
use std::sync::mpsc;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

enum Order {
    Sync { wanted: Picture, done: oneshot::Sender<Result<(), FabricError>> },
    Drops { reply: oneshot::Sender<Result<Vec<DropCount>, FabricError>> },
}

/// Gives orders to the fabric's thread.
#[derive(Debug)]
pub struct FabricWorker {
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl FabricWorker {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(fabric: Fabric) -> std::io::Result<Self> {
        let (orders, inbox) = mpsc::channel();
        let thread =
            std::thread::Builder::new().name("fabric".to_owned()).spawn(move || work(fabric, &inbox))?;
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    /// Orders the fabric to carry `wanted`, at once; what is returned ends when the kernel does.
    ///
    /// # Errors
    /// What the fabric could not do. It has been logged, too.
    pub fn sync(&self, wanted: Picture) -> impl Future<Output = Result<(), FabricError>> + Send + use<> {
        let (done, heard) = oneshot::channel();
        self.order(Order::Sync { wanted, done });
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

fn work(mut fabric: Fabric, inbox: &mpsc::Receiver<Order>) {
    while let Ok(order) = inbox.recv() {
        match order {
            Order::Sync { wanted, done } => {
                let synced = fabric.sync(&wanted);
                if let Err(error) = &synced {
                    tracing::error!(error = %crate::error::Chain(error), "the fabric is out of step");
                }
                // Nobody waits when the caller has hung up.
                let _ = done.send(synced);
            }
            Order::Drops { reply } => {
                let _ = reply.send(fabric.drops());
            }
        }
    }
}
