//! What the demo prints when it is done: pods, checks, calls.

use anyhow::{Context, Result};
use spur_e2e::checks::{Check, Placed};
use spur_e2e::cloud::CloudView;
use spur_e2e::routes::RouteTables;
use spur_e2e::table::render;
use spur_e2e::world::{CONTROLLER, MANAGED_TABLES, NodeMode, World};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Every pod: its node, where its address comes from as the cloud sees it, and what it passed.
pub(super) fn pod_table(world: &World, pods: &[Placed], checks: &[Check]) -> Result<String> {
    let (cloud, routes) = (world.cloud()?, world.routes()?);
    let mut rows = Vec::new();
    for placed in pods {
        let node = &world.nodes[placed.node];
        let address = placed.pod.address.context("a pod has no address")?;
        let (source, subnet) = match node.mode {
            NodeMode::Eni => from_eni(&cloud, &node.name, address),
            NodeMode::VpcRoute => from_block(&cloud, &routes, &node.name, address),
        }
        .with_context(|| {
            format!(
                "nothing leads to {address} of pod {} on {}: the cloud does not know it",
                placed.pod.name, node.name
            )
        })?;
        rows.push(vec![
            format!("{} ({})", node.name, node.primary_address),
            node.mode.to_string(),
            source,
            subnet,
            placed.pod.name.clone(),
            address.to_string(),
            tally(checks, &placed.pod.name),
        ]);
    }
    Ok(render(&["NODE", "MODE", "ENI OR BLOCK", "SUBNET", "POD", "ADDRESS", "CHECKS"], &rows, 4))
}

/// The ENI of the node that has the address, and its subnet.
fn from_eni(cloud: &CloudView, node: &str, address: IpAddr) -> Option<(String, String)> {
    let eni = cloud.owner(node, address)?;
    Some((format!("eth{} {}", eni.device_index, eni.id), eni.subnet.clone()))
}

/// The block with the address, if every managed table leads it to the node's primary ENI, and the subnet of that.
fn from_block(
    cloud: &CloudView,
    routes: &RouteTables,
    node: &str,
    address: IpAddr,
) -> Option<(String, String)> {
    let eni = cloud.nodes.get(node)?.iter().find(|eni| eni.device_index == 0)?;
    let mut blocks = MANAGED_TABLES.iter().map(|table| {
        let route =
            routes.owner(table, address).filter(|route| route.target == eni.id && route.state == "active");
        route.map(|route| route.destination)
    });
    let first = blocks.next()??;
    blocks.all(|block| block == Some(first)).then(|| (first.to_string(), eni.subnet.clone()))
}

/// What one pod passed, over all checks.
fn tally(checks: &[Check], pod: &str) -> String {
    let of_pod = checks.iter().filter_map(|check| check.by_name.get(pod));
    let (passed, tried) = of_pod.fold((0, 0), |(passed, tried), (p, t)| (passed + p, tried + t));
    let verdict = if passed == tried { "ok" } else { "FAILED" };
    format!("{passed}/{tried} {verdict}")
}

/// Every check over all pods.
pub(super) fn check_table(checks: &[Check]) -> String {
    let rows: Vec<_> = checks
        .iter()
        .map(|check| {
            let passed = check.tried - check.failures.len();
            let verdict = match (check.tried, check.failures.len()) {
                (0, _) => "–", // One node or one pod: there is nothing to try it on.
                (_, 0) => "ok",
                _ => "FAILED",
            };
            vec![verdict.to_owned(), format!("{passed}/{}", check.tried), check.name.to_owned()]
        })
        .collect();
    render(&["CHECK", "PASSED", "WHAT MUST BE TRUE"], &rows, 0)
}

/// EC2 calls by action and caller.
pub(super) fn call_table(world: &World) -> Result<String> {
    let mut counts: BTreeMap<String, BTreeMap<String, u32>> = BTreeMap::new();
    for call in world.record()? {
        let (action, caller) =
            (call["action"].as_str().unwrap_or("?"), call["caller"].as_str().unwrap_or("?"));
        *counts.entry(action.to_owned()).or_default().entry(caller.to_owned()).or_default() += 1;
    }
    // As the record names them, and as people do.
    let nodes = world.nodes.iter().map(|node| (node.name.as_str(), node.name.as_str()));
    let controller = world.has_controller().then_some((CONTROLLER, "controller"));
    let callers: Vec<_> = nodes.chain(controller).collect();
    let row = |action: &str, calls: &BTreeMap<String, u32>| {
        let mut cells = vec![action.to_owned(), calls.values().sum::<u32>().to_string()];
        cells.extend(callers.iter().map(|(caller, _)| calls.get(*caller).copied().unwrap_or(0).to_string()));
        cells
    };
    let mut rows: Vec<_> = counts.iter().map(|(action, calls)| row(action, calls)).collect();
    let mut total: BTreeMap<String, u32> = BTreeMap::new();
    for (caller, count) in counts.values().flatten() {
        *total.entry(caller.clone()).or_default() += count;
    }
    rows.push(row("all", &total));
    let mut header = vec!["EC2 CALLS", "ALL"];
    header.extend(callers.iter().map(|(_, name)| *name));
    Ok(render(&header, &rows, 0))
}
