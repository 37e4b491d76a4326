//! Every input of the corpus once, on stable. The name of an input says what must come of it: `good-…` is accepted, `bad-…` refused,
//! `found-…` (what a fuzzer found once, now mended) only must not panic. So a format that changes cannot leave a corpus behind
//! that tests nothing.

use spur_fuzz::TARGETS;
use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

fn entries(directory: &Path) -> Vec<PathBuf> {
    let list = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut entries: Vec<PathBuf> = list.map(|entry| entry.expect("a list can be read").path()).collect();
    entries.sort();
    entries
}

fn name(path: &Path) -> String {
    path.file_name().expect("an entry has a name").to_string_lossy().into_owned()
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

#[test]
fn every_input_of_the_corpus_does_what_its_name_says() {
    let mut wrong = Vec::new();
    for (target_name, target) in TARGETS {
        for path in entries(&corpus().join(target_name)) {
            let bytes = fs::read(&path).expect("an input can be read");
            let (input, outcome) = (name(&path), catch_unwind(|| target(&bytes)));
            let is_right = match (&outcome, input.split('-').next()) {
                (Ok(accepted), Some("good")) => *accepted,
                (Ok(accepted), Some("bad")) => !*accepted,
                (Ok(_), Some("found")) => true,
                _ => false,
            };
            if !is_right {
                wrong.push(format!("{target_name}/{input}: {outcome:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_target_has_good_and_bad_inputs_and_a_door_for_the_fuzzer() {
    let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let directories: BTreeSet<String> = entries(&corpus()).iter().map(|path| name(path)).collect();
    assert_eq!(directories, known);
    let doors = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let doors: BTreeSet<String> =
        entries(&doors).iter().map(|path| name(path).trim_end_matches(".rs").to_owned()).collect();
    assert_eq!(doors, known);
    for target in &known {
        let inputs: Vec<String> = entries(&corpus().join(target)).iter().map(|path| name(path)).collect();
        for kind in ["good-", "bad-"] {
            assert!(inputs.iter().any(|input| input.starts_with(kind)), "{target} has no {kind}… input");
        }
    }
}
