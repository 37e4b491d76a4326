//! The books: what the rows of the store mean. [`Books`] is everything that survives a restart: the pool's own record, and
//! what the agent remembers beside it. A row that cannot be read makes the whole store unusable: half a book would be
//! believed.

use super::{Rows, Table, Write};
use crate::agent::Remembered;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use spur_cloud::{InstanceId, InstanceType};
use spur_ipamd_core::{AttachmentKey, Holding, Intent, IntentId, Record, StoreChange, Timestamp};
use spur_quotas::InstanceLimits;
use std::collections::BTreeMap;
use std::net::IpAddr;

const NODE_KEY: &str = "node";
const PLACEMENT_KEY: &str = "placement";

/// Everything that survives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    /// The pool's.
    pub record: Record,
    /// On which machine, since which boot it was written; none in a new store.
    pub node: Option<NodeMark>,
    /// Where new ENIs went last; forgotten when it cannot be read, because EC2 tells it again.
    pub placement: Option<Remembered>,
    /// Limits that EC2 told.
    pub limits: BTreeMap<InstanceType, InstanceLimits>,
}

/// Which machine, and which boot of it, the books are about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeMark {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// The instance.
    pub instance: InstanceId,
    /// The `eni` pool that the controller moved the node to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<String>,
}

impl Books {
    /// Reads the rows.
    ///
    /// # Errors
    /// With the first row that makes no sense.
    pub fn decode(rows: &Rows) -> Result<Self, String> {
        let mut books = Self::default();
        for ((table, key), value) in rows {
            books
                .decode_row(*table, key, value)
                .map_err(|error| format!("row {key:?} of {table:?}: {error}"))?;
        }
        Ok(books)
    }

    /// For people and scripts: lists, because JSON's keys are texts.
    #[must_use]
    pub fn show(&self) -> Value {
        let record = &self.record;
        let holding = |(key, holding): (&AttachmentKey, &Holding)| json!({"network": key.network, "containerId": key.container_id, "ifName": key.if_name, "holding": holding});
        let cooling = |(address, until): (&IpAddr, &Timestamp)| json!({"address": address, "until": until});
        let intent = |(id, intent): (&IntentId, &Intent)| json!({"id": id, "intent": intent});
        json!({
            "node": self.node,
            "holdings": record.holdings.iter().map(holding).collect::<Vec<_>>(),
            "cooling": record.cooling.iter().map(cooling).collect::<Vec<_>>(),
            "enis": record.enis.values().collect::<Vec<_>>(),
            "intents": record.intents.iter().map(intent).collect::<Vec<_>>(),
            "limits": self.limits,
        })
    }

    fn decode_row(&mut self, table: Table, key: &str, value: &[u8]) -> Result<(), String> {
        let record = &mut self.record;
        match table {
            Table::Meta if key == NODE_KEY => self.node = Some(from_json(value)?),
            Table::Meta if key == PLACEMENT_KEY => self.placement = serde_json::from_slice(value).ok(),
            // A row that a later agent of the same schema added for itself.
            Table::Meta => {}
            Table::Assignments => {
                drop(record.holdings.insert(attachment_of(key)?, from_json(value)?));
            }
            Table::Cooldowns => {
                let _ = record
                    .cooling
                    .insert(key.parse().map_err(|_| "no address".to_owned())?, from_json(value)?);
            }
            Table::Enis => {
                drop(record.enis.insert(key.parse().map_err(|error| format!("{error}"))?, from_json(value)?));
            }
            Table::Intents => {
                let id = key.parse().map_err(|_| "no number".to_owned())?;
                drop(record.intents.insert(IntentId(id), from_json(value)?));
            }
            Table::Blocks | Table::RouteTables | Table::Fallbacks => {
                return Err("a controller's row".to_owned());
            }
            Table::Limits => {
                drop(self.limits.insert(key.parse().map_err(|error| format!("{error}"))?, from_json(value)?));
            }
        }
        Ok(())
    }
}

/// The write that makes a change of the record durable.
#[must_use]
pub fn write_of(change: &StoreChange) -> Write {
    match change {
        StoreChange::Hold(key, holding) => put(Table::Assignments, key_of(key), holding),
        StoreChange::Release(key) => remove(Table::Assignments, key_of(key)),
        StoreChange::Cool(address, until) => put(Table::Cooldowns, address.to_string(), until),
        StoreChange::Uncool(address) => remove(Table::Cooldowns, address.to_string()),
        StoreChange::PutEni(eni) => put(Table::Enis, eni.id.to_string(), eni),
        StoreChange::DropEni(id) => remove(Table::Enis, id.to_string()),
        StoreChange::PutIntent(id, intent) => put(Table::Intents, id.0.to_string(), intent),
        StoreChange::DropIntent(id) => remove(Table::Intents, id.0.to_string()),
    }
}

/// The write that says which machine and boot the books are about.
#[must_use]
pub fn write_node(mark: &NodeMark) -> Write {
    put(Table::Meta, NODE_KEY.to_owned(), mark)
}

/// The write that remembers where new ENIs go.
#[must_use]
pub fn write_placement(placement: &Remembered) -> Write {
    put(Table::Meta, PLACEMENT_KEY.to_owned(), placement)
}

/// The write that remembers limits.
#[must_use]
pub fn write_limits(instance_type: &InstanceType, limits: &InstanceLimits) -> Write {
    put(Table::Limits, instance_type.to_string(), limits)
}

/// Writes that turn the rows of `old` into those of `new`.
#[must_use]
pub fn writes_between(old: &Record, new: &Record) -> Vec<Write> {
    let mut changes = Vec::new();
    changes.extend(
        old.holdings.keys().filter(|key| !new.holdings.contains_key(key)).cloned().map(StoreChange::Release),
    );
    changes.extend(
        old.cooling.keys().filter(|key| !new.cooling.contains_key(key)).copied().map(StoreChange::Uncool),
    );
    changes
        .extend(old.enis.keys().filter(|key| !new.enis.contains_key(key)).cloned().map(StoreChange::DropEni));
    changes.extend(
        old.intents.keys().filter(|key| !new.intents.contains_key(key)).copied().map(StoreChange::DropIntent),
    );
    let holdings = new.holdings.iter().filter(|(key, value)| old.holdings.get(key) != Some(value));
    changes.extend(holdings.map(|(key, value)| StoreChange::Hold(key.clone(), value.clone())));
    let cooling = new.cooling.iter().filter(|(address, until)| old.cooling.get(address) != Some(until));
    changes.extend(cooling.map(|(address, until)| StoreChange::Cool(*address, *until)));
    changes.iter().map(write_of).collect()
}

/// Network, container id and interface name with a separator that none of them may contain.
fn key_of(key: &AttachmentKey) -> String {
    format!("{}/{}/{}", key.network, key.container_id, key.if_name)
}

fn attachment_of(key: &str) -> Result<AttachmentKey, String> {
    let mut parts = key.splitn(3, '/').map(str::to_owned);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(network), Some(container_id), Some(if_name)) => {
            Ok(AttachmentKey { network, container_id, if_name })
        }
        _ => Err("no attachment".to_owned()),
    }
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

fn put(table: Table, key: String, value: &impl Serialize) -> Write {
    let value = serde_json::to_vec(value).expect("the records have text keys and no custom serializers");
    Write { table, key, value: Some(value) }
}

const fn remove(table: Table, key: String) -> Write {
    Write { table, key, value: None }
}

#[cfg(test)]
mod tests;
