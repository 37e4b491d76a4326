//! The world behind the API: VPC, subnets, route tables, groups, instances, ENIs, and what is on its way. Actions read and change it;
//! only this module and its children keep its invariants: an address belongs to one ENI, a subnet's books agree with its
//! ENIs, an attachment names an instance that exists. Cloneable as a whole, which is how a dry run runs dry.

mod address;
mod attach;
pub(crate) mod eni;
mod mishap;
pub(crate) mod pace;
pub(crate) mod routing;
pub(crate) mod subnet;
mod view;

use crate::id::{AttachmentId, EniId, InstanceId, SecurityGroupId, SubnetId, VpcId};
use crate::random::Random;
use crate::scenario::{Delays, Scenario};
use crate::time::SimTime;
use crate::view::Happening;
use eni::{Attachment, AttachmentStatus, Eni, NewEni};
use ipnet::Ipv4Net;
use pace::Pace;
use routing::{Cidr, CidrState, Routing};
use spur_quotas::InstanceLimits;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use subnet::Subnet;

/// Tags of a resource.
pub(crate) type Tags = BTreeMap<String, String>;

/// Everything that exists.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) account: String,
    pub(crate) internet: Ipv4Addr,
    pub(crate) vpc: Vpc,
    pub(crate) subnets: BTreeMap<SubnetId, Subnet>,
    pub(crate) groups: BTreeMap<SecurityGroupId, SecurityGroup>,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    pub(crate) enis: BTreeMap<EniId, Eni>,
    /// Client tokens of creations that succeeded: what was asked, and what came of it.
    pub(crate) tokens: BTreeMap<String, Spent>,
    pub(crate) delays: Delays,
    pub(crate) routing: Routing,
    pub(crate) random: Random,
    pub(crate) launched: SimTime,
    pace: Pace,
    due: BTreeMap<(SimTime, u64), Landing>,
    landings: u64,
    happenings: Vec<Happening>,
}

/// A VPC.
#[derive(Debug, Clone)]
pub(crate) struct Vpc {
    pub(crate) id: VpcId,
    /// The primary one first.
    pub(crate) cidrs: Vec<Cidr>,
    pub(crate) tags: Tags,
}

/// A security group. Rules are not part of this world.
#[derive(Debug, Clone)]
pub(crate) struct SecurityGroup {
    pub(crate) id: SecurityGroupId,
    pub(crate) name: String,
    pub(crate) tags: Tags,
}

/// An instance: a node.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) node: String,
    pub(crate) ordinal: usize,
    pub(crate) instance_type: String,
    pub(crate) limits: InstanceLimits,
    pub(crate) subnet: SubnetId,
    pub(crate) zone: String,
    pub(crate) groups: BTreeSet<SecurityGroupId>,
    pub(crate) access_key: String,
    pub(crate) denied: BTreeSet<String>,
    pub(crate) reservation: String,
    pub(crate) terminated: bool,
    pub(crate) tags: Tags,
}

/// A client token that has been used.
#[derive(Debug, Clone)]
pub(crate) struct Spent {
    pub(crate) asked: BTreeMap<String, String>,
    pub(crate) made: Box<Eni>,
}

/// Something asynchronous that will be true later.
#[derive(Debug, Clone)]
enum Landing {
    Attached(EniId, AttachmentId),
    Detached(EniId, AttachmentId),
    CidrChanged(Ipv4Net),
}

impl World {
    pub(crate) fn new(scenario: &Scenario, now: SimTime) -> Self {
        let mut random = Random::new(scenario.seed);
        let cidrs = scenario.vpc_cidrs.iter().map(|cidr| Cidr { range: *cidr, state: CidrState::Associated });
        let vpc = Vpc { id: VpcId::draw(&mut random), cidrs: cidrs.collect(), tags: Tags::new() };
        let groups = scenario.security_groups.iter().map(|spec| {
            let id = SecurityGroupId::draw(&mut random);
            (id.clone(), SecurityGroup { id, name: spec.name.clone(), tags: spec.tags.clone() })
        });
        let groups = groups.collect();
        let subnets = scenario.subnets.iter().enumerate().map(|(ordinal, spec)| {
            let id = SubnetId::draw(&mut random);
            (id.clone(), Subnet::new(id, ordinal, spec))
        });
        let subnets = subnets.collect();
        let mut world = Self {
            name: scenario.name.clone(),
            region: scenario.region.clone(),
            account: scenario.account.clone(),
            internet: scenario.internet,
            vpc,
            subnets,
            groups,
            instances: BTreeMap::new(),
            enis: BTreeMap::new(),
            tokens: BTreeMap::new(),
            delays: scenario.delays,
            routing: Routing::new(scenario),
            random,
            launched: now,
            pace: Pace::Usual,
            due: BTreeMap::new(),
            landings: 0,
            happenings: Vec::new(),
        };
        for (ordinal, node) in scenario.nodes.iter().enumerate() {
            world.launch(ordinal, node);
        }
        world.found_tables(scenario);
        world
    }

    fn launch(&mut self, ordinal: usize, node: &crate::scenario::NodeSpec) {
        let subnet = self.subnets.values().find(|subnet| subnet.name == node.subnet);
        let subnet = subnet.expect("a scenario's nodes name subnets that exist");
        let (subnet, zone) = (subnet.id.clone(), subnet.zone.clone());
        let named = self.groups.values().filter(|group| node.security_groups.contains(&group.name));
        let groups: BTreeSet<SecurityGroupId> = named.map(|group| group.id.clone()).collect();
        let id = InstanceId::draw(&mut self.random);
        let instance = Instance {
            id: id.clone(),
            node: node.name.clone(),
            ordinal,
            instance_type: node.instance_type.clone(),
            limits: node.limits.clone(),
            subnet: subnet.clone(),
            zone,
            groups: groups.clone(),
            access_key: format!("ASIA{:016X}", self.random.next()),
            denied: node.denied.clone(),
            reservation: format!("r-0{:016x}", self.random.next()),
            terminated: false,
            tags: node.tags.clone(),
        };
        self.instances.insert(id.clone(), instance);
        let new = NewEni::plain(subnet, groups);
        let eni = self.create_eni(new).expect("a scenario's subnets have room for their nodes");
        let attachment = Attachment::new(&mut self.random, id, 0, 0, self.launched);
        if let Some(eni) = self.enis.get_mut(&eni) {
            eni.attachment = Some(Attachment {
                status: AttachmentStatus::Attached,
                arrived: true,
                delete_on_termination: true,
                ..attachment
            });
        }
        self.tell_arrived(&eni);
    }

    pub(crate) fn instance_by_key(&self, access_key: &str) -> Option<&Instance> {
        self.instances.values().find(|instance| instance.access_key == access_key)
    }

    pub(crate) fn node(&self, name: &str) -> Option<&Instance> {
        self.instances.values().find(|instance| instance.node == name)
    }

    /// ENIs of an instance in any state of attachment: primary first, then by card and device index.
    pub(crate) fn enis_of<'w>(&'w self, instance: &'w InstanceId) -> Vec<&'w Eni> {
        let mut enis: Vec<_> = self
            .enis
            .values()
            .filter_map(|eni| {
                Some((eni.attachment.as_ref().filter(|place| place.instance == *instance)?, eni))
            })
            .collect();
        enis.sort_by_key(|(place, _)| (place.card, place.device_index));
        enis.into_iter().map(|(_, eni)| eni).collect()
    }

    pub(crate) fn next_landing(&self) -> Option<SimTime> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    pub(crate) const fn has_news(&self) -> bool {
        !self.happenings.is_empty()
    }

    pub(crate) fn take_news(&mut self) -> Vec<Happening> {
        std::mem::take(&mut self.happenings)
    }

    /// Lets the next thing land that is on its way.
    pub(crate) fn land(&mut self) {
        match self.due.pop_first() {
            None => {}
            Some((_, Landing::Attached(eni, id))) => self.attach_landed(&eni, &id),
            Some((_, Landing::Detached(eni, id))) => self.detach_landed(&eni, &id),
            Some((_, Landing::CidrChanged(cidr))) => self.cidr_landed(cidr),
        }
    }

    fn later(&mut self, at: SimTime, landing: Landing) {
        self.landings += 1;
        self.due.insert((at, self.landings), landing);
    }

    fn tell_arrived(&mut self, eni: &EniId) {
        if let Some(eni) = self.view_of(eni) {
            self.happenings.push(Happening::EniArrived { eni: Box::new(eni) });
        }
    }

    pub(crate) fn tell_changed(&mut self, eni: &EniId) {
        if let Some(eni) = self.view_of(eni) {
            self.happenings.push(Happening::EniChanged { eni: Box::new(eni) });
        }
    }
}

/// The zone id that goes with a zone's name, for example `euc1-az1` with `eu-central-1a`.
pub(crate) fn zone_id(region: &str, zone: &str) -> String {
    let mut parts = region.split('-');
    let (continent, rest) = (parts.next().unwrap_or_default(), parts.collect::<Vec<_>>());
    let short: String = rest.iter().filter_map(|part| part.chars().next()).collect();
    let letter = zone.bytes().last().unwrap_or(b'a').saturating_sub(b'a');
    format!("{continent}{short}-az{}", letter + 1)
}
