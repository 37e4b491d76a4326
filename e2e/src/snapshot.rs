//! A namespace as `ip` and `nft` show it: independent witnesses that what was added is gone again.
//!
//! Left out: what the kernel counts or numbers by itself (interface indexes, handles, timers, counters).

use anyhow::{Context, Result, bail};
use serde_json::Value;
use spur_datapath::netns::NetNs;
use std::collections::BTreeMap;
use std::process::Command;

/// The reading of each witness, normalised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<&'static str, Vec<String>>);

/// What each witness is asked.
const WITNESSES: [(&str, &[&str]); 6] = [
    ("links", &["ip", "-j", "link"]),
    ("addresses", &["ip", "-j", "address"]),
    ("rules", &["ip", "-j", "rule"]),
    ("routes", &["ip", "-j", "route", "show", "table", "all"]),
    ("permanent neighbours", &["ip", "-j", "neighbour", "show", "nud", "permanent"]),
    ("nftables", &["nft", "-j", "list", "ruleset"]),
];

/// Keys whose values the kernel chooses or counts.
const VOLATILE: [&str; 13] = [
    "ifindex",
    "link_index",
    "handle",
    "valid_life_time",
    "preferred_life_time",
    "packets",
    "bytes",
    "link_netnsid",
    "txqlen",
    "metainfo",
    "index",
    "flags",
    "operstate",
];

impl Snapshot {
    /// Reads the namespace. With `elements` false the contents of nft sets and maps are left out.
    ///
    /// # Errors
    /// When a witness fails.
    pub fn take(netns: &NetNs, elements: bool) -> Result<Self> {
        let mut readings = BTreeMap::new();
        for (what, command) in WITNESSES {
            readings.insert(what, read(netns, command, elements).with_context(|| format!("read {what}"))?);
        }
        Ok(Self(readings))
    }

    /// What is in one snapshot and not in the other, a line each.
    #[must_use]
    pub fn difference(&self, later: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (what, before) in &self.0 {
            let after = later.0.get(what).cloned().unwrap_or_default();
            lines.extend(
                before
                    .iter()
                    .filter(|line| !after.contains(line))
                    .map(|line| format!("{what}: gone: {line}")),
            );
            lines.extend(
                after.iter().filter(|line| !before.contains(line)).map(|line| format!("{what}: new: {line}")),
            );
        }
        lines
    }
}

/// How many packets of pods a node has dropped because of their source address.
///
/// # Errors
/// When `nft` fails, or the counter is not there.
pub fn node_spoof_drops(netns: &NetNs) -> Result<u64> {
    let items = witness(netns, &["nft", "-j", "list", "counter", "ip", "spur", "spoofed"])?;
    let packets = items.iter().find_map(|item| item["counter"]["packets"].as_u64());
    packets.context("nft shows no counter of forged packets")
}

fn read(netns: &NetNs, words: &[&str], elements: bool) -> Result<Vec<String>> {
    let mut lines: Vec<_> = witness(netns, words)?
        .into_iter()
        .map(|item| normal(item, elements))
        .filter(|item| !matches!(item, Value::Object(object) if object.is_empty()))
        .map(|item| item.to_string())
        .collect();
    lines.sort();
    Ok(lines)
}

/// What a witness (`ip`, `nft`) lists as JSON.
///
/// # Errors
/// When it fails, or prints something else.
pub fn witness(netns: &NetNs, words: &[&str]) -> Result<Vec<Value>> {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    let output = netns.run(move || command.output())?.with_context(|| format!("execute {}", words[0]))?;
    if !output.status.success() {
        bail!("{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout)?;
    let value: Value = if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text)? };
    Ok(match value {
        Value::Array(items) => items,
        Value::Object(mut object) => match object.remove("nftables") {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        },
        _ => Vec::new(),
    })
}

fn normal(value: Value, elements: bool) -> Value {
    match value {
        Value::Object(object) => Value::Object(
            object
                .into_iter()
                .filter(|(key, _)| !VOLATILE.contains(&key.as_str()) && (elements || key != "elem"))
                .map(|(key, value)| (key, normal(value, elements)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(|item| normal(item, elements)).collect()),
        other => other,
    }
}
