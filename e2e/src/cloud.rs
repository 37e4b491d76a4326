//! What the cloud holds, as vpcsim's inspection endpoint shows it, in the little that demo and tests compare.

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// An attached ENI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedEni {
    /// Its id.
    pub id: String,
    /// Index on its card; 0 is the primary ENI.
    pub device_index: u32,
    /// Name of its subnet.
    pub subnet: String,
    /// Its primary address.
    pub primary: IpAddr,
    /// Its secondary addresses, those of its prefixes included.
    pub addresses: Vec<IpAddr>,
}

/// The cloud at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudView {
    /// ENIs by node, ordered by device index.
    pub nodes: BTreeMap<String, Vec<AttachedEni>>,
    /// Free addresses by subnet.
    pub free: BTreeMap<String, u32>,
    /// ENIs that are attached to nothing.
    pub unattached: Vec<String>,
}

#[derive(Deserialize)]
struct State {
    subnets: Vec<Subnet>,
    enis: BTreeMap<String, Eni>,
}

#[derive(Deserialize)]
struct Subnet {
    id: String,
    name: String,
    free: u32,
}

#[derive(Deserialize)]
struct Eni {
    subnet: String,
    primary: IpAddr,
    secondary: Vec<IpAddr>,
    prefixes: Vec<Ipv4Net>,
    attachment: Option<Attachment>,
}

impl Eni {
    fn addresses(&self) -> Vec<IpAddr> {
        let delegated = self.prefixes.iter().copied().flat_map(addresses_of);
        self.secondary.iter().copied().chain(delegated).collect()
    }
}

/// All addresses of a prefix, the first and the last included.
pub fn addresses_of(prefix: Ipv4Net) -> impl Iterator<Item = IpAddr> {
    (u32::from(prefix.network())..=u32::from(prefix.broadcast())).map(|bits| Ipv4Addr::from(bits).into())
}

#[derive(Deserialize)]
struct Attachment {
    node: String,
    device_index: u32,
}

impl CloudView {
    /// Reads the state that vpcsim shows.
    ///
    /// # Errors
    /// When it is not what was expected.
    pub fn parse(state: Value) -> Result<Self> {
        let state: State = serde_json::from_value(state).context("read vpcsim's state")?;
        let names: BTreeMap<_, _> = state.subnets.iter().map(|subnet| (&subnet.id, &subnet.name)).collect();
        let mut nodes: BTreeMap<String, Vec<AttachedEni>> = BTreeMap::new();
        let mut unattached = Vec::new();
        for (id, eni) in &state.enis {
            let Some(attachment) = &eni.attachment else {
                unattached.push(id.clone());
                continue;
            };
            nodes.entry(attachment.node.clone()).or_default().push(AttachedEni {
                id: id.clone(),
                device_index: attachment.device_index,
                subnet: names.get(&eni.subnet).map_or_else(|| eni.subnet.clone(), |name| (*name).clone()),
                primary: eni.primary,
                addresses: eni.addresses(),
            });
        }
        nodes.values_mut().for_each(|enis| enis.sort_by_key(|eni| eni.device_index));
        let free = state.subnets.iter().map(|subnet| (subnet.name.clone(), subnet.free)).collect();
        Ok(Self { nodes, free, unattached })
    }

    /// The same with addresses and ids replaced by their number: what must be equal before and after pods, when EC2 may have picked other
    /// addresses for the warm stock.
    #[must_use]
    pub fn shape(&self) -> BTreeMap<String, Vec<(u32, String, usize)>> {
        let shape = |eni: &AttachedEni| (eni.device_index, eni.subnet.clone(), eni.addresses.len());
        self.nodes.iter().map(|(node, enis)| (node.clone(), enis.iter().map(shape).collect())).collect()
    }

    /// The ENI of a node that an address is on.
    #[must_use]
    pub fn owner(&self, node: &str, address: IpAddr) -> Option<&AttachedEni> {
        self.nodes.get(node)?.iter().find(|eni| eni.addresses.contains(&address))
    }
}
