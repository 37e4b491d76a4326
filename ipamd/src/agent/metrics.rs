//! What the agent's metrics are, from what pool, budget, kernel's keeper and connection tracking show. Pure.

use super::status::{Health, NodeStatus, Unready};
use crate::metrics::Samples;
use crate::metrics::budget::headroom;
use crate::metrics::catalog::{
    ADDRESSES, BLOCKED, BUDGET_FOLDED, BUDGET_REFUSED, BUDGET_WAITED, BUILD, BUSIEST, EC2_REQUESTS, ENIS,
    FAILED_UPDATES, FINDINGS, KERNEL, MASQUERADERS, MAX_ENIS, NAT_BUSIEST, NAT_DESTINATIONS, NAT_FLOWS,
    NAT_PORTS, NAT_READ_FAILURES, PREFIXES, REPAIRS, STATE, SUBNET_FREE, SUBNETS, WAITING,
};
use spur_cloud::ErrorClass;
use spur_cloud::budget::{ApiUse, Usage};
use spur_datapath::conntrack::Translated;
use spur_ipamd_core::{Finding, PoolView, Wait};
use std::collections::BTreeMap;

const STATES: [&str; 6] = ["ready", "starting", "no_grant", "unprepared", "broken", "stopping"];
const KERNEL_STATES: [&str; 3] = ["unprepared", "sound", "failing"];
const PHASES: [&str; 6] = ["ready", "unattached", "attaching", "lost", "leaving", "foreign"];

/// What was seen at a scrape; what could not be seen, or is not there yet, is absent.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Why ADD cannot be served.
    pub(super) unready: Option<Unready>,
    pub(super) pool: Option<PoolView>,
    pub(super) usage: Option<Usage>,
    pub(super) node: Option<NodeStatus>,
    pub(super) flows: Option<Translated>,
    /// Ports that translated flows share.
    pub(super) ports: u32,
    /// How often flows could not be counted.
    pub(super) flow_failures: u64,
}

/// All samples but those of requests.
pub(super) fn samples(seen: &Seen) -> Samples {
    let mut samples = Samples::default();
    samples.level(&BUILD, &[env!("CARGO_PKG_VERSION")], 1);
    samples.state(&STATE, &STATES, seen.unready.as_ref().map_or("ready", Unready::kind));
    match (&seen.pool, &seen.unready) {
        (Some(pool), _) => of_pool(&mut samples, pool),
        // Before there is a pool, nothing was found.
        (None, Some(Unready::Starting(_))) => found(&mut samples, &BTreeMap::new()),
        (None, _) => {}
    }
    if let Some(usage) = &seen.usage {
        of_budget(&mut samples, usage);
    }
    if let Some(node) = &seen.node {
        of_kernel(&mut samples, node);
    }
    if let Some(flows) = &seen.flows {
        of_flows(&mut samples, flows);
    }
    samples.level(&NAT_PORTS, &[], seen.ports);
    samples.count(&NAT_READ_FAILURES, &[], seen.flow_failures);
    samples
}

fn of_pool(samples: &mut Samples, pool: &PoolView) {
    let counts = &pool.counts;
    for (state, count) in [
        ("free", counts.free),
        ("coming", counts.coming),
        ("held", counts.held),
        ("cooling", counts.cooling),
        ("leaving", counts.leaving),
    ] {
        samples.level(&ADDRESSES, &[state], count);
    }
    samples.level(&PREFIXES, &["free"], counts.free_prefixes);
    samples.level(&PREFIXES, &["used"], counts.used_prefixes);
    for phase in PHASES {
        samples.number(&ENIS, &[phase], pool.enis.iter().filter(|eni| eni.phase == phase).count());
    }
    samples.level(&MAX_ENIS, &[], pool.max_enis);
    let mut waiting: BTreeMap<&str, usize> = BTreeMap::new();
    for add in &pool.waiting {
        *waiting.entry(add.waits.first().map_or("none", Wait::kind)).or_default() += 1;
    }
    for (reason, adds) in waiting {
        samples.number(&WAITING, &[reason], adds);
    }
    let mut blocked: Vec<_> = pool.blocked.iter().map(Wait::kind).collect();
    blocked.sort_unstable();
    blocked.dedup();
    for reason in blocked {
        samples.level(&BLOCKED, &[reason], 1);
    }
    found(samples, &pool.found);
}

fn found(samples: &mut Samples, counts: &BTreeMap<&str, u64>) {
    for kind in Finding::KINDS {
        samples.count(&FINDINGS, &[kind], counts.get(kind).copied().unwrap_or_default());
    }
}

fn of_budget(samples: &mut Samples, usage: &Usage) {
    for (api, calls) in &usage.calls {
        of_action(samples, &api.to_string(), calls);
    }
    headroom(samples, &usage.headroom);
    for (subnet, free) in usage.free_addresses.iter().take(SUBNETS) {
        samples.level(&SUBNET_FREE, &[subnet.as_str()], *free);
    }
}

fn of_action(samples: &mut Samples, action: &str, calls: &ApiUse) {
    let mut outcomes = BTreeMap::from([("ok", calls.succeeded), ("abandoned", calls.abandoned)]);
    // Always told: an alert on it must not wait for the first.
    outcomes.insert("throttled", 0);
    for (class, count) in &calls.failed {
        *outcomes.entry(word(*class)).or_default() += count;
    }
    for (outcome, count) in outcomes {
        samples.count(&EC2_REQUESTS, &[action, outcome], count);
    }
    samples.count(&BUDGET_REFUSED, &[action], calls.refused);
    samples.count(&BUDGET_FOLDED, &[action], calls.folded);
    samples.count(&BUDGET_WAITED, &[action], calls.waited);
}

const fn word(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Throttled => "throttled",
        ErrorClass::OverBudget { .. } => "over_budget",
        ErrorClass::NotFound => "not_found",
        ErrorClass::NoRoute => "no_route",
        ErrorClass::QuotaExceeded => "quota_exceeded",
        ErrorClass::SubnetFull => "subnet_full",
        ErrorClass::Denied => "denied",
        ErrorClass::Transient => "transient",
        ErrorClass::Conflict => "conflict",
        ErrorClass::Bug => "bug",
    }
}

fn of_kernel(samples: &mut Samples, node: &NodeStatus) {
    let state = match node.health {
        Health::Unprepared { .. } => "unprepared",
        Health::Sound => "sound",
        Health::Failing { .. } => "failing",
    };
    samples.state(&KERNEL, &KERNEL_STATES, state);
    samples.count(&REPAIRS, &[], node.repairs);
    samples.count(&FAILED_UPDATES, &[], node.failed_updates);
    samples.number(&MASQUERADERS, &[], node.masqueraders.len());
}

fn of_flows(samples: &mut Samples, flows: &Translated) {
    let number = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    samples.level(&NAT_FLOWS, &[], number(flows.flows));
    samples.level(&NAT_DESTINATIONS, &[], number(flows.destinations));
    for (to, count) in flows.busiest.iter().take(BUSIEST) {
        let protocol = match to.protocol {
            1 => "icmp".to_owned(),
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            132 => "sctp".to_owned(),
            other => other.to_string(),
        };
        let labels = [&to.address.to_string(), &to.port.to_string(), &protocol];
        samples.level(&NAT_BUSIEST, &labels.map(String::as_str), number(*count));
    }
}

#[cfg(test)]
mod tests;
