//! The demo itself: what it refuses, and that nothing is left when it is interrupted.

use rustix::process::{Pid, Signal, kill_process};
use std::process::{Command, Stdio};
use std::time::Duration;

fn demo(name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spur-demo"));
    command.args(["--name", name, "--nodes", "2"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn namespaces(name: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return Vec::new() };
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|file| file.starts_with(name))
        .collect()
}

#[test]
#[ignore = "needs root"]
fn an_interrupted_demo_leaves_nothing_and_fails() {
    for (round, after) in [300, 1_500, 3_500].into_iter().enumerate() {
        let name = format!("t{}-int{round}", std::process::id());
        let child = demo(&name).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(after));
        kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(!output.status.success(), "interrupted after {after} ms, and yet it ended well");
        assert_eq!(namespaces(&name), Vec::<String>::new(), "left after an interrupt at {after} ms");
    }
}

#[test]
#[ignore = "needs root"]
fn what_cannot_fit_is_refused_before_anything_is_built() {
    for (arguments, words) in
        [(["--pods", "28"], "expected 1 to 27"), (["--type", "m5.huge"], "no such instance type")]
    {
        let output = demo("never").args(arguments).output().unwrap();
        assert!(!output.status.success());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(words), "{stderr}");
    }
}
