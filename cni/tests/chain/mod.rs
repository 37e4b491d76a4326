//! A network of several plugins, Spur among them, called as libcni calls them on a node of the test. The other plugins are Debian's or
//! scripts that a test writes; each script notes every call and keeps its standard input, so that a test can see what it was given.
#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses a part; a test may unwrap")]

use crate::common::{Behaviour, FakeAgent, Pool};
use crate::node::{Namespace, Node};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use tempfile::TempDir;
use testbed_libcni::{Attachment, Cache, Libcni, LibcniError, NetworkList, reference_plugins};

/// What every script begins with. `$stdin` is its configuration.
const PREAMBLE: &str = r#"#!/bin/sh
stdin=$(cat)
home=${0%/*}; name=${0##*/}
echo "$CNI_COMMAND $name" >>"$home/calls"
printf '%s' "$stdin" >"$home/$name.$CNI_COMMAND"
[ "$CNI_COMMAND" != VERSION ] || echo '{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}'
"#;

/// The part of a script that hands the result on, as a plugin that has nothing to add.
pub(crate) const PASS: &str = r#"[ "$CNI_COMMAND" != ADD ] ||
    printf '%s' "$stdin" | python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin)["prevResult"]))'
"#;

/// Node, agent, and the caller of plugins.
pub(crate) struct Chain {
    pub(crate) node: Node,
    pub(crate) agent: FakeAgent,
    pub(crate) pool: Pool,
    pub(crate) libcni: Libcni,
    home: TempDir,
}

impl Chain {
    /// An honest agent.
    pub(crate) fn new() -> Self {
        let (agent, pool) = FakeAgent::honest();
        Self::with(agent, pool)
    }

    /// An agent that answers with `behave`, before the honest one is asked.
    pub(crate) fn with_agent(
        behave: impl Fn(&spur_wire::Request) -> Option<Behaviour> + Send + Sync + 'static,
    ) -> Self {
        let pool = Pool::default();
        let books = pool.clone();
        let agent = FakeAgent::start(move |request| {
            behave(request).unwrap_or_else(|| Behaviour::Answer(books.answer(request)))
        });
        Self::with(agent, pool)
    }

    fn with(agent: FakeAgent, pool: Pool) -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("bin")).unwrap();
        let spur = Path::new(env!("CARGO_BIN_EXE_spur")).parent().unwrap();
        let path = vec![home.path().join("bin"), spur.to_owned(), reference_plugins()];
        let libcni = Libcni::new(path, Cache::new(&home.path().join("cache")))
            .with_busy_pause(Duration::from_millis(50));
        Self { node: Node::new(), agent, pool, libcni, home }
    }

    /// A plugin that is a script.
    pub(crate) fn script(&self, name: &str, body: &str) -> Value {
        let path = self.file(name);
        // Written aside, so that a script that is there already is replaced and not torn.
        let aside = path.with_extension("new");
        std::fs::write(&aside, format!("{PREAMBLE}{body}")).unwrap();
        std::fs::set_permissions(&aside, PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::rename(aside, path).unwrap();
        json!({"type": name})
    }

    /// Where scripts are and leave what they saw.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.home.path().join("bin").join(name)
    }

    /// The calls of all scripts so far but VERSION: verb and name.
    pub(crate) fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.file("calls")).unwrap_or_default();
        text.lines().filter(|line| !line.starts_with("VERSION")).map(str::to_owned).collect()
    }

    /// The configuration that a script was last called with.
    pub(crate) fn seen(&self, name: &str, verb: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.file(&format!("{name}.{verb}"))).unwrap()).unwrap()
    }

    /// Spur's part of a list.
    pub(crate) fn spur(&self) -> Value {
        let mut conf = self.agent.conf("");
        for key in ["cniVersion", "name"] {
            conf.as_object_mut().unwrap().remove(key);
        }
        conf
    }

    /// A network of these plugins.
    pub(crate) fn list(&self, version: &str, plugins: &[Value]) -> NetworkList {
        self.list_with(&json!({"cniVersion": version}), plugins)
    }

    /// The same, with these keys.
    pub(crate) fn list_with(&self, keys: &Value, plugins: &[Value]) -> NetworkList {
        let mut list = keys.clone();
        list["name"] = json!("spur-test");
        list["plugins"] = plugins.iter().cloned().collect();
        NetworkList::parse(list.to_string().as_bytes()).unwrap()
    }

    /// Works on the node, where a runtime calls its plugins.
    pub(crate) fn on_node<T: Send>(&self, work: impl FnOnce(&Libcni) -> T + Send) -> T {
        self.node.ns.inside(|| work(&self.libcni))
    }

    pub(crate) fn add(&self, list: &NetworkList, pod: &Attachment) -> Result<Value, LibcniError> {
        self.on_node(|libcni| libcni.add(list, pod)).map(|result| result.to_value())
    }

    pub(crate) fn check(&self, list: &NetworkList, pod: &Attachment) -> Result<(), LibcniError> {
        self.on_node(|libcni| libcni.check(list, pod))
    }

    pub(crate) fn del(&self, list: &NetworkList, pod: &Attachment) -> Result<(), LibcniError> {
        self.on_node(|libcni| libcni.del(list, pod))
    }

    /// What a program says on the node.
    #[track_caller]
    pub(crate) fn see(&self, program: &str, args: &[&str]) -> String {
        see(&self.node.ns, program, args)
    }
}

/// What a program says in a namespace.
#[track_caller]
pub(crate) fn see(ns: &Namespace, program: &str, args: &[&str]) -> String {
    let output: Output = ns.inside(|| Command::new(program).args(args).output()).unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The attachment of a pod's first interface.
pub(crate) fn attachment(container: &str, pod: &Namespace) -> Attachment {
    Attachment::new(container, pod.path(), "eth0")
}

/// An error with its causes, in one line.
pub(crate) fn words(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", words(cause)))
}
