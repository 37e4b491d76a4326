//! Plugins that fail in every way that libcni tells apart. Each is a script in a directory of the test.

use super::*;
use std::os::unix::fs::PermissionsExt;

/// Runs a script as a plugin; the pause is long enough for another test's fork to let go of the file.
fn run_script(body: &str, stdin: &[u8]) -> Result<Vec<u8>, ExecError> {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("plugin"), format!("#!/bin/sh\n{body}")).unwrap();
    std::fs::set_permissions(home.path().join("plugin"), PermissionsExt::from_mode(0o755)).unwrap();
    let program = find("plugin", &[home.path().join("missing"), home.path().to_owned()]).unwrap();
    let env = vec![("CNI_COMMAND", "ADD".to_owned())];
    run(&Call { program, env, stdin, busy_pause: Duration::from_millis(100) })
}

#[track_caller]
fn refusal(body: &str) -> PluginError {
    match run_script(body, b"{}") {
        Err(ExecError::Refused { error, .. }) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_error_object_keeps_its_code_and_words() {
    let error = refusal(r#"echo '{"cniVersion":"1.1.0","code":11,"msg":"later","details":"much"}'; exit 1"#);
    assert_eq!(error, PluginError { code: 11, msg: "later".to_owned(), details: "much".to_owned() });
}

#[test]
fn who_fails_without_an_error_object_has_code_zero_and_what_it_said() {
    for (body, words) in [
        ("exit 3", "exit status: 3"),
        ("echo broken >&2; exit 1", "broken"),
        ("echo neither; exit 1", "neither"),
        ("kill -KILL $$", "signal: 9"),
    ] {
        let error = refusal(body);
        assert!(error.code == 0 && error.msg.contains(words), "{body}: {error:?}");
    }
}

#[test]
fn a_plugin_need_not_read_and_may_answer_at_length() {
    // More than a pipe holds, in both directions.
    let long = vec![b' '; 1 << 18];
    assert_eq!(run_script("exec head -c 300000 /dev/zero", &long).unwrap().len(), 300_000);
    assert_eq!(run_script("exec cat", &long).unwrap(), long);
}

#[test]
fn only_a_regular_file_in_the_path_is_a_plugin() {
    for name in ["", "../plugin", "/bin/sh", "no-such-plugin", "etc"] {
        assert!(matches!(find(name, &["/".into()]), Err(ExecError::NotFound { .. })), "{name}");
    }
}
