//! The testbed itself, without Spur: Debian's containerd with the CNI reference plugins (ptp, host-local) on a namespace of the test.
//!
//! What is shown here is what a test of Spur may rely on: a failure there is then Spur's. `ip` and `ping` are the witnesses, and
//! /proc and /sys tell what is left.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use testbed_cri::{Containerd, CriError, GrpcError, Place, PodSpec};

/// The script that makes a node.
const RUNNER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../node/run");

/// A network namespace with loopback, and a directory; both go when it is dropped.
struct Node {
    netns: String,
    dir: TempDir,
}

impl Node {
    /// `test` keeps the tests of one process apart; `subnet` is where host-local takes addresses from.
    fn new(test: &str, subnet: &str) -> Self {
        let node =
            Self { netns: format!("tb-{}-{test}", std::process::id()), dir: tempfile::tempdir().unwrap() };
        run("ip", &["netns", "add", &node.netns]);
        run("ip", &["-n", &node.netns, "link", "set", "lo", "up"]);
        let conf = json!({"cniVersion": "1.0.0", "name": "testbed", "plugins": [
            {"type": "ptp", "mtu": 1400, "ipam": {"type": "host-local", "ranges": [[{"subnet": subnet}]]}}
        ]});
        std::fs::create_dir(node.conf()).unwrap();
        std::fs::write(node.conf().join("10-ptp.conflist"), conf.to_string()).unwrap();
        node
    }

    fn conf(&self) -> PathBuf {
        self.dir.path().join("net.d")
    }

    fn containerd(&self) -> Containerd {
        Containerd::start(&Place {
            netns: Path::new(&self.netns),
            dir: &self.dir.path().join("containerd"),
            cni_bin: &testbed_cri::reference_plugins(),
            cni_conf: &self.conf(),
            keep: &[],
        })
        .unwrap()
    }

    /// The names of its links but loopback.
    fn links(&self) -> Vec<String> {
        let links: Value = serde_json::from_str(&run("ip", &["-n", &self.netns, "-j", "link"])).unwrap();
        let names = links.as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap().to_owned());
        names.filter(|name| name != "lo").collect()
    }

    /// Processes, mounts and cgroups of a containerd with this process id on this node; empty when it has left nothing.
    fn leftovers(&self, id: u32) -> Vec<String> {
        let dir = self.dir.path().to_str().unwrap();
        let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let path = entry.unwrap().path();
            let line = String::from_utf8_lossy(&std::fs::read(path.join("cmdline")).ok()?).replace('\0', " ");
            line.contains(dir).then_some(line)
        });
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts = mounts.lines().filter(|line| line.contains(dir)).map(str::to_owned);
        // Others' cgroups come and go while it looks.
        let named = ["-type", "d", "-name", &format!("spur-testbed-{id}")];
        let groups = run("find", &[&["/sys/fs/cgroup", "-ignore_readdir_race"], &named[..]].concat());
        let groups = groups.lines().map(str::to_owned);
        processes.chain(mounts).chain(groups).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.netns]).status();
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn pod(name: &str) -> PodSpec {
    PodSpec {
        name: name.to_owned(),
        namespace: "default".to_owned(),
        uid: format!("uid-{name}"),
        ..PodSpec::default()
    }
}

#[test]
#[ignore = "needs root"]
fn a_sandbox_gets_an_address_answers_ping_runs_commands_and_goes() {
    let node = Node::new("life", "10.99.0.0/24");
    let containerd = node.containerd();
    let mut client = containerd.client().unwrap();
    let web = pod("web");

    let sandbox = client.run_pod_sandbox(&web).unwrap();
    let status = client.pod_sandbox_status(&sandbox).unwrap();
    assert!(status.ready);
    let address: IpAddr = "10.99.0.2".parse().unwrap();
    assert_eq!(status.addresses, [address]);
    let node_path = format!("--net=/run/netns/{}", node.netns);
    run("nsenter", &[&node_path, "ping", "-c", "1", "-W", "20", &address.to_string()]);

    let container = client.run_container(&sandbox, &web, "main", &["/bin/sleep", "1000"]).unwrap();
    let shown = client.exec_sync(&container, &["ip", "-4", "-o", "address", "show", "eth0"]).unwrap();
    assert_eq!((shown.code, shown.stderr.as_str()), (0, ""));
    assert!(shown.stdout.contains("10.99.0.2/24"), "{}", shown.stdout);
    let failed = client.exec_sync(&container, &["/bin/sh", "-c", "echo out; echo err >&2; exit 7"]).unwrap();
    assert_eq!((failed.code, failed.stdout.as_str(), failed.stderr.as_str()), (7, "out\n", "err\n"));

    client.stop_pod_sandbox(&sandbox).unwrap();
    assert!(!client.pod_sandbox_status(&sandbox).unwrap().ready);
    assert_eq!(node.links(), Vec::<String>::new());
    client.remove_pod_sandbox(&sandbox).unwrap();
    assert_eq!(client.pod_sandboxes().unwrap(), Vec::<String>::new());
    let gone = client.pod_sandbox_status(&sandbox).unwrap_err();
    // 5 is NOT_FOUND.
    assert!(matches!(gone, CriError::Call { cause: GrpcError::Refused { code: 5, .. }, .. }), "{gone:?}");
}

#[test]
#[ignore = "needs root"]
fn a_refusal_of_the_plugin_reaches_the_caller_in_words() {
    // Four addresses: network, gateway, one pod, broadcast.
    let node = Node::new("full", "10.99.1.0/30");
    let containerd = node.containerd();
    let mut client = containerd.client().unwrap();
    client.run_pod_sandbox(&pod("first")).unwrap();
    let CriError::Call { cause: GrpcError::Refused { words, .. }, .. } =
        client.run_pod_sandbox(&pod("second")).unwrap_err()
    else {
        panic!("not a refusal");
    };
    assert!(words.contains("no IP addresses available in range set"), "{words}");
}

#[test]
#[ignore = "needs root"]
fn nothing_is_left_of_a_containerd_that_is_stopped_with_a_pod_running() {
    let node = Node::new("stop", "10.99.2.0/24");
    let containerd = node.containerd();
    let mut client = containerd.client().unwrap();
    let sandbox = client.run_pod_sandbox(&pod("left")).unwrap();
    client.run_container(&sandbox, &pod("left"), "main", &["/bin/sleep", "1000"]).unwrap();
    let id = containerd.id();
    assert!(!node.leftovers(id).is_empty(), "the check sees a containerd that runs");
    drop(containerd);
    assert_eq!(node.leftovers(id), Vec::<String>::new());
    assert_eq!(node.links(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn a_containerd_whose_owner_is_killed_ends_and_its_cgroups_go_with_the_next_start() {
    let node = Node::new("kill", "10.99.3.0/24");
    let killed = node.containerd();
    killed.client().unwrap().run_pod_sandbox(&pod("left")).unwrap();
    let id = killed.id();
    kill_process(Pid::from_raw(i32::try_from(id).unwrap()).unwrap(), Signal::KILL).unwrap();
    drop(killed);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !node.links().is_empty()
        || node.leftovers(id).iter().any(|line| !line.starts_with("/sys/fs/cgroup"))
    {
        assert!(Instant::now() < deadline, "{:?} {:?}", node.links(), node.leftovers(id));
        std::thread::yield_now();
    }
    let next = node.containerd();
    assert_eq!(node.leftovers(id).iter().filter(|line| line.starts_with("/sys")).count(), 0);
    drop(next);
}

#[test]
#[ignore = "needs root"]
fn a_node_has_its_own_name_processes_and_trees_and_sees_what_is_kept() {
    let node = Node::new("node", "10.99.4.0/24");
    let kept = tempfile::tempdir_in("/run").unwrap();
    std::fs::write(kept.path().join("file"), "kept").unwrap();
    let kept = kept.path().to_str().unwrap();
    let script = format!(
        "hostname; echo $$; [ ! -e /run/netns ]; echo $?; ls /sys/class/net /var/lib; cat {kept}/file; touch /var/lib/mine"
    );
    let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("../node/run");
    let seen = run(runner.to_str().unwrap(), &[&node.netns, "--keep", kept, "--", "bash", "-c", &script]);
    let want = format!("{}\n1\n0\n/sys/class/net:\nlo\n\n/var/lib:\nkept", node.netns);
    assert_eq!(seen, want);
    assert!(!Path::new("/var/lib/mine").exists());
}

#[test]
#[ignore = "needs root"]
fn a_node_stays_when_nobody_reads_its_output() {
    let node = Node::new("unread", "10.99.5.0/24");
    // Longer than the second after which the script looks whether its parent lives.
    let mut child = Command::new(RUNNER)
        .args([&node.netns, "--", "sleep", "1.5"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let start = Instant::now();
    assert!(child.wait().unwrap().success());
    assert!(start.elapsed() >= Duration::from_millis(1500), "it ended early");
}
