//! The plugin is executed once per pod, so what it links is part of its contract: no async runtime, no SDK, no TLS, no cluster
//! client. Read from the lock file, development dependencies included, so nothing has to be built or asked.
//! Versions are not judged here.

use std::collections::{BTreeMap, BTreeSet};

/// Each package of the lock file with the names of what it depends on.
fn locked() -> BTreeMap<String, BTreeSet<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
    let text = std::fs::read_to_string(path).expect("the workspace has a lock file");
    let mut packages: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for block in text.split("[[package]]").skip(1) {
        let quoted = |line: &str| line.split('"').nth(1).unwrap_or_default().to_owned();
        let name =
            block.lines().find(|line| line.starts_with("name = ")).map(quoted).expect("a package has a name");
        let dependencies = block.lines().skip_while(|line| !line.starts_with("dependencies = [")).skip(1);
        let names = dependencies.take_while(|line| !line.starts_with(']')).map(quoted);
        // With two versions of a package in the file the version follows the name.
        let names = names.map(|name| name.split(' ').next().unwrap_or_default().to_owned());
        packages.entry(name).or_default().extend(names);
    }
    packages
}

#[test]
fn the_plugin_links_neither_a_runtime_nor_an_sdk() {
    let packages = locked();
    let mut reached = BTreeSet::from(["spur".to_owned()]);
    let mut waiting = vec!["spur".to_owned()];
    while let Some(name) = waiting.pop() {
        for dependency in packages.get(&name).into_iter().flatten() {
            if reached.insert(dependency.clone()) {
                waiting.push(dependency.clone());
            }
        }
    }
    assert!(
        ["spur-wire", "spur-datapath", "rustix", "serde_json"].iter().all(|name| reached.contains(*name)),
        "{reached:?}"
    );
    let banned = [
        "tokio",
        "aws-",
        "hyper",
        "rustls",
        "openssl",
        "kube",
        "reqwest",
        "tonic",
        "spur-cloud",
        "spur-ipamd",
    ];
    let found: Vec<_> =
        reached.iter().filter(|name| banned.iter().any(|banned| name.starts_with(banned))).collect();
    assert!(found.is_empty(), "{found:?}");
}
