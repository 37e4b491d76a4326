//! Our caller beside the real libcni: the same scenarios, the same recording plugins, and what libcni 1.3.0 was seen to do (`recorded/libcni-1.3.0.jsonl`, made by
//! `witness/`). Every call with its whole environment and configuration, every outcome and every cached result has to be equal.
//! The one thing that is told apart is text: what an error says is not compared, only its code.
#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};
use std::path::Path;
use testbed_libcni::{Attachment, Cache, Libcni, LibcniError, NetworkList};

const NETNS: &str = "/run/netns/pod";

fn attachment(step: &Value) -> Attachment {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let args = step["args"].as_array().cloned().unwrap_or_default();
    Attachment {
        args: args.iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
        capability_args: step["capabilityArgs"].as_object().cloned().unwrap_or_default(),
        ..Attachment::new(&text(&step["id"]), NETNS, &text(&step["ifname"]))
    }
}

/// Takes one step and returns what `ADD` gave.
fn take(libcni: &Libcni, list: &NetworkList, step: &Value) -> Result<Value, LibcniError> {
    let attachment = attachment(step);
    match step["do"].as_str().unwrap() {
        "validate" => libcni.validate(list).map(drop),
        "status" => libcni.status(list),
        "check" => libcni.check(list, &attachment),
        "del" => libcni.del(list, &attachment),
        "gc" => {
            let entry =
                |pair: &Value| Attachment::new(pair[0].as_str().unwrap(), NETNS, pair[1].as_str().unwrap());
            let valid: Option<Vec<_>> =
                step["valid"].as_array().map(|valid| valid.iter().map(entry).collect());
            libcni.gc(list, valid.as_deref())
        }
        _ => return libcni.add(list, &attachment).map(|result| result.to_value()),
    }?;
    Ok(Value::Null)
}

fn calls(home: &Path) -> Value {
    let text = std::fs::read_to_string(home.join("calls")).unwrap_or_default();
    let _ = std::fs::remove_file(home.join("calls"));
    let text = text.replace(home.to_str().unwrap(), "HOME");
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect()
}

fn cache(home: &Path) -> Value {
    let entries = std::fs::read_dir(home.join("cache/results")).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap()).collect()
}

/// The cached list is text in base64; what it says is compared, not its blanks.
fn readable(mut outcome: Value) -> Value {
    for entry in outcome["cache"].as_array_mut().unwrap() {
        let config = BASE64_STANDARD.decode(entry["config"].as_str().unwrap()).unwrap();
        entry["config"] = serde_json::from_slice(&config).unwrap();
    }
    outcome
}

fn play(scenario: &Map<String, Value>) -> Vec<Value> {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let speaks = json!({"cniVersion": "1.1.0", "supportedVersions": ["0.4.0", "1.0.0", "1.1.0"]});
    for name in ["first", "second", "third"] {
        std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorder"), home.join(name)).unwrap();
        std::fs::write(home.join(format!("{name}.VERSION")), speaks.to_string()).unwrap();
    }
    for (name, answer) in scenario["answers"].as_object().unwrap() {
        std::fs::write(home.join(name), answer.to_string()).unwrap();
    }
    let list = NetworkList::parse(scenario["list"].to_string().as_bytes()).unwrap();
    let libcni = Libcni::new(vec![home.to_owned()], Cache::new(&home.join("cache")));
    let mut outcomes = Vec::new();
    for step in scenario["steps"].as_array().unwrap() {
        let outcome = take(&libcni, &list, step);
        outcomes.push(readable(json!({
            "of": scenario["name"], "do": step["do"], "failed": outcome.is_err(),
            "code": outcome.as_ref().err().and_then(LibcniError::code),
            "result": outcome.unwrap_or_default(), "calls": calls(home), "cache": cache(home),
        })));
    }
    outcomes
}

#[test]
fn every_call_and_every_outcome_is_as_of_libcni() {
    let scenarios: Vec<Map<String, Value>> =
        serde_json::from_str(include_str!("recorded/scenarios.json")).unwrap();
    let recorded: Vec<_> = include_str!("recorded/libcni-1.3.0.jsonl")
        .lines()
        .map(|line| readable(serde_json::from_str(line).unwrap()))
        .collect();
    let ours: Vec<_> = scenarios.iter().flat_map(play).collect();
    assert_eq!(ours.len(), recorded.len(), "scenarios and record belong together; see witness/");
    for (number, (ours, recorded)) in ours.iter().zip(&recorded).enumerate() {
        for key in ["of", "do", "failed", "code", "result", "calls", "cache"] {
            assert_eq!(ours[key], recorded[key], "step {number}, {} of {}: {key}", ours["do"], ours["of"]);
        }
    }
}
