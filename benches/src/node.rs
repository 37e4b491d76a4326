//! A node under measurement: a network namespace, a plugin with its configuration, and the pods that are there now.
//!
//! Pods' namespaces are made before and reused after their pod has left, because making and destroying namespaces occupies the kernel for
//! longer than what is measured.

use crate::exec::{self, Invocation};
use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};
use spur_datapath::IfName;
use spur_datapath::netlink::Netlink;
use spur_datapath::netns::NetNs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The interface that every pod gets.
const POD_IF_NAME: &str = "eth0";

/// How many pods are added at once when they are not measured.
const FILL_AT_ONCE: usize = 25;

/// How long a removed pod's interface may stay.
const GONE_TIMEOUT: Duration = Duration::from_secs(20);

/// A named network namespace that ends with this value.
#[derive(Debug)]
pub struct OwnNetns {
    name: String,
    /// The namespace.
    pub netns: NetNs,
}

impl OwnNetns {
    /// Makes it.
    ///
    /// # Errors
    /// When the kernel refuses, or the name is taken.
    pub fn create(name: String) -> Result<Self> {
        let netns = NetNs::create_pinned(&name).with_context(|| format!("make the namespace {name}"))?;
        Ok(Self { name, netns })
    }
}

impl Drop for OwnNetns {
    fn drop(&mut self) {
        // A namespace that is gone already is what is wanted.
        let _ = NetNs::delete_pinned(&self.name);
    }
}

/// A pod with a network.
#[derive(Debug)]
pub struct Pod {
    sandbox: OwnNetns,
    id: String,
    name: String,
    result: Value,
    host_if: IfName,
}

impl Pod {
    /// The pod's namespace.
    #[must_use]
    pub const fn netns(&self) -> &NetNs {
        &self.sandbox.netns
    }

    /// Its IPv4 address.
    ///
    /// # Errors
    /// When the plugin's result has none.
    pub fn address(&self) -> Result<std::net::Ipv4Addr> {
        let text = self.result["ips"][0]["address"].as_str().context("the result has no address")?;
        let address = text.split('/').next().unwrap_or_default();
        address.parse().with_context(|| format!("{text:?} is no IPv4 address"))
    }
}

/// How long pods' removal took.
#[derive(Debug, Clone, Copy)]
pub struct Removal {
    /// Until the plugin had returned.
    pub returned: Duration,
    /// Until the host had no interface of theirs any more.
    pub gone: Duration,
}

/// The node.
#[derive(Debug)]
pub struct Node {
    prefix: String,
    netns: NetNs,
    kernel: Netlink,
    plugin: PathBuf,
    conf: Map<String, Value>,
    pods: Vec<Pod>,
    free: Vec<OwnNetns>,
    serial: u32,
}

impl Node {
    /// A node in this namespace; the names of its pods' namespaces begin with `prefix`. `conf` is what libcni would write to the plugin.
    ///
    /// # Errors
    /// When the kernel cannot be talked to.
    pub fn new(prefix: &str, netns: &NetNs, plugin: PathBuf, conf: Map<String, Value>) -> Result<Self> {
        let netns = NetNs::open(netns.path()).context("open the node's namespace")?;
        let kernel = Netlink::open_in(&netns).context("talk to the node's kernel")?;
        Ok(Self {
            prefix: prefix.to_owned(),
            netns,
            kernel,
            plugin,
            conf,
            pods: Vec::new(),
            free: Vec::new(),
            serial: 0,
        })
    }

    /// The node's namespace.
    #[must_use]
    pub const fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// The pods that are there.
    #[must_use]
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// Adds pods until there are `count`, and makes namespaces for `further` ones.
    ///
    /// # Errors
    /// When an ADD fails.
    pub fn fill(&mut self, count: usize, further: usize) -> Result<()> {
        while self.pods.len() < count {
            let (_, added) = self.add(FILL_AT_ONCE.min(count - self.pods.len()))?;
            self.pods.extend(added);
        }
        while self.free.len() < further {
            let sandbox = self.sandbox()?;
            self.free.push(sandbox);
        }
        Ok(())
    }

    /// ADD of `count` pods at once. They do not count as there until they are kept.
    ///
    /// # Errors
    /// When an ADD fails.
    pub fn add(&mut self, count: usize) -> Result<(Duration, Vec<Pod>)> {
        let mut pods = Vec::with_capacity(count);
        for _ in 0..count {
            pods.push(self.next_pod()?);
        }
        let invocations: Vec<_> = pods.iter().map(|pod| self.invocation("ADD", pod)).collect();
        let (took, printed) = exec::run_all(&self.netns, &invocations)?;
        for (pod, printed) in pods.iter_mut().zip(printed) {
            pod.accept(&printed)?;
        }
        Ok((took, pods))
    }

    /// ADD of one pod, for the most memory that the plugin has resident on the way, in KiB.
    ///
    /// # Errors
    /// When the ADD fails.
    pub fn add_for_memory(&mut self) -> Result<(u64, Pod)> {
        let mut pod = self.next_pod()?;
        let (peak, printed) = exec::peak_memory(&self.netns, &self.invocation("ADD", &pod))?;
        pod.accept(&printed)?;
        Ok((peak, pod))
    }

    /// DEL of these pods at once, and the wait until their interfaces are gone.
    ///
    /// # Errors
    /// When a DEL fails, or an interface stays.
    pub fn del(&mut self, pods: Vec<Pod>) -> Result<Removal> {
        let invocations: Vec<_> = pods.iter().map(|pod| self.invocation("DEL", pod)).collect();
        let begin = Instant::now();
        let (returned, _) = exec::run_all(&self.netns, &invocations)?;
        for pod in &pods {
            while self.kernel.link_by_name(&pod.host_if)?.is_some() {
                ensure!(begin.elapsed() < GONE_TIMEOUT, "interface {} stays after DEL", pod.host_if);
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        let gone = begin.elapsed().max(returned);
        self.free.extend(pods.into_iter().map(|pod| pod.sandbox));
        Ok(Removal { returned, gone })
    }

    /// Executes the plugin once without a pod; `verb` may be absent.
    ///
    /// # Errors
    /// When it fails.
    pub fn execute(&self, verb: Option<&str>) -> Result<Duration> {
        let env = verb.map(|verb| ("CNI_COMMAND", verb.to_owned())).into_iter().collect();
        let mut conf = self.conf.clone();
        // STATUS is as young as that.
        conf.insert("cniVersion".to_owned(), "1.1.0".into());
        let invocation = Invocation { program: self.plugin.clone(), env, stdin: encode(&conf, &Value::Null) };
        Ok(exec::run_all(&self.netns, &[invocation])?.0)
    }

    /// A namespace of its own for whoever needs one.
    ///
    /// # Errors
    /// When none can be made.
    pub fn sandbox(&mut self) -> Result<OwnNetns> {
        self.serial += 1;
        OwnNetns::create(format!("{}-{}", self.prefix, self.serial))
    }

    fn next_pod(&mut self) -> Result<Pod> {
        let sandbox = match self.free.pop() {
            Some(sandbox) => sandbox,
            None => self.sandbox()?,
        };
        self.serial += 1;
        Ok(Pod {
            sandbox,
            id: format!("{:0>64x}", self.serial),
            name: format!("web-{}", self.serial),
            result: Value::Null,
            host_if: POD_IF_NAME.parse().context("name the pod's interface")?,
        })
    }

    fn invocation(&self, verb: &str, pod: &Pod) -> Invocation {
        let path = self.plugin.parent().map(|dir| dir.display().to_string()).unwrap_or_default();
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={}",
            pod.name, pod.id
        );
        let env = vec![
            ("CNI_COMMAND", verb.to_owned()),
            ("CNI_CONTAINERID", pod.id.clone()),
            ("CNI_NETNS", pod.netns().path().display().to_string()),
            ("CNI_IFNAME", POD_IF_NAME.to_owned()),
            ("CNI_ARGS", args),
            ("CNI_PATH", path),
        ];
        Invocation { program: self.plugin.clone(), env, stdin: encode(&self.conf, &pod.result) }
    }
}

impl Pod {
    /// Takes over what ADD printed: DEL gets it back, as from libcni's cache.
    fn accept(&mut self, printed: &[u8]) -> Result<()> {
        self.result = serde_json::from_slice(printed).context("read the plugin's result")?;
        let interfaces = self.result["interfaces"].as_array().context("the result has no interfaces")?;
        let on_host =
            interfaces.iter().find(|interface| interface["sandbox"].as_str().is_none_or(str::is_empty));
        let name = on_host.and_then(|interface| interface["name"].as_str());
        self.host_if = name.context("the result has no interface on the host")?.parse()?;
        Ok(())
    }
}

fn encode(conf: &Map<String, Value>, previous: &Value) -> Vec<u8> {
    let mut conf = conf.clone();
    if !previous.is_null() {
        conf.insert("prevResult".to_owned(), previous.clone());
    }
    Value::Object(conf).to_string().into_bytes()
}
