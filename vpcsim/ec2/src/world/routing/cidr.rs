//! Secondary CIDRs of the VPC. Each has a local route in every table, so one that equals or covers the destination of a
//! route cannot be had; one inside a destination can. (VPC User Guide, "VPC CIDR blocks".) The local route comes and goes some
//! time after the call; what a write of a route is checked against counts from the first moment to the last.

use super::write::contains;
use crate::error::{ApiError, Code};
use crate::random::seal;
use crate::time::SimTime;
use crate::view::Happening;
use crate::world::{Landing, Vpc, World};
use ipnet::{IpNet, Ipv4Net};

/// EC2's default quota of IPv4 CIDRs of a VPC.
const MOST_CIDRS: usize = 5;

/// A CIDR of the VPC.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cidr {
    pub(crate) range: Ipv4Net,
    pub(crate) state: CidrState,
}

/// How far its association is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CidrState {
    Associating,
    Associated,
    Disassociating,
}

impl CidrState {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Associating => "associating",
            Self::Associated => "associated",
            Self::Disassociating => "disassociating",
        }
    }
}

impl Vpc {
    /// What is the VPC's by now, and has a local route.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Ipv4Net> {
        self.cidrs.iter().filter(|cidr| cidr.state != CidrState::Associating).map(|cidr| cidr.range)
    }
}

impl World {
    /// The id under which a CIDR is associated with the VPC.
    pub(crate) fn cidr_association(&self, cidr: &Ipv4Net) -> String {
        format!("vpc-cidr-assoc-0{:016x}", seal(0, format!("{}/{cidr}", self.vpc.id).as_bytes()))
    }

    /// Begins to give the VPC another CIDR.
    pub(crate) fn add_cidr(&mut self, cidr: Ipv4Net, now: SimTime) -> Result<(), ApiError> {
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
        let overlaps = |other: &Ipv4Net| other.contains(&cidr) || cidr.contains(other);
        if let Some(other) = self.vpc.cidrs.iter().map(|cidr| cidr.range).find(overlaps) {
            let message = format!("The CIDR '{cidr}' conflicts with another CIDR of the VPC, {other}");
            return Err(Code::InvalidVpcRange.because(message));
        }
        for table in self.routing.tables.values() {
            if let Some(taken) = table.content.keys().find(|to| contains(IpNet::V4(cidr), **to)) {
                let message = format!(
                    "The CIDR '{cidr}' equals or covers the route to {taken} in route table {}",
                    table.id
                );
                return Err(Code::InvalidVpcRange.because(message));
            }
        }
        self.vpc.cidrs.push(Cidr { range: cidr, state: CidrState::Associating });
        self.land_later(now, self.delays.cidr, Landing::CidrChanged(cidr));
        Ok(())
    }

    /// Begins to take a secondary CIDR away; which one it is.
    pub(crate) fn remove_cidr(&mut self, association: &str, now: SimTime) -> Result<Ipv4Net, ApiError> {
        let found = self.vpc.cidrs.iter().position(|cidr| self.cidr_association(&cidr.range) == association);
        let Some(at) = found else {
            let shown: String = association.chars().take(100).collect();
            let message = format!("The vpc CIDR block association ID '{shown}' does not exist");
            return Err(Code::CidrAssociationNotFound.because(message));
        };
        let Cidr { range: cidr, state } = self.vpc.cidrs[at];
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
        if state != CidrState::Associated {
            let message = format!("The vpc CIDR block {cidr} is currently {}", state.text());
            return Err(Code::IncorrectState.because(message));
        }
        self.vpc.cidrs[at].state = CidrState::Disassociating;
        self.land_later(now, self.delays.cidr, Landing::CidrChanged(cidr));
        Ok(cidr)
    }

    /// A CIDR is there, or gone.
    pub(in crate::world) fn cidr_landed(&mut self, range: Ipv4Net) {
        self.vpc.cidrs.retain(|cidr| cidr.range != range || cidr.state != CidrState::Disassociating);
        if let Some(cidr) = self.vpc.cidrs.iter_mut().find(|cidr| cidr.range == range) {
            cidr.state = CidrState::Associated;
        }
        self.happenings.push(Happening::RoutesChanged);
    }
}
