//! Statements that need the kernel: the plugin runs in a namespace that stands for the node and wires pods in others. `ip` is the
//! independent witness. Each test makes its own namespaces and removes them; without privileges the tests fail.
//! The plugin itself gets no help: what a runtime would pass is all it has.
#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod common;
mod node;

use common::{Behaviour, FakeAgent, Ran, wait_until};
use node::{Namespace, Node};
use serde_json::{Value, json};
use spur_datapath::names;
use spur_wire::{Response, SpooledRelease};
use std::io::Write;
use std::time::Instant;

/// The JSON of `ip`, for the one entry that fits.
#[track_caller]
fn only<'a>(list: &'a Value, key: &str, value: &str) -> &'a Value {
    let found: Vec<_> = list.as_array().unwrap().iter().filter(|entry| entry[key] == value).collect();
    assert_eq!(found.len(), 1, "{key} = {value} in {list}");
    found[0]
}

#[track_caller]
fn assert_pod_works(node: &Node, pod: &Namespace, if_name: &str, result: &Value) {
    let address = result["ips"][0]["address"].as_str().unwrap().strip_suffix("/32").unwrap().to_owned();
    let link = pod.ip(&["-4", "addr", "show", "dev", if_name]);
    assert_eq!(link[0]["operstate"], "UP", "{link}");
    assert_eq!(link[0]["addr_info"].as_array().unwrap().len(), 1, "{link}");
    assert_eq!(
        (link[0]["addr_info"][0]["local"].as_str(), &link[0]["addr_info"][0]["prefixlen"]),
        (Some(&*address), &json!(32))
    );
    let routes = pod.ip(&["-4", "route", "show", "dev", if_name]);
    assert_eq!(only(&routes, "dst", "default")["gateway"], result["routes"][0]["gw"]);
    assert_eq!(only(&routes, "dst", "169.254.1.1")["scope"], "link");
    let host_side = result["interfaces"][0]["name"].as_str().unwrap();
    assert_eq!(only(&node.ns.ip(&["route", "show", "table", "5000"]), "dst", &address)["dev"], host_side);
    node.ping(&address);
}

fn answers_with(pool: &common::Pool, change: impl Fn(&mut Response) + Send + Sync + 'static) -> FakeAgent {
    let pool = pool.clone();
    FakeAgent::start(move |request| {
        let mut response = pool.answer(request);
        change(&mut response);
        Behaviour::Answer(response)
    })
}

#[test]
#[ignore = "needs root"]
fn c18_add_creates_the_interface_up_with_what_the_result_says() {
    let node = Node::new();
    let (agent, _) = FakeAgent::honest();
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        let pod = Namespace::new();
        let add = agent.invocation("ADD", "c1", pod.path()).edit(|conf| conf["cniVersion"] = json!(version));
        let result = node.run(&add).result();
        assert_pod_works(&node, &pod, "eth0", &result);
        node.run(&agent.invocation("DEL", "c1", pod.path())).assert_silent_success();
    }
}

#[test]
#[ignore = "needs root"]
fn c19_result_has_the_shape_of_the_callers_version() {
    let node = Node::new();
    let (agent, _) = FakeAgent::honest();
    for (version, family, mtu) in [
        ("0.4.0", json!("4"), json!(null)),
        ("1.0.0", json!(null), json!(null)),
        ("1.1.0", json!(null), json!(9001)),
    ] {
        let pod = Namespace::new();
        let add = agent.invocation("ADD", "c1", pod.path()).edit(|conf| conf["cniVersion"] = json!(version));
        let result = node.run(&add).result();
        assert_eq!(result["cniVersion"], version);
        assert_eq!(result["ips"][0]["version"], family, "{result}");
        for interface in result["interfaces"].as_array().unwrap() {
            assert_eq!(interface["mtu"], mtu, "{result}");
        }
        assert_eq!(result["routes"], json!([{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}]));
        assert_eq!(pod.ip(&["link", "show", "eth0"])[0]["mtu"], 9001);
        node.run(&agent.invocation("DEL", "c1", pod.path())).assert_silent_success();
    }
}

#[test]
#[ignore = "needs root"]
fn c20_result_lists_both_ends_with_their_real_addresses() {
    let (node, pod) = (Node::new(), Namespace::new());
    let (agent, _) = FakeAgent::honest();
    let result = node.run(&agent.invocation("ADD", "c1", pod.path())).result();
    let interfaces = result["interfaces"].as_array().unwrap();
    assert_eq!(interfaces.len(), 2);
    assert_eq!((&interfaces[0]["sandbox"], &interfaces[1]["sandbox"]), (&json!(""), &json!(pod.path())));
    assert_eq!((&interfaces[1]["name"], &result["ips"][0]["interface"]), (&json!("eth0"), &json!(1)));
    let host_side = node.ns.ip(&["link", "show", interfaces[0]["name"].as_str().unwrap()]);
    let pod_side = pod.ip(&["link", "show", "eth0"]);
    assert_eq!(interfaces[0]["mac"], host_side[0]["address"]);
    assert_eq!(interfaces[1]["mac"], pod_side[0]["address"]);
    assert_eq!(host_side[0]["link_index"], pod_side[0]["ifindex"], "the two are one pair");
}

#[test]
#[ignore = "needs root"]
fn c21_an_interface_that_is_there_stays_untouched() {
    let (node, pod) = (Node::new(), Namespace::new());
    let (agent, pool) = FakeAgent::honest();
    pod.ip_do(&["link", "add", "eth0", "type", "veth", "peer", "name", "other"]);
    let before = (node.ns.snapshot(), pod.snapshot());
    let message = node.run(&agent.invocation("ADD", "c1", pod.path())).failure(102);
    assert!(message.contains("eth0"), "{message}");
    before.0.assert_same(&node.ns);
    before.1.assert_same(&pod);
    assert!(pool.held().is_empty(), "the address went back");
}

#[test]
#[ignore = "needs root"]
fn c22_a_second_add_of_an_interface_is_refused_and_of_another_is_not() {
    let (node, pod) = (Node::new(), Namespace::new());
    let (agent, pool) = FakeAgent::honest();
    let add = agent.invocation("ADD", "c1", pod.path());
    let first = node.run(&add).result();
    let before = (node.ns.snapshot(), pod.snapshot());
    node.run(&add).failure(100);
    before.0.assert_same(&node.ns);
    before.1.assert_same(&pod);
    assert_eq!(pool.held().len(), 1);
    let second = node.run(&add.clone().with("CNI_IFNAME", "net1")).result();
    assert_eq!(pool.held().len(), 2);
    assert_ne!(first["ips"][0]["address"], second["ips"][0]["address"]);
    assert_pod_works(&node, &pod, "eth0", &first);
    assert_eq!(second["interfaces"][1]["name"], "net1");
    for if_name in ["eth0", "net1"] {
        let del = agent.invocation("DEL", "c1", pod.path()).with("CNI_IFNAME", if_name);
        node.run(&del).assert_silent_success();
    }
    assert!(pool.held().is_empty());
}

#[test]
#[ignore = "needs root"]
fn c23_a_failure_after_the_grant_leaves_nothing() {
    let (node, pod) = (Node::new(), Namespace::new());
    let pool = common::Pool::default();
    let before = (node.ns.snapshot(), pod.snapshot());
    // The last message to the kernel fails: the preferred source of the host's route is no address of the node.
    let agent = answers_with(&pool, |response| {
        if let Response::Add(grant) = response {
            grant.node_address = "203.0.113.9".parse().unwrap();
        }
    });
    let message = node.run(&agent.invocation("ADD", "c1", pod.path())).failure(103);
    assert!(message.contains("wire the pod"), "{message}");
    before.0.assert_same(&node.ns);
    before.1.assert_same(&pod);
    assert!(pool.held().is_empty(), "the address went back");
    // A grant that makes no sense never reaches the kernel, but it was a grant.
    let agent = answers_with(&pool, |response| {
        if let Response::Add(grant) = response {
            grant.mtu_bytes = 1;
        }
    });
    assert!(node.run(&agent.invocation("ADD", "c1", pod.path())).failure(101).contains("mtuBytes is 1"));
    assert!(pool.held().is_empty(), "the address went back");
}

#[test]
#[ignore = "needs root"]
fn c23_an_address_that_cannot_be_given_back_is_spooled() {
    let (node, pod) = (Node::new(), Namespace::new());
    let agent = FakeAgent::start(|request| match &request.body {
        spur_wire::RequestBody::Add(_) => {
            let mut grant = common::grant("10.77.1.1".parse().unwrap());
            grant.pods_table = 254;
            Behaviour::Answer(Response::Add(grant))
        }
        _ => Behaviour::Close,
    });
    node.run(&agent.invocation("ADD", "c1", pod.path())).failure(101);
    assert_eq!(agent.spooled().len(), 1);
}

#[test]
#[ignore = "needs root"]
fn c23_a_result_that_nobody_reads_is_undone() {
    let (node, pod) = (Node::new(), Namespace::new());
    let (agent, pool) = FakeAgent::honest();
    let before = (node.ns.snapshot(), pod.snapshot());
    let add = agent.invocation("ADD", "c1", pod.path());
    let ran = node.ns.inside(|| {
        let mut command = add.command();
        // Writing to /dev/full fails with ENOSPC.
        command.stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&add.stdin).unwrap();
        common::finish(child, Instant::now())
    });
    assert!(!ran.success);
    before.0.assert_same(&node.ns);
    before.1.assert_same(&pod);
    assert!(pool.held().is_empty());
}

#[test]
#[ignore = "needs root"]
fn c14_the_nodes_own_namespace_is_refused_by_any_path() {
    let node = Node::new();
    let (agent, _) = FakeAgent::honest();
    let before = node.ns.snapshot();
    node.run(&agent.invocation("ADD", "c1", node.ns.path())).failure(8);
    assert!(agent.requests().is_empty());
    // Even with the override a pair whose two ends are in one namespace is not made.
    let insisting = agent.invocation("ADD", "c1", node.ns.path()).with("CNI_NETNS_OVERRIDE", "1");
    node.run(&insisting).failure(8);
    before.assert_same(&node.ns);
}

#[test]
#[ignore = "needs root"]
fn c26_a_namespace_of_another_kind_changes_nothing() {
    let node = Node::new();
    let (agent, pool) = FakeAgent::honest();
    let before = node.ns.snapshot();
    let ran = node.run(&agent.invocation("ADD", "c1", "/proc/self/ns/mnt"));
    assert!(!ran.success, "{ran:?}");
    before.assert_same(&node.ns);
    assert!(pool.held().is_empty());
}

#[test]
#[ignore = "needs root"]
fn c29_fifty_adds_at_once_all_succeed_with_addresses_of_their_own() {
    let node = Node::new();
    let (agent, pool) = FakeAgent::honest();
    let before = node.ns.snapshot();
    let pods: Vec<_> = (0..50).map(|_| Namespace::new()).collect();
    let at_once = |verb: &str| -> Vec<Ran> {
        node.ns.inside(|| {
            let started = Instant::now();
            let spawn = |(index, pod): (usize, &Namespace)| {
                agent.invocation(verb, &format!("c{index}"), pod.path()).spawn()
            };
            let children: Vec<_> = pods.iter().enumerate().map(spawn).collect();
            children.into_iter().map(|child| common::finish(child, started)).collect()
        })
    };
    let added = at_once("ADD");
    let mut addresses: Vec<_> =
        added.iter().map(|ran| ran.result()["ips"][0]["address"].to_string()).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!((addresses.len(), pool.held().len()), (50, 50));
    for (pod, ran) in pods.iter().zip(&added) {
        assert_pod_works(&node, pod, "eth0", &ran.result());
    }
    at_once("DEL").iter().for_each(Ran::assert_silent_success);
    assert!(pool.held().is_empty());
    before.assert_same(&node.ns);
}

#[test]
#[ignore = "needs root"]
fn c30_after_a_kill_between_grant_and_wiring_del_leaves_nothing() {
    let (node, pod) = (Node::new(), Namespace::new());
    let pool = common::Pool::default();
    let books = pool.clone();
    let agent = FakeAgent::start(move |request| match books.answer(request) {
        Response::Add(_) => Behaviour::Kill,
        other => Behaviour::Answer(other),
    });
    let before = (node.ns.snapshot(), pod.snapshot());
    let ran = node.run(&agent.invocation("ADD", "c1", pod.path()));
    assert!(!ran.success && ran.stdout.is_empty(), "{ran:?}");
    assert_eq!(pool.held().len(), 1);
    node.run(&agent.invocation("DEL", "c1", pod.path())).assert_silent_success();
    assert!(pool.held().is_empty());
    before.0.assert_same(&node.ns);
    before.1.assert_same(&pod);
}

#[test]
#[ignore = "needs root"]
fn c30_after_a_kill_between_wiring_and_result_del_leaves_nothing() {
    let (node, pod) = (Node::new(), Namespace::new());
    let (agent, pool) = FakeAgent::honest();
    let before = (node.ns.snapshot(), pod.snapshot());
    let add = agent.invocation("ADD", "c1", pod.path());
    // A full pipe: the plugin waits in the write of its result.
    let (reader, mut writer) = std::io::pipe().unwrap();
    let size = rustix::pipe::fcntl_getpipe_size(&writer).unwrap();
    writer.write_all(&vec![b' '; size]).unwrap();
    node.ns.inside(|| {
        let mut child = add.command().stdout(writer).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&add.stdin).unwrap();
        wait_until("the host has a route to the pod", || {
            node.ns.ip_do(&["route", "show", "table", "all"]).contains("10.77.1.1")
        });
        child.kill().unwrap();
        child.wait().unwrap();
    });
    drop(reader);
    assert!(pod.snapshot() != before.1 && pool.held().len() == 1);
    node.run(&agent.invocation("DEL", "c1", pod.path())).assert_silent_success();
    assert!(pool.held().is_empty());
    before.0.assert_same(&node.ns);
    before.1.assert_same(&pod);
}

#[test]
#[ignore = "needs root"]
fn c30_after_a_kill_at_any_moment_del_leaves_nothing() {
    let (node, pod) = (Node::new(), Namespace::new());
    let (agent, pool) = FakeAgent::honest();
    let before = (node.ns.snapshot(), pod.snapshot());
    let (add, del) = (agent.invocation("ADD", "c1", pod.path()), agent.invocation("DEL", "c1", pod.path()));
    let whole = {
        let ran = node.run(&add);
        ran.result();
        node.run(&del).assert_silent_success();
        ran.took
    };
    for step in 0..40 {
        node.ns.inside(|| {
            let mut child = add.spawn();
            std::thread::sleep(whole * step / 36);
            child.kill().unwrap();
            child.wait().unwrap();
        });
        agent.settle();
        node.run(&del).assert_silent_success();
        assert!(pool.held().is_empty(), "step {step}");
        before.0.assert_same(&node.ns);
        before.1.assert_same(&pod);
    }
}

#[test]
#[ignore = "needs root"]
fn c31_runtime_config_is_honoured_or_ignored_but_no_error() {
    let (node, pod) = (Node::new(), Namespace::new());
    let (agent, _) = FakeAgent::honest();
    let add = agent.invocation("ADD", "c1", pod.path()).edit(|conf| {
        conf["dns"] = json!({"nameservers": ["10.0.0.2"], "domain": "old"});
        conf["runtimeConfig"] = json!({
            "ips": ["192.0.2.9/24"], "mac": "00:11:22:33:44:55", "bandwidth": {"ingressRate": 1},
            "portMappings": [{"hostPort": 80, "containerPort": 80, "protocol": "tcp"}],
            "dns": {"servers": ["10.96.0.10"], "searches": ["svc.cluster.local"], "options": ["ndots:5"]},
        });
    });
    let result = node.run(&add).result();
    let dns = json!({"nameservers": ["10.96.0.10"], "search": ["svc.cluster.local"], "options": ["ndots:5"]});
    assert_eq!(result["dns"], dns);
    assert_pod_works(&node, &pod, "eth0", &result);
    assert_ne!(pod.ip(&["link", "show", "eth0"])[0]["address"], "00:11:22:33:44:55", "mac is not declared");
}

#[test]
#[ignore = "needs root"]
fn c31_a_hardware_address_that_the_runtime_wants_is_the_pods() {
    let (node, pod) = (Node::new(), Namespace::new());
    let (agent, _) = FakeAgent::honest();
    let before = (node.ns.snapshot(), pod.snapshot());
    let mac = "02:00:00:00:00:4a";
    let wish = |conf: &mut Value| {
        conf["capabilities"] = json!({"mac": true});
        conf["runtimeConfig"] = json!({"mac": mac});
    };
    let result = node.run(&agent.invocation("ADD", "c1", pod.path()).edit(wish)).result();
    assert_eq!(result["interfaces"][1]["mac"], mac);
    assert_eq!(pod.ip(&["link", "show", "eth0"])[0]["address"], mac);
    // The host's permanent neighbour has it, too.
    assert_pod_works(&node, &pod, "eth0", &result);
    let check = agent.invocation("CHECK", "c1", pod.path()).edit(|conf| {
        wish(conf);
        conf["prevResult"] = result;
    });
    node.run(&check).assert_silent_success();
    node.run(&agent.invocation("DEL", "c1", pod.path()).edit(wish)).assert_silent_success();
    before.0.assert_same(&node.ns);
    before.1.assert_same(&pod);
}

#[test]
#[ignore = "needs root"]
fn c32_del_leaves_namespaces_as_they_were_and_releases() {
    let (node, pod) = (Node::new(), Namespace::new());
    let (agent, pool) = FakeAgent::honest();
    let before = (node.ns.snapshot(), pod.snapshot());
    node.run(&agent.invocation("ADD", "c1", pod.path())).result();
    assert!(node.ns.snapshot() != before.0 && pod.snapshot() != before.1);
    node.run(&agent.invocation("DEL", "c1", pod.path())).assert_silent_success();
    before.0.assert_same(&node.ns);
    before.1.assert_same(&pod);
    assert!(pool.held().is_empty());
}

#[test]
#[ignore = "needs root"]
fn c33_del_can_be_repeated_and_needs_no_add() {
    let (node, pod) = (Node::new(), Namespace::new());
    let (agent, _) = FakeAgent::honest();
    let del = agent.invocation("DEL", "c1", pod.path());
    node.run(&del).assert_silent_success();
    node.run(&agent.invocation("ADD", "c1", pod.path())).result();
    let before = node.ns.snapshot();
    node.run(&agent.invocation("DEL", "never-added", pod.path())).assert_silent_success();
    node.run(&agent.invocation("DEL", "c1", pod.path()).with("CNI_IFNAME", "net9")).assert_silent_success();
    before.assert_same(&node.ns);
    for _ in 0..3 {
        node.run(&del).assert_silent_success();
    }
}

#[test]
#[ignore = "needs root"]
fn c34_del_works_without_the_pods_namespace() {
    let node = Node::new();
    let (agent, pool) = FakeAgent::honest();
    let before = node.ns.snapshot();
    // The namespace is alive, but its name is not given.
    let pod = Namespace::new();
    node.run(&agent.invocation("ADD", "c1", pod.path())).result();
    node.run(&agent.invocation("DEL", "c1", "").without("CNI_NETNS")).assert_silent_success();
    before.assert_same(&node.ns);
    assert!(pool.held().is_empty());
    // The path is gone; the kernel takes the pair away by itself, sooner or later.
    node.run(&agent.invocation("ADD", "c2", pod.path())).result();
    let path = pod.path().to_owned();
    drop(pod);
    node.run(&agent.invocation("DEL", "c2", &path)).assert_silent_success();
    assert!(pool.held().is_empty());
    wait_until("the host has no veth", || node.ns.snapshot() == before);
    // The path is there again, as a plain file.
    std::fs::write(&path, "").unwrap();
    let ran = node.run(&agent.invocation("DEL", "c2", &path));
    std::fs::remove_file(&path).unwrap();
    ran.assert_silent_success();
}

#[test]
#[ignore = "needs root"]
fn c34_del_finds_the_veth_when_the_runtime_names_the_pod_no_more() {
    let (node, pod) = (Node::new(), Namespace::new());
    let (agent, pool) = FakeAgent::honest();
    let before = node.ns.snapshot();
    let args = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0";
    let result = node.run(&agent.invocation("ADD", "c1", pod.path()).with("CNI_ARGS", args)).result();
    assert_eq!(result["interfaces"][0]["name"], "eni0d7763386da");
    node.run(&agent.invocation("DEL", "c1", "")).assert_silent_success();
    before.assert_same(&node.ns);
    assert!(pool.held().is_empty());
}

#[test]
#[ignore = "needs root"]
fn c35_del_does_not_depend_on_a_previous_result() {
    let (node, pod) = (Node::new(), Namespace::new());
    let (agent, pool) = FakeAgent::honest();
    let before = node.ns.snapshot();
    for previous in [
        json!(null),
        json!({}),
        json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.1/24"}}),
        json!({"cniVersion": "1.1.0", "interfaces": [{"name": "other"}], "ips": [{"address": "192.0.2.77/32", "interface": 0}]}),
        json!("not even an object"),
    ] {
        node.run(&agent.invocation("ADD", "c1", pod.path())).result();
        let del =
            agent.invocation("DEL", "c1", pod.path()).edit(|conf| conf["prevResult"] = previous.clone());
        node.run(&del).assert_silent_success();
        before.assert_same(&node.ns);
        assert!(pool.held().is_empty());
    }
}

#[test]
#[ignore = "needs root"]
fn c36_del_of_an_old_container_leaves_the_newer_one_alone() {
    let (node, old, new) = (Node::new(), Namespace::new(), Namespace::new());
    let (agent, pool) = FakeAgent::honest();
    let args = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0";
    let call = |verb: &str, container: &str, pod: &Namespace| {
        node.run(&agent.invocation(verb, container, pod.path()).with("CNI_ARGS", args))
    };
    // Both sandboxes are of one pod, so both want the same name on the host.
    call("ADD", "old", &old).result();
    let result = call("ADD", "new", &new).result();
    assert_pod_works(&node, &new, "eth0", &result);
    let (node_before, new_before) = (node.ns.snapshot(), new.snapshot());
    call("DEL", "old", &old).assert_silent_success();
    node_before.assert_same(&node.ns);
    new_before.assert_same(&new);
    assert_pod_works(&node, &new, "eth0", &result);
    let holders: Vec<_> = pool.held().into_keys().map(|(_, attachment)| attachment.container_id).collect();
    assert_eq!(holders, ["new"]);
    call("DEL", "new", &new).assert_silent_success();
}

#[test]
#[ignore = "needs root"]
fn c36_an_address_that_a_newer_container_got_survives_a_late_del() {
    let (node, old, new) = (Node::new(), Namespace::new(), Namespace::new());
    let (agent, _) = FakeAgent::honest();
    let first = node.run(&agent.invocation("ADD", "old", old.path())).result();
    node.run(&agent.invocation("DEL", "old", old.path())).assert_silent_success();
    let second = node.run(&agent.invocation("ADD", "new", new.path())).result();
    assert_eq!(first["ips"][0]["address"], second["ips"][0]["address"], "this agent has no cooldown");
    let del = agent.invocation("DEL", "old", "").edit(|conf| conf["prevResult"] = first.clone());
    node.run(&del).assert_silent_success();
    assert_pod_works(&node, &new, "eth0", &second);
}

#[test]
#[ignore = "needs root"]
fn c37_while_the_agent_is_down_del_cleans_the_kernel_and_keeps_the_release() {
    let (node, pod) = (Node::new(), Namespace::new());
    let (mut agent, pool) = FakeAgent::honest();
    let before = (node.ns.snapshot(), pod.snapshot());
    node.run(&agent.invocation("ADD", "c1", pod.path())).result();
    agent.stop();
    node.run(&agent.invocation("DEL", "c1", pod.path())).assert_silent_success();
    before.0.assert_same(&node.ns);
    before.1.assert_same(&pod);
    assert_eq!((agent.spooled().len(), pool.held().len()), (1, 1));
    // The agent is back. The same attachment comes again before anybody drained the spool.
    let books = pool.clone();
    agent.listen(move |request| Behaviour::Answer(books.answer(request)));
    let result = node.run(&agent.invocation("ADD", "c1", pod.path())).result();
    assert_pod_works(&node, &pod, "eth0", &result);
    assert!(SpooledRelease::read_all(&agent.spool()).unwrap().releases.is_empty());
    assert_eq!(pool.held().len(), 1);
}

#[test]
#[ignore = "needs root"]
fn add_appends_to_the_result_of_an_earlier_plugin() {
    let (node, pod) = (Node::new(), Namespace::new());
    let (agent, _) = FakeAgent::honest();
    let previous =
        json!({"cniVersion": "1.0.0", "interfaces": [{"name": "ifb0"}], "ips": [], "dns": {"domain": "d"}});
    let add = agent.invocation("ADD", "c1", pod.path()).edit(|conf| {
        conf["cniVersion"] = json!("1.0.0");
        conf["prevResult"] = previous.clone();
    });
    let result = node.run(&add).result();
    assert_eq!((&result["interfaces"][0], &result["dns"]), (&previous["interfaces"][0], &previous["dns"]));
    assert_eq!(
        (&result["interfaces"][2]["name"], &result["ips"][0]["interface"]),
        (&json!("eth0"), &json!(2))
    );
}

#[test]
#[ignore = "needs root"]
fn the_veth_has_one_queue_each_way() {
    let (node, pod) = (Node::new(), Namespace::new());
    let (agent, _) = FakeAgent::honest();
    node.run(&agent.invocation("ADD", "c1", pod.path())).result();
    let host_side = names::host_veth_name(None, "c1", "eth0");
    let details = node.ns.ip(&["-d", "link", "show", host_side.as_str()]);
    assert_eq!((&details[0]["num_tx_queues"], &details[0]["num_rx_queues"]), (&json!(1), &json!(1)));
}

#[test]
#[ignore = "needs root"]
fn c32_del_makes_the_node_forget_the_pods_flows() {
    let (node, pod, other) = (Node::new(), Namespace::new(), Namespace::new());
    let (agent, _) = FakeAgent::honest();
    node.track_connections();
    let add = |container: &str, pod: &Namespace| {
        let result = node.run(&agent.invocation("ADD", container, pod.path())).result();
        assert_pod_works(&node, pod, "eth0", &result);
    };
    add("c1", &pod);
    add("c2", &other);
    assert!(node.flows().contains("10.77.1.1 ") && node.flows().contains("10.77.1.2 "), "{}", node.flows());
    node.run(&agent.invocation("DEL", "c1", pod.path())).assert_silent_success();
    assert!(!node.flows().contains("10.77.1.1 ") && node.flows().contains("10.77.1.2 "), "{}", node.flows());
    // The pair went with its namespace: now the agent tells which address it was.
    let path = other.path().to_owned();
    drop(other);
    wait_until("the pair is gone", || {
        !node.ns.ip_do(&["link"]).contains("veth") && !node.ns.ip_do(&["link"]).contains("eni")
    });
    node.run(&agent.invocation("DEL", "c2", path)).assert_silent_success();
    assert!(!node.flows().contains("10.77.1."), "{}", node.flows());
}
