//! Chosen situations of one node, against the in-memory cloud, with a shell that does everything at once: prefixes, rests, what a
//! reading brings to light, and what a step costs. Failures at random are the simulation's (`tests/simulation`).

mod bed;
mod cost;
mod prefixes;
mod reconcile;
mod rest;

use crate::settings::{PrefixDelegation, Targets};

fn delegated(prefix_delegation: PrefixDelegation) -> Targets {
    Targets { prefix_delegation, ..Targets::default() }
}
