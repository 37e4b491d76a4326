//! The agent's configuration: one YAML file, parsed once, all mistakes at once. Nothing else in the agent reads a file or a
//! variable of the environment to find out what an operator wants (the AWS SDK reads its own variables).
//!
//! Every key, its default and its reason stand in [`keys`]; this file gives them types and refuses what contradicts.

mod chain;
pub mod controller;
mod fields;
pub mod keys;
mod pool;
mod read;

pub use fields::{Takes, differing, keep};
pub use pool::{Mode, NatOptions, PoolConfig, Selector, VpcDestinations};
pub use read::Mistake;

use pool::read_pool;
use read::Reader;
use spur_cloud::budget::Terms;
use spur_ipamd_core::vpcroute::NodeName;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest path of a Unix socket: `sun_path` has 108 bytes, the last of which is NUL.
const SOCKET_PATH_MAX: usize = 107;
const PATH_MAX: usize = 4095;
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
    /// What may be spent on EC2.
    pub budget: Terms,
    /// Leaked ENIs.
    pub collect: CollectConfig,
    /// Where metrics are served, if at all.
    pub metrics_listen: Option<SocketAddr>,
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

/// How leaked ENIs are collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectConfig {
    /// An unattached ENI is left alone until it is that old.
    pub grace: Duration,
    /// Deletions in one pass.
    pub max_deletions: u32,
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
        Self::parse(&text_of(path)?)
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// With every mistake in it.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        parse_with(text, &keys::AGENT, read_config)
    }
}

/// Parses a file that may say what is in the catalog.
fn parse_with<T>(
    text: &str,
    catalog: &'static keys::Catalog,
    read: impl FnOnce(&mut Reader) -> T,
) -> Result<T, ConfigError> {
    if text.len() > FILE_MAX {
        return Err(whole_file(&format!("has {} bytes; expected at most {FILE_MAX}", text.len())));
    }
    let blank = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    let document = if blank {
        serde_json::Value::Null
    } else {
        serde_saphyr::from_str(text).map_err(|error| whole_file(&format!("is not valid YAML: {error}")))?
    };
    let mut reader = Reader::new(document, catalog);
    let config = read(&mut reader);
    let mistakes = reader.finish();
    if mistakes.is_empty() { Ok(config) } else { Err(ConfigError::Mistakes(mistakes)) }
}

/// The text of a file.
fn text_of(path: &Path) -> Result<String, ConfigError> {
    let text = std::fs::read(path).map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
    String::from_utf8(text).map_err(|_| whole_file("is not UTF-8; expected YAML text"))
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
        budget: Terms { share_percent: reader.number("api.budgetPercent", 1..=100), ..Terms::default() },
        collect: CollectConfig {
            grace: seconds(reader.number("collect.graceSeconds", 900..=2_592_000)),
            max_deletions: reader.number("collect.maxDeletions", 1..=1000),
        },
        metrics_listen: read_metrics(reader),
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
            Err(_) => Err("1 to 240 lower-case letters, digits, '-' or '.'".to_owned()),
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

/// Port 0 would be one that nobody finds.
fn read_metrics(reader: &mut Reader) -> Option<SocketAddr> {
    reader.read("metrics.listen", |value| match value {
        serde_json::Value::Null => Ok(None),
        // Some YAML takes the bare word for a truth value.
        serde_json::Value::Bool(false) => Ok(None),
        serde_json::Value::String(text) if text == "off" => Ok(None),
        value => match value.as_str().unwrap_or_default().parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Ok(Some(address)),
            _ => Err("an IP address with a port such as 127.0.0.1:61680 or [::1]:61680, or off".to_owned()),
        },
    })
}

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn seconds(number: u32) -> Duration {
    Duration::from_secs(number.into())
}

#[cfg(test)]
mod tests;
