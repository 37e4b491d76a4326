//! Route tables of a scenario, and routes that a test puts into a table while the world runs: whatever others than the client
//! under test may have put there. What they name must exist; whether EC2 would have let them is not asked.

use super::read::{Reader, Section, name, show, text};
use super::{Mistake, Quotas, Scenario};
use ipnet::IpNet;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Routes per table and family: what every account has, and what EC2 raises it to at most.
const USUAL_ROUTES: usize = 500;
const MOST_ROUTES: usize = 1_000;

/// A route table.
#[derive(Debug, Clone, Serialize)]
pub struct RouteTableSpec {
    /// Its name.
    pub name: String,
    /// Whether subnets without a table of their own route by it.
    pub is_main: bool,
    /// Names of the subnets whose own table it is.
    pub subnets: Vec<String>,
    /// Whether it has a default route to the internet.
    pub has_internet: bool,
    /// Further routes.
    pub routes: Vec<RouteSpec>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A route that somebody made.
#[derive(Debug, Clone, Serialize)]
pub struct RouteSpec {
    /// What it matches.
    pub destination: IpNet,
    /// `internet`, a node (its primary ENI), an ENI's id, or the id of something outside this world.
    pub target: String,
    /// How it came into the table.
    pub origin: RouteOrigin,
}

/// How a route came into its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum RouteOrigin {
    /// With the table: a local route.
    CreateRouteTable,
    /// By a call.
    CreateRoute,
    /// Propagated by a virtual private gateway.
    Propagated,
    /// Advertised by a route server.
    Advertised,
}

impl RouteOrigin {
    /// EC2's word.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::CreateRouteTable => "CreateRouteTable",
            Self::CreateRoute => "CreateRoute",
            Self::Propagated => "EnableVgwRoutePropagation",
            Self::Advertised => "Advertisement",
        }
    }

    /// Whether no call made it, so that a call's route to the same destination goes first.
    pub(crate) const fn is_learnt(self) -> bool {
        matches!(self, Self::Propagated | Self::Advertised)
    }
}

impl RouteSpec {
    /// The target of a route that is to be taken away.
    pub(crate) const NOWHERE: &'static str = "none";

    /// What is wrong with the target, if anything, in a world with these nodes.
    pub(crate) fn target_problem(&self, is_node: impl Fn(&str) -> bool) -> Option<String> {
        let is_id = self.target.rsplit_once('-').is_some_and(|(kind, digits)| {
            !kind.is_empty() && digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        let is_known = self.target == "internet" || is_id || is_node(&self.target);
        (!is_known).then(|| format!("is {:?}; expected {TARGET}", self.target))
    }
}

const TARGET: &str = "internet, the name of a node, or an id such as tgw-0123456789abcdef0";

pub(super) fn tables(reader: &mut Reader, top: &Section<'_>) -> Vec<RouteTableSpec> {
    let items = reader.items(top, "routeTables", "route tables, each with a name");
    items.into_iter().filter_map(|(path, item)| table(reader, &path, item)).collect()
}

fn table(reader: &mut Reader, path: &str, item: &Value) -> Option<RouteTableSpec> {
    let keys = ["name", "main", "subnets", "internet", "routes", "tags"];
    let section = reader.section(path, Some(item), &keys);
    let yes_or_no = |value: &Value| value.as_bool().ok_or_else(|| "true or false".to_owned());
    let table_name = reader.read(&section, "name", None, name);
    let is_main = reader.read(&section, "main", Some(false), yes_or_no);
    let subnets = reader.items(&section, "subnets", "names of subnets");
    let subnets = reader.texts(subnets, |value| text(value, "the name of a subnet"));
    let has_internet = reader.read(&section, "internet", Some(true), yes_or_no);
    let items = reader.items(&section, "routes", "routes, each with destination and target");
    let routes = items
        .into_iter()
        .filter_map(|(path, item)| {
            let section = reader.section(&path, Some(item), &["destination", "target", "origin"]);
            route(reader, &section)
        })
        .collect();
    let tags = reader.tags(&section);
    Some(RouteTableSpec {
        name: table_name?,
        is_main: is_main?,
        subnets,
        has_internet: has_internet?,
        routes,
        tags,
    })
}

fn route(reader: &mut Reader, section: &Section<'_>) -> Option<RouteSpec> {
    let destination = reader.read(section, "destination", None, destination);
    let target = reader.read(section, "target", None, |value| text(value, TARGET));
    let origin = reader.read(section, "origin", Some(RouteOrigin::CreateRoute), origin);
    Some(RouteSpec { destination: destination?, target: target?, origin: origin? })
}

fn destination(value: &Value) -> Result<IpNet, String> {
    let net: Option<IpNet> = value.as_str().and_then(|text| text.parse().ok());
    let net = net.ok_or("a CIDR, for example 192.168.0.0/16")?;
    if net.trunc() == net { Ok(net) } else { Err(format!("no bits behind the prefix: {}", net.trunc())) }
}

fn origin(value: &Value) -> Result<RouteOrigin, String> {
    match value.as_str() {
        Some("created") => Ok(RouteOrigin::CreateRoute),
        Some("propagated") => Ok(RouteOrigin::Propagated),
        Some("advertised") => Ok(RouteOrigin::Advertised),
        _ => Err("created, propagated or advertised".to_owned()),
    }
}

pub(super) fn quotas(reader: &mut Reader, top: &Section<'_>) -> Quotas {
    let section = reader.section("quotas", top.find("quotas"), &["routesPerTable"]);
    let parse = |value: &Value| {
        let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
        number
            .filter(|number| (1..=MOST_ROUTES).contains(number))
            .ok_or_else(|| format!("a number from 1 to {MOST_ROUTES}, the most that EC2 gives"))
    };
    let routes_per_table = reader.read(&section, "routesPerTable", Some(USUAL_ROUTES), parse);
    Quotas { routes_per_table: routes_per_table.unwrap_or(USUAL_ROUTES) }
}

/// Names that mean nothing or two things.
pub(super) fn check(reader: &mut Reader, scenario: &Scenario) {
    let tables = &scenario.route_tables;
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for (index, table) in tables.iter().enumerate() {
        let path = format!("routeTables[{index}]");
        if table.is_main && tables.iter().take(index).any(|other| other.is_main) {
            reader.wrong(format!("{path}.main"), "is true again; expected one main table");
        }
        for (place, subnet) in table.subnets.iter().enumerate() {
            let path = format!("{path}.subnets[{place}]");
            if !scenario.subnets.iter().any(|known| known.name == *subnet) {
                reader.wrong(path, format!("is {subnet:?}; expected the name of a subnet"));
            } else if let Some(owner) = owners.insert(subnet, &table.name) {
                reader.wrong(path, format!("is {subnet:?}, which has the table {owner:?} already"));
            }
        }
        let mut destinations = BTreeSet::new();
        for (place, route) in table.routes.iter().enumerate() {
            if !destinations.insert((route.destination, route.origin.is_learnt())) {
                let problem = format!("is {} again; expected one route to it", route.destination);
                reader.wrong(format!("{path}.routes[{place}].destination"), problem);
            }
            let is_node = |name: &str| scenario.nodes.iter().any(|node| node.name == name);
            if let Some(problem) = route.target_problem(is_node) {
                reader.wrong(format!("{path}.routes[{place}].target"), problem);
            }
        }
    }
}

/// Routes to put into tables while the world runs, or to take out of them: a list, each with `table` (its name or id),
/// `destination`, `target` (`none` takes the route away) and `origin`.
pub(crate) fn parse_placements(text: &str) -> Result<Vec<(String, RouteSpec)>, Vec<Mistake>> {
    let document: Value = serde_saphyr::from_str(text).map_err(|error| {
        vec![Mistake { path: "(file)".to_owned(), problem: format!("cannot be read as YAML: {error}") }]
    })?;
    let mut reader = Reader::default();
    let mut placements = Vec::new();
    match &document {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let keys = ["table", "destination", "target", "origin"];
                let section = reader.section(&format!("routes[{index}]"), Some(item), &keys);
                let table = reader.read(&section, "table", None, |value| {
                    self::text(value, "the name or the id of a route table")
                });
                placements.extend(table.zip(route(&mut reader, &section)));
            }
        }
        other => reader.wrong("(file)", format!("is {}; expected a list of routes", show(other))),
    }
    if reader.mistakes.is_empty() { Ok(placements) } else { Err(reader.mistakes) }
}
