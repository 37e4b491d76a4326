//! The route tables of the fake cloud, with EC2's refusals and quotas. A route whose ENI is gone or not attached is a
//! blackhole. While writes settle ([`World::set_read_lag`]), every other read shows the tables as they were: reads flip-flop,
//! which is worse for a controller than reads that are merely late.

use super::effects::no_eni;
use super::world::{World, error};
use crate::{
    Api, Association, CloudError, Destination, EniId, ErrorClass, Route, RouteOrigin, RouteState, RouteTable,
    RouteTableId, RouteTableQuery, RouteTarget, VpcId,
};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Routes of a family that a table may have, those that were propagated or advertised left out. EC2 gives up to 1,000.
const DEFAULT_QUOTA: usize = 500;

/// Where no route may lead: the addresses of EC2's own services.
const RESERVED: [&str; 2] = ["169.254.168.0/22", "fd00:ec2::/32"];

type Tables = BTreeMap<RouteTableId, RouteTable>;

/// The route tables and how they were.
#[derive(Debug, Clone)]
pub(super) struct Routing {
    tables: Tables,
    quota: usize,
    reads: u64,
    history: VecDeque<(Duration, Tables)>,
}

impl Default for Routing {
    fn default() -> Self {
        Self { tables: Tables::new(), quota: DEFAULT_QUOTA, reads: 0, history: VecDeque::new() }
    }
}

fn contains(outer: IpNet, inner: IpNet) -> bool {
    match (outer, inner) {
        (IpNet::V4(outer), IpNet::V4(inner)) => outer.contains(&inner),
        (IpNet::V6(outer), IpNet::V6(inner)) => outer.contains(&inner),
        _ => false,
    }
}

fn no_table(api: Api, id: &RouteTableId) -> CloudError {
    error(api, ErrorClass::NotFound, "InvalidRouteTableID.NotFound", format!("no route table {id}"))
}

const fn is_written(route: &Route) -> bool {
    !matches!(route.origin, RouteOrigin::EnableVgwRoutePropagation | RouteOrigin::Advertisement)
}

impl World {
    /// Adds a route table with the VPC's local routes; its id is `rtb-<name>`.
    ///
    /// # Panics
    /// Like every builder here: when the name is no part of an id.
    pub fn add_route_table(
        &mut self,
        name: &str,
        vpc: &VpcId,
        associations: &[Association],
        tags: &[(&str, &str)],
    ) -> RouteTableId {
        let id: RouteTableId = format!("rtb-{name}").parse().expect("a test names a table in lower case");
        let cidrs = self.vpcs.get(vpc).map(|vpc| vpc.cidrs.clone()).unwrap_or_default();
        let local = |cidr| Route {
            destination: Destination::Cidr(cidr),
            target: RouteTarget::Local,
            origin: RouteOrigin::CreateRouteTable,
            state: RouteState::Active,
        };
        let table = RouteTable {
            id: id.clone(),
            vpc: vpc.clone(),
            associations: associations.iter().cloned().collect(),
            routes: cidrs.into_iter().map(local).collect(),
            tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        };
        self.routing.tables.insert(id.clone(), table);
        id
    }

    /// Puts a route into a table behind everybody's back, in place of one to the same destination: an operator's, a
    /// propagated or an advertised one.
    pub fn put_route(&mut self, table: &RouteTableId, route: Route) {
        self.tables_change();
        if let Some(table) = self.routing.tables.get_mut(table) {
            table.routes.retain(|other| other.destination != route.destination);
            table.routes.push(route);
        }
    }

    /// Takes a route away behind everybody's back.
    pub fn lose_route(&mut self, table: &RouteTableId, destination: IpNet) {
        self.tables_change();
        if let Some(table) = self.routing.tables.get_mut(table) {
            table.routes.retain(|route| route.destination != Destination::Cidr(destination));
        }
    }

    /// Removes a whole table.
    pub fn lose_route_table(&mut self, table: &RouteTableId) {
        self.tables_change();
        self.routing.tables.remove(table);
    }

    /// How many routes of a family a table may have from now on.
    pub const fn set_route_quota(&mut self, quota: usize) {
        self.routing.quota = quota;
    }

    /// The tables as they really are now, whatever the reads show.
    #[must_use]
    pub fn true_route_tables(&self) -> Vec<RouteTable> {
        self.routing.tables.values().map(|table| self.with_states(table)).collect()
    }

    /// Remembers how the tables are, before they change.
    fn tables_change(&mut self) {
        let (now, lag) = (self.now(), self.read_lag);
        let history = &mut self.routing.history;
        history.retain(|(until, _)| *until + lag > now);
        if !lag.is_zero() {
            history.push_back((now, self.routing.tables.clone()));
        }
    }

    fn with_states(&self, table: &RouteTable) -> RouteTable {
        let mut table = table.clone();
        for route in &mut table.routes {
            let RouteTarget::Eni(eni) = &route.target else { continue };
            let is_attached = self.enis.get(eni).is_some_and(|eni| eni.attachment.is_some());
            route.state = if is_attached { RouteState::Active } else { RouteState::Blackhole };
        }
        table
    }

    /// See [`crate::CloudRoutes::route_tables`].
    pub fn route_tables(&mut self, query: &RouteTableQuery) -> Result<Vec<RouteTable>, CloudError> {
        self.call(Api::DescribeRouteTables, |world| {
            world.routing.reads += 1;
            let (now, lag) = (world.now(), world.read_lag);
            // The oldest state that is still within the lag of the change that ended it.
            let old = world.routing.history.iter().find(|(until, _)| *until + lag > now);
            let is_late = world.routing.reads % 2 == 1;
            let tables = old.filter(|_| is_late).map_or(&world.routing.tables, |(_, tables)| tables);
            let is_meant = |table: &&RouteTable| match query {
                RouteTableQuery::ByIds(ids) => ids.contains(&table.id),
                RouteTableQuery::Tagged(vpc, tags) => {
                    table.vpc == *vpc && tags.iter().all(|(key, value)| table.tags.get(key) == Some(value))
                }
            };
            Ok(tables.values().filter(is_meant).map(|table| world.with_states(table)).collect())
        })
    }

    fn table_mut(&mut self, api: Api, id: &RouteTableId) -> Result<&mut RouteTable, CloudError> {
        self.tables_change();
        self.routing.tables.get_mut(id).ok_or_else(|| no_table(api, id))
    }

    /// See [`crate::CloudRoutes::create_route`].
    pub fn create_route(
        &mut self,
        table: &RouteTableId,
        destination: IpNet,
        target: &EniId,
    ) -> Result<(), CloudError> {
        const API: Api = Api::CreateRoute;
        self.call(API, |world| {
            let found = world.routing.tables.get(table).ok_or_else(|| no_table(API, table))?;
            if !world.enis.contains_key(target) {
                return Err(no_eni(API, target));
            }
            if found.route(destination).is_some() {
                let message = format!("{table} has a route to {destination}");
                return Err(error(API, ErrorClass::Conflict, "RouteAlreadyExists", message));
            }
            let is_covered = |route: &Route| {
                let local = route.destination.cidr().filter(|_| route.target == RouteTarget::Local);
                local.is_some_and(|local| contains(local, destination))
            };
            let is_reserved = |range: &str| range.parse().is_ok_and(|range| contains(range, destination));
            if found.routes.iter().any(is_covered) || RESERVED.into_iter().any(is_reserved) {
                let message = format!("{destination} is the VPC's own or EC2's");
                return Err(error(API, ErrorClass::Bug, "InvalidParameterValue", message));
            }
            let is_ipv6 = |net: IpNet| matches!(net, IpNet::V6(_));
            let of_family = |route: &&Route| {
                route.destination.cidr().is_some_and(|net| is_ipv6(net) == is_ipv6(destination))
            };
            let count = found.routes.iter().filter(|route| is_written(route)).filter(of_family).count();
            if count >= world.routing.quota {
                let message = format!("{table} has {count} routes of this family");
                return Err(error(API, ErrorClass::QuotaExceeded, "RouteLimitExceeded", message));
            }
            let route = Route {
                destination: Destination::Cidr(destination),
                target: RouteTarget::Eni(target.clone()),
                origin: RouteOrigin::CreateRoute,
                state: RouteState::Active,
            };
            world.table_mut(API, table)?.routes.push(route);
            Ok(())
        })
    }

    /// See [`crate::CloudRoutes::replace_route`].
    pub fn replace_route(
        &mut self,
        table: &RouteTableId,
        destination: IpNet,
        target: &EniId,
    ) -> Result<(), CloudError> {
        const API: Api = Api::ReplaceRoute;
        self.call(API, |world| {
            let exists = world.enis.contains_key(target);
            let routes = &mut world.table_mut(API, table)?.routes;
            let wanted = Destination::Cidr(destination);
            let found = routes.iter_mut().find(|route| route.destination == wanted && is_written(route));
            let Some(route) = found else {
                let message = format!("no route to {destination}: use CreateRoute instead");
                return Err(error(API, ErrorClass::NoRoute, "InvalidParameterValue", message));
            };
            if !exists {
                return Err(no_eni(API, target));
            }
            route.target = RouteTarget::Eni(target.clone());
            Ok(())
        })
    }

    /// See [`crate::CloudRoutes::delete_route`].
    pub fn delete_route(&mut self, table: &RouteTableId, destination: IpNet) -> Result<(), CloudError> {
        const API: Api = Api::DeleteRoute;
        self.call(API, |world| {
            let routes = &mut world.table_mut(API, table)?.routes;
            let wanted = Destination::Cidr(destination);
            let found = routes.iter().position(|route| route.destination == wanted && is_written(route));
            let Some(at) = found else {
                let message = format!("no route to {destination}");
                return Err(error(API, ErrorClass::NoRoute, "InvalidRoute.NotFound", message));
            };
            if routes[at].target == RouteTarget::Local {
                let message = format!("cannot remove the local route {destination}");
                return Err(error(API, ErrorClass::Bug, "InvalidParameterValue", message));
            }
            routes.remove(at);
            Ok(())
        })
    }

    /// See [`crate::CloudRoutes::tag_route_table`].
    pub fn tag_route_table(
        &mut self,
        table: &RouteTableId,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), CloudError> {
        self.call(Api::CreateTags, |world| {
            world.table_mut(Api::CreateTags, table)?.tags.extend(tags.clone());
            Ok(())
        })
    }

    /// See [`crate::CloudRoutes::untag_route_table`].
    pub fn untag_route_table(
        &mut self,
        table: &RouteTableId,
        keys: &BTreeSet<String>,
    ) -> Result<(), CloudError> {
        self.call(Api::DeleteTags, |world| {
            world.table_mut(Api::DeleteTags, table)?.tags.retain(|key, _| !keys.contains(key));
            Ok(())
        })
    }
}
