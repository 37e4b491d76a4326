//! The conflist that the agent writes, used as libcni uses it, and Debian's portmap and bandwidth behind Spur on a node of the VPC: ports of the node lead to
//! pods on its primary and on a secondary ENI, for everybody who may ask, and answers come back on the right way.

use crate::common::{add_pods, quick_world};
use serde_json::{Value, json};
use spur_datapath::netns::NetNs;
use spur_e2e::process::binary;
use spur_e2e::rest::Rest;
use spur_e2e::runtime::{IF_NAME, Pod};
use spur_e2e::world::World;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use testbed_libcni::{Attachment, Cache, CniResult, Libcni, LibcniError, NetworkList, reference_plugins};

const POD_PORT: u16 = 80;

/// 8 Mbit/s, with a burst of 50 kB: more than one packet of 9001 bytes.
const RATE: u64 = 8_000_000;
const BURST: u64 = 400_000;

/// A runtime of libcni's on one node.
struct Runtime<'a> {
    node: &'a NetNs,
    libcni: Libcni,
    list: NetworkList,
}

impl<'a> Runtime<'a> {
    /// The list is the agent's, with these plugins behind.
    fn new(world: &'a World, node: usize, behind: &[Value]) -> Self {
        let mut list: Value = serde_json::from_slice(&std::fs::read(conflist(world, node)).unwrap()).unwrap();
        if !behind.is_empty() {
            list["plugins"].as_array_mut().unwrap().extend_from_slice(behind);
            // What Debian's plugins speak.
            list["cniVersions"] = json!(["0.4.0", "1.0.0"]);
        }
        let path = vec![binary("spur").unwrap().parent().unwrap().to_owned(), reference_plugins()];
        let list = NetworkList::parse(list.to_string().as_bytes()).unwrap();
        let libcni = Libcni::new(path, Cache::new(&world.nodes[node].dir().join("libcni")));
        Self { node: &world.nodes[node].netns, libcni, list }
    }

    fn call<T: Send>(&self, call: impl FnOnce(&Libcni, &NetworkList) -> T + Send) -> T {
        self.node.run(|| call(&self.libcni, &self.list)).unwrap()
    }

    fn add(&self, pod: &mut Pod, attachment: &Attachment) -> CniResult {
        let result = self.call(|libcni, list| libcni.add(list, attachment)).unwrap();
        let address = result.to_value()["ips"][0]["address"].as_str().unwrap().replace("/32", "");
        pod.address = Some(address.parse().unwrap());
        result
    }

    fn del(&self, attachment: &Attachment) {
        self.call(|libcni, list| libcni.del(list, attachment)).unwrap();
    }
}

fn conflist(world: &World, node: usize) -> PathBuf {
    world.nodes[node].dir().join("net.d/10-spur.conflist")
}

fn attachment(pod: &Pod) -> Attachment {
    let text = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let args = vec![
        text("IgnoreUnknown", "1"),
        text("K8S_POD_NAMESPACE", &pod.namespace),
        text("K8S_POD_NAME", &pod.name),
    ];
    Attachment { args, ..Attachment::new(&pod.container_id, &pod.netns_path(), IF_NAME) }
}

fn with_port(pod: &Pod, host_port: u16) -> Attachment {
    let limits =
        json!({"ingressRate": RATE, "ingressBurst": BURST, "egressRate": RATE, "egressBurst": BURST});
    let args = json!({"bandwidth": limits,
        "portMappings": [{"hostPort": host_port, "containerPort": POD_PORT, "protocol": "tcp"}]});
    Attachment { capability_args: args.as_object().unwrap().clone(), ..attachment(pod) }
}

fn see(netns: &NetNs, words: &[&str]) -> String {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    let output = netns.run(move || command.output()).unwrap().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The node has this many veths of pods, soon: the agent deletes those of pods that are gone.
#[track_caller]
fn assert_veths(node: &NetNs, wanted: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let links = see(node, &["ip", "-br", "link"]);
        let found = links.lines().filter(|line| line.starts_with("eni")).count();
        if found == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{found} and not {wanted}:\n{links}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The pod's server, for all who ask: a second one would find the port taken while some process that is being started still has the first.
fn serve(pod: &Pod) -> TcpListener {
    pod.netns.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, POD_PORT))).unwrap().unwrap()
}

/// Connects from one namespace and returns which client the pod saw; both directions carry a few bytes.
fn client_seen(from: &NetNs, to: SocketAddr, pod: &TcpListener) -> IpAddr {
    let client = from.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(20))).unwrap();
    let client = client.unwrap_or_else(|error| panic!("{to} from {}: {error}", from.path().display()));
    let (server, seen) = pod.accept().unwrap();
    for (mut one, mut other) in [(&client, &server), (&server, &client)] {
        one.write_all(b"hello").unwrap();
        let mut received = [0; 5];
        other.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        other.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"hello");
    }
    seen.ip()
}

/// The pod sends and the client counts the time until all has arrived.
fn time_to_send(pod: &Pod, to: &NetNs, address: IpAddr, bytes: usize) -> Duration {
    let listener = to.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))).unwrap().unwrap();
    let target = SocketAddr::new(address, listener.local_addr().unwrap().port());
    let mut sender =
        pod.netns.run(|| TcpStream::connect_timeout(&target, Duration::from_secs(20))).unwrap().unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    let start = Instant::now();
    let sending = std::thread::spawn(move || sender.write_all(&vec![7; bytes]).unwrap());
    let mut received = Vec::new();
    receiver.read_to_end(&mut received).unwrap();
    sending.join().unwrap();
    assert_eq!(received.len(), bytes);
    start.elapsed()
}

#[test]
#[ignore = "needs root"]
fn c65_ports_of_a_node_lead_to_pods_on_every_eni_and_pods_are_shaped() {
    let world = quick_world("chain", 2);
    (0..2).for_each(|node| world.start_agent(node).unwrap());
    let behind = [
        json!({"type": "portmap", "capabilities": {"portMappings": true}}),
        json!({"type": "bandwidth", "capabilities": {"bandwidth": true}}),
    ];
    let runtime = Runtime::new(&world, 0, &behind);
    runtime.call(|libcni, list| libcni.validate(list)).unwrap();
    // One pod comes early, the other when the primary ENI is full.
    let mut early = world.pod(0, 101).unwrap();
    let subject = with_port(&early, 8001);
    let result = runtime.add(&mut early, &subject).to_value();
    let others = add_pods(&world, 0, 1..=9);
    let mut late = world.pod(0, 102).unwrap();
    let subject = with_port(&late, 8002);
    runtime.add(&mut late, &subject);
    let cloud = world.cloud().unwrap();
    let owner = |pod: &Pod| cloud.owner(&world.nodes[0].name, pod.address.unwrap()).unwrap().device_index;
    let enis: Vec<_> = [&early, &late].map(owner).into();
    assert_eq!(
        enis.iter().filter(|index| **index == 0).count(),
        1,
        "on the primary ENI and on another: {enis:?}"
    );

    let remote = add_pods(&world, 1, 20..=20);
    let (here, there) = (&world.nodes[0], &world.nodes[1]);
    for (pod, port) in [(&early, 8001), (&late, 8002)] {
        let (to, server) = (SocketAddr::new(here.primary_address, port), serve(pod));
        // Nobody in the VPC is translated: the pod sees who asks.
        for (from, address) in [
            (&there.netns, there.primary_address),
            (&remote[0].pod.netns, remote[0].pod.address.unwrap()),
            (&others[0].pod.netns, others[0].pod.address.unwrap()),
        ] {
            assert_eq!(client_seen(from, to, &server), address, "port {port}");
        }
        // The node itself, by its address and by the loopback, and the pod itself: portmap translates the last two.
        client_seen(&here.netns, to, &server);
        client_seen(&here.netns, SocketAddr::from(([127, 0, 0, 1], port)), &server);
        client_seen(&pod.netns, to, &server);
        let took = time_to_send(pod, &there.netns, there.primary_address, 1_500_000);
        assert!(took > Duration::from_secs(1), "12 Mbit at 8 Mbit/s took {took:?}");
    }
    let host_side = result["interfaces"][0]["name"].as_str().unwrap();
    assert!(see(&here.netns, &["tc", "qdisc", "show", "dev", host_side]).contains("rate 8Mbit"));

    for (pod, port) in [(&early, 8001), (&late, 8002)] {
        let subject = with_port(pod, port);
        (0..2).for_each(|_| runtime.del(&subject));
        let address = pod.address.unwrap().to_string();
        // iptables keeps its own chains; nothing in them is about the pod.
        assert!(!see(&here.netns, &["iptables-save"]).contains(&address));
        assert!(!see(&here.netns, &["ip", "route", "show", "table", "all"]).contains(&address));
    }
    assert_veths(&here.netns, others.len());
    assert!(!see(&here.netns, &["ip", "-br", "link"]).contains("bwp"));
    world.down().unwrap();
}

#[test]
#[ignore = "needs root"]
fn c66_every_verb_of_1_1_0_through_libcni_and_the_agents_own_conflist() {
    let world = quick_world("libcni", 1);
    world.start_agent(0).unwrap();
    let before = Rest::reach(&world, &|| Ok(())).unwrap();
    let runtime = Runtime::new(&world, 0, &[]);
    // A libcni that knows no list of versions reads the single one.
    let text: Value = serde_json::from_slice(&runtime.list.bytes).unwrap();
    assert_eq!((&text["cniVersion"], runtime.list.version.as_str()), (&json!("1.0.0"), "1.1.0"));
    runtime.call(|libcni, list| libcni.validate(list)).unwrap();
    runtime.call(|libcni, list| libcni.status(list)).unwrap();
    let mut pods: Vec<_> = (1..=3).map(|number| world.pod(0, number).unwrap()).collect();
    let subjects: Vec<_> = pods.iter().map(attachment).collect();
    for (pod, subject) in pods.iter_mut().zip(&subjects) {
        runtime.add(pod, subject);
        runtime.call(|libcni, list| libcni.check(list, subject)).unwrap();
    }
    // libcni deletes the second, which it remembers; the third it has forgotten, and GC finds it.
    std::fs::remove_file(runtime.libcni.cache().file(&runtime.list.name, &subjects[2])).unwrap();
    runtime.call(|libcni, list| libcni.gc(list, Some(&subjects[..1]))).unwrap();
    runtime.call(|libcni, list| libcni.check(list, &subjects[0])).unwrap();
    assert_veths(&world.nodes[0].netns, 1);
    (0..2).for_each(|_| runtime.del(&subjects[0]));
    world.nodes[0].stop_agent().unwrap();
    let failure = runtime.call(|libcni, list| libcni.status(list)).unwrap_err();
    assert_eq!(LibcniError::code(&failure), Some(50));
    world.start_agent(0).unwrap();
    before.regain(&world, &|| Ok(())).unwrap();
    world.down().unwrap();
}

#[test]
#[ignore = "needs root"]
fn c68_the_conflist_is_whole_at_every_moment_and_stays_when_the_agent_stops() {
    let world = quick_world("conflist", 1);
    world.start_agent(0).unwrap();
    let path = conflist(&world, 0);
    let written = NetworkList::load(&path).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut reads = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(NetworkList::load(&path).unwrap(), written, "torn, gone or changed");
                reads += 1;
                std::thread::sleep(Duration::from_micros(200));
            }
            reads
        });
        for _ in 0..2 {
            world.crash_agent(0).unwrap();
            world.nodes[0].wait_ready().unwrap();
            world.nodes[0].stop_agent().unwrap();
            world.start_agent(0).unwrap();
        }
        world.nodes[0].stop_agent().unwrap();
        stop.store(true, Ordering::Relaxed);
        assert!(reading.join().unwrap() > 100);
    });
    // Runtimes take the first in the order of names; nothing half written lies beside it.
    let names: Vec<_> = std::fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, ["10-spur.conflist"]);
    world.down().unwrap();
}
