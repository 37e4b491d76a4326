//! ENIs that nobody answers for any more, and what is to become of them. Pure: what was seen, who exists and the time are arguments.
//!
//! A node looks after what it has begun (its intents are durable). What is left over when its store or the node itself is lost is found by
//! its tags, by one caller for the whole cluster: if every node did, each would read all ENIs and all would delete the same ones.
//!
//! # Rules
//! - Only ENIs of this cluster, by its tag; never one that is attached or on its way, never one that somebody took out of our hands
//!   ([`NO_MANAGE_TAG`]), never one younger than the grace time. An ENI's age is what [`CREATED_TAG`] says, set by who created it; one
//!   without it is marked now and judged by a later pass.
//! - The whole view or none: the caller passes what complete reads gave. It does not call this when a read failed.
//! - At most so many deletions in a pass, the oldest first: a mistake must not cost a cluster.

use crate::settings::NO_MANAGE_TAG;
use crate::time::Timestamp;
use spur_cloud::{Eni, EniId, EniStatus, InstanceId};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// Tag that says which cluster an ENI belongs to.
pub const CLUSTER_TAG: &str = "spur.dev/cluster";
/// Tag that says which instance an ENI was made for.
pub const NODE_TAG: &str = "spur.dev/instance";
/// Tag that says when an ENI was made, or when it was first seen without this tag.
pub const CREATED_TAG: &str = "spur.dev/created";

/// What the operator allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectRules {
    /// Value of [`CLUSTER_TAG`].
    pub cluster: String,
    /// An ENI is left alone until it is that old.
    pub grace: Duration,
    /// Deletions in one pass.
    pub most: usize,
}

/// What becomes of an ENI, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Which.
    pub eni: EniId,
    /// What.
    pub decision: Decision,
}

/// What becomes of an ENI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Delete it.
    Delete(Leak),
    /// Tag it with the time, so that its age is known later.
    Mark,
    /// Leave it.
    Keep(Keep),
}

/// Why an ENI is leaked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// How old it is.
    pub age: Duration,
    /// Whose it was.
    pub owner: Owner,
}

/// For whom an ENI was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// An instance that is no more.
    Gone(InstanceId),
    /// An instance that exists; its agent does not know the ENI any more, or has not run for as long as the ENI is old.
    Forgetful(InstanceId),
    /// No tag says so.
    Unknown,
}

/// Why an ENI is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keep {
    /// It is attached, or on its way in or out.
    InUse,
    /// It is another cluster's, or nobody's.
    Foreign,
    /// It was taken out of our hands.
    NotManaged,
    /// It is younger than the grace time.
    Young {
        /// How old it is.
        age: Duration,
    },
    /// The pass has deleted as many as it may; the next one goes on.
    Enough,
}

/// Instances whose existence must be known to judge these ENIs: those for which unattached ones were made.
#[must_use]
pub fn owners_to_ask(enis: &[Eni], rules: &CollectRules) -> BTreeSet<InstanceId> {
    enis.iter().filter(|eni| keep(eni, rules).is_none()).filter_map(owner_tag).collect()
}

/// Judges every ENI, in the order of their ids. `existing` are those of [`owners_to_ask`] that exist.
#[must_use]
pub fn judge(
    enis: &[Eni],
    existing: &BTreeSet<InstanceId>,
    rules: &CollectRules,
    now: Timestamp,
) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = enis
        .iter()
        .map(|eni| Verdict { eni: eni.id.clone(), decision: decide(eni, existing, rules, now) })
        .collect();
    verdicts.sort_by(|one, other| one.eni.cmp(&other.eni));
    spare_beyond(&mut verdicts, rules.most);
    verdicts
}

fn decide(eni: &Eni, existing: &BTreeSet<InstanceId>, rules: &CollectRules, now: Timestamp) -> Decision {
    if let Some(keep) = keep(eni, rules) {
        return Decision::Keep(keep);
    }
    // A tag that cannot be read is as good as none.
    let Some(created) = eni.tags.get(CREATED_TAG).and_then(|text| Timestamp::parse(text)) else {
        return Decision::Mark;
    };
    let age = now.since(created);
    if age < rules.grace {
        return Decision::Keep(Keep::Young { age });
    }
    let owner = match owner_tag(eni) {
        Some(id) if existing.contains(&id) => Owner::Forgetful(id),
        Some(id) => Owner::Gone(id),
        None => Owner::Unknown,
    };
    Decision::Delete(Leak { age, owner })
}

/// What keeps an ENI whatever its age.
fn keep(eni: &Eni, rules: &CollectRules) -> Option<Keep> {
    if eni.tags.get(CLUSTER_TAG) != Some(&rules.cluster) {
        Some(Keep::Foreign)
    } else if eni.tags.get(NO_MANAGE_TAG).is_some_and(|value| value == "true") {
        Some(Keep::NotManaged)
    } else if eni.attachment.is_some() || eni.status != EniStatus::Available {
        Some(Keep::InUse)
    } else {
        None
    }
}

fn owner_tag(eni: &Eni) -> Option<InstanceId> {
    eni.tags.get(NODE_TAG)?.parse().ok()
}

/// Turns deletions beyond `most` into keeping; the oldest are deleted first.
fn spare_beyond(verdicts: &mut [Verdict], most: usize) {
    let mut deletions: Vec<(Duration, usize)> = verdicts
        .iter()
        .enumerate()
        .filter_map(|(index, verdict)| match &verdict.decision {
            Decision::Delete(leak) => Some((leak.age, index)),
            _ => None,
        })
        .collect();
    deletions.sort_by(|one, other| other.cmp(one));
    for (_, index) in deletions.into_iter().skip(most) {
        verdicts[index].decision = Decision::Keep(Keep::Enough);
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delete(leak) => write!(f, "delete: unattached, {} old, {}", span(leak.age), leak.owner),
            Self::Mark => write!(f, "mark: unattached, of unknown age; counted from now on"),
            Self::Keep(keep) => write!(f, "keep: {keep}"),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(id) => write!(f, "made for {id}, which is no more"),
            Self::Forgetful(id) => write!(f, "made for {id}, which does not use it"),
            Self::Unknown => f.write_str("no tag says for whom"),
        }
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => f.write_str("in use"),
            Self::Foreign => f.write_str("not this cluster's"),
            Self::NotManaged => write!(f, "{NO_MANAGE_TAG} is set"),
            Self::Young { age } => write!(f, "only {} old", span(*age)),
            Self::Enough => f.write_str("leaked, but this pass has deleted as many as it may"),
        }
    }
}

/// A duration in the largest unit that leaves a whole number above one.
fn span(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
