//! EC2's token buckets: each request takes a token, tokens come back at a steady rate, and who finds the bucket empty is
//! refused. One bucket per action for the whole account and region. Figures are those of AWS's page "Request throttling for
//! the Amazon EC2 API"; actions that it does not name have the figures of their category.

use crate::action::Action;
use crate::time::SimTime;

/// Parts of a token that are counted: refill rates such as 0.1 a second are usual.
const PARTS: u64 = 1_000_000;

/// How much a bucket holds, and how much comes back each second; in millionths of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figures {
    capacity: u64,
    refill: u64,
}

impl Figures {
    pub(crate) const fn of_millionths(capacity: u64, refill: u64) -> Self {
        Self { capacity, refill }
    }

    const fn of_tokens(capacity: u64, refill: u64) -> Self {
        Self::of_millionths(capacity * PARTS, refill * PARTS)
    }

    /// EC2's own. Some reads have a smaller bucket for calls without filter and page: AWS names no other way to be spared it,
    /// so ids do not.
    pub(crate) const fn of_ec2(action: Action, is_narrowed: bool) -> Self {
        match action {
            Action::DescribeInstances
            | Action::DescribeNetworkInterfaces
            | Action::DescribeSecurityGroups
                if !is_narrowed =>
            {
                Self::of_tokens(50, 10)
            }
            Action::DescribeInstances
            | Action::DescribeInstanceTypes
            | Action::DescribeNetworkInterfaces
            | Action::DescribeRouteTables
            | Action::DescribeSecurityGroups
            | Action::DescribeSubnets
            | Action::DescribeVpcs => Self::of_tokens(100, 20),
            Action::CreateTags | Action::DeleteTags => Self::of_tokens(100, 10),
            Action::AssignPrivateIpAddresses
            | Action::CreateNetworkInterface
            | Action::DeleteNetworkInterface
            | Action::ModifyNetworkInterfaceAttribute
            | Action::UnassignPrivateIpAddresses => Self::of_tokens(100, 5),
            Action::AssociateRouteTable
            | Action::AssociateVpcCidrBlock
            | Action::AttachNetworkInterface
            | Action::CreateRoute
            | Action::CreateRouteTable
            | Action::DeleteRoute
            | Action::DeleteRouteTable
            | Action::DetachNetworkInterface
            | Action::DisassociateRouteTable
            | Action::DisassociateVpcCidrBlock
            | Action::ReplaceRoute
            | Action::ReplaceRouteTableAssociation => Self::of_tokens(50, 5),
        }
    }
}

/// A bucket.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    figures: Figures,
    level: u64,
    at: SimTime,
}

impl Bucket {
    /// A full one.
    pub(super) const fn full(figures: Figures, now: SimTime) -> Self {
        Self { figures, level: figures.capacity, at: now }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: SimTime) -> bool {
        let passed = now.0.saturating_sub(self.at.0).as_nanos();
        let gained = passed.saturating_mul(u128::from(self.figures.refill)) / 1_000_000_000;
        let gained = u64::try_from(gained).unwrap_or(u64::MAX);
        if gained > 0 {
            self.level = self.level.saturating_add(gained).min(self.figures.capacity);
            self.at = now;
        }
        let left = self.level.checked_sub(PARTS);
        self.level = left.unwrap_or(self.level);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_bucket_gives_what_it_holds_and_then_what_comes_back() {
        let at = |millis| SimTime(Duration::from_millis(millis));
        let mut bucket = Bucket::full(Figures::of_tokens(3, 2), at(0));
        let taken = |bucket: &mut Bucket, millis| (0..10).filter(|_| bucket.take(at(millis))).count();
        assert_eq!(taken(&mut bucket, 0), 3);
        assert_eq!(taken(&mut bucket, 499), 0);
        assert_eq!(taken(&mut bucket, 500), 1);
        assert_eq!(taken(&mut bucket, 1_500), 2);
        assert_eq!(taken(&mut bucket, 60_000), 3, "never more than it holds");
        assert_eq!(taken(&mut bucket, 1_000), 0, "time does not go back");
    }

    #[test]
    fn a_slow_bucket_loses_nothing_to_frequent_looks() {
        let mut bucket = Bucket::full(Figures::of_millionths(PARTS, PARTS / 10), SimTime::default());
        let taken =
            (0..100_000).filter(|millis| bucket.take(SimTime(Duration::from_millis(*millis)))).count();
        assert_eq!(taken, 10);
    }
}
