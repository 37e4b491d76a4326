//! Tables, chains and rules as data.

use super::expr::Expr;
use super::set::Set;
use crate::codec::Message;
use sha1::{Digest, Sha1};

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
