//! What is a mistake in a configuration, what is tolerated, and that all mistakes come at once. Each mistake is checked for its
//! code and for naming key and value, because that is what an operator gets to see.
//! Arbitrary configurations are for the property tests of requests.

use super::*;
use crate::code::Code;

fn parsed(text: &str) -> Result<NetConf, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let object = parse_object(text.as_bytes()).map_err(|mistake| vec![mistake])?;
    parse(object, &mut mistakes).ok_or(mistakes)
}

fn with(extra: &str) -> String {
    format!(r#"{{"cniVersion":"1.0.0","name":"n","type":"spur"{extra}}}"#)
}

#[test]
fn defaults_are_the_documented_ones() {
    let conf = parsed(&with("")).unwrap();
    assert_eq!(conf.socket, PathBuf::from(spur_wire::DEFAULT_SOCKET));
    assert_eq!(conf.spool_dir, PathBuf::from(spur_wire::DEFAULT_SPOOL));
    assert_eq!(conf.timeout, Duration::from_secs(30));
    assert_eq!(conf.dns, Dns::default());
    assert_eq!((conf.version, conf.network.as_str()), (SpecVersion::V1_0_0, "n"));
}

#[test]
fn each_mistake_names_key_and_value() {
    for (extra, code, expected) in [
        (r#","socket":"run/x""#, Code::InvalidConfig, r#"socket = "run/x": expected an absolute path"#),
        (r#","socket":7"#, Code::InvalidConfig, "socket = 7: expected a string"),
        (r#","spoolDir":"""#, Code::InvalidConfig, r#"spoolDir = "": expected an absolute path"#),
        (r#","timeoutSeconds":0"#, Code::InvalidConfig, "timeoutSeconds = 0: expected a whole number"),
        (r#","timeoutSeconds":201"#, Code::InvalidConfig, "timeoutSeconds = 201"),
        (r#","timeoutSeconds":1.5"#, Code::InvalidConfig, "timeoutSeconds = 1.5"),
        (
            r#","logLevel":"trace""#,
            Code::InvalidConfig,
            r#"logLevel = "trace": expected error, warn, info or debug"#,
        ),
        (r#","logFile":"x""#, Code::InvalidConfig, r#"logFile = "x": expected an absolute path"#),
        (r#","dns":[]"#, Code::InvalidConfig, "dns = []: expected an object"),
        (
            r#","dns":{"nameservers":["x"]}"#,
            Code::InvalidConfig,
            r#"dns.nameservers = "x": expected an IP address"#,
        ),
        (r#","dns":{"search":"x"}"#, Code::InvalidConfig, r#"dns.search = "x": expected a list of strings"#),
        (
            r#","runtimeConfig":{"dns":{"servers":[1]}}"#,
            Code::InvalidConfig,
            "runtimeConfig.dns.servers = [1]",
        ),
        (
            r#","ipam":{"type":"host-local"}"#,
            Code::UnsupportedField,
            r#"ipam = {"type":"host-local"} is not supported"#,
        ),
        (r#","ipMasq":true"#, Code::UnsupportedField, "ipMasq = true is not supported"),
    ] {
        let mistakes = parsed(&with(extra)).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert_eq!(mistakes[0].code(), code, "{extra}");
        assert!(mistakes[0].to_string().contains(expected), "{extra}: {}", mistakes[0]);
    }
}

#[test]
fn all_mistakes_come_at_once() {
    let mistakes =
        parsed(r#"{"cniVersion":"9.0.0","socket":"x","timeoutSeconds":"y","ipMasq":true}"#).unwrap_err();
    let codes: Vec<_> = mistakes.iter().map(|mistake| mistake.code() as u32).collect();
    assert_eq!(codes, [1, 7, 7, 7, 2]);
}

#[test]
fn what_others_add_is_tolerated() {
    let extra = concat!(
        r#","capabilities":{"portMappings":true},"args":{"cni":{"x":1}},"cni.dev/valid-attachments":[],"cni.dev/z":3,"#,
        r#""runtimeConfig":{"portMappings":[{}],"bandwidth":{},"ips":["1.2.3.4/8"],"mac":"x"},"ipam":{},"ipMasq":false,"#,
        r#""dns":null,"anything":{"at":["all"]}"#
    );
    assert!(parsed(&with(extra)).is_ok());
}

#[test]
fn the_runtime_decides_about_names_of_the_pod() {
    let conf = parsed(&with(
        r#","dns":{"nameservers":["10.0.0.2"]},"runtimeConfig":{"dns":{"servers":["10.96.0.10"],"searches":["a"],"options":["b"]}}"#,
    ));
    let dns = conf.unwrap().dns;
    assert_eq!(
        (dns.nameservers, dns.search, dns.options),
        (vec!["10.96.0.10".into()], vec!["a".into()], vec!["b".into()])
    );
}

#[test]
fn the_runtime_decides_about_the_hardware_address_if_that_is_declared() {
    let mac = |capabilities: &str, mac: &str| {
        let extra = format!(r#","capabilities":{capabilities},"runtimeConfig":{{"mac":{mac}}}"#);
        parsed(&with(&extra)).map(|conf| conf.mac.map(|mac| mac.to_string()))
    };
    let declared = r#"{"mac":true}"#;
    assert_eq!(mac(declared, r#""02:00:00:00:00:4A""#).unwrap().as_deref(), Some("02:00:00:00:00:4a"));
    assert_eq!(mac(declared, "null").unwrap(), None);
    for undeclared in ["{}", "null", r#"{"mac":false}"#] {
        assert_eq!(mac(undeclared, r#""02:00:00:00:00:4a""#).unwrap(), None, "{undeclared}");
    }
    for odd in [r#""x""#, "7", r#""01:00:5e:00:00:01""#, r#""ff:ff:ff:ff:ff:ff""#, r#""00:00:00:00:00:00""#] {
        let mistakes = mac(declared, odd).unwrap_err();
        assert_eq!((mistakes.len(), mistakes[0].code()), (1, Code::InvalidConfig), "{odd}");
        assert!(mistakes[0].to_string().contains("runtimeConfig.mac"), "{}", mistakes[0]);
    }
}

#[test]
fn the_echoed_version_is_the_callers_if_it_is_one() {
    for (text, echoed) in [
        ("{}", "0.1.0"),
        (r#"{"cniVersion":"0.3.1"}"#, "0.3.1"),
        (r#"{"cniVersion":"7.0.0"}"#, "7.0.0"),
        (r#"{"cniVersion":"x"}"#, "1.1.0"),
        (r#"{"cniVersion":1}"#, "1.1.0"),
    ] {
        assert_eq!(version_to_echo(&parse_object(text.as_bytes()).unwrap()), echoed);
    }
}

#[test]
fn long_values_are_shortened_in_messages() {
    let mistakes = parsed(&with(&format!(r#","timeoutSeconds":"{}""#, "é".repeat(9999)))).unwrap_err();
    assert!(mistakes[0].to_string().len() < 400, "{}", mistakes[0]);
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    let deep = format!("{}{}", r#"{"a":"#.repeat(100_000), "1");
    assert!(matches!(parse_object(deep.as_bytes()), Err(Mistake::Json(_))));
}
