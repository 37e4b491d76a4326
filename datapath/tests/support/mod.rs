//! What the tests that need root share: namespaces with unique names that go away with their guard, and the independent
//! witnesses `ip -j`, `nft -j` and `ping`, executed inside them. Programs are run only here, never by the product.
//!
//! Without privilege everything here panics: a test that needs root fails, it does not skip.
#![expect(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::allow_attributes, dead_code, reason = "each test binary uses a part, some use all")]

pub(crate) mod matrix;
pub(crate) mod proxy;
pub(crate) mod world;

use spur_datapath::netlink::Netlink;
use spur_datapath::netns::NetNs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long an answer is waited for: it comes at once, but a busy machine stands still for a second or loses its first ARP request. Who
/// expects silence listens for a shorter time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A network namespace that is deleted when the test ends.
pub(crate) struct TestNs {
    /// Its name under /run/netns.
    pub(crate) name: String,
    /// The namespace.
    pub(crate) ns: NetNs,
}

impl TestNs {
    /// Makes one, loopback up.
    pub(crate) fn new(label: &str) -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("spurdp-{}-{number}-{label}", std::process::id());
        let ns = NetNs::create_pinned(&name).expect("these tests need root");
        let test_ns = Self { name, ns };
        test_ns.ip("link set lo up");
        // No link-local addresses: they come some time after the link and would make snapshots differ.
        test_ns.exec("sysctl -q -w net.ipv6.conf.default.addr_gen_mode=1");
        test_ns
    }

    /// A netlink socket inside.
    pub(crate) fn netlink(&self) -> Netlink {
        Netlink::open_in(&self.ns).unwrap()
    }

    /// Runs a program inside; panics with its output when it fails.
    pub(crate) fn exec(&self, command: &str) -> String {
        let (ok, output) = self.try_exec(command);
        assert!(ok, "{command}: {output}");
        output
    }

    /// Runs a program inside.
    pub(crate) fn try_exec(&self, command: &str) -> (bool, String) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let output = self.ns.run(|| Command::new(words[0]).args(&words[1..]).output()).unwrap().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), text + &String::from_utf8_lossy(&output.stderr))
    }

    /// Feeds a program inside; panics with its output when it fails.
    pub(crate) fn feed(&self, command: &str, input: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let mut program = Command::new(words[0]);
        program.args(&words[1..]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.ns.run(|| program.spawn()).unwrap().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs `ip`.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        self.exec(&format!("ip {arguments}"))
    }

    /// Runs `ip -j` and parses.
    pub(crate) fn ip_json(&self, arguments: &str) -> serde_json::Value {
        let text = self.ip(&format!("-j -d {arguments}"));
        if text.trim().is_empty() { serde_json::json!([]) } else { serde_json::from_str(&text).unwrap() }
    }

    /// Runs `nft -j` and parses, without the metainfo.
    pub(crate) fn nft_json(&self, arguments: &str) -> Vec<serde_json::Value> {
        let value: serde_json::Value =
            serde_json::from_str(&self.exec(&format!("nft -j {arguments}"))).unwrap();
        let list = value["nftables"].as_array().unwrap();
        list.iter().filter(|item| item.get("metainfo").is_none()).cloned().collect()
    }

    /// One ping; true when answered.
    pub(crate) fn pings(&self, target: &str) -> bool {
        self.try_exec(&format!("ping -n -c 1 -W {} {target}", PATIENCE.as_secs())).0
    }

    /// One ping; true when nobody answers within a second.
    pub(crate) fn pings_in_vain(&self, target: &str) -> bool {
        !self.try_exec(&format!("ping -n -c 1 -W 1 {target}")).0
    }

    /// All that the kernel shows of links, addresses, routes, rules, neighbours and nftables, without what changes by itself.
    pub(crate) fn snapshot(&self) -> String {
        let mut all = String::new();
        for list in
            ["addr show", "route show table all", "rule show", "neigh show nud permanent", "neigh show proxy"]
        {
            let mut value = self.ip_json(list);
            for item in value.as_array_mut().unwrap() {
                // The carrier is noticed a little later than the link is set up.
                let item = item.as_object_mut().unwrap();
                item.remove("operstate");
                item.remove("flags");
            }
            value.as_array_mut().unwrap().retain(|item| item["type"] != "multicast");
            all.push_str(&format!("{list}: {value:#}\n"));
        }
        all.push_str(&format!("nft: {:#?}\n", self.nft_json("list ruleset")));
        all
    }
}

/// Fails with the lines that differ, not with two whole snapshots.
pub(crate) fn assert_same(now: &str, before: &str) {
    let missing: Vec<_> = before.lines().filter(|line| !now.contains(line)).collect();
    let new: Vec<_> = now.lines().filter(|line| !before.contains(line)).collect();
    assert!(now == before, "gone: {missing:#?}\nnew: {new:#?}");
}

impl Drop for TestNs {
    fn drop(&mut self) {
        // Best effort: the namespace is this test's own, and its name is not used again.
        let _ = NetNs::delete_pinned(&self.name);
    }
}
