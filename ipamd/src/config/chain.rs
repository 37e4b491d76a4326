//! Plugins behind Spur in the conflist. Most of what they take is theirs to check; refused here is what would break every pod
//! of the node and shows only when the first one is added: what libcni itself refuses, plugins that make an interface or addresses of
//! their own, and a hardware address that nobody but Spur may give.

use super::read::Reader;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

const KEY: &str = "cni.chain";
/// Longer chains are mistakes: every plugin is a process per pod.
const CHAIN_MAX: usize = 16;
/// libcni sets these for each plugin of a list.
const OF_THE_LIST: [&str; 4] = ["cniVersion", "name", "prevResult", "runtimeConfig"];
/// Plugins that make the pod's interface, which Spur has made by then.
const INTERFACES: [&str; 10] =
    ["bridge", "dummy", "flannel", "host-device", "ipvlan", "loopback", "macvlan", "ptp", "tap", "vlan"];
/// Plugins that another plugin executes to get addresses.
const ADDRESSES: [&str; 3] = ["dhcp", "host-local", "static"];

/// The plugins behind Spur, each as it stands in the conflist.
pub(super) fn read_chain(reader: &mut Reader) -> Vec<Value> {
    let items = reader.read(KEY, |value| value.as_array().cloned().ok_or_else(|| "a list".to_owned()));
    if items.len() > CHAIN_MAX {
        reader.wrong(KEY, format!("has {} plugins; expected at most {CHAIN_MAX}", items.len()));
    }
    let mut types = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let at = format!("{KEY}[{index}]");
        let Value::Object(plugin) = item else {
            reader.wrong(&at, "is no plugin; expected an object with type, such as {type: portmap}");
            continue;
        };
        for (key, problem) in problems(plugin) {
            reader.wrong(&format!("{at}.{key}"), problem);
        }
        if let Some(name) = plugin.get("type").and_then(Value::as_str)
            && !types.insert(name.to_owned())
        {
            reader.wrong(&format!("{at}.type"), format!("is {name:?} again; expected each plugin once"));
        }
    }
    items
}

/// What is wrong with one plugin, by key.
fn problems(plugin: &Map<String, Value>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut wrong = |key: &str, problem: String| found.push((key.to_owned(), problem));
    let name = plugin.get("type").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() || name.contains('/') || name.len() > 255 || name.contains('\0') {
        wrong(
            "type",
            "is missing or no name of a plugin; expected its file name, such as portmap".to_owned(),
        );
    } else if name == "spur" {
        wrong("type", "is spur, which comes first by itself; expected plugins behind it".to_owned());
    } else if INTERFACES.contains(&name) {
        let what = "which makes an interface of its own; expected one that changes Spur's";
        wrong("type", format!("is {name:?}, {what}"));
    } else if ADDRESSES.contains(&name) {
        wrong("type", format!("is {name:?}, which gives addresses; expected none, the agent gives them"));
    }
    for key in OF_THE_LIST.iter().filter(|key| plugin.contains_key(**key)) {
        wrong(key, "is set by the runtime; expected no such key".to_owned());
    }
    let capabilities = plugin.get("capabilities");
    match capabilities.map(Value::as_object) {
        Some(None) => wrong("capabilities", "is no map; expected capability: true or false".to_owned()),
        Some(Some(capabilities)) => {
            for (capability, _) in capabilities.iter().filter(|(_, value)| !value.is_boolean()) {
                let key = format!("capabilities.{capability}");
                wrong(&key, "is neither true nor false; expected one of them".to_owned());
            }
        }
        None => {}
    }
    if name == "tuning" {
        let cut_off =
            "would cut pods off, whose neighbours know the hardware address that Spur gave; expected none";
        if plugin.contains_key("mac") {
            wrong("mac", cut_off.to_owned());
        }
        if capabilities.and_then(|capabilities| capabilities.get("mac")) == Some(&Value::Bool(true)) {
            wrong("capabilities.mac", cut_off.to_owned());
        }
    }
    found
}
