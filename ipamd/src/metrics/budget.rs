//! What is left of the API budget, by action: the same for agent and controller.

use super::Samples;
use super::catalog::{BUDGET_CAPACITY, BUDGET_RATE, BUDGET_TOKENS, BUDGET_WAITING};
use spur_cloud::budget::{Headroom, Meter};
use std::collections::BTreeMap;

/// An action whose unfiltered reads have a bucket of their own is told by its emptier one.
pub(crate) fn headroom(samples: &mut Samples, headroom: &BTreeMap<Meter, Headroom>) {
    let mut tightest: BTreeMap<_, Headroom> = BTreeMap::new();
    for (meter, left) in headroom {
        let known = tightest.entry(meter.api).or_insert(*left);
        if left.tokens < known.tokens {
            *known = *left;
        }
    }
    for (api, left) in tightest {
        let action = api.to_string();
        let labels = [action.as_str()];
        samples.level(&BUDGET_TOKENS, &labels, left.tokens);
        samples.level(&BUDGET_CAPACITY, &labels, left.capacity);
        samples.level(&BUDGET_RATE, &labels, f64::from(left.rate_percent) / 100.0);
        samples.level(&BUDGET_WAITING, &labels, left.waiting);
    }
}
