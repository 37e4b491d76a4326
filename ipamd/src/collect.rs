//! One pass of collecting leaked ENIs: read all of the cluster's, judge them (`spur_ipamd_core::leaked`), delete what nobody answers for. Run by
//! one caller for the whole cluster: an operator, or a job that runs every so often.
//!
//! A read that fails ends the pass before anything is changed; a deletion that fails does not keep the others from being tried, and
//! what is left is found again by the next pass. Nothing is remembered between passes.

use crate::chain::chain;
use spur_cloud::{Cloud, CloudError, EniId, EniQuery, ErrorClass, VpcId};
use spur_ipamd_core::Timestamp;
use spur_ipamd_core::leaked::{CLUSTER_TAG, CREATED_TAG, CollectRules, Decision, judge, owners_to_ask};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Whether anything is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Decisions are carried out.
    Act,
    /// Decisions are only shown.
    DryRun,
}

/// The view could not be completed; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The ENIs.
    #[error("read the ENIs of cluster {cluster} in {vpc}; nothing was changed")]
    Enis {
        /// Whose.
        cluster: String,
        /// Where.
        vpc: VpcId,
        /// Why.
        #[source]
        cause: CloudError,
    },
    /// Their nodes.
    #[error("find out which of {count} instances exist; nothing was changed")]
    Instances {
        /// How many were asked about.
        count: usize,
        /// Why.
        #[source]
        cause: CloudError,
    },
}

/// How many of what a pass found and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pass {
    /// ENIs of the cluster.
    pub seen: usize,
    /// Deleted, or to be deleted in a dry run.
    pub deleted: usize,
    /// Marked, or to be marked.
    pub marked: usize,
    /// Left alone.
    pub kept: usize,
    /// What could not be done.
    pub failed: usize,
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seen, deleted, marked, kept, failed } = self;
        write!(f, "{seen} ENIs: {deleted} to delete, {marked} to mark, {kept} kept, {failed} failed")
    }
}

/// Makes one pass and tells each decision, with what came of it.
///
/// # Errors
/// When the view is not complete.
pub async fn collect<C: Cloud>(
    cloud: &C,
    vpc: &VpcId,
    rules: &CollectRules,
    (now, mode): (Timestamp, Mode),
    mut tell: impl FnMut(String),
) -> Result<Pass, CollectError> {
    let ours = BTreeMap::from([(CLUSTER_TAG.to_owned(), rules.cluster.clone())]);
    let enis = cloud
        .enis(&EniQuery::Tagged(vpc.clone(), ours))
        .await
        .map_err(|cause| CollectError::Enis { cluster: rules.cluster.clone(), vpc: vpc.clone(), cause })?;
    let owners = owners_to_ask(&enis, rules);
    let existing = if owners.is_empty() {
        BTreeSet::new()
    } else {
        let count = owners.len();
        let asked = cloud.existing_instances(&owners).await;
        asked.map_err(|cause| CollectError::Instances { count, cause })?
    };
    let mut pass = Pass { seen: enis.len(), ..Pass::default() };
    for verdict in judge(&enis, &existing, rules, now) {
        let count = match verdict.decision {
            Decision::Delete(_) => &mut pass.deleted,
            Decision::Mark => &mut pass.marked,
            Decision::Keep(_) => &mut pass.kept,
        };
        *count += 1;
        let outcome = match mode {
            Mode::Act => carry_out(cloud, &verdict.eni, &verdict.decision, now).await,
            Mode::DryRun => Ok(""),
        };
        let (eni, decision) = (&verdict.eni, &verdict.decision);
        match outcome {
            Ok(what) => tell(format!("{eni} {decision}{what}")),
            Err(error) => {
                pass.failed += 1;
                tell(format!("{eni} {decision}; failed: {}", chain(&error)));
            }
        }
    }
    Ok(pass)
}

/// Does it, once; says what came of it.
async fn carry_out<C: Cloud>(
    cloud: &C,
    eni: &EniId,
    decision: &Decision,
    now: Timestamp,
) -> Result<&'static str, CloudError> {
    match decision {
        Decision::Keep(_) => Ok(""),
        Decision::Mark => {
            let created = BTreeMap::from([(CREATED_TAG.to_owned(), now.rfc3339())]);
            cloud.tag_eni(eni, &created).await.map(|()| "; marked")
        }
        Decision::Delete(_) => match cloud.delete_eni(eni).await {
            Ok(()) => Ok("; deleted"),
            Err(error) if error.class() == ErrorClass::NotFound => Ok("; gone already"),
            // Somebody attached it after it was read: EC2 itself sees to it that it stays.
            Err(error) if error.class() == ErrorClass::Conflict => Ok("; in use by now, kept"),
            Err(error) => Err(error),
        },
    }
}

#[cfg(test)]
mod tests;
