//! Network namespaces for tests: one that stands for a node (its primary address on the loopback, the rule that leads to the
//! pods' table), others for pods. They are removed when the test ends, however it ends. `ip` shows and prepares them; it is
//! not what the plugin uses.
#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses a part; a test may unwrap")]

use crate::common::{Invocation, Ran};
use serde_json::Value;
use spur_datapath::netns::NetNs;
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A namespace with a name of its own.
pub(crate) struct Namespace {
    name: String,
    path: String,
    ns: NetNs,
}

/// A namespace that stands for a node.
pub(crate) struct Node {
    pub(crate) ns: Namespace,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        static COUNTER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("spurcni-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::SeqCst));
        let ns = NetNs::create_pinned(&name).expect("these tests need root");
        Self { path: format!("/run/netns/{name}"), name, ns }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.ns.run(work).unwrap()
    }

    /// `ip -j …` in the namespace.
    pub(crate) fn ip(&self, args: &[&str]) -> Value {
        let text = self.ip_do(&[&["-j"], args].concat());
        if text.is_empty() { Value::Array(Vec::new()) } else { serde_json::from_str(&text).unwrap() }
    }

    #[track_caller]
    pub(crate) fn ip_do(&self, args: &[&str]) -> String {
        let output = Command::new("ip").args(["-n", &self.name]).args(args).output().unwrap();
        assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Everything that the plugin could have left, without what the kernel changes by itself: carrier, and IPv6's own
    /// link-local addresses and multicast neighbours.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let show: [&[&str]; 8] = [
            &["-d", "link", "show"],
            &["-4", "addr", "show"],
            &["-6", "addr", "show", "scope", "global"],
            &["-4", "route", "show", "table", "all"],
            &["-6", "route", "show", "table", "all"],
            &["-4", "rule", "show"],
            &["-6", "rule", "show"],
            &["neigh", "show", "nud", "permanent"],
        ];
        let mut lines = BTreeSet::new();
        for args in show {
            for mut entry in self.ip(args).as_array().unwrap().iter().cloned() {
                let of_the_kernel =
                    |key: &str| ["fe80::", "ff00::"].iter().any(|net| entry[key].to_string().contains(net));
                if of_the_kernel("dst") || entry == serde_json::json!({}) {
                    continue;
                }
                for key in ["operstate", "flags"] {
                    entry.as_object_mut().unwrap().remove(key);
                }
                lines.insert(format!("{} {entry}", args.join(" ")));
            }
        }
        Snapshot(lines)
    }
}

/// What is in a namespace; shows the difference when it is not what it should be.
#[derive(PartialEq, Eq)]
pub(crate) struct Snapshot(BTreeSet<String>);

impl Snapshot {
    #[track_caller]
    pub(crate) fn assert_same(&self, ns: &Namespace) {
        let now = ns.snapshot();
        let (gone, new) = (self.0.difference(&now.0), now.0.difference(&self.0));
        let changes: Vec<_> =
            gone.map(|line| format!("- {line}")).chain(new.map(|line| format!("+ {line}"))).collect();
        assert!(changes.is_empty(), "the namespace changed:\n{}", changes.join("\n"));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = NetNs::delete_pinned(&self.name) {
            eprintln!("{error}");
        }
    }
}

impl Node {
    pub(crate) fn new() -> Self {
        let ns = Namespace::new();
        ns.ip_do(&["link", "set", "lo", "up"]);
        ns.ip_do(&["addr", "add", "10.77.0.1/32", "dev", "lo"]);
        ns.ip_do(&["rule", "add", "pref", "512", "lookup", "5000"]);
        Self { ns }
    }

    /// Runs the plugin on the node.
    pub(crate) fn run(&self, invocation: &Invocation) -> Ran {
        self.ns.inside(|| invocation.run())
    }

    /// Connections are tracked from the first rule on that asks for their state.
    pub(crate) fn track_connections(&self) {
        let rules = "table ip t { chain c { type filter hook output priority 0; ct state new counter; }; }";
        let done = self.ns.inside(|| Command::new("nft").arg(rules).output()).unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// The tracked connections, one a line.
    pub(crate) fn flows(&self) -> String {
        self.ns.inside(|| std::fs::read_to_string("/proc/thread-self/net/nf_conntrack")).unwrap()
    }

    #[track_caller]
    pub(crate) fn ping(&self, address: &str) {
        let ping = self.ns.inside(|| Command::new("ping").args(["-c1", "-W20", address]).output()).unwrap();
        assert!(ping.status.success(), "{}", String::from_utf8_lossy(&ping.stdout));
    }
}
