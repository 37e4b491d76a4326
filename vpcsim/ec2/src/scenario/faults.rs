//! Reading `faults`: the list of a scenario, and the same list when it is set at run time. Which keys a fault may have
//! depends on its kind, and a key of another kind is a mistake like an unknown one; so are names of nodes and subnets that do
//! not exist, and a window that ends before it begins.

use super::Mistake;
use super::read::{self, Reader, Section, show};
use crate::error::Code;
use crate::fault::{CallFault, Event, Fault, Figures, Kind, MetadataFault, Select, When, Which};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// Names that a fault may refer to.
pub(crate) struct Known {
    pub(crate) nodes: BTreeSet<String>,
    pub(crate) subnets: BTreeSet<String>,
}

/// Name of whoever calls and is no node.
const OPERATOR: &str = "operator";

/// Longest time in a fault: a simulated month.
const MAX_MILLIS: u64 = 31 * 24 * 3_600_000;

const ANY: &[&str] = &["kind", "name", "fromMillis", "untilMillis"];
const BY_CALL: &[&str] = &["actions", "nodes", "probability", "calls", "every", "times"];
const BY_REQUEST: &[&str] = &["paths", "nodes", "probability", "calls", "every", "times"];
const AT_TIMES: &[&str] = &["everyMillis", "times"];

/// Kinds with the groups of keys that they take beside [`ANY`].
const KINDS: &[(&str, &[&[&str]])] = &[
    ("throttle", &[&["actions", "nodes", "capacity", "refillPerSecond"]]),
    ("error", &[BY_CALL, &["code", "message"]]),
    ("deny", &[BY_CALL]),
    ("timeout", &[BY_CALL, &["millis"]]),
    ("lostReply", &[BY_CALL, &["code"]]),
    ("slow", &[BY_CALL, &["millis"]]),
    ("stale", &[BY_CALL, &["lagMillis"]]),
    ("late", &[BY_CALL, &["millis"]]),
    ("stuck", &[BY_CALL]),
    ("imdsStale", &[BY_REQUEST, &["lagMillis"]]),
    ("imdsError", &[BY_REQUEST, &["status"]]),
    ("imdsEmpty", &[BY_REQUEST]),
    ("imdsTimeout", &[BY_REQUEST, &["millis"]]),
    ("imdsSlow", &[BY_REQUEST, &["millis"]]),
    ("vanish", &[AT_TIMES, &["node", "deviceIndex", "eni"]]),
    ("loseAddresses", &[AT_TIMES, &["node", "deviceIndex", "eni", "count"]]),
    ("fillSubnet", &[AT_TIMES, &["subnet", "leave"]]),
    ("fragmentSubnet", &[AT_TIMES, &["subnet", "leave"]]),
    ("terminate", &[&["node"]]),
];

/// The faults of `text`: a list, or a mapping with the key `faults`.
pub(crate) fn parse(text: &str, known: &Known) -> Result<Vec<Fault>, Vec<Mistake>> {
    let document: Value = serde_saphyr::from_str(text).map_err(|error| {
        let problem = format!("cannot be read as YAML: {error}");
        vec![Mistake { path: "(file)".to_owned(), problem }]
    })?;
    let document = if document.is_array() { serde_json::json!({ "faults": document }) } else { document };
    let mut reader = Reader::default();
    let top = reader.section("", Some(&document), &["faults"]);
    let faults = faults(&mut reader, &top, known);
    if reader.mistakes.is_empty() { Ok(faults) } else { Err(reader.mistakes) }
}

pub(super) fn faults(reader: &mut Reader, top: &Section<'_>, known: &Known) -> Vec<Fault> {
    let mut names = BTreeSet::new();
    let mut faults = Vec::new();
    let items = reader.items(top, "faults", "faults, each with a kind");
    for (index, (path, item)) in items.into_iter().enumerate() {
        let Some(fault) = fault(reader, &path, item, index, known) else { continue };
        if !names.insert(fault.name.clone()) {
            reader.wrong(format!("{path}.name"), format!("is {:?} again; expected another", fault.name));
        }
        faults.push(fault);
    }
    faults
}

fn fault(reader: &mut Reader, path: &str, item: &Value, index: usize, known: &Known) -> Option<Fault> {
    let written = item.get("kind").and_then(Value::as_str).unwrap_or_default();
    let Some((kind, groups)) = KINDS.iter().find(|(kind, _)| *kind == written) else {
        let kinds: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
        let found = item.get("kind").unwrap_or(item);
        reader.wrong(
            format!("{path}.kind"),
            format!("is {}; expected one of {}", show(found), kinds.join(", ")),
        );
        return None;
    };
    let keys: Vec<&str> = ANY.iter().chain(groups.iter().copied().flatten()).copied().collect();
    let section = reader.section(path, Some(item), &keys);
    let name = reader.read(&section, "name", Some(format!("{}-{index}", kind.to_lowercase())), read::name);
    let select = select(reader, &section, kind, known);
    let kind = kind_of(reader, &section, kind, known);
    Some(Fault { name: name?, kind: kind?, select, written: item.clone() })
}

fn select(reader: &mut Reader, section: &Section<'_>, kind: &str, known: &Known) -> Select {
    let actions = reader.items(section, "actions", "EC2 actions");
    let mut actions: BTreeSet<String> = reader.texts(actions, read::action).into_iter().collect();
    let possible: fn(&str) -> bool = match kind {
        "stale" => |action| action.starts_with("Describe"),
        "late" | "stuck" => |action| action.starts_with("Attach") || action.starts_with("Detach"),
        _ => |_| true,
    };
    if let Some(action) = actions.iter().find(|action| !possible(action)) {
        let problem = format!("has {action:?}, which cannot be {kind}; expected another");
        reader.wrong(section.path_of("actions"), problem);
        actions.clear();
    }
    let callers = reader.items(section, "nodes", "names of nodes");
    let is_call = !kind.starts_with("imds");
    let callers = reader.texts(callers, |value| {
        let found =
            value.as_str().filter(|name| known.nodes.contains(*name) || (is_call && *name == OPERATOR));
        found.map(str::to_owned).ok_or_else(|| "the name of a node, or operator for all other callers".into())
    });
    let paths = reader.items(section, "paths", "beginnings of paths");
    let paths = reader.texts(paths, |value| {
        let found = value.as_str().filter(|path| path.starts_with('/'));
        found
            .map(str::to_owned)
            .ok_or_else(|| "the beginning of a path, for example /latest/meta-data/".into())
    });
    let from = millis(reader, section, "fromMillis", Some(Duration::ZERO)).unwrap_or_default();
    let until = section.find("untilMillis").and_then(|_| millis(reader, section, "untilMillis", None));
    if until.is_some_and(|until| until <= from) {
        reader.wrong(section.path_of("untilMillis"), "is not after fromMillis; expected a later time");
    }
    let times = optional(reader, section, "times", 1..=u64::MAX);
    let when = when(reader, section);
    Select { actions, paths, callers: callers.into_iter().collect(), from, until, when, times }
}

fn when(reader: &mut Reader, section: &Section<'_>) -> When {
    let mut ways = Vec::new();
    if section.find("probability").is_some() {
        let parse = |value: &Value| {
            let found = value.as_f64().filter(|chance| (0.0..=1.0).contains(chance));
            found.ok_or_else(|| "a number from 0 to 1".to_owned())
        };
        ways.extend(reader.read(section, "probability", None, parse).map(When::Chance));
    }
    if section.find("calls").is_some() {
        let calls = reader.items(section, "calls", "numbers of calls, the first being 1");
        let calls = reader.texts(calls, |value| whole(value, 1..=u64::MAX));
        ways.push(When::Calls(calls.into_iter().collect()));
    }
    ways.extend(optional(reader, section, "every", 1..=u64::MAX).map(When::Every));
    if ways.len() > 1 {
        let problem = "has several of probability, calls and every; expected at most one";
        reader.wrong(section.path_of("kind"), problem);
    }
    ways.pop().unwrap_or_default()
}

fn kind_of(reader: &mut Reader, section: &Section<'_>, kind: &str, known: &Known) -> Option<Kind> {
    let mut time =
        |key, default: Option<u64>| millis(reader, section, key, default.map(Duration::from_millis));
    let kind = match kind {
        "deny" => Kind::Call(CallFault::Deny),
        "timeout" => Kind::Call(CallFault::Timeout(time("millis", Some(60_000))?)),
        "slow" => Kind::Call(CallFault::Slow(time("millis", None)?)),
        "stale" => Kind::Call(CallFault::Stale(time("lagMillis", None)?)),
        "late" => Kind::Call(CallFault::Late(time("millis", None)?)),
        "stuck" => Kind::Call(CallFault::Stuck),
        "imdsStale" => Kind::Metadata(MetadataFault::Stale(time("lagMillis", None)?)),
        "imdsEmpty" => Kind::Metadata(MetadataFault::Empty),
        "imdsTimeout" => Kind::Metadata(MetadataFault::Timeout(time("millis", Some(10_000))?)),
        "imdsSlow" => Kind::Metadata(MetadataFault::Slow(time("millis", None)?)),
        "throttle" => Kind::Call(CallFault::Throttle(figures(reader, section))),
        "error" => Kind::Call(error(reader, section)?),
        "lostReply" => {
            let given = section.find("code").map(|_| code(reader, section));
            Kind::Call(CallFault::LostReply(match given {
                None => None,
                Some(code) => Some(code?),
            }))
        }
        "imdsError" => {
            let parse = |value: &Value| {
                let found = value.as_u64().filter(|status| (400..=599).contains(status));
                let found = found.and_then(|status| u16::try_from(status).ok());
                found.ok_or_else(|| "an HTTP status from 400 to 599".to_owned())
            };
            Kind::Metadata(MetadataFault::Status(reader.read(section, "status", None, parse)?))
        }
        _ => Kind::Event(event(reader, section, kind, known)?),
    };
    Some(kind)
}

fn figures(reader: &mut Reader, section: &Section<'_>) -> Option<Figures> {
    let parse = |value: &Value| {
        let found = value.as_f64().filter(|number| (0.0..=1_000_000.0).contains(number));
        found.ok_or_else(|| "a number from 0 to 1000000".to_owned())
    };
    let keys = ["capacity", "refillPerSecond"];
    if keys.iter().all(|key| section.find(key).is_none()) {
        return None;
    }
    // One without the other is no bucket: the missing one is reported.
    let [capacity, refill] = keys.map(|key| reader.read(section, key, None, parse));
    Some(Figures::of_millionths(millionths(capacity?), millionths(refill?)))
}

fn millionths(number: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 10^12")]
    {
        (number * 1_000_000.0).round() as u64
    }
}

fn error(reader: &mut Reader, section: &Section<'_>) -> Option<CallFault> {
    let code = code(reader, section);
    let message = section.find("message");
    let message = message.and_then(|_| {
        reader.read(section, "message", None, |value| read::text(value, "the words of the error"))
    });
    Some(CallFault::Error { code: code?, message })
}

fn code(reader: &mut Reader, section: &Section<'_>) -> Option<Code> {
    reader.read(section, "code", None, |value| {
        let found = value.as_str().and_then(Code::named);
        found.ok_or_else(|| "an error code of EC2, for example InternalError".to_owned())
    })
}

fn event(reader: &mut Reader, section: &Section<'_>, kind: &str, known: &Known) -> Option<Event> {
    let every = section.find("everyMillis").and_then(|_| millis(reader, section, "everyMillis", None));
    if every.is_some_and(|every| every.is_zero()) {
        reader.wrong(section.path_of("everyMillis"), "is 0; expected at least 1");
        return None;
    }
    let leave = optional(reader, section, "leave", 0..=65_536);
    let leave = leave.and_then(|leave| u32::try_from(leave).ok()).unwrap_or(0);
    let one_of = |names: &BTreeSet<String>, what: &str, value: &Value| {
        let found = value.as_str().filter(|name| names.contains(*name));
        found.map(str::to_owned).ok_or_else(|| format!("the name of a {what} of this world"))
    };
    let event = match kind {
        "fillSubnet" | "fragmentSubnet" => {
            let parse = |value: &Value| one_of(&known.subnets, "subnet", value);
            let subnet = reader.read(section, "subnet", None, parse)?;
            if kind == "fillSubnet" {
                Event::FillSubnet { subnet, leave, every }
            } else {
                Event::FragmentSubnet { subnet, leave, every }
            }
        }
        "terminate" => {
            let parse = |value: &Value| one_of(&known.nodes, "node", value);
            Event::Terminate { node: reader.read(section, "node", None, parse)? }
        }
        _ => {
            let node = section.find("node");
            let parse = |value: &Value| one_of(&known.nodes, "node", value);
            let node = node.and_then(|_| reader.read(section, "node", None, parse));
            let eni = section.find("eni");
            let parse = |value: &Value| read::text(value, "the id of an ENI");
            let eni = eni.and_then(|_| reader.read(section, "eni", None, parse));
            let index = optional(reader, section, "deviceIndex", 0..=255);
            let device_index = index.and_then(|index| u32::try_from(index).ok());
            let which = Which { node, device_index, eni };
            let count = optional(reader, section, "count", 1..=64);
            let count = count.and_then(|count| u32::try_from(count).ok()).unwrap_or(1);
            match kind {
                "vanish" => Event::Vanish { which, every },
                _ => Event::LoseAddresses { which, count, every },
            }
        }
    };
    Some(event)
}

fn millis(
    reader: &mut Reader,
    section: &Section<'_>,
    key: &str,
    default: Option<Duration>,
) -> Option<Duration> {
    let parse = |value: &Value| {
        let found = value.as_u64().filter(|millis| *millis <= MAX_MILLIS).map(Duration::from_millis);
        found.ok_or_else(|| format!("milliseconds from 0 to {MAX_MILLIS}"))
    };
    reader.read(section, key, default, parse)
}

fn whole(value: &Value, range: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    let found = value.as_u64().filter(|number| range.contains(number));
    found.ok_or_else(|| match *range.end() {
        u64::MAX => format!("a whole number from {} on", range.start()),
        end => format!("a whole number from {} to {end}", range.start()),
    })
}

fn optional(
    reader: &mut Reader,
    section: &Section<'_>,
    key: &str,
    range: std::ops::RangeInclusive<u64>,
) -> Option<u64> {
    section.find(key)?;
    reader.read(section, key, None, |value| whole(value, range.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_about_vpcsim_has_every_kind_and_key() {
        let page = include_str!("../../../../docs/vpcsim.md");
        let keys = KINDS.iter().flat_map(|(_, groups)| groups.iter().copied().flatten()).chain(ANY);
        for word in KINDS.iter().map(|(kind, _)| kind).chain(keys) {
            assert!(page.contains(&format!("`{word}`")), "{word}");
        }
    }
}
