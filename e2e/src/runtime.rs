//! What a container runtime does with a CNI plugin: a network namespace per pod, the plugin executed with the configuration on
//! its standard input and the pod in its environment.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use spur_datapath::netns::NetNs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The interface that every pod gets.
pub const IF_NAME: &str = "eth0";

/// A runtime on one node.
#[derive(Debug)]
pub struct Runtime {
    /// The node's own namespace, in which the runtime executes plugins.
    node: NetNs,
    plugin: PathBuf,
    conf_dir: PathBuf,
    env: Vec<(String, String)>,
    conf: Map<String, Value>,
}

/// A pod: a pinned network namespace and what the plugin said of it.
#[derive(Debug)]
pub struct Pod {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// The pod's network namespace.
    pub netns: NetNs,
    pinned: String,
    /// Its address, once ADD succeeded.
    pub address: Option<IpAddr>,
}

/// What the plugin printed.
#[derive(Debug)]
pub struct Outcome {
    /// Whether it exited with 0.
    pub success: bool,
    /// Its standard output as JSON, or null if it printed nothing.
    pub output: Value,
    /// Its standard error.
    pub stderr: String,
}

impl Pod {
    /// Makes the pod's namespace; `pinned` is its name under `/run/netns`.
    ///
    /// # Errors
    /// When the namespace cannot be made.
    pub fn create(pinned: &str, namespace: &str, name: &str, container_id: &str) -> Result<Self> {
        let netns =
            NetNs::create_pinned(pinned).with_context(|| format!("make the namespace of pod {name}"))?;
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            container_id: container_id.to_owned(),
            netns,
            pinned: pinned.to_owned(),
            address: None,
        })
    }

    /// `CNI_NETNS`.
    #[must_use]
    pub fn netns_path(&self) -> String {
        format!("/run/netns/{}", self.pinned)
    }

    /// Removes the namespace's name, and with it the namespace unless somebody has it open.
    pub fn delete_netns(&self) {
        // A namespace that is gone already is what is wanted.
        let _ = NetNs::delete_pinned(&self.pinned);
    }

    fn args(&self) -> String {
        format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
            self.namespace,
            self.name,
            self.container_id,
            self.container_id.get(..8).unwrap_or_default()
        )
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.delete_netns();
    }
}

impl Runtime {
    /// A runtime in this node namespace that reads its network from `conf_dir`.
    #[must_use]
    pub fn new(node: NetNs, plugin: PathBuf, conf_dir: PathBuf) -> Self {
        Self { node, plugin, conf_dir, env: Vec::new(), conf: Map::new() }
    }

    /// The same runtime with another program in the plugin's place.
    #[must_use]
    pub fn with_plugin(mut self, plugin: PathBuf) -> Self {
        self.plugin = plugin;
        self
    }

    /// One more variable in the plugin's environment.
    #[must_use]
    pub fn with_env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// One more key in the configuration on the plugin's standard input.
    #[must_use]
    pub fn with_conf(mut self, key: &str, value: Value) -> Self {
        self.conf.insert(key.to_owned(), value);
        self
    }

    /// ADD: gives the pod its network and remembers its address.
    ///
    /// # Errors
    /// When the plugin refuses; its own words are in the error.
    pub fn add(&self, pod: &mut Pod) -> Result<Value> {
        let outcome = self.execute("ADD", pod, &pod.netns_path())?;
        if !outcome.success {
            bail!("ADD of {}/{}: {}", pod.namespace, pod.name, outcome.failure());
        }
        pod.address = Some(outcome.address()?);
        Ok(outcome.output)
    }

    /// DEL: takes the pod's network away.
    ///
    /// # Errors
    /// When the plugin fails.
    pub fn del(&self, pod: &Pod) -> Result<()> {
        let outcome = self.execute("DEL", pod, &pod.netns_path())?;
        if !outcome.success {
            bail!("DEL of {}/{}: {}", pod.namespace, pod.name, outcome.failure());
        }
        Ok(())
    }

    /// Executes one verb as libcni does.
    ///
    /// # Errors
    /// When the plugin cannot be executed or prints what is not JSON; a refusal is an [`Outcome`].
    pub fn execute(&self, verb: &str, pod: &Pod, netns: &str) -> Result<Outcome> {
        finish(verb, self.start(verb, pod, netns)?)
    }

    /// Starts one verb, without waiting for its end.
    ///
    /// # Errors
    /// When the plugin cannot be executed.
    pub fn start(&self, verb: &str, pod: &Pod, netns: &str) -> Result<Child> {
        self.start_after(verb, pod, netns, &Value::Null)
    }

    /// As [`Runtime::start`], with the result that the runtime remembers of an earlier verb; null if there is none.
    ///
    /// # Errors
    /// As [`Runtime::start`].
    pub fn start_after(&self, verb: &str, pod: &Pod, netns: &str, previous: &Value) -> Result<Child> {
        let mut config = network_config(&self.conf_dir)?;
        if let Some(object) = config.as_object_mut() {
            object.extend(self.conf.clone());
            if !previous.is_null() {
                object.insert("prevResult".to_owned(), previous.clone());
            }
        }
        let mut command = Command::new(&self.plugin);
        command
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &pod.container_id)
            .env("CNI_NETNS", netns)
            .env("CNI_IFNAME", IF_NAME)
            .env("CNI_ARGS", pod.args())
            .env("CNI_PATH", self.plugin.parent().unwrap_or_else(|| Path::new("/")))
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.node.run(move || -> Result<_> {
            let mut child = command.spawn().context("execute the plugin")?;
            let mut stdin = child.stdin.take().context("open the plugin's standard input")?;
            stdin.write_all(config.to_string().as_bytes()).context("write the plugin's configuration")?;
            drop(stdin);
            Ok(child)
        })?
    }
}

/// Waits for the end of a plugin and reads what it printed.
///
/// # Errors
/// When what it printed is no JSON.
pub fn finish(verb: &str, child: Child) -> Result<Outcome> {
    read(verb, child.wait_with_output().context("wait for the plugin")?)
}

/// As [`finish`], for a plugin that may be killed; none if it was.
///
/// # Errors
/// As [`finish`].
pub fn ending(verb: &str, child: Child) -> Result<Option<Outcome>> {
    let output = child.wait_with_output().context("wait for the plugin")?;
    if output.status.signal().is_some() { Ok(None) } else { read(verb, output).map(Some) }
}

fn read(verb: &str, output: Output) -> Result<Outcome> {
    let stdout = String::from_utf8(output.stdout).context("read the plugin's output as text")?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let parsed = if stdout.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&stdout)
            .with_context(|| format!("{verb} printed {stdout:?}, which is no JSON"))?
    };
    Ok(Outcome { success: output.status.success(), output: parsed, stderr })
}

impl Outcome {
    /// The address that an ADD told.
    ///
    /// # Errors
    /// When it told none.
    pub fn address(&self) -> Result<IpAddr> {
        let address = self.output["ips"][0]["address"].as_str().context("the result has no address")?;
        let address = address.split('/').next().unwrap_or_default();
        address.parse().with_context(|| format!("{address:?} is no address"))
    }

    /// The CNI error in one line.
    #[must_use]
    pub fn failure(&self) -> String {
        let details =
            self.output["details"].as_str().map(|details| format!(": {details}")).unwrap_or_default();
        format!("code {}: {}{details} {}", self.output["code"], self.output["msg"], self.stderr)
    }
}

/// The configuration that the plugin gets on its standard input: the first plugin of the lexicographically first conflist, with the list's name
/// and version.
fn network_config(conf_dir: &Path) -> Result<Value> {
    let mut lists: Vec<_> = std::fs::read_dir(conf_dir)
        .with_context(|| format!("list {}", conf_dir.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "conflist"))
        .collect();
    lists.sort();
    let path = lists.first().with_context(|| format!("{} has no conflist", conf_dir.display()))?;
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let list: Value =
        serde_json::from_str(&text).with_context(|| format!("read {} as JSON", path.display()))?;
    let mut config = list["plugins"][0].clone();
    let object = config.as_object_mut().context("the conflist has no plugin")?;
    object.insert("name".into(), list["name"].clone());
    object.insert("cniVersion".into(), json!("1.1.0"));
    Ok(config)
}
