//! A real runtime on a node of the VPC: Debian's containerd makes and removes a pod sandbox through its CRI, with Spur as its network.
//!
//! The runtime, not this harness, decides here what the plugin gets: the environment, the arguments, the version of the configuration, a
//! namespace that only the runtime sees, and a second DEL without namespace when the sandbox is removed.

use crate::common::{quick_spec, quick_world};
use spur_e2e::process::binary;
use spur_e2e::rest::Rest;
use spur_e2e::world::World;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use testbed_cri::{Containerd, CriError, GrpcError, Place, PodSpec};

/// A directory with `spur`, with `loopback`, which containerd executes first in every sandbox, and with what a chain has behind.
fn plugins(world: &World) -> PathBuf {
    let dir = world.dir().join("cni-bin");
    std::fs::create_dir(&dir).unwrap();
    symlink(binary("spur").unwrap(), dir.join("spur")).unwrap();
    for plugin in ["loopback", "portmap", "bandwidth"] {
        symlink(testbed_cri::reference_plugins().join(plugin), dir.join(plugin)).unwrap();
    }
    dir
}

fn containerd(world: &World, node: usize) -> Containerd {
    let node = &world.nodes[node];
    Containerd::start(&Place {
        netns: node.netns.path(),
        dir: &node.dir().join("containerd"),
        cni_bin: &plugins(world),
        cni_conf: &node.dir().join("net.d"),
        keep: &[],
    })
    .unwrap()
}

fn pod(name: &str, attempt: u32) -> PodSpec {
    PodSpec {
        name: name.to_owned(),
        namespace: "default".to_owned(),
        uid: format!("1f0c7a52-{name}"),
        attempt,
        ..PodSpec::default()
    }
}

/// Pings once from a node's own namespace.
fn ping(world: &World, node: usize, target: IpAddr) {
    let mut command = Command::new("ping");
    command.args(["-c", "1", "-W", "20", &target.to_string()]);
    let output = world.nodes[node].netns.run(move || command.output()).unwrap().unwrap();
    assert!(
        output.status.success(),
        "{target} from node {node}: {}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
#[ignore = "needs root"]
fn a_sandbox_of_containerd_is_reached_from_another_node_and_its_address_comes_back() {
    let world = quick_world("cri", 2);
    for node in 0..2 {
        world.start_agent(node).unwrap();
    }
    let before = Rest::reach(&world, &|| Ok(())).unwrap();
    let containerd = containerd(&world, 0);
    let mut client = containerd.client().unwrap();
    let pod = pod("web", 0);

    let sandbox = client.run_pod_sandbox(&pod).unwrap();
    let status = client.pod_sandbox_status(&sandbox).unwrap();
    assert!(status.ready);
    let [address] = status.addresses[..] else { panic!("one address expected: {:?}", status.addresses) };
    assert!(world.cloud().unwrap().owner(&world.nodes[0].name, address).is_some(), "{address} is on no ENI");
    for node in 0..2 {
        ping(&world, node, address);
    }
    let container = client.run_container(&sandbox, &pod, "main", &["/bin/sleep", "1000"]).unwrap();
    for target in [world.nodes[1].primary_address, world.internet_address] {
        let ping =
            client.exec_sync(&container, &["ping", "-c", "1", "-W", "20", &target.to_string()]).unwrap();
        assert_eq!(ping.code, 0, "{target} from the pod: {}{}", ping.stdout, ping.stderr);
    }

    client.stop_pod_sandbox(&sandbox).unwrap();
    client.remove_pod_sandbox(&sandbox).unwrap();
    before.regain(&world, &|| Ok(())).unwrap();
    drop(containerd);
    world.down().unwrap();
}

#[test]
#[ignore = "needs root"]
fn pods_come_and_go_around_an_agent_that_is_down_and_nothing_leaks() {
    let world = quick_world("cri-down", 1);
    world.start_agent(0).unwrap();
    let before = Rest::reach(&world, &|| Ok(())).unwrap();
    let containerd = containerd(&world, 0);
    let mut client = containerd.client().unwrap();

    let leaves = client.run_pod_sandbox(&pod("leaves", 0)).unwrap();
    world.nodes[0].kill_agent().unwrap();
    client.stop_pod_sandbox(&leaves).unwrap();
    client.remove_pod_sandbox(&leaves).unwrap();
    let refused = client.run_pod_sandbox(&pod("comes", 0)).unwrap_err();
    let CriError::Call { cause: GrpcError::Refused { words, .. }, .. } = refused else {
        panic!("not a refusal: {refused:?}")
    };
    assert!(words.contains("agent"), "it does not say what is missing: {words}");

    // As kubelet does: the same pod in a new sandbox, when the agent is back.
    world.start_agent(0).unwrap();
    let comes = client.run_pod_sandbox(&pod("comes", 1)).unwrap();
    let address = client.pod_sandbox_status(&comes).unwrap().addresses[0];
    ping(&world, 0, address);
    client.stop_pod_sandbox(&comes).unwrap();
    client.remove_pod_sandbox(&comes).unwrap();
    assert_eq!(client.pod_sandboxes().unwrap(), Vec::<String>::new());
    before.regain(&world, &|| Ok(())).unwrap();
    drop(containerd);
    world.down().unwrap();
}

/// Reads the pod's page there, from the namespace of a node, until it comes: the pod's server takes a moment to start.
fn page_from(world: &World, node: usize, to: SocketAddr) -> String {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let asked = world.nodes[node].netns.run(move || {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.write_all(b"GET /name HTTP/1.0\r\n\r\n")?;
            let mut page = String::new();
            stream.read_to_string(&mut page).map(|_| page)
        });
        match asked.unwrap() {
            Ok(page) if !page.is_empty() => {
                return page.lines().last().unwrap_or_default().to_owned();
            }
            other => assert!(Instant::now() < deadline, "{to} from node {node}: {other:?}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
#[ignore = "needs root"]
fn c65_ports_and_shares_that_containerd_asks_for_reach_the_chain_that_the_agent_writes() {
    let mut spec = quick_spec("cri-chain", 2);
    let chain = "[{type: portmap, capabilities: {portMappings: true}}, {type: bandwidth, capabilities: {bandwidth: true}}]";
    spec.cni.insert("chain", chain.to_owned());
    let world = World::up(&spec).unwrap();
    for node in 0..2 {
        world.start_agent(node).unwrap();
    }
    let containerd = containerd(&world, 0);
    let mut client = containerd.client().unwrap();
    let annotation = |direction: &str| (format!("kubernetes.io/{direction}-bandwidth"), "8M".to_owned());
    let pod = PodSpec {
        ports: vec![(8080, 80)],
        annotations: vec![annotation("ingress"), annotation("egress")],
        ..pod("web", 0)
    };

    let sandbox = client.run_pod_sandbox(&pod).unwrap();
    let address = client.pod_sandbox_status(&sandbox).unwrap().addresses[0];
    let serve = "mkdir -p /www && echo web > /www/name && exec httpd -f -p 80 -h /www";
    let server = ["/bin/sh", "-c", serve];
    client.run_container(&sandbox, &pod, "main", &server).unwrap();
    let node = world.nodes[0].primary_address;
    for (from, to) in [
        (1, SocketAddr::new(node, 8080)),
        (0, SocketAddr::new(node, 8080)),
        (1, SocketAddr::new(address, 80)),
    ] {
        assert_eq!(page_from(&world, from, to), "web", "{to} from node {from}");
    }
    let mut tc = Command::new("tc");
    tc.args(["qdisc", "show"]);
    let shaped = world.nodes[0].netns.run(move || tc.output()).unwrap().unwrap();
    assert!(String::from_utf8_lossy(&shaped.stdout).contains("rate 8Mbit"), "nothing is shaped");

    client.stop_pod_sandbox(&sandbox).unwrap();
    client.remove_pod_sandbox(&sandbox).unwrap();
    let mut nat = Command::new("iptables-save");
    nat.args(["-t", "nat"]);
    let nat = world.nodes[0].netns.run(move || nat.output()).unwrap().unwrap();
    // iptables keeps its own chains; nothing in them is about the pod.
    assert!(!String::from_utf8_lossy(&nat.stdout).contains(&address.to_string()), "a mapping is left");
    drop(containerd);
    world.down().unwrap();
}
