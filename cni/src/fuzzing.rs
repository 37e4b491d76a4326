//! For the fuzzer in `fuzz/` alone, absent from every other build: what the plugin does with bytes of the runtime and of the agent,
//! up to the point where the kernel or the agent would be asked.
//!
//! Each function is one edge. It returns whether the bytes were accepted, so that the corpus can say which must be, and
//! panics on what must never be: a refusal without reason, an answer that is no JSON object with a code, an accepted value that
//! breaks its own rule, a result that loses something of the plugins before us. No namespace is opened but our own.

use crate::agent::AgentError;
use crate::env::Environment;
use crate::failure::{Failure, causes};
use crate::mistake::Mistake;
use crate::netconf::NetConf;
use crate::request::{AddRequest, Input, Subject};
use crate::result::CniResult;
use crate::status::failure_of;
use crate::version::{SpecVersion, is_version};
use crate::{Verb, check, echoed_version, netconf, parse_verb, request, subject_of_log, wiring};
use serde_json::{Map, Value};
use spur_datapath::layout;
use spur_datapath::netns::NetNs;
use spur_wire::{AddReply, Response};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

const SANDBOX: &str = "/run/netns/cni-1";

/// Any path but one that says it is none is our own namespace: a fuzzer must not open files by name.
fn open_own(path: &str, _: bool) -> Result<NetNs, Mistake> {
    let refuse = |why: &str| Mistake::Netns { path: path.to_owned(), why: why.to_owned() };
    if path.contains("gone") {
        return Err(refuse("the input says so"));
    }
    NetNs::current().map_err(|error| refuse(&error.to_string()))
}

fn usual(variable: &'static str) -> Option<OsString> {
    let value = match variable {
        "CNI_COMMAND" => "ADD",
        "CNI_CONTAINERID" => "c1",
        "CNI_NETNS" => SANDBOX,
        "CNI_IFNAME" => "eth0",
        "CNI_ARGS" => "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0",
        "CNI_PATH" => "/opt/cni/bin",
        _ => return None,
    };
    Some(value.into())
}

/// The network configuration, read by every verb in a usual environment. True when ADD would run.
#[must_use]
pub fn stdin(bytes: &[u8]) -> bool {
    let env = Environment::observe(usual);
    let input = || netconf::parse_object(bytes);
    if let Ok(object) = &input() {
        let _ = netconf::parse_log(object);
    }
    judge_all(&env, &input)
}

/// The environment, as `NAME=value` between zeroes, with a usual configuration. True when its verb would run.
#[must_use]
pub fn environment(bytes: &[u8]) -> bool {
    let variables: Vec<(&[u8], &[u8])> = bytes
        .split(|byte| *byte == 0)
        .filter_map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=')?;
            Some((&pair[..at], &pair[at + 1..]))
        })
        .collect();
    let env = Environment::observe(|name| {
        let found = variables.iter().find(|(key, _)| *key == name.as_bytes());
        found.map(|(_, value)| OsString::from_vec(value.to_vec()))
    });
    let conf: &[u8] =
        br#"{"cniVersion":"1.1.0","name":"pods","prevResult":{},"cni.dev/valid-attachments":[]}"#;
    let input = || netconf::parse_object(conf);
    judge_all(&env, &input);
    match parse_verb(&env) {
        Ok(verb) => {
            let subject = subject_of_log(verb, &env);
            assert!(!subject.contains(char::is_control), "one line of log: {subject:?}");
            judge(verb, &env, input())
        }
        Err(mistake) => refused(&Failure::Invalid(vec![mistake]), &input()),
    }
}

/// The result of the plugins before us: what ADD makes of it, then what CHECK makes of that. True when both have it.
#[must_use]
pub fn previous_result(bytes: &[u8]) -> bool {
    let Ok(previous) = serde_json::from_slice::<Value>(bytes) else { return false };
    let with_check = SpecVersion::ALL.into_iter().filter(|version| *version >= SpecVersion::V0_4_0);
    with_check.fold(true, |all, version| chained(version, previous.clone()) && all)
}

fn chained(version: SpecVersion, previous: Value) -> bool {
    let env = Environment::observe(usual);
    let conf = |previous: Value| -> Map<String, Value> {
        let entries = [
            ("cniVersion", Value::from(version.as_str())),
            ("name", Value::from("pods")),
            ("prevResult", previous),
        ];
        entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    };
    let add = match request::add(&env, Ok(conf(previous.clone())), open_own) {
        Ok(add) => add,
        Err(mistakes) => return refused(&Failure::Invalid(mistakes), &Ok(conf(previous))),
    };
    let printed = result_of(&add, &usual_grant());
    let Value::Object(result) = &printed else { unreachable!("a result is an object: {printed}") };
    let before = add.previous.unwrap_or_default();
    check_chain(&before, result);
    let check = request::check(&env, Ok(conf(printed.clone())), open_own);
    let check = check.expect("what ADD printed is what CHECK gets");
    let (expected, problems) = check::expected_of(&check);
    let known_name = list(&before, "interfaces").iter().any(|interface| interface["name"] == "eth0");
    if !known_name {
        // Addresses of others on our interface may be odd; everything of ours must be found.
        let odd = |problem: &String| problem.contains("where an address is expected");
        assert!(problems.iter().all(odd), "{problems:?}");
        assert!(usual_grant().addresses.iter().all(|address| expected.contains(address)), "{expected:?}");
    }
    true
}

fn check_chain(before: &Map<String, Value>, after: &Map<String, Value>) {
    for (key, value) in before {
        match (key.as_str(), value) {
            ("interfaces" | "ips" | "routes", Value::Array(theirs)) => {
                assert!(list(after, key).starts_with(theirs), "{key} keeps what was there");
            }
            ("interfaces" | "ips" | "routes" | "cniVersion", _) => {}
            _ => assert_eq!(after.get(key), Some(value), "{key} is not ours to change"),
        }
    }
    let ours = list(after, "ips").last().and_then(|ip| ip["interface"].as_u64());
    let ours = ours.and_then(|index| list(after, "interfaces").get(usize::try_from(index).ok()?));
    assert_eq!(ours.map(|interface| &interface["sandbox"]), Some(&Value::from(SANDBOX)), "ours is last");
}

fn list<'a>(object: &'a Map<String, Value>, key: &str) -> &'a [Value] {
    object.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A frame of the agent. True when it is an answer that the plugin would act on.
#[must_use]
pub fn response(bytes: &[u8]) -> bool {
    let socket = PathBuf::from("/run/spur/agent.sock");
    let input = || netconf::parse_object(br#"{"cniVersion":"1.1.0","name":"pods"}"#);
    let refused = |failure: Failure| refused(&failure, &input());
    match spur_wire::read_frame::<Response>(&mut &bytes[..]) {
        Err(cause) => refused(Failure::Add(AgentError::Exchange { socket, cause })),
        Ok(Response::Refused(refusal)) => refused(Failure::Add(AgentError::Refused(refusal))),
        Ok(Response::Add(grant)) => {
            let add = request::add(&Environment::observe(usual), input(), open_own);
            let add = add.expect("a usual environment and configuration");
            match wiring::plan(&add, &grant) {
                Ok(_) => result_of(&add, &grant).is_object(),
                Err(error) => refused(Failure::Wire(error)),
            }
        }
        Ok(Response::Check(reply)) => reply.problems.is_empty() || refused(Failure::Drift(reply.problems)),
        Ok(Response::Gc(reply)) => reply.problems.is_empty() || refused(Failure::Incomplete(reply.problems)),
        Ok(Response::Status(reply)) => reply.ready || refused(failure_of(reply)),
        Ok(Response::Del(_)) => true,
    }
}

fn usual_grant() -> AddReply {
    AddReply {
        addresses: vec!["10.0.1.7".parse().expect("an address")],
        mtu_bytes: 9001,
        pods_table: layout::PODS_TABLE.number(),
        node_address: "10.0.1.4".parse().expect("an address"),
    }
}

fn result_of(add: &AddRequest, grant: &AddReply) -> Value {
    let wiring = wiring::plan(add, grant).expect("a grant that makes sense");
    let result = CniResult::new(add.conf.version, &wiring.wired(add), &add.conf.dns);
    result.after(add.previous.as_ref()).expect("a result can be written")
}

fn judge_all(env: &Environment, input: &dyn Fn() -> Input) -> bool {
    let verbs = [Verb::Del, Verb::Check, Verb::Gc, Verb::Status, Verb::Version];
    for verb in verbs {
        judge(verb, env, input());
    }
    judge(Verb::Add, env, input())
}

/// Whether the verb would run; what it would run on, or what it would answer, is looked at.
fn judge(verb: Verb, env: &Environment, input: Input) -> bool {
    let echo = netconf_echo(&input);
    let done = match verb {
        Verb::Add => request::add(env, input, open_own).map(|add| {
            check_conf(&add.conf);
            check_subject(&add.subject);
            assert!(!add.sandbox.is_empty());
        }),
        Verb::Del => request::del(env, input).map(|del| {
            check_conf(&del.conf);
            check_subject(&del.subject);
        }),
        Verb::Check => request::check(env, input, open_own).map(|check| {
            let _ = check::expected_of(&check);
        }),
        Verb::Gc => request::gc(env, input).map(|gc| check_conf(&gc.conf)),
        Verb::Status => request::status(input).map(|conf| check_conf(&conf)),
        Verb::Version => return true,
    };
    match done {
        Ok(()) => true,
        Err(mistakes) => {
            assert!(!mistakes.is_empty(), "{verb:?} refuses without a reason");
            refused_as(&Failure::Invalid(mistakes), &echo)
        }
    }
}

fn netconf_echo(input: &Input) -> String {
    let echo = echoed_version(input);
    assert!(is_version(&echo), "{echo:?}");
    echo
}

fn check_conf(conf: &NetConf) {
    let absolute = |path: &Path| path.is_absolute() && !path.to_string_lossy().contains('\0');
    assert!(absolute(&conf.socket) && conf.socket.as_os_str().len() <= 107, "{conf:?}");
    assert!(absolute(&conf.spool_dir), "{conf:?}");
    assert!(netconf::TIMEOUT_SECONDS.contains(&conf.timeout.as_secs()), "{conf:?}");
    assert!(!conf.network.as_str().contains(['/', '\0', ' ']), "{conf:?}");
}

fn check_subject(subject: &Subject) {
    let name = subject.host_if_name();
    assert!(name.as_str().starts_with(layout::HOST_VETH_PREFIX) && name.as_str().len() <= 15, "{name}");
    let attachment = subject.attachment();
    assert!(!attachment.container_id.is_empty() && (1..=15).contains(&attachment.if_name.len()));
}

fn refused(failure: &Failure, input: &Input) -> bool {
    refused_as(failure, &echoed_version(input))
}

/// Always false. The answer is what the specification says an error is.
fn refused_as(failure: &Failure, echo: &str) -> bool {
    let _ = causes(failure);
    let reply = serde_json::to_value(failure.reply(echo)).expect("an answer can be written");
    assert!(reply["code"].as_u64().is_some_and(|code| code > 0), "{reply}");
    assert!(reply["msg"].as_str().is_some_and(|text| !text.is_empty()), "{reply}");
    assert_eq!(reply["cniVersion"], echo);
    false
}
