//! What the operator and the node give: sizing targets, how new ENIs look, how long things may take, and the facts of
//! the instance. Plain values; the shell parses and checks them. Names are those that operators of the VPC CNI know.

use serde::{Deserialize, Serialize};
use spur_cloud::{Eni, EniId, InstanceId, SecurityGroupId, SubnetId};
use spur_quotas::InstanceLimits;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The tag that takes an ENI out of our hands, whoever made it. The VPC CNI's own, so that one label serves both.
pub const NO_MANAGE_TAG: &str = "node.k8s.amazonaws.com/no_manage";

/// Whether addresses come in delegated prefixes (/28, sixteen addresses in one place of an ENI).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrefixDelegation {
    /// A prefix where the need is worth one and the subnet has one; single addresses otherwise.
    Auto,
    /// Prefixes; single addresses while no subnet has a free /28, and for the last few pods that are not worth another prefix.
    On,
    /// Single addresses.
    #[default]
    Off,
}

/// How many addresses the node keeps. All targets hold at once: each says how many free addresses it wants, and the largest
/// number counts. A target of 0 wants nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// Free addresses to keep ready beyond the pods that run.
    pub warm_ip_target: u32,
    /// Addresses that the node holds at least, used and free together.
    pub minimum_ip_target: u32,
    /// ENIs' worth of free addresses to keep ready: each counts as many as an ENI carries in single addresses.
    #[serde(default)]
    pub warm_eni_target: u32,
    /// Wholly free prefixes to keep ready. Without meaning while no prefixes are used.
    #[serde(default)]
    pub warm_prefix_target: u32,
    /// How far growth may go beyond what is missing when a call is made anyway, and how many free addresses above the
    /// targets are left alone by shrinking: the hysteresis between both.
    pub max_above_warm: u32,
    /// ENIs at most, the primary one included; the limits of the instance hold as well.
    pub max_enis: Option<u32>,
    /// Prefixes or single addresses. Types that are not built on Nitro have no prefixes, whatever is set here.
    #[serde(default)]
    pub prefix_delegation: PrefixDelegation,
}

impl Default for Targets {
    /// A small stock, and calls that are worth their price: an m5.large goes from 0 to 27 pods in seven of them.
    fn default() -> Self {
        Self {
            warm_ip_target: 2,
            minimum_ip_target: 0,
            warm_eni_target: 0,
            warm_prefix_target: 0,
            max_above_warm: 8,
            max_enis: None,
            prefix_delegation: PrefixDelegation::Off,
        }
    }
}

/// What a new ENI looks like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EniTemplate {
    /// Candidate subnets of the node's zone, best first; not empty.
    pub subnets: Vec<SubnetId>,
    /// Security groups.
    pub security_groups: BTreeSet<SecurityGroupId>,
    /// Tags by which an ENI is known as this node's: an attached secondary ENI without them is foreign and left alone.
    pub ownership: BTreeMap<String, String>,
    /// Further tags.
    pub tags: BTreeMap<String, String>,
    /// Description.
    pub description: String,
}

impl EniTemplate {
    /// Whether this ENI was made by us for this node and nobody took it out of our hands.
    #[must_use]
    pub fn owns(&self, eni: &Eni) -> bool {
        eni.has_address()
            && self.ownership.iter().all(|(key, value)| eni.tags.get(key) == Some(value))
            && eni.tags.get(NO_MANAGE_TAG).is_none_or(|value| value != "true")
    }
}

/// How long things take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// How long an address rests after its pod is gone.
    pub cooldown: Duration,
    /// How long there must be too many addresses before some are given back.
    pub shrink_delay: Duration,
    /// Between two comparisons with EC2 when nothing else asks for one.
    pub reconcile: Duration,
    /// How long EC2's reads may lag behind its writes: absence is believed, and a given-back address may be taken up again, only
    /// so long after the last change.
    pub settle: Duration,
    /// After an unclear outcome, how long until EC2 is asked what happened.
    pub look: Duration,
    /// How long an attachment may take before the ENI is given up.
    pub attach: Duration,
    /// First wait after a failure; doubled with each further one.
    pub backoff: Duration,
    /// Longest wait after failures.
    pub backoff_cap: Duration,
    /// Wait after a refusal that only an operator can lift: missing permission, an account's quota, a malformed request.
    pub backoff_denied: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            cooldown: seconds(30),
            shrink_delay: seconds(60),
            reconcile: seconds(60),
            settle: seconds(60),
            look: seconds(2),
            attach: seconds(180),
            backoff: seconds(1),
            backoff_cap: seconds(60),
            backoff_denied: seconds(120),
        }
    }
}

/// All settings of a pool; replaced as a whole by `Event::Reload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSettings {
    /// Sizes.
    pub targets: Targets,
    /// New ENIs.
    pub eni: EniTemplate,
    /// Times.
    pub timings: Timings,
}

/// The node, as IMDS and EC2 describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// The instance.
    pub instance: InstanceId,
    /// What its type may have.
    pub limits: InstanceLimits,
    /// The ENI it was born with; never removed.
    pub primary: EniId,
}
