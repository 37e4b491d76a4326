//! CIDRs of subnets that nobody told of: an earlier configuration put an ENI there, or the instance metadata did not show it yet. EC2 is asked beside
//! whoever needs them, who goes on with what there is: one question at a time, and less and less often while the answer does not tell.

use super::calls::in_time;
use ipnet::{IpNet, Ipv4Net};
use spur_cloud::{Api, Cloud, CloudError, Subnet, SubnetId, SubnetQuery};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// After the first answer that did not tell; doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// The longest wait after an answer that did not tell. Pods of an ENI wait for it.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// What EC2 answered.
type Answer = Result<Vec<Subnet>, CloudError>;

/// Asks EC2.
pub(super) struct Subnets<C> {
    cloud: Arc<C>,
    /// The question, while it is under way; ends with its owner.
    underway: JoinSet<Answer>,
    asked: BTreeSet<SubnetId>,
    ask_at: Instant,
    retry: Duration,
    /// Why the last answer did not tell all that was asked.
    trouble: Option<String>,
}

impl<C: Cloud> Subnets<C> {
    pub(super) fn new(cloud: Arc<C>) -> Self {
        Self {
            cloud,
            underway: JoinSet::new(),
            asked: BTreeSet::new(),
            ask_at: Instant::now(),
            retry: FIRST_RETRY,
            trouble: None,
        }
    }

    /// Asks for these, unless a question is under way or was answered a moment ago. Returns at once.
    pub(super) fn ask(&mut self, unknown: BTreeSet<SubnetId>) {
        if unknown.is_empty() {
            (self.ask_at, self.retry, self.trouble) = (Instant::now(), FIRST_RETRY, None);
        } else if self.underway.is_empty() && self.ask_at <= Instant::now() {
            self.asked.clone_from(&unknown);
            let cloud = Arc::clone(&self.cloud);
            self.underway.spawn(async move {
                in_time(Api::DescribeSubnets, cloud.subnets(&SubnetQuery::ByIds(unknown))).await
            });
        }
    }

    /// What EC2 told, when it answers; none if it was not asked.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub(super) async fn answer(&mut self) -> Option<BTreeMap<SubnetId, Ipv4Net>> {
        let answer = match self.underway.join_next().await? {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let (known, trouble) = told(&self.asked, answer);
        if let Some(why) = &trouble {
            let (subnets, retry_seconds) = (&self.asked, self.retry.as_secs());
            tracing::warn!(?subnets, why, retry_seconds, "EC2 does not tell the CIDRs of subnets");
        }
        self.ask_at = Instant::now() + self.retry;
        self.retry = (self.retry * 2).min(LAST_RETRY);
        self.trouble = trouble;
        Some(known)
    }

    /// Why a subnet is still unknown; none before EC2 answered.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

/// What an answer tells, and why not all.
fn told(
    asked: &BTreeSet<SubnetId>,
    answer: Result<Vec<Subnet>, String>,
) -> (BTreeMap<SubnetId, Ipv4Net>, Option<String>) {
    let subnets = match answer {
        Ok(subnets) => subnets,
        Err(why) => return (BTreeMap::new(), Some(why)),
    };
    let known: BTreeMap<_, _> = subnets
        .into_iter()
        .filter_map(|subnet| match subnet.cidr {
            IpNet::V4(cidr) => Some((subnet.id, cidr)),
            IpNet::V6(_) => None,
        })
        .collect();
    let lacks = asked.iter().any(|subnet| !known.contains_key(subnet));
    (known, lacks.then(|| "EC2 shows no IPv4 CIDR of it".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_lacks_an_ipv4_cidr_is_taken_and_tells_why_not_all_is_known() {
        let subnet = |name: &str, cidr: &str| Subnet {
            id: name.parse().unwrap(),
            vpc: "vpc-a".parse().unwrap(),
            zone: "zone-a".parse().unwrap(),
            cidr: cidr.parse().unwrap(),
            free_addresses: 1,
            tags: BTreeMap::new(),
        };
        let asked = ["subnet-a", "subnet-b"].map(|name| name.parse().unwrap()).into();
        let both = vec![subnet("subnet-a", "10.0.1.0/24"), subnet("subnet-b", "10.0.2.0/24")];
        assert_eq!((told(&asked, Ok(both.clone())).0.len(), told(&asked, Ok(both)).1), (2, None));
        for other in [vec![], vec![subnet("subnet-b", "fd00::/64")]] {
            let half = [vec![subnet("subnet-a", "10.0.1.0/24")], other].concat();
            let (known, trouble) = told(&asked, Ok(half));
            assert_eq!((known.len(), trouble.is_some()), (1, true));
        }
        assert_eq!(told(&asked, Err("why".to_owned())), (BTreeMap::new(), Some("why".to_owned())));
    }
}
