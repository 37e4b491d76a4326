//! Supply in `vpcRoute` mode: the addresses of the blocks that the controller granted. They stay on the primary ENI's netdev, no call is
//! made, and the pool is never larger or smaller than its blocks. Holding, resting and the kernel are as in `eni` mode.
//!
//! Of an IPv4 block the first and the last address are left out: no pod needs them, and some software takes them for the network and its
//! broadcast. An address that a pod holds outside the blocks is kept until the pod is gone, like any address that a pod holds.

use super::Pool;
use crate::eni::{EniState, Phase, Role};
use crate::event::BlockGrant;
use crate::finding::Finding;
use crate::record::{EniRecord, Place, Record};
use crate::settings::{NodeFacts, PoolSettings};
use crate::time::Timestamp;
use crate::wait::Wait;
use ipnet::IpNet;
use spur_cloud::{CardIndex, DeviceIndex};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A block of more addresses than this is a mistake: EC2 has no instance for so many pods, and each address costs memory.
const MOST: u32 = 4096;

/// What was granted.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// None before the controller said anything.
    grant: Option<BlockGrant>,
}

impl Blocks {
    fn contains(&self, address: IpAddr) -> bool {
        let grant = self.grant.as_ref();
        grant.is_some_and(|grant| grant.blocks.iter().any(|block| usable(block).contains(address)))
    }
}

impl Pool {
    /// A pool of a node in `vpcRoute` mode: it hands out addresses of the blocks that [`crate::Event::Blocks`] brings, and asks
    /// nothing of the cloud. `primary` is the ENI that the VPC's routes lead to.
    #[must_use]
    pub fn with_blocks(
        settings: PoolSettings,
        node: NodeFacts,
        record: Record,
        primary: EniRecord,
        seed: u64,
        now: Timestamp,
    ) -> Self {
        let mut pool = Self::new(settings, node, record, seed, now);
        pool.blocks = Some(Blocks::default());
        let place = Place { card: CardIndex(0), index: DeviceIndex(0), ordinal: 0 };
        let record = EniRecord { place: Some(place), ..primary };
        let stored = pool.enis.get(&record.id).is_some_and(|eni| eni.stored && eni.record == record);
        let mut eni = EniState::new(record, Role::Primary, Phase::Ready, now);
        eni.stored = stored;
        pool.enis.insert(eni.record.id.clone(), eni);
        pool
    }

    /// Takes in what the controller grants.
    pub(super) fn grant_blocks(&mut self, mut grant: BlockGrant) {
        if self.blocks.is_none() {
            return;
        }
        grant.blocks.retain(|block| {
            let fits = matches!(block, IpNet::V4(_)) && usable(block).count() <= MOST;
            if !fits {
                self.report(Finding::UselessBlock { block: *block });
            }
            fits
        });
        let addresses: Vec<IpAddr> = grant.blocks.iter().flat_map(|block| usable(block).iter()).collect();
        self.blocks = Some(Blocks { grant: Some(grant) });
        self.sight.observed = Some(self.now);
        for address in addresses {
            if self.table.get(address).is_none() {
                self.adopt(address, None, &self.node.primary.clone());
            }
        }
        self.drop_strangers();
    }

    /// Whether the address may stay when nobody has it.
    pub(super) fn at_home(&self, address: IpAddr) -> bool {
        self.blocks.as_ref().is_none_or(|blocks| blocks.contains(address))
    }

    /// Forgets addresses outside the blocks that nobody has; shows those that pods still have.
    fn drop_strangers(&mut self) {
        let strangers: Vec<_> = self
            .table
            .iter()
            .filter(|(address, _)| !self.at_home(*address))
            .map(|(address, slot)| (address, slot.live()))
            .collect();
        self.findings.retain(|finding| !matches!(finding, Finding::HeldOutsideBlocks { .. }));
        for (address, live) in strangers {
            if live {
                self.raise(Finding::HeldOutsideBlocks { address });
            } else {
                self.forget_address(address);
            }
        }
    }

    /// Whether pods may be served at all: their addresses must be reachable first.
    pub(super) fn may_serve(&self) -> bool {
        let ready = |grant: &BlockGrant| grant.waits.is_empty();
        self.blocks.as_ref().is_none_or(|blocks| blocks.grant.as_ref().is_some_and(ready))
    }

    /// What stands between a pod and an address, as far as it is the blocks' or their routes' matter.
    pub(super) fn block_waits(&self) -> BTreeSet<Wait> {
        let Some(blocks) = &self.blocks else { return BTreeSet::new() };
        let Some(grant) = &blocks.grant else { return BTreeSet::from([Wait::NoGrant]) };
        let mut waits: BTreeSet<Wait> =
            grant.waits.iter().map(|reason| Wait::Routes { reason: reason.clone() }).collect();
        if grant.blocks.is_empty() {
            waits.insert(Wait::NoGrant);
            return waits;
        }
        let full = |address: IpAddr| self.table.get(address).is_some_and(|slot| !slot.free());
        let mut addresses = grant.blocks.iter().flat_map(|block| usable(block).iter());
        if addresses.all(full) {
            let addresses = grant.blocks.iter().map(|block| usable(block).count()).sum();
            waits.insert(Wait::BlocksFull { blocks: grant.blocks.clone(), addresses });
        }
        waits
    }
}

/// The addresses of a block that pods may have.
#[derive(Debug, Clone, Copy)]
struct Usable {
    block: IpNet,
    /// Whether the first and the last are left out.
    trimmed: bool,
}

fn usable(block: &IpNet) -> Usable {
    Usable { block: *block, trimmed: matches!(block, IpNet::V4(v4) if v4.prefix_len() < 31) }
}

impl Usable {
    fn contains(self, address: IpAddr) -> bool {
        let edge = address == self.block.network() || address == self.block.broadcast();
        self.block.contains(&address) && !(self.trimmed && edge)
    }

    fn count(self) -> u32 {
        let bits = u32::from(self.block.max_prefix_len() - self.block.prefix_len());
        let all = 1_u32.checked_shl(bits).unwrap_or(u32::MAX);
        if self.trimmed { all - 2 } else { all }
    }

    fn iter(self) -> impl Iterator<Item = IpAddr> {
        self.block.hosts().filter(move |address| self.contains(*address))
    }
}

#[cfg(test)]
mod tests;
