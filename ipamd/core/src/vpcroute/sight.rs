//! What is known of the routes in each table: what the last read showed, corrected by what our own calls brought since.
//!
//! After a write, reads flip between before and after for a while. So a read that was begun within the settle time after a write, and
//! contradicts it, is taken for an old one (R10), with one exception: a route that is not ours is believed at once, because
//! to overlook it could mean to delete it.

use crate::time::Timestamp;
use ipnet::IpNet;
use spur_cloud::{EniId, Route, RouteOrigin, RouteState, RouteTable, RouteTableId, RouteTarget};
use std::collections::BTreeMap;
use std::time::Duration;

/// A route to one destination in one table, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// There is none.
    Absent,
    /// One to an ENI, made by a call: ours, if the destination is.
    ToEni {
        /// Which.
        eni: EniId,
        /// Its target is gone or not attached.
        blackhole: bool,
        /// A read after the last write showed it so, and active.
        confirmed: bool,
        /// We wrote it within the settle time.
        fresh: bool,
    },
    /// One that is not ours; what it is.
    Foreign(String),
    /// A call had no clear outcome, or was contradicted: only a read can tell.
    Unclear,
}

/// What a call of ours brought.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    at: Timestamp,
    /// To which ENI; none: no route.
    target: Option<EniId>,
    confirmed: bool,
}

/// Why only a read can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// The answer was lost.
    Lost,
    /// EC2 says that there is a route.
    Exists,
}

/// One table.
#[derive(Debug, Clone)]
pub(super) struct TableSight {
    /// As the last read showed it.
    pub(super) table: RouteTable,
    /// When that read began.
    pub(super) begun: Timestamp,
    /// Since when reads do not show the table at all.
    pub(super) missing: Option<Timestamp>,
    routes: BTreeMap<IpNet, Route>,
    written: BTreeMap<IpNet, Written>,
    doubts: BTreeMap<IpNet, (Timestamp, Doubt)>,
}

/// Whether a route is somebody else's whatever its destination: of another origin, or to something that is no ENI.
pub(super) fn is_foreign(route: &Route) -> bool {
    route.origin != RouteOrigin::CreateRoute || !matches!(route.target, RouteTarget::Eni(_))
}

impl TableSight {
    fn new(table: RouteTable, begun: Timestamp) -> Self {
        let (routes, written, doubts) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut sight = Self { table, begun, missing: None, routes, written, doubts };
        sight.index();
        sight
    }

    fn index(&mut self) {
        let by_cidr = |route: &Route| Some((route.destination.cidr()?, route.clone()));
        self.routes = self.table.routes.iter().filter_map(by_cidr).collect();
    }

    /// Takes in a read of the table that began at `begun`.
    fn observe(&mut self, table: RouteTable, begun: Timestamp, settle: Duration) {
        if begun < self.begun {
            return;
        }
        (self.table, self.begun, self.missing) = (table, begun, None);
        self.index();
        let routes = &self.routes;
        self.written.retain(|destination, written| {
            let agrees = match (&written.target, routes.get(destination)) {
                (None, None) => true,
                (Some(eni), Some(route)) => {
                    route.target == RouteTarget::Eni(eni.clone()) && route.state == RouteState::Active
                }
                _ => false,
            };
            written.confirmed |= agrees && begun >= written.at;
            begun < written.at.after(settle)
        });
        self.doubts.retain(|destination, (since, doubt)| {
            let told = match doubt {
                Doubt::Lost => true,
                Doubt::Exists => routes.contains_key(destination) || begun >= since.after(settle),
            };
            begun < *since || !told
        });
    }

    /// What is known of a destination.
    pub(super) fn seen(&self, destination: IpNet) -> Seen {
        let route = self.routes.get(&destination);
        if let Some(route) = route.filter(|route| is_foreign(route)) {
            return Seen::Foreign(format!("{} ({})", route.target, origin_name(&route.origin)));
        }
        if self.doubts.contains_key(&destination) {
            return Seen::Unclear;
        }
        let eni_of = |route: &Route| match &route.target {
            RouteTarget::Eni(eni) => Some(eni.clone()),
            RouteTarget::Local | RouteTarget::Other(_) => None,
        };
        let found = route.and_then(|route| Some((eni_of(route)?, route.state != RouteState::Active)));
        match (self.written.get(&destination), found) {
            (Some(Written { target: Some(eni), confirmed, .. }), found) => {
                let blackhole = found.is_some_and(|(seen, blackhole)| seen == *eni && blackhole);
                Seen::ToEni { eni: eni.clone(), blackhole, confirmed: *confirmed && !blackhole, fresh: true }
            }
            (Some(Written { target: None, .. }), _) | (None, None) => Seen::Absent,
            (None, Some((eni, blackhole))) => {
                Seen::ToEni { eni, blackhole, confirmed: !blackhole, fresh: false }
            }
        }
    }

    /// Routes as read, by destination.
    pub(super) const fn routes(&self) -> &BTreeMap<IpNet, Route> {
        &self.routes
    }

    /// Whether the last read showed no route of ours, and no write of ours is so new that it may not show it.
    pub(super) fn is_absent_by_read(&self, destination: IpNet) -> bool {
        let ours = self.routes.get(&destination).is_some_and(|route| !is_foreign(route));
        !ours && !self.written.contains_key(&destination) && !self.doubts.contains_key(&destination)
    }

    /// Destinations that are written or read, for which [`Self::seen`] says something.
    pub(super) fn destinations(&self) -> impl Iterator<Item = IpNet> {
        let written = self.written.keys().filter(|net| !self.routes.contains_key(net));
        self.routes.keys().chain(written).copied()
    }

    /// Whether a read is needed to see what became of calls.
    pub(super) fn wants_look(&self) -> bool {
        !self.doubts.is_empty() || self.written.values().any(|written| !written.confirmed)
    }
}

/// EC2's name of an origin.
pub(super) fn origin_name(origin: &RouteOrigin) -> &str {
    match origin {
        RouteOrigin::CreateRouteTable => "CreateRouteTable",
        RouteOrigin::CreateRoute => "CreateRoute",
        RouteOrigin::EnableVgwRoutePropagation => "EnableVgwRoutePropagation",
        RouteOrigin::Advertisement => "Advertisement",
        RouteOrigin::Other(name) => name,
    }
}

/// All tables that were read.
#[derive(Debug, Clone, Default)]
pub(super) struct Sights(BTreeMap<RouteTableId, TableSight>);

impl Sights {
    /// Takes in a read of `asked` (none: of every table of the VPC).
    pub(super) fn observe<'a>(
        &mut self,
        tables: Vec<RouteTable>,
        asked: impl Iterator<Item = &'a RouteTableId>,
        begun: Timestamp,
        settle: Duration,
    ) {
        for id in asked {
            if let Some(sight) = self.0.get_mut(id).filter(|_| !tables.iter().any(|table| table.id == *id)) {
                sight.missing.get_or_insert(begun);
            }
        }
        for table in tables {
            match self.0.get_mut(&table.id) {
                Some(sight) => sight.observe(table, begun, settle),
                None => drop(self.0.insert(table.id.clone(), TableSight::new(table, begun))),
            }
        }
    }

    /// Tables that no read has shown for the settle time are gone.
    pub(super) fn forget_gone(&mut self, begun: Timestamp, settle: Duration) -> Vec<RouteTableId> {
        let gone = |sight: &TableSight| sight.missing.is_some_and(|since| begun >= since.after(settle));
        let ids: Vec<_> =
            self.0.values().filter(|sight| gone(sight)).map(|sight| sight.table.id.clone()).collect();
        self.0.retain(|_, sight| !gone(sight));
        ids
    }

    pub(super) fn get(&self, table: &RouteTableId) -> Option<&TableSight> {
        self.0.get(table)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &RouteTableId> {
        self.0.keys()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &TableSight> + Clone {
        self.0.values()
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &RouteTable> + Clone {
        self.0.values().map(|sight| &sight.table)
    }

    pub(super) fn seen(&self, table: &RouteTableId, destination: IpNet) -> Seen {
        self.0.get(table).map_or(Seen::Unclear, |sight| sight.seen(destination))
    }

    /// A call succeeded, or was told that there is no such route.
    pub(super) fn written(
        &mut self,
        table: &RouteTableId,
        destination: IpNet,
        target: Option<EniId>,
        now: Timestamp,
    ) {
        if let Some(sight) = self.0.get_mut(table) {
            sight.doubts.remove(&destination);
            sight.written.insert(destination, Written { at: now, target, confirmed: false });
        }
    }

    /// Only a read can tell what there is.
    pub(super) fn doubt(&mut self, table: &RouteTableId, destination: IpNet, doubt: Doubt, now: Timestamp) {
        if let Some(sight) = self.0.get_mut(table) {
            sight.written.remove(&destination);
            sight.doubts.insert(destination, (now, doubt));
        }
    }
}
