//! Which tables are managed (R4): for each subnet that holds a node's ENI the table that it is explicitly associated with, else the VPC's
//! main table; and those that the operator listed or tagged. A table of a gateway (an edge table) never is: it routes what enters the VPC, and
//! EC2 refuses our routes in it.
//!
//! EC2 names the subnets of a table only where somebody associated them; who routes by the main table follows from all other
//! tables, so a discovery needs every table of the VPC.

use super::TableChoice;
use serde::Serialize;
use spur_cloud::{Association, RouteTable, RouteTableId, SubnetId};
use std::collections::{BTreeMap, BTreeSet};

/// Why a table is managed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Why {
    /// The nodes of this subnet route by it; there may be more.
    NodeSubnet(SubnetId),
    /// The operator listed it.
    Listed,
    /// The operator tagged it.
    Tagged,
}

/// What a discovery found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discovery {
    /// The tables to manage.
    pub managed: BTreeMap<RouteTableId, Why>,
    /// Edge tables that the operator listed or tagged, or that a subnet of nodes uses; they are left alone.
    pub edges: BTreeSet<RouteTableId>,
    /// Listed tables that are not in the VPC.
    pub absent: BTreeSet<RouteTableId>,
    /// Subnets of nodes that no table was found for.
    pub without: BTreeSet<SubnetId>,
}

/// The table that a subnet routes by.
#[must_use]
pub fn effective<'a>(
    tables: impl Iterator<Item = &'a RouteTable> + Clone,
    subnet: &SubnetId,
) -> Option<&'a RouteTable> {
    let explicit = Association::Subnet(subnet.clone());
    let own = tables.clone().find(|table| table.associations.contains(&explicit));
    own.or_else(|| tables.clone().find(|table| table.is_main()))
}

/// Finds the tables.
#[must_use]
pub fn discover<'a>(
    tables: impl Iterator<Item = &'a RouteTable> + Clone,
    node_subnets: &BTreeSet<SubnetId>,
    choice: &TableChoice,
) -> Discovery {
    let mut found = Discovery::default();
    for subnet in node_subnets {
        match effective(tables.clone(), subnet) {
            Some(table) if table.is_edge() => {
                found.edges.insert(table.id.clone());
                found.without.insert(subnet.clone());
            }
            Some(table) => {
                found.managed.entry(table.id.clone()).or_insert_with(|| Why::NodeSubnet(subnet.clone()));
            }
            None => drop(found.without.insert(subnet.clone())),
        }
    }
    for table in tables.clone() {
        let tagged =
            !choice.tags.is_empty() && choice.tags.iter().all(|tag| table.tags.get(tag.0) == Some(tag.1));
        let why = match choice.ids.contains(&table.id) {
            true => Why::Listed,
            false if tagged => Why::Tagged,
            false => continue,
        };
        if table.is_edge() {
            found.edges.insert(table.id.clone());
        } else {
            found.managed.entry(table.id.clone()).or_insert(why);
        }
    }
    let there: BTreeSet<_> = tables.map(|table| &table.id).collect();
    found.absent = choice.ids.iter().filter(|id| !there.contains(id)).cloned().collect();
    found
}
