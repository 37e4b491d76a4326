//! Statements about invocation, validation and VERSION that need nothing but the binary: environment and standard input in,
//! standard output and exit code out. No agent listens in any of these tests, and nothing may be changed in any.
//! What would have to be wired to be tested is elsewhere; every success here is a DEL that finds nothing to do.

mod common;

use common::{FakeAgent, Invocation};
use serde_json::json;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const ALL: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
const VERBS: [&str; 5] = ["ADD", "DEL", "CHECK", "GC", "STATUS"];

/// A complete ADD, CHECK, …: only its namespace does not exist.
fn complete(command: &str) -> Invocation {
    FakeAgent::absent().invocation(command, "c1", "/run/netns/spur-test-absent")
}

#[test]
fn c01_exit_code_is_zero_only_on_success() {
    for verb in VERBS {
        assert!(!Invocation::bare(verb, "{}").run().success, "{verb}");
    }
    assert!(!Invocation::bare("NONSENSE", "{}").run().success);
    assert!(Invocation::bare("VERSION", "{}").run().success);
    complete("DEL").run().assert_silent_success();
}

#[test]
fn c02_failure_is_one_json_object_with_the_callers_version() {
    for verb in VERBS {
        for version in ["0.4.0", "1.0.0", "1.1.0", "0.1.0", "5.0.0"] {
            let ran = Invocation::bare(verb, json!({"cniVersion": version}).to_string()).run();
            let object: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
            assert_eq!(object["cniVersion"], version, "{verb}");
            assert!(object["code"].is_u64() && object["msg"].is_string(), "{verb}: {object}");
            ran.failure(object["code"].as_u64().unwrap());
            assert_eq!(ran.stdout.matches('\n').count(), 1, "one line: {:?}", ran.stdout);
        }
    }
}

#[test]
fn c03_success_of_del_leaves_stdout_empty_even_at_debug_level() {
    let invocation = complete("DEL").edit(|conf| conf["logLevel"] = json!("debug"));
    let ran = invocation.run();
    ran.assert_silent_success();
    assert!(ran.stderr.contains("the release waits in"), "{ran:?}");
    let log = invocation.home().join("log");
    let ran = invocation.edit(|conf| conf["logFile"] = json!(log)).run();
    ran.assert_silent_success();
    assert!(ran.stderr.is_empty(), "{ran:?}");
}

#[test]
fn c04_unknown_command_is_named() {
    assert!(Invocation::bare("FROB", "{}").run().failure(4).contains("\"FROB\""));
    assert!(Invocation::bare("add", "{}").run().failure(4).contains("\"add\""));
}

#[test]
fn c04_missing_command_tells_about_the_plugin_on_stderr() {
    for invocation in [Invocation::bare("", ""), Invocation::bare("", "").without("CNI_COMMAND")] {
        let ran = invocation.run();
        ran.assert_silent_success();
        assert!(ran.stderr.contains("Spur CNI plugin") && ran.stderr.contains(&ALL.join(", ")), "{ran:?}");
    }
}

#[test]
fn c05_add_lists_all_missing_names() {
    let all = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"];
    for verb in ["ADD", "CHECK"] {
        for present in 0..7 {
            let missing: Vec<_> =
                (0..3).filter(|index| present & (1 << index) == 0).map(|index| all[index]).collect();
            let mut invocation = complete(verb);
            for (index, name) in missing.iter().enumerate() {
                // Empty and absent are the same.
                invocation = if index == 0 { invocation.with(name, "") } else { invocation.without(name) };
            }
            let message = invocation.run().failure(4);
            assert!(
                message.contains(&format!("missing from the environment: {}", missing.join(", "))),
                "{message}"
            );
        }
    }
}

#[test]
fn c06_del_requires_container_and_interface_only() {
    let message = complete("DEL")
        .without("CNI_CONTAINERID")
        .without("CNI_IFNAME")
        .without("CNI_NETNS")
        .run()
        .failure(4);
    assert!(message.contains("CNI_CONTAINERID, CNI_IFNAME") && !message.contains("CNI_NETNS"), "{message}");
    complete("DEL").without("CNI_NETNS").run().assert_silent_success();
    complete("DEL").with("CNI_NETNS", "").run().assert_silent_success();
}

#[test]
fn c07_container_id_must_match_the_pattern() {
    for bad in ["-c", "c/d", "c d", ".c", "_c", "cé", "c\n"] {
        for verb in ["ADD", "DEL", "CHECK"] {
            let message = complete(verb).with("CNI_CONTAINERID", bad).run().failure(4);
            assert!(message.contains("CNI_CONTAINERID"), "{message}");
        }
    }
    complete("DEL").with("CNI_CONTAINERID", "A0_b.c-d").run().assert_silent_success();
}

#[test]
fn c08_interface_name_must_be_one() {
    for bad in ["1234567890123456", ".", "..", "a/b", "a:b", "a b", "a\tb", "éééééééé"] {
        for verb in ["ADD", "DEL", "CHECK"] {
            let message = complete(verb).with("CNI_IFNAME", bad).run().failure(4);
            assert!(message.contains("CNI_IFNAME"), "{message}");
        }
    }
}

#[test]
fn c09_stdin_that_is_not_json_is_6() {
    for bad in ["", "{", "nonsense", "[]", "7", "{} {}", "\u{0}"] {
        complete("DEL").stdin(bad).run().failure(6);
    }
    let long = vec![b' '; 2 * 1024 * 1024];
    assert!(complete("DEL").stdin(long).run().failure(6).contains("longer than 1048576 bytes"));
}

#[test]
fn c09_unreadable_stdin_is_5() {
    let mut command = complete("DEL").command();
    let child = command.stdin(std::fs::File::open("/").unwrap()).spawn().unwrap();
    common::finish(child, Instant::now()).failure(5);
}

#[test]
fn c09_network_name_must_be_there_and_match() {
    for (conf, shown) in [
        (json!({"cniVersion": "1.0.0", "type": "spur"}), "name is missing"),
        (json!({"cniVersion": "1.0.0", "name": ""}), "name \"\" must match"),
        (json!({"cniVersion": "1.0.0", "name": "a/b"}), "name \"a/b\" must match"),
        (json!({"cniVersion": "1.0.0", "name": 7}), "name = 7: expected a string"),
    ] {
        let message = complete("DEL").stdin(conf.to_string()).run().failure(7);
        assert!(message.contains(shown), "{message}");
    }
}

#[test]
fn c10_unsupported_version_is_1_and_details_list_the_supported() {
    for version in ["0.0.1", "0.3.2", "0.5.0", "1.0", "1.2.0", "2"] {
        let message = complete("DEL").edit(|conf| conf["cniVersion"] = json!(version)).run().failure(1);
        assert!(message.contains(&format!("supported versions: {}", ALL.join(", "))), "{message}");
    }
    for version in ALL {
        complete("DEL").edit(|conf| conf["cniVersion"] = json!(version)).run().assert_silent_success();
    }
}

#[test]
fn c10_missing_version_means_0_1_0() {
    let without =
        |verb: &str| complete(verb).edit(|conf| _ = conf.as_object_mut().unwrap().remove("cniVersion"));
    without("DEL").run().assert_silent_success();
    let ran = without("ADD").run();
    ran.failure(4);
    assert!(ran.stdout.contains(r#""cniVersion":"0.1.0""#), "{ran:?}");
}

#[test]
fn c10_unparsable_version_is_6() {
    for version in [json!("banana"), json!(""), json!(1.0), json!(["1.0.0"]), json!("1.0.0.0")] {
        assert!(
            complete("DEL")
                .stdin(json!({"cniVersion": version, "name": "n"}).to_string())
                .run()
                .failure(6)
                .contains("is not a version")
        );
    }
}

#[test]
fn c11_unsupported_values_name_key_and_value() {
    for (key, value, code, expected) in [
        ("ipam", json!({"type": "host-local"}), 2, r#"ipam = {"type":"host-local"} is not supported"#),
        ("ipMasq", json!(true), 2, "ipMasq = true is not supported"),
        ("timeoutSeconds", json!(-1), 7, "timeoutSeconds = -1"),
        ("socket", json!("relative"), 7, r#"socket = "relative""#),
        ("logLevel", json!("loud"), 7, r#"logLevel = "loud""#),
        ("dns", json!({"nameservers": ["nowhere"]}), 7, r#"dns.nameservers = "nowhere""#),
        ("type", json!(1), 7, "type = 1"),
    ] {
        let message = complete("DEL").edit(|conf| conf[key] = value).run().failure(code);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn c11_all_mistakes_are_reported_at_once() {
    let invocation =
        complete("ADD").with("CNI_CONTAINERID", "-").with("CNI_IFNAME", "a/b").with("CNI_ARGS", "x");
    let message =
        invocation.stdin(r#"{"cniVersion":"9.9.9","socket":1,"timeoutSeconds":0}"#).run().failure(4);
    for part in [
        "CNI_CONTAINERID",
        "CNI_IFNAME",
        "CNI_ARGS",
        "CNI_NETNS",
        "cniVersion",
        "name is missing",
        "socket",
        "timeoutSeconds",
    ] {
        assert!(message.contains(part), "{part} is missing in {message}");
    }
}

#[test]
fn c12_what_libcni_and_runtimes_add_is_tolerated() {
    let invocation = complete("DEL")
        .with("TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .with("TRACESTATE", "a=b")
        .with("BAGGAGE", "x=y");
    let edited = invocation.edit(|conf| {
        conf["args"] = json!({"cni": {"ips": ["10.0.0.1"]}});
        conf["capabilities"] = json!({"portMappings": true, "dns": true});
        conf["cni.dev/valid-attachments"] = json!([{"containerID": "x", "ifname": "eth0"}]);
        conf["cni.dev/anything"] = json!(7);
        conf["futureKey"] = json!({"deep": [1, 2, 3]});
    });
    edited.run().assert_silent_success();
}

#[test]
fn c13_args_are_pairs_and_unknown_keys_need_ignore_unknown() {
    let kubernetes = "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;K8S_POD_UID=c;K8S_POD_INFRA_CONTAINER_ID=d";
    for good in [
        format!("IgnoreUnknown=1;{kubernetes};OTHER=1"),
        format!("{kubernetes};OTHER=1;IgnoreUnknown=true"),
        kubernetes.to_owned(),
        "IgnoreUnknown=1".to_owned(),
        String::new(),
    ] {
        complete("DEL").with("CNI_ARGS", &good).run().assert_silent_success();
    }
    for bad in
        ["nonsense", "A=1;", "=1", "OTHER=1", "IgnoreUnknown=0;OTHER=1", "IgnoreUnknown=x", "K8S_POD_NAME=b"]
    {
        for verb in ["ADD", "DEL"] {
            let message = complete(verb).with("CNI_ARGS", bad).run().failure(4);
            assert!(message.contains("CNI_ARGS"), "{message}");
        }
    }
}

#[test]
fn c14_the_plugins_own_namespace_is_refused_with_8() {
    for path in ["/proc/self/ns/net", "/proc/thread-self/ns/net"] {
        let message = complete("ADD").with("CNI_NETNS", path).run().failure(8);
        assert!(message.contains(path), "{message}");
    }
    // With the override the request gets as far as the agent, which is not there.
    for value in ["1", "TRUE", "true"] {
        complete("ADD")
            .with("CNI_NETNS", "/proc/self/ns/net")
            .with("CNI_NETNS_OVERRIDE", value)
            .run()
            .failure(11);
    }
    complete("ADD").with("CNI_NETNS", "/proc/self/ns/net").with("CNI_NETNS_OVERRIDE", "0").run().failure(8);
}

#[test]
fn c15_version_needs_only_the_command() {
    let bare = Invocation::bare("VERSION", "");
    assert_eq!(bare.run().result()["cniVersion"], "1.1.0");
    let dummy = bare.clone().with("CNI_NETNS", "dummy").with("CNI_IFNAME", "dummy").with("CNI_PATH", "dummy");
    assert_eq!(dummy.run().result()["cniVersion"], "1.1.0");
    for (stdin, echoed) in [
        (r#"{"cniVersion":"0.4.0"}"#, "0.4.0"),
        ("{}", "1.1.0"),
        ("garbage", "1.1.0"),
        (r#"{"cniVersion":"x"}"#, "1.1.0"),
    ] {
        assert_eq!(Invocation::bare("VERSION", stdin).run().result()["cniVersion"], echoed, "{stdin}");
    }
}

#[test]
fn c15_version_works_with_closed_or_silent_stdin() {
    let closed = std::process::Command::new("/bin/sh")
        .args(["-c", "exec \"$0\" <&-", env!("CARGO_BIN_EXE_spur")])
        .env_clear()
        .env("CNI_COMMAND", "VERSION")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    common::finish(closed, Instant::now()).result();
    // A pipe that nobody closes: the answer comes all the same.
    let started = Instant::now();
    let mut silent = Invocation::bare("VERSION", "").command().spawn().unwrap();
    let held_open = silent.stdin.take();
    let ran = common::finish(silent, started);
    drop(held_open);
    assert!(ran.took < Duration::from_secs(20), "{ran:?}");
    ran.result();
}

#[test]
fn c16_version_lists_what_is_spoken() {
    let ran = Invocation::bare("VERSION", r#"{"cniVersion":"1.0.0"}"#).run();
    assert_eq!(ran.result(), json!({"cniVersion": "1.0.0", "supportedVersions": ALL}));
    assert!(ran.stderr.is_empty());
}

#[test]
fn c17_libcni_finds_the_plugin_and_each_version_of_the_conflist() {
    // What ValidateNetworkList does: look for the type on CNI_PATH, ask VERSION as libcni does, compare exact strings.
    let binary = Path::new(env!("CARGO_BIN_EXE_spur"));
    let path = [Path::new("/nonexistent"), binary.parent().unwrap()];
    let conf = FakeAgent::absent().conf("1.1.0");
    let found = path.iter().map(|dir| dir.join(conf["type"].as_str().unwrap())).find(|file| file.is_file());
    assert_eq!(found.as_deref(), Some(binary));
    for version in ALL {
        let ran = Invocation::bare("VERSION", json!({"cniVersion": version}).to_string())
            .with("CNI_NETNS", "dummy")
            .with("CNI_IFNAME", "dummy")
            .with("CNI_PATH", "dummy")
            .run();
        let versions = ran.result()["supportedVersions"].as_array().unwrap().clone();
        assert!(versions.contains(&json!(version)), "{versions:?}");
    }
}

#[test]
fn c23_the_product_has_no_gate_that_its_environment_could_shut() {
    let del = complete("DEL").with("SPUR_FAULTS", "fail=0,fail=1,fail=2,fail=3,fail=4");
    del.run().assert_silent_success();
    let binary = std::fs::read(env!("CARGO_BIN_EXE_spur")).unwrap();
    assert!(!binary.windows(11).any(|bytes| bytes == b"SPUR_FAULTS"));
}

#[test]
fn c26_a_namespace_that_does_not_exist_is_an_error_at_once() {
    for (path, why) in [
        ("/run/netns/spur-test-absent", "No such file"),
        ("/etc/hostname", "no network namespace"),
        ("/", "no network namespace"),
        ("relative", "No such file"),
    ] {
        let ran = complete("ADD").with("CNI_NETNS", path).run();
        let message = ran.failure(4);
        assert!(message.contains(path) && message.contains(why), "{message}");
        assert!(ran.took < Duration::from_secs(20), "{ran:?}");
    }
}

#[test]
fn non_utf8_values_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let mut command = complete("DEL").command();
    command.env("CNI_CONTAINERID", std::ffi::OsStr::from_bytes(b"c\xff"));
    let mut child = command.spawn().unwrap();
    drop(child.stdin.take());
    let message = common::finish(child, Instant::now()).failure(4);
    assert!(message.contains("CNI_CONTAINERID is not UTF-8"), "{message}");
}
