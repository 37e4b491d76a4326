//! What earlier plugins of a chain achieved, brought into the shape that the configuration's version has. Results up to 0.2.0
//! have one address per family (`ip4`, `ip6`), later ones have lists; a result of the same shape is not touched, whichever
//! version it names, so that nothing of others is lost on the way.
//!
//! Runtimes convert results before they hand them on, so this is for those that do not. What a shape has no place for is
//! left out: interfaces and second addresses of a family in the old one. Nothing here refuses: a result that makes no sense
//! is carried along, as that of a plugin that knows more than we do.

use crate::version::SpecVersion;
use serde_json::{Map, Value, json};

/// The families of the old shape, by key.
const FAMILIES: [(&str, bool); 2] = [("ip4", true), ("ip6", false)];

/// The keys of the new shape that the old one has no place for.
const LISTS: [&str; 3] = ["interfaces", "ips", "routes"];

/// The result in the shape of `version`.
pub(crate) fn in_shape_of(version: SpecVersion, previous: Map<String, Value>) -> Map<String, Value> {
    let is_legacy = FAMILIES.iter().any(|(key, _)| previous.contains_key(*key));
    let has_lists = LISTS.iter().any(|key| previous.contains_key(*key));
    match (is_legacy, version.has_legacy_result()) {
        (true, false) if !has_lists => to_lists(previous, version),
        (false, true) if has_lists => to_families(previous),
        _ => previous,
    }
}

fn to_lists(mut previous: Map<String, Value>, version: SpecVersion) -> Map<String, Value> {
    let (mut ips, mut routes) = (Vec::new(), Vec::new());
    for (key, is_ipv4) in FAMILIES {
        let Some(Value::Object(mut config)) = previous.remove(key) else { continue };
        if let Some(Value::Array(listed)) = config.remove("routes") {
            routes.extend(listed);
        }
        let mut ip = Map::new();
        if version < SpecVersion::V1_0_0 {
            ip.insert("version".to_owned(), Value::from(if is_ipv4 { "4" } else { "6" }));
        }
        ip.extend(config.remove("ip").map(|address| ("address".to_owned(), address)));
        ip.extend(config.remove("gateway").map(|gateway| ("gateway".to_owned(), gateway)));
        ips.push(Value::Object(ip));
    }
    previous.insert("ips".to_owned(), Value::Array(ips));
    previous.insert("routes".to_owned(), Value::Array(routes));
    previous
}

fn to_families(mut previous: Map<String, Value>) -> Map<String, Value> {
    let [_, ips, routes] = LISTS.map(|key| match previous.remove(key) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    });
    for (key, is_ipv4) in FAMILIES {
        let of_family = |item: &&Value, field: &str| {
            let text = item.get(field).and_then(Value::as_str).unwrap_or_default();
            !text.is_empty() && text.contains(':') != is_ipv4
        };
        let Some(ip) = ips.iter().find(|ip| of_family(ip, "address")) else { continue };
        let mut config = json!({"ip": ip["address"]});
        if let Some(gateway) = ip.get("gateway") {
            config["gateway"] = gateway.clone();
        }
        let of_family: Vec<Value> = routes.iter().filter(|route| of_family(route, "dst")).cloned().collect();
        config["routes"] = Value::Array(of_family);
        previous.insert(key.to_owned(), config);
    }
    previous
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shaped(version: SpecVersion, previous: Value) -> Value {
        let Value::Object(previous) = previous else { panic!("{previous} is no object") };
        Value::Object(in_shape_of(version, previous))
    }

    fn legacy() -> Value {
        json!({
            "cniVersion": "0.2.0",
            "ip4": {"ip": "10.0.1.7/32", "gateway": "169.254.1.1", "routes": [{"dst": "0.0.0.0/0"}]},
            "ip6": {"ip": "fd00::7/128", "routes": [{"dst": "::/0", "gw": "fe80::1"}]},
            "dns": {"domain": "d"},
        })
    }

    fn lists() -> Value {
        json!({
            "cniVersion": "0.3.1",
            "ips": [
                {"version": "4", "address": "10.0.1.7/32", "gateway": "169.254.1.1"},
                {"version": "6", "address": "fd00::7/128"},
            ],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "fe80::1"}],
            "dns": {"domain": "d"},
        })
    }

    #[test]
    fn c25_a_result_of_the_same_shape_is_not_touched() {
        for version in SpecVersion::ALL {
            let same = if version.has_legacy_result() { legacy() } else { lists() };
            assert_eq!(shaped(version, same.clone()), same, "{version:?}");
            assert_eq!(shaped(version, json!({"odd": 1})), json!({"odd": 1}));
        }
    }

    #[test]
    fn c25_the_old_shape_becomes_lists_and_back() {
        let with_version = |mut value: Value, version: &str| {
            value["cniVersion"] = version.into();
            value
        };
        for version in [SpecVersion::V0_3_0, SpecVersion::V0_4_0] {
            assert_eq!(shaped(version, legacy()), with_version(lists(), "0.2.0"));
        }
        let mut newest = with_version(lists(), "0.2.0");
        for ip in newest["ips"].as_array_mut().unwrap() {
            ip.as_object_mut().unwrap().remove("version");
        }
        assert_eq!(shaped(SpecVersion::V1_1_0, legacy()), newest);
        assert_eq!(shaped(SpecVersion::V0_1_0, lists()), with_version(legacy(), "0.3.1"));
    }

    #[test]
    fn c25_what_makes_no_sense_is_no_crash() {
        for odd in [json!({"ip4": 7, "ip6": {"routes": 7}}), json!({"ips": 7}), json!({"ips": [7, {}, null]})]
        {
            for version in SpecVersion::ALL {
                assert!(shaped(version, odd.clone()).is_object());
            }
        }
    }
}
