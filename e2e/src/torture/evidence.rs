//! What is kept of a world in which something went wrong: logs, the journal, vpcsim's record and state, the stores, and the kernels as `ip` and
//! `nft` show them, in a directory that stays.

use crate::world::{Node, World};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

/// What a person will want to see of a node.
const WITNESSES: [&[&str]; 6] = [
    &["ip", "-d", "link"],
    &["ip", "address"],
    &["ip", "-d", "rule"],
    &["ip", "-d", "route", "show", "table", "all"],
    &["ip", "neighbour"],
    &["nft", "list", "ruleset"],
];

/// Copies everything and tells where it is.
///
/// # Errors
/// When the directory cannot be made; what cannot be copied is left out.
pub fn keep(world: &World, seed: u64) -> Result<String> {
    let dir = tempfile::Builder::new().prefix(&format!("spur-torture-{seed}-")).tempdir();
    let dir = dir.context("make a directory")?.keep();
    copy(&world.dir().join("journal.log"), &dir);
    copy(&world.dir().join("vpcsim.log"), &dir);
    for file in ["controller.log", "nodes.yaml", "state/status.json"] {
        copy(&world.dir().join("controller").join(file), &dir);
    }
    for path in ["record", "state", "faults"] {
        if let Ok(shown) = world.inspect(path) {
            write(&dir.join(format!("{path}.json")), &format!("{shown:#}"));
        }
    }
    for node in &world.nodes {
        let at = dir.join(&node.name);
        if std::fs::create_dir(&at).is_ok() {
            keep_node(node, &at);
        }
    }
    Ok(dir.display().to_string())
}

fn keep_node(node: &Node, dir: &Path) {
    copy(&node.log(), dir);
    copy(&node.dir().join("agent.yaml"), dir);
    for part in ["state", "spool"] {
        for entry in std::fs::read_dir(node.dir().join(part)).into_iter().flatten().flatten() {
            copy(&entry.path(), dir);
        }
    }
    let mut text = String::new();
    for words in WITNESSES {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        let shown = match node.netns.run(move || command.output()) {
            Ok(Ok(output)) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        text.push_str(&format!("# {}\n{shown}\n", words.join(" ")));
    }
    write(&dir.join("kernel.txt"), &text);
}

/// Evidence is of use even if a part of it is missing.
fn copy(file: &Path, dir: &Path) {
    if let Some(name) = file.file_name() {
        let _ = std::fs::copy(file, dir.join(name));
    }
}

fn write(file: &Path, text: &str) {
    let _ = std::fs::write(file, text);
}
