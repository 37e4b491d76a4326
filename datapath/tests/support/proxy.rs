//! kube-proxy on a test's node: the rules that it was seen to write, or itself.
//!
//! Without SPUR_KUBE_PROXY, the rules in `tests/proxy` are loaded: what the real kube-proxy of the version that `testbed/kube-proxy/go.mod` names wrote for
//! the same services on the same node. With `live` it runs in the node's namespace, and with `capture` what it writes there is kept in
//! `tests/proxy` as well. One that is missing, or writes nothing, is a failure.

use super::TestNs;
use super::matrix::{BLOCK_PODS, COVERED, NODE, block_matrix, block_world, matrix, settled};
use super::world::{POD_A, POD_B, POD_C, World};
use serde_json::{Value, json};
use spur_datapath::node::NodeWanted;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How kube-proxy works, and for which pods.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) nftables: bool,
    /// The node's mode is `vpcRoute`.
    pub(crate) block: bool,
}

pub(crate) const CASES: [Case; 4] = [
    Case { nftables: false, block: false },
    Case { nftables: false, block: true },
    Case { nftables: true, block: false },
    Case { nftables: true, block: true },
];

impl Case {
    pub(crate) fn world(self) -> World {
        if self.block { block_world() } else { settled(&matrix()) }
    }

    pub(crate) fn wanted(self) -> NodeWanted {
        if self.block { block_matrix() } else { matrix() }
    }

    pub(crate) fn pods(self) -> [&'static str; 3] {
        if self.block { BLOCK_PODS } else { [POD_A, POD_B, POD_C] }
    }

    /// The rules of kube-proxy that the node's kernel has, without what only counts.
    pub(crate) fn rules(self, node: &TestNs) -> String {
        if self.nftables {
            return node.try_exec("nft --stateless list table ip kube-proxy").1;
        }
        let lines = node.exec("iptables-save");
        let kept = lines.lines().filter(|line| !line.starts_with('#'));
        let uncounted =
            |line: &str| match (line.rsplit_once(" ["), line.split_once(" -m nfacct --nfacct-name ")) {
                (Some((chain, _)), _) if line.starts_with(':') => format!("{chain} [0:0]\n"),
                (_, Some((before, counter))) => {
                    let after = counter.trim_start().split_once(' ').map_or("", |(_, after)| after);
                    format!("{before} {after}\n")
                }
                _ => format!("{line}\n"),
            };
        kept.map(uncounted).collect()
    }

    fn captured(self) -> PathBuf {
        let (rules, pods) =
            (if self.nftables { "nftables" } else { "iptables" }, if self.block { "block" } else { "eni" });
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/proxy/{pods}.{rules}"))
    }

    /// Starts kube-proxy on a node of this case, or loads its rules.
    pub(crate) fn start(self, world: &World) -> Option<KubeProxy> {
        match std::env::var("SPUR_KUBE_PROXY").as_deref() {
            Err(_) => {
                let program = if self.nftables { "nft -f -" } else { "iptables-nft-restore --noflush" };
                world.node.feed(program, &fs::read_to_string(self.captured()).unwrap());
                None
            }
            Ok(how @ ("live" | "capture")) => {
                let proxy = KubeProxy::start(self, world);
                if how == "capture" {
                    self.capture(&world.node);
                }
                Some(proxy)
            }
            Ok(other) => panic!("SPUR_KUBE_PROXY is live, capture or not set, and not {other}"),
        }
    }

    /// Keeps its rules. The order of services is another in each run: rules that differ in nothing else are left as they were captured.
    fn capture(self, node: &TestNs) {
        let rules = format!("# kube-proxy {}\n{}", version(), self.rules(node));
        let sorted = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        if fs::read_to_string(self.captured()).map_or(true, |before| sorted(&before) != sorted(&rules)) {
            fs::write(self.captured(), rules).unwrap();
        }
    }

    fn flags(self) -> [&'static str; 4] {
        let mode = if self.nftables { "--proxy-mode=nftables" } else { "--proxy-mode=iptables" };
        // Blocks are of one network; pods with addresses of the VPC are known by their interfaces.
        let [detect, pods] = if self.block {
            ["--detect-local-mode=ClusterCIDR", "--cluster-cidr=10.200.0.0/16"]
        } else {
            ["--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=eni"]
        };
        [mode, detect, pods, "--hostname-override=node"]
    }
}

/// The version that is built, and was captured.
pub(crate) fn version() -> &'static str {
    let module = include_str!("../../../testbed/kube-proxy/go.mod");
    let required = module.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"));
    required.and_then(|rest| rest.split_whitespace().next()).expect("go.mod requires k8s.io/kubernetes")
}

/// The real one, with a cluster of its own; both end with this.
pub(crate) struct KubeProxy {
    case: Case,
    process: Child,
    log: PathBuf,
}

impl KubeProxy {
    /// Starts it; returns when the services' rules are there.
    pub(crate) fn start(case: Case, world: &World) -> Self {
        let log = std::env::temp_dir().join(format!("{}.kube-proxy.log", world.node.name));
        let mut command =
            Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../testbed/kube-proxy/run"));
        command.args(case.flags()).stdin(Stdio::piped()).stderr(File::create(&log).unwrap());
        let process = world.node.ns.run(|| command.spawn()).unwrap().unwrap();
        let mut proxy = Self { case, process, log };
        let endpoint = case.pods()[1];
        proxy.tell(world, &cluster(endpoint), |rules| rules.contains(endpoint) && rules.contains("30081"));
        proxy
    }

    /// Replaces the cluster, and waits until the rules are as they must be then.
    pub(crate) fn tell(&mut self, world: &World, cluster: &Value, done: impl Fn(&str) -> bool) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{cluster}").unwrap();
        self.wait(world, done);
    }

    pub(crate) fn wait(&mut self, world: &World, done: impl Fn(&str) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !done(&self.case.rules(&world.node)) {
            let waits = Instant::now() < end && self.process.try_wait().unwrap().is_none();
            let log = || fs::read_to_string(&self.log).unwrap();
            assert!(waits, "{:?}: kube-proxy does not write its rules; {}", self.case, log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for KubeProxy {
    fn drop(&mut self) {
        // It ends with its input. Best effort: the namespace goes, too.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
        let _ = fs::remove_file(&self.log);
    }
}

/// The cluster that was captured, whose local endpoint is this pod.
pub(crate) fn cluster(endpoint: &str) -> Value {
    let affinity = json!({ "sessionAffinity": "ClientIP", "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 10800 } } });
    let node_port = |port: u16, policy: &str| json!({ "type": "NodePort", "externalTrafficPolicy": policy, "ports": ports(port) });
    let services = [
        ("remote", "172.20.0.1", node_port(30082, "Cluster"), Some((COVERED, "other"))),
        ("local", "172.20.0.2", node_port(30080, "Cluster"), Some((endpoint, "node"))),
        ("kept", "172.20.0.3", node_port(30081, "Local"), Some((endpoint, "node"))),
        ("sticky", "172.20.0.4", affinity, Some((endpoint, "node"))),
        ("empty", "172.20.0.5", json!({}), None),
    ];
    let mut objects = vec![
        json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node" },
            "status": { "addresses": [{ "type": "InternalIP", "address": NODE }] } }),
        json!({ "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": { "name": "kubernetes" },
            "spec": { "cidrs": ["172.20.0.0/16"] } }),
    ];
    for (name, address, more, endpoint) in services {
        objects.push(service(name, address, &more));
        objects.extend(endpoint.map(|(address, node)| slice(name, address, node)));
    }
    Value::Array(objects)
}

/// Of a service; 0 is no port of the node.
fn ports(node_port: u16) -> Value {
    let port = |name: &str, protocol: &str| json!({ "name": name, "protocol": protocol, "port": 80, "nodePort": node_port });
    json!([port("udp", "UDP"), port("tcp", "TCP")])
}

/// A service of a UDP and a TCP port; `more` of its specification replaces what is usual.
fn service(name: &str, address: &str, more: &Value) -> Value {
    let mut spec = json!({ "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"],
        "internalTrafficPolicy": "Cluster", "sessionAffinity": "None", "ports": ports(0) });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let metadata = json!({ "name": name, "namespace": "default" });
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec })
}

fn slice(service: &str, address: &str, node: &str) -> Value {
    let metadata = json!({ "name": service, "namespace": "default", "labels": { "kubernetes.io/service-name": service } });
    let conditions = json!({ "ready": true, "serving": true, "terminating": false });
    json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, "addressType": "IPv4",
        "ports": [{ "name": "udp", "protocol": "UDP", "port": 7777 }, { "name": "tcp", "protocol": "TCP", "port": 7777 }],
        "endpoints": [{ "addresses": [address], "nodeName": node, "conditions": conditions }] })
}
