//! Chosen situations in the simulated world, with what must come out of them. One behaviour each, as a sentence.

mod budgets;
mod failures;
mod findings;

use crate::chaos::Chaos;
use crate::harness::{Pod, Sim};
use spur_ipamd_core::{AttachmentKey, EniView, Targets, Timings};
use std::time::Duration;

fn pod(number: usize) -> AttachmentKey {
    AttachmentKey { network: "n".into(), container_id: format!("p{number}"), if_name: "eth0".into() }
}

fn calm(targets: Targets) -> Sim {
    Sim::with(1, Chaos::calm(), targets, Timings::default())
}

fn live(sim: &Sim) -> usize {
    sim.pods.values().filter(|pod| matches!(pod, Pod::Live { .. })).count()
}

/// Time for what was asked, too short for a comparison with EC2.
fn pass(sim: &mut Sim, seconds: u64) {
    sim.pass(Duration::from_secs(seconds));
    assert_eq!(sim.violations(), Vec::<String>::new());
}

/// What the first pod that waits is told.
fn told(sim: &Sim) -> Vec<&'static str> {
    sim.pool.view().waiting[0].waits.iter().map(spur_ipamd_core::Wait::kind).collect()
}

fn findings(sim: &Sim) -> Vec<&'static str> {
    sim.pool.view().findings.iter().map(spur_ipamd_core::Finding::kind).collect()
}

fn enis_in(sim: &Sim, subnet: &str) -> Vec<EniView> {
    sim.pool.view().enis.into_iter().filter(|eni| eni.subnet.as_str() == subnet).collect()
}

/// A pod of which the address is known.
fn first_live(sim: &Sim) -> (AttachmentKey, std::net::IpAddr, spur_cloud::EniId) {
    let live = sim.pods.iter().find_map(|(key, pod)| match pod {
        Pod::Live { address, eni } => Some((key.clone(), *address, eni.clone())),
        _ => None,
    });
    live.unwrap()
}
