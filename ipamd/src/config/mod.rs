//! The agent's configuration: one YAML file, parsed once, all mistakes at once. Nothing else in the agent reads a file or a
//! variable of the environment to find out what an operator wants (the AWS SDK reads its own variables).
//!
//! Every key, its default and its reason stand in [`keys`]; this file gives them types and refuses what contradicts.

mod chain;
pub mod keys;
mod read;

pub use read::Mistake;

use ipnet::Ipv4Net;
use read::Reader;
use spur_cloud::{SecurityGroupId, SubnetId};
use spur_ipamd_core::vpcroute::NodeName;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest path of a Unix socket: `sun_path` has 108 bytes, the last of which is NUL.
const SOCKET_PATH_MAX: usize = 107;
const PATH_MAX: usize = 4095;
/// EC2 allows 50 tags on an ENI; the rest is for Spur's own and for what an account's policies add.
const TAGS_MAX: usize = 40;
const GROUPS_MAX: usize = 16;
/// Fewer ports than this make a node's flows to one destination collide under ordinary load.
const PORTS_MIN: u32 = 4096;
/// A file larger than this is no configuration; it is refused before it is parsed.
const FILE_MAX: usize = 1 << 20;

/// What an operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Tag value that marks ENIs as this cluster's.
    pub cluster_name: String,
    /// Where the agent listens.
    pub socket: PathBuf,
    /// Where the store is.
    pub state_dir: PathBuf,
    /// Where the plugin leaves releases while the agent is away.
    pub spool_dir: PathBuf,
    /// The conflist.
    pub cni: CniConfig,
    /// How long an ADD may wait.
    pub add_wait: Duration,
    /// How often the cloud is read again.
    pub reconcile: Duration,
    /// How long reads of EC2 may lag behind its changes.
    pub settle: Duration,
    /// MTU of pods; none takes the primary ENI's.
    pub mtu_bytes: Option<u32>,
    /// The node's name, for the controller; none is the host name.
    pub node_name: Option<NodeName>,
    /// Where the controller leaves what it grants.
    pub grant_dir: Option<PathBuf>,
    /// Logs.
    pub log: LogConfig,
    /// The pool of addresses.
    pub pool: PoolConfig,
}

/// The network configuration that the agent writes for the container runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniConfig {
    /// Directory.
    pub conf_dir: PathBuf,
    /// File name.
    pub conf_name: String,
    /// Name of the network.
    pub network_name: String,
    /// The socket as the plugin sees it.
    pub socket_path: PathBuf,
    /// Plugins behind Spur, as they stand in the conflist.
    pub chain: Vec<serde_json::Value>,
    /// The highest version of the CNI specification that the conflist offers.
    pub version: CniVersion,
}

/// Versions of the CNI specification that a conflist may offer as its highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CniVersion {
    /// Without STATUS and GC.
    V1_0,
    /// With them.
    V1_1,
}

/// Logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// From which level on.
    pub level: tracing::Level,
    /// How lines look.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// The pool of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Where addresses come from.
    pub mode: Mode,
    /// Free addresses to keep.
    pub warm_ip_target: u32,
    /// Addresses to hold in all.
    pub minimum_ip_target: u32,
    /// Tolerated surplus.
    pub max_above_warm: u32,
    /// Limit of ENIs below the instance's.
    pub max_enis: Option<u32>,
    /// Rest of a released address.
    pub cooldown: Duration,
    /// How long a surplus lasts before it is given back.
    pub shrink_delay: Duration,
    /// Where new ENIs may be; empty means the primary ENI's subnet.
    pub subnets: BTreeSet<SubnetId>,
    /// Of new ENIs; empty means the primary ENI's.
    pub security_groups: BTreeSet<SecurityGroupId>,
    /// Further tags of new ENIs.
    pub tags: BTreeMap<String, String>,
    /// Translation of outgoing traffic.
    pub nat: NatOptions,
    /// Whether pods are kept from the instance metadata service.
    pub block_instance_metadata: bool,
}

/// Where addresses come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Addresses of ENIs.
    Eni,
    /// Blocks that the VPC routes to the node.
    VpcRoute,
}

/// Translation of outgoing traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatOptions {
    /// Whether it takes place.
    pub outgoing: bool,
    /// Destinations that see the pod's address.
    pub exclude: BTreeSet<Ipv4Net>,
    /// Destinations that see the node's address; beats all others.
    pub force: BTreeSet<Ipv4Net>,
    /// First source port.
    pub first_port: u16,
    /// Last source port.
    pub last_port: u16,
    /// Which VPC destinations see the pod's address.
    pub vpc_destinations: VpcDestinations,
}

/// Which VPC destinations see the pod's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VpcDestinations {
    /// Every CIDR associated with the VPC.
    AllCidrs,
    /// Subnets whose route table leads back to the node's pods.
    Covered,
    /// None.
    None,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read configuration {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The file says things that make no sense; all of them are listed.
    #[error("{} mistake(s) in the configuration:{}", .0.len(), listed(.0))]
    Mistakes(Vec<Mistake>),
}

fn listed(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect()
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or with every mistake in it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read(path).map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
        match String::from_utf8(text) {
            Ok(text) => Self::parse(&text),
            Err(_) => Err(whole_file("is not UTF-8; expected YAML text")),
        }
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// With every mistake in it.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if text.len() > FILE_MAX {
            return Err(whole_file(&format!("has {} bytes; expected at most {FILE_MAX}", text.len())));
        }
        let blank = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        let document = if blank {
            serde_json::Value::Null
        } else {
            serde_saphyr::from_str(text)
                .map_err(|error| whole_file(&format!("is not valid YAML: {error}")))?
        };
        let mut reader = Reader::new(document);
        let config = read_config(&mut reader);
        let mistakes = reader.finish();
        if mistakes.is_empty() { Ok(config) } else { Err(ConfigError::Mistakes(mistakes)) }
    }
}

fn whole_file(problem: &str) -> ConfigError {
    ConfigError::Mistakes(vec![Mistake { key: "(file)".to_owned(), problem: problem.to_owned() }])
}

fn read_config(reader: &mut Reader) -> Config {
    let socket = reader.path("socket", SOCKET_PATH_MAX);
    let config = Config {
        cluster_name: reader.text("clusterName", "1 to 128 letters, digits, '-', '_' or '.'", |text| {
            (1..=128).contains(&text.len()) && text.bytes().all(is_name_byte)
        }),
        state_dir: reader.path("stateDir", PATH_MAX),
        spool_dir: reader.path("spoolDir", PATH_MAX),
        cni: read_cni(reader, &socket),
        socket,
        add_wait: seconds(reader.number("addWaitSeconds", 1..=180)),
        reconcile: seconds(reader.number("reconcileSeconds", 10..=3600)),
        settle: seconds(reader.number("settleSeconds", 1..=600)),
        mtu_bytes: reader.optional_number("mtuBytes", 1280..=9001),
        node_name: read_node_name(reader),
        grant_dir: reader.optional_path("grantDir", PATH_MAX),
        log: read_log(reader),
        pool: read_pool(reader),
    };
    if config.pool.mode == Mode::VpcRoute && config.grant_dir.is_none() {
        reader.wrong(
            "grantDir",
            "is not set; expected where the controller leaves its grants, because pool.mode is vpcRoute",
        );
    }
    if config.pool.nat.vpc_destinations == VpcDestinations::Covered && config.grant_dir.is_none() {
        reader.wrong(
            "pool.vpcDestinations",
            "is Covered; expected that only with grantDir, because the controller tells which subnets are",
        );
    }
    if config.spool_dir == config.cni.conf_dir || config.state_dir == config.cni.conf_dir {
        reader.wrong(
            "cni.confDir",
            "is also stateDir or spoolDir; expected a directory of its own, because runtimes read what is in it",
        );
    }
    if config.spool_dir == config.state_dir {
        reader.wrong(
            "spoolDir",
            "is also stateDir; expected a directory of its own, because the agent empties it",
        );
    }
    config
}

fn read_node_name(reader: &mut Reader) -> Option<NodeName> {
    reader.read("nodeName", |value| match value {
        serde_json::Value::Null => Ok(None),
        value => match value.as_str().unwrap_or_default().parse() {
            Ok(name) => Ok(Some(name)),
            Err(_) => Err("1 to 253 lower-case letters, digits, '-' or '.'".to_owned()),
        },
    })
}

fn read_cni(reader: &mut Reader, socket: &Path) -> CniConfig {
    let file_name = |text: &str| {
        text.strip_suffix(".conflist").is_some_and(|stem| !stem.is_empty())
            && text.len() <= 255
            && !text.starts_with('.')
            && text.bytes().all(is_name_byte)
    };
    let network = |text: &str| {
        text.len() <= 128
            && text.bytes().all(is_name_byte)
            && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
    };
    let chain = chain::read_chain(reader);
    // Behind Spur are plugins that others update: before 1.6.0, containernetworking's refuse 1.1.0, and every pod with it.
    let version = if chain.is_empty() { CniVersion::V1_1 } else { CniVersion::V1_0 };
    CniConfig {
        version: reader
            .optional_choice("cni.version", &[("1.0.0", CniVersion::V1_0), ("1.1.0", CniVersion::V1_1)])
            .unwrap_or(version),
        chain,
        conf_dir: reader.path("cni.confDir", PATH_MAX),
        conf_name: reader.text(
            "cni.confName",
            "a file name of letters, digits, '-', '_' and '.' that ends in .conflist",
            file_name,
        ),
        network_name: reader.text(
            "cni.networkName",
            "letters, digits, '-', '_' or '.', the first a letter or digit, at most 128",
            network,
        ),
        socket_path: reader
            .optional_path("cni.socketPath", SOCKET_PATH_MAX)
            .unwrap_or_else(|| socket.to_owned()),
    }
}

fn read_log(reader: &mut Reader) -> LogConfig {
    use tracing::Level;
    LogConfig {
        level: reader.choice(
            "log.level",
            &[
                ("error", Level::ERROR),
                ("warn", Level::WARN),
                ("info", Level::INFO),
                ("debug", Level::DEBUG),
                ("trace", Level::TRACE),
            ],
        ),
        format: reader.choice("log.format", &[("json", LogFormat::Json), ("text", LogFormat::Text)]),
    }
}

fn read_pool(reader: &mut Reader) -> PoolConfig {
    let groups: Vec<SecurityGroupId> = reader.ids("pool.securityGroups");
    if groups.len() > GROUPS_MAX {
        reader.wrong("pool.securityGroups", format!("has {}; expected at most {GROUPS_MAX}", groups.len()));
    }
    let mode = reader.choice("pool.mode", &[("eni", Mode::Eni), ("vpcRoute", Mode::VpcRoute)]);
    PoolConfig {
        mode,
        warm_ip_target: reader.number("pool.warmIpTarget", 0..=1000),
        minimum_ip_target: reader.number("pool.minimumIpTarget", 0..=1000),
        max_above_warm: reader.number("pool.maxAboveWarm", 0..=1000),
        max_enis: reader.optional_number("pool.maxEnis", 1..=256),
        cooldown: seconds(reader.number("pool.cooldownSeconds", 0..=3600)),
        shrink_delay: seconds(reader.number("pool.shrinkDelaySeconds", 0..=86_400)),
        subnets: reader.ids("pool.subnets").into_iter().collect(),
        security_groups: groups.into_iter().collect(),
        tags: read_tags(reader),
        nat: read_nat(reader, mode),
        block_instance_metadata: reader.flag("pool.blockInstanceMetadata"),
    }
}

fn read_tags(reader: &mut Reader) -> BTreeMap<String, String> {
    let entries = reader
        .read("pool.tags", |value| value.as_object().cloned().ok_or_else(|| "a map of text to text".into()));
    let mut tags = BTreeMap::new();
    for (name, value) in entries {
        let key = format!("pool.tags.{name}");
        if name.is_empty() || name.chars().count() > 128 {
            reader.wrong(&key, "has a name of no use to EC2; expected 1 to 128 characters");
        } else if name.to_ascii_lowercase().starts_with("aws:") || name.starts_with("spur.dev/") {
            reader
                .wrong(&key, "is reserved; expected a name that begins neither with aws: nor with spur.dev/");
        }
        match value.as_str().filter(|value| value.chars().count() <= 256) {
            Some(value) => drop(tags.insert(name, value.to_owned())),
            None => reader.wrong(&key, format!("is {value}; expected a text of at most 256 characters")),
        }
    }
    if tags.len() > TAGS_MAX {
        reader.wrong("pool.tags", format!("has {}; expected at most {TAGS_MAX}", tags.len()));
    }
    tags
}

fn read_nat(reader: &mut Reader, mode: Mode) -> NatOptions {
    let (first_port, last_port) = reader.read("pool.natPortRange", |value| {
        parse_ports(value.as_str().unwrap_or_default()).ok_or_else(|| {
            format!(
                "first-last within 1024 and 65535, with at least {PORTS_MIN} ports, for example 1024-65535"
            )
        })
    });
    let options = NatOptions {
        outgoing: reader.flag("pool.natOutgoing"),
        exclude: reader.list("pool.natExclude", parse_cidr).into_iter().collect(),
        force: reader.list("pool.natForce", parse_cidr).into_iter().collect(),
        first_port,
        last_port,
        vpc_destinations: read_vpc_destinations(reader, mode),
    };
    for (key, list) in [("pool.natExclude", &options.exclude), ("pool.natForce", &options.force)] {
        if !options.outgoing && !list.is_empty() {
            reader.wrong(
                key,
                "is about a translation that pool.natOutgoing: false switches off; expected one or the other",
            );
        }
    }
    options
}

fn read_vpc_destinations(reader: &mut Reader, mode: Mode) -> VpcDestinations {
    let usual = match mode {
        Mode::Eni => VpcDestinations::AllCidrs,
        Mode::VpcRoute => VpcDestinations::Covered,
    };
    reader
        .optional_choice(
            "pool.vpcDestinations",
            &[
                ("AllCidrs", VpcDestinations::AllCidrs),
                ("Covered", VpcDestinations::Covered),
                ("None", VpcDestinations::None),
            ],
        )
        .unwrap_or(usual)
}

fn parse_ports(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-')?;
    let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first >= 1024 && u32::from(last) + 1 >= u32::from(first) + PORTS_MIN).then_some((first, last))
}

fn parse_cidr(text: &str) -> Result<Ipv4Net, String> {
    let refuse = || format!("is {text:?}; expected an IPv4 CIDR such as 192.168.0.0/16");
    let net: Ipv4Net = text.parse().map_err(|_| refuse())?;
    if net.trunc() == net {
        Ok(net)
    } else {
        Err(format!("is {text:?}, which has bits beyond its prefix length; expected {}", net.trunc()))
    }
}

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn seconds(number: u32) -> Duration {
    Duration::from_secs(number.into())
}

#[cfg(test)]
mod tests;
