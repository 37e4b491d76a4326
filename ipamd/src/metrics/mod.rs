//! Metrics for Prometheus: what there is ([`catalog`]), how it is written ([`family`]), who may fetch it ([`http`]).
//!
//! Nothing is counted here that is known elsewhere: at each scrape a pure function turns what pool, budget, kernel's keeper or controller show
//! anyway into samples. Only how long requests took is kept for the metrics alone ([`requests`]). Labels have few values, known beforehand or bounded
//! by a number that stands beside them; what people write (names of pods, messages) is in no label.

pub(crate) mod budget;
pub mod catalog;
mod family;
mod http;
pub(crate) mod requests;

pub(crate) use family::Samples;
pub(crate) use http::{Source, serve};
