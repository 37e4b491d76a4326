//! A family of samples, and samples as text: OpenMetrics, which Prometheus reads since 2.5.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;

/// What a family's samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Goes up, and to 0 with a restart.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How many took how long.
    Histogram,
}

impl Kind {
    const fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Histogram => MetricType::Histogram,
        }
    }

    /// As Prometheus calls it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One row of the catalog.
#[derive(Debug)]
pub struct Family {
    /// Its name; samples of a counter have `_total` behind it.
    pub name: &'static str,
    /// What its samples are.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

impl Family {
    pub(super) const fn new(
        kind: Kind,
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind, labels, help }
    }

    /// The name as a query has it; a histogram's has `_bucket`, `_sum` or `_count` behind it.
    #[must_use]
    pub fn queried(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name),
            Kind::Gauge | Kind::Histogram => self.name.to_owned(),
        }
    }
}

#[derive(Debug)]
enum Value {
    Count(u64),
    Level(f64),
    Times(Histogram),
}

#[derive(Debug)]
struct Sample {
    labels: Vec<(&'static str, String)>,
    value: Value,
}

/// What is told at one scrape.
#[derive(Debug, Default)]
pub(crate) struct Samples(BTreeMap<&'static str, Vec<Sample>>);

impl Samples {
    /// A counter's value. Values of labels stand in the family's order, and are of letters, digits and punctuation that needs no escape, because the
    /// encoder makes none.
    pub(crate) fn count(&mut self, family: &'static Family, labels: &[&str], value: u64) {
        self.put(family, labels, Value::Count(value));
    }

    /// A gauge's value.
    pub(crate) fn level(&mut self, family: &'static Family, labels: &[&str], value: impl Into<f64>) {
        self.put(family, labels, Value::Level(value.into()));
    }

    /// A gauge's value, of something that is counted.
    pub(crate) fn number(&mut self, family: &'static Family, labels: &[&str], value: usize) {
        self.level(family, labels, u32::try_from(value).unwrap_or(u32::MAX));
    }

    /// Of several states that exclude each other: 1 for the one that is, 0 for the others.
    pub(crate) fn state(&mut self, family: &'static Family, states: &[&str], is: &str) {
        for state in states {
            self.level(family, &[state], u32::from(*state == is));
        }
    }

    /// A histogram as it is now.
    pub(crate) fn times(&mut self, family: &'static Family, labels: &[&str], value: Histogram) {
        self.put(family, labels, Value::Times(value));
    }

    fn put(&mut self, family: &'static Family, labels: &[&str], value: Value) {
        debug_assert_eq!(labels.len(), family.labels.len(), "{}", family.name);
        let labels = family.labels.iter().zip(labels).map(|(name, value)| (*name, (*value).to_owned()));
        self.0.entry(family.name).or_default().push(Sample { labels: labels.collect(), value });
    }

    /// As text: every family of the catalog, whether it has a sample now or not.
    pub(crate) fn text(self, catalog: &'static [&'static Family]) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Snapshot { catalog, samples: self }));
        let mut text = String::new();
        // Writing into a text does not fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

#[derive(Debug)]
struct Snapshot {
    catalog: &'static [&'static Family],
    samples: Samples,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in self.catalog {
            let mut encoder =
                encoder.encode_descriptor(family.name, family.help, None, family.kind.metric_type())?;
            match self.samples.0.get(family.name).map(Vec::as_slice).unwrap_or_default() {
                [only] if only.labels.is_empty() => only.value.metric().encode(encoder)?,
                samples => {
                    for sample in samples {
                        sample.value.metric().encode(encoder.encode_family(&sample.labels)?)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Value {
    fn metric(&self) -> Box<dyn EncodeMetric> {
        match self {
            Self::Count(value) => Box::new(ConstCounter::new(*value)),
            Self::Level(value) => Box::new(ConstGauge::new(*value)),
            Self::Times(value) => Box::new(value.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static PLAIN: Family = Family::new(Kind::Gauge, "spur_plain", &[], "One number.");
    static CALLS: Family = Family::new(Kind::Counter, "spur_calls", &["action", "outcome"], "Some calls.");
    static EMPTY: Family = Family::new(Kind::Counter, "spur_empty", &["kind"], "Nothing yet.");
    static TIMES: Family = Family::new(Kind::Histogram, "spur_times_seconds", &["verb"], "How long.");

    static ALL: &[&Family] = &[&PLAIN, &CALLS, &EMPTY, &TIMES];

    #[test]
    fn samples_are_written_as_prometheus_reads_them() {
        let mut samples = Samples::default();
        samples.count(&CALLS, &["CreateRoute", "ok"], 3);
        samples.count(&CALLS, &["CreateRoute", "throttled"], 1);
        samples.number(&PLAIN, &[], 7);
        let times = Histogram::new([0.5, 1.0]);
        times.observe(0.75);
        samples.times(&TIMES, &["ADD"], times);
        let text = samples.text(ALL);
        let expected = "\
# HELP spur_plain One number.
# TYPE spur_plain gauge
spur_plain 7.0
# HELP spur_calls Some calls.
# TYPE spur_calls counter
spur_calls_total{action=\"CreateRoute\",outcome=\"ok\"} 3
spur_calls_total{action=\"CreateRoute\",outcome=\"throttled\"} 1
# HELP spur_empty Nothing yet.
# TYPE spur_empty counter
# HELP spur_times_seconds How long.
# TYPE spur_times_seconds histogram
spur_times_seconds_sum{verb=\"ADD\"} 0.75
spur_times_seconds_count{verb=\"ADD\"} 1
spur_times_seconds_bucket{le=\"0.5\",verb=\"ADD\"} 0
spur_times_seconds_bucket{le=\"1.0\",verb=\"ADD\"} 1
spur_times_seconds_bucket{le=\"+Inf\",verb=\"ADD\"} 1
# EOF
";
        assert_eq!(text, expected);
    }

    #[test]
    fn of_states_that_exclude_each_other_one_is_1() {
        static STATE: Family = Family::new(Kind::Gauge, "spur_state", &["state"], "Which.");
        static ALL: &[&Family] = &[&STATE];
        let mut samples = Samples::default();
        samples.state(&STATE, &["a", "b"], "b");
        let text = samples.text(ALL);
        assert!(text.contains("{state=\"a\"} 0.0\n") && text.contains("{state=\"b\"} 1.0\n"), "{text}");
    }
}
