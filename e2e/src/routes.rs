//! The VPC's route tables as they are, whatever EC2's reads show at the moment: the cloud's own view of who has which pod addresses in
//! `vpcRoute` mode.

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// What it matches.
    pub destination: IpNet,
    /// The ENI that it leads to, or what else it leads to.
    pub target: String,
    /// `active` or `blackhole`.
    pub state: String,
}

/// Every table of the VPC, by its name in the scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTables(pub BTreeMap<String, Table>);

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// EC2's id of it.
    pub id: String,
    /// Its routes.
    pub routes: BTreeSet<Route>,
}

#[derive(Deserialize)]
struct State {
    route_tables: BTreeMap<String, SeenTable>,
}

#[derive(Deserialize)]
struct SeenTable {
    name: String,
    routes: Vec<SeenRoute>,
}

#[derive(Deserialize)]
struct SeenRoute {
    destination: IpNet,
    target: Value,
    state: String,
}

impl RouteTables {
    /// Reads the state that vpcsim shows.
    ///
    /// # Errors
    /// When it is not what was expected.
    pub fn parse(state: Value) -> Result<Self> {
        let state: State = serde_json::from_value(state).context("read vpcsim's route tables")?;
        let tables = state.route_tables.into_iter().map(|(id, table)| {
            let routes = table.routes.into_iter().map(|route| {
                let target = match &route.target {
                    // Where it leads is the only value of a mapping whose key says what that is.
                    Value::Object(named) => named.values().next().and_then(Value::as_str),
                    other => other.as_str(),
                };
                let target = target.unwrap_or_default().to_owned();
                Route { destination: route.destination, target, state: route.state }
            });
            (table.name, Table { id, routes: routes.collect() })
        });
        Ok(Self(tables.collect()))
    }

    /// Of one table the routes that lead to parts of a range.
    pub fn within<'a>(&'a self, table: &str, range: &'a IpNet) -> impl Iterator<Item = &'a Route> {
        let routes = self.0.get(table).into_iter().flat_map(|table| &table.routes);
        routes.filter(|route| range.contains(&route.destination))
    }

    /// The block with this address and the ENI that it is led to, by the route of the given table.
    #[must_use]
    pub fn owner(&self, table: &str, address: IpAddr) -> Option<&Route> {
        let routes = &self.0.get(table)?.routes;
        let matching = routes.iter().filter(|route| route.destination.contains(&address));
        matching.max_by_key(|route| route.destination.prefix_len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_longest_route_owns_an_address_whatever_kind_its_target_is() {
        let route = |destination: &str, target| json!({"destination": destination, "target": target, "state": "active"});
        let routes = json!([
            route("10.0.0.0/16", json!("local")),
            route("0.0.0.0/0", json!("internet")),
            route("10.200.0.0/25", json!({"eni": "eni-1"})),
        ]);
        let state = json!({"route_tables": {"rtb-1": {"name": "main", "routes": routes, "main": true}}});
        let tables = RouteTables::parse(state).unwrap();
        let owner = |address: &str| tables.owner("main", address.parse().unwrap()).unwrap().target.clone();
        assert_eq!(owner("10.200.0.9"), "eni-1");
        assert_eq!(owner("10.0.0.9"), "local");
        assert_eq!(owner("10.200.1.9"), "internet");
        let pods = "10.200.0.0/16".parse().unwrap();
        assert_eq!(tables.within("main", &pods).count(), 1);
        assert_eq!(
            (tables.0["main"].id.as_str(), tables.owner("b", "10.0.0.1".parse().unwrap())),
            ("rtb-1", None)
        );
    }
}
