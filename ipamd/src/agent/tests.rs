//! Tests of the whole agent through its socket, with the real store and the real pool, against the in-memory cloud and a kernel in
//! memory.

mod bed;
mod blocks;
mod collect;
mod keeper;
mod metrics;
mod reaping;

use super::*;
use crate::config::Selector;
use bed::{Bed, add_request, attachment, net, pause, request, unix_millis, wait_until};
use kernel::WiredPod;
use spur_cloud::fake::Fault;
use spur_cloud::{Api, ErrorClass};
use spur_datapath::names::host_mac;
use spur_wire::{CheckRequest, RefusalKind, RequestBody, Response, SpooledRelease, StatusReply};
use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::net::UnixStream;

fn containers(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

#[test]
fn pods_get_addresses_of_their_own_as_many_as_the_instance_may_have() {
    let bed = Bed::new();
    let agent = bed.start_ready();
    let replies = agent.add_all(&containers("c", 27));
    let addresses: BTreeSet<IpAddr> = replies
        .iter()
        .map(|reply| {
            let reply = reply.as_ref().unwrap_or_else(|refusal| panic!("{refusal:?}"));
            assert_eq!((reply.pods_table, reply.mtu_bytes, reply.addresses.len()), (5000, 9001, 1));
            assert_eq!(
                reply.node_address,
                bed.cloud.with(|world| world.true_enis().values().next().unwrap().primary)
            );
            reply.addresses[0]
        })
        .collect();
    assert_eq!(addresses.len(), 27);
    let wanted = bed.kernel.with(|state| state.wanted.clone()).unwrap();
    assert_eq!(wanted.secondaries.len(), 2);
    assert_eq!(wanted.nat.never, [net("10.0.0.0/16"), net("10.7.0.0/16")]);
    assert_eq!(wanted.nat.local.len(), 27);
    assert!(wanted.secondaries.iter().all(|eni| eni.gateway.to_string() == "10.0.1.1"));
    let creates = bed.calls()[&Api::CreateNetworkInterface];
    assert_eq!(creates, 2, "{:?}", bed.calls());
}

#[test]
fn a_pod_that_cannot_be_served_hears_why_after_the_bounded_wait() {
    let mut bed = Bed::new();
    bed.config.pool.max_enis = Some(1);
    let agent = bed.start_ready();
    let served = agent.add_all(&containers("c", 9));
    assert!(served.iter().all(Result::is_ok), "{served:?}");
    agent.reconfigure(|config| config.add_wait = Duration::from_millis(400));
    let refusal = agent.add("c9").unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::TryAgain);
    assert!(
        refusal.reason.contains("within 0 s") || refusal.reason.contains("the node is full"),
        "{}",
        refusal.reason
    );
    assert!(agent.status().unwrap().ready, "a full node is a ready node");
}

#[test]
fn add_again_del_again_and_check_say_what_the_books_say() {
    let bed = Bed::new();
    let agent = bed.start_ready();
    let address = agent.address("c1");
    let again = agent.add("c1").unwrap_err();
    assert_eq!(again.kind, RefusalKind::AlreadyAttached);
    assert!(again.reason.contains(&address.to_string()), "{}", again.reason);
    assert_eq!(agent.held("c1"), [address]);
    assert_eq!(agent.del("c1"), [address]);
    assert_eq!(agent.del("c1"), [] as [IpAddr; 0]);
    assert_eq!(agent.held("c1"), [] as [IpAddr; 0]);
    wait_until("flows are forgotten", || bed.kernel.with(|state| state.forgotten == [address]));
    assert_ne!(agent.address("c1"), address, "it rests");
}

#[test]
fn a_request_that_makes_no_sense_is_refused_with_the_field_and_changes_nothing() {
    let bed = Bed::new();
    let agent = bed.start_ready();
    for (container, word) in [("", "containerId"), ("a/b", "containerId"), (".recovered-x", "containerId")] {
        let refusal = agent.add(container).unwrap_err();
        assert!(refusal.kind == RefusalKind::Invalid && refusal.reason.contains(word), "{refusal:?}");
    }
    let mut bad = add_request("c");
    if let RequestBody::Add(add) = &mut bad {
        add.attachment.if_name = "a-name-that-is-too-long".to_owned();
    }
    let Some(Response::Refused(refusal)) = agent.ask(bad) else { panic!() };
    assert!(refusal.kind == RefusalKind::Invalid && refusal.reason.contains("ifName"), "{refusal:?}");
}

#[test]
fn a_killed_agent_goes_on_where_it_was_and_asks_ec2_for_little() {
    let bed = Bed::new();
    let agent = bed.start_ready();
    let names = containers("c", 12);
    let before: Vec<IpAddr> =
        agent.add_all(&names).into_iter().map(|reply| reply.unwrap().addresses[0]).collect();
    let resting = agent.del("c0");
    wait_until("the pool is quiet", || {
        let calls = bed.calls();
        pause(Duration::from_millis(300));
        bed.calls() == calls
    });
    agent.kill();
    let calls: usize = bed.calls().values().sum();
    let agent = bed.start_ready();
    assert_eq!(agent.held("c0"), [] as [IpAddr; 0]);
    for (name, address) in names.iter().zip(&before).skip(1) {
        assert_eq!(agent.held(name), [*address], "{name}");
        assert_eq!(agent.add(name).unwrap_err().kind, RefusalKind::AlreadyAttached);
    }
    let fresh = agent.address("new");
    assert!(!before.contains(&fresh) && !resting.contains(&fresh));
    let spent = bed.calls().values().sum::<usize>() - calls;
    assert!(spent <= 2, "{spent} calls after a restart: {:?}", bed.calls());
}

#[test]
fn flows_of_what_rests_are_forgotten_by_an_agent_that_starts_and_those_of_pods_are_not() {
    let bed = Bed::new();
    let agent = bed.start_ready();
    let (gone, stays) = (agent.address("gone"), agent.address("stays"));
    agent.del("gone");
    agent.kill();
    // It was killed before it came to this.
    bed.kernel.with(|state| state.forgotten.clear());
    let agent = bed.start_ready();
    wait_until("flows are forgotten", || bed.kernel.with(|state| state.forgotten == [gone]));
    assert_eq!(agent.held("stays"), [stays]);
}

#[test]
fn killing_at_any_moment_of_many_adds_loses_and_doubles_nothing() {
    let bed = Bed::new();
    let mut holders: std::collections::BTreeMap<String, IpAddr> = std::collections::BTreeMap::new();
    for round in 0..6 {
        let agent = bed.start();
        let socket = bed.config.socket.clone();
        wait_until("listening", || UnixStream::connect(&socket).is_ok());
        let names = containers(&format!("r{round}-"), 4);
        let adds: Vec<_> = names
            .iter()
            .map(|name| {
                let (name, socket) = (name.clone(), socket.clone());
                std::thread::spawn(move || {
                    let mut stream = UnixStream::connect(socket).ok()?;
                    stream.write_all(&request(add_request(&name))).ok()?;
                    match spur_wire::read_frame(&mut stream).ok()? {
                        Response::Add(reply) => Some((name, reply.addresses[0])),
                        _ => None,
                    }
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(17 * round));
        agent.kill();
        holders.extend(adds.into_iter().filter_map(|add| add.join().unwrap()));
    }
    let agent = bed.start_ready();
    for (name, address) in &holders {
        assert_eq!(agent.held(name), [*address], "{name}");
    }
    let distinct: BTreeSet<_> = holders.values().collect();
    assert_eq!(distinct.len(), holders.len(), "{holders:?}");
    let enis = bed.cloud.with(|world| world.true_enis().len());
    assert!(enis <= 3, "{enis} ENIs: a lost creation was made again");
}

#[test]
fn an_unusable_store_is_rebuilt_from_the_pods_that_run() {
    let bed = Bed::new();
    let mut agent = bed.start_ready();
    let (kept, gone) = (agent.address("c1"), agent.address("c2"));
    agent.stop().unwrap();
    for (container, address) in [("c1", kept), ("c2", gone)] {
        let (host_mac, host_if_name) = (host_mac(container, "eth0"), format!("eni{container}"));
        bed.kernel.with(|state| state.pods.push(WiredPod { address, host_mac, host_if_name }));
    }
    let free_before = bed.cloud.with(|world| world.true_enis().values().next().unwrap().addresses.clone());
    std::fs::write(bed.config.state_dir.join("agent.redb"), "torn").unwrap();
    let mut agent = bed.start_ready();
    assert_eq!(agent.held("c1"), [kept]);
    assert_eq!(agent.add("c1").unwrap_err().kind, RefusalKind::AlreadyAttached);
    assert_eq!(agent.del("c2"), [gone]);
    let others = agent.add_all(&containers("n", 5));
    for reply in others {
        let address = reply.unwrap().addresses[0];
        assert!(!free_before.contains(&address), "{address} may have been given back a second ago");
    }
    bed.kernel.with(|state| state.pods.remove(1));
    agent.stop().unwrap();
    let agent = bed.start_ready();
    assert_eq!(agent.del("c1"), [kept], "recognised after another restart too");
}

#[test]
fn a_store_that_cannot_be_opened_is_waited_for_and_everybody_hears_why() {
    let mut bed = Bed::new();
    let blocked = bed.dir.path().join("blocked");
    std::fs::write(&blocked, "a file, where a directory should be").unwrap();
    bed.config.state_dir = blocked.join("state");
    let mut agent = bed.start();
    wait_until("serving", || agent.status().is_some());
    let status = agent.status().unwrap();
    assert!(!status.ready && status.reason.unwrap().contains("open the store"), "no word about it");
    let refusal = agent.add("c1").unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::NotReady);
    assert!(refusal.reason.contains("blocked"), "{}", refusal.reason);
    std::fs::remove_file(&blocked).unwrap();
    wait_until("ready", || agent.status().is_some_and(|status| status.ready));
    let address = agent.address("c1");
    agent.stop().unwrap();
    // Being told to stop ends the wait, too.
    let _ = std::fs::rename(&blocked, bed.dir.path().join("elsewhere"));
    std::fs::write(&blocked, "again").unwrap();
    let mut waiting = bed.start();
    wait_until("serving", || waiting.status().is_some());
    waiting.stop().unwrap();
    std::fs::remove_file(&blocked).unwrap();
    std::fs::rename(bed.dir.path().join("elsewhere"), &blocked).unwrap();
    assert_eq!(bed.start_ready().held("c1"), [address]);
}

#[test]
fn a_reboot_drops_assignments_and_another_machines_store_is_not_believed() {
    let mut bed = Bed::new();
    let mut agent = bed.start_ready();
    agent.address("c1");
    agent.stop().unwrap();
    bed.boot_id = "boot-2".to_owned();
    let mut agent = bed.start_ready();
    assert_eq!(agent.held("c1"), [] as [IpAddr; 0]);
    let address = agent.address("c1");
    agent.stop().unwrap();
    let mut agent = bed.start_ready();
    assert_eq!(agent.held("c1"), [address], "no reboot in between");
    agent.stop().unwrap();
}

#[test]
fn a_second_agent_on_the_same_state_is_refused() {
    let mut bed = Bed::new();
    let _first = bed.start_ready();
    bed.config.socket = bed.dir.path().join("run/other.sock");
    let error = bed.start().result().unwrap_err();
    assert!(matches!(error, AgentError::Store(StoreError::Held(_))), "{error:?}");
    assert!(!bed.config.socket.exists());
}

#[test]
fn the_conflist_appears_only_when_add_can_be_served() {
    let bed = Bed::new();
    bed.kernel.with(|state| state.broken = true);
    let mut agent = bed.start();
    let conflist = bed.config.cni.conf_dir.join("10-spur.conflist");
    let mut last = None;
    wait_until("the kernel's trouble shows", || {
        last = agent.status();
        matches!(&last, Some(StatusReply { ready: false, reason: Some(reason), limited: false }) if reason.contains("it is broken"))
    });
    assert!(!conflist.exists());
    bed.kernel.with(|state| state.broken = false);
    wait_until("ready", || agent.status().is_some_and(|status| status.ready));
    wait_until("conflist", || conflist.exists());
    agent.stop().unwrap();
    assert!(
        conflist.exists(),
        "pods that come meanwhile are told to try again, not given to another network"
    );
    assert!(!bed.config.socket.exists());
}

#[test]
fn c41_check_says_try_again_until_a_starting_agent_has_seen_the_kernel() {
    let bed = Bed::new();
    let mut agent = bed.start_ready();
    let address = agent.address("c1");
    agent.stop().unwrap();
    bed.kernel.with(|state| state.broken = true);
    let agent = bed.start();
    let check = || agent.ask(RequestBody::Check(CheckRequest { attachment: attachment("c1") }));
    wait_until("the pool runs", || {
        let Some(answer) = check() else { return false };
        let Response::Refused(refusal) = answer else { panic!("it cannot know: {answer:?}") };
        assert_eq!(refusal.kind, RefusalKind::NotReady, "{}", refusal.reason);
        refusal.reason.contains("it is broken")
    });
    bed.kernel.with(|state| state.broken = false);
    wait_until("recovered", || matches!(check(), Some(Response::Check(_))));
    assert_eq!(agent.held("c1"), [address]);
}

#[test]
fn drift_is_repaired_within_seconds_and_a_failing_repair_does_not_unready_the_node() {
    let bed = Bed::new();
    let agent = bed.start_ready();
    bed.kernel.with(|state| state.flushed = true);
    wait_until("repaired", || bed.kernel.with(|state| !state.flushed));
    bed.kernel.with(|state| state.broken = true);
    pause(Duration::from_millis(100));
    assert!(agent.status().unwrap().ready);
}

#[test]
fn a_change_that_fails_is_tried_again_and_nothing_is_turned_back_and_forth() {
    let mut bed = Bed::new();
    bed.config.reconcile = Duration::from_millis(100);
    let agent = bed.start_ready();
    bed.kernel.with(|state| {
        state.broken = true;
        state.attempts.clear();
    });
    bed.metadata.vpc_cidrs.lock().unwrap().push("10.9.0.0/16".parse().unwrap());
    let tried = |state: &mut bed::KernelState| {
        let new = state.attempts.iter().position(|wanted| wanted.nat.never.contains(&net("10.9.0.0/16")));
        new.map(|at| state.attempts[at..].to_vec()).unwrap_or_default()
    };
    wait_until("tried again", || bed.kernel.with(tried).len() >= 2);
    assert!(bed.kernel.with(tried).windows(2).all(|two| two[0] == two[1]));
    assert!(agent.status().unwrap().ready, "what was there is still there");
}

#[test]
fn without_metadata_the_agent_says_so_and_goes_on_when_it_comes() {
    let mut bed = Bed::new();
    bed.config.add_wait = Duration::from_millis(100);
    *bed.metadata.away.lock().unwrap() = true;
    let agent = bed.start();
    wait_until("listening", || agent.status().is_some());
    wait_until("refused with the reason", || {
        let refusal = agent.add("c1").unwrap_err();
        refusal.kind == RefusalKind::NotReady && refusal.reason.contains("instance metadata")
    });
    *bed.metadata.away.lock().unwrap() = false;
    // Now there is something to wait for.
    agent.reconfigure(|config| config.add_wait = Duration::from_secs(10));
    wait_until("ready", || agent.status().is_some_and(|status| status.ready));
    agent.address("c1");
}

#[test]
fn the_built_in_limits_stand_in_when_ec2_does_not_tell() {
    let bed = Bed::new();
    bed.cloud.with(|world| world.inject(Api::DescribeInstanceTypes, Fault::Refuse(ErrorClass::Denied)));
    let agent = bed.start_ready();
    agent.address("c1");
    assert_eq!(bed.calls()[&Api::DescribeInstanceTypes], 1);
    agent.kill();
    bed.start_ready();
    assert_eq!(bed.calls()[&Api::DescribeInstanceTypes], 2, "not cached, so asked again");
    bed.start_ready();
    assert_eq!(bed.calls()[&Api::DescribeInstanceTypes], 2, "cached");
}

#[test]
fn releases_that_were_spooled_are_drained_unless_the_address_was_granted_again() {
    let bed = Bed::new();
    let mut agent = bed.start_ready();
    let before = unix_millis() - 60_000;
    let (old, due) = (agent.address("old"), agent.address("due"));
    agent.stop().unwrap();
    let spool = |container: &str, released_unix_ms| {
        let request = spur_wire::DelRequest { attachment: attachment(container) };
        let release = SpooledRelease { version: 1, network: "spur".into(), request, released_unix_ms };
        release.write(&bed.config.spool_dir).unwrap();
    };
    spool("old", before);
    spool("due", unix_millis() + 1000);
    spool("never-added", unix_millis());
    std::fs::write(bed.config.spool_dir.join("broken.json"), "{").unwrap();
    let agent = bed.start_ready();
    wait_until("drained", || std::fs::read_dir(&bed.config.spool_dir).unwrap().count() == 1);
    assert_eq!(agent.held("old"), [old]);
    assert_eq!(agent.held("due"), [] as [IpAddr; 0]);
    assert!(bed.config.spool_dir.join("broken.json").exists(), "left for a person: {due}");
}

#[test]
fn a_plugin_that_hangs_up_gets_no_address() {
    let mut bed = Bed::new();
    bed.config.pool.max_enis = Some(1);
    bed.config.pool.cooldown = Duration::ZERO;
    let agent = bed.start_ready();
    let names = containers("c", 9);
    assert!(agent.add_all(&names).iter().all(Result::is_ok));
    let mut stream = UnixStream::connect(&bed.config.socket).unwrap();
    stream.write_all(&request(add_request("gone"))).unwrap();
    pause(Duration::from_millis(100));
    drop(stream);
    pause(Duration::from_millis(100));
    let freed = agent.del("c0");
    assert_eq!(freed, [agent.address("next")], "nobody in between took it");
    assert_eq!(agent.held("gone"), [] as [IpAddr; 0]);
}

#[test]
fn stopping_tells_those_who_wait_to_try_again() {
    let mut bed = Bed::new();
    bed.config.pool.max_enis = Some(1);
    let mut agent = bed.start_ready();
    assert!(agent.add_all(&containers("c", 9)).iter().all(Result::is_ok));
    let mut stream = UnixStream::connect(&bed.config.socket).unwrap();
    stream.write_all(&request(add_request("waits"))).unwrap();
    pause(Duration::from_millis(200));
    agent.stop().unwrap();
    let Ok(Response::Refused(refusal)) = spur_wire::read_frame(&mut stream) else { panic!("no refusal") };
    assert_eq!(refusal.kind, RefusalKind::TryAgain);
    assert!(refusal.reason.contains("the node is full"), "{}", refusal.reason);
}

#[test]
fn a_configuration_that_changes_reaches_pool_kernel_conflist_and_plugin() {
    let mut bed = Bed::new();
    bed.config.add_wait = Duration::from_secs(5);
    bed.config.pool.max_above_warm = 0;
    let agent = bed.start_ready();
    let held =
        || bed.cloud.with(|world| world.true_enis().values().map(|eni| eni.addresses.len()).sum::<usize>());
    wait_until("the first stock", || held() == 2);
    agent.reconfigure(|config| {
        config.pool.warm_ip_target = 5;
        config.pool.block_instance_metadata = true;
        config.mtu_bytes = Some(1400);
        config.cni.chain = vec![serde_json::json!({"type": "portmap"})];
    });
    wait_until("the pool grows", || held() == 5);
    let metadata = || bed.kernel.with(|state| state.wanted.clone()).unwrap().block_instance_metadata;
    wait_until("the kernel blocks the metadata", metadata);
    let conflist = bed.config.cni.conf_dir.join("10-spur.conflist");
    let chained = |text: String| text.contains("portmap");
    wait_until("portmap is chained", || std::fs::read_to_string(&conflist).is_ok_and(chained));
    assert_eq!(agent.add("c1").unwrap().mtu_bytes, 1400);
    assert!(agent.status().unwrap().ready);
}

#[test]
fn subnets_and_groups_by_tag_cost_a_restart_nothing() {
    let mut bed = Bed::new();
    bed.cloud.with(|world| {
        let primary = world.true_enis().values().next().unwrap().clone();
        world.tag_subnet(&primary.subnet, "role", "pods");
        world.add_security_group("pods", &primary.vpc, &[("role", "pods")]);
    });
    let tags = std::collections::BTreeMap::from([("role".to_owned(), "pods".to_owned())]);
    bed.config.pool.subnets = Selector::Tags(tags.clone());
    bed.config.pool.security_groups = Selector::Tags(tags);
    let mut agent = bed.start_ready();
    assert!(agent.add_all(&containers("c", 12)).iter().all(Result::is_ok));
    let groups: Vec<_> = bed.cloud.with(|world| {
        let secondary = world.true_enis().values().nth(1).unwrap();
        secondary.security_groups.iter().map(ToString::to_string).collect()
    });
    assert_eq!(groups, ["sg-pods"]);
    agent.stop().unwrap();
    let asked = |calls: &std::collections::BTreeMap<Api, usize>| {
        (calls[&Api::DescribeSubnets], calls[&Api::DescribeSecurityGroups])
    };
    assert_eq!(asked(&bed.calls()), (1, 1));
    let _agent = bed.start_ready();
    assert_eq!(asked(&bed.calls()), (1, 1));
}

#[test]
fn cidrs_that_join_the_vpc_reach_the_kernel_and_bad_news_does_not() {
    let mut bed = Bed::new();
    bed.config.reconcile = Duration::from_millis(100);
    let _agent = bed.start_ready();
    let never = || bed.kernel.with(|state| state.wanted.clone()).unwrap().nat.never;
    *bed.metadata.vpc_cidrs.lock().unwrap() =
        vec!["10.0.0.0/16".parse().unwrap(), "10.9.0.0/16".parse().unwrap()];
    wait_until("the new CIDR", || never() == [net("10.0.0.0/16"), net("10.9.0.0/16")]);
    *bed.metadata.vpc_cidrs.lock().unwrap() = Vec::new();
    pause(Duration::from_millis(250));
    *bed.metadata.away.lock().unwrap() = true;
    pause(Duration::from_millis(250));
    assert_eq!(never(), [net("10.0.0.0/16"), net("10.9.0.0/16")]);
}
