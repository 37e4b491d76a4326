//! What happens to the world without any call of the API: ENIs and addresses go, a subnet fills up with somebody else's
//! addresses, an instance is terminated. Who else takes addresses is not shown, as in a subnet that is shared between
//! accounts: only the count of free addresses tells. What faults took is given back when they are over.

use super::World;
use super::eni::{AttachmentStatus, Eni};
use crate::fault::{Event, Which};
use crate::id::EniId;
use crate::random::Random;
use crate::view::Happening;

impl World {
    /// Lets it happen; whether there was anything that it could happen to. `holder` names the fault that takes addresses.
    pub(crate) fn suffer(&mut self, event: &Event, holder: usize, random: &mut Random) -> bool {
        match event {
            Event::Vanish { which, .. } => match self.pick_eni(which, random, |_| true) {
                None => false,
                Some(id) => {
                    self.unplug(&id);
                    self.delete_eni(&id).is_ok()
                }
            },
            Event::LoseAddresses { which, count, .. } => self.lose_addresses(which, *count, random),
            Event::FillSubnet { subnet, leave, .. } => {
                let found = self.subnets.values_mut().find(|known| known.name == *subnet);
                found.is_some_and(|subnet| subnet.fill(*leave, holder, random))
            }
            Event::FragmentSubnet { subnet, leave, .. } => {
                let found = self.subnets.values_mut().find(|known| known.name == *subnet);
                found.is_some_and(|subnet| subnet.fragment(*leave, holder, random))
            }
            Event::Terminate { node } => self.terminate(node),
        }
    }

    /// Gives back what this fault, or any, holds.
    pub(crate) fn release_held(&mut self, holder: Option<usize>) {
        self.subnets.values_mut().for_each(|subnet| subnet.release_held(holder));
    }

    /// A secondary ENI that fits; one without an attachment only by its id.
    fn pick_eni(&self, which: &Which, random: &mut Random, fits: impl Fn(&Eni) -> bool) -> Option<EniId> {
        let is_meant = |eni: &&Eni| match (&which.eni, &eni.attachment) {
            (Some(id), place) => {
                eni.id.as_str() == id && place.as_ref().is_none_or(|place| !place.is_primary())
            }
            (None, None) => false,
            (None, Some(place)) => {
                let on = self.instances.get(&place.instance).map(|instance| &instance.node);
                !place.is_primary()
                    && place.status == AttachmentStatus::Attached
                    && which.device_index.is_none_or(|index| index == place.device_index)
                    && which.node.as_ref().is_none_or(|node| on == Some(node))
            }
        };
        let found: Vec<&Eni> = self.enis.values().filter(is_meant).filter(|eni| fits(eni)).collect();
        pick(&found, random).map(|eni| eni.id.clone())
    }

    fn lose_addresses(&mut self, which: &Which, count: u32, random: &mut Random) -> bool {
        let has_some = |eni: &Eni| !eni.secondary.is_empty() || !eni.prefixes.is_empty();
        let Some(eni) = self.pick_eni(which, random, has_some).and_then(|id| self.enis.get(&id).cloned())
        else {
            return false;
        };
        let mut left = eni.secondary;
        let mut lost = Vec::new();
        for _ in 0..count {
            let Some(address) = pick(&left, random).copied() else { break };
            left.retain(|other| *other != address);
            lost.push(address);
        }
        let prefixes: Vec<_> = eni.prefixes.into_iter().take(usize::from(lost.is_empty())).collect();
        self.unassign(&eni.id, &lost, &prefixes).is_ok()
    }

    /// Ends an attachment at once.
    fn unplug(&mut self, eni: &EniId) {
        let Some(eni) = self.enis.get_mut(eni) else { return };
        let Some(place) = eni.attachment.take().filter(|place| place.arrived) else { return };
        let node = self.instances.get(&place.instance).map(|instance| instance.node.clone());
        self.happenings.push(Happening::EniLeft {
            node: node.unwrap_or_default(),
            eni: eni.id.clone(),
            mac: eni.mac,
            device_index: place.device_index,
            card: place.card,
        });
    }

    /// Ends an instance: its ENIs with DeleteOnTermination go with it, the others are available again.
    fn terminate(&mut self, node: &str) -> bool {
        let found =
            self.instances.values_mut().find(|instance| instance.node == node && !instance.terminated);
        let Some(instance) = found else { return false };
        instance.terminated = true;
        let id = instance.id.clone();
        let enis: Vec<(EniId, bool)> = self
            .enis_of(&id)
            .into_iter()
            .filter_map(|eni| Some((eni.id.clone(), eni.attachment.as_ref()?.delete_on_termination)))
            .collect();
        for (eni, goes) in enis {
            self.unplug(&eni);
            if goes {
                // It is attached no more, so nothing keeps it.
                let _ = self.delete_eni(&eni);
            }
        }
        true
    }
}

fn pick<'i, T>(items: &'i [T], random: &mut Random) -> Option<&'i T> {
    let bound = u32::try_from(items.len()).ok().filter(|bound| *bound > 0)?;
    items.get(usize::try_from(random.below(bound)).ok()?)
}
