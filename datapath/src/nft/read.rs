//! Reads a table back: chains, tags of rules, elements of sets, counters. Attributes that are missing or odd make an object unlike
//! the wanted one, which is then repaired; they are not errors here.

use super::Counter;
use super::diff::Shape;
use super::expr::Verdict;
use super::set::{Element, SetKind, entries_of};
use super::table::{Base, ChainKind, Family, Hook, Policy};
use super::wire::{SET_FLAG_INTERVAL, SET_FLAG_MAP, header, hook_number, kind, kind_name, policy_number};
use crate::codec::{Attributes, F_DUMP, Message, Received, be32, be64, text};
use crate::socket::{Ask, NetlinkError, Socket};
use rustix::io::Errno;
use std::collections::BTreeMap;

const GETTABLE: u16 = 1;
const GETCHAIN: u16 = 4;
const GETRULE: u16 = 7;
const GETSET: u16 = 10;
const GETSETELEM: u16 = 13;
const GETOBJ: u16 = 19;
const GETGEN: u16 = 16;
const SET_FLAG_ANONYMOUS: u32 = 1;
/// Length of `nfgenmsg`.
const HEADER: usize = 4;
/// Number of the attribute that holds the table's name, in every kind of object.
const TABLE: u16 = 1;

struct Reader<'a> {
    socket: &'a mut Socket,
    family: Family,
    table: &'a str,
}

impl Reader<'_> {
    fn ask(&self, message: u16, flags: u16, fill: impl FnOnce(&mut Message)) -> Ask {
        let mut message = Message::new(kind(message), flags, &header(self.family));
        message.put_str(TABLE, self.table);
        fill(&mut message);
        // ENOENT: the table, or a part of it, is not there, or has just gone.
        Ask { what: format!("read nft table {}", self.table), message, tolerated: &[Errno::NOENT] }
    }

    /// The objects of this table; the kernel does not filter all dumps by table.
    fn list(&mut self, message: u16, fill: impl FnOnce(&mut Message)) -> Result<Vec<Received>, NetlinkError> {
        let ask = self.ask(message, F_DUMP, fill);
        let mut all = self.socket.dump(&ask)?;
        all.retain(|received| {
            attributes(received).find(TABLE).is_some_and(|name| text(name) == self.table)
                && received.payload.first() == Some(&self.family.number())
        });
        Ok(all)
    }
}

fn attributes(received: &Received) -> Attributes<'_> {
    Attributes::after(&received.payload, HEADER)
}

fn number(attributes: Attributes<'_>, kind: u16) -> Option<u32> {
    attributes.find(kind).and_then(be32)
}

/// The number of the namespace's ruleset, which is another after every transaction of anybody.
pub(super) fn generation(socket: &mut Socket) -> Result<u32, NetlinkError> {
    let what = "read the generation of the nft ruleset".to_owned();
    let ask = Ask { what, message: Message::new(kind(GETGEN), 0, &[0; HEADER]), tolerated: &[] };
    let answer = socket.fetch(&ask)?;
    let found = answer.and_then(|received| number(attributes(&received), 1));
    found.ok_or(NetlinkError::Garbled { what: ask.what })
}

pub(super) fn shape(socket: &mut Socket, family: Family, table: &str) -> Result<Option<Shape>, NetlinkError> {
    let mut reader = Reader { socket, family, table };
    let ask = reader.ask(GETTABLE, 0, |_| {});
    let Some(found) = reader.socket.fetch(&ask)? else { return Ok(None) };
    let mut shape = Shape { flags: number(attributes(&found), 2).unwrap_or_default(), ..Shape::default() };
    for received in reader.list(GETCHAIN, |_| {})? {
        let attributes = attributes(&received);
        let name = attributes.find(3).map(text).unwrap_or_default();
        let rules = reader.list(GETRULE, |message| {
            message.put_str(2, &name);
        })?;
        let tags = rules
            .iter()
            .filter(|rule| self::attributes(rule).find(2).is_some_and(|chain| text(chain) == name));
        let tags = tags.map(tag).collect();
        shape.chains.insert(name, (base(attributes), tags));
    }
    for received in reader.list(GETSET, |_| {})? {
        let attributes = attributes(&received);
        let name = attributes.find(2).map(text).unwrap_or_default();
        let flags = number(attributes, 3).unwrap_or_default();
        // Part of the one rule that asks it, and goes with that: `{ tcp, udp }`.
        if flags & SET_FLAG_ANONYMOUS != 0 {
            continue;
        }
        let kind = SetKind {
            key_type: number(attributes, 4).unwrap_or_default(),
            key_bytes: number(attributes, 5).unwrap_or_default(),
            interval: flags & SET_FLAG_INTERVAL != 0,
            verdicts: flags & SET_FLAG_MAP != 0,
        };
        let elements = elements(&mut reader, &name)?;
        shape.sets.insert(name, (kind, entries_of(elements, kind.interval)));
    }
    shape.counters = list_counters(&mut reader)?.into_keys().collect();
    Ok(Some(shape))
}

pub(super) fn counters(
    socket: &mut Socket,
    family: Family,
    table: &str,
) -> Result<BTreeMap<String, Counter>, NetlinkError> {
    list_counters(&mut Reader { socket, family, table })
}

fn list_counters(reader: &mut Reader<'_>) -> Result<BTreeMap<String, Counter>, NetlinkError> {
    let mut counters = BTreeMap::new();
    for received in reader.list(GETOBJ, |_| {})? {
        let attributes = attributes(&received);
        let data = Attributes(attributes.find(4).unwrap_or_default());
        let value = |kind| data.find(kind).and_then(be64).unwrap_or_default();
        let name = attributes.find(2).map(text).unwrap_or_default();
        counters.insert(name, Counter { bytes: value(1), packets: value(2) });
    }
    Ok(counters)
}

/// The comment in a rule's user data; empty when there is none.
fn tag(rule: &Received) -> String {
    let data = attributes(rule).find(7).unwrap_or_default();
    match data {
        [0, length, rest @ ..] => rest.get(..usize::from(*length)).map(text).unwrap_or_default(),
        _ => String::new(),
    }
}

fn base(attributes: Attributes<'_>) -> Option<Base> {
    let hook = Attributes(attributes.find(4)?);
    let found = number(hook, 1)?;
    let hooks = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];
    let name = text(attributes.find(7)?);
    let policy = number(attributes, 5)?;
    Some(Base {
        kind: [ChainKind::Filter, ChainKind::Nat].into_iter().find(|kind| kind_name(*kind) == name)?,
        hook: hooks.into_iter().find(|hook| hook_number(*hook) == found)?,
        priority: number(hook, 2)?.cast_signed(),
        policy: [Policy::Accept, Policy::Drop].into_iter().find(|known| policy_number(*known) == policy)?,
    })
}

fn elements(reader: &mut Reader<'_>, set: &str) -> Result<Vec<Element>, NetlinkError> {
    let mut all = Vec::new();
    let lists = reader.list(GETSETELEM, |message| {
        message.put_str(2, set);
    })?;
    for received in &lists {
        let list = Attributes(attributes(received).find(3).unwrap_or_default());
        all.extend(list.filter_map(|(_, bytes)| element(Attributes(bytes))));
    }
    Ok(all)
}

fn element(attributes: Attributes<'_>) -> Option<Element> {
    let key = Attributes(attributes.find(1)?).find(1)?.to_vec();
    let verdict = attributes.find(2).and_then(|data| Attributes(data).find(2)).map(Attributes);
    let verdict =
        verdict.and_then(|verdict| Verdict::from_code(number(verdict, 1)?, verdict.find(2).map(text)));
    Some(Element { key, is_end: number(attributes, 3).unwrap_or_default() & 1 != 0, verdict })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_take_any_bytes_without_panic() {
        let mut state = 1_u32;
        for length in 0..120 {
            for _ in 0..40 {
                let mut random = || {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24).to_le_bytes()[0] % 20
                };
                let payload: Vec<u8> = (0..length).map(|_| random()).collect();
                let received = Received { kind: 0, flags: 0, sequence: 0, payload };
                let _ = (tag(&received), base(attributes(&received)), element(attributes(&received)));
            }
        }
    }
}
