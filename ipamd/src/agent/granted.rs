//! What the controller grants, read from its files. They are looked at often and read when they changed; one that makes no sense, or is gone,
//! changes nothing but what is said about it, so that a node goes on with what it knew last. Only a grant for this very instance
//! counts: a name may have gone to a new machine.

use crate::chain::chain;
use crate::config::{Config, Mode};
use spur_cloud::InstanceId;
use spur_ipamd_core::vpcroute::{BadFile, CLUSTER_FILE, ClusterFacts, NodeGrant, NodeName, Placement};
use spur_ipamd_core::{BlockGrant, Event};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Between two looks: a new node waits for it, and a look is two `stat` calls.
const LOOK: Duration = Duration::from_millis(500);
/// A larger file is not the controller's.
const FILE_MAX: u64 = 16 << 20;
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// What is known of the controller's files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Granted {
    /// This node's.
    pub(super) grant: Option<NodeGrant>,
    /// Everybody's.
    pub(super) cluster: Option<ClusterFacts>,
    /// Why the node's file is not what it was or should be.
    pub(super) trouble: Option<String>,
    /// Whether the node was ready to serve at least once since the agent started.
    pub(super) was_ready: bool,
}

impl Granted {
    /// What the pool shall hand out, and what hinders it.
    #[must_use]
    pub(super) fn blocks(&self) -> BlockGrant {
        let mut waits: Vec<String> = self.trouble.iter().cloned().collect();
        let Some(grant) = &self.grant else { return BlockGrant { waits, ..BlockGrant::default() } };
        if !grant.ready && grant.waits.is_empty() {
            waits.push("the controller calls the node not ready".to_owned());
        }
        waits.extend(grant.waits.iter().cloned());
        let blocks = match &grant.placement {
            Placement::VpcRoute { blocks, .. } => blocks.clone(),
            Placement::EniPool { pool } => {
                let why = "the controller moved this node to the eni pool";
                waits.insert(
                    0,
                    format!("{why} {pool}, and the agent began without pool.fallbackPool: {pool}"),
                );
                BTreeSet::new()
            }
            Placement::None => BTreeSet::new(),
        };
        BlockGrant { blocks, waits }
    }

    /// Everything that the node waits for, in words.
    #[must_use]
    pub(super) fn waits(&self) -> String {
        let waits = self.blocks().waits;
        if waits.is_empty() { "no grant of the controller was read yet".to_owned() } else { waits.join("; ") }
    }

    /// What stands between the node and its first pod; none if that is over. Later trouble does not count: a runtime would call the whole
    /// node not ready, and its pods would be moved away for nothing.
    #[must_use]
    pub(super) fn not_ready(&self) -> Option<String> {
        (!self.was_ready).then(|| self.waits())
    }
}

/// Where the files are and what they must be about.
#[derive(Debug, Clone)]
pub(super) struct Place {
    dir: PathBuf,
    /// None in `eni` mode, where only the common file counts.
    node: Option<NodeName>,
    instance: InstanceId,
}

/// The node has no name.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoNodeName {
    /// It cannot be read.
    #[error("nodeName is not set, and the host name cannot be read")]
    Read(#[source] std::io::Error),
    /// It is no node name.
    #[error("nodeName is not set, and the host name does not do instead")]
    Parse(#[source] spur_ipamd_core::vpcroute::NodeNameError),
}

impl Place {
    /// The place that the configuration names; none without one.
    ///
    /// # Errors
    /// When the node has no name.
    pub(super) fn of(config: &Config, instance: &InstanceId) -> Result<Option<Self>, NoNodeName> {
        let Some(dir) = config.grant_dir.clone() else { return Ok(None) };
        let node = match (config.pool.mode, &config.node_name) {
            (Mode::Eni, _) => None,
            (Mode::VpcRoute, Some(name)) => Some(name.clone()),
            (Mode::VpcRoute, None) => {
                let host = std::fs::read_to_string(HOST_NAME).map_err(NoNodeName::Read)?;
                Some(host.trim().to_lowercase().parse().map_err(NoNodeName::Parse)?)
            }
        };
        Ok(Some(Self { dir, node, instance: instance.clone() }))
    }
}

/// A file is the same as long as these are: the controller replaces whole files.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: Option<SystemTime>,
}

/// What a look at a file found.
enum Look {
    Same,
    Gone,
    Text(String),
    Unreadable(std::io::Error),
}

#[derive(Debug, Default)]
struct Seen(Option<Stamp>);

impl Seen {
    fn look(&mut self, path: &Path) -> Look {
        match self.read(path) {
            Ok(Some(text)) => Look::Text(text),
            Ok(None) => Look::Same,
            Err(error) => {
                // The same file may come back, and must be read then.
                self.0 = None;
                if error.kind() == ErrorKind::NotFound { Look::Gone } else { Look::Unreadable(error) }
            }
        }
    }

    fn read(&mut self, path: &Path) -> std::io::Result<Option<String>> {
        let file = File::open(path)?;
        let facts = file.metadata()?;
        let stamp = Stamp { inode: facts.ino(), length: facts.len(), modified: facts.modified().ok() };
        if self.0.as_ref() == Some(&stamp) {
            return Ok(None);
        }
        let mut text = String::new();
        file.take(FILE_MAX).read_to_string(&mut text)?;
        self.0 = Some(stamp);
        Ok(Some(text))
    }
}

/// Reads the files.
#[derive(Debug)]
struct Reader {
    place: Place,
    node: Seen,
    cluster: Seen,
    /// What was said about the common file last, so that it is said once.
    cluster_trouble: Option<String>,
    granted: Granted,
}

impl Reader {
    fn new(place: Place) -> Self {
        Self {
            place,
            node: Seen::default(),
            cluster: Seen::default(),
            cluster_trouble: None,
            granted: Granted::default(),
        }
    }

    /// What is known after another look.
    fn look(&mut self) -> Granted {
        if let Some(name) = self.place.node.clone() {
            self.look_at_node(&name);
        }
        self.look_at_cluster();
        self.granted.was_ready |= self.granted.grant.is_some() && self.granted.blocks().waits.is_empty();
        self.granted.clone()
    }

    fn look_at_cluster(&mut self) {
        let trouble = match self.cluster.look(&self.place.dir.join(CLUSTER_FILE)) {
            Look::Same => return,
            Look::Gone if self.granted.cluster.is_some() => None,
            Look::Gone => Some("the controller wrote none yet".to_owned()),
            Look::Unreadable(error) => Some(format!("it cannot be read: {error}")),
            Look::Text(text) => match ClusterFacts::parse(&text) {
                Ok(facts) => {
                    self.granted.cluster = Some(facts);
                    None
                }
                Err(error) => Some(format!("it cannot be used: {}", chain(&error))),
            },
        };
        if trouble != self.cluster_trouble
            && let Some(trouble) = &trouble
        {
            tracing::warn!(trouble, "nothing new from {CLUSTER_FILE}; what was read last stays in use");
        }
        self.cluster_trouble = trouble;
    }

    fn look_at_node(&mut self, name: &NodeName) {
        let file = name.grant_file();
        let trouble = match self.node.look(&self.place.dir.join(&file)) {
            Look::Same => return,
            Look::Gone if self.granted.grant.is_some() => {
                Some(format!("{file} is gone: the controller does not know this node any more"))
            }
            Look::Gone => Some(format!("the controller wrote no {file} yet")),
            Look::Unreadable(error) => Some(format!("{file} cannot be read: {error}")),
            Look::Text(text) => match self.accept(&text) {
                Ok(grant) => {
                    self.granted.grant = Some(grant);
                    None
                }
                Err(error) => Some(format!("{file} cannot be used: {}", chain(&error))),
            },
        };
        if trouble != self.granted.trouble {
            if let Some(trouble) = &trouble {
                tracing::warn!(trouble, "no new grant");
            }
            self.granted.trouble = trouble;
        }
    }

    fn accept(&self, text: &str) -> Result<NodeGrant, Refused> {
        let grant = NodeGrant::parse(text).map_err(Refused::File)?;
        if grant.instance != self.place.instance {
            let (theirs, ours) = (grant.instance, self.place.instance.clone());
            return Err(Refused::OtherInstance { theirs, ours });
        }
        Ok(grant)
    }
}

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("it is no grant")]
    File(#[source] BadFile),
    #[error("it is for {theirs}, and this is {ours}")]
    OtherInstance { theirs: InstanceId, ours: InstanceId },
}

/// Looks at the files until told to stop; the first look is over when this returns.
pub(super) async fn watch(place: Place, stop: CancellationToken) -> watch::Receiver<Granted> {
    let (sender, receiver) = watch::channel(Granted::default());
    let first = look(Reader::new(place), &sender).await;
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        let mut reader = first;
        while let Some(ready) = reader.take().filter(|_| !sender.is_closed()) {
            tokio::time::sleep(LOOK).await;
            reader = look(ready, &sender).await;
        }
    }));
    receiver
}

/// One look, away from the runtime's threads; the reader comes back unless it panicked.
async fn look(mut reader: Reader, sender: &watch::Sender<Granted>) -> Option<Reader> {
    let found = tokio::task::spawn_blocking(move || {
        let granted = reader.look();
        (reader, granted)
    });
    let (reader, granted) = found.await.ok()?;
    sender.send_if_modified(|known| {
        let changed = *known != granted;
        *known = granted;
        changed
    });
    Some(reader)
}

/// Tells the pool of blocks, now and when they change. `after` lets addresses rest of which nobody knows who had them.
pub(super) async fn supply(
    mut granted: watch::Receiver<Granted>,
    pool: mpsc::UnboundedSender<Event>,
    after: Duration,
) {
    tokio::time::sleep(after).await;
    let mut told = None;
    loop {
        let blocks = granted.borrow_and_update().blocks();
        if granted.borrow().grant.is_some() && told.as_ref() != Some(&blocks) {
            tracing::info!(blocks = ?blocks.blocks, waits = ?blocks.waits, "the controller's grant");
            if pool.send(Event::Blocks(blocks.clone())).is_err() {
                return;
            }
            told = Some(blocks);
        }
        if granted.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
