//! Keeps `docs/cni.md` true: its tables of configuration keys and of error codes are compared with what is here, and what is
//! here with the constants that the code uses. Changing a key or a code without its documentation fails a test.
//! Compiled for tests only.

use crate::code::Code;
use crate::netconf::{DEFAULT_TIMEOUT_SECONDS, TIMEOUT_SECONDS};
use spur_wire::{DEFAULT_SOCKET, DEFAULT_SPOOL};

/// Name, type, default, meaning.
type Key = (&'static str, &'static str, &'static str, &'static str);

/// All keys that mean something to the plugin.
const KEYS: [Key; 15] = [
    (
        "cniVersion",
        "string",
        "0.1.0",
        "Version of the CNI specification, from 0.1.0 to 1.1.0; it decides the shape of the result.",
    ),
    ("name", "string", "required", "Name of the network; letters, digits, `_`, `.`, `-`."),
    ("type", "string", "none", "Name of the binary; the runtime's business, checked to be text."),
    ("socket", "absolute path", DEFAULT_SOCKET, "Where the agent listens; at most 107 bytes."),
    ("spoolDir", "absolute path", DEFAULT_SPOOL, "Where releases wait for an agent that is down."),
    (
        "timeoutSeconds",
        "integer, 1 to 200",
        "30",
        "How long one invocation may take before it gives up on the agent.",
    ),
    ("logLevel", "error, warn, info or debug", "warn", "What is logged."),
    ("logFile", "absolute path", "standard error", "Where the log goes; lines are appended."),
    (
        "dns",
        "object",
        "none",
        "`nameservers`, `domain`, `search`, `options`: handed to the runtime in the result.",
    ),
    ("runtimeConfig.dns", "object", "none", "`servers`, `searches`, `options` of the pod; replaces `dns`."),
    (
        "runtimeConfig.mac",
        "MAC address",
        "none",
        "Hardware address of the pod's interface; used where `capabilities` has `mac: true`.",
    ),
    ("ipam", "object", "none", "Must be empty: the agent is the only source of addresses (code 2)."),
    (
        "ipMasq",
        "boolean",
        "false",
        "Must be false: translation is a property of the pool, `natOutgoing` (code 2).",
    ),
    ("prevResult", "object", "none", "ADD appends to it, CHECK requires it, DEL does without."),
    (
        "cni.dev/valid-attachments",
        "list",
        "required by GC",
        "What stays; `cni.dev/attachments` is the same; `null` means none.",
    ),
];

const CODES: [(Code, &str); 17] = [
    (
        Code::IncompatibleVersion,
        "The configuration's `cniVersion` is not supported, or the verb is newer than it.",
    ),
    (Code::UnsupportedField, "A key asks for what Spur does not do; the message names key and value."),
    (
        Code::InvalidEnvironment,
        "A `CNI_*` variable is missing or wrong, or `CNI_NETNS` is no network namespace.",
    ),
    (Code::Io, "Standard input could not be read, or the result could not be written."),
    (Code::Decode, "Standard input is no JSON object, too long, or `cniVersion` is no version."),
    (
        Code::InvalidConfig,
        "A key has a value that makes no sense, or is missing; the message names key and value.",
    ),
    (Code::OwnNetns, "`CNI_NETNS` is the namespace that the plugin runs in."),
    (
        Code::TryAgain,
        "The same call may succeed later: no address yet, agent starting or away, or of another version of the protocol while a node is upgraded.",
    ),
    (Code::NotAvailable, "STATUS: ADD cannot be served."),
    (
        Code::LimitedConnectivity,
        "STATUS: what pods need in the node's kernel is gone, and the agent failed to repair it for 20 s.",
    ),
    (Code::AlreadyAttached, "The container has this interface already."),
    (Code::AgentProtocol, "What answers at the socket does not speak the agent's protocol: a wrong socket."),
    (Code::InterfaceExists, "An interface of that name is in the pod's namespace; it was not touched."),
    (Code::Kernel, "The kernel refused; `details` has the step and the reason."),
    (Code::Drift, "CHECK: the pod's network is not as it was made; every difference is listed."),
    (Code::Incomplete, "GC: some stale attachments remain; each is listed."),
    (Code::Internal, "A failure of the agent, or a bug."),
];

#[test]
fn the_documentation_has_every_key_and_every_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cni.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = |heading: &str| -> Vec<String> {
        let section =
            text.split(&format!("## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no section {heading}"));
        let section = section.split("\n## ").next().unwrap();
        section.lines().filter(|line| line.starts_with("| ")).skip(1).map(str::to_owned).collect()
    };
    let keys: Vec<_> = KEYS
        .iter()
        .map(|(name, kind, default, meaning)| format!("| `{name}` | {kind} | {default} | {meaning} |"))
        .collect();
    assert_eq!(rows("Configuration"), keys, "expected:\n{}", keys.join("\n"));
    let codes: Vec<_> =
        CODES.iter().map(|(code, meaning)| format!("| {} | {meaning} |", *code as u32)).collect();
    assert_eq!(rows("Error codes"), codes, "expected:\n{}", codes.join("\n"));
}

#[test]
fn the_documented_timeout_is_the_real_one() {
    let (_, kind, default, _) = KEYS.iter().find(|key| key.0 == "timeoutSeconds").unwrap();
    assert_eq!(*default, DEFAULT_TIMEOUT_SECONDS.to_string());
    assert_eq!(*kind, format!("integer, {} to {}", TIMEOUT_SECONDS.start(), TIMEOUT_SECONDS.end()));
}
