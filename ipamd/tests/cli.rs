//! The binary as an operator meets it: exit codes, mistakes, a node without metadata, signals, two agents. Nothing is asked of any
//! network: the metadata endpoint is a closed port of the loopback interface.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail their test")]

use spur_ipamd::store::{Store, Table, Write, store_file};
use spur_wire::{Request, RequestBody, Response, StatusReply, VERSION};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// An agent that is killed when the test ends before it does.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spur-ipamd"));
    command
        .args(["agent", "--config"])
        .arg(config)
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9/");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn config(dir: &Path, socket: &str) -> PathBuf {
    let path = dir.join(format!("{socket}.yaml"));
    let at = dir.display();
    let text = format!(
        "socket: {at}/run/{socket}\nstateDir: {at}/state\nspoolDir: {at}/spool\ncni: {{confDir: {at}/net.d}}\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn run(config: &Path) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command(config).output().unwrap();
    assert_eq!(stdout, b"", "logs and errors go to stderr");
    (status.code(), String::from_utf8(stderr).unwrap())
}

fn status(socket: &Path) -> Option<StatusReply> {
    let mut stream = UnixStream::connect(socket).ok()?;
    let request = Request { version: VERSION, network: "spur".into(), body: RequestBody::Status };
    spur_wire::write_frame(&mut stream, &request).ok()?;
    match spur_wire::read_frame(&mut stream).ok()? {
        Response::Status(status) => Some(status),
        other => panic!("{other:?}"),
    }
}

fn wait_for(agent: &mut Agent, limit: Duration) -> Option<i32> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if let Some(status) = agent.0.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the agent did not end within {limit:?}");
}

fn started(config: &Path, socket: &Path) -> Agent {
    let agent = Agent(command(config).spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(20);
    while status(socket).is_none() {
        assert!(Instant::now() < deadline, "the agent does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    agent
}

#[test]
fn a_wrong_configuration_is_refused_with_all_mistakes_and_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.yaml");
    std::fs::write(&path, "addWaitSeconds: 0\nunheard: of\npool: {natPortRange: 1-2}\n").unwrap();
    let (code, stderr) = run(&path);
    assert_eq!(code, Some(2), "{stderr}");
    for word in [
        "3 mistake(s)",
        "addWaitSeconds: is 0",
        "unheard: is not a known key",
        "pool.natPortRange: is \"1-2\"",
    ] {
        assert!(stderr.contains(word), "no {word:?} in {stderr}");
    }
    let (code, stderr) = run(&dir.path().join("absent.yaml"));
    assert!(code == Some(2) && stderr.contains("absent.yaml: No such file"), "{stderr}");
}

#[test]
fn without_metadata_the_agent_answers_and_a_signal_ends_it_with_code_0() {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("run/a.sock");
        let mut agent = started(&config(dir.path(), "a.sock"), &socket);
        let status = status(&socket).unwrap();
        assert!(!status.ready && status.reason.unwrap().contains("instance metadata"));
        let id = rustix::process::Pid::from_child(&agent.0);
        rustix::process::kill_process(id, signal).unwrap();
        assert_eq!(wait_for(&mut agent, Duration::from_secs(20)), Some(0));
        let mut logs = String::new();
        agent.0.stderr.take().unwrap().read_to_string(&mut logs).unwrap();
        for line in logs.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        }
        assert!(logs.contains("stopping") && !socket.exists(), "{logs}");
        assert!(!dir.path().join("net.d").exists(), "no conflist before ADD can be served");
    }
}

#[test]
fn a_second_agent_is_refused_and_one_that_was_killed_leaves_the_way_free() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("run/a.sock");
    let first = config(dir.path(), "a.sock");
    let mut agent = started(&first, &socket);
    let (code, stderr) = run(&config(dir.path(), "b.sock"));
    assert!(code == Some(1) && stderr.contains("another agent uses the state directory"), "{stderr}");
    agent.0.kill().unwrap();
    agent.0.wait().unwrap();
    assert!(socket.exists(), "a killed agent tidies nothing");
    let _again = started(&first, &socket);
}

/// A pass of collecting with these arguments, where nobody answers: neither metadata nor EC2.
fn collect(arguments: &[&str]) -> (Option<i32>, String) {
    let closed = "http://127.0.0.1:9/";
    let output = Command::new(env!("CARGO_BIN_EXE_spur-ipamd"))
        .arg("collect")
        .args(arguments)
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", closed)
        .env("AWS_ENDPOINT_URL_EC2", closed)
        .env("AWS_ACCESS_KEY_ID", "nobody")
        .env("AWS_SECRET_ACCESS_KEY", "nobody")
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"", "no decision was made");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_pass_of_collecting_that_cannot_begin_says_why_and_decides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (dir.path().join("good.yaml"), dir.path().join("bad.yaml"));
    std::fs::write(&good, "clusterName: blue\n").unwrap();
    std::fs::write(&bad, "collect: {maxDeletions: 0}\n").unwrap();
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    let place = ["--region", "eu-west-1", "--vpc", "vpc-1"];
    let with_place = |config| [&["--config", config], &place[..]].concat();
    for (arguments, code, word) in [
        (vec![], 2, "--config"),
        (vec!["--config", "/nonexistent.yaml"], 2, "No such file"),
        (vec!["--config", bad], 2, "collect.maxDeletions"),
        (vec!["--config", good, "--region", "eu-west-1"], 2, "--vpc"),
        (vec!["--config", good, "--region", "eu-west-1", "--vpc", "subnet-1"], 2, "subnet-1"),
        (vec!["--config", good], 1, "metadata"),
        (with_place(good), 1, "nothing was changed"),
        (with_place(bad), 2, "collect.maxDeletions"),
    ] {
        let (got, stderr) = collect(&arguments);
        assert!(got == Some(code) && stderr.contains(word), "{arguments:?}: {got:?} {stderr}");
    }
}

#[test]
fn the_store_of_a_controller_is_shown_too() {
    let dir = tempfile::tempdir().unwrap();
    let rows = [
        (Table::Blocks, "10.200.0.0/25", r#"{"node":"n1","state":"Held"}"#),
        (Table::RouteTables, "rtb-1", r#"{"unneeded":null}"#),
        (Table::Fallbacks, "n2", "null"),
    ];
    let (mut store, ..) = Store::open(dir.path(), |rows| Ok(rows.len())).unwrap();
    let writes = rows.map(|(table, key, value)| Write {
        table,
        key: key.to_owned(),
        value: Some(value.as_bytes().to_vec()),
    });
    store.commit(&writes).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_spur-ipamd"))
        .arg("store")
        .arg(store_file(dir.path()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["blocks"][0]["block"], "10.200.0.0/25");
    assert_eq!(
        (&shown["blocks"][0]["node"], &shown["routeTables"][0]["table"]),
        (&"n1".into(), &"rtb-1".into())
    );
    assert_eq!(shown["fallbacks"], serde_json::json!(["n2"]));
}
