//! How long requests of the plugin took, and why ADDs got no address: what nobody else keeps. Locks are held for single map operations only.

use super::Samples;
use super::catalog::{REFUSED_ADDS, REQUEST_SECONDS};
use prometheus_client::metrics::histogram::Histogram;
use spur_ipamd_core::Wait;
use spur_wire::{RequestBody, Response};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// From what an ADD takes with a warm stock to what `addWaitSeconds` may be at most.
const BOUNDS_SECONDS: [f64; 16] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 180.0];
/// The reason of an ADD that waited for nothing in particular.
const NO_REASON: &str = "none";
/// The outcome of a request whose plugin did not wait for it.
const HUNG_UP: &str = "hung_up";

/// What was counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    times: Mutex<BTreeMap<(&'static str, String), Histogram>>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

/// A request under way; dropped without an answer, its plugin hung up.
#[derive(Debug)]
pub(crate) struct Underway<'a> {
    requests: &'a Requests,
    verb: &'static str,
    begun: Instant,
    is_answered: bool,
}

impl Requests {
    pub(crate) fn begin(&self, body: &RequestBody) -> Underway<'_> {
        let verb = match body {
            RequestBody::Add(_) => "ADD",
            RequestBody::Del(_) => "DEL",
            RequestBody::Check(_) => "CHECK",
            RequestBody::Gc(_) => "GC",
            RequestBody::Status => "STATUS",
        };
        Underway { requests: self, verb, begun: Instant::now(), is_answered: false }
    }

    /// An ADD got no address; of what it waited for, the weightiest counts.
    pub(crate) fn refused(&self, waits: &[Wait]) {
        let reason = waits.first().map_or(NO_REASON, Wait::kind);
        *lock(&self.refused).entry(reason).or_default() += 1;
    }

    pub(crate) fn samples(&self, samples: &mut Samples) {
        for ((verb, outcome), times) in &*lock(&self.times) {
            samples.times(&REQUEST_SECONDS, &[verb, outcome], times.clone());
        }
        let refused = lock(&self.refused);
        for reason in Wait::KINDS.iter().chain(&[NO_REASON]) {
            samples.count(&REFUSED_ADDS, &[reason], refused.get(reason).copied().unwrap_or_default());
        }
    }

    fn note(&self, verb: &'static str, outcome: String, took: Duration) {
        let mut times = lock(&self.times);
        let times = times.entry((verb, outcome)).or_insert_with(|| Histogram::new(BOUNDS_SECONDS));
        times.observe(took.as_secs_f64());
    }
}

impl Underway<'_> {
    /// The answer is there.
    pub(crate) fn answered(mut self, response: &Response) {
        self.is_answered = true;
        self.requests.note(self.verb, outcome(response), self.begun.elapsed());
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.requests.note(self.verb, HUNG_UP.to_owned(), self.begun.elapsed());
        }
    }
}

/// What the plugin tells its runtime by this answer: a code of CNI's, or `ok`.
fn outcome(response: &Response) -> String {
    match response {
        Response::Refused(refusal) => refusal.kind.cni_code().to_string(),
        Response::Status(status) if !status.ready => {
            // "The plugin is not available", and "existing containers may have limited connectivity".
            (if status.limited { "51" } else { "50" }).to_owned()
        }
        _ => "ok".to_owned(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic between two map operations leaves the map whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::catalog::AGENT;
    use spur_wire::{Refusal, RefusalKind, StatusReply};

    #[test]
    fn every_reason_is_told_before_the_first_add_is_refused() {
        let requests = Requests::default();
        let text = || {
            let mut samples = Samples::default();
            requests.samples(&mut samples);
            samples.text(AGENT)
        };
        let count = |reason: &str, count: u32| format!("_adds_total{{reason=\"{reason}\"}} {count}\n");
        for reason in ["full", "no_grant", "none"] {
            assert!(text().contains(&count(reason, 0)), "{reason} in {}", text());
        }
        requests.refused(&[Wait::NoGrant]);
        assert!(text().contains(&count("no_grant", 1)) && text().contains(&count("full", 0)), "{}", text());
    }

    #[tokio::test(start_paused = true)]
    async fn requests_count_by_verb_and_by_what_the_runtime_is_told() {
        let requests = Requests::default();
        let status = |ready, limited| Response::Status(StatusReply { ready, limited, reason: None });
        requests.begin(&RequestBody::Status).answered(&status(true, false));
        requests.begin(&RequestBody::Status).answered(&status(false, false));
        let refusal = Refusal { kind: RefusalKind::TryAgain, reason: String::new() };
        let slow = requests.begin(&RequestBody::Status);
        tokio::time::sleep(Duration::from_secs(3)).await;
        slow.answered(&Response::Refused(refusal));
        requests.begin(&RequestBody::Status).answered(&status(false, true));
        drop(requests.begin(&RequestBody::Status));
        requests.refused(&[Wait::NoGrant, Wait::Queued]);
        requests.refused(&[]);
        let mut samples = Samples::default();
        requests.samples(&mut samples);
        let text = samples.text(AGENT);
        for outcome in ["ok", "50", "51", "hung_up", "11"] {
            let count = format!("_count{{verb=\"STATUS\",outcome=\"{outcome}\"}} 1\n");
            assert!(text.contains(&count), "{text}");
        }
        assert!(text.contains("_bucket{le=\"2.5\",verb=\"STATUS\",outcome=\"11\"} 0\n"), "{text}");
        assert!(text.contains("_bucket{le=\"5.0\",verb=\"STATUS\",outcome=\"11\"} 1\n"), "{text}");
        for reason in ["no_grant", "none"] {
            assert!(text.contains(&format!("_total{{reason=\"{reason}\"}} 1\n")), "{text}");
        }
    }
}
