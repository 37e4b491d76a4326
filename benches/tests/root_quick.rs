//! The bench cannot rot: a quick run of all of it, as the command does it, and a look at what it wrote. Whether goals are
//! met is not asked here: a few rounds on a busy machine say nothing about that.
#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

#[test]
#[ignore = "needs root"]
fn a_quick_run_measures_everything_and_leaves_nothing_behind() {
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_spur-bench"));
    let child = command.args(["--quick", "--out"]).arg(out.path()).spawn().unwrap();
    let prefix = format!("spur-bench-{}", child.id());
    let status = { child }.wait().unwrap();
    assert!(status.success(), "spur-bench --quick ended with {status}");

    let report = std::fs::read_to_string(out.path().join("performance.md")).unwrap();
    // Three tables of three levels, one at a time and many at once.
    for (verb, rows) in [("| ADD |", 6), ("| DEL |", 6), ("| DEL, until the interface is gone |", 6)] {
        assert_eq!(report.matches(verb).count(), rows, "{verb} in:\n{report}");
    }
    assert!(!report.contains("NaN") && !report.contains("not measured"), "{report}");
    let plot = std::fs::read_to_string(out.path().join("performance.svg")).unwrap();
    assert_eq!(plot.matches("<g transform").count(), 6, "six panels");
    assert!(plot.ends_with("</svg>\n") && !plot.contains("NaN"));

    assert_eq!(left_behind(&prefix), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn an_interrupted_run_leaves_nothing_behind() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spur-bench"));
    let mut child =
        command.args(["--verbs", "2", "--rounds", "100000"]).stdout(Stdio::piped()).spawn().unwrap();
    let prefix = format!("spur-bench-{}", child.id());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let measuring = lines.find(|line| line.as_ref().unwrap().contains("ADD and DEL with 2 pods"));
    assert!(measuring.is_some(), "it does not get as far as measuring");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(1), "it ends in order: {status}");
    assert_eq!(left_behind(&prefix), Vec::<String>::new());
}

/// Namespaces that begin so.
fn left_behind(prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(prefix))
        .collect()
}
