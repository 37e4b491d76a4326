//! Tables, chains and rules as data; their normal form; and the difference between two of those.

use super::expr::Expr;
use super::set::{Entry, Set, SetKind};
use crate::codec::Message;
use sha1::{Digest, Sha1};
use std::collections::{BTreeMap, BTreeSet};

/// Address family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        })
    }
}

impl Family {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Ip6 => 10,
        }
    }
}

/// A whole table. Names of its parts are unique by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: String,
    /// Names of its counters, for [`Expr::Count`].
    pub counters: Vec<String>,
    /// Its sets and maps.
    pub sets: Vec<Set>,
    /// Its chains.
    pub chains: Vec<Chain>,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where packets enter it; none for a chain that others jump to.
    pub base: Option<Base>,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// Where a base chain hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// What it may do.
    pub kind: ChainKind,
    /// When a packet comes by.
    pub hook: Hook,
    /// Its place among the chains at the hook: lower is earlier.
    pub priority: i32,
    /// What happens at its end.
    pub policy: Policy,
}

/// What a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Match, mark, drop.
    Filter,
    /// Translate: sees the first packet of a flow.
    Nat,
}

/// When a packet passes a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// To this host.
    Input,
    /// Through this host.
    Forward,
    /// From this host.
    Output,
    /// After routing.
    Postrouting,
}

/// What a base chain does with a packet at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Lets it pass.
    Accept,
    /// Drops it.
    Drop,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Why it is there: shown by `nft list`, followed by a digest of the expressions.
    pub comment: String,
    /// What it matches and does.
    pub expressions: Vec<Expr>,
}

impl Rule {
    /// A rule.
    #[must_use]
    pub fn new(comment: &str, expressions: Vec<Expr>) -> Self {
        Self { comment: comment.to_owned(), expressions }
    }

    /// The expressions as the kernel wants them.
    pub(super) fn encode(&self, list: &mut Message) {
        for expression in &self.expressions {
            expression.encode(list);
        }
    }

    /// The comment with its digest, and short enough for nft, which takes 127 bytes.
    #[must_use]
    pub fn tag(&self) -> String {
        let mut encoded = Message::new(0, 0, &[]);
        self.encode(&mut encoded);
        let digest = Sha1::digest(encoded.body(0));
        let comment: String = self.comment.chars().filter(char::is_ascii).take(100).collect();
        format!("{comment} #{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
    }
}

/// A table in normal form: as wanted, or as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shape {
    /// The table's own flags, none of which is wanted: 1 is dormant (no packet passes its chains), 2 owned by a process.
    pub flags: u32,
    /// Chains: where they hang, and the tags of their rules in order. A rule that is not ours has the tag "".
    pub chains: BTreeMap<String, (Option<Base>, Vec<String>)>,
    /// Sets: type and elements.
    pub sets: BTreeMap<String, (SetKind, Vec<Entry>)>,
    /// Counters.
    pub counters: BTreeSet<String>,
}

/// How a table in the kernel differs from the wanted one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableDiff {
    /// Not at all.
    InSync,
    /// So much that it is replaced; the reason.
    Replace {
        /// What was found.
        why: String,
    },
    /// Only in whole chains that others jump to, and in elements of sets.
    Parts {
        /// Chains to add.
        new_chains: Vec<String>,
        /// Sets whose elements differ.
        sets: Vec<String>,
        /// Chains to delete, after the elements that led to them.
        old_chains: Vec<String>,
    },
}

impl Table {
    /// The normal form.
    #[must_use]
    pub fn shape(&self) -> Shape {
        let chain =
            |chain: &Chain| (chain.name.clone(), (chain.base, chain.rules.iter().map(Rule::tag).collect()));
        let set = |set: &Set| (set.name.clone(), (set.content.kind(), set.content.entries()));
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
        let missing = |from: &Shape, of: &Shape| -> Vec<String> {
            of.chains.keys().filter(|name| !from.chains.contains_key(*name)).cloned().collect()
        };
        let sets: Vec<String> = wanted
            .sets
            .iter()
            .filter(|(name, set)| actual.sets.get(*name) != Some(set))
            .map(|(name, _)| name.clone())
            .collect();
        let (new_chains, old_chains) = (missing(actual, &wanted), missing(&wanted, actual));
        if new_chains.is_empty() && sets.is_empty() && old_chains.is_empty() {
            return TableDiff::InSync;
        }
        TableDiff::Parts { new_chains, sets, old_chains }
    }
}

/// A difference that adding and deleting chains and elements cannot mend.
fn beyond_repair(wanted: &Shape, actual: &Shape) -> Option<String> {
    if actual.flags != wanted.flags {
        return Some(format!("the table has the flags {:#x}", actual.flags));
    }
    for (name, (base, rules)) in &wanted.chains {
        match actual.chains.get(name) {
            None if base.is_some() => return Some(format!("chain {name} is missing")),
            Some((found, _)) if found != base => return Some(format!("chain {name} hangs elsewhere")),
            Some((_, found)) if found != rules => return Some(format!("chain {name} has other rules")),
            _ => {}
        }
    }
    let foreign =
        actual.chains.iter().find(|(name, (base, _))| base.is_some() && !wanted.chains.contains_key(*name));
    if let Some((name, _)) = foreign {
        return Some(format!("chain {name} is not ours"));
    }
    let kinds = |shape: &Shape| -> Vec<(String, SetKind)> {
        shape.sets.iter().map(|(name, (kind, _))| (name.clone(), *kind)).collect()
    };
    if kinds(wanted) != kinds(actual) {
        return Some("its sets are others".into());
    }
    (wanted.counters != actual.counters).then(|| "its counters are others".into())
}
