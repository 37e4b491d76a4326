//! nf_tables over netlink: tables described as data, encoded by our own encoder and put into the kernel in transactions.
//!
//! A [`Table`] is a whole description: counters, sets, chains, rules of typed [`Expr`]. [`Nft::replace`] puts one there,
//! [`Nft::update`] changes only what a [`TableDiff`] names, without a gap for any packet; [`Nft::observe`] reads a table back as a [`Shape`], the normal
//! form in which wanted and actual tables are compared. Every rule carries a comment that ends with a digest of its expressions, so that a rule that
//! somebody exchanged is noticed without decoding expressions.
//!
//! What is not expressible here is not used by Spur. IPv4 keys only for now; an `ip6` twin of a table is a table of its own.

mod diff;
mod encode;
mod expr;
mod foreign;
mod read;
mod set;
mod table;
mod wire;

pub use crate::socket::NetlinkError as NftError;
pub use diff::{OldParts, Parts, SetDiff, Shape, TableDiff};
pub use expr::{Expr, NameMatch, Ports, Verdict};
pub use foreign::Masquerader;
pub use set::{Content, Entry, Set, SetKind};
pub use table::{Base, Chain, ChainKind, Family, Hook, Policy, Rule, Table};

use crate::netns::NetNs;
use crate::socket::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use rustix::thread::{MembarrierCommand, membarrier};
use std::collections::BTreeMap;
use wire::Batch;

/// Packets and bytes that a named counter has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// An nf_tables socket.
#[derive(Debug)]
pub struct Nft {
    pub(crate) socket: Socket,
    /// What was observed last of each table, and the generation of the ruleset before.
    observed: BTreeMap<(Family, String), (u32, Option<Shape>)>,
}

impl Nft {
    /// A socket in the calling thread's namespace.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, NftError> {
        Ok(Self::over(Socket::open(NETLINK_NETFILTER)?))
    }

    /// A socket in `ns`.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the kernel gives no socket.
    pub fn open_in(ns: &NetNs) -> Result<Self, NftError> {
        Ok(Self::over(Socket::open_in(NETLINK_NETFILTER, ns)?))
    }

    pub(crate) const fn over(socket: Socket) -> Self {
        Self { socket, observed: BTreeMap::new() }
    }

    /// Puts the table in place of the one of that name, in one transaction. Counters start at zero. A packet that passes in this moment may find
    /// neither: a table that is in use is changed by [`Nft::update`].
    ///
    /// # Errors
    /// What the kernel refused; then the old table is still there, whole.
    pub fn replace(&mut self, table: &Table) -> Result<(), NftError> {
        let mut batch = Batch::new(table.family, &table.name);
        // Deleting what is not there is an error; adding what is there is not.
        batch.add_table();
        batch.delete_table();
        batch.add_table();
        for counter in &table.counters {
            batch.add_counter(counter);
        }
        for chain in &table.chains {
            batch.add_chain(chain);
        }
        for set in &table.sets {
            batch.add_set(set);
        }
        for chain in &table.chains {
            batch.add_rules(chain);
        }
        batch.commit(&mut self.socket, &format!("replace nft table {}", table.name))
    }

    /// Makes the table in the kernel what is wanted, changing only what differs, so that every packet that passes meanwhile is treated as before or as
    /// wanted: in up to three transactions. Who is killed between them leaves a rest for the next comparison.
    ///
    /// # Errors
    /// What the kernel refused; then nothing was changed by that transaction, and none follows.
    pub fn update(&mut self, table: &Table, diff: &TableDiff) -> Result<(), NftError> {
        let parts = match diff {
            TableDiff::InSync => return Ok(()),
            TableDiff::Replace { .. } => return self.replace(table),
            TableDiff::Parts(parts) => parts,
        };
        self.transact(table, |batch| batch.prepare(table, parts))?;
        self.transact(table, |batch| batch.change(table, parts))?;
        if parts.old.is_empty() {
            return Ok(());
        }
        // The kernel waits for all readers of what is now old, packets among them. Where it cannot (on machines with processors that are never
        // interrupted), the time that passes anyway has to do.
        let _ = membarrier(MembarrierCommand::Global);
        self.transact(table, |batch| batch.delete(&parts.old))
    }

    fn transact(&mut self, table: &Table, fill: impl FnOnce(&mut Batch<'_>)) -> Result<(), NftError> {
        let mut batch = Batch::new(table.family, &table.name);
        fill(&mut batch);
        batch.commit(&mut self.socket, &format!("update nft table {}", table.name))
    }

    /// Deletes a table with all that is in it; no error when there is none.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn delete_table(&mut self, family: Family, table: &str) -> Result<(), NftError> {
        let mut batch = Batch::new(family, table);
        batch.add_table();
        batch.delete_table();
        batch.commit(&mut self.socket, &format!("delete nft table {table}"))
    }

    /// Reads a table back; `None` when there is none. It is not read while nobody changes any table: the kernel lists the chains of one only
    /// together with all others', of which kube-proxy may have many thousands.
    ///
    /// # Errors
    /// When the kernel's lists cannot be read.
    pub fn observe(&mut self, family: Family, table: &str) -> Result<Option<Shape>, NftError> {
        // Asked first: what changes from here on belongs to a later generation.
        let generation = read::generation(&mut self.socket)?;
        let key = (family, table.to_owned());
        if let Some((_, shape)) = self.observed.get(&key).filter(|(then, _)| *then == generation) {
            return Ok(shape.clone());
        }
        let shape = self.read(family, table)?;
        self.observed.insert(key, (generation, shape.clone()));
        Ok(shape)
    }

    pub(crate) fn read(&mut self, family: Family, table: &str) -> Result<Option<Shape>, NftError> {
        read::shape(&mut self.socket, family, table)
    }

    /// Rules in other tables than `own` that translate traffic from `local` after routing.
    ///
    /// # Errors
    /// When the kernel's lists cannot be read.
    pub fn masqueraders(
        &mut self,
        own: &str,
        local: &[ipnet::Ipv4Net],
    ) -> Result<Vec<Masquerader>, NftError> {
        foreign::masqueraders(&mut self.socket, own, local)
    }

    /// The named counters of a table; empty when there is no such table.
    ///
    /// # Errors
    /// When the kernel's list cannot be read.
    pub fn counters(&mut self, family: Family, table: &str) -> Result<BTreeMap<String, Counter>, NftError> {
        read::counters(&mut self.socket, family, table)
    }
}

/// The fewest prefixes that cover the same addresses: the kernel refuses elements that overlap.
#[must_use]
pub fn aggregate(prefixes: &[ipnet::Ipv4Net]) -> Vec<ipnet::Ipv4Net> {
    let prefixes: Vec<_> = prefixes.iter().map(ipnet::Ipv4Net::trunc).collect();
    ipnet::Ipv4Net::aggregate(&prefixes)
}

#[cfg(test)]
mod tests;
