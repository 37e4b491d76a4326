//! The one line on standard output: everything that a program needs to use the world that it started.

use crate::world::{API_ADDRESS, API_PORT, World};
use serde_json::{Value, json};
use std::net::SocketAddr;
use vpcsim_ec2::{NodeView, State};

/// Any key that no node has is an operator's, who may do everything.
const OPERATOR_KEY: &str = "AKIAVPCSIMOPERATOR00";
/// Nobody checks it, but an SDK wants one.
const OPERATOR_SECRET: &str = "vpcsim-no-secret-operator";

/// The description of a world that serves its API at `endpoint`.
#[must_use]
pub(crate) fn description(world: &World, endpoint: SocketAddr, has_network: bool) -> Value {
    let state = world.state();
    let nodes: Vec<Value> =
        state.nodes.iter().map(|node| describe(world, &state, node, has_network)).collect();
    let mut line = json!({
        "name": state.name,
        "region": state.region,
        "endpoint": format!("http://{endpoint}"),
        "accessKeyId": OPERATOR_KEY,
        "secretAccessKey": OPERATOR_SECRET,
        "vpc": state.vpc,
        "nodes": nodes,
    });
    if has_network {
        line["nodeEndpoint"] = json!(format!("http://{API_ADDRESS}:{API_PORT}"));
        line["fabricNetns"] = json!(format!("{}-fabric", state.name));
        line["internet"] = json!({ "netns": format!("{}-inet", state.name), "address": state.internet });
    }
    line
}

fn describe(world: &World, state: &State, node: &NodeView, has_network: bool) -> Value {
    let primary = node.enis.first().and_then(|eni| state.enis.get(eni));
    let mut line = json!({
        "name": node.name,
        "instanceId": node.instance,
        "instanceType": node.instance_type,
        "zone": node.zone,
        "subnet": node.subnet,
        "primaryAddress": primary.map(|eni| eni.primary),
        "primaryMac": primary.map(|eni| eni.mac),
        "accessKeyId": node.access_key,
        "secretAccessKey": secret_of(world, &node.name),
    });
    if has_network {
        line["netns"] = json!(format!("{}-{}", state.name, node.name));
    }
    line
}

/// What the node itself would find in its metadata.
fn secret_of(world: &World, node: &str) -> Option<String> {
    let roles = "/latest/meta-data/iam/security-credentials/";
    let role = world.metadata_text(node, roles)?;
    let credentials = world.metadata_text(node, &format!("{roles}{}", role.lines().next()?))?;
    let credentials: Value = serde_json::from_str(&credentials).ok()?;
    Some(credentials["SecretAccessKey"].as_str()?.to_owned())
}
