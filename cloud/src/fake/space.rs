//! The addresses of one subnet: which are taken, which EC2 keeps for itself, and what comes next.
//!
//! EC2 keeps the first four and the last address of a subnet. A prefix is an aligned /28 that is free as a whole, so it
//! can run out while single addresses are left. The lowest free address (prefix) is given, so that runs repeat.

use ipnet::{IpNet, Ipv4Net};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

const PREFIX_LEN: u8 = 28;
const PREFIX_SIZE: u32 = 16;
const RESERVED_AT_START: u32 = 4;

#[derive(Debug, Clone)]
pub(super) struct Space {
    net: Ipv4Net,
    taken: BTreeSet<Ipv4Addr>,
}

impl Space {
    pub(super) const fn new(net: Ipv4Net) -> Self {
        Self { net, taken: BTreeSet::new() }
    }

    fn first(&self) -> u32 {
        u32::from(self.net.network()) + RESERVED_AT_START
    }

    /// The last usable address; the one after it is the subnet's broadcast address.
    fn last(&self) -> u32 {
        u32::from(self.net.broadcast()) - 1
    }

    pub(super) fn free(&self) -> u32 {
        let taken = u32::try_from(self.taken.len()).unwrap_or(u32::MAX);
        (self.last() - self.first() + 1).saturating_sub(taken)
    }

    fn usable(&self, address: Ipv4Addr) -> bool {
        (self.first()..=self.last()).contains(&u32::from(address))
    }

    /// The lowest free addresses, not yet taken; none if there are too few.
    pub(super) fn pick(&self, count: u32) -> Option<BTreeSet<IpAddr>> {
        let wanted = usize::try_from(count).ok()?;
        let free =
            (self.first()..=self.last()).map(Ipv4Addr::from).filter(|address| !self.taken.contains(address));
        let picked: BTreeSet<IpAddr> = free.take(wanted).map(IpAddr::V4).collect();
        (picked.len() == wanted).then_some(picked)
    }

    /// The lowest wholly free /28s, not yet taken; none if there are too few.
    pub(super) fn pick_prefixes(&self, count: u32) -> Option<BTreeSet<IpNet>> {
        let wanted = usize::try_from(count).ok()?;
        let blocks = self.net.subnets(PREFIX_LEN).ok()?;
        let free = blocks.filter(|block| {
            block_addresses(*block).all(|address| self.usable(address) && !self.taken.contains(&address))
        });
        let picked: BTreeSet<IpNet> = free.take(wanted).map(IpNet::V4).collect();
        (picked.len() == wanted).then_some(picked)
    }

    /// Whether a caller may have this very address.
    pub(super) fn is_free(&self, address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(address) if self.usable(address) && !self.taken.contains(&address))
    }

    pub(super) fn take(&mut self, address: IpAddr) {
        if let IpAddr::V4(address) = address {
            self.taken.insert(address);
        }
    }

    pub(super) fn give_back(&mut self, address: IpAddr) {
        if let IpAddr::V4(address) = address {
            self.taken.remove(&address);
        }
    }

    pub(super) fn take_prefix(&mut self, prefix: IpNet) {
        addresses(prefix).for_each(|address| self.take(address));
    }

    pub(super) fn give_back_prefix(&mut self, prefix: IpNet) {
        addresses(prefix).for_each(|address| self.give_back(address));
    }
}

/// Every address of a /28, the first and the last included: in a delegated prefix they are usable.
fn block_addresses(block: Ipv4Net) -> impl Iterator<Item = Ipv4Addr> {
    let base = u32::from(block.network());
    (base..base + PREFIX_SIZE).map(Ipv4Addr::from)
}

fn addresses(prefix: IpNet) -> impl Iterator<Item = IpAddr> {
    let block = match prefix {
        IpNet::V4(block) => Some(block),
        IpNet::V6(_) => None,
    };
    block.into_iter().flat_map(block_addresses).map(IpAddr::V4)
}
