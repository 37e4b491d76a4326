//! Pure decisions: the address pool of a node, as a state machine. Events go in ([`Event`]: a pod wants an address, a call came back,
//! time passed), actions come out ([`Action`]: store this, call that, make the kernel so), each with its reason. No
//! clock, no socket, no randomness of its own: all are arguments, so that a simulation can drive the very code that runs on nodes.
//!
//! # The shell's part
//! ```text
//! pool = Pool::new(settings, node, record, seed, now)
//! loop { for action in pool.step(now, event) { begin it }; wait for an outcome or for pool.next_wakeup() }
//! ```
//! It begins actions in the order given, reports each outcome once, and keeps the [`Record`] by applying [`StoreChange`]s in
//! order. It may die at any point.
//!
//! # Guarantees
//! - An address is held by at most one attachment; a resting address is neither handed out nor counted as available.
//! - No ENI beyond its quota of addresses and prefixes, no instance and no network card beyond its ENI quota.
//! - An address that an attachment holds is not unassigned, forgotten or detached, whatever EC2 shows; see [`Finding`].
//! - After a crash at any point, the next pool finishes or undoes what was begun.

mod action;
mod address;
mod backoff;
mod eni;
mod event;
mod finding;
mod kernel;
mod kind;
pub mod leaked;
mod placement;
mod pool;
mod prefix;
mod record;
mod settings;
mod sizing;
mod table;
mod time;
mod view;
pub mod vpcroute;
mod wait;

pub use action::{Action, CallId, CloudCall, DatapathWanted, EniDatapath, Reason, Reply, StoreId};
pub use eni::MAX_ORDINAL;
pub use event::{BlockGrant, CallDone, Event, Ticket};
pub use finding::Finding;
pub use pool::Pool;
pub use prefix::carried;
pub use record::{AttachmentKey, EniRecord, Holding, Intent, IntentId, Place, PodName, Record, StoreChange};
pub use settings::{EniTemplate, NO_MANAGE_TAG, NodeFacts, PoolSettings, PrefixDelegation, Targets, Timings};
pub use time::{Jitter, Timestamp};
pub use view::{AddressView, Counts, EniView, PoolView, PrefixView, WaitingView};
pub use wait::Wait;
