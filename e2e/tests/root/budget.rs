//! What things cost in EC2 calls, by vpcsim's record of the real agent's calls, and what happens when they cost too much.

use crate::common::{add_pods, quick_spec, quick_world, wait_until};
use serde_json::{Value, json};
use spur_e2e::rest::Rest;
use spur_e2e::world::{World, WorldSpec};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The agents' own defaults: the budget figures are promised for these.
fn default_spec(name: &str) -> WorldSpec {
    let mut spec = quick_spec(name, 1);
    spec.pool.clear();
    spec.agent.clear();
    spec
}

fn calls_since(world: &World, before: usize) -> Vec<Value> {
    world.record().unwrap()[before..].to_vec()
}

fn count(calls: &[Value], action: &str) -> usize {
    calls.iter().filter(|call| call["action"] == action).count()
}

/// Actions and outcomes, for the message of a failed test.
fn shown(calls: &[Value]) -> Vec<String> {
    calls
        .iter()
        .map(|call| format!("{} {} {}", call["action"], call["outcome"], call["parameters"]))
        .collect()
}

fn refusal(world: &World, number: u32) -> String {
    let pod = world.pod(0, number).unwrap();
    let outcome = world.runtime(0).unwrap().execute("ADD", &pod, &pod.netns_path()).unwrap();
    assert!(!outcome.success, "an address came after all");
    assert_eq!(outcome.output["code"], 11, "{}", outcome.failure());
    outcome.failure()
}

/// Whether the text names an action and the time until which it waits, as in `… until 14:03:05Z`.
fn names_a_time(words: &str, action: &str) -> bool {
    let after = words.split_once(action).map_or("", |(_, after)| after);
    let time = after.split_once("until ").map_or("", |(_, time)| time.get(..9).unwrap_or_default());
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "00:00:00Z"
}

#[test]
#[ignore = "needs root"]
fn an_m5_large_goes_from_0_to_27_pods_in_at_most_8_calls_and_an_eni_costs_3() {
    let world = World::up(&default_spec("cost")).unwrap();
    world.start_agent(0).unwrap();
    Rest::reach(&world, &|| Ok(())).unwrap();
    let start = world.record().unwrap();
    assert!(start.len() <= 3, "limits, ENIs and the first stock: {:?}", shown(&start));
    let _pods = add_pods(&world, 0, 1..=27);
    Rest::reach(&world, &|| Ok(())).unwrap();
    let calls = calls_since(&world, start.len());
    assert!(calls.len() <= 8, "{} calls: {:#?}", calls.len(), shown(&calls));
    let cloud = world.cloud().unwrap();
    let enis: Vec<_> = cloud.nodes[&world.nodes[0].name].iter().filter(|eni| eni.device_index > 0).collect();
    assert_eq!((enis.len(), count(&calls, "CreateNetworkInterface")), (2, 2));
    for eni in enis {
        let about = |call: &&Value| {
            call["parameters"].as_str().is_some_and(|text| text.contains(&eni.id))
                && call["action"] != "AssignPrivateIpAddresses"
        };
        let own: Vec<_> = calls.iter().filter(about).cloned().collect();
        assert!(own.len() < 3, "creation and {:?}", shown(&own));
    }
    world.down().unwrap();
}

#[test]
#[ignore = "needs root"]
fn an_idle_node_reads_once_per_reconcile_and_writes_nothing() {
    let mut spec = default_spec("idle");
    spec.agent.insert("reconcileSeconds", "10".to_owned());
    let world = World::up(&spec).unwrap();
    world.start_agent(0).unwrap();
    let _pods = add_pods(&world, 0, 1..=5);
    Rest::reach(&world, &|| Ok(())).unwrap();
    let (before, started) = (world.record().unwrap().len(), Instant::now());
    wait_until(&world, "two reads", || calls_since(&world, before).len() >= 2);
    std::thread::sleep(Duration::from_secs(31).saturating_sub(started.elapsed()));
    let calls = calls_since(&world, before);
    // The interval is jittered by a quarter either way.
    let most = 1 + started.elapsed().as_millis() / 7_500;
    assert!(calls.len() as u128 <= most, "more than {most}: {:#?}", shown(&calls));
    assert_eq!(count(&calls, "DescribeNetworkInterfaces"), calls.len(), "{:#?}", shown(&calls));
    world.down().unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_throttled_agent_slows_down_says_so_and_recovers() {
    let mut spec = quick_spec("throttled", 1);
    spec.agent.insert("addWaitSeconds", "4".to_owned());
    let world = World::up(&spec).unwrap();
    world.start_agent(0).unwrap();
    Rest::reach(&world, &|| Ok(())).unwrap();
    let actions = ["AssignPrivateIpAddresses", "CreateNetworkInterface"];
    world
        .set_faults(&[
            json!({"kind": "throttle", "actions": actions, "capacity": 1, "refillPerSecond": 0.01}),
        ])
        .unwrap();
    let (before, started) = (world.record().unwrap().len(), Instant::now());
    // The stock of three and what the one call that is let through brings; then nothing comes.
    let runtime = world.runtime(0).unwrap();
    let added = (1..=20).take_while(|number| {
        let mut pod = world.pod(0, *number).unwrap();
        let added = runtime.add(&mut pod).is_ok();
        if !added {
            runtime.del(&pod).unwrap();
        }
        added
    });
    assert!(added.count() < 20, "never refused");
    // What holds it back is EC2's refusal or, in another moment, its own budget, which that made smaller.
    let mut heard = Vec::new();
    for number in 51.. {
        let words = refusal(&world, number);
        assert!(number < 56 && names_a_time(&words, "AssignPrivateIpAddresses"), "{words}\n{heard:#?}");
        heard.push(words);
        if heard.iter().any(|words| words.contains("AssignPrivateIpAddresses is throttled")) {
            break;
        }
    }
    std::thread::sleep(Duration::from_secs(10));
    let calls = calls_since(&world, before);
    let refused = calls.iter().filter(|call| call["outcome"] == "RequestLimitExceeded").count();
    let seconds = started.elapsed().as_secs_f64();
    // Waits of 1, 2, 4, 8 s and more, each shortened by a quarter at most, for one action and for the other.
    let tries = (0..9).take_while(|try_number| 0.75 * f64::from((1 << try_number) - 1) <= seconds).count();
    assert!((1..=2 * tries).contains(&refused), "{refused} in {seconds} s: {:#?}", shown(&calls));
    world.set_faults(&[]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut pod = world.pod(0, 99).unwrap();
    while let Err(error) = world.runtime(0).unwrap().add(&mut pod) {
        assert!(Instant::now() < deadline, "it does not recover: {error:#}");
        world.runtime(0).unwrap().del(&pod).unwrap();
    }
    world.down().unwrap();
}

#[test]
#[ignore = "needs root"]
fn an_agent_beyond_its_share_sends_nothing_and_says_until_when() {
    let mut spec = quick_spec("share", 1);
    spec.agent.insert("addWaitSeconds", "4".to_owned());
    // One assignment, then one every 20 seconds.
    spec.agent.insert("api", "{budgetPercent: 1}".to_owned());
    let world = World::up(&spec).unwrap();
    let started = Instant::now();
    world.start_agent(0).unwrap();
    let runtime = world.runtime(0).unwrap();
    let mut number = 0;
    let words = loop {
        number += 1;
        assert!(number <= 9, "never refused");
        let mut pod = world.pod(0, number).unwrap();
        if runtime.add(&mut pod).is_err() {
            runtime.del(&pod).unwrap();
            break refusal(&world, number + 50);
        }
    };
    assert!(names_a_time(&words, "API budget: no AssignPrivateIpAddresses"), "{words}");
    std::thread::sleep(Duration::from_secs(5));
    let calls = world.record().unwrap();
    let allowed = 1 + started.elapsed().as_secs() / 20;
    let sent = count(&calls, "AssignPrivateIpAddresses");
    assert!(sent as u64 <= allowed, "{sent} in {:?}: {:#?}", started.elapsed(), shown(&calls));
    assert!(calls.iter().all(|call| call["outcome"] == "OK"), "{:#?}", shown(&calls));
    world.down().unwrap();
}

#[test]
#[ignore = "needs root"]
fn answers_that_are_lost_cost_a_look_and_leave_nothing_behind() {
    let world = quick_world("lost", 1);
    let lost = ["CreateNetworkInterface", "AttachNetworkInterface", "AssignPrivateIpAddresses"]
        .map(|action| json!({"kind": "lostReply", "actions": [action], "calls": [1], "name": action.to_lowercase()}));
    world.set_faults(&lost).unwrap();
    world.start_agent(0).unwrap();
    let pods = add_pods(&world, 0, 1..=14);
    Rest::reach(&world, &|| Ok(())).unwrap();
    let distinct: BTreeSet<_> = pods.iter().map(|placed| placed.pod.address.unwrap()).collect();
    assert_eq!(distinct.len(), pods.len());
    let (cloud, calls) = (world.cloud().unwrap(), world.record().unwrap());
    assert_eq!(cloud.unattached, Vec::<String>::new());
    let created = calls.iter().filter(|call| call["action"] == "CreateNetworkInterface");
    let tokens: Vec<_> = created.filter_map(|call| call["parameters"].as_str()?.split(' ').next()).collect();
    let different: BTreeSet<_> = tokens.iter().collect();
    let made = cloud.nodes[&world.nodes[0].name].len() - 1;
    assert!(tokens.len() > different.len(), "the lost creation is repeated: {:#?}", shown(&calls));
    assert_eq!(made, different.len(), "an ENI for each token, not for each call: {:#?}", shown(&calls));
    world.down().unwrap();
}
