//! What must never happen, judged from outside: from the calls as they take effect, the tables as they really are, and the list of nodes.

use ipnet::IpNet;
use spur_cloud::fake::World;
use spur_cloud::{RouteOrigin, RouteState, RouteTable, RouteTableId, RouteTarget};
use spur_ipamd_core::vpcroute::{BlockState, Change, NodeName, Nodes, Record, RouteCall, effective};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a foreign route that took the place of one of ours may go unseen: what a read may lag, what it may be old when
/// a call is begun, and two calls under way. EC2 knows no conditional write.
const BLIND: Duration = Duration::from_secs(60);

/// How long the controller may not know of a change of the list, or of a machine.
const NEWS: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// Since when each node is on the list, with the same machine.
    listed: BTreeMap<NodeName, (spur_cloud::InstanceId, Duration)>,
    /// When routes were put behind the controller's back.
    foreign: BTreeMap<(RouteTableId, IpNet), Duration>,
    pub(crate) violations: Vec<String>,
}

fn is_foreign(route: &spur_cloud::Route) -> bool {
    route.origin != RouteOrigin::CreateRoute || !matches!(route.target, RouteTarget::Eni(_))
}

impl Oracle {
    pub(crate) fn told(&mut self, nodes: &Nodes, now: Duration) {
        self.listed
            .retain(|node, (instance, _)| nodes.get(node).is_some_and(|spec| spec.instance == *instance));
        for (node, spec) in nodes {
            self.listed.entry(node.clone()).or_insert_with(|| (spec.instance.clone(), now));
        }
    }

    pub(crate) fn foreign(&mut self, table: &RouteTableId, destination: IpNet, now: Duration) {
        self.foreign.insert((table.clone(), destination), now);
    }

    fn since(&self, node: &NodeName, now: Duration) -> Option<Duration> {
        self.listed.get(node).map(|(_, since)| now.saturating_sub(*since))
    }

    /// A write takes effect now.
    pub(crate) fn effect(
        &mut self,
        call: &RouteCall,
        now: Duration,
        tables: &[RouteTable],
        record: &Record,
        world: &World,
    ) {
        let (table, block) = match call {
            RouteCall::Create { table, block, .. }
            | RouteCall::Replace { table, block, .. }
            | RouteCall::Delete { table, block } => (table, *block),
            _ => return,
        };
        let owner = record.blocks().get(&block);
        let Some(owner) = owner else {
            return self.violated(format!("{now:?}: {call} of a block that the store does not know"));
        };
        let Some(found) = tables.iter().find(|at| at.id == *table) else { return };
        if found.is_edge() {
            self.violated(format!("{now:?}: {call} in an edge table"));
        }
        let route = found.route(block);
        let put = self.foreign.get(&(table.clone(), block)).copied().unwrap_or_default();
        let is_write = !matches!(call, RouteCall::Create { .. });
        if is_write && route.is_some_and(is_foreign) && now.saturating_sub(put) > BLIND {
            self.violated(format!("{now:?}: {call} changes {route:?}, which is not ours"));
        }
        let is_live = route.is_some_and(|route| route.state == RouteState::Active);
        let stays = self.since(&owner.node, now).is_some_and(|since| since > NEWS);
        match call {
            // A route that leads nowhere cuts off nobody, nor does one in a table that no node needs.
            RouteCall::Delete { .. } if stays && is_live && self.is_needed(table, tables, world) => {
                self.violated(format!("{now:?}: {call} cuts off {}, which stays", owner.node));
            }
            RouteCall::Replace { target, .. } | RouteCall::Create { target, .. } if stays => {
                let instance = self.listed.get(&owner.node).map(|(instance, _)| instance);
                let at = world.true_enis().get(target).and_then(|eni| eni.attachment.as_ref());
                if at.and_then(|at| at.instance.as_ref()) != instance {
                    self.violated(format!("{now:?}: {call} leads away from {}, which stays", owner.node));
                }
            }
            _ => {}
        }
    }

    /// Whether a machine on the list routes by the table.
    fn is_needed(&self, table: &RouteTableId, tables: &[RouteTable], world: &World) -> bool {
        let enis = world.true_enis();
        let listed = |eni: &&spur_cloud::Eni| {
            let at = eni.attachment.as_ref().and_then(|at| at.instance.as_ref());
            self.listed.values().any(|(instance, _)| at == Some(instance))
        };
        let mut by = enis.values().filter(listed).filter_map(|eni| effective(tables.iter(), &eni.subnet));
        by.any(|at| at.id == *table)
    }

    /// A change of the record is durable now.
    pub(crate) fn stored(&mut self, before: &Record, change: &Change, tables: &[RouteTable]) {
        let Change::PutBlock(block, after) = change else { return };
        let old = before.blocks().get(block);
        if old.is_some_and(|old| old.node != after.node) {
            self.violated(format!(
                "{block} goes from {} to {} without having been free",
                old.unwrap().node,
                after.node
            ));
        }
        let overlaps = |other: &IpNet| other != block && (other.contains(block) || block.contains(other));
        if let Some((other, known)) = before.blocks().iter().find(|(other, _)| overlaps(other)) {
            self.violated(format!("{block} of {} overlaps {other} of {}", after.node, known.node));
        }
        let adopted = |table: &RouteTable| matches!(table.route(*block), Some(route) if !is_foreign(route));
        if old.is_none() && after.state == BlockState::Held && tables.iter().any(adopted) {
            self.violated(format!("{block} is given to {} while a table has a route to it", after.node));
        }
    }

    pub(crate) fn violated(&mut self, what: String) {
        self.violations.push(what);
    }
}
