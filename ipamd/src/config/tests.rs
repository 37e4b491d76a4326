//! Tests of the configuration: the empty file, every mistake at once, contradictions, the table of keys and its document.

use super::keys::{KEYS, markdown};
use super::pool::parse_ports;
use super::*;

fn mistakes(text: &str) -> Vec<String> {
    match Config::parse(text) {
        Err(ConfigError::Mistakes(list)) => list.iter().map(ToString::to_string).collect(),
        other => panic!("expected mistakes, got {other:?}"),
    }
}

#[test]
fn an_empty_file_is_a_complete_configuration() {
    for text in ["", "# nothing\n\n", "{}", "pool:\n", "pool: {}\ncni:\n"] {
        let config = Config::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(config.socket, Path::new(spur_wire::DEFAULT_SOCKET));
        assert_eq!(config.cni.socket_path, config.socket);
        assert_eq!(config.add_wait, Duration::from_secs(15));
        assert_eq!((config.pool.nat.first_port, config.pool.nat.last_port), (1024, 65535));
        assert_eq!(config.mtu_bytes, None);
    }
}

#[test]
fn all_mistakes_are_reported_at_once_with_their_keys_and_what_would_be_right() {
    let list = mistakes(
        "socket: agent.sock\nwarmIpTarget: 3\naddWaitSeconds: 0\nmtuBytes: huge\nlog: {level: loud, colour: red}\n\
         cni: [1]\npool:\n  maxEnis: -1\n  subnets: [subnet-1, eni-2, 7]\n  tags: {'aws:x': a, b: 1}\n  natPortRange: 5000-6000\n  \
         natExclude: [10.1.2.3/8, fe80::/10, x]\n  vpcDestinations: Some\n",
    );
    let expected = [
        ("cni: is [1]", "a section of keys"),
        ("log.colour: is not a known key", "level, format"),
        ("warmIpTarget: is not a known key", "clusterName, socket"),
        ("socket: is \"agent.sock\"", "an absolute path of at most 107 bytes"),
        ("addWaitSeconds: is 0", "from 1 to 180"),
        ("mtuBytes: is \"huge\"", "from 1280 to 9001"),
        ("log.level: is \"loud\"", "error, warn, info, debug, trace"),
        ("pool.maxEnis: is -1", "from 1 to 256"),
        ("pool.subnets[1]: \"eni-2\" is no subnet id", "subnet- and lower-case"),
        ("pool.subnets[2]: is 7", "a text"),
        ("pool.tags.aws:x: is reserved", "neither with aws:"),
        ("pool.tags.b: is 1", "a text"),
        ("pool.natPortRange: is \"5000-6000\"", "at least 4096 ports"),
        ("pool.natExclude[0]: is \"10.1.2.3/8\"", "expected 10.0.0.0/8"),
        ("pool.natExclude[1]: is \"fe80::/10\"", "an IPv4 CIDR"),
        ("pool.natExclude[2]: is \"x\"", "an IPv4 CIDR"),
        ("pool.vpcDestinations: is \"Some\"", "AllCidrs, Covered, None"),
    ];
    for (start, right) in expected {
        let found = list.iter().any(|line| line.starts_with(start) && line.contains(right));
        assert!(found, "nothing like {start:?} … {right:?} in\n{}", list.join("\n"));
    }
    assert_eq!(list.len(), expected.len(), "{}", list.join("\n"));
}

#[test]
fn metrics_are_on_loopback_unless_the_file_says_where_or_off() {
    let listen = |text: &str| Config::parse(text).unwrap().metrics_listen.map(|at| at.to_string());
    for (text, address) in [
        ("", Some("127.0.0.1:61680")),
        ("metrics: {listen: null}", Some("127.0.0.1:61680")),
        ("metrics: {listen: '[::]:9100'}", Some("[::]:9100")),
        ("metrics: {listen: off}", None),
        ("metrics: {listen: false}", None),
    ] {
        assert_eq!(listen(text).as_deref(), address, "{text}");
    }
    for text in ["localhost:9100", "127.0.0.1", "127.0.0.1:0", "on", "9100"] {
        let list = mistakes(&format!("metrics: {{listen: '{text}'}}"));
        assert!(list.len() == 1 && list[0].contains("or off"), "{list:?}");
    }
}

#[test]
fn the_file_as_a_whole_can_be_wrong() {
    for (text, why) in [
        ("a: [", "not valid YAML"),
        ("- a", "expected keys and values"),
        ("just text", "expected keys and values"),
        ("socket: /a\nsocket: /b\n", "not valid YAML"),
    ] {
        let list = mistakes(text);
        assert!(
            list.len() == 1 && list[0].starts_with("(file): ") && list[0].contains(why),
            "{text:?}: {list:?}"
        );
    }
    let error = Config::load(Path::new("/nonexistent/spur.yaml")).unwrap_err();
    assert_eq!(error.to_string(), "read configuration /nonexistent/spur.yaml");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    for (text, key) in [
        ("stateDir: /a\nspoolDir: /a\n", "spoolDir"),
        ("stateDir: /a\ncni: {confDir: /a}\n", "cni.confDir"),
        ("pool: {natOutgoing: false, natExclude: [10.0.0.0/8]}\n", "pool.natExclude"),
        ("pool: {warmPrefixTarget: 1}\n", "pool.warmPrefixTarget"),
        ("pool: {warmEniTarget: 3, maxEnis: 2}\n", "pool.warmEniTarget"),
        ("pool: {subnets: [subnet-1], subnetTags: {a: b}}\n", "pool.subnetTags"),
        ("pool: {securityGroups: [sg-1], securityGroupTags: {a: b}}\n", "pool.securityGroupTags"),
    ] {
        let list = mistakes(text);
        assert!(list.len() == 1 && list[0].starts_with(&format!("{key}: ")), "{text:?}: {list:?}");
    }
}

#[test]
fn a_chain_that_would_break_every_pod_is_refused_with_all_its_mistakes() {
    let list = mistakes(
        "cni:\n  chain:\n  - {type: spur}\n  - {type: bridge, name: x}\n  - {type: host-local}\n  - {}\n  - [portmap]\n  \
         - {type: ../portmap}\n  - {type: tuning, mac: 'c2:11:22:33:44:55', capabilities: {mac: true, x: 1}}\n  \
         - {type: portmap, prevResult: {}, cniVersion: 1.1.0}\n  - {type: portmap, capabilities: [a]}\n",
    );
    let expected = [
        ("cni.chain[0].type", "comes first by itself"),
        ("cni.chain[1].type", "an interface of its own"),
        ("cni.chain[1].name", "set by the runtime"),
        ("cni.chain[2].type", "gives addresses"),
        ("cni.chain[3].type", "its file name"),
        ("cni.chain[4]", "is no plugin"),
        ("cni.chain[5].type", "its file name"),
        ("cni.chain[6].mac", "cut pods off"),
        ("cni.chain[6].capabilities.mac", "cut pods off"),
        ("cni.chain[6].capabilities.x", "neither true nor false"),
        ("cni.chain[7].prevResult", "set by the runtime"),
        ("cni.chain[7].cniVersion", "set by the runtime"),
        ("cni.chain[8].capabilities", "is no map"),
        ("cni.chain[8].type", "again"),
    ];
    for (key, words) in expected {
        let found = list.iter().any(|line| line.starts_with(&format!("{key}: ")) && line.contains(words));
        assert!(found, "no {words:?} of {key} in\n{}", list.join("\n"));
    }
    assert_eq!(list.len(), expected.len(), "{}", list.join("\n"));
}

#[test]
fn a_conflist_with_a_chain_offers_no_version_that_old_plugins_refuse() {
    let version = |text| Config::parse(text).unwrap().cni.version;
    assert_eq!(version(""), CniVersion::V1_1);
    assert_eq!(version("cni: {chain: [{type: portmap}]}"), CniVersion::V1_0);
    assert_eq!(version("cni: {chain: [{type: portmap}], version: 1.1.0}"), CniVersion::V1_1);
    assert_eq!(version("cni: {version: 1.0.0}"), CniVersion::V1_0);
}

#[test]
fn on_and_off_are_understood_with_and_without_quotes() {
    use spur_ipamd_core::PrefixDelegation::{Auto, Off, On};
    for (text, wanted) in
        [("on", On), ("'on'", On), ("true", On), ("off", Off), ("false", Off), ("auto", Auto)]
    {
        let config = Config::parse(&format!("pool: {{prefixDelegation: {text}}}")).unwrap();
        assert_eq!(config.pool.prefix_delegation, wanted, "{text}");
    }
    assert!(mistakes("pool: {prefixDelegation: maybe}")[0].contains("one of auto, on, off"));
}

#[test]
fn a_port_range_has_at_least_4096_ports() {
    for (text, good) in [
        ("1024-65535", true),
        ("1024-5119", true),
        ("61440-65535", true),
        ("1024-5118", false),
        ("1023-65535", false),
        ("61441-65535", false),
        ("0-65535", false),
        ("1024-70000", false),
        ("65535-1024", false),
        ("1024", false),
        ("", false),
    ] {
        assert_eq!(parse_ports(text).is_some(), good, "{text:?}");
    }
}

#[test]
fn no_text_makes_the_parser_panic() {
    for text in [
        "\0",
        "&a [*a]",
        "? [a]: b",
        "a: !!binary x",
        "pool: {tags: {1: 2}}",
        "1: 2",
        "--- a\n--- b\n",
        "mtuBytes: 1e9",
        "mtuBytes: .nan",
    ] {
        let _ = Config::parse(text);
    }
}

#[test]
fn each_key_stands_once_in_the_table_and_its_default_is_what_an_empty_file_gives() {
    let mut reader = Reader::new(serde_json::Value::Null, &keys::AGENT);
    drop(read_config(&mut reader));
    assert_eq!(reader.finish(), []);
    for (index, key) in KEYS.iter().enumerate() {
        assert!(KEYS[..index].iter().all(|other| other.path != key.path), "{} stands twice", key.path);
        let mut document = serde_json::json!({});
        let value: serde_json::Value = serde_saphyr::from_str(key.default).unwrap();
        match key.path.split_once('.') {
            Some((section, name)) => document[section][name] = value,
            None => document[key.path] = value,
        }
        let written =
            Config::parse(&document.to_string()).unwrap_or_else(|error| panic!("{}: {error}", key.path));
        assert_eq!(written, Config::parse("").unwrap(), "{}", key.path);
    }
}

#[test]
fn the_document_shows_the_table_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, markdown()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == markdown(),
        "docs/configuration.md is not what the code says; run the test with UPDATE_DOCS=1"
    );
}
