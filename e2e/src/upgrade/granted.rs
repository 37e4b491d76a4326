//! What a replaced controller must leave alone: what nodes were granted, and the routes to their pods.

use crate::routes::Route;
use crate::torture::tables;
use crate::world::{MANAGED_TABLES, World};
use anyhow::Result;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Grants and routes of the nodes as they were, before other machines joined the controller's list.
#[derive(Debug)]
pub(super) struct Granted {
    /// By node. Whichever version writes it, it has to read the same, or agents of the other one would act on something else.
    grants: BTreeMap<String, Value>,
    /// To pods, by managed table.
    routes: Vec<(&'static str, Vec<Route>)>,
    /// EC2 calls that were made before.
    calls: usize,
}

impl Granted {
    pub(super) fn take(world: &World) -> Result<Self> {
        let tables = world.routes()?;
        Ok(Self {
            grants: tables::grants(world)?,
            routes: MANAGED_TABLES.map(|table| (table, tables::pods(&tables, table))).into(),
            calls: world.record()?.len(),
        })
    }

    /// What is not as it was, and every call since then that was about one of the routes.
    pub(super) fn changes(&self, world: &World) -> Result<Vec<String>> {
        let (mut grants, tables) = (tables::grants(world)?, world.routes()?);
        let mut lines = Vec::new();
        for (node, before) in &self.grants {
            let now = grants.remove(node).unwrap_or_default();
            if now != *before {
                lines.push(format!("{node} was granted {before}, and now {now}"));
            }
        }
        for (table, before) in &self.routes {
            let now = tables::pods(&tables, table);
            let gone = before.iter().filter(|route| !now.contains(route));
            lines.extend(gone.map(|route| format!("{table} has no more {route:?}")));
        }
        let routes = self.routes.iter().flat_map(|(_, routes)| routes);
        let blocks: BTreeSet<String> =
            routes.map(|route| format!("DestinationCidrBlock={}", route.destination)).collect();
        let calls = world.record()?.split_off(self.calls);
        let is_about_them = |call: &&Value| {
            let parameters = call["parameters"].as_str().unwrap_or_default();
            parameters.split_whitespace().any(|parameter| blocks.contains(parameter))
        };
        lines.extend(
            calls.iter().filter(is_about_them).map(|call| format!("a call about a live route: {call}")),
        );
        Ok(lines)
    }
}
