//! The plugin and the real agent when one of them fails or dies at any point: nothing is lost, nothing stays behind. Here the
//! plugin is the one that can be made to fail (`cni/faults`), and how often it is made to is up to how many points it has.

use crate::common::{add_pods, quick_world};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use spur_e2e::process::binary;
use spur_e2e::rest::Rest;
use spur_e2e::runtime::{Outcome, Pod, Runtime, finish};
use spur_e2e::world::World;
use std::time::{Duration, Instant};

/// More than any verb has.
const ENDLESS: u32 = 60;

fn faulty(world: &World, faults: &str) -> Runtime {
    let runtime = world.runtime(0).unwrap().with_plugin(binary("spur-faults").unwrap());
    runtime.with_env("SPUR_FAULTS", faults)
}

fn execute(runtime: &Runtime, verb: &str, pod: &Pod) -> Outcome {
    runtime.execute(verb, pod, &pod.netns_path()).unwrap()
}

/// Waits until the process stops itself (true) or ends (false).
fn stops(pid: Pid) -> bool {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
        match stat.rsplit(") ").next().and_then(|fields| fields.chars().next()) {
            Some('T') => return true,
            Some('Z') => return false,
            _ => assert!(Instant::now() < deadline, "the plugin neither stops nor ends"),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
#[ignore = "needs root"]
fn c23_c30_a_plugin_that_fails_or_is_killed_at_any_point_leaves_nothing_with_the_agent() {
    let world = quick_world("faults", 1);
    world.start_agent(0).unwrap();
    let before = Rest::reach(&world, &|| Ok(())).unwrap();
    let pod = world.pod(0, 1).unwrap();
    for fault in ["fail", "kill"] {
        for verb in ["ADD", "DEL"] {
            let through = (0..ENDLESS).find(|number| {
                if verb == "DEL" {
                    let added = execute(&world.runtime(0).unwrap(), "ADD", &pod);
                    assert!(added.success, "{}", added.failure());
                }
                let done = execute(&faulty(&world, &format!("{fault}={number}")), verb, &pod).success;
                // A plain failure of ADD needs no DEL: it has undone everything itself.
                if (verb, fault) != ("ADD", "fail") || done {
                    world.runtime(0).unwrap().del(&pod).unwrap();
                }
                done
            });
            assert!(through.is_some_and(|points| points >= 3), "{verb} has {through:?} points");
        }
        before.regain(&world, &|| Ok(())).unwrap();
    }
    world.down().unwrap();
}

#[test]
#[ignore = "needs root"]
fn c30_c37_an_agent_that_is_killed_at_any_point_loses_no_release() {
    let world = quick_world("agentdies", 1);
    world.start_agent(0).unwrap();
    let before = Rest::reach(&world, &|| Ok(())).unwrap();
    let pod = world.pod(0, 1).unwrap();
    for verb in ["ADD", "DEL"] {
        for number in 0..ENDLESS {
            if verb == "DEL" {
                let added = execute(&world.runtime(0).unwrap(), "ADD", &pod);
                assert!(added.success, "{}", added.failure());
            }
            let runtime = faulty(&world, &format!("stop={number}"));
            let child = runtime.start(verb, &pod, &pod.netns_path()).unwrap();
            let pid = Pid::from_child(&child);
            let stopped = stops(pid);
            if stopped {
                world.nodes[0].kill_agent().unwrap();
                kill_process(pid, Signal::CONT).unwrap();
            }
            let outcome = finish(verb, child).unwrap();
            assert!(verb == "ADD" || outcome.success, "{}", outcome.failure());
            if verb == "ADD" {
                world.runtime(0).unwrap().del(&pod).unwrap();
            }
            if !stopped {
                break;
            }
            world.start_agent(0).unwrap();
        }
    }
    before.regain(&world, &|| Ok(())).unwrap();
    world.down().unwrap();
}

#[test]
#[ignore = "needs root"]
fn c55_c57_gc_takes_what_the_runtime_does_not_list() {
    let world = quick_world("gc", 1);
    world.start_agent(0).unwrap();
    let before = Rest::reach(&world, &|| Ok(())).unwrap();
    let pods = add_pods(&world, 0, 1..=5);
    let kept = &pods[1].pod;
    let listed = json!([{"containerID": kept.container_id, "ifname": "eth0"}]);
    let gc =
        |valid| execute(&world.runtime(0).unwrap().with_conf("cni.dev/valid-attachments", valid), "GC", kept);
    let other = world.runtime(0).unwrap().with_conf("name", json!("other"));
    let other = execute(&other.with_conf("cni.dev/valid-attachments", json!([])), "GC", kept);
    assert!(other.success, "{}", other.failure());
    let wired = |pod: &Pod| {
        let names = pod.netns.run(|| std::fs::read_to_string("/proc/thread-self/net/dev")).unwrap();
        names.unwrap().contains("eth0:")
    };
    assert!(pods.iter().all(|placed| wired(&placed.pod)), "another network's GC touches none of ours");
    let outcome = gc(listed);
    assert!(outcome.success, "{}", outcome.failure());
    for placed in &pods {
        assert_eq!(wired(&placed.pod), placed.pod.container_id == kept.container_id);
    }
    assert!(gc(json!(null)).success);
    before.regain(&world, &|| Ok(())).unwrap();
    world.down().unwrap();
}

#[test]
#[ignore = "needs root"]
fn c63_an_address_that_nobody_gives_back_is_collected() {
    let world = quick_world("sweep", 1);
    world.start_agent(0).unwrap();
    let before = Rest::reach(&world, &|| Ok(())).unwrap();
    let mut pods = add_pods(&world, 0, 1..=3);
    let kept = pods.pop().unwrap();
    // The namespaces go, and with them the veths; no DEL comes.
    drop(pods);
    let log = || std::fs::read_to_string(world.nodes[0].log()).unwrap();
    let collected = || log().lines().filter(|line| line.contains("abandonedAttachment")).count();
    let deadline = Instant::now() + Duration::from_secs(90);
    while collected() < 2 {
        assert!(Instant::now() < deadline, "nobody collects:\n{}", log());
        std::thread::sleep(Duration::from_millis(100));
    }
    // A restart shows that it is durable, and that the pod that lives was left alone.
    world.nodes[0].kill_agent().unwrap();
    world.start_agent(0).unwrap();
    let previous = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "eth0", "sandbox": kept.pod.netns_path()}],
        "ips": [{"address": format!("{}/32", kept.pod.address.unwrap()), "interface": 0}],
    });
    let check = world.runtime(0).unwrap().with_conf("prevResult", previous);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let checked = execute(&check, "CHECK", &kept.pod);
        // 11: the agent is starting, or has not looked at the kernel yet, and says so.
        if checked.success {
            break;
        }
        let starting = checked.output["code"] == 11;
        assert!(starting && Instant::now() < deadline, "{}", checked.failure());
        std::thread::sleep(Duration::from_millis(50));
    }
    world.runtime(0).unwrap().del(&kept.pod).unwrap();
    before.regain(&world, &|| Ok(())).unwrap();
    assert_eq!(collected(), 2);
    world.down().unwrap();
}

#[test]
#[ignore = "needs root"]
fn c70_the_plugin_starts_quickly_and_needs_little_memory() {
    let world = quick_world("small", 1);
    world.start_agent(0).unwrap();
    let pod = world.pod(0, 1).unwrap();
    let runtime = world.runtime(0).unwrap();
    let took = (0..40).map(|_| {
        let started = Instant::now();
        assert!(execute(&runtime, "VERSION", &pod).success);
        started.elapsed()
    });
    // The quickest of many: how busy the machine is does not matter. VERSION is all that ADD does without an agent.
    let quickest = took.min().unwrap();
    assert!(quickest < Duration::from_millis(5), "{quickest:?}");
    // Of address space, so that it holds of what is resident all the more.
    let script = world.dir().join("in-little-memory");
    let text = format!("#!/bin/sh\nulimit -v 10240\nexec {}\n", binary("spur").unwrap().display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let little = runtime.with_plugin(script);
    for verb in ["ADD", "DEL"] {
        let outcome = execute(&little, verb, &pod);
        assert!(outcome.success, "{verb}: {}", outcome.failure());
    }
    world.down().unwrap();
}
