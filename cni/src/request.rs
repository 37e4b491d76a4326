//! From an invocation to a request that makes sense: [`AddRequest`], [`DelRequest`] and the others exist only after everything
//! was validated, so that no verb can run on less. All mistakes of environment, configuration and namespace are collected
//! before anything is refused. Reads the kernel (is `CNI_NETNS` a namespace, and not our own?) and changes nothing.

use crate::args::parse_pod;
use crate::env::{Environment, Variable};
use crate::mistake::{Mistake, note};
use crate::names::{ContainerId, parse_if_name};
use crate::netconf::{self, NetConf, shown};
use crate::previous;
use crate::version::SpecVersion;
use serde_json::{Map, Value};
use spur_datapath::netns::NetNs;
use spur_datapath::{IfName, names};
use spur_wire::{Attachment, PodRef};

/// The interface that an invocation is about.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) container_id: ContainerId,
    pub(crate) if_name: IfName,
    pub(crate) pod: Option<PodRef>,
}

/// A validated ADD.
#[derive(Debug)]
pub(crate) struct AddRequest {
    pub(crate) conf: NetConf,
    pub(crate) subject: Subject,
    /// `CNI_NETNS`, verbatim.
    pub(crate) sandbox: String,
    pub(crate) netns: NetNs,
    /// What earlier plugins of the chain achieved, in the shape of the configuration's version.
    pub(crate) previous: Option<Map<String, Value>>,
}

/// A validated DEL: the namespace may be gone, and nobody looks at it.
#[derive(Debug)]
pub(crate) struct DelRequest {
    pub(crate) conf: NetConf,
    pub(crate) subject: Subject,
}

/// A validated CHECK.
#[derive(Debug)]
pub(crate) struct CheckRequest {
    /// What an ADD would have run on.
    pub(crate) add: AddRequest,
    /// The result of the whole chain.
    pub(crate) previous: Map<String, Value>,
}

/// A validated GC.
#[derive(Debug)]
pub(crate) struct GcRequest {
    pub(crate) conf: NetConf,
    /// What stays.
    pub(crate) valid: Vec<Attachment>,
}

/// Standard input as far as it is a JSON object.
pub(crate) type Input = Result<Map<String, Value>, Mistake>;

/// How a namespace is opened: the kernel in life, something harmless in tests of hostile input.
pub(crate) type OpenNetns = fn(path: &str, allow_own: bool) -> Result<NetNs, Mistake>;

impl Subject {
    pub(crate) fn attachment(&self) -> Attachment {
        Attachment {
            container_id: self.container_id.as_str().to_owned(),
            if_name: self.if_name.as_str().to_owned(),
        }
    }

    /// The name of the veth's end on the host.
    pub(crate) fn host_if_name(&self) -> IfName {
        let pod = self.pod.as_ref().map(|pod| (pod.namespace.as_str(), pod.name.as_str()));
        names::host_veth_name(pod, self.container_id.as_str(), self.if_name.as_str())
    }
}

/// Everything that ADD and CHECK need, or everything that is wrong: environment first, then configuration.
pub(crate) fn add(env: &Environment, input: Input, open: OpenNetns) -> Result<AddRequest, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let subject = subject(env, &[&env.container_id, &env.netns, &env.if_name], &mut mistakes);
    let sandbox = note(env.netns.text(), &mut mistakes).flatten();
    let allow_own = allows_own_netns(env, &mut mistakes);
    let netns = sandbox.and_then(|path| note(open(path, allow_own), &mut mistakes));
    let object = note(input, &mut mistakes);
    let previous = object.as_ref().and_then(|object| note(previous_result(object), &mut mistakes));
    let conf = object.and_then(|object| netconf::parse(object, &mut mistakes));
    match (conf, subject, sandbox, netns, previous) {
        (Some(conf), Some(subject), Some(sandbox), Some(netns), Some(previous)) if mistakes.is_empty() => {
            let previous = previous.map(|previous| previous::in_shape_of(conf.version, previous));
            Ok(AddRequest { conf, subject, sandbox: sandbox.to_owned(), netns, previous })
        }
        _ => Err(mistakes),
    }
}

/// Everything that DEL needs, or everything that is wrong. `CNI_NETNS` is not even read: it may be empty, gone, or reused.
pub(crate) fn del(env: &Environment, input: Input) -> Result<DelRequest, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let subject = subject(env, &[&env.container_id, &env.if_name], &mut mistakes);
    let conf = note(input, &mut mistakes).and_then(|object| netconf::parse(object, &mut mistakes));
    match (conf, subject) {
        (Some(conf), Some(subject)) if mistakes.is_empty() => Ok(DelRequest { conf, subject }),
        _ => Err(mistakes),
    }
}

/// Everything that CHECK needs: what ADD needs, and the result to compare with.
pub(crate) fn check(env: &Environment, input: Input, open: OpenNetns) -> Result<CheckRequest, Vec<Mistake>> {
    let lacks_result = input.as_ref().is_ok_and(|object| object.get("prevResult").is_none_or(Value::is_null));
    let no_result = || Mistake::NoKey { key: "prevResult", why: "CHECK compares the pod with it" };
    match add(env, input, open) {
        Ok(add) if add.conf.version < SpecVersion::V0_4_0 => {
            Err(vec![too_new("CHECK", SpecVersion::V0_4_0, &add.conf)])
        }
        Ok(mut add) => match add.previous.take() {
            Some(previous) => Ok(CheckRequest { add, previous }),
            None => Err(vec![no_result()]),
        },
        Err(mut mistakes) => {
            if lacks_result {
                mistakes.push(no_result());
            }
            Err(mistakes)
        }
    }
}

/// Everything that STATUS needs.
pub(crate) fn status(input: Input) -> Result<NetConf, Vec<Mistake>> {
    network("STATUS", SpecVersion::V1_1_0, input)
}

/// Everything that GC needs. `CNI_PATH` is required by the specification, though nothing is executed here.
pub(crate) fn gc(env: &Environment, input: Input) -> Result<GcRequest, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    if env.path.is_missing() {
        mistakes.push(Mistake::Missing(vec![env.path.name()]));
    }
    let conf = network("GC", SpecVersion::V1_1_0, input).map_err(|found| mistakes.extend(found)).ok();
    let valid =
        conf.as_ref().and_then(|conf| valid_attachments(conf).map_err(|found| mistakes.extend(found)).ok());
    match (conf, valid) {
        (Some(conf), Some(valid)) if mistakes.is_empty() => Ok(GcRequest { conf, valid }),
        _ => Err(mistakes),
    }
}

/// The configuration alone, for verbs that are about no interface and came with a version of the specification.
fn network(verb: &'static str, since: SpecVersion, input: Input) -> Result<NetConf, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let conf = note(input, &mut mistakes).and_then(|object| netconf::parse(object, &mut mistakes));
    match conf {
        Some(conf) if conf.version < since => Err(vec![too_new(verb, since, &conf)]),
        Some(conf) => Ok(conf),
        None => Err(mistakes),
    }
}

fn too_new(verb: &'static str, needed: SpecVersion, conf: &NetConf) -> Mistake {
    Mistake::VerbTooNew { verb, needed, given: conf.version }
}

/// What stays when a network is swept; from the key of the specification or the one that libcni used before.
fn valid_attachments(conf: &NetConf) -> Result<Vec<Attachment>, Vec<Mistake>> {
    const KEY: &str = "cni.dev/valid-attachments";
    let value = conf.raw.get(KEY).or_else(|| conf.raw.get("cni.dev/attachments"));
    let why = "without the list every live pod would lose its address; null or [] says that all are stale";
    let list = match value {
        None => return Err(vec![Mistake::NoKey { key: KEY, why }]),
        Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(vec![not_an_attachment(KEY, other)]),
    };
    let (mut valid, mut mistakes) = (Vec::new(), Vec::new());
    for item in list {
        match (item.get("containerID").and_then(Value::as_str), item.get("ifname").and_then(Value::as_str)) {
            (Some(container_id), Some(if_name)) => {
                valid.push(Attachment { container_id: container_id.to_owned(), if_name: if_name.to_owned() });
            }
            _ => mistakes.push(not_an_attachment(KEY, item)),
        }
    }
    if mistakes.is_empty() { Ok(valid) } else { Err(mistakes) }
}

fn not_an_attachment(key: &'static str, value: &Value) -> Mistake {
    let why = "expected a list of objects with the texts containerID and ifname".to_owned();
    Mistake::Value { key, value: shown(value), why }
}

fn subject(env: &Environment, required: &[&Variable], mistakes: &mut Vec<Mistake>) -> Option<Subject> {
    let missing: Vec<_> =
        required.iter().filter(|variable| variable.is_missing()).map(|variable| variable.name()).collect();
    if !missing.is_empty() {
        mistakes.push(Mistake::Missing(missing));
    }
    let mut text =
        |variable: &Variable| note(variable.text().map(|text| text.map(str::to_owned)), mistakes).flatten();
    let (container_id, if_name, args) = (text(&env.container_id), text(&env.if_name), text(&env.args));
    let container_id = container_id.and_then(|text| note(ContainerId::parse(&text), mistakes));
    let if_name = if_name.and_then(|text| note(parse_if_name(&text), mistakes));
    let pod = args.map_or(Some(None), |args| note(parse_pod(&args), mistakes));
    Some(Subject { container_id: container_id?, if_name: if_name?, pod: pod? })
}

fn allows_own_netns(env: &Environment, mistakes: &mut Vec<Mistake>) -> bool {
    let text = note(env.netns_override.text(), mistakes).flatten();
    text.is_some_and(|text| text == "1" || text.eq_ignore_ascii_case("true"))
}

fn previous_result(object: &Map<String, Value>) -> Result<Option<Map<String, Value>>, Mistake> {
    match object.get("prevResult") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(previous)) => Ok(Some(previous.clone())),
        Some(other) => Err(Mistake::Value {
            key: "prevResult",
            value: shown(other),
            why: "expected an object".to_owned(),
        }),
    }
}

/// Opens `CNI_NETNS` and refuses the namespace that we are in: there a typing error would rewire the node itself.
pub(crate) fn open_netns(path: &str, allow_own: bool) -> Result<NetNs, Mistake> {
    let refuse = |error: &dyn std::error::Error| Mistake::Netns {
        path: path.to_owned(),
        why: error.source().unwrap_or(error).to_string(),
    };
    let netns = NetNs::open(path).map_err(|error| refuse(&error))?;
    let own = NetNs::current().map_err(|error| refuse(&error))?;
    if netns.is_same(&own) && !allow_own { Err(Mistake::OwnNetns(path.to_owned())) } else { Ok(netns) }
}

#[cfg(test)]
mod tests;
