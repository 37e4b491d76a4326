//! Keeps `docs/cni-statements.md` true: every statement from C01 to C72 is there once, each names tests, and every test that it
//! names is in the sources. Whether a test tries what its statement says is for its reader.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Directories of the workspace that hold tests.
const SOURCES: [&str; 6] = ["cni", "wire", "datapath", "ipamd", "e2e", "testbed"];

/// Functions with `#[test]` in a file.
fn tests_in(text: &str, names: &mut BTreeSet<String>) {
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line == "#[test]" || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(rest) = line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn ")) {
            if is_test && let Some(name) = rest.split('(').next() {
                names.insert(name.to_owned());
            }
            is_test = false;
        }
    }
}

fn walk(dir: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).expect("a directory of sources can be listed") {
        let path = entry.expect("an entry of it can be read").path();
        if path.is_dir() && !path.ends_with("target") {
            walk(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            tests_in(&std::fs::read_to_string(&path).expect("a source is text"), names);
        }
    }
}

/// Each statement with the tests that it names.
fn statements(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for row in text.lines().filter(|line| line.starts_with("| C")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [id, statement, tests] = cells[..] else { panic!("three columns: {row}") };
        assert!(!statement.is_empty(), "{row}");
        let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert_eq!(found.insert(id.to_owned(), tests), None, "{id} is there twice");
    }
    found
}

#[test]
fn every_statement_is_listed_and_its_tests_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("docs/cni-statements.md")).expect("the table is there");
    let statements = statements(&text);
    let expected: Vec<String> = (1..=72).map(|number| format!("C{number:02}")).collect();
    assert_eq!(statements.keys().cloned().collect::<Vec<_>>(), expected);
    let mut names = BTreeSet::new();
    for dir in SOURCES {
        walk(&root.join(dir), &mut names);
    }
    let mut missing = Vec::new();
    for (id, tests) in &statements {
        assert!(!tests.is_empty(), "{id} names no test");
        missing
            .extend(tests.iter().filter(|test| !names.contains(*test)).map(|test| format!("{id}: {test}")));
    }
    assert!(missing.is_empty(), "tests that do not exist:\n{}", missing.join("\n"));
    // And the other way round: a test that is named after a statement is found by who reads the table.
    let number = |name: &str| Some(format!("C{}", name.strip_prefix('c')?.get(..2)?));
    let of_a_statement = |name: &&String| {
        name.as_bytes().get(3) == Some(&b'_') && number(name).is_some_and(|id| statements.contains_key(&id))
    };
    assert!(names.iter().filter(of_a_statement).count() > 100, "tests are named after their statements");
}
