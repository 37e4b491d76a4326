//! The normal form of a table, and what makes one of the other.
//!
//! A table in use is changed part by part and never taken away as a whole: a packet in between two chains, or between a rule and the set that the
//! rule asks, would find the old one emptied and the new one not yet there. Where packets are led by marks, it would leave by the wrong ENI. The kernel
//! swaps the rules of a chain at once, but fills a new set, and empties an old one, a moment before or after that. So what is new comes in a transaction
//! of its own, before anything leads to it; then chains keep their place and get other rules, and sets get and lose those elements that differ; and what
//! is old goes in a third transaction, when no packet is in it any more.

use super::set::{Entry, Set, SetKind};
use super::table::{Base, Chain, Rule, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A table in normal form: as wanted, or as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shape {
    /// The table's own flags, none of which is wanted: 1 is dormant (no packet passes its chains), 2 owned by a process.
    pub flags: u32,
    /// Chains: where they hang, and the tags of their rules in order. A rule that is not ours has the tag "".
    pub chains: BTreeMap<String, (Option<Base>, Vec<String>)>,
    /// Sets: type and elements. None when those in the kernel do not read as ranges: somebody wrote half of one.
    pub sets: BTreeMap<String, (SetKind, Option<Vec<Entry>>)>,
    /// Counters.
    pub counters: BTreeSet<String>,
}

/// How a table in the kernel differs from the wanted one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableDiff {
    /// Not at all.
    InSync,
    /// It is not there, or so different that it makes way for a new one; the reason.
    Replace {
        /// What was found.
        why: String,
    },
    /// In these parts.
    Parts(Parts),
}

/// What must change in a table. Packets that pass meanwhile see every chain and every set as it was or as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parts {
    /// Counters to add.
    pub new_counters: Vec<String>,
    /// Sets to add.
    pub new_sets: Vec<String>,
    /// Chains to add that others lead to.
    pub new_chains: Vec<String>,
    /// Base chains to add.
    pub new_bases: Vec<String>,
    /// Chains whose rules are written again.
    pub other_rules: Vec<String>,
    /// Sets whose elements differ.
    pub elements: Vec<SetDiff>,
    /// What is to be deleted after all that.
    pub old: OldParts,
}

/// How the elements of a set differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetDiff {
    /// The set.
    pub name: String,
    /// Those to delete; none when all are.
    pub gone: Option<Vec<Entry>>,
    /// Those to add.
    pub new: Vec<Entry>,
}

/// Parts that the wanted table does not have. Packets may still be in them when the new ones are there already.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OldParts {
    /// Chains.
    pub chains: Vec<String>,
    /// Sets and maps.
    pub sets: Vec<String>,
    /// Counters.
    pub counters: Vec<String>,
}

impl OldParts {
    /// True when there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.sets.is_empty() && self.counters.is_empty()
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changed: Vec<_> = self.elements.iter().map(|set| set.name.clone()).collect();
        let kinds = [
            ("new counters", &self.new_counters),
            ("new sets", &self.new_sets),
            ("new chains", &[&self.new_chains[..], &self.new_bases[..]].concat()),
            ("chains with other rules", &self.other_rules),
            ("changed sets", &changed),
            ("old chains", &self.old.chains),
            ("old sets", &self.old.sets),
            ("old counters", &self.old.counters),
        ];
        let named = kinds.iter().filter(|(_, names)| !names.is_empty());
        let texts: Vec<_> = named.map(|(kind, names)| format!("{kind}: {}", names.join(", "))).collect();
        f.write_str(&texts.join("; "))
    }
}

impl Table {
    /// The normal form.
    #[must_use]
    pub fn shape(&self) -> Shape {
        let chain =
            |chain: &Chain| (chain.name.clone(), (chain.base, chain.rules.iter().map(Rule::tag).collect()));
        let set = |set: &Set| (set.name.clone(), (set.content.kind(), Some(set.content.entries())));
        Shape {
            flags: 0,
            chains: self.chains.iter().map(chain).collect(),
            sets: self.sets.iter().map(set).collect(),
            counters: self.counters.iter().cloned().collect(),
        }
    }

    /// What must change in `actual` so that it is this table.
    #[must_use]
    pub fn diff(&self, actual: Option<&Shape>) -> TableDiff {
        let Some(actual) = actual else { return TableDiff::Replace { why: "the table is not there".into() } };
        let wanted = self.shape();
        if let Some(why) = beyond_repair(&wanted, actual) {
            return TableDiff::Replace { why };
        }
        let parts = parts(&wanted, actual);
        if parts == Parts::default() { TableDiff::InSync } else { TableDiff::Parts(parts) }
    }
}

/// A difference that the kernel cannot make up for in a part that is there.
fn beyond_repair(wanted: &Shape, actual: &Shape) -> Option<String> {
    if actual.flags != wanted.flags {
        return Some(format!("the table has the flags {:#x}", actual.flags));
    }
    let both = wanted.chains.iter().filter_map(|(name, chain)| Some((name, chain, actual.chains.get(name)?)));
    for (name, (base, _), (found, _)) in both {
        if found != base {
            return Some(format!("chain {name} hangs elsewhere"));
        }
    }
    let both = wanted.sets.iter().filter_map(|(name, set)| Some((name, set, actual.sets.get(name)?)));
    for (name, (kind, _), (found, _)) in both {
        if found != kind {
            return Some(format!("set {name} is of another type"));
        }
    }
    None
}

fn parts(wanted: &Shape, actual: &Shape) -> Parts {
    let has_other_rules =
        |name: &&String| actual.chains.get(*name).is_some_and(|found| *found != wanted.chains[*name]);
    let (new_bases, new_chains) =
        missing(&actual.chains, &wanted.chains).into_iter().partition(|name| wanted.chains[name].0.is_some());
    Parts {
        new_counters: wanted.counters.difference(&actual.counters).cloned().collect(),
        other_rules: wanted.chains.keys().filter(has_other_rules).cloned().collect(),
        new_sets: missing(&actual.sets, &wanted.sets),
        new_chains,
        new_bases,
        elements: wanted
            .sets
            .iter()
            .filter_map(|(name, (_, entries))| {
                let (_, found) = actual.sets.get(name)?;
                elements(name, entries.as_deref().unwrap_or_default(), found.as_deref())
            })
            .collect(),
        old: OldParts {
            chains: missing(&wanted.chains, &actual.chains),
            sets: missing(&wanted.sets, &actual.sets),
            counters: actual.counters.difference(&wanted.counters).cloned().collect(),
        },
    }
}

/// Names of what is there and not here.
fn missing<T>(here: &BTreeMap<String, T>, there: &BTreeMap<String, T>) -> Vec<String> {
    there.keys().filter(|name| !here.contains_key(*name)).cloned().collect()
}

fn elements(name: &str, wanted: &[Entry], found: Option<&[Entry]>) -> Option<SetDiff> {
    let but = |some: &[Entry], others: &[Entry]| -> Vec<Entry> {
        let others: BTreeSet<_> = others.iter().collect();
        some.iter().filter(|entry| !others.contains(entry)).cloned().collect()
    };
    let diff = SetDiff {
        name: name.to_owned(),
        gone: found.map(|found| but(found, wanted)),
        new: but(wanted, found.unwrap_or_default()),
    };
    (diff.gone != Some(Vec::new()) || !diff.new.is_empty()).then_some(diff)
}
