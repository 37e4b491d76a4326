//! The nodes, from a file: what Kubernetes will tell later. A file that cannot be read, or in which anything is wrong, tells nothing: the
//! controller goes on with the nodes that it knew.
//!
//! ```yaml
//! nodes:
//!   - name: worker-1
//!     instance: i-0123456789abcdef0
//!     eni: eni-0123456789abcdef0   # its primary ENI; optional, saves a search
//!     address: 10.0.1.5            # its primary address; optional
//!     blocks: 1                    # 1 or 2, of each family
//!     podCIDRs: [10.200.4.0/24]    # with pool.blocksFrom: NodeSpec
//! ```

use crate::config::Mistake;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;
use spur_cloud::{EniId, InstanceId};
use spur_ipamd_core::vpcroute::{BLOCKS_MAX, NodeName, NodeSpec, Nodes};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The file cannot be used; everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} mistake(s) in the list of nodes:{}", .0.len(), .0.iter().map(|mistake| format!("\n  {mistake}")).collect::<String>())]
pub struct NodesError(pub Vec<Mistake>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    name: NodeName,
    instance: InstanceId,
    eni: Option<EniId>,
    address: Option<IpAddr>,
    blocks: Option<u8>,
    #[serde(rename = "podCIDRs", default)]
    pod_cidrs: BTreeSet<IpNet>,
}

/// Reads the text of the file.
///
/// # Errors
/// With everything that is wrong with it.
pub fn parse(text: &str) -> Result<Nodes, NodesError> {
    let mistake = |key: String, problem: String| Mistake { key, problem };
    let whole = |problem: String| NodesError(vec![mistake("(file)".to_owned(), problem)]);
    let document: Value =
        serde_saphyr::from_str(text).map_err(|error| whole(format!("is not valid YAML: {error}")))?;
    // An empty file is not an empty list: it may be half written, and no nodes means that all routes are to go.
    let entries = match document.as_object() {
        Some(object) if object.len() == 1 => object.get("nodes").and_then(Value::as_array),
        _ => None,
    };
    let entries =
        entries.ok_or_else(|| whole("says something else; expected the one key nodes, a list".to_owned()))?;
    let (mut nodes, mut mistakes) = (Nodes::new(), Vec::new());
    let mut owners: BTreeMap<String, NodeName> = BTreeMap::new();
    for (at, entry) in entries.iter().enumerate() {
        let key = format!("nodes[{at}]");
        let entry = match serde_json::from_value::<Entry>(entry.clone()) {
            Ok(entry) => entry,
            Err(error) => {
                mistakes.push(mistake(key, error.to_string()));
                continue;
            }
        };
        let blocks = entry.blocks.unwrap_or(1);
        if !(1..=BLOCKS_MAX).contains(&blocks) {
            mistakes
                .push(mistake(format!("{key}.blocks"), format!("is {blocks}; expected 1 to {BLOCKS_MAX}")));
        }
        for cidr in entry.pod_cidrs.iter().filter(|cidr| cidr.trunc() != **cidr) {
            let problem =
                format!("has {cidr}, which has bits beyond its prefix length; expected {}", cidr.trunc());
            mistakes.push(mistake(format!("{key}.podCIDRs"), problem));
        }
        let own = [
            ("instance", Some(entry.instance.to_string())),
            ("eni", entry.eni.as_ref().map(ToString::to_string)),
            ("address", entry.address.map(|address| address.to_string())),
        ];
        for (field, thing) in own.into_iter().filter_map(|(field, thing)| Some((field, thing?))) {
            if let Some(other) = owners.insert(thing.clone(), entry.name.clone()) {
                let problem = format!("is {thing}, which is node {other}'s, too; expected each {field} once");
                mistakes.push(mistake(format!("{key}.{field}"), problem));
            }
        }
        let spec = NodeSpec {
            instance: entry.instance,
            address: entry.address,
            eni: entry.eni,
            blocks,
            pod_cidrs: entry.pod_cidrs,
        };
        if nodes.insert(entry.name.clone(), spec).is_some() {
            mistakes.push(mistake(
                format!("{key}.name"),
                format!("is {}, again; expected each name once", entry.name),
            ));
        }
    }
    if mistakes.is_empty() { Ok(nodes) } else { Err(NodesError(mistakes)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_with_its_defaults() {
        let nodes = parse("nodes:\n  - {name: n1, instance: i-1}\n  - {name: n2, instance: i-2, eni: eni-2, address: 10.0.0.5, blocks: 2, podCIDRs: [10.200.0.0/24]}\n").unwrap();
        let first = &nodes[&"n1".parse().unwrap()];
        assert_eq!((first.blocks, first.eni.as_ref(), first.pod_cidrs.len()), (1, None, 0));
        let second = &nodes[&"n2".parse().unwrap()];
        assert_eq!(
            (second.blocks, second.address, second.pod_cidrs.len()),
            (2, Some("10.0.0.5".parse().unwrap()), 1)
        );
        assert!(parse("nodes: []").unwrap().is_empty());
    }

    #[test]
    fn everything_that_is_wrong_is_told_and_nothing_is_taken() {
        let text = "nodes:\n  - {name: n1, instance: i-1, blocks: 3}\n  - {name: N2, instance: i-2}\n  - {name: n1, instance: i-1}\n  - {name: n3, instance: i-3, surname: x}\n  - {name: n4, instance: i-4, podCIDRs: [10.200.0.1/24], eni: eni-4, address: 10.0.0.4}\n  - {name: n5, instance: i-5, eni: eni-4, address: 10.0.0.4}\n";
        let told = parse(text).unwrap_err().to_string();
        for part in [
            "nodes[0].blocks",
            "nodes[1]",
            "nodes[2].name",
            "nodes[2].instance",
            "surname",
            "nodes[4].podCIDRs",
            "nodes[5].eni: is eni-4, which is node n4's",
            "nodes[5].address",
        ] {
            assert!(told.contains(part), "{part} in {told}");
        }
    }

    #[test]
    fn an_empty_file_is_not_an_empty_list() {
        for text in ["", "{}", "[]", "nodes:", "nodes: {}", "nodes: []\nmore: 1"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
