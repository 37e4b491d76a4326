//! The limits of one instance type, consistent by construction.

use serde::{Deserialize, Serialize};

/// What the instance runs on; only Nitro and bare metal may have delegated prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hypervisor {
    /// Nitro.
    Nitro,
    /// Xen.
    Xen,
    /// EC2 does not say (bare metal).
    Unknown,
}

/// A network card: ENIs are counted per card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkCard {
    /// Its index.
    pub index: u32,
    /// ENIs that it can carry.
    pub max_enis: u32,
}

/// Limits of an instance type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceLimits {
    enis: u32,
    ipv4_per_eni: u32,
    cards: Vec<NetworkCard>,
    default_card: u32,
    hypervisor: Hypervisor,
    bare_metal: bool,
}

/// Why figures do not make limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// No ENI or no address.
    #[error("{0} is 0, but every instance has at least one")]
    Zero(&'static str),
    /// The default card is not among the cards.
    #[error("default network card {0} is not among the cards")]
    NoDefaultCard(u32),
}

impl InstanceLimits {
    /// Limits from the figures of EC2; an empty list of cards means one card 0 with all ENIs.
    ///
    /// # Errors
    /// When the figures contradict each other.
    pub fn new(
        enis: u32,
        ipv4_per_eni: u32,
        cards: Vec<NetworkCard>,
        default_card: u32,
        hypervisor: Hypervisor,
        bare_metal: bool,
    ) -> Result<Self, LimitsError> {
        if enis == 0 {
            return Err(LimitsError::Zero("maximum number of ENIs"));
        }
        if ipv4_per_eni == 0 {
            return Err(LimitsError::Zero("IPv4 addresses per ENI"));
        }
        let cards = if cards.is_empty() { vec![NetworkCard { index: 0, max_enis: enis }] } else { cards };
        if !cards.iter().any(|card| card.index == default_card) {
            return Err(LimitsError::NoDefaultCard(default_card));
        }
        Ok(Self { enis, ipv4_per_eni, cards, default_card, hypervisor, bare_metal })
    }

    /// ENIs of the whole instance, whatever card they are on (but see [`crate::builtin`]).
    #[must_use]
    pub const fn enis(&self) -> u32 {
        self.enis
    }

    /// IPv4 addresses per ENI, the primary one included; a /28 prefix takes the place of one address.
    #[must_use]
    pub const fn ipv4_per_eni(&self) -> u32 {
        self.ipv4_per_eni
    }

    /// Network cards.
    #[must_use]
    pub fn cards(&self) -> &[NetworkCard] {
        &self.cards
    }

    /// The card that an ENI goes to when none is named.
    #[must_use]
    pub const fn default_card(&self) -> u32 {
        self.default_card
    }

    /// The hypervisor.
    #[must_use]
    pub const fn hypervisor(&self) -> Hypervisor {
        self.hypervisor
    }

    /// Whether it is a machine without hypervisor.
    #[must_use]
    pub const fn bare_metal(&self) -> bool {
        self.bare_metal
    }

    /// Whether /28 prefixes can be delegated to its ENIs.
    #[must_use]
    pub const fn prefix_delegation(&self) -> bool {
        self.bare_metal || matches!(self.hypervisor, Hypervisor::Nitro)
    }
}
