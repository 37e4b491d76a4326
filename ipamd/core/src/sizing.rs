//! How many addresses: when to grow, by how many, and how many are too many. Pure arithmetic on counts.
//!
//! Growth begins when the targets are not met and then may take `max_above_warm` more, because a call costs the same for
//! one address as for ten. Shrinking begins only above that mark. So what growth brings is never too much, and what
//! shrinking leaves is never too little: no flapping by construction (see the property test).

use crate::settings::Targets;

/// Counts that matter for sizing. Resting addresses are in none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stock {
    /// Can be handed out now.
    pub(crate) free: u32,
    /// Asked for, or not yet in the kernel.
    pub(crate) coming: u32,
    /// In the hands of pods, or being put there.
    pub(crate) held: u32,
    /// Pods that wait.
    pub(crate) waiting: u32,
}

/// What to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Need {
    /// Lacking for the targets.
    pub(crate) must: u32,
    /// May come along with calls that are made anyway.
    pub(crate) may: u32,
}

impl Stock {
    const fn supply(self) -> u32 {
        self.free.saturating_add(self.coming)
    }

    /// Free addresses that the targets ask for.
    pub(crate) fn wanted(self, targets: &Targets) -> u32 {
        let warm = self.waiting.saturating_add(targets.warm_ip_target);
        warm.max(targets.minimum_ip_target.saturating_sub(self.held))
    }

    /// What is lacking.
    pub(crate) fn need(self, targets: &Targets) -> Need {
        let must = self.wanted(targets).saturating_sub(self.supply());
        Need { must, may: if must > 0 { targets.max_above_warm } else { 0 } }
    }

    /// How many free addresses can go back.
    pub(crate) fn excess(self, targets: &Targets) -> u32 {
        let mark = self.wanted(targets).saturating_add(targets.max_above_warm);
        self.supply().saturating_sub(mark).min(self.free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn targets() -> impl Strategy<Value = Targets> {
        (0..20u32, 0..40u32, 0..20u32).prop_map(|(warm_ip_target, minimum_ip_target, max_above_warm)| {
            Targets { warm_ip_target, minimum_ip_target, max_above_warm, ..Targets::default() }
        })
    }

    fn stocks() -> impl Strategy<Value = Stock> {
        (0..60u32, 0..20u32, 0..60u32, 0..10u32).prop_map(|(free, coming, held, waiting)| Stock {
            free,
            coming,
            held,
            waiting,
        })
    }

    /// The oracle: the definition of the targets in words, checked by counting up from zero.
    fn satisfied(stock: Stock, targets: &Targets, supply: u32) -> bool {
        supply >= stock.waiting + targets.warm_ip_target && supply + stock.held >= targets.minimum_ip_target
    }

    proptest! {
        #[test]
        fn growth_asks_for_the_smallest_number_that_satisfies(stock in stocks(), targets in targets()) {
            let have = stock.free + stock.coming;
            let least = (have..).find(|supply| satisfied(stock, &targets, *supply)).unwrap();
            prop_assert_eq!(stock.need(&targets).must, least - have);
        }

        #[test]
        fn growth_never_brings_too_much(stock in stocks(), targets in targets(), taken in 0..20u32) {
            let need = stock.need(&targets);
            let coming = stock.coming + need.must + taken.min(need.may);
            let grown = Stock { coming, ..stock };
            prop_assert_eq!(grown.need(&targets).must, 0);
            prop_assert!(need.must == 0 || grown.excess(&targets) == 0);
        }

        #[test]
        fn shrinking_leaves_enough_and_settles_at_once(stock in stocks(), targets in targets()) {
            let excess = stock.excess(&targets);
            prop_assert!(excess <= stock.free);
            let shrunk = Stock { free: stock.free - excess, ..stock };
            prop_assert!(excess == 0 || satisfied(stock, &targets, shrunk.free + shrunk.coming));
            prop_assert_eq!(if excess < stock.free { shrunk.excess(&targets) } else { 0 }, 0);
        }
    }

    #[test]
    fn the_targets_mean_what_users_of_the_vpc_cni_know() {
        let row = |warm, minimum, free, held, waiting| {
            let targets = Targets {
                warm_ip_target: warm,
                minimum_ip_target: minimum,
                max_above_warm: 0,
                ..Targets::default()
            };
            Stock { free, coming: 0, held, waiting }.need(&targets).must
        };
        let why = "docs/eni-and-ip-target.md of the VPC CNI: WARM_IP_TARGET 2, MINIMUM_IP_TARGET 10";
        assert_eq!(row(2, 10, 0, 0, 0), 10, "an empty node pre-allocates the minimum; {why}");
        assert_eq!(row(2, 10, 5, 5, 0), 0, "within the minimum; {why}");
        assert_eq!(row(2, 10, 0, 10, 0), 2, "beyond the minimum the warm target rules; {why}");
        assert_eq!(row(2, 0, 0, 0, 3), 5, "pods that wait come on top of the warm stock");
    }
}
