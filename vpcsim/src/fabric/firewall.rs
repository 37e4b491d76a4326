//! What EC2 drops. This first form admits everything; the rules follow with the nft encoder.
use super::FabricError;
use super::plan::{AddressCheck, Port};
use ipnet::Ipv4Net;
use spur_datapath::IfName;
use spur_datapath::netns::NetNs;
use std::collections::BTreeMap;
#[derive(Debug)]
pub struct Firewall;
#[derive(Debug, Clone, serde::Serialize)]
pub struct DropCount {
    pub eni: String,
    pub reason: &'static str,
    pub packets: u64,
    pub bytes: u64,
}
impl Firewall {
    pub fn install(_: &NetNs) -> Result<Self, FabricError> {
        Ok(Self)
    }
    pub fn admit(&mut self, _: &IfName, _: &Port) -> Result<(), FabricError> {
        Ok(())
    }
    pub fn forget(&mut self, _: &IfName, _: &Port) -> Result<(), FabricError> {
        Ok(())
    }
    pub fn own(&mut self, _: &IfName, _: impl Iterator<Item = Ipv4Net>) -> Result<(), FabricError> {
        Ok(())
    }
    pub fn disown(&mut self, _: &IfName, _: impl Iterator<Item = Ipv4Net>) -> Result<(), FabricError> {
        Ok(())
    }
    pub fn set_check(&mut self, _: &IfName, _: AddressCheck) -> Result<(), FabricError> {
        Ok(())
    }
    pub fn drops(&mut self, _: &BTreeMap<String, String>) -> Result<Vec<DropCount>, FabricError> {
        Ok(Vec::new())
    }
}
