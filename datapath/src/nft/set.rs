//! Named sets and verdict maps, and how their elements look to the kernel.
//!
//! A set of prefixes is an interval set: an element for the first address of a range and one, flagged as end, for the
//! address *behind* the last; a range that ends with the last address of all has no end element. Ranges must not overlap, so prefixes are
//! aggregated before they are encoded; in a map, where aggregation would lose verdicts, the longer prefix wins.

use super::encode::name_bytes;
use super::expr::Verdict;
use crate::IfName;
use ipnet::{Ipv4Net, Ipv6Net};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// A named set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name in the table.
    pub name: String,
    /// What kind it is and what is in it.
    pub content: Content,
}

/// Elements of a set; the variant is the set's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// IPv4 prefixes, in any order, overlapping or not.
    Prefixes(Vec<Ipv4Net>),
    /// IPv6 prefixes, in any order, overlapping or not.
    Prefixes6(Vec<Ipv6Net>),
    /// IPv4 prefixes, each with a verdict.
    PrefixVerdicts(Vec<(Ipv4Net, Verdict)>),
    /// Interface names, each with a verdict.
    InterfaceVerdicts(Vec<(IfName, Verdict)>),
    /// Interface names with an IPv4 address.
    InterfaceAddresses(Vec<(IfName, Ipv4Addr)>),
}

/// A set's type as the kernel knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetKind {
    /// The key's type number, which only user space reads.
    pub key_type: u32,
    /// Length of the key in bytes.
    pub key_bytes: u32,
    /// Whether elements are ranges.
    pub interval: bool,
    /// Whether elements have verdicts.
    pub verdicts: bool,
}

/// A range of keys, both ends included, in the kernel's bytes; in a set without ranges both are the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The first key.
    pub first: Vec<u8>,
    /// The last key.
    pub last: Vec<u8>,
    /// The verdict, in a map.
    pub verdict: Option<Verdict>,
}

const TYPE_IPADDR: u32 = 7;
const TYPE_IP6ADDR: u32 = 8;
pub(super) const TYPE_IFNAME: u32 = 41;
/// A concatenation's type number: six bits per part.
const TYPE_IFNAME_IPADDR: u32 = TYPE_IFNAME << 6 | TYPE_IPADDR;

impl Content {
    /// The set's type.
    #[must_use]
    pub const fn kind(&self) -> SetKind {
        let (key_type, key_bytes, interval, verdicts) = match self {
            Self::Prefixes(_) => (TYPE_IPADDR, 4, true, false),
            Self::Prefixes6(_) => (TYPE_IP6ADDR, 16, true, false),
            Self::PrefixVerdicts(_) => (TYPE_IPADDR, 4, true, true),
            Self::InterfaceVerdicts(_) => (TYPE_IFNAME, 16, false, true),
            Self::InterfaceAddresses(_) => (TYPE_IFNAME_IPADDR, 20, false, false),
        };
        SetKind { key_type, key_bytes, interval, verdicts }
    }

    /// The elements in normal form: sorted, without overlap, adjacent ranges without verdicts joined.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        match self {
            Self::Prefixes(prefixes) => ranges(prefixes.iter().map(|prefix| (*prefix, None)).collect()),
            Self::Prefixes6(prefixes) => ranges6(prefixes),
            Self::PrefixVerdicts(prefixes) => {
                ranges(prefixes.iter().map(|(prefix, verdict)| (*prefix, Some(verdict.clone()))).collect())
            }
            Self::InterfaceVerdicts(pairs) => exact(
                pairs
                    .iter()
                    .map(|(name, verdict)| (name_bytes(name.as_str()).to_vec(), Some(verdict.clone()))),
            ),
            Self::InterfaceAddresses(pairs) => exact(pairs.iter().map(|(name, address)| {
                let key = name_bytes(name.as_str()).into_iter().chain(address.octets()).collect();
                (key, None)
            })),
        }
    }
}

fn exact(elements: impl Iterator<Item = (Vec<u8>, Option<Verdict>)>) -> Vec<Entry> {
    let unique: BTreeMap<Vec<u8>, Option<Verdict>> = elements.collect();
    unique.into_iter().map(|(key, verdict)| Entry { first: key.clone(), last: key, verdict }).collect()
}

/// Flattens prefixes to ranges. Prefixes are nested or apart, never crossing: a walk in order with a stack of those that are open.
fn ranges(mut prefixes: Vec<(Ipv4Net, Option<Verdict>)>) -> Vec<Entry> {
    for (prefix, _) in &mut prefixes {
        *prefix = prefix.trunc();
    }
    // Ipv4Net's order is by address, then by length: an outer prefix comes before those inside it.
    prefixes.sort_by_key(|(prefix, _)| (prefix.network(), prefix.prefix_len()));
    let mut joined = Joined::default();
    let mut open: Vec<(u64, Option<Verdict>)> = Vec::new();
    let mut at = 0_u64;
    for (prefix, verdict) in prefixes {
        let first = u64::from(u32::from(prefix.network()));
        close(&mut open, first, &mut at, &mut joined);
        if let Some((_, outer)) = open.last() {
            joined.push(at, first, outer);
        }
        at = at.max(first);
        open.push((u64::from(u32::from(prefix.broadcast())) + 1, verdict));
    }
    close(&mut open, u64::MAX, &mut at, &mut joined);
    joined.entries()
}

/// The ranges of IPv6 prefixes, which have no verdicts: joined where they touch.
fn ranges6(prefixes: &[Ipv6Net]) -> Vec<Entry> {
    let mut prefixes: Vec<_> = prefixes.iter().map(Ipv6Net::trunc).collect();
    prefixes = Ipv6Net::aggregate(&prefixes);
    prefixes.sort();
    let mut entries = Vec::new();
    for prefix in prefixes {
        let (first, last) = (prefix.network().octets().to_vec(), prefix.broadcast().octets().to_vec());
        join(&mut entries, Entry { first, last, verdict: None });
    }
    entries
}

/// Adds a range behind others; one that continues the last becomes part of it.
fn join(entries: &mut Vec<Entry>, entry: Entry) {
    match entries.last_mut() {
        Some(last) if last.verdict == entry.verdict && behind(&last.last).as_ref() == Some(&entry.first) => {
            last.last = entry.last;
        }
        _ => entries.push(entry),
    }
}

/// The key behind this one; none behind the last.
fn behind(key: &[u8]) -> Option<Vec<u8>> {
    let mut next = key.to_vec();
    let step = next.iter_mut().rev().any(|byte| {
        *byte = byte.wrapping_add(1);
        *byte != 0
    });
    step.then_some(next)
}

/// The key before this one; none before the first.
fn before(key: &[u8]) -> Option<Vec<u8>> {
    let mut previous = key.to_vec();
    let step = previous.iter_mut().rev().any(|byte| {
        *byte = byte.wrapping_sub(1);
        *byte != u8::MAX
    });
    step.then_some(previous)
}

/// Ends the open prefixes that end at or before `until`, innermost first.
fn close(open: &mut Vec<(u64, Option<Verdict>)>, until: u64, at: &mut u64, joined: &mut Joined) {
    while let Some((end, verdict)) = open.pop_if(|(end, _)| *end <= until) {
        joined.push(*at, end, &verdict);
        *at = end.max(*at);
    }
}

/// Half-open ranges in ascending order. Adjacent ones become one, but not in a map: there, an element that comes or goes leaves its neighbours alone.
#[derive(Default)]
struct Joined(Vec<(u64, u64, Option<Verdict>)>);

impl Joined {
    fn push(&mut self, first: u64, end: u64, verdict: &Option<Verdict>) {
        if end <= first {
            return;
        }
        match self.0.last_mut() {
            Some(last) if last.1 == first && last.2.is_none() && verdict.is_none() => last.1 = end,
            _ => self.0.push((first, end, verdict.clone())),
        }
    }

    fn entries(self) -> Vec<Entry> {
        let bytes = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        let entry = |(first, end, verdict)| Entry { first: bytes(first), last: bytes(end - 1), verdict };
        self.0.into_iter().map(entry).collect()
    }
}

/// An element as it is sent and received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) key: Vec<u8>,
    pub(super) is_end: bool,
    pub(super) verdict: Option<Verdict>,
}

/// The elements that say these entries.
pub(super) fn elements(entries: &[Entry], interval: bool) -> Vec<Element> {
    let mut elements = Vec::with_capacity(entries.len() * 2);
    for entry in entries {
        elements.push(Element { key: entry.first.clone(), is_end: false, verdict: entry.verdict.clone() });
        if let (true, Some(behind)) = (interval, behind(&entry.last)) {
            elements.push(Element { key: behind, is_end: true, verdict: None });
        }
    }
    elements
}

/// The entries that received elements say; none when they are not those of any ranges, because one end is missing or another range begins in between.
pub(super) fn entries_of(mut received: Vec<Element>, interval: bool) -> Option<Vec<Entry>> {
    // Ends nothing: nft begins a set with it.
    received.retain(|element| !element.is_end || element.key.iter().any(|byte| *byte != 0));
    // At the same key the end of one range comes before the start of the next.
    received.sort_by(|a, b| (&a.key, !a.is_end).cmp(&(&b.key, !b.is_end)));
    let entry = |(at, element): (usize, &Element)| {
        let last = match received.get(at + 1) {
            _ if !interval => Some(element.key.clone()),
            Some(next) => before(&next.key),
            None => Some(vec![u8::MAX; element.key.len()]),
        };
        Some(Entry { first: element.key.clone(), last: last?, verdict: element.verdict.clone() })
    };
    let starts = received.iter().enumerate().filter(|(_, element)| !element.is_end);
    let entries: Vec<_> = starts.map(entry).collect::<Option<_>>()?;
    (elements(&entries, interval) == received).then_some(entries)
}
