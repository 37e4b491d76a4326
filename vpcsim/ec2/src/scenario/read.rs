//! Reading a scenario value by value. A reader never stops: a bad value becomes a [`Mistake`] and is replaced by something
//! harmless, so that one run over the file finds all there is to find. What was read is used only if nothing was wrong. What
//! needs two values to be seen is in `check.rs`.

use super::{Delays, MAX_NODES, Mistake, NodeSpec, Scenario, SecurityGroupSpec, SubnetSpec, faults, routes};
use crate::action::Action;
use ipnet::Ipv4Net;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Longest wait that a scenario may ask for: an hour is more than EC2 ever takes.
const MAX_DELAY_MILLIS: u64 = 3_600_000;

/// Names become parts of names of network namespaces.
const NAME: &str = "a name of 1 to 32 lower-case letters, digits and '-', not beginning or ending with '-'";

#[derive(Default)]
pub(super) struct Reader {
    pub(super) mistakes: Vec<Mistake>,
}

/// A mapping of the file, and where it is.
pub(super) struct Section<'v> {
    path: String,
    entries: Option<&'v Map<String, Value>>,
}

impl<'v> Section<'v> {
    pub(super) fn path_of(&self, key: &str) -> String {
        // An empty key would leave no path to show.
        let key = if key.is_empty() { "\"\"" } else { key };
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of `key`, unless it is absent or null.
    pub(super) fn find(&self, key: &str) -> Option<&'v Value> {
        self.entries?.get(key).filter(|value| !value.is_null())
    }
}

impl Reader {
    pub(super) fn wrong(&mut self, path: impl Into<String>, problem: impl Into<String>) {
        self.mistakes.push(Mistake { path: path.into(), problem: problem.into() });
    }

    pub(super) fn section<'v>(&mut self, path: &str, value: Option<&'v Value>, keys: &[&str]) -> Section<'v> {
        let entries = match value {
            None => None,
            Some(Value::Object(entries)) => Some(entries),
            Some(other) => {
                let place = if path.is_empty() { "(file)" } else { path };
                self.wrong(
                    place,
                    format!("is {}; expected keys and values: {}", show(other), keys.join(", ")),
                );
                None
            }
        };
        let section = Section { path: path.to_owned(), entries };
        for key in entries.into_iter().flat_map(Map::keys).filter(|key| !keys.contains(&key.as_str())) {
            self.wrong(
                section.path_of(key),
                format!("is not a known key; expected one of {}", keys.join(", ")),
            );
        }
        section
    }

    /// The value of `key` as `parse` reads it; `parse` says what was expected. Absent is the default, and without one a mistake.
    pub(super) fn read<T>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        default: Option<T>,
        parse: impl Fn(&Value) -> Result<T, String>,
    ) -> Option<T> {
        let Some(value) = section.find(key) else {
            if default.is_none() {
                let expected = parse(&Value::Null).err().unwrap_or_default();
                self.wrong(section.path_of(key), format!("is missing; expected {expected}"));
            }
            return default;
        };
        parse(value)
            .map_err(|expected| {
                self.wrong(section.path_of(key), format!("is {}; expected {expected}", show(value)))
            })
            .ok()
    }

    /// The items of the list at `key`, each with its path.
    pub(super) fn items<'v>(
        &mut self,
        section: &Section<'v>,
        key: &str,
        what: &str,
    ) -> Vec<(String, &'v Value)> {
        let path = section.path_of(key);
        match section.find(key) {
            None => Vec::new(),
            Some(Value::Array(items)) => {
                items.iter().enumerate().map(|(index, item)| (format!("{path}[{index}]"), item)).collect()
            }
            Some(other) => {
                self.wrong(path, format!("is {}; expected a list of {what}", show(other)));
                Vec::new()
            }
        }
    }

    /// Like [`Self::items`], but an absent or empty list is a mistake.
    fn some_items<'v>(&mut self, section: &Section<'v>, key: &str, what: &str) -> Vec<(String, &'v Value)> {
        let items = self.items(section, key, what);
        if items.is_empty() && section.find(key).is_none_or(Value::is_array) {
            self.wrong(section.path_of(key), format!("is missing or empty; expected a list of {what}"));
        }
        items
    }

    pub(super) fn texts<T>(
        &mut self,
        items: Vec<(String, &Value)>,
        parse: impl Fn(&Value) -> Result<T, String>,
    ) -> Vec<T> {
        let mut texts = Vec::new();
        for (path, item) in items {
            match parse(item) {
                Ok(text) => texts.push(text),
                Err(expected) => self.wrong(path, format!("is {}; expected {expected}", show(item))),
            }
        }
        texts
    }

    pub(super) fn tags(&mut self, section: &Section<'_>) -> BTreeMap<String, String> {
        let expected = "a mapping of up to 50 tags, text to text";
        let parse = |value: &Value| {
            let entries = value.as_object().filter(|entries| entries.len() <= 50).ok_or(expected)?;
            let tags = entries.iter().map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
            tags.collect::<Option<BTreeMap<_, _>>>().ok_or_else(|| expected.to_owned())
        };
        self.read(section, "tags", Some(BTreeMap::new()), parse).unwrap_or_default()
    }
}

pub(super) fn scenario(reader: &mut Reader, document: &Value) -> Option<Scenario> {
    let keys = [
        "name",
        "region",
        "account",
        "seed",
        "vpc",
        "securityGroups",
        "subnets",
        "routeTables",
        "nodes",
        "quotas",
        "delays",
        "internet",
        "faults",
    ];
    let top = reader.section("", Some(document), &keys);
    let region = reader.read(&top, "region", Some("eu-central-1".to_owned()), region);
    let account = reader.read(&top, "account", Some("111122223333".to_owned()), account);
    let name = reader.read(&top, "name", None, name);
    let seed = reader.read(&top, "seed", Some(1), |value| {
        value.as_u64().ok_or_else(|| "a whole number that is not negative".to_owned())
    });
    let vpc = reader.section("vpc", top.find("vpc"), &["cidrs"]);
    let cidrs = reader.some_items(&vpc, "cidrs", "IPv4 CIDRs, for example [10.0.0.0/16]");
    let vpc_cidrs = reader.texts(cidrs, cidr);
    let security_groups = security_groups(reader, &top);
    let subnets = subnets(reader, &top);
    let route_tables = routes::tables(reader, &top);
    let nodes = nodes(reader, &top);
    let quotas = routes::quotas(reader, &top);
    let delays = delays(reader, &top);
    let internet = reader.section("internet", top.find("internet"), &["address"]);
    let internet = reader.read(&internet, "address", Some(Ipv4Addr::new(198, 51, 100, 1)), address);
    let nodes_named = nodes.iter().map(|node| node.name.clone()).collect();
    let known = faults::Known {
        nodes: nodes_named,
        subnets: subnets.iter().map(|subnet| subnet.name.clone()).collect(),
    };
    let faults = faults::faults(reader, &top, &known);
    Some(Scenario {
        name: name?,
        region: region?,
        account: account?,
        seed: seed?,
        vpc_cidrs,
        security_groups,
        subnets,
        route_tables,
        nodes,
        quotas,
        delays,
        internet: internet?,
        faults,
    })
}

fn security_groups(reader: &mut Reader, top: &Section<'_>) -> Vec<SecurityGroupSpec> {
    let mut groups = Vec::new();
    for (path, item) in reader.items(top, "securityGroups", "security groups, each with a name") {
        let section = reader.section(&path, Some(item), &["name", "tags"]);
        let (name, tags) = (reader.read(&section, "name", None, name), reader.tags(&section));
        groups.extend(name.map(|name| SecurityGroupSpec { name, tags }));
    }
    if !groups.iter().any(|group| group.name == "default") {
        // Every VPC has one, whether somebody asks for it or not.
        groups.insert(0, SecurityGroupSpec { name: "default".to_owned(), tags: BTreeMap::new() });
    }
    groups
}

fn subnets(reader: &mut Reader, top: &Section<'_>) -> Vec<SubnetSpec> {
    let mut subnets = Vec::new();
    for (path, item) in reader.some_items(top, "subnets", "subnets, each with name, zone and cidr") {
        let section = reader.section(&path, Some(item), &["name", "zone", "cidr", "tags"]);
        let name = reader.read(&section, "name", None, name);
        let zone =
            reader.read(&section, "zone", None, |value| text(value, "a zone, for example eu-central-1a"));
        let cidr = reader.read(&section, "cidr", None, cidr);
        let tags = reader.tags(&section);
        if let (Some(name), Some(zone), Some(cidr)) = (name, zone, cidr) {
            subnets.push(SubnetSpec { name, zone, cidr, tags });
        }
    }
    subnets
}

fn nodes(reader: &mut Reader, top: &Section<'_>) -> Vec<NodeSpec> {
    let items = reader.some_items(top, "nodes", "nodes, each with name, type and subnet");
    if items.len() > MAX_NODES {
        reader.wrong("nodes", format!("has {} items; expected at most {MAX_NODES}", items.len()));
        return Vec::new();
    }
    items.into_iter().filter_map(|(path, item)| node(reader, &path, item)).collect()
}

fn node(reader: &mut Reader, path: &str, item: &Value) -> Option<NodeSpec> {
    let keys = ["name", "type", "subnet", "securityGroups", "denyActions", "tags"];
    let section = reader.section(path, Some(item), &keys);
    let node_name = reader.read(&section, "name", None, name);
    let limits = reader.read(&section, "type", None, |value| {
        let found = value.as_str().and_then(|name| Some((name.to_owned(), spur_quotas::builtin(name)?)));
        found.ok_or_else(|| "an instance type of EC2, for example m5.large".to_owned())
    });
    let subnet = reader.read(&section, "subnet", None, |value| text(value, "the name of a subnet"));
    let groups = reader.items(&section, "securityGroups", "names of security groups");
    let mut security_groups = reader.texts(groups, |value| text(value, "the name of a security group"));
    if security_groups.is_empty() {
        security_groups.push("default".to_owned());
    }
    let denied = reader.items(&section, "denyActions", "EC2 actions");
    let denied: BTreeSet<String> = reader.texts(denied, action).into_iter().collect();
    let tags = reader.tags(&section);
    let (instance_type, limits) = limits?;
    Some(NodeSpec { name: node_name?, instance_type, limits, subnet: subnet?, security_groups, denied, tags })
}

fn delays(reader: &mut Reader, top: &Section<'_>) -> Delays {
    let keys = ["attachMillis", "detachMillis", "cidrMillis", "routeSettleMillis"];
    let section = reader.section("delays", top.find("delays"), &keys);
    let mut millis = |key, default| {
        let parse = |value: &Value| {
            let range: RangeInclusive<u64> = 0..=MAX_DELAY_MILLIS;
            value
                .as_u64()
                .filter(|millis| range.contains(millis))
                .ok_or_else(|| format!("milliseconds from 0 to {MAX_DELAY_MILLIS}"))
        };
        Duration::from_millis(reader.read(&section, key, Some(default), parse).unwrap_or(default))
    };
    Delays {
        attach: millis("attachMillis", 500),
        detach: millis("detachMillis", 500),
        cidr: millis("cidrMillis", 500),
        route_settle: millis("routeSettleMillis", 0),
    }
}

pub(super) fn name(value: &Value) -> Result<String, String> {
    let fits = |text: &str| {
        (1..=32).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-')
    };
    value.as_str().filter(|text| fits(text)).map(str::to_owned).ok_or_else(|| NAME.to_owned())
}

pub(super) fn text(value: &Value, expected: &str) -> Result<String, String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned).ok_or_else(|| expected.to_owned())
}

fn region(value: &Value) -> Result<String, String> {
    let fits = |text: &str| {
        text.len() <= 32
            && text.split('-').count() >= 3
            && text.split('-').all(|part| {
                !part.is_empty()
                    && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            })
            && text.ends_with(|last: char| last.is_ascii_digit())
    };
    value
        .as_str()
        .filter(|text| fits(text))
        .map(str::to_owned)
        .ok_or_else(|| "a region, for example eu-central-1".into())
}

fn account(value: &Value) -> Result<String, String> {
    let fits = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    value
        .as_str()
        .filter(|text| fits(text))
        .map(str::to_owned)
        .ok_or_else(|| "12 digits in quotes".to_owned())
}

fn cidr(value: &Value) -> Result<Ipv4Net, String> {
    let net: Option<Ipv4Net> = value.as_str().and_then(|text| text.parse().ok());
    let net = net.ok_or("an IPv4 CIDR, for example 10.0.0.0/16")?;
    if !(16..=28).contains(&net.prefix_len()) {
        return Err("a CIDR between /16 and /28, as EC2 wants it".to_owned());
    }
    if net.trunc() != net {
        return Err(format!("no bits behind the prefix: {}", net.trunc()));
    }
    Ok(net)
}

fn address(value: &Value) -> Result<Ipv4Addr, String> {
    let address = value.as_str().and_then(|text| text.parse().ok());
    address.ok_or_else(|| "an IPv4 address, for example 198.51.100.1".to_owned())
}

pub(super) fn action(value: &Value) -> Result<String, String> {
    let known = value.as_str().filter(|name| Action::named(name).is_some());
    known.map(str::to_owned).ok_or_else(|| {
        format!("one of {}", Action::ALL.iter().map(|action| action.name()).collect::<Vec<_>>().join(", "))
    })
}

pub(super) fn show(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
        other => {
            let text = other.to_string();
            if text.chars().count() <= 60 {
                text
            } else {
                format!("{}…", text.chars().take(60).collect::<String>())
            }
        }
    }
}
