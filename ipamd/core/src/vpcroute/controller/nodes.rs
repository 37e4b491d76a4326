//! Who has which block: nodes come, get blocks, leave; blocks lose their routes, rest, and are free again (R2). Nothing here
//! happens before everything was read once, and nobody loses anything because the list of nodes is empty (R3).

use super::super::blocks::Taken;
use super::super::family::overlap;
use super::super::problem::Problem;
use super::super::record::{BlockRecord, BlockState, Change};
use super::super::settings::{BLOCKS_MAX, BlocksFrom, NodeSpec, Nodes};
use super::super::sight::{Seen, is_foreign};
use super::super::{Family, NodeName};
use super::Controller;
use crate::time::Timestamp;
use ipnet::IpNet;
use spur_cloud::{EniId, RouteOrigin, RouteTableId, RouteTarget};
use std::collections::{BTreeMap, BTreeSet};

/// Routes in each table, by family, as the quota counts them.
type Counts = BTreeMap<(RouteTableId, Family), u32>;

impl Controller {
    pub(super) fn take_nodes(&mut self, nodes: Nodes) {
        self.arrivals.retain(|node, _| nodes.contains_key(node));
        self.served.retain(|node| nodes.contains_key(node));
        for node in nodes.keys() {
            self.serial += 1;
            self.arrivals.entry(node.clone()).or_insert(self.serial);
        }
        self.nodes = Some(nodes);
        self.forget_targets();
        if self.arrivals.keys().any(|node| self.targets.get(node).is_none()) {
            self.reads.find_enis(self.now);
        }
    }

    pub(super) fn update_blocks(&mut self) {
        self.note_departures();
        self.finalize();
        self.cool();
        self.refusals.clear();
        self.adopt();
        self.allocate();
        self.note_enis();
    }

    /// A block that nobody has becomes a node's.
    fn give(&mut self, block: IpNet, node: &NodeName) {
        let enis = self.targets.get(node).map(|target| target.eni.clone()).into_iter().collect();
        let held = BlockRecord { node: node.clone(), state: BlockState::Held, enis };
        self.book.change(&mut self.record, Change::PutBlock(block, held));
    }

    /// Notes where routes to blocks are to lead from now on, and forgets where none leads any more (R2). Nothing waits until it is durable:
    /// as long as the machine is the same, the target tells it, too.
    fn note_enis(&mut self) {
        let mut changes = Vec::new();
        for (block, known) in self.record.blocks.iter().filter(|(_, known)| known.state == BlockState::Held) {
            let Some(target) = self.targets.get(&known.node) else { continue };
            if known.enis.len() == 1 && known.enis.contains(&target.eni) {
                continue;
            }
            let others = known.enis.iter().filter(|eni| self.may_lead(*block, eni)).cloned();
            let enis: BTreeSet<_> = others.chain([target.eni.clone()]).collect();
            if enis != known.enis {
                changes.push((*block, BlockRecord { enis, ..known.clone() }));
            }
        }
        for (block, known) in changes {
            self.book.change(&mut self.record, Change::PutBlock(block, known));
        }
    }

    /// Whether a table may lead the block to this ENI.
    fn may_lead(&self, block: IpNet, to: &EniId) -> bool {
        self.record.tables.keys().any(|table| match self.sights.seen(table, block) {
            Seen::ToEni { eni, .. } => eni == *to,
            Seen::Unclear => true,
            Seen::Absent | Seen::Foreign(_) => false,
        })
    }

    /// Blocks that no table shows rest, from the beginning if a route comes back; rested blocks that a read since then shows in no table are
    /// free.
    fn cool(&mut self) {
        let mut changes = Vec::new();
        let oldest = self.record.tables.keys().filter_map(|id| self.sights.get(id)).map(|at| at.begun).min();
        let read = oldest.unwrap_or(self.now);
        for (block, known) in &self.record.blocks {
            match known.state {
                BlockState::Finalizing if self.is_block_durable(*block) && self.is_gone(*block) => {
                    let until = self.now.after(self.settings.timings.cooldown);
                    changes.push((*block, Some(BlockState::Cooling { until })));
                }
                BlockState::Cooling { .. } if self.is_carried(*block) => {
                    changes.push((*block, Some(BlockState::Finalizing)));
                }
                BlockState::Cooling { until } if read >= until && self.is_gone(*block) => {
                    changes.push((*block, None))
                }
                _ => {}
            }
        }
        for (block, change) in changes {
            match change {
                Some(state) => self.book.put(&mut self.record, block, state),
                None => self.book.change(&mut self.record, Change::RemoveBlock(block)),
            }
        }
    }

    /// Whether a table has a route of ours to the block.
    fn is_carried(&self, block: IpNet) -> bool {
        let carries = |table| matches!(self.sights.seen(table, block), Seen::ToEni { .. });
        self.record.tables.keys().any(carries)
    }

    /// Whether reads of all tables show no route of ours to the block, nothing is under way that makes one, and no write of ours is so
    /// new that reads may not show it.
    fn is_gone(&self, block: IpNet) -> bool {
        let gone_in = |table: &RouteTableId| match self.sights.get(table) {
            Some(sight) => sight.missing.is_none() && sight.is_absent_by_read(block),
            None => true,
        };
        let writing = |call: &super::RouteCall| {
            use super::RouteCall::{Create, Delete, Replace};
            matches!(call, Create { block: at, .. } | Replace { block: at, .. } | Delete { block: at, .. } if *at == block)
        };
        self.record.tables.keys().all(gone_in) && !self.calls.values().any(|running| writing(&running.call))
    }

    /// Routes that lead to a node's ENI and look like ours are ours: the store was lost, the pods were not.
    fn adopt(&mut self) {
        if self.settings.pool.blocks_from == BlocksFrom::NodeSpec {
            return;
        }
        let listed = self.targets.iter().filter(|(node, _)| self.arrivals.contains_key(*node));
        let owners: BTreeMap<_, _> = listed.map(|(node, target)| (&target.eni, node)).collect();
        let mut found: BTreeMap<IpNet, NodeName> = BTreeMap::new();
        for (destination, route) in
            self.managed().filter_map(|table| self.sights.get(table)).flat_map(|at| at.routes())
        {
            let RouteTarget::Eni(eni) = &route.target else { continue };
            let Some(node) = owners.get(eni).filter(|_| !is_foreign(route)) else { continue };
            let is_known = || self.record.blocks.keys().any(|block| overlap(*block, *destination));
            if self.record.blocks.contains_key(destination) || !self.settings.pool.is_block(*destination) {
                continue;
            }
            if !is_known() {
                found.entry(*destination).or_insert_with(|| (*node).clone());
            }
        }
        for (block, node) in found {
            if self.held_of(&node, Family::of(block)) < usize::from(BLOCKS_MAX) {
                self.counters.adopted += 1;
                self.give(block, &node);
            }
        }
    }

    fn held_of(&self, node: &NodeName, family: Family) -> usize {
        self.record.held_by(node).filter(|block| Family::of(*block) == family).count()
    }

    /// Gives nodes the blocks that they want, in the order in which they came.
    fn allocate(&mut self) {
        // Out of the way while the rest of the controller changes.
        let Some(nodes) = self.nodes.take() else { return };
        let mut order: Vec<_> = self.arrivals.iter().map(|(node, at)| (*at, node.clone())).collect();
        order.sort_unstable();
        let (mut taken, mut counts) = (None, None);
        for (_, node) in order {
            let Some(spec) = nodes.get(&node) else { continue };
            let wants = self.wants(&node, spec);
            if wants.is_empty() || self.record.fallback.contains(&node) {
                continue;
            }
            let taken = taken.get_or_insert_with(|| self.taken());
            let counts = counts.get_or_insert_with(|| self.counts());
            let refused = self.allocate_to(&node, spec, &wants, taken, counts);
            if refused.iter().any(|problem| matches!(problem, Problem::Admission { .. }))
                && self.settings.fallback.is_some()
                && self.record.held_by(&node).next().is_none()
            {
                self.book.change(&mut self.record, Change::PutFallback(node.clone()));
            }
            if !refused.is_empty() {
                self.refusals.insert(node, refused);
            }
        }
        self.nodes = Some(nodes);
    }

    /// How many blocks of which family a node lacks.
    fn wants(&self, node: &NodeName, spec: &NodeSpec) -> Vec<Family> {
        let mut wants = Vec::new();
        if self.settings.pool.blocks_from == BlocksFrom::NodeSpec {
            let lacking =
                spec.pod_cidrs.iter().filter(|cidr| !self.record.held_by(node).any(|held| held == **cidr));
            wants.extend(lacking.map(|cidr| Family::of(*cidr)));
            if spec.pod_cidrs.is_empty() {
                wants.push(Family::V4);
            }
            return wants;
        }
        for family in self.settings.pool.families() {
            let wanted = usize::from(spec.blocks.clamp(1, BLOCKS_MAX));
            wants.extend((self.held_of(node, family)..wanted).map(|_| family));
        }
        wants
    }

    fn allocate_to(
        &mut self,
        node: &NodeName,
        spec: &NodeSpec,
        wants: &[Family],
        taken: &mut Taken,
        counts: &mut Counts,
    ) -> BTreeSet<Problem> {
        let mut refused: BTreeSet<Problem> =
            self.pool_mistakes.iter().map(|mistake| Problem::Pool { mistake: mistake.clone() }).collect();
        if self.targets.get(node).is_none() {
            refused.insert(Problem::NoEni { instance: spec.instance.clone(), address: spec.address });
        }
        for family in Family::ALL {
            let more = wants.iter().filter(|wanted| **wanted == family).count();
            refused.extend(self.admission(family, more, counts));
        }
        if !refused.is_empty() {
            return refused;
        }
        let blocks = match self.settings.pool.blocks_from {
            BlocksFrom::Pool => {
                let mut blocks = Vec::new();
                for family in wants {
                    match taken.free(&self.settings.pool, *family) {
                        Some(block) => {
                            taken.add(block);
                            blocks.push(block);
                        }
                        None => drop(refused.insert(Problem::NoBlock { family: *family })),
                    }
                }
                blocks
            }
            BlocksFrom::NodeSpec => self.blocks_of_spec(node, spec, &mut refused),
        };
        for block in blocks {
            for table in self.managed().cloned().collect::<Vec<_>>() {
                *counts.entry((table, Family::of(block))).or_default() += 1;
            }
            self.give(block, node);
        }
        refused
    }

    /// Blocks that Kubernetes gave, as far as they can be used.
    fn blocks_of_spec(
        &self,
        node: &NodeName,
        spec: &NodeSpec,
        refused: &mut BTreeSet<Problem>,
    ) -> Vec<IpNet> {
        if spec.pod_cidrs.is_empty() {
            refused.insert(Problem::NoPodCidr);
        }
        let mut good = Vec::new();
        for cidr in &spec.pod_cidrs {
            let other =
                self.record.blocks.iter().find(|(block, known)| {
                    overlap(**block, *cidr) && (known.node != *node || **block != *cidr)
                });
            let same_family = spec.pod_cidrs.iter().take_while(|before| *before != cidr);
            let before = same_family.filter(|before| Family::of(**before) == Family::of(*cidr)).count();
            let why = if !self.settings.pool.holds(*cidr) {
                "it is not inside the pool's CIDRs".to_owned()
            } else if let Some((block, known)) = other {
                format!("it overlaps {block} of node {}, which is not free yet", known.node)
            } else if before >= usize::from(BLOCKS_MAX) {
                format!("a node has at most {BLOCKS_MAX} blocks of a family")
            } else {
                if !self.record.blocks.contains_key(cidr) {
                    good.push(*cidr);
                }
                continue;
            };
            refused.insert(Problem::BadPodCidr { node: node.clone(), cidr: *cidr, why });
        }
        good
    }

    /// Everything that no new block may overlap.
    fn taken(&self) -> Taken {
        let mut taken = Taken::default();
        self.record.blocks.keys().for_each(|block| taken.add(*block));
        for sight in self.record.tables.keys().filter_map(|table| self.sights.get(table)) {
            let inside = sight.destinations().filter(|net| self.settings.pool.holds(*net));
            inside.for_each(|net| taken.add(net));
        }
        taken
    }

    /// What each table holds, or will hold when all is in sync. Propagated routes have a quota of their own.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        for table in self.managed() {
            let Some(sight) = self.sights.get(table) else { continue };
            let counted = |origin: &RouteOrigin| {
                matches!(
                    origin,
                    RouteOrigin::CreateRoute | RouteOrigin::CreateRouteTable | RouteOrigin::Other(_)
                )
            };
            let there =
                sight.routes().iter().filter(|(_, route)| counted(&route.origin)).map(|(net, _)| *net);
            let held = self.record.blocks.iter().filter(|(block, known)| {
                known.state == BlockState::Held || matches!(sight.seen(**block), Seen::ToEni { .. })
            });
            let all: BTreeSet<IpNet> = there.chain(held.map(|(block, _)| *block)).collect();
            for net in all {
                *counts.entry((table.clone(), Family::of(net))).or_default() += 1;
            }
            // Of which family a list is, and how many entries of the quota it takes, is another question to EC2.
            let lists = sight.table.routes.iter().filter(|route| route.destination.cidr().is_none()).count();
            for family in Family::ALL.into_iter().filter(|_| lists > 0) {
                *counts.entry((table.clone(), family)).or_default() +=
                    u32::try_from(lists).unwrap_or(u32::MAX);
            }
        }
        counts
    }

    /// Routes of a family that a table holds at most. EC2 does not tell when it takes more than it took once, and is not asked for a
    /// route that nobody lacks: then, after a while, one node is let in to find out.
    pub(super) fn quota(&self, table: &RouteTableId, family: Family) -> u32 {
        let configured = match family {
            Family::V4 => self.settings.quota.v4,
            Family::V6 => self.settings.quota.v6,
        };
        let is_lately = |at: Timestamp| self.now < at.after(self.settings.timings.backoff_cap);
        match self.learned.get(&(table.clone(), family)) {
            Some((learned, at)) if is_lately(*at) || self.absent_in(table, family) > 0 => {
                configured.min(*learned)
            }
            _ => configured,
        }
    }

    /// Tables that have no place for more blocks of a node (R17).
    fn admission<'a>(
        &'a self,
        family: Family,
        more: usize,
        counts: &'a Counts,
    ) -> impl Iterator<Item = Problem> + 'a {
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        self.managed().filter(move |_| more > 0).filter_map(move |table| {
            let limit = self.quota(table, family) * self.settings.quota.admission_percent / 100;
            let routes = counts.get(&(table.clone(), family)).copied().unwrap_or(0).saturating_add(more);
            (routes > limit).then(|| Problem::Admission { table: table.clone(), family, routes, limit })
        })
    }
}
