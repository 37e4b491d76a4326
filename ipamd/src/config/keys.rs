//! The table of configuration keys: path, type, default and reason of each. It is the only place where a default is
//! written; the reader takes absent keys from here, refuses keys that are not here, and `docs/configuration.md` is
//! generated from it (a test compares). The controller's table is in [`super::controller`].

use super::fields::{FIELDS, Takes};

/// What a configuration file may say.
#[derive(Debug, Clone, Copy)]
pub struct Catalog {
    /// Every key.
    pub keys: &'static [Key],
    /// The paths of the sections, so that a section can be told from a key.
    pub sections: &'static [&'static str],
}

/// What the agent's file may say.
pub(super) const AGENT: Catalog =
    Catalog { keys: KEYS, sections: &["api", "cni", "collect", "log", "metrics", "pool"] };

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Where it stands in the file, sections joined by `.`.
    pub path: &'static str,
    /// What it takes, in words.
    pub kind: &'static str,
    /// The default as YAML; `null` means none.
    pub default: &'static str,
    /// What it is for, and why the default is what it is.
    pub reason: &'static str,
}

pub(super) const fn key(
    path: &'static str,
    kind: &'static str,
    default: &'static str,
    reason: &'static str,
) -> Key {
    Key { path, kind, default, reason }
}

/// Every key that a configuration file may have.
pub const KEYS: &[Key] = &[
    key(
        "clusterName",
        "1–128 letters, digits, `-`, `_`, `.`",
        "default",
        "Value of the tag `spur.dev/cluster` on every ENI that Spur creates; only ENIs with this value are Spur's to change.",
    ),
    key(
        "socket",
        "absolute path, at most 107 bytes",
        "/run/spur/agent.sock",
        "Where the agent listens for the CNI plugin. The kernel allows no longer path for a socket.",
    ),
    key(
        "stateDir",
        "absolute path",
        "/var/lib/spur",
        "Holds the store of who has which address; it must survive a restart of the agent.",
    ),
    key(
        "spoolDir",
        "absolute path",
        "/var/lib/spur/spool",
        "Where the plugin leaves releases while the agent is away; drained at start and at every reconcile.",
    ),
    key(
        "cni.confDir",
        "absolute path",
        "/etc/cni/net.d",
        "Where the container runtime looks for network configurations.",
    ),
    key(
        "cni.confName",
        "file name that ends in `.conflist`",
        "10-spur.conflist",
        "Runtimes take the first file in alphabetical order.",
    ),
    key(
        "cni.networkName",
        "letters, digits, `-`, `_`, `.`; first a letter or digit",
        "spur",
        "Name of the network in the conflist.",
    ),
    key(
        "cni.socketPath",
        "absolute path, or null",
        "null",
        "The socket as the plugin sees it, when that differs from `socket` (agent in a container with other mounts).",
    ),
    key(
        "cni.chain",
        "list of plugins as in a conflist, at most 16",
        "[]",
        "Plugins that run behind Spur, in this order, for example `{type: portmap, capabilities: {portMappings: true}}`. Refused are a second `spur`, plugins that make interfaces or addresses, `tuning` with `mac`, and what the runtime sets itself.",
    ),
    key(
        "cni.version",
        "1.0.0 or 1.1.0, or null",
        "null",
        "The highest version of the CNI specification that the conflist offers; null takes 1.1.0 for Spur alone and 1.0.0 with a chain, because containernetworking's plugins refuse 1.1.0 before their 1.6.0, and every pod with it. Without 1.1.0 runtimes call neither STATUS nor GC.",
    ),
    key(
        "addWaitSeconds",
        "1–180",
        "15",
        "How long an ADD may wait for an address before it is told to try again: long enough for an ENI to attach, short enough for the runtime's own limit.",
    ),
    key(
        "reconcileSeconds",
        "10–3600",
        "60",
        "How often ENIs are read again from EC2 (one call) and VPC CIDRs from the instance metadata.",
    ),
    key(
        "settleSeconds",
        "1–600",
        "60",
        "How long EC2's answers may lag behind its changes: for so long after a change an absence is not believed, and an address that was given back is not taken up again.",
    ),
    key(
        "mtuBytes",
        "1280–9001, or null",
        "null",
        "MTU of pod interfaces; null takes that of the primary ENI.",
    ),
    key(
        "api.budgetPercent",
        "1–100",
        "20",
        "Share of the account's EC2 limits (per action) that this node may use. A call beyond it waits up to 5 s for its turn, pods first, and is then put off, with the time in the reason of the ADD that waits. When EC2 throttles nevertheless, the rate is halved and comes back within half a minute. At 20 an action that EC2 gives 100 calls and 5 a second is left 20 and 1 a second.",
    ),
    key(
        "collect.graceSeconds",
        "900–2592000",
        "3600",
        "For `spur-ipamd collect`: how old an unattached ENI must be before it counts as leaked. Far more than a node takes to attach one, and than clocks differ.",
    ),
    key(
        "collect.maxDeletions",
        "1–1000",
        "50",
        "For `spur-ipamd collect`: deletions in one pass, the oldest first, so that a mistake stays small.",
    ),
    key(
        "log.level",
        "error, warn, info, debug or trace",
        "info",
        "One `info` line per decision that changes something.",
    ),
    key(
        "metrics.listen",
        "IP address with port, or `off`",
        "127.0.0.1:61680",
        "Where metrics can be fetched over HTTP, at `/metrics` ([what there is](metrics.md)). Loopback by default, because there is no authentication: whoever can connect can read. The port lies above those that the kernel gives to clients (32768–60999) and NodePorts, and beside the VPC CNI's 61678 and 61679. While it is taken, pods are served all the same, `MetricsUnavailable` is logged, and it is tried again.",
    ),
    key(
        "nodeName",
        "lower-case letters, digits, `-`, `.`, or null",
        "null",
        "The node's name in `grantDir`; null takes the host name.",
    ),
    key(
        "grantDir",
        "absolute path, or null",
        "null",
        "Where `spur-ipamd controller` leaves what it grants. Needed where `pool.mode` is `vpcRoute`; in `eni` mode it tells of the cluster's other pod addresses and nodes, which must not be translated.",
    ),
    key("log.format", "json or text", "json", "`text` is for people at a terminal."),
    key(
        "pool.mode",
        "eni or vpcRoute",
        "eni",
        "Where pod addresses come from: secondary addresses of ENIs, or blocks that the VPC's route tables lead to the node. With `vpcRoute` the agent makes no EC2 call; the keys about ENIs and targets have no effect.",
    ),
    key(
        "pool.fallbackPool",
        "1–63 letters, digits, `-`, `_`, `.`, or null",
        "null",
        "With `pool.mode: vpcRoute`: the `eni` pool that the controller may move this node to when the route tables are too full for it (the controller's `pool.fallbackPool`). The agent then works as with `pool.mode: eni`, with the keys of this file and the permissions of that mode, as long as the machine lives. Null: a node that was moved waits, and says so.",
    ),
    key(
        "pool.warmIpTarget",
        "0–1000",
        "2",
        "Free addresses to keep in stock. Small, because addresses are scarce and growth starts with the ADD that takes the stock below it.",
    ),
    key(
        "pool.minimumIpTarget",
        "0–1000",
        "0",
        "Addresses to hold in all, used or free, for nodes that are known to fill up; 0 leaves the size to the stock.",
    ),
    key(
        "pool.warmEniTarget",
        "0–256",
        "0",
        "ENIs' worth of free addresses to keep in stock, for nodes whose pods come in bursts. All targets hold at once and the largest counts.",
    ),
    key(
        "pool.warmPrefixTarget",
        "0–256",
        "0",
        "Wholly free prefixes to keep in stock; needs `pool.prefixDelegation`.",
    ),
    key(
        "pool.prefixDelegation",
        "auto, on or off",
        "off",
        "Whether addresses come in prefixes of sixteen (/28), which an ENI carries in the place of one address; instance types that are not built on Nitro have none. `auto` takes a prefix where the need is worth one and the subnet has one, `on` takes single addresses only for the last few pods and while no subnet has a free /28. Off by default, because a subnet that is nearly full has none.",
    ),
    key(
        "pool.maxAboveWarm",
        "0–1000",
        "8",
        "How far a call that is made anyway may overshoot, and how many free addresses above the target are left alone: without slack every DEL and ADD would be two calls. An m5.large goes from 0 to 27 pods in seven.",
    ),
    key(
        "pool.maxEnis",
        "1–256, or null",
        "null",
        "Upper limit of ENIs, the primary one included; null takes the instance type's.",
    ),
    key(
        "pool.cooldownSeconds",
        "0–3600",
        "30",
        "How long a released address rests before another pod may have it, so that late packets of old flows reach nobody.",
    ),
    key(
        "pool.shrinkDelaySeconds",
        "0–86400",
        "60",
        "How long a surplus must last before it is given back, so that a rolling update does not release and assign again.",
    ),
    key(
        "pool.subnets",
        "list of subnet ids",
        "[]",
        "Where new ENIs may be created, in the node's zone, those with most free addresses first; empty takes the subnet of the primary ENI.",
    ),
    key(
        "pool.subnetTags",
        "map of text to text, at most 10",
        "{}",
        "In the place of `pool.subnets`: all subnets of the node's zone and VPC that carry these tags. EC2 is asked again every half hour, and when a subnet is full.",
    ),
    key(
        "pool.securityGroups",
        "list of security group ids, at most 16",
        "[]",
        "For new ENIs; empty takes those of the primary ENI.",
    ),
    key(
        "pool.securityGroupTags",
        "map of text to text, at most 10",
        "{}",
        "In the place of `pool.securityGroups`: all groups of the VPC that carry these tags; read again together with the subnets.",
    ),
    key(
        "pool.tags",
        "map of text to text, at most 40",
        "{}",
        "Further tags of new ENIs. Names that begin with `aws:` or `spur.dev/` are refused.",
    ),
    key(
        "pool.natOutgoing",
        "true or false",
        "true",
        "Whether traffic to destinations that do not know pod addresses leaves with the node's primary address.",
    ),
    key(
        "pool.natExclude",
        "list of IPv4 CIDRs",
        "[]",
        "Destinations beside the VPC's that must see the pod's own address.",
    ),
    key(
        "pool.natForce",
        "list of IPv4 CIDRs",
        "[]",
        "Destinations that must see the node's address whatever the other keys say. In `vpcRoute` mode link-local addresses and the VPC's resolver are among them anyway: they know addresses of ENIs only.",
    ),
    key(
        "pool.natPortRange",
        "`first-last`, at least 4096 ports within 1024–65535",
        "1024-65535",
        "Source ports of translated TCP, UDP and SCTP flows. Fewer would run out: exhaustion drops silently in the kernel.",
    ),
    key(
        "pool.vpcDestinations",
        "AllCidrs, Covered or None, or null",
        "null",
        "Which VPC destinations are left untranslated: every CIDR associated with the VPC; the subnets whose route table leads back to this node's pods; or none. Null is `AllCidrs` in `eni` mode, where the VPC knows each pod address, and `Covered` in `vpcRoute` mode.",
    ),
    key(
        "pool.blockInstanceMetadata",
        "true or false",
        "false",
        "Keeps pods from 169.254.169.254, and so from the credentials of the node's role; `nft list counters` shows how many packets were dropped. Off by default, because pods that live on the node's role would lose it without a word. Switch it on once they have roles of their own (IRSA, Pod Identity: 169.254.170.23 stays reachable). Pods in the host's network are not affected.",
    ),
];

/// The table as a Markdown document.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "# Configuration of the agent\n\n\
         `spur-ipamd agent --config FILE` reads one YAML file; an empty one is complete. Unknown keys are refused, and all mistakes are\n\
         reported at once, each with its key and what would be right.\n\n\
         The file is read at start, within seconds after it changed, and at SIGHUP. A file with a mistake changes nothing, and its mistakes\n\
         are logged. A new value takes effect at once, or at the next start of the agent, as the table says.\n\n\
         <!-- Generated from ipamd/src/config/keys.rs; `UPDATE_DOCS=1 cargo test -p spur-ipamd --lib config` rewrites it. -->\n\n\
         | key | type | default | a new value | what and why |\n|---|---|---|---|---|\n",
    );
    for key in KEYS {
        let default = if key.default == "null" { "none".to_owned() } else { format!("`{}`", key.default) };
        let live = FIELDS.iter().any(|field| field.key == key.path && field.takes == Takes::Effect);
        let when = if live { "at once" } else { "restart" };
        text.push_str(&format!("| `{}` | {} | {default} | {when} | {} |\n", key.path, key.kind, key.reason));
    }
    text
}

/// The rows of a table of keys.
pub(super) fn rows(keys: &[Key]) -> String {
    let row = |key: &Key| {
        let default = if key.default == "null" { "none".to_owned() } else { format!("`{}`", key.default) };
        format!("| `{}` | {} | {default} | {} |\n", key.path, key.kind, key.reason)
    };
    keys.iter().map(row).collect()
}
