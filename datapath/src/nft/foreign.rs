//! Looks for translations of pods' traffic by others. The first translation of a flow wins and none can veto another's, so all that can be done
//! about a foreign masquerader is to name it. Its rules are followed from each foreign `nat` chain at postrouting through jumps, and are
//! believed to cover a pod when their source matches do; other matches (destination, interface) only narrow down which flows.
//!
//! Rules of iptables are seen when iptables uses nf_tables, as it does on current distributions; those of the legacy one are not in here.

use super::Family;
use super::wire::kind;
use crate::codec::{Attributes, F_DUMP, Message, Received, be32, text};
use crate::socket::{Ask, NetlinkError, Socket};
use ipnet::Ipv4Net;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

const GETCHAIN: u16 = 4;
const GETRULE: u16 = 7;
/// Length of `nfgenmsg`.
const HEADER: usize = 4;
/// `NF_INET_POST_ROUTING`.
const POSTROUTING: u32 = 4;
/// Deeper than anybody nests chains; the kernel itself refuses loops.
const DEEPEST: u32 = 16;
/// `NFT_META_MARK`.
const META_MARK: u32 = 3;
/// `NFT_CT_STATUS`.
const CT_STATUS: u32 = 2;
/// `IPS_DST_NAT`: the flow's destination was translated.
const TO_ANOTHER: u32 = 1 << 5;
/// The source address within an IPv4 header.
const SOURCE: u32 = 12;

/// A rule of somebody else that translates traffic of pods.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Masquerader {
    /// Family and name of its table.
    pub table: String,
    /// Its chain.
    pub chain: String,
    /// Some of the pods' addresses that it covers.
    pub covers: Ipv4Net,
}

impl fmt::Display for Masquerader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "chain {} of nft table {} translates traffic of {} too",
            self.chain, self.table, self.covers
        )
    }
}

/// A chain's full name.
type ChainName = (u8, String, String);

/// What a rule does to a packet that it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Effect {
    Nothing,
    Translate,
    Call(String),
    End,
}

/// A rule as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// Sources that it takes; none means all.
    source: Option<Ipv4Net>,
    /// Sources that it leaves out.
    not_source: Option<Ipv4Net>,
    /// Whether it asks for a mark, or for a translated destination, that a pod's packet does not have unless somebody chose that packet
    /// (kube-proxy, hostPort).
    marked: bool,
    /// Whether it asks for anything else.
    narrowed: bool,
    effect: Effect,
}

/// Everything that is needed, read once.
#[derive(Debug, Default)]
struct Ruleset {
    roots: Vec<ChainName>,
    chains: BTreeMap<ChainName, Vec<Rule>>,
}

/// Who else translates traffic of `local`. `own` is the table to leave out.
pub(super) fn masqueraders(
    socket: &mut Socket,
    own: &str,
    local: &[Ipv4Net],
) -> Result<Vec<Masquerader>, NetlinkError> {
    let rules = read(socket, own)?;
    let mut found = Vec::new();
    for root in &rules.roots {
        rules.walk(root, local, DEEPEST, &mut found);
    }
    found.sort();
    found.dedup_by(|a, b| (&a.table, &a.chain) == (&b.table, &b.chain));
    Ok(found)
}

impl Ruleset {
    /// Follows a chain for packets from `sources`.
    fn walk(&self, chain: &ChainName, sources: &[Ipv4Net], depth: u32, found: &mut Vec<Masquerader>) {
        let Some(rules) = self.chains.get(chain).filter(|_| depth > 0) else { return };
        for rule in rules.iter().filter(|rule| !rule.marked) {
            let matched = rule.matched(sources);
            let Some(first) = matched.first() else { continue };
            match &rule.effect {
                Effect::Translate => {
                    let family = if chain.0 == Family::Inet.number() { Family::Inet } else { Family::Ip };
                    let table = format!("{family} {}", chain.1);
                    found.push(Masquerader { table, chain: chain.2.clone(), covers: *first });
                }
                Effect::Call(name) => {
                    let called = (chain.0, chain.1.clone(), name.clone());
                    self.walk(&called, &matched, depth - 1, found);
                }
                Effect::End if !rule.narrowed && matched.len() == sources.len() => return,
                Effect::End | Effect::Nothing => {}
            }
        }
    }
}

impl Rule {
    /// Which of these sources it can match; of one that it matches in part, the part.
    fn matched(&self, sources: &[Ipv4Net]) -> Vec<Ipv4Net> {
        let inside = |net: &Ipv4Net| match self.source {
            None => Some(*net),
            Some(source) if source.contains(net) => Some(*net),
            Some(source) if net.contains(&source) => Some(source),
            Some(_) => None,
        };
        let left = |net: &Ipv4Net| self.not_source.is_none_or(|not| !not.contains(net));
        sources.iter().filter_map(inside).filter(left).collect()
    }
}

fn ask(message: u16, fill: impl FnOnce(&mut Message)) -> Ask {
    let mut message = Message::new(kind(message), F_DUMP, &[0, 0, 0, 0]);
    fill(&mut message);
    Ask { what: "read the rules of others".to_owned(), message, tolerated: &[Errno::NOENT] }
}

fn read(socket: &mut Socket, own: &str) -> Result<Ruleset, NetlinkError> {
    let mut rules = Ruleset::default();
    let mut names = Vec::new();
    for (name, is_root) in socket.dump_some(&ask(GETCHAIN, |_| {}), |received| chain(&received))? {
        if name.1 == own {
            continue;
        }
        if is_root {
            rules.roots.push(name.clone());
        }
        names.push(name);
    }
    // Only what can be reached is read: kube-proxy may have a hundred thousand rules elsewhere.
    let mut open = rules.roots.clone();
    while let Some(name) = open.pop() {
        if rules.chains.contains_key(&name) || !names.contains(&name) {
            continue;
        }
        let list = rules_of(socket, &name)?;
        open.extend(list.iter().filter(|rule| !rule.marked).filter_map(|rule| match &rule.effect {
            Effect::Call(called) => Some((name.0, name.1.clone(), called.clone())),
            _ => None,
        }));
        rules.chains.insert(name, list);
    }
    Ok(rules)
}

/// A chain of IPv4, and whether translation begins there.
fn chain(received: &Received) -> Option<(ChainName, bool)> {
    let family = *received.payload.first()?;
    if family != Family::Ip.number() && family != Family::Inet.number() {
        return None;
    }
    let attributes = Attributes::after(&received.payload, HEADER);
    let hook = attributes.find(4).and_then(|hook| Attributes(hook).find(1)).and_then(be32);
    let is_nat = attributes.find(7).map(text).is_some_and(|kind| kind == "nat");
    let name = (family, text(attributes.find(1)?), text(attributes.find(3)?));
    Some((name, is_nat && hook == Some(POSTROUTING)))
}

fn rules_of(socket: &mut Socket, (family, table, chain): &ChainName) -> Result<Vec<Rule>, NetlinkError> {
    let mut message = Message::new(kind(GETRULE), F_DUMP, &[*family, 0, 0, 0]);
    message.put_str(1, table).put_str(2, chain);
    let what = format!("read chain {chain} of nft table {table}");
    let received = socket.dump(&Ask { what, message, tolerated: &[Errno::NOENT] })?;
    let of_chain = |received: &&Received| {
        let attributes = Attributes::after(&received.payload, HEADER);
        attributes.find(2).is_some_and(|name| text(name) == *chain)
    };
    Ok(received.iter().filter(of_chain).map(|received| rule(&received.payload)).collect())
}

/// What was last loaded to be compared.
enum Loaded {
    Source(Ipv4Addr),
    /// What has become of a mark of 0, or of a status that says nothing of a translated destination.
    Mark(Vec<u8>),
    Status,
    Other,
}

fn rule(payload: &[u8]) -> Rule {
    let mut rule =
        Rule { source: None, not_source: None, marked: false, narrowed: false, effect: Effect::Nothing };
    let mut loaded = Loaded::Other;
    let list = Attributes(Attributes::after(payload, HEADER).find(4).unwrap_or_default());
    for (_, expression) in list {
        let expression = Attributes(expression);
        let name = expression.find(1).map(text).unwrap_or_default();
        let data = Attributes(expression.find(2).unwrap_or_default());
        let number = |kind| data.find(kind).and_then(be32);
        match name.as_str() {
            "payload" if (number(2), number(3)) == (Some(1), Some(SOURCE)) => {
                let bits = number(4).unwrap_or(4).saturating_mul(8).min(32);
                loaded = Loaded::Source(mask_of(bits));
            }
            "meta" if number(2) == Some(META_MARK) && data.find(1).is_some() => {
                loaded = Loaded::Mark(vec![0; 4])
            }
            "ct" if number(2) == Some(CT_STATUS) => loaded = Loaded::Status,
            "payload" | "meta" | "ct" | "fib" | "rt" => loaded = Loaded::Other,
            "bitwise" => match &mut loaded {
                Loaded::Source(mask) => *mask = value(data, 4).unwrap_or(*mask),
                // Masking leaves 0 as it is.
                Loaded::Mark(mark) => *mark = bytes(data, 5).unwrap_or_default().to_vec(),
                Loaded::Status if bytes(data, 4) == Some(&TO_ANOTHER.to_ne_bytes()) => {
                    loaded = Loaded::Mark(vec![0; 4]);
                }
                Loaded::Status | Loaded::Other => {}
            },
            "cmp" => match (&loaded, value(data, 3)) {
                (Loaded::Source(mask), Some(address)) => {
                    let net = Ipv4Net::with_netmask(address, *mask).ok();
                    if number(2) == Some(0) { rule.source = net } else { rule.not_source = net }
                }
                (Loaded::Mark(mark), _) => {
                    let equal = bytes(data, 3) == Some(mark);
                    rule.marked |= equal != (number(2) == Some(0));
                }
                _ => rule.narrowed = true,
            },
            "match" => match data.find(1).map(text).as_deref() {
                Some("mark") => rule.marked |= !unmarked_matches(data.find(3).unwrap_or_default()),
                Some("connmark") => rule.marked = true,
                Some("comment") => {}
                _ => rule.narrowed = true,
            },
            "lookup" | "range" | "limit" => rule.narrowed = true,
            "masq" => rule.effect = Effect::Translate,
            // `NFT_NAT_SNAT`
            "nat" if number(1) == Some(0) => rule.effect = Effect::Translate,
            "target" if matches!(data.find(1).map(text).as_deref(), Some("MASQUERADE" | "SNAT")) => {
                rule.effect = Effect::Translate;
            }
            "immediate" => rule.effect = verdict(data).unwrap_or(rule.effect),
            _ => {}
        }
    }
    rule
}

/// Whether iptables' `-m mark` matches a packet without mark: `struct xt_mark_mtinfo1`, which is mark, mask, invert.
fn unmarked_matches(info: &[u8]) -> bool {
    let mark_is_zero = info.get(..4).is_some_and(|mark| mark == [0; 4]);
    let inverted = info.get(8).is_some_and(|invert| *invert != 0);
    mark_is_zero != inverted
}

/// The leading bits of an address.
fn mask_of(bits: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - bits).unwrap_or(0))
}

/// The first bytes of a value as an address; nft loads no more of one than the prefix needs.
fn value(data: Attributes<'_>, kind: u16) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    for (octet, byte) in octets.iter_mut().zip(bytes(data, kind)?) {
        *octet = *byte;
    }
    Some(octets.into())
}

fn bytes<'a>(data: Attributes<'a>, kind: u16) -> Option<&'a [u8]> {
    Attributes(data.find(kind)?).find(1)
}

fn verdict(data: Attributes<'_>) -> Option<Effect> {
    let verdict = Attributes(Attributes(data.find(2)?).find(2)?);
    Some(match verdict.find(1).and_then(be32)?.cast_signed() {
        -3 | -4 => Effect::Call(text(verdict.find(2)?)),
        // Return, drop and accept: no rule behind this one sees the packet, in this chain at least.
        -5 | 0 | 1 => Effect::End,
        _ => Effect::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn plain(effect: Effect) -> Rule {
        Rule { source: None, not_source: None, marked: false, narrowed: false, effect }
    }

    fn found(chains: &[(&str, Vec<Rule>)]) -> Vec<String> {
        let name = |chain: &str| (2, "nat".to_owned(), chain.to_owned());
        let rules = Ruleset {
            roots: vec![name("POSTROUTING")],
            chains: chains.iter().map(|(chain, rules)| (name(chain), rules.clone())).collect(),
        };
        let mut found = Vec::new();
        rules.walk(&rules.roots[0], &[net("10.0.0.5/32"), net("10.200.0.0/25")], DEEPEST, &mut found);
        found.iter().map(|found| format!("{} {}", found.chain, found.covers)).collect()
    }

    #[test]
    fn a_translation_counts_when_its_source_covers_pods_also_through_jumps() {
        let from = |source: &str, effect| Rule { source: Some(net(source)), ..plain(effect) };
        let call = |to: &str| plain(Effect::Call(to.to_owned()));
        assert_eq!(found(&[("POSTROUTING", vec![plain(Effect::Translate)])]), ["POSTROUTING 10.0.0.5/32"]);
        assert_eq!(found(&[("POSTROUTING", vec![from("172.17.0.0/16", Effect::Translate)])]), [""; 0]);
        assert_eq!(
            found(&[("POSTROUTING", vec![from("10.200.0.64/26", Effect::Translate)])]),
            ["POSTROUTING 10.200.0.64/26"]
        );
        let chains = [
            ("POSTROUTING", vec![from("10.0.0.0/16", Effect::Call("AWS-SNAT-CHAIN-0".to_owned()))]),
            ("AWS-SNAT-CHAIN-0", vec![Rule { narrowed: true, ..plain(Effect::Translate) }]),
        ];
        assert_eq!(found(&chains), ["AWS-SNAT-CHAIN-0 10.0.0.5/32"]);
        assert_eq!(found(&[("POSTROUTING", vec![call("POSTROUTING")])]), [""; 0], "a loop ends");
    }

    #[test]
    fn marked_packets_and_sources_that_were_let_go_before_do_not_count() {
        let marked = Rule { marked: true, ..plain(Effect::Translate) };
        assert_eq!(found(&[("POSTROUTING", vec![marked])]), [""; 0]);
        let end = |source: &str| Rule { source: Some(net(source)), ..plain(Effect::End) };
        let all = vec![end("10.0.0.0/8"), plain(Effect::Translate)];
        assert_eq!(found(&[("POSTROUTING", all)]), [""; 0]);
        let some = vec![end("10.200.0.0/16"), plain(Effect::Translate)];
        assert_eq!(found(&[("POSTROUTING", some)]), ["POSTROUTING 10.0.0.5/32"]);
        let spared = Rule { not_source: Some(net("10.0.0.0/16")), ..plain(Effect::Translate) };
        assert_eq!(found(&[("POSTROUTING", vec![spared])]), ["POSTROUTING 10.200.0.0/25"]);
    }

    #[test]
    fn any_bytes_are_read_without_panic() {
        let mut state = 7_u32;
        for length in 0..160 {
            let mut random = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24).to_le_bytes()[0] % 24
            };
            let payload: Vec<u8> = (0..length).map(|_| random()).collect();
            let _ = rule(&payload);
            let _ = chain(&Received { kind: 0, flags: 0, sequence: 0, payload });
        }
    }
}
