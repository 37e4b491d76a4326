//! The behaviours. Each is one function of one [`crate::World`] and fails with what it saw; it makes what it needs and does
//! not rely on another having run.

mod addresses;
mod attachments;
mod interfaces;
mod reads;
mod routes;

pub use addresses::*;
pub use attachments::*;
pub use interfaces::*;
pub use reads::*;
pub use routes::*;
