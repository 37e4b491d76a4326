//! Lists as operators and agents write them, read as libcni reads them.

use super::*;
use serde_json::json;

fn list(edit: &Value) -> Result<NetworkList, ConfError> {
    let mut list = json!({"name": "net", "plugins": [{"type": "first"}]});
    for (key, value) in edit.as_object().unwrap() {
        list[key] = value.clone();
    }
    NetworkList::parse(list.to_string().as_bytes())
}

#[test]
fn c66_the_highest_version_that_both_sides_speak_is_chosen() {
    for (edit, chosen) in [
        (json!({"cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.0.0", "1.1.0"]}), "1.1.0"),
        (json!({"cniVersion": "1.0.0", "cniVersions": ["0.4.0", "9.0.0"]}), "1.0.0"),
        (json!({"cniVersions": ["0.10.0", "0.4.0"]}), "0.10.0"),
        (json!({"cniVersion": "1.0.0"}), "1.0.0"),
        // Only versions of the future: what the plugins are asked for is then theirs to refuse.
        (json!({"cniVersion": "9.0.0", "cniVersions": ["9.1.0"]}), "9.0.0"),
        (json!({}), "0.1.0"),
    ] {
        assert_eq!(list(&edit).unwrap().version.as_str(), chosen, "{edit}");
    }
}

#[test]
fn a_list_that_makes_no_sense_is_refused() {
    for edit in [
        json!({"name": 7}),
        json!({"plugins": []}),
        json!({"plugins": [{}]}),
        json!({"cniVersion": "v1"}),
        json!({"cniVersions": "1.0.0"}),
        json!({"cniVersions": ["1.0.0", 1]}),
        json!({"disableCheck": "maybe"}),
    ] {
        assert!(list(&edit).is_err(), "{edit}");
    }
}

#[test]
fn c46_flags_may_be_written_as_text() {
    assert!(list(&json!({"disableCheck": "True"})).unwrap().disable_check);
    assert!(!list(&json!({"disableCheck": "false"})).unwrap().disable_check);
    assert!(list(&json!({"disableGC": true})).unwrap().disable_gc);
}

#[test]
fn a_plugin_gets_only_the_arguments_of_capabilities_that_it_declares() {
    let list = list(&json!({"cniVersion": "1.0.0", "plugins": [
        {"type": "first", "keep": {"me": 1}, "capabilities": {"portMappings": true, "mac": false}}]}));
    let list = list.unwrap();
    let attachment = Attachment {
        capability_args: json!({"portMappings": [], "mac": "x", "ips": []}).as_object().unwrap().clone(),
        ..Attachment::new("c1", "/run/netns/pod", "eth0")
    };
    let config = list.config_for(&list.plugins[0], None, &attachment);
    assert_eq!(
        Value::Object(config),
        json!({"name": "net", "cniVersion": "1.0.0", "type": "first", "keep": {"me": 1},
            "capabilities": {"portMappings": true, "mac": false}, "runtimeConfig": {"portMappings": []}})
    );
}
