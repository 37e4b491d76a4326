//! What was dropped and why: the fabric's nft table in the kernel, and its counters. What it drops is in `rules`.
//!
//! Counters of ENIs that are detached go with them, so what they counted is added up here.

mod rules;

use super::place::{Layout, gateway_of};
use super::{FabricError, Picture};
use rules::{REASONS, Rules, TABLE};
use serde::Serialize;
use spur_datapath::netns::NetNs;
use spur_datapath::nft::{Counter, Family, Nft, Table, TableDiff};
use std::collections::BTreeMap;

/// What one ENI lost for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DropCount {
    /// The ENI that sent it; detached ones keep their counts.
    pub eni: String,
    /// Why.
    pub reason: &'static str,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The table in the kernel, and what counters counted that are no longer in it.
#[derive(Debug)]
pub(crate) struct Firewall {
    nft: Nft,
    rules: Rules,
    current: Option<Table>,
    before: BTreeMap<String, Counter>,
}

impl Firewall {
    /// The firewall of the router in `ns`, which has no ports yet.
    pub(crate) fn install(ns: &NetNs, layout: &Layout) -> Result<Self, FabricError> {
        let mut firewall = Self {
            nft: Nft::open_in(ns).map_err(FabricError::Firewall)?,
            rules: Rules { gateways: layout.subnets.iter().copied().map(gateway_of).collect() },
            current: None,
            before: BTreeMap::new(),
        };
        firewall.guard(&Picture::default(), &BTreeMap::new())?;
        Ok(firewall)
    }

    /// Guards exactly these ports. Their netdevs need not exist yet. `numbers` has the route tables'.
    pub(crate) fn guard(
        &mut self,
        picture: &Picture,
        numbers: &BTreeMap<String, u16>,
    ) -> Result<(), FabricError> {
        let wanted = self.rules.table(picture, numbers)?;
        let diff = wanted.diff(self.current.as_ref().map(Table::shape).as_ref());
        let counted = match &diff {
            TableDiff::Replace { .. } => self.read()?,
            TableDiff::Parts(parts) if !parts.old.counters.is_empty() => {
                let mut counted = self.read()?;
                counted.retain(|name, _| parts.old.counters.contains(name));
                counted
            }
            _ => BTreeMap::new(),
        };
        self.nft.update(&wanted, &diff).map_err(FabricError::Firewall)?;
        for (name, counter) in counted {
            add(self.before.entry(name).or_default(), counter);
        }
        self.current = Some(wanted);
        Ok(())
    }

    /// Everything dropped so far.
    pub(crate) fn drops(&mut self) -> Result<Vec<DropCount>, FabricError> {
        let mut all = self.before.clone();
        for (name, counter) in self.read()? {
            add(all.entry(name).or_default(), counter);
        }
        let drops = all.iter().filter(|(_, counter)| counter.packets > 0).filter_map(|(name, counter)| {
            let reason = REASONS.into_iter().find(|reason| name.starts_with(reason))?;
            let eni = name.strip_prefix(reason)?.strip_prefix('-')?.to_owned();
            Some(DropCount { eni, reason, packets: counter.packets, bytes: counter.bytes })
        });
        Ok(drops.collect())
    }

    fn read(&mut self) -> Result<BTreeMap<String, Counter>, FabricError> {
        self.nft.counters(Family::Ip, TABLE).map_err(FabricError::Firewall)
    }
}

fn add(sum: &mut Counter, more: Counter) {
    sum.packets += more.packets;
    sum.bytes += more.bytes;
}
