//! What EC2 was asked since the start, in the log: a line for each action that was called since the last time, with what became of the
//! calls and what is left of the budget. The same figures are the metrics (`metrics.rs`).

use spur_cloud::Api;
use spur_cloud::budget::{ApiUse, Usage};
use std::collections::BTreeMap;

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<Api, ApiUse>);

impl Tally {
    /// Tells what is new.
    pub(super) fn tell(&mut self, usage: &Usage) {
        for (api, calls) in &usage.calls {
            if self.0.get(api) == Some(calls) {
                continue;
            }
            let left = usage.headroom.iter().filter(|(meter, _)| meter.api == *api);
            tracing::info!(
                %api,
                sent = calls.sent(),
                succeeded = calls.succeeded,
                throttled = calls.throttled(),
                refused = calls.refused,
                folded = calls.folded,
                waited = calls.waited,
                waiting_ms = u64::try_from(calls.waiting.as_millis()).unwrap_or(u64::MAX),
                tokens = left.clone().map(|(_, left)| left.tokens).min(),
                rate_percent = left.map(|(_, left)| left.rate_percent).min(),
                "EC2 calls since the start"
            );
        }
        self.0.clone_from(&usage.calls);
    }
}
