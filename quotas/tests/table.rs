//! The built-in table against the figures it was made of, read by another way than the generator's, and the committed
//! table against what the generator writes today. Needs `python3`.

use serde::Deserialize;
use spur_quotas::{Hypervisor, NetworkCard, builtin, builtin_types};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

#[derive(Deserialize)]
struct Figures {
    enis: u32,
    ipv4_per_eni: u32,
    cards: Vec<NetworkCard>,
    default_card: u32,
    hypervisor: Hypervisor,
    bare_metal: bool,
    prefix_delegation: bool,
}

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("the crate has its data")
}

fn oracle() -> BTreeMap<String, Figures> {
    serde_json::from_str(&file("data/eni-limits.json")).expect("the data is JSON")
}

#[test]
fn every_type_has_the_figures_of_the_oracle() {
    let oracle = oracle();
    assert_eq!(oracle.len(), 1391);
    for (name, figures) in &oracle {
        let limits = builtin(name).unwrap_or_else(|| panic!("{name} is not in the table"));
        assert_eq!(limits.enis(), figures.enis, "{name}");
        assert_eq!(limits.ipv4_per_eni(), figures.ipv4_per_eni, "{name}");
        assert_eq!(limits.cards(), figures.cards, "{name}");
        assert_eq!(limits.default_card(), figures.default_card, "{name}");
        assert_eq!(limits.hypervisor(), figures.hypervisor, "{name}");
        assert_eq!(limits.bare_metal(), figures.bare_metal, "{name}");
        assert_eq!(limits.prefix_delegation(), figures.prefix_delegation, "{name}");
    }
}

#[test]
fn the_table_knows_no_type_that_the_oracle_does_not() {
    assert!(builtin_types().eq(oracle().keys().map(String::as_str)));
    for unknown in ["", "m5", "m5.", "m5.largest", "M5.large", "zzz.large"] {
        assert!(builtin(unknown).is_none(), "{unknown:?}");
    }
}

#[test]
fn the_generator_writes_the_committed_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let run = Command::new("python3")
        .args(["generate.py", "--print", "data/eni-limits.json"])
        .current_dir(root)
        .output()
        .expect("python3 runs the generator");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert!(
        run.stdout == file("src/generated.rs").into_bytes(),
        "run quotas/generate.py and commit its result"
    );
}

#[test]
fn the_generator_refuses_figures_that_contradict_each_other() {
    let path = std::env::temp_dir().join(format!("spur-quotas-{}.json", std::process::id()));
    let one = r#"{"x1.large":{"enis":0,"ipv4_per_eni":4,"cards":[{"index":0,"max_enis":1}],"default_card":0,
        "hypervisor":"nitro","bare_metal":false,"prefix_delegation":true}}"#;
    std::fs::write(&path, one).unwrap();
    let run = Command::new("python3")
        .args(["generate.py", "--print"])
        .arg(&path)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("python3 runs the generator");
    std::fs::remove_file(&path).unwrap();
    assert!(!run.status.success() && run.stdout.is_empty());
    assert_eq!(
        String::from_utf8_lossy(&run.stderr).trim(),
        "generate.py: x1.large: enis and ipv4_per_eni must be at least 1"
    );
}
