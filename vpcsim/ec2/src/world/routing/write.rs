//! Writing routes and making tables, with EC2's refusals. A destination is checked against the VPC's CIDRs, EC2's own
//! addresses, what is there already and the quota, in this order.

use super::{RouteTable, Slot, Target, Write, put};
use crate::error::{ApiError, Code};
use crate::id::RouteTableId;
use crate::scenario::RouteSpec;
use crate::time::SimTime;
use crate::view::Happening;
use crate::world::{Tags, World};
use ipnet::IpNet;

/// Where no route may lead: EC2's own services. (VPC User Guide, "Route table concepts".)
const RESERVED: [&str; 2] = ["169.254.168.0/22", "fd00:ec2::/32"];

/// EC2's default quota of tables in a VPC.
const MOST_TABLES: usize = 200;

/// What a call wants a route to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Not there yet.
    New,
    /// There, with another target.
    Replaced,
}

const fn is_ipv6(net: IpNet) -> bool {
    matches!(net, IpNet::V6(_))
}

pub(super) fn contains(outer: IpNet, inner: IpNet) -> bool {
    match (outer, inner) {
        (IpNet::V4(outer), IpNet::V4(inner)) => outer.contains(&inner),
        (IpNet::V6(outer), IpNet::V6(inner)) => outer.contains(&inner),
        _ => false,
    }
}

impl World {
    /// Makes a table with the local routes alone.
    pub(crate) fn create_table(&mut self, tags: Tags) -> Result<RouteTableId, ApiError> {
        if self.routing.tables.len() >= MOST_TABLES {
            let message = "The maximum number of route tables has been reached.";
            return Err(Code::RouteTableLimitExceeded.because(message));
        }
        self.happenings.push(Happening::RoutesChanged);
        Ok(self.new_table(String::new(), tags))
    }

    /// Deletes a table by which nothing routes.
    pub(crate) fn delete_table(&mut self, id: &RouteTableId) -> Result<(), ApiError> {
        if !self.table(id)?.associations.is_empty() {
            let message = format!("The routeTable '{id}' has dependencies and cannot be deleted.");
            return Err(Code::DependencyViolation.because(message));
        }
        self.routing.tables.remove(id);
        self.happenings.push(Happening::RoutesChanged);
        Ok(())
    }

    /// Makes a route, or gives one another target.
    pub(crate) fn write_route(
        &mut self,
        table: &RouteTableId,
        to: IpNet,
        target: Target,
        wanted: Wanted,
        now: SimTime,
    ) -> Result<(), ApiError> {
        let found = self.table(table)?;
        self.check_place(to, &target)?;
        match wanted {
            Wanted::New => self.check_new(found, to)?,
            Wanted::Replaced if self.is_local(to) => {
                let message = "This simulation of EC2 cannot give a local route another target.";
                return Err(Code::UnsupportedOperation.because(message));
            }
            Wanted::Replaced if !found.has_written(to) => {
                let message = format!(
                    "There is no route defined for '{to}' in the route table. Use CreateRoute instead."
                );
                return Err(Code::InvalidParameterValue.because(message));
            }
            Wanted::Replaced => {}
        }
        self.change(table, to, now, |slot| slot.written = Some(target))
    }

    fn is_local(&self, to: IpNet) -> bool {
        self.vpc.cidrs.iter().any(|cidr| IpNet::V4(cidr.range) == to)
    }

    /// Whether anything may be led from this destination to this target.
    fn check_place(&self, to: IpNet, target: &Target) -> Result<(), ApiError> {
        let is_own = self.vpc.cidrs.iter().any(|cidr| contains(cidr.range.into(), to)) && !self.is_local(to);
        // A whole subnet may be routed to an ENI: that is how traffic is led through an appliance.
        if is_own && !matches!(target, Target::Eni(_)) {
            let message =
                "Route target is not supported. This route only supports interface and instance targets.";
            return Err(Code::InvalidParameterValue.because(message));
        }
        if is_own && !self.subnets.values().any(|subnet| IpNet::V4(subnet.cidr()) == to) {
            let message = format!("Route destination {to} doesn't match any subnet CIDR blocks.");
            return Err(Code::InvalidParameterValue.because(message));
        }
        if RESERVED.into_iter().any(|range| range.parse().is_ok_and(|range| contains(range, to))) {
            let message = format!(
                "The destination CIDR block {to} is within a range that is reserved for AWS services."
            );
            return Err(Code::InvalidParameterValue.because(message));
        }
        Ok(())
    }

    fn check_new(&self, table: &RouteTable, to: IpNet) -> Result<(), ApiError> {
        if self.is_local(to) || table.has_written(to) {
            return Err(
                Code::RouteAlreadyExists.because(format!("The route identified by {to} already exists."))
            );
        }
        let local = if is_ipv6(to) { 0 } else { self.vpc.cidrs.len() };
        let written = table.content.iter().filter(|(_, slot)| slot.written.is_some());
        let written = written.filter(|(other, _)| is_ipv6(**other) == is_ipv6(to));
        if local + written.count() >= self.routing.quota {
            return Err(Code::RouteLimitExceeded.because("The maximum number of routes has been reached."));
        }
        Ok(())
    }

    /// Removes a route that a call made.
    pub(crate) fn delete_route(
        &mut self,
        table: &RouteTableId,
        to: IpNet,
        now: SimTime,
    ) -> Result<(), ApiError> {
        let found = self.table(table)?;
        if self.is_local(to) {
            let message = format!("cannot remove local route {to} in route table {table}");
            return Err(Code::InvalidParameterValue.because(message));
        }
        if !found.has_written(to) {
            let message = format!("no route with destination-cidr-block {to} in route table {table}");
            return Err(Code::RouteNotFound.because(message));
        }
        self.change(table, to, now, |slot| slot.written = None)
    }

    /// Puts a route into a table or takes it out, behind everybody's back and without a check.
    pub(crate) fn place_route(&mut self, table: &RouteTableId, route: &RouteSpec, now: SimTime) {
        let target = self.target_of(&route.target);
        let is_gone = route.target == RouteSpec::NOWHERE;
        // The caller has looked the table up.
        let _ = self.change(table, route.destination, now, |slot| {
            *slot = match route.origin {
                _ if is_gone => Slot::default(),
                origin if origin.is_learnt() => Slot { learnt: Some((target, origin)), written: None },
                _ => Slot { written: Some(target), learnt: None },
            };
        });
    }

    /// Changes where a destination leads, and remembers how it was until the change has settled.
    fn change(
        &mut self,
        id: &RouteTableId,
        to: IpNet,
        now: SimTime,
        change: impl FnOnce(&mut Slot),
    ) -> Result<(), ApiError> {
        let settle = self.routing.settle;
        let local = self.vpc.ranges().any(|range| IpNet::V4(range) == to).then_some(Target::Local);
        let table = self.table_mut(id)?;
        let before = table.content.get(&to).cloned().unwrap_or_default();
        let mut slot = before.clone();
        change(&mut slot);
        let learnt = slot.learnt.as_ref().map(|(target, _)| target);
        let target = slot.written.as_ref().or(learnt).cloned().or(local);
        put(&mut table.content, to, slot);
        while table.unsettled.front().is_some_and(|write| write.at.after(settle) <= now) {
            table.unsettled.pop_front();
        }
        if !settle.is_zero() {
            table.unsettled.push_back(Write { at: now, to, before });
        }
        let target = target.map(Into::into);
        self.happenings.push(Happening::RouteChanged { table: id.clone(), destination: to, target });
        Ok(())
    }
}
