//! The built-in table: what EC2 said about every instance type when the table was generated.
//!
//! For the time when DescribeInstanceTypes cannot be asked. The table is constant data, found by binary search; nothing
//! is parsed or allocated before a lookup.

use super::generated::{CARDS, SHAPES, TYPES};
use crate::{Hypervisor, InstanceLimits, NetworkCard};

/// What several types have in common.
pub(super) struct Shape {
    pub(super) enis: u32,
    pub(super) ipv4_per_eni: u32,
    /// Index into `CARDS`.
    pub(super) cards: usize,
    pub(super) default_card: u32,
    pub(super) hypervisor: Hypervisor,
    pub(super) bare_metal: bool,
}

/// The limits of an instance type, if the table knows it.
///
/// For types with several network cards the table's [`InstanceLimits::enis`] is what the default card carries, while
/// DescribeInstanceTypes counts all cards: the table promises less, never more.
#[must_use]
pub fn builtin(instance_type: &str) -> Option<InstanceLimits> {
    let at = TYPES.binary_search_by(|(name, _)| (*name).cmp(instance_type)).ok()?;
    let shape = &SHAPES[usize::from(TYPES[at].1)];
    let cards = CARDS[shape.cards].iter().map(|&(index, max_enis)| NetworkCard { index, max_enis }).collect();
    InstanceLimits::new(
        shape.enis,
        shape.ipv4_per_eni,
        cards,
        shape.default_card,
        shape.hypervisor,
        shape.bare_metal,
    )
    .ok()
}

/// The names of all types that [`builtin`] knows, sorted.
pub fn builtin_types() -> impl Iterator<Item = &'static str> {
    TYPES.iter().map(|(name, _)| *name)
}
