//! What only shows when Spur is called as libcni calls it: neighbours in the list before and behind it, the cache between ADD and DEL, CHECK that is not to be
//! called, STATUS and GC of a whole network, a binary that is replaced. The neighbours are scripts that keep what they were given.
#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod chain;
mod common;
mod node;

use chain::{Chain, PASS, attachment, words};
use common::{Behaviour, refused};
use node::Namespace;
use serde_json::{Value, json};
use spur_wire::{RefusalKind, RequestBody, Response, StatusReply};
use std::path::Path;
use std::time::Duration;
use testbed_libcni::{Attachment, Cache, Libcni, LibcniError};

const VERSIONS: [&str; 3] = ["0.4.0", "1.0.0", "1.1.0"];

/// A script that makes this result on ADD.
fn makes(result: &Value) -> String {
    format!("[ \"$CNI_COMMAND\" != ADD ] || echo '{result}'\n")
}

/// A script that hands results on and fails at one verb as long as the file `broken` is beside it.
fn breaks(verb: &str, code: u32) -> String {
    format!(
        "if [ \"$CNI_COMMAND\" = {verb} ] && [ -e \"$home/broken\" ]; then
            echo '{{\"cniVersion\":\"1.1.0\",\"code\":{code},\"msg\":\"broken for the test\"}}'; exit 1
        fi\n{PASS}"
    )
}

#[track_caller]
fn code(result: Result<(), LibcniError>) -> u32 {
    let error = result.unwrap_err();
    error.code().unwrap_or_else(|| panic!("no code in {}", words(&error)))
}

#[test]
#[ignore = "needs root"]
fn c24_behind_another_plugin_its_result_is_extended_and_nothing_of_it_changed() {
    for version in VERSIONS {
        let (chain, pod) = (Chain::new(), Namespace::new());
        let family = if version == "0.4.0" { json!("4") } else { json!(null) };
        let mut before = json!({
            "cniVersion": version,
            "interfaces": [{"name": "br0", "mac": "02:00:00:00:00:01"}, {"name": "net7", "sandbox": pod.path()}],
            "ips": [{"version": family, "address": "192.0.2.9/24", "gateway": "192.0.2.1", "interface": 1}],
            "routes": [{"dst": "198.51.100.0/24", "gw": "192.0.2.1", "mtu": 1300}],
            "dns": {"nameservers": ["192.0.2.53"], "search": ["before.example"], "options": ["ndots:2"]},
        });
        if version != "0.4.0" {
            before["ips"][0].as_object_mut().unwrap().remove("version");
        }
        let first = chain.script("first", &makes(&before));
        let last = chain.script("last", PASS);
        let list = chain.list(version, &[first, chain.spur(), last]);
        let result = chain.add(&list, &attachment("c1", &pod)).unwrap();
        for (key, ours) in [("interfaces", 2), ("ips", 1), ("routes", 1)] {
            let (old, new) = (before[key].as_array().unwrap(), result[key].as_array().unwrap());
            assert_eq!(new[..old.len()], old[..], "{version} {key}");
            assert_eq!(new.len(), old.len() + ours, "{version} {key}: {result}");
        }
        assert_eq!(result["dns"], before["dns"]);
        // Ours are behind theirs: the index of our interface has moved.
        assert_eq!(
            (&result["ips"][1]["interface"], &result["interfaces"][3]["name"]),
            (&json!(3), &json!("eth0"))
        );
        assert_eq!(chain.seen("last", "ADD")["prevResult"], result);
        chain.check(&list, &attachment("c1", &pod)).unwrap();
        chain.del(&list, &attachment("c1", &pod)).unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn c24_what_the_specification_does_not_know_is_handed_on_byte_for_byte() {
    // libcni drops unknown fields; other runtimes may not. So the plugin is executed without it.
    let (chain, pod) = (Chain::new(), Namespace::new());
    let before = json!({"cniVersion": "1.1.0", "future": {"list": [1, 2.5, -3, "\u{e4}\n\"", null, true]},
        "interfaces": [{"name": "br0", "color": "red"}], "dns": {"more": 1}});
    let add =
        chain.agent.invocation("ADD", "c1", pod.path()).edit(|conf| conf["prevResult"] = before.clone());
    let stdout = chain.node.run(&add).stdout;
    for part in [&before["future"], &before["interfaces"][0], &before["dns"]] {
        assert!(stdout.contains(&part.to_string()), "{part} in {stdout}");
    }
}

#[test]
#[ignore = "needs root"]
fn c25_a_first_plugin_has_no_previous_result_and_one_of_a_neighbouring_version_is_read() {
    for (version, previous) in [
        ("1.1.0", None),
        ("1.1.0", Some("1.0.0")),
        ("1.0.0", Some("1.1.0")),
        ("0.4.0", Some("0.3.1")),
        ("0.4.0", Some("0.3.0")),
    ] {
        let (chain, pod) = (Chain::new(), Namespace::new());
        let mut plugins = vec![chain.spur()];
        if let Some(previous) = previous {
            let result = json!({"cniVersion": previous, "interfaces": [{"name": "br0"}]});
            plugins.insert(0, chain.script("first", &makes(&result)));
        }
        let result = chain.add(&chain.list(version, &plugins), &attachment("c1", &pod)).unwrap();
        let own = result["interfaces"].as_array().unwrap().len() - usize::from(previous.is_some());
        assert_eq!((&result["cniVersion"], own), (&json!(version), 2), "{previous:?}: {result}");
    }
}

#[test]
#[ignore = "needs root"]
fn c38_own_cleanup_comes_before_the_failure_is_reported_and_a_retry_ends_it() {
    // The agent works and cannot release, once.
    let failed = std::sync::atomic::AtomicBool::new(false);
    let (chain, pod) = (
        Chain::with_agent(move |request| {
            let once = matches!(request.body, RequestBody::Del(_))
                && !failed.swap(true, std::sync::atomic::Ordering::SeqCst);
            once.then(|| Behaviour::Answer(refused(RefusalKind::Internal, "the store is read-only")))
        }),
        Namespace::new(),
    );
    let before = chain.node.ns.snapshot();
    let (list, subject) = (chain.list("1.1.0", &[chain.spur()]), attachment("c1", &pod));
    chain.add(&list, &subject).unwrap();
    assert_eq!(code(chain.del(&list, &subject)), 999);
    before.assert_same(&chain.node.ns);
    assert!(chain.libcni.cache().file("spur-test", &subject).exists(), "libcni will try again");
    chain.del(&list, &subject).unwrap();
    assert!(chain.pool.held().is_empty());
    assert!(!chain.libcni.cache().file("spur-test", &subject).exists());
}

#[test]
#[ignore = "needs root"]
fn c38_a_failing_neighbour_holds_dels_back_until_it_works_and_leaks_nothing() {
    let (chain, pod) = (Chain::new(), Namespace::new());
    let before = chain.node.ns.snapshot();
    let last = chain.script("last", &breaks("DEL", 142));
    let (list, subject) = (chain.list("1.1.0", &[chain.spur(), last]), attachment("c1", &pod));
    chain.add(&list, &subject).unwrap();
    std::fs::write(chain.file("broken"), "").unwrap();
    assert_eq!(code(chain.del(&list, &subject)), 142);
    assert_eq!(chain.pool.held().len(), 1, "libcni stops before Spur: the pod is whole");
    chain.check(&list, &subject).unwrap();
    std::fs::remove_file(chain.file("broken")).unwrap();
    chain.del(&list, &subject).unwrap();
    before.assert_same(&chain.node.ns);
    assert!(chain.pool.held().is_empty());
}

#[test]
#[ignore = "needs root"]
fn a_neighbour_that_fails_at_add_leaves_a_pod_that_del_takes_away() {
    let (chain, pod) = (Chain::new(), Namespace::new());
    let before = chain.node.ns.snapshot();
    std::fs::write(chain.file("broken"), "").unwrap();
    let last = chain.script("last", &breaks("ADD", 143));
    let (list, subject) = (chain.list("1.1.0", &[chain.spur(), last]), attachment("c1", &pod));
    assert_eq!(code(chain.add(&list, &subject).map(drop)), 143);
    // There is no cached result: the runtime's DEL comes without one.
    chain.del(&list, &subject).unwrap();
    assert_eq!(chain.seen("last", "DEL").get("prevResult"), None);
    before.assert_same(&chain.node.ns);
    assert!(chain.pool.held().is_empty());
}

#[test]
#[ignore = "needs root"]
fn c39_del_comes_last_first_and_bears_that_our_parts_are_gone() {
    for version in VERSIONS {
        let (chain, pod) = (Chain::new(), Namespace::new());
        let before = chain.node.ns.snapshot();
        let removes =
            "[ \"$CNI_COMMAND\" != DEL ] || nsenter --net=\"$CNI_NETNS\" ip link del eth0 2>\"$home/said\"\n";
        let first = chain.script("middle", PASS);
        let last = chain.script("last", &format!("{PASS}{removes}:\n"));
        let (list, subject) = (chain.list(version, &[chain.spur(), first, last]), attachment("c1", &pod));
        let result = chain.add(&list, &subject).unwrap();
        chain.del(&list, &subject).unwrap();
        assert_eq!(std::fs::read_to_string(chain.file("said")).unwrap(), "", "eth0 was there for the last");
        assert_eq!(chain.calls(), ["ADD middle", "ADD last", "DEL last", "DEL middle"]);
        // Each DEL has the result of the whole list.
        assert_eq!(chain.seen("middle", "DEL")["prevResult"], result);
        before.assert_same(&chain.node.ns);
        assert!(chain.pool.held().is_empty());
    }
}

#[test]
#[ignore = "needs root"]
fn c43_check_has_the_result_of_the_whole_list_and_finds_our_part_in_it() {
    let (chain, pod) = (Chain::new(), Namespace::new());
    let grows = r#"[ "$CNI_COMMAND" != ADD ] || printf '%s' "$stdin" | python3 -c '
import json, sys
result = json.load(sys.stdin)["prevResult"]
result["interfaces"].append({"name": "ifb0", "mac": "02:00:00:00:00:07"})
result["ips"].append({"address": "192.0.2.7/24", "interface": 2})
result["routes"].append({"dst": "203.0.113.0/24"})
print(json.dumps(result))'
"#;
    let last = chain.script("last", grows);
    let (list, subject) = (chain.list("1.1.0", &[chain.spur(), last]), attachment("c1", &pod));
    chain.add(&list, &subject).unwrap();
    chain.check(&list, &subject).unwrap();
    assert_eq!(chain.seen("last", "CHECK")["prevResult"]["ips"][1]["address"], "192.0.2.7/24");
    pod.ip_do(&["link", "set", "eth0", "down"]);
    assert_eq!(code(chain.check(&list, &subject)), 104);
}

#[test]
#[ignore = "needs root"]
fn c46_check_is_not_called_when_the_list_disables_it() {
    let (chain, pod) = (Chain::new(), Namespace::new());
    let last = chain.script("last", PASS);
    let keys = json!({"cniVersion": "1.0.0", "disableCheck": true});
    let (list, subject) = (chain.list_with(&keys, &[chain.spur(), last]), attachment("c1", &pod));
    chain.add(&list, &subject).unwrap();
    pod.ip_do(&["link", "set", "eth0", "down"]);
    chain.check(&list, &subject).unwrap();
    assert_eq!(chain.calls(), ["ADD last"]);
    let asked = chain.agent.requests();
    assert!(!asked.iter().any(|request| matches!(request.body, RequestBody::Check(_))), "{asked:?}");
}

#[test]
#[ignore = "needs root"]
fn c53_the_first_failing_status_ends_the_round_and_its_code_survives() {
    let chain = Chain::with_agent(|request| {
        let answer =
            StatusReply { ready: false, reason: Some("routes were never synced".to_owned()), limited: false };
        (request.body == RequestBody::Status).then_some(Behaviour::Answer(Response::Status(answer)))
    });
    let last = chain.script("last", "");
    let list = chain.list("1.1.0", &[chain.spur(), last]);
    let error = chain.on_node(|libcni| libcni.status(&list)).unwrap_err();
    assert_eq!(error.code(), Some(50));
    assert!(words(&error).contains("routes were never synced"), "{}", words(&error));
    assert!(chain.calls().is_empty(), "{:?}", chain.calls());

    let chain = Chain::new();
    std::fs::write(chain.file("broken"), "").unwrap();
    let last = chain.script("last", &breaks("STATUS", 51));
    let list = chain.list("1.1.0", &[chain.spur(), last.clone()]);
    assert_eq!(code(chain.on_node(|libcni| libcni.status(&list))), 51, "Spur is well, its neighbour is not");
    // A network of 1.0.0 has no STATUS: nobody is asked.
    let old = chain.list("1.0.0", &[chain.spur(), last]);
    chain.on_node(|libcni| libcni.status(&old)).unwrap();
    assert_eq!(chain.calls(), ["STATUS last"]);
}

#[test]
#[ignore = "needs root"]
fn c55_c56_gc_takes_what_the_runtime_does_not_list_also_without_a_cache() {
    let (chain, pods) = (Chain::new(), [(); 4].map(|()| Namespace::new()));
    let before = chain.node.ns.snapshot();
    let last = chain.script("last", PASS);
    let list = chain.list("1.1.0", &[chain.spur(), last]);
    let all: Vec<_> = pods.iter().enumerate().map(|(n, pod)| attachment(&format!("c{n}"), pod)).collect();
    all.iter().for_each(|pod| drop(chain.add(&list, pod).unwrap()));
    let held =
        || -> Vec<String> { chain.pool.held().into_keys().map(|(_, held)| held.container_id).collect() };
    // c1's file is lost: only Spur's GC knows of it. The runtime's list comes from its cache, without c2.
    std::fs::remove_file(chain.libcni.cache().file("spur-test", &all[1])).unwrap();
    let mut valid = chain.libcni.cache().attachments("spur-test").unwrap();
    valid.retain(|pod| pod.container_id != "c2");
    for _ in 0..2 {
        chain.on_node(|libcni| libcni.gc(&list, Some(&valid))).unwrap();
        assert_eq!(held(), ["c0", "c3"]);
    }
    assert_eq!(
        chain.seen("last", "GC")["cni.dev/valid-attachments"],
        json!([{"containerID": "c0", "ifname": "eth0"}, {"containerID": "c3", "ifname": "eth0"}])
    );
    chain.check(&list, &all[0]).unwrap();
    chain.on_node(|libcni| libcni.gc(&list, Some(&[]))).unwrap();
    assert!(held().is_empty());
    before.assert_same(&chain.node.ns);
}

#[test]
#[ignore = "needs root"]
fn c61_a_runtime_without_a_list_takes_what_it_remembers_and_nothing_else() {
    let (chain, pods) = (Chain::new(), [Namespace::new(), Namespace::new()]);
    let list = chain.list("1.1.0", &[chain.spur()]);
    for (container, pod) in ["remembered", "forgotten"].iter().zip(&pods) {
        chain.add(&list, &attachment(container, pod)).unwrap();
    }
    std::fs::remove_file(chain.libcni.cache().file("spur-test", &attachment("forgotten", &pods[1]))).unwrap();
    // As `cnitool gc`: libcni deletes what is in its cache and calls GC without the key.
    assert_eq!(code(chain.on_node(|libcni| libcni.gc(&list, None))), 7);
    let held: Vec<_> = chain.pool.held().into_keys().map(|(_, held)| held.container_id).collect();
    assert_eq!(held, ["forgotten"]);
}

#[test]
#[ignore = "needs root"]
fn c64_nothing_is_delegated_whatever_the_configuration_asks_for() {
    // Spur has no delegates: addresses come from the agent. A configuration that names one is refused, and nothing is executed.
    let (chain, pod) = (Chain::new(), Namespace::new());
    chain.script("host-local", PASS);
    let mut spur = chain.spur();
    spur["ipam"] = json!({"type": "host-local", "subnet": "192.0.2.0/24"});
    let (list, subject) = (chain.list("1.1.0", &[spur]), attachment("c1", &pod));
    assert_eq!(code(chain.add(&list, &subject).map(drop)), 2);
    assert_eq!(code(chain.on_node(|libcni| libcni.status(&list))), 2);
    assert!(chain.calls().is_empty() && chain.agent.requests().is_empty());
}

#[test]
#[ignore = "needs root"]
fn c17_c66_the_highest_version_of_the_list_is_chosen_and_spoken() {
    let (chain, pod) = (Chain::new(), Namespace::new());
    let keys = json!({"cniVersion": "1.0.0", "cniVersions": VERSIONS});
    let list = chain.list_with(&keys, &[chain.spur()]);
    chain.libcni.validate(&list).unwrap();
    assert_eq!(chain.add(&list, &attachment("c1", &pod)).unwrap()["cniVersion"], "1.1.0");
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        chain.libcni.validate(&chain.list(version, &[chain.spur()])).unwrap();
    }
    let future = chain.libcni.validate(&chain.list("1.2.0", &[chain.spur()])).unwrap_err();
    assert!(matches!(future, LibcniError::Version { .. }), "{future}");
    // Debian's plugins do not speak 1.1.0: a list with one of them must not offer it, and the operator is told before any ADD.
    let mixed = chain.list_with(&keys, &[chain.spur(), json!({"type": "portmap"})]);
    let error = words(&chain.libcni.validate(&mixed).unwrap_err());
    assert!(error.contains("plugin portmap does not speak 1.1.0"), "{error}");
}

#[test]
#[ignore = "needs root"]
fn c67_a_binary_that_is_being_written_is_tried_again_and_one_that_is_renamed_never_fails() {
    let chain = Chain::new();
    let spur = Path::new(env!("CARGO_BIN_EXE_spur"));
    let own = chain.file("spur");
    std::fs::copy(spur, &own).unwrap();
    let list = chain.list("1.1.0", &[chain.spur()]);
    let path = vec![own.parent().unwrap().to_owned()];
    let cache = || Cache::new(Path::new("/nonexistent"));
    // Somebody writes it, as a careless installer does: text file busy. It is done during the retries.
    let writer = std::fs::OpenOptions::new().append(true).open(&own).unwrap();
    let hasty = Libcni::new(path.clone(), cache()).with_busy_pause(Duration::ZERO);
    let busy = words(&hasty.status(&list).unwrap_err());
    assert!(busy.contains("busy"), "{busy}");
    let patient = Libcni::new(path.clone(), cache()).with_busy_pause(Duration::from_millis(200));
    let done = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        drop(writer);
    });
    patient.status(&list).unwrap();
    done.join().unwrap();
    // Replaced by rename while it is called again and again.
    let copies: Vec<_> = (0..20).map(|n| chain.file(&format!("spur.{n}"))).collect();
    for copy in &copies {
        std::fs::copy(spur, copy).unwrap();
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for copy in &copies {
                std::fs::rename(copy, &own).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        for _ in 0..40 {
            patient.status(&list).unwrap();
        }
    });
}

#[test]
#[ignore = "needs root"]
fn c69_a_runtime_of_the_time_of_0_4_0_is_enough() {
    // ADD and DEL of a configuration without keys of later times; no CHECK, no STATUS, no GC, and the cache does not outlive a reboot.
    let (chain, pods) = (Chain::new(), [Namespace::new(), Namespace::new()]);
    let before = chain.node.ns.snapshot();
    let list = chain.list("0.4.0", &[chain.spur()]);
    let subjects: Vec<Attachment> =
        pods.iter().zip(["c1", "c2"]).map(|(pod, name)| attachment(name, pod)).collect();
    for subject in &subjects {
        let result = chain.add(&list, subject).unwrap();
        assert_eq!(result["ips"][0]["version"], "4");
        assert!(result["interfaces"][1].get("mtu").is_none());
    }
    std::fs::remove_file(chain.libcni.cache().file("spur-test", &subjects[0])).unwrap();
    subjects.iter().for_each(|subject| chain.del(&list, subject).unwrap());
    before.assert_same(&chain.node.ns);
    assert!(chain.pool.held().is_empty());
    let asked = chain.agent.requests();
    assert!(
        asked.iter().all(|request| matches!(request.body, RequestBody::Add(_) | RequestBody::Del(_))),
        "{asked:?}"
    );
}
