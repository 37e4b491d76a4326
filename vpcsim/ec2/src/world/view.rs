//! The world's [`State`] for those outside: subnets and nodes in the order of the scenario, ENIs by id, and of each node its
//! ENIs with the primary one first.
//!
//! Made new at each look; nothing here is kept, so a look can never be stale.

use super::World;
use super::eni::Eni;
use super::routing::{RouteTable, Target};
use crate::id::EniId;
use crate::view::{
    AttachmentView, EniView, NodeView, RouteTableView, RouteView, State, SubnetView, TargetView,
};

impl From<Target> for TargetView {
    fn from(target: Target) -> Self {
        match target {
            Target::Local => Self::Local,
            Target::Eni(id) => Self::Eni(id),
            Target::Internet => Self::Internet,
            Target::Foreign(id) => Self::Foreign(id),
        }
    }
}

impl World {
    pub(crate) fn state(&self) -> State {
        let mut subnets: Vec<_> = self.subnets.values().collect();
        subnets.sort_by_key(|subnet| subnet.ordinal);
        let subnets = subnets.into_iter().map(|subnet| SubnetView {
            id: subnet.id.clone(),
            name: subnet.name.clone(),
            zone: subnet.zone.clone(),
            cidr: subnet.cidr(),
            route_table: self
                .table_of(&subnet.id)
                .map(|table| table.id.clone())
                .expect("there is always a main table"),
            gateway: subnet.gateway(),
            free: subnet.free(),
            held: subnet.held(),
        });
        let mut nodes: Vec<_> = self.instances.values().collect();
        nodes.sort_by_key(|instance| instance.ordinal);
        let nodes = nodes.into_iter().map(|instance| NodeView {
            name: instance.node.clone(),
            instance: instance.id.clone(),
            instance_type: instance.instance_type.clone(),
            subnet: instance.subnet.clone(),
            zone: instance.zone.clone(),
            access_key: instance.access_key.clone(),
            state: if instance.terminated { "terminated" } else { "running" },
            enis: self.enis_of(&instance.id).into_iter().map(|eni| eni.id.clone()).collect(),
        });
        State {
            name: self.name.clone(),
            region: self.region.clone(),
            account: self.account.clone(),
            vpc: self.vpc.id.clone(),
            vpc_cidrs: self.vpc.ranges().collect(),
            internet: self.internet,
            subnets: subnets.collect(),
            internet_gateway: self.routing.internet.clone(),
            route_tables: self
                .routing
                .tables
                .values()
                .map(|table| (table.id.clone(), self.show_table(table)))
                .collect(),
            nodes: nodes.collect(),
            enis: self.enis.values().map(|eni| (eni.id.clone(), self.show(eni))).collect(),
        }
    }

    fn show_table(&self, table: &RouteTable) -> RouteTableView {
        let routes = self.routes(table).into_iter().map(|route| RouteView {
            destination: route.destination,
            target: route.target.into(),
            origin: route.origin.text(),
            state: if route.is_active { "active" } else { "blackhole" },
        });
        RouteTableView {
            name: table.name.clone(),
            main: table.is_main(),
            routes: routes.collect(),
            tags: table.tags.clone(),
        }
    }

    pub(crate) fn view_of(&self, eni: &EniId) -> Option<EniView> {
        self.enis.get(eni).map(|eni| self.show(eni))
    }

    fn show(&self, eni: &Eni) -> EniView {
        let attachment = eni.attachment.as_ref().map(|place| AttachmentView {
            node: self
                .instances
                .get(&place.instance)
                .map(|instance| instance.node.clone())
                .unwrap_or_default(),
            device_index: place.device_index,
            card: place.card,
            status: place.status.text(),
            delete_on_termination: place.delete_on_termination,
        });
        EniView {
            id: eni.id.clone(),
            mac: eni.mac,
            subnet: eni.subnet.clone(),
            security_groups: eni.groups.iter().cloned().collect(),
            primary: eni.primary,
            secondary: eni.secondary.clone(),
            prefixes: eni.prefixes.clone(),
            source_dest_check: eni.source_dest_check,
            description: eni.description.clone(),
            tags: eni.tags.clone(),
            status: eni.status(),
            attachment,
        }
    }
}
