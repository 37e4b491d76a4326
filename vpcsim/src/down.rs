//! `vpcsim down`: removes what a killed world left behind, and nothing else. A running world is refused, a world that left
//! nothing is success.

use crate::registry::{Claim, RECORDS, RegistryError};
use crate::scenario::is_world_name;
use spur_datapath::netns::{NetNs, NsError};
use std::path::Path;

/// Why leftovers stay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownError {
    /// The name cannot be a world's.
    #[error("{0:?} is no name of a world: expected 1 to 32 lower-case letters, digits and '-'")]
    Name(String),
    /// The name is in use, or its record cannot be read.
    #[error("claim the name of the world")]
    Claim(#[source] RegistryError),
    /// A namespace could not be removed; the others were.
    #[error("remove what the world left behind")]
    Remove(#[source] NsError),
}

/// Removes the leftovers of the world `name`.
///
/// # Errors
/// The world runs, or the system refused.
pub fn run(name: &str) -> Result<(), DownError> {
    if !is_world_name(name) {
        return Err(DownError::Name(name.to_owned()));
    }
    let claim = Claim::take(Path::new(RECORDS), name).map_err(DownError::Claim)?;
    let removed = remove(claim.leftovers()).map_err(DownError::Remove)?;
    tracing::info!(world = name, namespaces = removed, "removed what was left behind");
    claim.release().map_err(DownError::Claim)
}

/// Removes all of these namespaces that exist; how many did.
///
/// # Errors
/// The first that could not be removed; the others are removed all the same.
pub(crate) fn remove(namespaces: &[String]) -> Result<usize, NsError> {
    let outcomes: Vec<_> = namespaces.iter().map(|name| NetNs::delete_pinned(name)).collect();
    outcomes.into_iter().try_fold(0, |count, outcome| Ok(count + usize::from(outcome?)))
}
