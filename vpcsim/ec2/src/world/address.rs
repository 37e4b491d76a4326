//! Addresses and prefixes of ENIs: EC2's rules for assigning, moving and taking them away. Places count: a prefix takes
//! one like an address, and the primary address takes the first. The subnet's books follow every change, and a change that
//! fails half-way is taken back whole.

use super::World;
use super::eni::{Eni, Got, MOST_PER_ENI, Wanted};
use super::subnet::{Refusal, Subnet};
use crate::error::{ApiError, Code};
use crate::id::{EniId, SubnetId};
use ipnet::Ipv4Net;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

impl World {
    fn subnet_mut(&mut self, id: &SubnetId) -> Result<&mut Subnet, ApiError> {
        self.subnets.get_mut(id).ok_or_else(|| no_subnet(id))
    }

    /// Takes the primary address of a new ENI: this one, or some free one.
    pub(super) fn take_primary(
        &mut self,
        subnet: &SubnetId,
        wanted: Option<Ipv4Addr>,
    ) -> Result<Ipv4Addr, ApiError> {
        match wanted {
            Some(address) => {
                self.subnet_mut(subnet)?.take(address).map_err(|refusal| refused(address, refusal))?;
                Ok(address)
            }
            None => {
                let got = self.take(subnet, &Wanted::Count(1))?;
                got.addresses.first().copied().ok_or_else(no_addresses)
            }
        }
    }

    /// Takes what is wanted out of the subnet, or nothing.
    pub(super) fn take(&mut self, subnet: &SubnetId, wanted: &Wanted) -> Result<Got, ApiError> {
        let mut random = self.random.clone();
        let books = self.subnet_mut(subnet)?;
        let mut got = Got::default();
        let taken = match wanted {
            Wanted::Nothing => Ok(()),
            Wanted::Count(count) => (0..*count).try_for_each(|_| {
                got.addresses.push(books.pick(&mut random).ok_or_else(no_addresses)?);
                Ok(())
            }),
            Wanted::Addresses(addresses) => addresses.iter().try_for_each(|address| {
                books.take(*address).map_err(|refusal| refused(address, refusal))?;
                got.addresses.push(*address);
                Ok(())
            }),
            Wanted::PrefixCount(count) => (0..*count).try_for_each(|_| {
                got.prefixes.push(books.pick_prefix(&mut random).ok_or_else(no_prefixes)?);
                Ok(())
            }),
            Wanted::Prefixes(prefixes) => prefixes.iter().try_for_each(|prefix| {
                books.take_prefix(*prefix).map_err(|refusal| refused(prefix, refusal))?;
                got.prefixes.push(*prefix);
                Ok(())
            }),
        };
        self.random = random;
        match taken {
            Ok(()) => Ok(got),
            Err(error) => {
                self.release(subnet, &got.addresses, &got.prefixes);
                Err(error)
            }
        }
    }

    pub(super) fn release(&mut self, subnet: &SubnetId, addresses: &[Ipv4Addr], prefixes: &[Ipv4Net]) {
        if let Some(subnet) = self.subnets.get_mut(subnet) {
            addresses.iter().for_each(|address| subnet.give_back(*address));
            prefixes.iter().for_each(|prefix| subnet.give_back_prefix(*prefix));
        }
    }

    /// Most addresses and prefixes of this ENI, the primary address included.
    fn most_places(&self, eni: &Eni) -> usize {
        let instance = eni.attachment.as_ref().and_then(|place| self.instances.get(&place.instance));
        let limit = instance.and_then(|instance| usize::try_from(instance.limits.ipv4_per_eni()).ok());
        limit.unwrap_or(MOST_PER_ENI)
    }

    /// Adds addresses or prefixes to an ENI.
    pub(crate) fn assign(&mut self, id: &EniId, wanted: &Wanted, may_move: bool) -> Result<Got, ApiError> {
        let eni = self.eni(id)?.clone();
        // An address that the ENI has already is no new one: EC2 answers that it is assigned.
        let wanted = match wanted {
            Wanted::Addresses(addresses) if addresses.contains(&eni.primary) => {
                let message = format!("{} is the primary address of {id}", eni.primary);
                return Err(Code::InvalidParameterValue.because(message));
            }
            Wanted::Addresses(addresses) => {
                let new = addresses.iter().filter(|address| !eni.secondary.contains(address));
                Wanted::Addresses(new.copied().collect())
            }
            other => other.clone(),
        };
        self.check_places(&eni, &wanted)?;
        let moved = self.check_moves(&eni, &wanted, may_move)?;
        for (owner, address) in &moved {
            self.unassign_checked(owner, &[*address], &[]);
        }
        let got = match self.take(&eni.subnet, &wanted) {
            Ok(got) => got,
            Err(error) => {
                for (owner, address) in &moved {
                    self.put_back(owner, *address);
                }
                return Err(error);
            }
        };
        let eni = self.eni_mut(id)?;
        eni.secondary.extend(&got.addresses);
        eni.prefixes.extend(&got.prefixes);
        for (owner, _) in &moved {
            self.tell_changed(owner);
        }
        self.tell_changed(id);
        Ok(got)
    }

    fn check_places(&self, eni: &Eni, wanted: &Wanted) -> Result<(), ApiError> {
        if wanted.places() > self.most_places(eni).saturating_sub(eni.places()) {
            return Err(Code::AddressLimitExceeded.because("Number of private addresses will exceed limit."));
        }
        let instance = eni.attachment.as_ref().and_then(|place| self.instances.get(&place.instance));
        let prefixes = matches!(wanted, Wanted::PrefixCount(_) | Wanted::Prefixes(_));
        if let Some(instance) = instance.filter(|instance| prefixes && !instance.limits.prefix_delegation()) {
            let message =
                format!("The instance type {} does not support prefix delegation.", instance.instance_type);
            return Err(Code::UnsupportedOperation.because(message));
        }
        Ok(())
    }

    /// Which of the wanted addresses have to be taken from which other ENI, if that is allowed.
    fn check_moves(
        &self,
        eni: &Eni,
        wanted: &Wanted,
        may_move: bool,
    ) -> Result<Vec<(EniId, Ipv4Addr)>, ApiError> {
        let Wanted::Addresses(addresses) = wanted else { return Ok(Vec::new()) };
        let owner_of = |address: &Ipv4Addr| {
            let mut others =
                self.enis.values().filter(|other| other.subnet == eni.subnet && other.id != eni.id);
            others.find(|other| other.primary == *address || other.secondary.contains(address))
        };
        let owned = addresses.iter().filter_map(|address| Some((owner_of(address)?, *address)));
        let owned: Vec<(&Eni, Ipv4Addr)> = owned.collect();
        if owned.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<String> = owned.iter().map(|(_, address)| address.to_string()).collect();
        if !may_move {
            let message = format!("[{}] is already assigned but move is not allowed.", names.join(", "));
            return Err(Code::InvalidParameterValue.because(message));
        }
        if owned.iter().any(|(owner, address)| owner.primary == *address) {
            let message = format!("[{}]: a primary address cannot be moved.", names.join(", "));
            return Err(Code::InvalidParameterValue.because(message));
        }
        Ok(owned.into_iter().map(|(owner, address)| (owner.id.clone(), address)).collect())
    }

    fn put_back(&mut self, owner: &EniId, address: Ipv4Addr) {
        let Some(eni) = self.enis.get_mut(owner) else { return };
        eni.secondary.push(address);
        if let Some(subnet) = self.subnets.get_mut(&eni.subnet) {
            // It was given back a moment ago by the same call, so it is still free.
            let _ = subnet.take(address);
        }
    }

    /// Takes addresses and prefixes away; all of them must be the ENI's.
    pub(crate) fn unassign(
        &mut self,
        id: &EniId,
        addresses: &[Ipv4Addr],
        prefixes: &[Ipv4Net],
    ) -> Result<(), ApiError> {
        let eni = self.eni(id)?;
        if addresses.contains(&eni.primary) {
            let message =
                format!("The primary private IP address {} of {id} cannot be unassigned.", eni.primary);
            return Err(Code::InvalidParameterValue.because(message));
        }
        let strange =
            addresses.iter().filter(|address| !eni.secondary.contains(address)).map(ToString::to_string);
        let strange = strange
            .chain(prefixes.iter().filter(|prefix| !eni.prefixes.contains(prefix)).map(ToString::to_string))
            .collect::<BTreeSet<_>>();
        if !strange.is_empty() {
            let names = strange.into_iter().collect::<Vec<_>>().join(", ");
            let message = format!("Some of [{names}] are not assigned to interface {id}");
            return Err(Code::InvalidParameterValue.because(message));
        }
        self.unassign_checked(id, addresses, prefixes);
        self.tell_changed(id);
        Ok(())
    }

    fn unassign_checked(&mut self, id: &EniId, addresses: &[Ipv4Addr], prefixes: &[Ipv4Net]) {
        let Some(eni) = self.enis.get_mut(id) else { return };
        eni.secondary.retain(|address| !addresses.contains(address));
        eni.prefixes.retain(|prefix| !prefixes.contains(prefix));
        let subnet = eni.subnet.clone();
        self.release(&subnet, addresses, prefixes);
    }
}

fn no_subnet(subnet: &SubnetId) -> ApiError {
    Code::SubnetNotFound.because(format!("The subnet ID '{subnet}' does not exist"))
}

fn no_addresses() -> ApiError {
    Code::InsufficientFreeAddresses
        .because("The specified subnet does not have enough free addresses to satisfy the request.")
}

fn no_prefixes() -> ApiError {
    Code::InsufficientCidrBlocks
        .because("The specified subnet does not have enough free cidr blocks to satisfy the request.")
}

fn refused(address: impl std::fmt::Display, refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Outside => Code::InvalidParameterValue
            .because(format!("Address does not fall within the subnet's address range: {address}")),
        Refusal::Reserved => Code::InvalidParameterValue
            .because(format!("Address {address} is in subnet's reserved address range")),
        Refusal::Taken => {
            Code::AddressInUse.because(format!("The specified address is already in use: {address}"))
        }
    }
}
