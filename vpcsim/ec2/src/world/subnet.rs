//! A subnet's books: which of its addresses are taken. One bit per address, EC2's five reserved ones taken from the start.
//! Addresses and /28 prefixes are picked at random, as EC2 does it, so that fragmentation comes about by itself. Who has an
//! address is not known here, only that somebody has.

use crate::id::SubnetId;
use crate::random::Random;
use crate::scenario::SubnetSpec;
use ipnet::Ipv4Net;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Length of a delegated prefix.
const PREFIX_LEN: u8 = 28;

/// Addresses of a delegated prefix: with one bit each, exactly a [`u16`].
const BLOCK: u32 = 16;

/// A subnet.
#[derive(Debug, Clone)]
pub(crate) struct Subnet {
    pub(crate) id: SubnetId,
    pub(crate) name: String,
    pub(crate) ordinal: usize,
    pub(crate) zone: String,
    pub(crate) tags: BTreeMap<String, String>,
    cidr: Ipv4Net,
    /// Taken addresses, sixteen to a block.
    taken: Vec<u16>,
    free: u32,
    /// Addresses that a fault keeps from everybody: which, and which fault.
    held: BTreeMap<u32, usize>,
}

/// Why an address of a subnet cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is not an address of the subnet.
    Outside,
    /// EC2 keeps it.
    Reserved,
    /// An ENI has it, or a prefix covers it.
    Taken,
}

impl Subnet {
    pub(crate) fn new(id: SubnetId, ordinal: usize, spec: &SubnetSpec) -> Self {
        let size = 1_u32 << (32 - spec.cidr.prefix_len());
        let blocks = usize::try_from(size / BLOCK).expect("a subnet has at most 65,536 addresses");
        let mut subnet = Self {
            id,
            ordinal,
            name: spec.name.clone(),
            zone: spec.zone.clone(),
            tags: spec.tags.clone(),
            cidr: spec.cidr,
            taken: vec![0; blocks],
            free: size,
            held: BTreeMap::new(),
        };
        for reserved in [0, 1, 2, 3, size - 1] {
            subnet.set(reserved, true);
        }
        subnet
    }

    pub(crate) const fn cidr(&self) -> Ipv4Net {
        self.cidr
    }

    pub(crate) const fn free(&self) -> u32 {
        self.free
    }

    /// How many of its addresses faults keep.
    pub(crate) fn held(&self) -> u32 {
        u32::try_from(self.held.len()).unwrap_or(u32::MAX)
    }

    fn hold(&mut self, offset: u32, holder: usize) {
        self.set(offset, true);
        self.held.insert(offset, holder);
    }

    /// Keeps free addresses from everybody until only so many are left; whether there were more.
    pub(crate) fn fill(&mut self, leave: u32, holder: usize, random: &mut Random) -> bool {
        let mut free: Vec<u32> = (0..self.size()).filter(|offset| !self.is_taken(*offset)).collect();
        let excess = self.free.saturating_sub(leave);
        for _ in 0..excess {
            let Some(bound) = u32::try_from(free.len()).ok().filter(|bound| *bound > 0) else { break };
            let at = usize::try_from(random.below(bound)).unwrap_or_default();
            self.hold(free.swap_remove(at), holder);
        }
        excess > 0
    }

    /// Keeps one address of every /28 that is wholly free, but of so many; whether there were more.
    pub(crate) fn fragment(&mut self, leave: u32, holder: usize, random: &mut Random) -> bool {
        let whole = self.taken.iter().zip(0..).filter(|(bits, _)| **bits == 0).map(|(_, block)| block);
        let mut whole: Vec<u32> = whole.collect();
        let left = usize::try_from(leave).unwrap_or(usize::MAX);
        let is_more = whole.len() > left;
        while whole.len() > left {
            let Some(bound) = u32::try_from(whole.len()).ok() else { break };
            let at = usize::try_from(random.below(bound)).unwrap_or_default();
            let block = whole.swap_remove(at);
            self.hold(block * BLOCK + random.below(BLOCK), holder);
        }
        is_more
    }

    /// Gives back what this fault, or any, keeps.
    pub(crate) fn release_held(&mut self, holder: Option<usize>) {
        let held = std::mem::take(&mut self.held);
        for (offset, by) in held {
            if holder.is_none_or(|holder| holder == by) {
                self.set(offset, false);
            } else {
                self.held.insert(offset, by);
            }
        }
    }

    /// The VPC router's address.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        self.address(1)
    }

    fn address(&self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.cidr.network()) + offset)
    }

    fn offset(&self, address: Ipv4Addr) -> Option<u32> {
        self.cidr.contains(&address).then(|| u32::from(address) - u32::from(self.cidr.network()))
    }

    fn size(&self) -> u32 {
        1 << (32 - self.cidr.prefix_len())
    }

    fn block_and_bit(offset: u32) -> (usize, u16) {
        (usize::try_from(offset / BLOCK).unwrap_or(usize::MAX), 1 << (offset % BLOCK))
    }

    fn is_taken(&self, offset: u32) -> bool {
        let (block, bit) = Self::block_and_bit(offset);
        self.taken.get(block).is_none_or(|bits| bits & bit != 0)
    }

    fn set(&mut self, offset: u32, taken: bool) {
        let (block, bit) = Self::block_and_bit(offset);
        let Some(bits) = self.taken.get_mut(block) else { return };
        match (*bits & bit != 0, taken) {
            (false, true) => {
                *bits |= bit;
                self.free -= 1;
            }
            (true, false) => {
                *bits &= !bit;
                self.free += 1;
            }
            _ => {}
        }
    }

    /// Takes this address.
    pub(crate) fn take(&mut self, address: Ipv4Addr) -> Result<(), Refusal> {
        let offset = self.offset(address).ok_or(Refusal::Outside)?;
        if offset < 4 || offset == self.size() - 1 {
            return Err(Refusal::Reserved);
        }
        if self.is_taken(offset) {
            return Err(Refusal::Taken);
        }
        self.set(offset, true);
        Ok(())
    }

    /// Takes some free address.
    pub(crate) fn pick(&mut self, random: &mut Random) -> Option<Ipv4Addr> {
        let start = random.below(self.size());
        let blocks = self.size() / BLOCK;
        // Whole blocks are skipped, so that a nearly full subnet costs no more than its number of blocks.
        let block = (0..=blocks).map(|step| (start / BLOCK + step) % blocks).find(|block| {
            self.taken
                .get(usize::try_from(*block).unwrap_or(usize::MAX))
                .is_some_and(|bits| *bits != u16::MAX)
        })?;
        let within = start % BLOCK;
        let offset = (0..BLOCK)
            .map(|step| block * BLOCK + (within + step) % BLOCK)
            .find(|offset| !self.is_taken(*offset))?;
        self.set(offset, true);
        Some(self.address(offset))
    }

    /// Gives an address back.
    pub(crate) fn give_back(&mut self, address: Ipv4Addr) {
        if let Some(offset) = self.offset(address) {
            self.set(offset, false);
        }
    }

    /// Takes this prefix, all of whose addresses must be free.
    pub(crate) fn take_prefix(&mut self, prefix: Ipv4Net) -> Result<(), Refusal> {
        if prefix.prefix_len() != PREFIX_LEN || prefix.trunc() != prefix {
            return Err(Refusal::Outside);
        }
        let first = self.offset(prefix.network()).ok_or(Refusal::Outside)?;
        if (first..first + BLOCK).any(|offset| self.is_taken(offset)) {
            return Err(Refusal::Taken);
        }
        (first..first + BLOCK).for_each(|offset| self.set(offset, true));
        Ok(())
    }

    /// Takes some /28 that is wholly free.
    pub(crate) fn pick_prefix(&mut self, random: &mut Random) -> Option<Ipv4Net> {
        let blocks = self.size() / BLOCK;
        let start = random.below(blocks);
        let block = (0..blocks).map(|step| (start + step) % blocks).find(|block| {
            self.taken.get(usize::try_from(*block).unwrap_or(usize::MAX)).is_some_and(|bits| *bits == 0)
        })?;
        let prefix = Ipv4Net::new(self.address(block * BLOCK), PREFIX_LEN).ok()?;
        self.take_prefix(prefix).ok().map(|()| prefix)
    }

    /// Gives a prefix back.
    pub(crate) fn give_back_prefix(&mut self, prefix: Ipv4Net) {
        if let Some(first) = self.offset(prefix.network()) {
            (first..first + BLOCK).for_each(|offset| self.set(offset, false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(cidr: &str) -> Subnet {
        let spec = SubnetSpec {
            name: "a".to_owned(),
            zone: "eu-central-1a".to_owned(),
            cidr: cidr.parse().unwrap(),
            tags: BTreeMap::new(),
        };
        Subnet::new(SubnetId::draw(&mut Random::new(1)), 0, &spec)
    }

    #[test]
    fn five_addresses_are_never_handed_out() {
        let mut subnet = subnet("10.0.0.0/28");
        let mut random = Random::new(3);
        assert_eq!(subnet.free(), 11);
        let picked: Vec<_> = std::iter::from_fn(|| subnet.pick(&mut random)).collect();
        assert_eq!(picked.len(), 11);
        assert!(picked.iter().all(|address| (4..15).contains(&address.octets()[3])), "{picked:?}");
        assert_eq!(subnet.free(), 0);
        assert_eq!(subnet.take("10.0.0.3".parse().unwrap()), Err(Refusal::Reserved));
        assert_eq!(subnet.take("10.0.0.15".parse().unwrap()), Err(Refusal::Reserved));
        assert_eq!(subnet.take("10.0.0.16".parse().unwrap()), Err(Refusal::Outside));
        assert_eq!(subnet.take(picked[0]), Err(Refusal::Taken));
        subnet.give_back(picked[0]);
        assert_eq!(subnet.take(picked[0]), Ok(()));
    }

    #[test]
    fn a_prefix_needs_sixteen_free_neighbours() {
        let mut subnet = subnet("10.0.0.0/26");
        let mut random = Random::new(3);
        // The first and the last block hold reserved addresses; one address spoils another block.
        subnet.take("10.0.0.20".parse().unwrap()).unwrap();
        assert_eq!(subnet.pick_prefix(&mut random), Some("10.0.0.32/28".parse().unwrap()));
        assert_eq!(subnet.pick_prefix(&mut random), None);
        assert_eq!(subnet.free(), 64 - 5 - 1 - 16);
        subnet.give_back_prefix("10.0.0.32/28".parse().unwrap());
        assert_eq!(subnet.free(), 64 - 5 - 1);
    }
}
