//! How many addresses: when to grow, by how many, and how many are too many. Pure arithmetic on counts.
//!
//! Growth begins when the targets are not met and then may take `max_above_warm` more, because a call costs the same for
//! one address as for ten. Shrinking begins only above that mark. So what growth brings is never too much, and what
//! shrinking leaves is never too little: no flapping by construction (see the property tests). A prefix cannot be divided: growth by
//! one leaves up to fifteen more than was asked for, and one is given back only when more than that would be left over.

use crate::prefix;
use crate::settings::Targets;

/// What the settings aim at on this node, in addresses and prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Aim {
    /// Free addresses beyond the pods.
    pub(crate) warm: u32,
    /// Addresses in all.
    pub(crate) minimum: u32,
    /// Wholly free prefixes.
    pub(crate) prefixes: u32,
    /// Tolerated surplus.
    pub(crate) above: u32,
}

impl Aim {
    /// The largest target counts. `per_eni` is what an ENI carries in single addresses; `delegated` says whether prefixes are used.
    pub(crate) fn new(targets: &Targets, per_eni: u32, delegated: bool) -> Self {
        Self {
            warm: targets.warm_ip_target.max(targets.warm_eni_target.saturating_mul(per_eni)),
            minimum: targets.minimum_ip_target,
            prefixes: if delegated { targets.warm_prefix_target } else { 0 },
            above: targets.max_above_warm,
        }
    }
}

/// Counts that matter for sizing. Resting addresses are in none of them, and none that are to be replaced by another kind.
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
    /// Wholly free prefixes, there or asked for.
    pub(crate) prefixes: u32,
}

/// What to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Need {
    /// Addresses that lack for the targets.
    pub(crate) must: u32,
    /// Addresses that may come along with calls that are made anyway.
    pub(crate) may: u32,
    /// Prefixes that lack for the targets, whether addresses lack or not.
    pub(crate) prefixes: u32,
}

impl Need {
    /// Whether nothing lacks.
    pub(crate) const fn met(self) -> bool {
        self.must == 0 && self.prefixes == 0
    }
}

impl Stock {
    const fn supply(self) -> u32 {
        self.free.saturating_add(self.coming)
    }

    /// Free addresses that the targets ask for.
    pub(crate) fn wanted(self, aim: Aim) -> u32 {
        self.waiting.saturating_add(aim.warm).max(aim.minimum.saturating_sub(self.held))
    }

    /// What is lacking.
    pub(crate) fn need(self, aim: Aim) -> Need {
        let must = self.wanted(aim).saturating_sub(self.supply());
        // Pods that wait will begin a prefix each sixteen.
        let begun = self.waiting.saturating_sub(self.free).div_ceil(prefix::SIZE);
        let prefixes = aim.prefixes.saturating_add(begun).saturating_sub(self.prefixes);
        let prefixes = if aim.prefixes == 0 { 0 } else { prefixes };
        Need { must, may: if must > 0 { aim.above } else { 0 }, prefixes }
    }

    /// How many free addresses there are beyond the targets.
    pub(crate) fn surplus(self, aim: Aim) -> u32 {
        self.supply().saturating_sub(self.wanted(aim)).min(self.free)
    }

    /// How many free addresses can go back one by one.
    pub(crate) fn excess(self, aim: Aim) -> u32 {
        let mark = self.wanted(aim).saturating_add(aim.above);
        self.supply().saturating_sub(mark).min(self.free)
    }

    /// How many wholly free prefixes can go back when so many addresses are beyond the targets.
    pub(crate) fn spare_prefixes(self, surplus: u32, aim: Aim) -> u32 {
        let slack = aim.above.min(prefix::SIZE) / 2;
        (surplus.saturating_sub(slack) / prefix::SIZE).min(self.prefixes.saturating_sub(aim.prefixes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn aims() -> impl Strategy<Value = Aim> {
        (0..20u32, 0..40u32, 0..20u32, 0..3u32).prop_map(|(warm, minimum, above, prefixes)| Aim {
            warm,
            minimum,
            prefixes,
            above,
        })
    }

    fn stocks() -> impl Strategy<Value = Stock> {
        (0..60u32, 0..20u32, 0..60u32, 0..10u32).prop_map(|(free, coming, held, waiting)| Stock {
            free,
            coming,
            held,
            waiting,
            prefixes: free / 16,
        })
    }

    /// The oracle: the definition of the targets in words, checked by counting up from zero.
    fn satisfied(stock: Stock, aim: Aim, supply: u32) -> bool {
        supply >= stock.waiting + aim.warm && supply + stock.held >= aim.minimum
    }

    proptest! {
        #[test]
        fn growth_asks_for_the_smallest_number_that_satisfies(stock in stocks(), aim in aims()) {
            let have = stock.free + stock.coming;
            let least = (have..).find(|supply| satisfied(stock, aim, *supply)).unwrap();
            prop_assert_eq!(stock.need(aim).must, least - have);
        }

        #[test]
        fn growth_never_brings_too_much(stock in stocks(), aim in aims(), taken in 0..20u32) {
            let need = stock.need(aim);
            let coming = stock.coming + need.must + taken.min(need.may);
            let grown = Stock { coming, ..stock };
            prop_assert_eq!(grown.need(aim).must, 0);
            prop_assert!(need.must == 0 || grown.excess(aim) == 0);
        }

        #[test]
        fn shrinking_leaves_enough_and_settles_at_once(stock in stocks(), aim in aims()) {
            let excess = stock.excess(aim);
            prop_assert!(excess <= stock.free);
            let shrunk = Stock { free: stock.free - excess, ..stock };
            prop_assert!(excess == 0 || satisfied(stock, aim, shrunk.free + shrunk.coming));
            prop_assert_eq!(if excess < stock.free { shrunk.excess(aim) } else { 0 }, 0);
        }

        #[test]
        fn a_prefix_that_was_just_asked_for_is_not_given_back(stock in stocks(), aim in aims()) {
            let need = stock.need(aim);
            let asked = need.must.div_ceil(16).max(need.prefixes);
            let grown = Stock { free: stock.free + 16 * asked, prefixes: stock.prefixes + asked, ..stock };
            prop_assert!(grown.need(aim).met());
            let spare = grown.spare_prefixes(grown.surplus(aim), aim);
            prop_assert!(asked == 0 || need.prefixes > 0 || spare == 0, "{grown:?} {spare}");
        }

        #[test]
        fn giving_prefixes_back_leaves_enough(stock in stocks(), aim in aims()) {
            let spare = stock.spare_prefixes(stock.surplus(aim), aim);
            let shrunk = Stock { free: stock.free - 16 * spare, prefixes: stock.prefixes - spare, ..stock };
            prop_assert!(spare == 0 || satisfied(stock, aim, shrunk.free + shrunk.coming));
            prop_assert!(spare == 0 || shrunk.prefixes >= aim.prefixes);
            prop_assert_eq!(shrunk.spare_prefixes(shrunk.surplus(aim), aim), 0);
        }
    }

    #[test]
    fn the_targets_mean_what_users_of_the_vpc_cni_know() {
        let row = |warm, minimum, free, held, waiting| {
            let aim = Aim { warm, minimum, ..Aim::default() };
            Stock { free, held, waiting, ..Stock::default() }.need(aim).must
        };
        let why = "docs/eni-and-ip-target.md of the VPC CNI: WARM_IP_TARGET 2, MINIMUM_IP_TARGET 10";
        assert_eq!(row(2, 10, 0, 0, 0), 10, "an empty node pre-allocates the minimum; {why}");
        assert_eq!(row(2, 10, 5, 5, 0), 0, "within the minimum; {why}");
        assert_eq!(row(2, 10, 0, 10, 0), 2, "beyond the minimum the warm target rules; {why}");
        assert_eq!(row(2, 0, 0, 0, 3), 5, "pods that wait come on top of the warm stock");
    }

    #[test]
    fn the_largest_target_counts() {
        let targets = |warm_ip_target, warm_eni_target, warm_prefix_target| Targets {
            warm_ip_target,
            warm_eni_target,
            warm_prefix_target,
            ..Targets::default()
        };
        let rows = [
            (targets(2, 0, 0), true, (2, 0), "addresses"),
            (targets(2, 1, 0), true, (9, 0), "an ENI's worth is more"),
            (targets(12, 1, 0), true, (12, 0), "more addresses than an ENI's worth"),
            (targets(2, 0, 1), true, (2, 1), "a prefix is wanted beside, and brings the addresses"),
            (targets(2, 0, 1), false, (2, 0), "no prefixes, no target for them"),
        ];
        for (targets, delegated, expected, why) in rows {
            let aim = Aim::new(&targets, 9, delegated);
            assert_eq!((aim.warm, aim.prefixes), expected, "{why}");
        }
    }

    #[test]
    fn a_free_prefix_is_kept_beside_the_pods() {
        let aim = Aim { warm: 1, prefixes: 1, above: 0, minimum: 0 };
        let stock = |free, prefixes| Stock { free, prefixes, held: 5, ..Stock::default() };
        assert_eq!(stock(11, 0).need(aim).prefixes, 1, "enough addresses, but no prefix is whole");
        assert!(stock(27, 1).need(aim).met());
        assert_eq!(stock(43, 2).spare_prefixes(42, aim), 1, "the other one is kept");
    }
}
