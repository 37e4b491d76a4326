//! What the rows of the controller's store mean. A row that cannot be read makes the whole store unusable: half a book would be
//! believed.

use crate::store::{Rows, Table, Write};
use ipnet::IpNet;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use spur_cloud::RouteTableId;
use spur_ipamd_core::vpcroute::{BlockRecord, Change, Record, TableRecord};

/// Reads the rows.
///
/// # Errors
/// With the first row that makes no sense.
pub(super) fn decode(rows: &Rows) -> Result<Record, String> {
    let mut record = Record::default();
    for ((table, key), value) in rows {
        let change =
            change_of(*table, key, value).map_err(|error| format!("row {key:?} of {table:?}: {error}"))?;
        if let Some(change) = change {
            record.apply(&change);
        }
    }
    Ok(record)
}

/// For people and scripts: lists, because JSON's keys are texts.
pub(crate) fn show(rows: &Rows) -> Result<Value, String> {
    let record = decode(rows)?;
    let block = |(block, held): (&IpNet, &BlockRecord)| json!({"block": block, "node": held.node, "state": held.state});
    let table =
        |(table, known): (&RouteTableId, &TableRecord)| json!({"table": table, "unneeded": known.unneeded});
    Ok(json!({
        "blocks": record.blocks().iter().map(block).collect::<Vec<_>>(),
        "routeTables": record.tables().iter().map(table).collect::<Vec<_>>(),
        "fallbacks": record.fallback(),
    }))
}

fn change_of(table: Table, key: &str, value: &[u8]) -> Result<Option<Change>, String> {
    Ok(Some(match table {
        Table::Blocks => {
            Change::PutBlock(key.parse().map_err(|_| "no network".to_owned())?, from_json(value)?)
        }
        Table::RouteTables => {
            Change::PutTable(key.parse().map_err(|error| format!("{error}"))?, from_json(value)?)
        }
        Table::Fallbacks => Change::PutFallback(key.parse().map_err(|error| format!("{error}"))?),
        // An agent's, or a later controller's of the same schema.
        _ => return Ok(None),
    }))
}

fn from_json<T: DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    serde_json::from_slice(value).map_err(|error| error.to_string())
}

/// The write that makes a change durable.
pub(super) fn write_of(change: &Change) -> Write {
    match change {
        Change::PutBlock(block, record) => put(Table::Blocks, block.to_string(), record),
        Change::RemoveBlock(block) => Write { table: Table::Blocks, key: block.to_string(), value: None },
        Change::PutTable(table, record) => put(Table::RouteTables, table.to_string(), record),
        Change::RemoveTable(table) => {
            Write { table: Table::RouteTables, key: table.to_string(), value: None }
        }
        Change::PutFallback(node) => put(Table::Fallbacks, node.to_string(), &()),
        Change::RemoveFallback(node) => Write { table: Table::Fallbacks, key: node.to_string(), value: None },
    }
}

fn put<T: Serialize>(table: Table, key: String, value: &T) -> Write {
    let value = serde_json::to_vec(value).expect("records have text keys and nothing else can fail");
    Write { table, key, value: Some(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spur_ipamd_core::vpcroute::BlockState;
    use std::collections::BTreeSet;

    #[test]
    fn every_change_survives_the_store_and_a_row_that_makes_no_sense_does_not() {
        let node: spur_ipamd_core::vpcroute::NodeName = "n1".parse().unwrap();
        let held = BlockRecord {
            node: node.clone(),
            state: BlockState::Held,
            enis: BTreeSet::from(["eni-1".parse().unwrap()]),
        };
        let block = "10.200.0.0/25".parse().unwrap();
        let changes = [
            Change::PutBlock(block, held),
            Change::PutTable("rtb-1".parse().unwrap(), TableRecord::default()),
            Change::PutFallback(node.clone()),
        ];
        let (mut rows, mut expected) = (Rows::new(), Record::default());
        for change in &changes {
            expected.apply(change);
            let write = write_of(change);
            rows.insert((write.table, write.key), write.value.unwrap());
        }
        assert_eq!(decode(&rows).unwrap(), expected);
        for change in [
            Change::RemoveBlock(block),
            Change::RemoveTable("rtb-1".parse().unwrap()),
            Change::RemoveFallback(node),
        ] {
            let write = write_of(&change);
            assert!(write.value.is_none() && rows.remove(&(write.table, write.key)).is_some(), "{change:?}");
        }
        let earlier = br#"{"node":"n1","state":"Held"}"#.to_vec();
        rows.insert((Table::Blocks, block.to_string()), earlier);
        assert!(decode(&rows).unwrap().blocks()[&block].enis.is_empty(), "a row of an earlier version");
        rows.insert((Table::Blocks, "10.0.0.0/99".to_owned()), b"{}".to_vec());
        assert!(decode(&rows).unwrap_err().contains("10.0.0.0/99"));
    }
}
