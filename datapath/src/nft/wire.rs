//! A transaction: messages between a batch's begin and end, applied by the kernel all or none.

use super::diff::{OldParts, Parts, SetDiff};
use super::expr::Verdict;
use super::set::{Element, Entry, Set, SetKind, TYPE_IFNAME, elements};
use super::table::{Base, Chain, ChainKind, Family, Hook, Policy, Table};
use crate::codec::{F_APPEND, F_CREATE, Message};
use crate::socket::{NetlinkError, Socket};

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const DELCHAIN: u16 = 5;
const NEWRULE: u16 = 6;
const DELRULE: u16 = 8;
const NEWSET: u16 = 9;
const DELSET: u16 = 11;
const NEWSETELEM: u16 = 12;
const DELSETELEM: u16 = 14;
const NEWOBJ: u16 = 18;
const DELOBJ: u16 = 20;
/// Elements per message: an attribute holds 64 KiB, an element with a verdict about 80 bytes.
const ELEMENTS_PER_MESSAGE: usize = 400;

pub(super) const SET_FLAG_INTERVAL: u32 = 4;
pub(super) const SET_FLAG_MAP: u32 = 8;
const TYPE_VERDICT: u32 = 0xffff_ff00;
const ELEMENT_INTERVAL_END: u32 = 1;
const OBJECT_COUNTER: u32 = 1;

/// The type of a message of the subsystem.
pub(super) const fn kind(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}

/// `struct nfgenmsg`.
pub(super) const fn header(family: Family) -> [u8; 4] {
    [family.number(), 0, 0, 0]
}

/// A transaction on one table.
pub(super) struct Batch<'a> {
    family: Family,
    table: &'a str,
    messages: Vec<Message>,
    names: Vec<String>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(family: Family, table: &'a str) -> Self {
        let mut batch = Self { family, table, messages: Vec::new(), names: Vec::new() };
        batch.frame(BATCH_BEGIN);
        batch
    }

    fn frame(&mut self, kind: u16) {
        let [high, low] = SUBSYSTEM.to_be_bytes();
        self.messages.push(Message::new(kind, 0, &[0, 0, high, low]));
        self.names.push("transaction".into());
    }

    fn push(&mut self, name: String, message: u16, flags: u16, fill: impl FnOnce(&mut Message)) {
        let mut message = Message::new(kind(message), flags, &header(self.family));
        // The table's name is attribute 1 of every kind of object.
        message.put_str(1, self.table);
        fill(&mut message);
        self.messages.push(message);
        self.names.push(name);
    }

    /// Adds the parts that no packet comes to before others lead to them.
    pub(super) fn prepare(&mut self, table: &Table, parts: &Parts) {
        let chains = || table.chains.iter().filter(|chain| parts.new_chains.contains(&chain.name));
        parts.new_counters.iter().for_each(|counter| self.add_counter(counter));
        chains().for_each(|chain| self.add_chain(chain));
        table.sets.iter().filter(|set| parts.new_sets.contains(&set.name)).for_each(|set| self.add_set(set));
        chains().for_each(|chain| self.add_rules(chain));
    }

    /// Makes those parts what is wanted that packets come to.
    pub(super) fn change(&mut self, table: &Table, parts: &Parts) {
        for diff in &parts.elements {
            if let Some(set) = table.sets.iter().find(|set| set.name == diff.name) {
                self.change_set(set.content.kind(), diff);
            }
        }
        for chain in table.chains.iter().filter(|chain| parts.new_bases.contains(&chain.name)) {
            self.add_chain(chain);
            self.add_rules(chain);
        }
        for chain in table.chains.iter().filter(|chain| parts.other_rules.contains(&chain.name)) {
            self.flush_chain(&chain.name);
            self.add_rules(chain);
        }
    }

    /// Deletes parts that only each other lead to.
    pub(super) fn delete(&mut self, old: &OldParts) {
        old.chains.iter().for_each(|name| self.flush_chain(name));
        old.sets.iter().for_each(|name| self.delete_set(name));
        old.chains.iter().for_each(|name| self.delete_chain(name));
        old.counters.iter().for_each(|name| self.delete_counter(name));
    }

    pub(super) fn add_table(&mut self) {
        self.push("add table".into(), NEWTABLE, F_CREATE, |table| {
            table.put_be32(2, 0);
        });
    }

    pub(super) fn delete_table(&mut self) {
        self.push("delete table".into(), DELTABLE, 0, |_| {});
    }

    pub(super) fn add_counter(&mut self, name: &str) {
        self.push(format!("add counter {name}"), NEWOBJ, F_CREATE, |object| {
            object.put_str(2, name).put_be32(3, OBJECT_COUNTER).nest(4, |_| {});
        });
    }

    pub(super) fn add_chain(&mut self, chain: &Chain) {
        self.push(format!("add chain {}", chain.name), NEWCHAIN, F_CREATE, |message| {
            message.put_str(3, &chain.name);
            if let Some(base) = chain.base {
                put_base(message, base);
            }
        });
    }

    fn delete_counter(&mut self, name: &str) {
        self.push(format!("delete counter {name}"), DELOBJ, 0, |object| {
            object.put_str(2, name).put_be32(3, OBJECT_COUNTER);
        });
    }

    /// Deletes all rules of a chain.
    fn flush_chain(&mut self, name: &str) {
        self.push(format!("flush chain {name}"), DELRULE, 0, |message| {
            message.put_str(2, name);
        });
    }

    fn delete_chain(&mut self, name: &str) {
        self.push(format!("delete chain {name}"), DELCHAIN, 0, |message| {
            message.put_str(3, name);
        });
    }

    pub(super) fn add_rules(&mut self, chain: &Chain) {
        for rule in &chain.rules {
            self.push(
                format!("add rule {:?} to chain {}", rule.comment, chain.name),
                NEWRULE,
                F_CREATE | F_APPEND,
                |message| {
                    message.put_str(2, &chain.name).nest(4, |list| rule.encode(list));
                    message.put(7, &comment(&rule.tag()));
                },
            );
        }
    }

    /// Adds a set with its elements.
    pub(super) fn add_set(&mut self, set: &Set) {
        let kind = set.content.kind();
        // Sets of one transaction are told apart by an id of the sender's.
        let id = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        self.push(format!("add set {}", set.name), NEWSET, F_CREATE, |message| {
            let mut flags = if kind.interval { SET_FLAG_INTERVAL } else { 0 };
            message.put_str(2, &set.name);
            if kind.verdicts {
                flags |= SET_FLAG_MAP;
                message.put_be32(6, TYPE_VERDICT).put_be32(7, 0);
            }
            message
                .put_be32(3, flags)
                .put_be32(4, kind.key_type)
                .put_be32(5, kind.key_bytes)
                .put_be32(10, id);
            message.put(13, &byte_order(kind));
        });
        self.put_elements(NEWSETELEM, &set.name, kind, &set.content.entries());
    }

    fn delete_set(&mut self, name: &str) {
        self.push(format!("delete set {name}"), DELSET, 0, |message| {
            message.put_str(2, name);
        });
    }

    fn change_set(&mut self, kind: SetKind, diff: &SetDiff) {
        match &diff.gone {
            Some(gone) => self.put_elements(DELSETELEM, &diff.name, kind, gone),
            // All of them.
            None => self.push(format!("flush set {}", diff.name), DELSETELEM, 0, |message| {
                message.put_str(2, &diff.name);
            }),
        }
        self.put_elements(NEWSETELEM, &diff.name, kind, &diff.new);
    }

    fn put_elements(&mut self, message: u16, set: &str, kind: SetKind, entries: &[Entry]) {
        let (verb, flags) = if message == NEWSETELEM { ("add", F_CREATE) } else { ("delete", 0) };
        for part in elements(entries, kind.interval).chunks(ELEMENTS_PER_MESSAGE) {
            self.push(format!("{verb} elements of set {set}"), message, flags, |message| {
                message.put_str(2, set).nest(3, |list| {
                    for element in part {
                        list.nest(1, |message| put_element(message, element));
                    }
                });
            });
        }
    }

    /// Has the kernel do it all; there is nothing to do in a transaction without messages.
    pub(super) fn commit(mut self, socket: &mut Socket, what: &str) -> Result<(), NetlinkError> {
        if self.messages.len() == 1 {
            return Ok(());
        }
        if let Some(last) = self.messages.last_mut() {
            last.acknowledge();
        }
        self.frame(BATCH_END);
        socket.transact(what, &self.messages, &self.names)
    }
}

fn put_base(message: &mut Message, base: Base) {
    message.nest(4, |hook| {
        hook.put_be32(1, hook_number(base.hook)).put_be32(2, base.priority.cast_unsigned());
    });
    message.put_be32(5, policy_number(base.policy)).put_str(7, kind_name(base.kind));
}

pub(super) const fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}

pub(super) const fn policy_number(policy: Policy) -> u32 {
    match policy {
        Policy::Drop => 0,
        Policy::Accept => 1,
    }
}

pub(super) const fn kind_name(kind: ChainKind) -> &'static str {
    match kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
    }
}

/// A set's user data as nft writes it: type 0 (byte order of the key), length, 1 for the machine's, 2 for the network's.
/// Without it, nft shows interface names as "".
fn byte_order(kind: SetKind) -> [u8; 6] {
    let order = if kind.key_type == TYPE_IFNAME { 1_u32 } else { 2 };
    let [a, b, c, d] = order.to_ne_bytes();
    [0, 4, a, b, c, d]
}

/// A rule's user data as nft writes it: type 0 (comment), length, text, zero.
fn comment(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    let mut bytes = vec![0, length];
    bytes.extend(text.bytes().take(usize::from(length) - 1));
    bytes.push(0);
    bytes
}

fn put_element(message: &mut Message, element: &Element) {
    if element.is_end {
        message.put_be32(3, ELEMENT_INTERVAL_END);
    }
    message.nest(1, |key| {
        key.put(1, &element.key);
    });
    if let Some(verdict) = &element.verdict {
        message.nest(2, |data| Verdict::encode(verdict, data));
    }
}
