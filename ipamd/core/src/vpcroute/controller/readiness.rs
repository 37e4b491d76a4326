//! What nodes are told: what each has, whether it may serve from it, and what stands in the way (R15).

use super::super::NodeName;
use super::super::call::RouteCall;
use super::super::grant::{ClusterFacts, GRANT_VERSION, NodeGrant, Placement, TableReadiness, VpcFacts};
use super::super::plan::Hold;
use super::super::problem::Problem;
use super::super::sight::Seen;
use super::Controller;
use ipnet::IpNet;
use spur_cloud::{EniId, RouteTableId, SubnetId};
use std::collections::{BTreeMap, BTreeSet};

impl Controller {
    /// Remembers who was ready once: what such a node lacks later is a repair.
    pub(super) fn note_ready(&mut self) {
        let new: Vec<NodeName> =
            self.arrivals.keys().filter(|node| !self.served.contains(*node)).cloned().collect();
        for node in new {
            if self.record.held_by(&node).next().is_some() && self.node_problems(&node).is_empty() {
                self.served.insert(node);
            }
        }
    }

    /// What stands between a node and ready (R15).
    #[must_use]
    pub fn node_problems(&self, node: &NodeName) -> BTreeSet<Problem> {
        let mut problems = BTreeSet::new();
        problems.extend(self.not_observed());
        let Some(spec) = self.nodes.as_ref().and_then(|nodes| nodes.get(node)) else { return problems };
        if self.record.fallback.contains(node) {
            problems.extend(self.settings.fallback.is_none().then_some(Problem::FallbackGone));
            return problems;
        }
        let blocks: Vec<IpNet> = self.record.held_by(node).collect();
        let refused = self.refusals.get(node).into_iter().flatten();
        // A node with a block serves from it, whatever stands between it and another one.
        problems.extend(refused.filter(|_| blocks.is_empty()).cloned());
        let Some(target) = self.targets.get(node) else {
            problems.insert(Problem::NoEni { instance: spec.instance.clone(), address: spec.address });
            return problems;
        };
        if blocks.is_empty() {
            return problems;
        }
        if target.check {
            problems.insert(Problem::CheckOn { eni: target.eni.clone() });
        }
        for block in blocks {
            if !self.is_block_durable(block) {
                problems.insert(Problem::NotDurable { block });
            }
            problems.extend(self.managed().filter_map(|table| self.route_problem(table, block, &target.eni)));
        }
        if self.managed().next().is_none() {
            problems.insert(Problem::NoTable { subnet: target.subnet.clone() });
        }
        let remedies = problems.iter().filter_map(|problem| problem.remedy(&target.eni));
        let hindrances: Vec<Problem> = remedies.filter_map(|call| self.hindrance(&call)).collect();
        problems.extend(hindrances);
        problems
    }

    /// Why a call that would help is not made: a missing permission or a full table says more than that a route is not there.
    fn hindrance(&self, call: &RouteCall) -> Option<Problem> {
        match self.hold(call)? {
            Hold::Problem(problem) => Some(problem),
            Hold::Running | Hold::NotFresh => None,
        }
    }

    /// Why a route does not serve.
    fn route_problem(&self, table: &RouteTableId, block: IpNet, target: &EniId) -> Option<Problem> {
        let table = table.clone();
        match self.sights.seen(&table, block) {
            Seen::Absent => Some(Problem::Absent { table, block }),
            Seen::Foreign(what) => Some(Problem::Foreign { table, block, what }),
            Seen::ToEni { eni, .. } if eni != *target => Some(Problem::WrongTarget { table, block, eni }),
            Seen::ToEni { blackhole: true, .. } => Some(Problem::Blackhole { table, block }),
            Seen::ToEni { confirmed: false, .. } | Seen::Unclear => {
                Some(Problem::Unconfirmed { table, block })
            }
            Seen::ToEni { .. } => None,
        }
    }

    /// What every node is told. A node that is not in here and holds no block ([`Self::held`]) has no grant any more.
    #[must_use]
    pub fn grants(&self) -> BTreeMap<NodeName, NodeGrant> {
        let covered = self.covered();
        let nodes = self.nodes.iter().flatten();
        nodes.map(|(node, spec)| (node.clone(), self.grant(node, &spec.instance, &covered))).collect()
    }

    /// Blocks that are a node's, even if the node is not listed now.
    pub fn held<'a>(&'a self, node: &NodeName) -> impl Iterator<Item = IpNet> + use<'a> {
        self.record.held_by(node)
    }

    fn grant(
        &self,
        node: &NodeName,
        instance: &spur_cloud::InstanceId,
        covered: &BTreeMap<SubnetId, (IpNet, RouteTableId)>,
    ) -> NodeGrant {
        let problems = self.node_problems(node);
        let blocks: BTreeSet<IpNet> =
            self.record.held_by(node).filter(|block| self.is_block_durable(*block)).collect();
        let target = self.targets.get(node);
        let mut tables = BTreeMap::new();
        if let Some(target) = target.filter(|_| !blocks.is_empty()) {
            for table in self.managed() {
                let problem = blocks.iter().find_map(|block| self.route_problem(table, *block, &target.eni));
                let state = problem.map_or(TableReadiness::Active, |problem| TableReadiness::Pending {
                    reason: problem.to_string(),
                });
                tables.insert(table.clone(), state);
            }
        }
        let active = |table: &RouteTableId| tables.get(table) == Some(&TableReadiness::Active);
        let covered_subnets = covered
            .iter()
            .filter(|(_, (_, table))| active(table))
            .map(|(id, (cidr, _))| (id.clone(), *cidr))
            .collect();
        let ready = problems.is_empty() && !blocks.is_empty();
        let placement = match &self.settings.fallback {
            Some(pool) if self.record.fallback.contains(node) => Placement::EniPool { pool: pool.clone() },
            _ if blocks.is_empty() => Placement::None,
            _ => Placement::VpcRoute {
                blocks,
                eni: target.map(|target| target.eni.clone()),
                source_dest_check_off: target.is_some_and(|target| !target.check),
                tables,
            },
        };
        NodeGrant {
            version: GRANT_VERSION,
            node: node.clone(),
            instance: instance.clone(),
            placement,
            ready,
            waits: problems.iter().map(ToString::to_string).collect(),
            vpc: self.vpc.as_ref().map(|vpc| VpcFacts { id: vpc.id.clone(), cidrs: vpc.cidrs.clone() }),
            covered_subnets,
        }
    }

    /// Subnets of the VPC that route by a managed table.
    fn covered(&self) -> BTreeMap<SubnetId, (IpNet, RouteTableId)> {
        let managed: BTreeSet<_> = self.managed().collect();
        let subnets = self.subnets.iter().flatten();
        let by = subnets.filter_map(|(id, cidr)| {
            let table = super::super::discovery::effective(self.sights.tables(), id)?;
            managed.contains(&table.id).then(|| (id.clone(), (*cidr, table.id.clone())))
        });
        by.collect()
    }

    /// What all nodes are told.
    #[must_use]
    pub fn cluster_facts(&self) -> ClusterFacts {
        ClusterFacts {
            version: GRANT_VERSION,
            cluster: self.settings.cluster.clone(),
            pool_cidrs: self.settings.pool.cidrs.clone(),
            node_addresses: self
                .targets
                .iter()
                .map(|(node, target)| (node.clone(), target.addresses.clone()))
                .collect(),
        }
    }
}
