//! Whether a pool can be used (R13). What contradicts itself is found before anything runs; what collides with the VPC, with routes
//! of others or with another cluster's claim is found in what was read. Every mistake is told, not the first.
//!
//! A pool with a mistake gives no new blocks. Blocks that nodes have keep their routes: pods live on them.

use super::Family;
use super::family::overlap;
use super::settings::{BlocksFrom, CLAIM_TAG, PoolSpec, Settings};
use super::sight::{Sights, origin_name};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Serialize;
use spur_cloud::{RouteOrigin, RouteTable, RouteTableId, RouteTarget, Vpc};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// EC2 takes a tag value of at most so many characters; a claim must fit into one.
const TAG_VALUE_MAX: usize = 256;

/// Why a pool cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
#[expect(missing_docs, reason = "Display says what each is")]
pub enum PoolMistake {
    Empty,
    BlockTooWide { cidr: IpNet, block: u8 },
    Twice { cidr: IpNet, other: IpNet },
    Reserved { cidr: IpNet, reserved: IpNet, what: &'static str },
    Services { cidr: IpNet, services: IpNet },
    ClaimTooLong { characters: usize },
    Vpc { cidr: IpNet, vpc: IpNet },
    Route { cidr: IpNet, table: RouteTableId, destination: IpNet, target: String, origin: String },
    Claimed { cidr: IpNet, table: RouteTableId, by: String, claim: IpNet },
}

impl fmt::Display for PoolMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the pool has no CIDR; expected at least one"),
            Self::BlockTooWide { cidr, block } => {
                write!(
                    f,
                    "a block of /{block} does not fit into {cidr}; expected a longer prefix, within the family's bits"
                )
            }
            Self::Twice { cidr, other } => write!(f, "{cidr} overlaps {other} of the same pool"),
            Self::Reserved { cidr, reserved, what } => write!(f, "{cidr} overlaps {reserved}, {what}"),
            Self::Services { cidr, services } => write!(f, "{cidr} overlaps the service CIDR {services}"),
            Self::ClaimTooLong { characters } => write!(
                f,
                "the CIDRs take {characters} characters as a tag; EC2 allows {TAG_VALUE_MAX}, so expected fewer and larger CIDRs"
            ),
            Self::Vpc { cidr, vpc } => {
                write!(f, "{cidr} overlaps {vpc} of the VPC; EC2 accepts no route of ours there")
            }
            Self::Route { cidr, table, destination, target, origin } => {
                write!(
                    f,
                    "{cidr} overlaps the route {destination} to {target} in {table} (origin {origin}), which is not ours"
                )
            }
            Self::Claimed { cidr, table, by, claim } => {
                write!(f, "{cidr} overlaps {claim}, which cluster {by} claims in {table}")
            }
        }
    }
}

/// Networks that can never be pods'.
fn reserved() -> [(IpNet, &'static str); 8] {
    let v4 = |a, b, length| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), length));
    let v6 = |a, b, length| IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), length));
    [
        (v4(0, 0, 8), "which means \"this network\""),
        (v4(127, 0, 8), "the loopback addresses"),
        (v4(169, 254, 16), "the link-local addresses, where EC2's own services are"),
        (v4(224, 0, 4), "the multicast addresses"),
        (v4(240, 0, 4), "reserved by the IETF"),
        (v6(0xfd00, 0x0ec2, 32), "where EC2's own services are"),
        (v6(0xfe80, 0, 10), "the link-local addresses"),
        (v6(0xff00, 0, 8), "the multicast addresses"),
    ]
}

impl PoolSpec {
    /// Prefix length of blocks of a family.
    #[must_use]
    pub const fn block_length(&self, family: Family) -> u8 {
        match family {
            Family::V4 => self.block_v4,
            Family::V6 => self.block_v6,
        }
    }

    /// Families that nodes get blocks of.
    #[must_use]
    pub fn families(&self) -> BTreeSet<Family> {
        self.cidrs.iter().map(|cidr| Family::of(*cidr)).collect()
    }

    /// Whether all addresses of the network are the pool's.
    #[must_use]
    pub fn holds(&self, net: IpNet) -> bool {
        self.cidrs.iter().any(|cidr| cidr.contains(&net))
    }

    /// Whether a route to exactly this can be one of ours.
    #[must_use]
    pub fn is_block(&self, net: IpNet) -> bool {
        self.holds(net)
            && (self.blocks_from == BlocksFrom::NodeSpec
                || net.prefix_len() == self.block_length(Family::of(net)))
    }

    /// The value of the claim tag.
    #[must_use]
    pub fn claim(&self) -> String {
        self.cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    /// What is wrong with the pool whatever the VPC looks like.
    #[must_use]
    pub fn mistakes(&self) -> Vec<PoolMistake> {
        let mut wrong = Vec::new();
        if self.cidrs.is_empty() {
            wrong.push(PoolMistake::Empty);
        }
        let characters = self.claim().len();
        if characters > TAG_VALUE_MAX {
            wrong.push(PoolMistake::ClaimTooLong { characters });
        }
        for (at, cidr) in self.cidrs.iter().copied().enumerate() {
            let block = self.block_length(Family::of(cidr));
            if block < cidr.prefix_len() || block > cidr.max_prefix_len() {
                wrong.push(PoolMistake::BlockTooWide { cidr, block });
            }
            let others = self.cidrs.iter().take(at).filter(|other| overlap(cidr, **other));
            wrong.extend(others.map(|other| PoolMistake::Twice { cidr, other: *other }));
            let bad = reserved().into_iter().filter(|(net, _)| overlap(cidr, *net));
            wrong.extend(bad.map(|(reserved, what)| PoolMistake::Reserved { cidr, reserved, what }));
            let services = self.service_cidrs.iter().filter(|services| overlap(cidr, **services));
            wrong.extend(services.map(|services| PoolMistake::Services { cidr, services: *services }));
        }
        wrong
    }
}

/// What of the VPC the pool collides with.
pub(super) fn collisions<'a>(
    settings: &Settings,
    vpc: Option<&Vpc>,
    sights: &Sights,
    managed: impl Iterator<Item = &'a RouteTableId>,
) -> Vec<PoolMistake> {
    let pool = &settings.pool;
    let mut wrong = Vec::new();
    for cidr in &pool.cidrs {
        let inside = vpc.into_iter().flat_map(|vpc| &vpc.cidrs).filter(|vpc| overlap(*cidr, **vpc));
        wrong.extend(inside.map(|vpc| PoolMistake::Vpc { cidr: *cidr, vpc: *vpc }));
    }
    for sight in managed.filter_map(|id| sights.get(id)) {
        for (destination, route) in sight.routes() {
            let Some(cidr) = pool.cidrs.iter().find(|cidr| overlap(**cidr, *destination)) else { continue };
            if route.target == RouteTarget::Local {
                // Of IPv6 the tables alone tell, and of a new CIDR they tell first.
                wrong.push(PoolMistake::Vpc { cidr: *cidr, vpc: *destination });
                continue;
            }
            // A default route covers every pool, and ours are more specific.
            let is_expected = destination.prefix_len() == 0
                || pool.accepted_routes.contains(destination)
                // To an ENI, by a call: a block of ours, or one that we do not know and never give out.
                || (pool.is_block(*destination)
                    && route.origin == RouteOrigin::CreateRoute
                    && matches!(route.target, RouteTarget::Eni(_)));
            if !is_expected {
                wrong.push(PoolMistake::Route {
                    cidr: *cidr,
                    table: sight.table.id.clone(),
                    destination: *destination,
                    target: route.target.to_string(),
                    origin: origin_name(&route.origin).to_owned(),
                });
            }
        }
        wrong.extend(claims_of_others(settings, &sight.table));
    }
    wrong
}

/// Claims of other clusters on our addresses. A claim that makes no sense says nothing; what is in the table still does.
pub(super) fn claims_of_others(settings: &Settings, table: &RouteTable) -> Vec<PoolMistake> {
    let mut wrong = Vec::new();
    for (key, value) in &table.tags {
        let Some(by) = key.strip_prefix(CLAIM_TAG).filter(|by| *by != settings.cluster) else { continue };
        for claim in value.split_whitespace().filter_map(|text| text.parse::<IpNet>().ok()) {
            let taken = settings.pool.cidrs.iter().filter(|cidr| overlap(**cidr, claim));
            wrong.extend(taken.map(|cidr| PoolMistake::Claimed {
                cidr: *cidr,
                table: table.id.clone(),
                by: by.to_owned(),
                claim,
            }));
        }
    }
    wrong
}
