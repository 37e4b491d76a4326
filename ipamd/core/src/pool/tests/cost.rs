//! What a step costs must not grow with the pods that are there.

use super::bed::{Bed, key};
use super::delegated;
use crate::action::{Action, Reply};
use crate::event::{Event, Ticket};
use crate::settings::{PrefixDelegation, Targets};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const ROUNDS: u32 = 400;

/// A node with so many pods, on which an address rests no longer than the question takes.
fn node(pods: usize) -> Bed {
    let targets = Targets { warm_ip_target: 4, ..delegated(PrefixDelegation::On) };
    let mut bed = Bed::new("m5.24xlarge", &["10.0.0.0/18"], targets);
    bed.add_many(0..pods);
    bed.pass(60);
    bed.reload(|settings| {
        settings.timings.cooldown = Duration::ZERO;
        settings.targets.warm_ip_target = 0;
    });
    assert_eq!(bed.pods.len(), pods);
    bed
}

/// Least time of an ADD and a DEL of one pod, all their steps included.
#[expect(clippy::disallowed_methods, reason = "the code under test reads no clock; this test measures it")]
fn round(bed: &mut Bed) -> Duration {
    let mut best = Duration::MAX;
    for number in 0..ROUNDS {
        let now = bed.now();
        let began = Instant::now();
        for verb in 0..2_u64 {
            let ticket = Ticket(1 << 40 | u64::from(number) << 1 | verb);
            let event = if verb == 0 {
                Event::Add { ticket, attachment: key("x"), pod: None, sandbox: None }
            } else {
                Event::Del { ticket, attachment: key("x") }
            };
            let mut events = vec![event];
            while let Some(event) = events.pop() {
                for action in bed.pool.step(now, event) {
                    match action {
                        Action::Store { id, .. } => events.push(Event::Stored(id)),
                        Action::Reply { reply: Reply::Granted { .. } | Reply::Released { .. }, .. } => {}
                        Action::ProbeFlows { .. } => events.push(Event::FlowsSeen(Ok(BTreeSet::new()))),
                        other => panic!("{other:?}"),
                    }
                }
                std::hint::black_box(bed.pool.next_wakeup());
            }
        }
        best = best.min(began.elapsed());
    }
    best
}

#[test]
fn a_step_with_a_thousand_pods_costs_hardly_more_than_with_ten() {
    let (few, many) = (round(&mut node(10)), round(&mut node(1_000)));
    let ratio = many.as_secs_f64() / few.as_secs_f64();
    assert!(ratio < 6.0, "{few:?} with 10 pods, {many:?} with 1,000: {ratio:.1} times as long");
}
