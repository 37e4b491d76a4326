//! The shape of the workspace, as cargo sees it: arrows that point one way, one owner of the SDK, lints everywhere.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Every member and what it links, its tests left out, transitively.
struct Workspace {
    manifests: BTreeMap<String, String>,
    links: BTreeMap<String, BTreeSet<String>>,
}

fn workspace() -> Workspace {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform"])
        // What only other platforms need was never downloaded.
        .arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
        .arg("--manifest-path")
        .arg(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let names: BTreeMap<String, String> =
        metadata["packages"].as_array().unwrap().iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
    let direct: BTreeMap<String, BTreeSet<String>> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| {
            let linked =
                node["deps"].as_array().unwrap().iter().filter(|dep| {
                    dep["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null())
                });
            (text(&node["id"]), linked.map(|dep| text(&dep["pkg"])).collect())
        })
        .collect();
    let members: BTreeSet<String> =
        metadata["workspace_members"].as_array().unwrap().iter().map(text).collect();
    let links = members.iter().map(|id| (names[id].clone(), reach(id, &direct, &names))).collect();
    let manifests = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|p| members.contains(&text(&p["id"])))
        .map(|p| (text(&p["name"]), std::fs::read_to_string(text(&p["manifest_path"])).unwrap()))
        .collect();
    Workspace { manifests, links }
}

fn reach(
    id: &str,
    direct: &BTreeMap<String, BTreeSet<String>>,
    names: &BTreeMap<String, String>,
) -> BTreeSet<String> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![id.to_owned()]);
    while let Some(next) = open.pop() {
        open.extend(direct[&next].iter().filter(|dep| seen.insert((*dep).clone())).cloned());
    }
    seen.iter().map(|id| names[id].clone()).collect()
}

#[test]
fn every_member_takes_the_workspace_lints() {
    for (name, manifest) in workspace().manifests {
        assert!(manifest.contains("[lints]\nworkspace = true"), "{name} lacks `[lints] workspace = true`");
    }
}

#[test]
fn only_cloud_aws_names_the_sdk() {
    for (name, manifest) in workspace().manifests {
        assert!(
            name == "spur-cloud-aws" || !manifest.contains("aws-sdk-ec2"),
            "{name} depends on aws-sdk-ec2"
        );
    }
}

#[test]
fn arrows_point_one_way() {
    let links = workspace().links;
    let none_of = |member: &str, forbidden: &[&str]| {
        for name in forbidden {
            assert!(!links[member].contains(*name), "{member} links {name}");
        }
    };
    none_of("spur-quotas", &["spur-cloud", "tokio"]);
    none_of("spur-cloud", &["tokio", "aws-sdk-ec2", "spur-datapath", "spur-wire"]);
    none_of("spur-ipamd-core", &["tokio", "aws-sdk-ec2", "rustix", "libc", "spur-datapath", "spur-wire"]);
    none_of("spur", &["tokio", "aws-sdk-ec2", "spur-cloud", "spur-ipamd-core", "spur-quotas"]);
    none_of("spur-datapath", &["tokio", "spur-cloud", "spur-wire"]);
    none_of("vpcsim-ec2", &["tokio", "axum", "rustix", "spur-cloud"]);
    for member in [
        "spur-quotas",
        "spur-cloud",
        "spur-cloud-aws",
        "spur-wire",
        "spur-datapath",
        "spur",
        "spur-ipamd-core",
        "spur-ipamd",
    ] {
        none_of(member, &["vpcsim", "vpcsim-ec2", "spur-e2e", "localstack-tests"]);
    }
}

/// Packages with their features, as cargo would build them for this selection.
fn features(selection: &[&str]) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--prefix", "none", "--format", "{p} {f}", "--manifest-path"])
        .arg(root)
        .args(selection)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.trim_end_matches(" (*)").trim_end().to_owned()).collect()
}

#[test]
fn the_sdk_is_compiled_once_whatever_is_built() {
    let linked = features(&["-e", "normal,build", "-p", "aws-sdk-ec2"]);
    let shared: BTreeSet<&str> = linked.iter().filter_map(|line| line.split(' ').next()).collect();
    let of_sdk = |selection: &[&str]| -> BTreeSet<String> {
        features(selection)
            .into_iter()
            .filter(|line| shared.contains(line.split(' ').next().unwrap()))
            .collect()
    };
    let all = of_sdk(&["--workspace", "-e", "normal,build,dev"]);
    for selection in [
        &["--workspace", "-e", "normal,build"][..],
        &["-p", "spur-cloud-aws", "-e", "normal,build,dev"],
        &["-p", "spur-ipamd", "-e", "normal,build"],
        &["-p", "localstack-tests", "-e", "normal,build,dev"],
    ] {
        let different: Vec<_> = all.symmetric_difference(&of_sdk(selection)).cloned().collect();
        let sdk_only: Vec<_> = different.iter().filter(|line| of_sdk(selection).contains(*line)).collect();
        assert!(
            sdk_only.is_empty(),
            "with {selection:?} the SDK's dependencies have other features than in the whole workspace, so it would be compiled again; \
             fix them in cloud/aws/Cargo.toml: {different:#?}"
        );
    }
}
