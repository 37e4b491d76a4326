//! The bench cannot rot: a quick run of all of it, as the command does it, and a look at what it wrote. Whether goals are
//! met is not asked here: a few rounds on a busy machine say nothing about that.

use std::process::Command;

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

    let left: Vec<_> = std::fs::read_dir("/run/netns")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(&prefix))
        .collect();
    assert!(left.is_empty(), "namespaces stay: {left:?}");
}
