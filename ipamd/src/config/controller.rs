//! The controller's configuration: one YAML file, parsed like the agent's, with a table of keys of its own
//! (`docs/configuration-controller.md` is generated from it, a test compares).

use super::keys::{Catalog, Key, key, rows};
use super::pool::read_fallback;
use super::read::Reader;
use super::{
    ConfigError, LogConfig, PATH_MAX, is_name_byte, parse_with, read_log, read_metrics, seconds, text_of,
};
use ipnet::IpNet;
use serde_json::Value;
use spur_cloud::{Region, VpcId};
use spur_ipamd_core::vpcroute::{BlocksFrom, PoolMistake, PoolSpec, Quota, Settings, TableChoice, Timings};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Every key of the controller's file.
pub const KEYS: &[Key] = &[
    key(
        "clusterName",
        "1–100 letters, digits, `-`, `_`, `.`",
        "default",
        "Part of the tag `spur.dev/routes/<clusterName>`, by which the cluster claims its CIDRs in each managed table.",
    ),
    key("region", "region", "null", "Where the VPC is. Required."),
    key("vpc", "VPC id", "null", "The VPC whose route tables are managed. Required."),
    key(
        "nodesFile",
        "absolute path",
        "/etc/spur/nodes.yaml",
        "The nodes; read again when it changes. A file with a mistake changes nothing.",
    ),
    key(
        "grantDir",
        "absolute path",
        "/var/lib/spur-controller/grants",
        "Where each node's grant is written; agents read it (their `grantDir`).",
    ),
    key(
        "stateDir",
        "absolute path",
        "/var/lib/spur-controller",
        "Holds the store of whose each block is, and `status.json`. One controller at a time may use it.",
    ),
    key(
        "reconcileSeconds",
        "10–3600",
        "60",
        "How often the managed tables and the nodes' ENIs are read; drift is repaired after so long at most.",
    ),
    key(
        "discoverySeconds",
        "60–86400",
        "600",
        "How often all tables, the subnets and the CIDRs of the VPC are read; besides, whenever subnets of nodes or associations change.",
    ),
    key(
        "settleSeconds",
        "0–3600",
        "120",
        "How long a read that contradicts a write is taken for an old one: EC2's reads flip between before and after for a while.",
    ),
    key(
        "cooldownSeconds",
        "0–86400",
        "300",
        "How long a block rests after its last route was gone; at least `settleSeconds`, because a late read could hide a route.",
    ),
    key(
        "tableGraceSeconds",
        "0–604800",
        "3600",
        "How long a table stays managed that no node needs any more, so that a zone that is scaled to nothing and back does not write every route again.",
    ),
    key(
        "nodeGraceSeconds",
        "0–86400",
        "300",
        "How long a node that vanished from `nodesFile` keeps its routes. The list may be half written, so they go sooner only if reads show, `settleSeconds` later, that its machine is gone.",
    ),
    key(
        "budgetPercent",
        "1–100",
        "60",
        "Share of the account's limit of each EC2 action that the controller may spend. The rest is for everybody else in the account.",
    ),
    key(
        "allowDeletes",
        "0–1000, or null",
        "null",
        "The override: so many routes of one table may be deleted within one reconcile interval, even if the list of nodes is empty. Null is the larger of 3 and a tenth of the table's routes, and nothing while the list is empty. Take it away again after use.",
    ),
    key(
        "pool.cidrs",
        "list of CIDRs",
        "[]",
        "Addresses of pods, outside every CIDR of the VPC; IPv4, IPv6 or both. Required.",
    ),
    key(
        "pool.blockLengthV4",
        "20–30",
        "25",
        "Prefix length of a node's IPv4 block. A /25 has room for 110 pods; a /24 wastes half. Agents use no block wider than a /20.",
    ),
    key("pool.blockLengthV6", "48–126", "80", "Prefix length of a node's IPv6 block."),
    key(
        "pool.blocksFrom",
        "Pool or NodeSpec",
        "Pool",
        "Who cuts blocks: the controller, or Kubernetes (`podCIDRs` of each node).",
    ),
    key("pool.serviceCIDRs", "list of CIDRs", "[]", "Addresses of services; a pool must not overlap them."),
    key(
        "pool.acceptedRoutes",
        "list of CIDRs",
        "[]",
        "Routes of others that may cover pool addresses, by their exact destination: a summary route such as 10.0.0.0/8 to a transit gateway. Default routes need no mention.",
    ),
    key(
        "pool.fallbackPool",
        "name of an `eni` pool, or null",
        "null",
        "Where new nodes go when a table is too full for them; null refuses them.",
    ),
    key(
        "tables.ids",
        "list of route table ids",
        "[]",
        "Tables to manage beside those that subnets of nodes use. Edge tables never are.",
    ),
    key(
        "tables.tags",
        "map of text to text",
        "{}",
        "Tables of the VPC that carry all of these tags are managed, too.",
    ),
    key(
        "quota.routesV4",
        "1–1000",
        "500",
        "IPv4 routes that a table may hold: the account's quota. EC2 gives 500, and 1,000 on request.",
    ),
    key("quota.routesV6", "1–1000", "500", "IPv6 routes that a table may hold; EC2 counts them apart."),
    key(
        "quota.admissionPercent",
        "1–100",
        "85",
        "Share of the quota from which on new nodes are refused or go to `pool.fallbackPool`: time is left to ask for more.",
    ),
    key(
        "metrics.listen",
        "IP address with port, or `off`",
        "127.0.0.1:61681",
        "Where metrics can be fetched over HTTP, at `/metrics` ([what there is](metrics.md)); as for the agent, whose port is another, because both may run on one machine.",
    ),
    key(
        "log.level",
        "error, warn, info, debug or trace",
        "info",
        "One `info` line per decision that changes something.",
    ),
    key("log.format", "json or text", "json", "`text` is for people at a terminal."),
];

const CATALOG: Catalog = Catalog { keys: KEYS, sections: &["log", "metrics", "pool", "quota", "tables"] };

/// What an operator wants of the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerConfig {
    /// Where the VPC is.
    pub region: Region,
    /// The nodes.
    pub nodes_file: PathBuf,
    /// Where grants go.
    pub grant_dir: PathBuf,
    /// Where the store is.
    pub state_dir: PathBuf,
    /// Where metrics are served, if at all.
    pub metrics_listen: Option<SocketAddr>,
    /// Logs.
    pub log: LogConfig,
    /// Everything else, as the state machine takes it.
    pub settings: Settings,
}

impl ControllerConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or with every mistake in it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&text_of(path)?)
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// With every mistake in it.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        parse_with(text, &CATALOG, read)
    }

    /// Whether something differs that is read at start only.
    #[must_use]
    pub fn needs_restart(&self, other: &Self) -> bool {
        let fixed = |config: &Self| {
            let Self { region, nodes_file, grant_dir, state_dir, metrics_listen, log, settings } =
                config.clone();
            let at = (metrics_listen, log);
            (region, nodes_file, grant_dir, state_dir, at, settings.cluster, settings.vpc)
        };
        fixed(self) != fixed(other)
    }
}

fn read(reader: &mut Reader) -> ControllerConfig {
    let config = ControllerConfig {
        region: required(reader, "region", "eu-central-1"),
        nodes_file: reader.path("nodesFile", PATH_MAX),
        grant_dir: reader.path("grantDir", PATH_MAX),
        state_dir: reader.path("stateDir", PATH_MAX),
        metrics_listen: read_metrics(reader),
        log: read_log(reader),
        settings: read_settings(reader),
    };
    if config.grant_dir == config.state_dir {
        reader.wrong(
            "grantDir",
            "is also stateDir; expected a directory of its own, because agents read what is in it",
        );
    }
    let timings = &config.settings.timings;
    if timings.cooldown < timings.settle {
        let (rest, settle) = (timings.cooldown.as_secs(), timings.settle.as_secs());
        reader.wrong("cooldownSeconds", format!("is {rest}; expected at least settleSeconds, {settle}"));
    }
    if timings.discovery < timings.reconcile {
        reader.wrong("discoverySeconds", "is less than reconcileSeconds; expected at least as much");
    }
    for mistake in config.settings.pool.mistakes() {
        // A refused list is empty, too; it was told of.
        let told = mistake == PoolMistake::Empty && reader.has_mistakes_in("pool.cidrs");
        if !told {
            reader.wrong("pool.cidrs", mistake.to_string());
        }
    }
    config
}

fn read_settings(reader: &mut Reader) -> Settings {
    Settings {
        cluster: reader.text("clusterName", "1 to 100 letters, digits, '-', '_' or '.'", |text| {
            (1..=100).contains(&text.len()) && text.bytes().all(is_name_byte)
        }),
        vpc: required::<VpcId>(reader, "vpc", "vpc-0"),
        pool: PoolSpec {
            cidrs: reader.list("pool.cidrs", cidr).into_iter().collect(),
            block_v4: length(reader, "pool.blockLengthV4", 20, 30),
            block_v6: length(reader, "pool.blockLengthV6", 48, 126),
            blocks_from: reader
                .choice("pool.blocksFrom", &[("Pool", BlocksFrom::Pool), ("NodeSpec", BlocksFrom::NodeSpec)]),
            service_cidrs: reader.list("pool.serviceCIDRs", cidr).into_iter().collect(),
            accepted_routes: reader.list("pool.acceptedRoutes", cidr).into_iter().collect(),
        },
        tables: TableChoice { ids: reader.ids("tables.ids").into_iter().collect(), tags: read_tags(reader) },
        quota: Quota {
            v4: reader.number("quota.routesV4", 1..=1000),
            v6: reader.number("quota.routesV6", 1..=1000),
            admission_percent: reader.number("quota.admissionPercent", 1..=100),
        },
        fallback: read_fallback(reader),
        allow_deletes: reader.optional_number("allowDeletes", 0..=1000),
        budget_percent: reader.number("budgetPercent", 1..=100),
        timings: Timings {
            reconcile: seconds(reader.number("reconcileSeconds", 10..=3600)),
            discovery: seconds(reader.number("discoverySeconds", 60..=86_400)),
            settle: seconds(reader.number("settleSeconds", 0..=3600)),
            cooldown: seconds(reader.number("cooldownSeconds", 0..=86_400)),
            table_grace: seconds(reader.number("tableGraceSeconds", 0..=604_800)),
            node_grace: seconds(reader.number("nodeGraceSeconds", 0..=86_400)),
            ..Timings::default()
        },
    }
}

/// An id without which nothing can be done; `stand_in` is used for the rest of the reading only.
fn required<T: FromStr>(reader: &mut Reader, path: &str, stand_in: &str) -> T {
    let found = reader.read(path, |value| match value {
        Value::Null => Ok(None),
        other => {
            let parsed = other.as_str().and_then(|text| text.parse::<T>().ok());
            parsed.map(Some).ok_or_else(|| format!("something like {stand_in}"))
        }
    });
    found.unwrap_or_else(|| {
        if !reader.has_mistakes_in(path) {
            reader.wrong(path, format!("is not set; expected something like {stand_in}"));
        }
        let parsed = stand_in.parse::<T>().ok();
        parsed.expect("a test reads every stand-in")
    })
}

fn length(reader: &mut Reader, path: &str, least: u32, most: u32) -> u8 {
    u8::try_from(reader.number(path, least..=most)).unwrap_or(u8::MAX)
}

fn read_tags(reader: &mut Reader) -> BTreeMap<String, String> {
    let entries = reader.read("tables.tags", |value| {
        value.as_object().cloned().ok_or_else(|| "a map of text to text".to_owned())
    });
    let mut tags = BTreeMap::new();
    for (name, value) in entries {
        match value.as_str() {
            Some(value) => drop(tags.insert(name, value.to_owned())),
            None => reader.wrong(&format!("tables.tags.{name}"), format!("is {value}; expected a text")),
        }
    }
    tags
}

fn cidr(text: &str) -> Result<IpNet, String> {
    let net: IpNet =
        text.parse().map_err(|_| format!("is {text:?}; expected a CIDR such as 10.200.0.0/16"))?;
    if net.trunc() == net {
        Ok(net)
    } else {
        Err(format!("is {text:?}, which has bits beyond its prefix length; expected {}", net.trunc()))
    }
}

/// The table as a Markdown document.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "# Configuration of the controller\n\n\
         `spur-ipamd controller --config FILE` reads one YAML file. Unknown keys are refused, and all mistakes are reported at once, each\n\
         with its key and what would be right. The file is read again when it changes; `clusterName`, `region`, `vpc`, the paths,\n\
         `metrics` and `log` count at start only. What it does is in [vpc-route.md](vpc-route.md).\n\n\
         <!-- Generated from ipamd/src/config/controller.rs; `UPDATE_DOCS=1 cargo test -p spur-ipamd --lib config` rewrites it. -->\n\n\
         | key | type | default | what and why |\n|---|---|---|---|\n",
    );
    text.push_str(&rows(KEYS));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMUM: &str = "region: eu-central-1\nvpc: vpc-1\npool: {cidrs: [10.200.0.0/16]}\n";

    #[test]
    fn every_key_has_a_default_that_is_read() {
        let config = ControllerConfig::parse(MINIMUM).unwrap();
        assert_eq!(config.settings.timings, Timings::default());
        assert_eq!(config.settings.quota, Quota::default());
        assert_eq!((config.settings.pool.block_v4, config.settings.budget_percent), (25, 60));
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let text = "vpc: subnet-1\ncooldownSeconds: 5\nsurprise: 1\npool:\n  cidrs: [10.200.0.1/16, 169.254.0.0/20, 172.20.4.0/24]\n  serviceCIDRs: [172.20.0.0/16]\n  blockLengthV4: 22\ntables: {ids: [subnet-2], tags: {a: 1}}\nquota: {admissionPercent: 0}\n";
        let told = ControllerConfig::parse(text).unwrap_err().to_string();
        for part in [
            "region: is not set",
            "vpc: is \"subnet-1\"; expected something like vpc-",
            "cooldownSeconds: is 5; expected at least settleSeconds, 120",
            "surprise: is not a known key",
            "pool.cidrs[0]: is \"10.200.0.1/16\"",
            "169.254.0.0/20 overlaps 169.254.0.0/16",
            "172.20.4.0/24 overlaps the service CIDR 172.20.0.0/16",
            "a block of /22 does not fit into 172.20.4.0/24",
            "tables.ids[0]",
            "tables.tags.a",
            "quota.admissionPercent",
        ] {
            assert!(told.contains(part), "{part} in {told}");
        }
        let empty = ControllerConfig::parse("").unwrap_err().to_string();
        assert!(empty.contains("3 mistake(s)") && empty.contains("the pool has no CIDR"), "{empty}");
    }

    #[test]
    fn a_change_of_the_vpc_needs_a_restart_and_a_change_of_the_pool_does_not() {
        let config = ControllerConfig::parse(MINIMUM).unwrap();
        let wider = ControllerConfig::parse(&MINIMUM.replace("10.200.0.0/16", "10.200.0.0/15")).unwrap();
        let other = ControllerConfig::parse(&MINIMUM.replace("vpc-1", "vpc-2")).unwrap();
        assert!(!wider.needs_restart(&config) && other.needs_restart(&config));
    }

    #[test]
    fn the_document_is_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration-controller.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, markdown()).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == markdown(), "docs/configuration-controller.md is old: run with UPDATE_DOCS=1");
    }
}
