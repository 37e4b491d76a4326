//! Attaching and detaching: EC2 answers at once and the netdev comes or goes later. A call checks quotas and states and
//! starts the change; `land` finishes it when its delay is over, and says so to whoever gives the world a body. ENIs on their
//! way in or out count towards every quota.

use super::eni::{Attachment, AttachmentStatus, Eni};
use super::{Instance, Landing, World};
use crate::error::{ApiError, Code};
use crate::id::{AttachmentId, EniId, InstanceId};
use crate::time::SimTime;
use crate::view::Happening;

impl World {
    pub(crate) fn instance(&self, id: &InstanceId) -> Result<&Instance, ApiError> {
        self.instances
            .get(id)
            .ok_or_else(|| Code::InstanceNotFound.because(format!("The instance ID '{id}' does not exist")))
    }

    pub(crate) fn attached(&self, id: &AttachmentId) -> Result<(&Eni, &Attachment), ApiError> {
        let mut places = self.enis.values().filter_map(|eni| Some((eni, eni.attachment.as_ref()?)));
        places.find(|(_, place)| place.id == *id).ok_or_else(|| no_attachment(id))
    }

    /// Starts to attach an ENI.
    pub(crate) fn attach(
        &mut self,
        eni: &EniId,
        instance: &InstanceId,
        device_index: u32,
        card: Option<u32>,
        now: SimTime,
    ) -> Result<(AttachmentId, u32), ApiError> {
        let card =
            card.unwrap_or_else(|| self.instance(instance).map_or(0, |found| found.limits.default_card()));
        self.check_attach(eni, instance, device_index, card)?;
        let place = Attachment::new(&mut self.random, instance.clone(), device_index, card, now);
        let id = place.id.clone();
        self.eni_mut(eni)?.attachment = Some(place);
        self.land_later(now, self.delays.attach, Landing::Attached(eni.clone(), id.clone()));
        Ok((id, card))
    }

    fn check_attach(
        &self,
        eni: &EniId,
        instance: &InstanceId,
        index: u32,
        card: u32,
    ) -> Result<(), ApiError> {
        let instance = self.instance(instance)?;
        if instance.terminated {
            let message = format!("Instance '{}' is not 'running' or 'stopped'.", instance.id);
            return Err(Code::IncorrectState.because(message));
        }
        let eni = self.eni(eni)?;
        if eni.attachment.is_some() {
            return Err(Code::EniInUse.because(format!("Interface: [{}] in use.", eni.id)));
        }
        if self.subnets.get(&eni.subnet).is_none_or(|subnet| subnet.zone != instance.zone) {
            let message = "You may not attach a network interface to an instance if they are not in the same availability zone";
            return Err(Code::InvalidParameterCombination.because(message));
        }
        let places = self.enis_of(&instance.id);
        let places: Vec<&Attachment> = places.into_iter().filter_map(|eni| eni.attachment.as_ref()).collect();
        if places.iter().any(|place| (place.card, place.device_index) == (card, index)) {
            let message = format!(
                "Instance '{}' already has an interface attached at device index '{index}'.",
                instance.id
            );
            return Err(Code::InvalidParameterValue.because(message));
        }
        let limits = &instance.limits;
        let Some(room) = limits.cards().iter().find(|known| known.index == card) else {
            let message = format!("Network card index {card} is not valid for {}.", instance.instance_type);
            return Err(Code::InvalidParameterValue.because(message));
        };
        let exceeded = |count: usize, most: u32| usize::try_from(most).is_ok_and(|most| count >= most);
        let on_card = places.iter().filter(|place| place.card == card).count();
        if exceeded(on_card, room.max_enis) {
            let message = format!(
                "Interface count {} exceeds the limit for {}",
                places.len() + 1,
                instance.instance_type
            );
            return Err(Code::AttachmentLimitExceeded.because(message));
        }
        if exceeded(eni.places(), limits.ipv4_per_eni().saturating_add(1)) {
            return Err(Code::AddressLimitExceeded.because("Number of private addresses will exceed limit."));
        }
        if !eni.prefixes.is_empty() && !limits.prefix_delegation() {
            let message =
                format!("The instance type {} does not support prefix delegation.", instance.instance_type);
            return Err(Code::UnsupportedOperation.because(message));
        }
        Ok(())
    }

    /// Starts to detach an ENI.
    pub(crate) fn detach(&mut self, id: &AttachmentId, force: bool, now: SimTime) -> Result<(), ApiError> {
        let (eni, place) = self.attached(id)?;
        if place.is_primary() {
            let message =
                "The network interface at device index 0 and networkCard index 0 cannot be detached.";
            return Err(Code::OperationNotPermitted.because(message));
        }
        let ready = match place.status {
            AttachmentStatus::Attached => true,
            AttachmentStatus::Attaching => force,
            AttachmentStatus::Detaching => false,
        };
        if !ready {
            let message =
                format!("The network interface attachment '{id}' is currently {}", place.status.text());
            return Err(Code::IncorrectState.because(message));
        }
        let eni = eni.id.clone();
        if let Some(place) = self.eni_mut(&eni)?.attachment.as_mut() {
            place.status = AttachmentStatus::Detaching;
        }
        self.land_later(now, self.delays.detach, Landing::Detached(eni, id.clone()));
        Ok(())
    }

    /// An attachment is there, unless it was forced off meanwhile.
    pub(super) fn attach_landed(&mut self, eni: &EniId, id: &AttachmentId) {
        let place = self.enis.get_mut(eni).and_then(|eni| eni.attachment.as_mut());
        let Some(place) = place.filter(|place| place.id == *id) else { return };
        if place.status == AttachmentStatus::Attaching {
            place.status = AttachmentStatus::Attached;
            place.arrived = true;
            self.tell_arrived(eni);
        }
    }

    /// A detachment is done.
    pub(super) fn detach_landed(&mut self, eni: &EniId, id: &AttachmentId) {
        let Some(eni) = self.enis.get_mut(eni) else { return };
        let Some(place) = eni.attachment.take_if(|place| place.id == *id) else { return };
        if !place.arrived {
            return;
        }
        let node = self.instances.get(&place.instance).map(|instance| instance.node.clone());
        self.happenings.push(Happening::EniLeft {
            node: node.unwrap_or_default(),
            eni: eni.id.clone(),
            mac: eni.mac,
            device_index: place.device_index,
            card: place.card,
        });
    }

    pub(crate) fn set_delete_on_termination(
        &mut self,
        eni: &EniId,
        id: &AttachmentId,
        delete: bool,
    ) -> Result<(), ApiError> {
        let place = self.eni_mut(eni)?.attachment.as_mut().filter(|place| place.id == *id);
        place.ok_or_else(|| no_attachment(id))?.delete_on_termination = delete;
        Ok(())
    }
}

fn no_attachment(id: &AttachmentId) -> ApiError {
    Code::AttachmentNotFound.because(format!("The interface attachment '{id}' does not exist."))
}
