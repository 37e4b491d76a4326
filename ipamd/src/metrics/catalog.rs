//! Every metric: name, labels, and what it tells. The table in `docs/metrics.md` is generated from here (a test compares), and so are the lines that
//! Prometheus shows.

use super::family::{Family, Kind};

/// Destinations that are told of one by one.
pub(crate) const BUSIEST: usize = 10;
/// Subnets that are told of.
pub(crate) const SUBNETS: usize = 64;

/// A family as its own static, so that nothing else can be told.
macro_rules! families {
    ($($name:ident = $kind:ident($text:literal, [$($label:literal),*], $help:expr);)*) => {
        $(pub(crate) static $name: Family = Family::new(Kind::$kind, $text, &[$($label),*], $help);)*
    };
}

families! {
    // Of agent and controller.
    BUILD = Gauge("spur_build_info", ["version"], "Always 1.");
    EC2_REQUESTS = Counter("spur_ec2_requests", ["action", "outcome"], "Requests that EC2 was sent; a read of three pages is three. The outcome is ok or the class of the error (throttled, subnet_full, denied, …), abandoned when nobody waited for the end; of the controller's calls ok, throttled or failed.");
    BUDGET_TOKENS = Gauge("spur_ec2_budget_tokens", ["action"], "Calls that the API budget allows at once; actions that were never used are not listed.");
    BUDGET_CAPACITY = Gauge("spur_ec2_budget_capacity_tokens", ["action"], "Calls that it allows at once when nothing was spent for a while.");
    BUDGET_RATE = Gauge("spur_ec2_budget_rate_ratio", ["action"], "How fast it fills, compared with the share that was agreed: below 1 after EC2 throttled.");
    BUDGET_WAITING = Gauge("spur_ec2_budget_waiting", ["action"], "Calls that wait for their turn.");
    // Of the agent.
    STATE = Gauge("spur_agent_state", ["state"], "1 for what the agent is: ready, starting, no_grant (the controller granted nothing that leads here), unprepared (the kernel), broken (repairs of the kernel fail), stopping. Not ready is what STATUS says, too.");
    REQUEST_SECONDS = Histogram("spur_cni_request_duration_seconds", ["verb", "outcome"], "How long the plugin waited for the agent. The outcome is ok, the code of CNI that the runtime is told, or hung_up.");
    REFUSED_ADDS = Counter("spur_cni_refused_adds", ["reason"], "ADDs that got no address in time, by the weightiest of what they waited for (subnet_full, full, throttled, budget, attach_pending, …).");
    ADDRESSES = Gauge("spur_pool_addresses", ["state"], "Addresses for pods on this node: free, coming (asked for, or not yet in the kernel), held, cooling, leaving.");
    PREFIXES = Gauge("spur_pool_prefixes", ["state"], "Delegated prefixes: free (wholly), used.");
    ENIS = Gauge("spur_pool_enis", ["phase"], "ENIs: ready, unattached, attaching, lost, leaving, foreign (not Spur's to change).");
    MAX_ENIS = Gauge("spur_pool_max_enis", [], "ENIs that the node may have.");
    WAITING = Gauge("spur_pool_waiting_adds", ["reason"], "ADDs that wait now, by the weightiest of what they wait for.");
    BLOCKED = Gauge("spur_pool_blocked", ["reason"], "1 for what hinders the pool from growing or giving back now.");
    FINDINGS = Counter("spur_pool_findings", ["kind"], "Differences between EC2 and the agent's books that were found, by kind.");
    SUBNET_FREE = Gauge("spur_subnet_free_addresses", ["subnet"], "Free addresses of a subnet, as EC2 told last. Only subnets that the agent asks about anyway are known (pool.subnets, pool.subnetTags: every half hour, and when one is full); at most 64.");
    BUDGET_REFUSED = Counter("spur_ec2_calls_refused", ["action"], "Calls that the API budget put off.");
    BUDGET_FOLDED = Counter("spur_ec2_calls_folded", ["action"], "Calls that were answered by another's read.");
    BUDGET_WAITED = Counter("spur_ec2_calls_waited", ["action"], "Calls that had to wait for their turn and got it.");
    REPAIRS = Counter("spur_kernel_repairs", [], "Things in the node's kernel that others had changed and that were put right.");
    FAILED_UPDATES = Counter("spur_kernel_failed_updates", [], "Attempts to prepare or repair the kernel that failed; each is made again within seconds.");
    KERNEL = Gauge("spur_kernel_state", ["state"], "1 for what the node's kernel is: unprepared (never prepared since the start), sound, failing (changed by others, and repairs fail).");
    MASQUERADERS = Gauge("spur_foreign_masqueraders", [], "Chains of others that translate pods' traffic and cannot be prevented from it; the log names them.");
    NAT_FLOWS = Gauge("spur_nat_translated_flows", [], "Flows of pods that are translated to the node's address.");
    NAT_DESTINATIONS = Gauge("spur_nat_destinations", [], "Destinations (address, port, protocol) that they go to.");
    NAT_BUSIEST = Gauge("spur_nat_destination_flows", ["destination", "port", "protocol"], "Translated flows to each of the ten busiest destinations. Each holds a port: at spur_nat_ports the kernel drops new flows to that destination and tells nobody.");
    NAT_PORTS = Gauge("spur_nat_ports", [], "Ports that translated flows to one destination share (pool.natPortRange).");
    NAT_READ_FAILURES = Counter("spur_nat_read_failures", [], "Attempts to count translated flows that failed.");
    // Of the controller.
    NODES = Gauge("spur_controller_nodes", ["state"], "Nodes on the list: ready, waiting, fallback (left to the eni pool).");
    CONDITION = Gauge("spur_controller_condition", ["condition"], "1 if the condition holds: RoutesSynced, QuotaHeadroom, PoolValid.");
    PROBLEMS = Gauge("spur_controller_problems", ["kind"], "What stands in the way now, by kind; docs/vpc-route.md has the kinds.");
    ROUTES = Gauge("spur_route_table_routes", ["table", "family"], "Routes that a managed table holds, of everybody, with ours that are to come.");
    QUOTA = Gauge("spur_route_table_quota", ["table", "family"], "Routes that it may hold.");
    SYNCED = Gauge("spur_route_table_synced_routes", ["table", "family"], "Nodes' routes in it that are as they should be.");
    FOREIGN = Gauge("spur_route_table_foreign_routes", ["table"], "Routes of others in it that overlap the pool; they are left alone.");
    PARKED = Gauge("spur_route_tables_parked", [], "Tables that EC2 lets no more routes be created in.");
    PARKINGS = Counter("spur_route_table_parkings", [], "How often that happened.");
    DRIFT = Counter("spur_route_drift", ["cause"], "Differences that others caused, each repaired unless the route is theirs: missing, wrong_target, blackhole, foreign, check (source/destination check was on again), claim (the tag was gone).");
    ADOPTED = Counter("spur_route_adopted_blocks", [], "Blocks that were taken up from routes, after the store was lost.");
    TABLES_GONE = Counter("spur_route_tables_gone", [], "Managed tables that somebody deleted.");
    PASS_SECONDS = Histogram("spur_controller_pass_duration_seconds", [], "How long a pass took: one event taken in, everything compared, the next calls begun. Waiting for EC2 is no part of it.");
}

/// What the agent tells.
pub static AGENT: &[&Family] = &[
    &BUILD,
    &STATE,
    &REQUEST_SECONDS,
    &REFUSED_ADDS,
    &ADDRESSES,
    &PREFIXES,
    &ENIS,
    &MAX_ENIS,
    &WAITING,
    &BLOCKED,
    &FINDINGS,
    &SUBNET_FREE,
    &EC2_REQUESTS,
    &BUDGET_TOKENS,
    &BUDGET_CAPACITY,
    &BUDGET_RATE,
    &BUDGET_WAITING,
    &BUDGET_REFUSED,
    &BUDGET_FOLDED,
    &BUDGET_WAITED,
    &KERNEL,
    &REPAIRS,
    &FAILED_UPDATES,
    &MASQUERADERS,
    &NAT_FLOWS,
    &NAT_DESTINATIONS,
    &NAT_BUSIEST,
    &NAT_PORTS,
    &NAT_READ_FAILURES,
];

/// What the controller tells.
pub static CONTROLLER: &[&Family] = &[
    &BUILD,
    &NODES,
    &CONDITION,
    &PROBLEMS,
    &ROUTES,
    &QUOTA,
    &SYNCED,
    &FOREIGN,
    &PARKED,
    &PARKINGS,
    &DRIFT,
    &ADOPTED,
    &TABLES_GONE,
    &EC2_REQUESTS,
    &BUDGET_TOKENS,
    &BUDGET_CAPACITY,
    &BUDGET_RATE,
    &BUDGET_WAITING,
    &PASS_SECONDS,
];

/// The catalog as Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::new();
    for (of, families) in [("The agent", AGENT), ("The controller", CONTROLLER)] {
        text.push_str(&format!("### {of}\n\n| metric | type | labels | what |\n|---|---|---|---|\n"));
        for family in families {
            let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, kind, labels) = (family.queried(), family.kind.word(), labels.join(", "));
            text.push_str(&format!("| `{name}` | {kind} | {labels} | {} |\n", family.help));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    /// Around the part of the document that is generated.
    const MARKS: [&str; 2] = [
        "<!-- Generated from ipamd/src/metrics/catalog.rs; `UPDATE_DOCS=1 cargo test -p spur-ipamd --lib catalog` rewrites it. -->\n\n",
        "<!-- End of what is generated. -->\n",
    ];

    #[test]
    fn the_document_has_the_catalog() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
        let written = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = written.split_once(MARKS[0]).expect("the first mark");
        let (_, after) = rest.split_once(MARKS[1]).expect("the second mark");
        let expected = [before, MARKS[0], &markdown(), MARKS[1], after].concat();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &expected).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(written == expected, "docs/metrics.md is old: run with UPDATE_DOCS=1");
    }

    #[test]
    fn names_are_as_prometheus_wants_them_and_told_once() {
        for families in [AGENT, CONTROLLER] {
            let names: BTreeSet<_> = families.iter().map(|family| family.name).collect();
            assert_eq!(names.len(), families.len());
            for family in families {
                let plain = |text: &str| {
                    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte == b'2')
                };
                assert!(family.name.starts_with("spur_") && plain(family.name), "{}", family.name);
                assert!(!family.name.ends_with("_total") && family.labels.iter().all(|label| plain(label)));
                assert!(
                    family.kind != Kind::Histogram || family.name.ends_with("_seconds"),
                    "{}",
                    family.name
                );
                assert!(
                    family.help.ends_with('.') && !family.help.contains(['\\', '\n', '|']),
                    "{}",
                    family.help
                );
            }
        }
    }
}
