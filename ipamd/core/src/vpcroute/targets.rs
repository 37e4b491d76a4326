//! The target of each node's routes: the ENI that holds the node's primary address (R5), and whether EC2 checks source and destination
//! on it (R14). Reads lag here, too: what contradicts a write or a find of ours within the settle time is taken for old.

use super::NodeName;
use super::settings::{NodeSpec, Nodes};
use crate::time::Timestamp;
use spur_cloud::{AttachmentStatus, CardIndex, DeviceIndex, Eni, EniId, InstanceId, SubnetId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The ENI of a node.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) instance: InstanceId,
    pub(super) eni: EniId,
    pub(super) subnet: SubnetId,
    pub(super) addresses: BTreeSet<std::net::IpAddr>,
    /// EC2 checks source and destination.
    pub(super) check: bool,
    /// When we switched the check off.
    switched: Option<Timestamp>,
    found: Timestamp,
    missing: Option<Timestamp>,
}

/// Whether the ENI is the one that holds the node's primary address.
fn fits(eni: &Eni, spec: &NodeSpec) -> bool {
    let Some(at) = &eni.attachment else { return false };
    if at.instance.as_ref() != Some(&spec.instance) || at.status != AttachmentStatus::Attached {
        return false;
    }
    match (spec.address, &spec.eni) {
        (Some(address), _) => eni.primary == address || eni.addresses.contains(&address),
        (None, Some(id)) => eni.id == *id,
        (None, None) => at.device_index == DeviceIndex(0) && at.card == CardIndex(0),
    }
}

/// The ENIs of all nodes, as far as they were found.
#[derive(Debug, Default)]
pub(super) struct Targets(BTreeMap<NodeName, Target>);

impl Targets {
    pub(super) fn get(&self, node: &NodeName) -> Option<&Target> {
        self.0.get(node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&NodeName, &Target)> {
        self.0.iter()
    }

    /// Forgets all but these, by node and machine.
    pub(super) fn retain(&mut self, stays: impl Fn(&NodeName, &InstanceId) -> bool) {
        self.0.retain(|node, target| stays(node, &target.instance));
    }

    /// Takes in a read that began at `begun`; `asked` says which ENIs it would have shown (none: all). Returns nodes on whose ENI the
    /// check was switched on again.
    pub(super) fn observe(
        &mut self,
        nodes: &Nodes,
        enis: &[Eni],
        asked: Option<&BTreeSet<EniId>>,
        begun: Timestamp,
        settle: Duration,
    ) -> Vec<NodeName> {
        let mut by_instance: BTreeMap<&InstanceId, Vec<&Eni>> = BTreeMap::new();
        for eni in enis {
            if let Some(instance) = eni.attachment.as_ref().and_then(|at| at.instance.as_ref()) {
                by_instance.entry(instance).or_default().push(eni);
            }
        }
        let mut switched_on = Vec::new();
        for (node, spec) in nodes {
            let own = by_instance.get(&spec.instance).map_or(&[][..], Vec::as_slice);
            let found = own.iter().copied().find(|eni| fits(eni, spec));
            match (self.0.get_mut(node), found) {
                (None, Some(eni)) => drop(self.0.insert(node.clone(), Target::new(spec, eni, begun))),
                (Some(target), Some(eni)) if target.eni == eni.id => {
                    if target.refresh(eni, begun, settle) {
                        switched_on.push(node.clone());
                    }
                }
                (Some(target), Some(eni)) => {
                    if begun >= target.found.after(settle) {
                        *target = Target::new(spec, eni, begun);
                    }
                }
                (Some(target), None) if asked.is_none_or(|asked| asked.contains(&target.eni)) => {
                    let since = *target.missing.get_or_insert(begun);
                    if begun >= since.after(settle) {
                        self.0.remove(node);
                    }
                }
                (_, None) => {}
            }
        }
        switched_on
    }

    /// We switched the check off.
    pub(super) fn switched_off(&mut self, eni: &EniId, now: Timestamp) {
        for target in self.0.values_mut().filter(|target| target.eni == *eni) {
            (target.check, target.switched) = (false, Some(now));
        }
    }
}

impl Target {
    fn new(spec: &NodeSpec, eni: &Eni, begun: Timestamp) -> Self {
        Self {
            instance: spec.instance.clone(),
            eni: eni.id.clone(),
            subnet: eni.subnet.clone(),
            addresses: BTreeSet::from([spec.address.unwrap_or(eni.primary)]),
            check: eni.source_dest_check,
            switched: None,
            found: begun,
            missing: None,
        }
    }

    /// Says whether the check was switched on by somebody else.
    fn refresh(&mut self, eni: &Eni, begun: Timestamp, settle: Duration) -> bool {
        self.missing = None;
        let believed = !eni.source_dest_check || self.switched.is_none_or(|at| begun >= at.after(settle));
        let was = self.check;
        if believed {
            self.check = eni.source_dest_check;
        }
        !was && self.check
    }
}
