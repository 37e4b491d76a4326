//! The rules of the budget, by example and on random histories.

use super::*;
use crate::Api;
use proptest::prelude::*;

const ASSIGN: Meter = Meter::of(Api::AssignPrivateIpAddresses);

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn budget(share_percent: u32) -> Budget {
    Budget::new(Terms { share_percent, longest_wait: seconds(5.0) })
}

fn ask(budget: &mut Budget, now: f64, priority: Priority) -> Turn {
    let ticket = budget.request(seconds(now), ASSIGN, priority);
    let turn = budget.turn(seconds(now), ticket);
    budget.give_up(ticket);
    turn
}

/// How many calls go through at once.
fn burst(budget: &mut Budget, now: f64, priority: Priority) -> usize {
    (0..1000).take_while(|_| ask(budget, now, priority) == Turn::Go).count()
}

#[test]
fn a_share_of_ec2s_bucket_is_spent_and_comes_back() {
    let mut budget = budget(20);
    assert_eq!(burst(&mut budget, 0.0, Priority::Pod), 20, "a fifth of 100");
    assert_eq!(burst(&mut budget, 10.0, Priority::Pod), 10, "a fifth of 5 a second");
    assert_eq!(burst(&mut budget, 1000.0, Priority::Pod), 20, "never more than it holds");
    assert_eq!(burst(&mut budget, 900.0, Priority::Pod), 0, "time does not go back");
}

#[test]
fn the_smallest_share_still_allows_a_call_of_every_urgency() {
    for priority in [Priority::Pod, Priority::Route, Priority::Stock, Priority::Release, Priority::Garbage] {
        assert_eq!(burst(&mut budget(1), 0.0, priority), 1, "{priority:?}");
        let least = Budget::new(Terms { share_percent: 0, longest_wait: seconds(5.0) });
        assert_eq!(burst(&mut { least }, 0.0, priority), 1, "{priority:?}");
    }
}

#[test]
fn the_less_urgent_leave_something_to_the_more_urgent() {
    let mut budget = budget(100);
    let mut taken = Vec::new();
    for priority in [Priority::Garbage, Priority::Release, Priority::Stock, Priority::Route, Priority::Pod] {
        taken.push(burst(&mut budget, 0.0, priority));
    }
    assert_eq!(taken, [50, 15, 15, 10, 10]);
}

#[test]
fn who_would_wait_too_long_is_refused_and_told_until_when() {
    let mut budget = budget(20);
    burst(&mut budget, 0.0, Priority::Pod);
    let waiting: Vec<_> = (0..7).map(|_| budget.request(seconds(0.0), ASSIGN, Priority::Pod)).collect();
    let turns: Vec<_> = waiting.iter().map(|ticket| budget.turn(seconds(0.0), *ticket)).collect();
    assert_eq!(turns[0], Turn::Wait { until: seconds(1.0) }, "one a second");
    assert!(turns[1..5].iter().all(|turn| *turn == Turn::Wait { until: seconds(5.0) }), "{turns:?}");
    assert_eq!(turns[5], Turn::Refused { until: seconds(6.0) });
    assert_eq!(turns[6], Turn::Refused { until: seconds(6.0) }, "the one before it is out");
    assert_eq!(budget.turn(seconds(1.0), waiting[0]), Turn::Go);
    assert_eq!(budget.turn(seconds(1.0), waiting[0]), Turn::Refused { until: seconds(1.0) }, "spent");
    assert_eq!(budget.turn(seconds(1.0), waiting[1]), Turn::Wait { until: seconds(2.0) });
    budget.give_up(waiting[1]);
    assert_eq!(budget.turn(seconds(2.0), waiting[2]), Turn::Go, "the next takes the place of who gave up");
}

#[test]
fn a_pod_overtakes_garbage_that_waits() {
    let mut budget = budget(20);
    burst(&mut budget, 0.0, Priority::Pod);
    let garbage = budget.request(seconds(0.0), ASSIGN, Priority::Garbage);
    let pod = budget.request(seconds(0.5), ASSIGN, Priority::Pod);
    assert!(matches!(budget.turn(seconds(1.0), garbage), Turn::Refused { .. }));
    assert_eq!(budget.turn(seconds(1.0), pod), Turn::Go);
}

#[test]
fn buckets_do_not_hinder_each_other() {
    let mut budget = budget(20);
    burst(&mut budget, 0.0, Priority::Pod);
    let other = budget.request(seconds(0.0), Meter::of(Api::CreateNetworkInterface), Priority::Garbage);
    assert_eq!(budget.turn(seconds(0.0), other), Turn::Go);
    let plain = budget.request(seconds(0.0), Meter::by_ids(Api::DescribeNetworkInterfaces), Priority::Pod);
    assert_eq!(budget.turn(seconds(0.0), plain), Turn::Go);
    assert_eq!(budget.headroom(seconds(0.0)).len(), 3);
}

#[test]
fn throttling_empties_the_bucket_and_halves_its_rate_once_for_calls_under_way_together() {
    let mut budget = budget(100);
    for sent in [0.0, 0.1, 0.2] {
        budget.throttled(seconds(1.0), ASSIGN, seconds(sent));
    }
    let headroom = budget.headroom(seconds(1.0))[&ASSIGN];
    assert_eq!((headroom.tokens, headroom.rate_percent), (0, 50), "one lesson");
    budget.throttled(seconds(1.5), ASSIGN, seconds(1.2));
    let rate = budget.headroom(seconds(1.5))[&ASSIGN].rate_percent;
    assert!((25..=26).contains(&rate), "a call sent after the lesson teaches another: {rate}");
    for round in 0..20 {
        budget.throttled(seconds(2.0), ASSIGN, seconds(2.0 + f64::from(round)));
    }
    assert_eq!(budget.headroom(seconds(2.0))[&ASSIGN].rate_percent, 6, "it never stops altogether");
}

#[test]
fn the_rate_comes_back_step_by_step() {
    let mut budget = budget(100);
    budget.throttled(seconds(0.0), ASSIGN, seconds(0.0));
    let rates: Vec<_> =
        [0.0, 6.0, 12.0, 30.0, 31.0].map(|now| budget.headroom(seconds(now))[&ASSIGN].rate_percent).into();
    assert_eq!(rates[0], 50);
    assert!(rates[1] >= 59 && rates[2] >= 69 && rates[3] >= 99 && rates[4] == 100, "{rates:?}");
}

#[test]
fn pages_are_charged_afterwards_and_may_leave_a_debt() {
    let mut budget = budget(20);
    assert_eq!(ask(&mut budget, 0.0, Priority::Pod), Turn::Go);
    budget.charge(seconds(0.0), ASSIGN, 23);
    assert_eq!(ask(&mut budget, 0.0, Priority::Pod), Turn::Wait { until: seconds(5.0) });
    assert_eq!(ask(&mut budget, 4.9, Priority::Pod), Turn::Wait { until: seconds(5.0) });
    assert_eq!(ask(&mut budget, 5.0, Priority::Pod), Turn::Go);
}

#[test]
fn the_figures_are_ec2s() {
    for (meter, capacity, refill) in [
        (Meter::of(Api::DescribeNetworkInterfaces), 100, 20),
        (Meter::by_ids(Api::DescribeNetworkInterfaces), 50, 10),
        (Meter::by_ids(Api::DescribeSubnets), 100, 20),
        (Meter::of(Api::CreateNetworkInterface), 100, 5),
        (Meter::of(Api::AttachNetworkInterface), 50, 5),
        (Meter::of(Api::CreateTags), 100, 10),
    ] {
        assert_eq!(meter.figures(), Figures { capacity, refill }, "{meter:?}");
    }
}

#[test]
fn a_read_that_began_before_a_write_ended_answers_nobody_afterwards() {
    let mut reads = Reads::default();
    let before = reads.begin();
    assert!(reads.is_current(before));
    reads.written();
    let during = reads.begin();
    reads.written();
    assert!(!reads.is_current(before) && !reads.is_current(during));
    assert!(reads.is_current(reads.begin()));
    assert_eq!(Reads::fresh_for(Api::DescribeNetworkInterfaces), Duration::ZERO);
}

/// One thing that happens.
#[derive(Debug, Clone)]
enum Happening {
    Pass(u32),
    Request(Priority),
    /// All that wait ask, in the order in which they came.
    AskAll,
    GiveUp(usize),
    Throttled(u32),
    Charge(u32),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let priority = prop::sample::select(vec![
        Priority::Pod,
        Priority::Route,
        Priority::Stock,
        Priority::Release,
        Priority::Garbage,
    ]);
    let one = prop_oneof![
        4 => (0..3000_u32).prop_map(Happening::Pass),
        6 => priority.prop_map(Happening::Request),
        6 => Just(Happening::AskAll),
        1 => any::<usize>().prop_map(Happening::GiveUp),
        1 => (0..2000_u32).prop_map(Happening::Throttled),
        1 => (0..3_u32).prop_map(Happening::Charge),
    ];
    prop::collection::vec(one, 1..200)
}

proptest! {
    /// Whatever happens: the most urgent goes first, nobody waits beyond the bound, and a refusal names a time that is not yet there.
    #[test]
    fn the_rules_hold_on_any_history(share in 1..=100_u32, history in happenings()) {
        let mut budget = budget(share);
        let mut now = Duration::ZERO;
        let mut waiting: Vec<(Priority, Ticket, Duration)> = Vec::new();
        for happening in history {
            match happening {
                Happening::Pass(millis) => now += Duration::from_millis(millis.into()),
                Happening::Request(priority) => {
                    waiting.push((priority, budget.request(now, ASSIGN, priority), now));
                }
                Happening::GiveUp(at) if !waiting.is_empty() => {
                    budget.give_up(waiting.swap_remove(at % waiting.len()).1);
                }
                Happening::GiveUp(_) => {}
                Happening::Throttled(ago) => {
                    let sent = now.saturating_sub(Duration::from_millis(ago.into()));
                    budget.throttled(now, ASSIGN, sent);
                }
                Happening::Charge(requests) => budget.charge(now, ASSIGN, requests),
                Happening::AskAll => {
                    for (priority, ticket, since) in waiting.clone() {
                        let turn = budget.turn(now, ticket);
                        let patience = since + seconds(5.0);
                        match turn {
                            Turn::Wait { until } => {
                                prop_assert!(now < patience && until <= patience && until > now);
                                continue;
                            }
                            Turn::Refused { until } => prop_assert!(until > now || now >= patience),
                            Turn::Go => {
                                let first = waiting.iter().map(|(p, t, _)| (*p, *t)).min();
                                prop_assert_eq!(first, Some((priority, ticket)));
                            }
                        }
                        waiting.retain(|entry| entry.1 != ticket);
                    }
                }
            }
        }
    }

    /// In any window there are no more calls than the bucket held and what came in.
    #[test]
    fn no_window_has_more_calls_than_the_share_allows(
        share in 1..=100_u32,
        steps in prop::collection::vec((0..4000_u32, any::<bool>()), 1..150),
    ) {
        let mut budget = budget(share);
        let (capacity, refill) = (f64::from(share), 5.0 * f64::from(share) / 100.0);
        let mut now = Duration::ZERO;
        let mut gone: Vec<Duration> = Vec::new();
        for (millis, is_throttled) in steps {
            now += Duration::from_millis(millis.into());
            if is_throttled {
                budget.throttled(now, ASSIGN, now);
            }
            for _ in 0..5 {
                let ticket = budget.request(now, ASSIGN, Priority::Pod);
                if budget.turn(now, ticket) == Turn::Go {
                    gone.push(now);
                }
                budget.give_up(ticket);
            }
        }
        for (first, from) in gone.iter().enumerate() {
            for (last, to) in gone.iter().enumerate().skip(first) {
                let allowed = capacity + refill * (*to - *from).as_secs_f64();
                prop_assert!((last - first + 1) as f64 <= allowed + 1e-6, "{first}..={last}");
            }
        }
    }

    /// The first in line that comes back when it was told gets its turn, if nobody overtook it.
    #[test]
    fn who_comes_back_in_time_gets_a_turn(share in 1..=100_u32, used in 0..200_usize, throttled in any::<bool>()) {
        let mut budget = budget(share);
        for _ in 0..used {
            let ticket = budget.request(Duration::ZERO, ASSIGN, Priority::Pod);
            budget.turn(Duration::ZERO, ticket);
            budget.give_up(ticket);
        }
        if throttled {
            budget.throttled(Duration::ZERO, ASSIGN, Duration::ZERO);
        }
        let ticket = budget.request(Duration::ZERO, ASSIGN, Priority::Stock);
        match budget.turn(Duration::ZERO, ticket) {
            Turn::Go => {}
            Turn::Wait { until } => prop_assert_eq!(budget.turn(until, ticket), Turn::Go),
            Turn::Refused { until } => {
                let again = budget.request(until, ASSIGN, Priority::Stock);
                prop_assert_eq!(budget.turn(until, again), Turn::Go);
            }
        }
    }
}
