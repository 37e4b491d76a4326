//! Secondary CIDRs of the VPC. Each has a local route in every table, so one that equals or covers the destination of a
//! route cannot be had; one inside a destination can. (VPC User Guide, "VPC CIDR blocks".)

use super::write::contains;
use crate::error::{ApiError, Code};
use crate::random::seal;
use crate::view::Happening;
use crate::world::World;
use ipnet::{IpNet, Ipv4Net};

/// EC2's default quota of IPv4 CIDRs of a VPC.
const MOST_CIDRS: usize = 5;

impl World {
    /// The id under which a CIDR is associated with the VPC.
    pub(crate) fn cidr_association(&self, cidr: &Ipv4Net) -> String {
        format!("vpc-cidr-assoc-0{:016x}", seal(0, format!("{}/{cidr}", self.vpc.id).as_bytes()))
    }

    /// Gives the VPC another CIDR.
    pub(crate) fn add_cidr(&mut self, cidr: Ipv4Net) -> Result<(), ApiError> {
        if !(16..=28).contains(&cidr.prefix_len()) {
            let message = format!("The CIDR '{cidr}' is invalid: the block must be between /16 and /28.");
            return Err(Code::InvalidVpcRange.because(message));
        }
        if self.vpc.cidrs.len() >= MOST_CIDRS {
            let message = format!(
                "This network '{}' has met its maximum number of allowed CIDRs: {MOST_CIDRS}",
                self.vpc.id
            );
            return Err(Code::CidrLimitExceeded.because(message));
        }
        let overlaps = |other: &&Ipv4Net| other.contains(&cidr) || cidr.contains(*other);
        if let Some(other) = self.vpc.cidrs.iter().find(overlaps) {
            let message = format!("The CIDR '{cidr}' conflicts with another CIDR of the VPC, {other}");
            return Err(Code::InvalidVpcRange.because(message));
        }
        for table in self.routing.tables.values() {
            let destinations = table.content.written.keys().chain(table.content.learnt.keys());
            if let Some(taken) = destinations.copied().find(|to| contains(IpNet::V4(cidr), *to)) {
                let message = format!(
                    "The CIDR '{cidr}' equals or covers the route to {taken} in route table {}",
                    table.id
                );
                return Err(Code::InvalidVpcRange.because(message));
            }
        }
        self.vpc.cidrs.push(cidr);
        self.happenings.push(Happening::RoutesChanged);
        Ok(())
    }

    /// Takes a secondary CIDR away; which one it was.
    pub(crate) fn remove_cidr(&mut self, association: &str) -> Result<Ipv4Net, ApiError> {
        let found = self.vpc.cidrs.iter().position(|cidr| self.cidr_association(cidr) == association);
        let Some(at) = found else {
            let shown: String = association.chars().take(100).collect();
            let message = format!("The vpc CIDR block association ID '{shown}' does not exist");
            return Err(Code::CidrAssociationNotFound.because(message));
        };
        let cidr = self.vpc.cidrs[at];
        if at == 0 {
            let message = format!(
                "The vpc CIDR block with association ID {association} may not be disassociated. It is the primary IPv4 CIDR block of the VPC"
            );
            return Err(Code::OperationNotPermitted.because(message));
        }
        if let Some(subnet) = self.subnets.values().find(|subnet| cidr.contains(&subnet.cidr())) {
            let message = format!("The vpc CIDR block {cidr} has the subnet {} within it", subnet.id);
            return Err(Code::CidrInUse.because(message));
        }
        self.vpc.cidrs.remove(at);
        self.happenings.push(Happening::RoutesChanged);
        Ok(cidr)
    }
}
