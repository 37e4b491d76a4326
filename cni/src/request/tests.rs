//! Hostile environments and configurations: nothing panics, what is accepted is what the rules say, and mistakes add up.
//! The generators stay near what runtimes send, because noise alone is refused at the first door and tests nothing behind it.
//! No namespace is opened here: a generated path could lead anywhere.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

fn no_netns(path: &str, _: bool) -> Result<NetNs, Mistake> {
    Err(Mistake::Netns { path: path.to_owned(), why: "tests open none".to_owned() })
}

fn environment(values: &BTreeMap<&'static str, OsString>) -> Environment {
    Environment::observe(|key| values.get(key).cloned())
}

/// Text near what a runtime sends, so that parsers are entered and not only refused at the door.
fn nearly(valid: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![Just(valid.to_owned()), ".{0,24}", "[A-Za-z0-9_.=;/:-]{0,40}"]
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(Value::from("1.1.0")),
        Just(Value::from("/run/x")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,8}|containerID|ifname|servers|type", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

const KEYS: [&str; 12] = [
    "cniVersion",
    "name",
    "type",
    "socket",
    "spoolDir",
    "timeoutSeconds",
    "logLevel",
    "dns",
    "runtimeConfig",
    "ipam",
    "prevResult",
    "cni.dev/valid-attachments",
];

fn configuration() -> impl Strategy<Value = Map<String, Value>> {
    let entries = prop::collection::btree_map(prop::sample::select(&KEYS[..]), json(), 0..8);
    entries.prop_map(|entries| {
        let valid = [("cniVersion", "1.1.0"), ("name", "n")];
        let mut object: Map<String, Value> =
            valid.map(|(key, value)| (key.to_owned(), value.into())).into_iter().collect();
        object.extend(entries.into_iter().map(|(key, value)| (key.to_owned(), value)));
        object
    })
}

proptest! {
    #[test]
    fn no_configuration_and_no_environment_panics(
        container in nearly("c1"),
        if_name in nearly("eth0"),
        netns in nearly("/run/netns/x"),
        args in nearly("IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME=b"),
        object in configuration(),
    ) {
        let text = OsString::from;
        let env = environment(&BTreeMap::from([
            ("CNI_CONTAINERID", text(container)), ("CNI_IFNAME", text(if_name)), ("CNI_NETNS", text(netns)),
            ("CNI_ARGS", text(args)), ("CNI_PATH", text("/opt".into())),
        ]));
        prop_assert!(!add(&env, Ok(object.clone()), no_netns).unwrap_err().is_empty());
        prop_assert!(!check(&env, Ok(object.clone()), no_netns).unwrap_err().is_empty());
        if let Err(mistakes) = del(&env, Ok(object.clone())) {
            prop_assert!(!mistakes.is_empty());
            for mistake in &mistakes {
                prop_assert!(!mistake.to_string().is_empty());
            }
        }
        let _ = gc(&env, Ok(object.clone())).map_err(|mistakes| assert!(!mistakes.is_empty()));
        let _ = status(Ok(object)).map_err(|mistakes| assert!(!mistakes.is_empty()));
    }

    #[test]
    fn bytes_of_the_environment_and_of_stdin_never_panic(
        value in prop::collection::vec(1_u8.., 0..32),
        stdin in prop::collection::vec(any::<u8>(), 0..256),
    ) {
        let names = ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_ARGS", "CNI_NETNS_OVERRIDE", "CNI_PATH"];
        let env = environment(&names.map(|name| (name, OsString::from_vec(value.clone()))).into());
        prop_assert!(add(&env, netconf::parse_object(&stdin), no_netns).is_err());
        prop_assert!(del(&env, netconf::parse_object(&stdin)).is_err());
    }

    #[test]
    fn args_never_panic_and_a_pod_is_complete(args in "[A-Za-z0-9_=;]{0,60}|(K8S_POD_NAME=a;|K8S_POD_NAMESPACE=b;|IgnoreUnknown=1;|x=){0,6}") {
        if let Ok(Some(pod)) = parse_pod(&args) {
            prop_assert!(!pod.name.is_empty() && !pod.namespace.is_empty());
        }
    }

    #[test]
    fn accepted_names_follow_the_rules(container in nearly("c1"), if_name in nearly("eth0")) {
        let env = environment(&BTreeMap::from([
            ("CNI_CONTAINERID", OsString::from(container.clone())), ("CNI_IFNAME", OsString::from(if_name.clone())),
        ]));
        let object = netconf::parse_object(br#"{"cniVersion":"1.0.0","name":"n"}"#).unwrap();
        if del(&env, Ok(object)).is_ok() {
            prop_assert!(container.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)));
            prop_assert!((1..=15).contains(&if_name.len()) && !if_name.contains(['/', ':', ' ']));
        }
    }
}

#[test]
fn an_absent_list_is_not_an_empty_one() {
    let env = environment(&BTreeMap::from([("CNI_PATH", OsString::from("/opt"))]));
    let parsed = |list: &str| {
        let text = format!(r#"{{"cniVersion":"1.1.0","name":"n"{list}}}"#);
        gc(&env, netconf::parse_object(text.as_bytes())).map(|request| request.valid)
    };
    assert!(matches!(parsed("").unwrap_err()[..], [Mistake::NoKey { .. }]));
    assert_eq!(parsed(r#","cni.dev/valid-attachments":null"#).unwrap(), []);
    assert_eq!(parsed(r#","cni.dev/attachments":[]"#).unwrap(), []);
    let one = parsed(r#","cni.dev/valid-attachments":[{"containerID":"c","ifname":"e"}]"#).unwrap();
    assert_eq!(one, [Attachment { container_id: "c".into(), if_name: "e".into() }]);
    assert_eq!(parsed(r#","cni.dev/valid-attachments":[{},7]"#).unwrap_err().len(), 2);
    assert_eq!(parsed(r#","cni.dev/valid-attachments":{}"#).unwrap_err().len(), 1);
}
