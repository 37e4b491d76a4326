//! Results as plugins print them, good and bad.

use super::*;
use serde_json::json;

fn version(text: &str) -> SpecVersion {
    SpecVersion::parse(text).unwrap()
}

fn parse(value: &Value) -> Result<CniResult, ResultError> {
    CniResult::parse(value.to_string().as_bytes(), &version("1.1.0"))
}

#[test]
fn empty_and_unknown_fields_are_dropped_and_the_rest_is_kept() {
    let result = parse(&json!({"cniVersion": "1.1.0", "dns": {"search": []}, "routes": [], "mine": 1,
        "interfaces": [{"name": "h", "sandbox": "", "mtu": 9001}, {"name": "eth0", "sandbox": "/ns", "extra": {}}],
        "ips": [{"address": "10.0.0.1/32", "interface": 0, "gateway": "169.254.1.1"}]}));
    assert_eq!(
        result.unwrap().to_value(),
        json!({"cniVersion": "1.1.0", "interfaces": [{"name": "h", "mtu": 9001}, {"name": "eth0", "sandbox": "/ns"}],
            "ips": [{"address": "10.0.0.1/32", "interface": 0, "gateway": "169.254.1.1"}]})
    );
}

#[test]
fn a_result_without_version_is_one_of_the_configuration() {
    for value in [json!({}), json!({"cniVersion": ""})] {
        assert_eq!(parse(&value).unwrap().version().as_str(), "1.1.0");
    }
}

#[test]
fn a_field_of_the_wrong_type_is_no_result() {
    for value in [
        json!([]),
        json!({"cniVersion": "one"}),
        json!({"interfaces": {}}),
        json!({"ips": [{"address": "10.0.0.1"}]}),
        json!({"ips": [{"address": "10.0.0.1/33"}]}),
        json!({"ips": [{"address": "10.0.0.1/32", "interface": "1"}]}),
        json!({"routes": [{"dst": "0.0.0.0/0", "gw": "nowhere"}]}),
        json!({"dns": {"search": "here"}}),
    ] {
        assert!(parse(&value).is_err(), "{value}");
    }
}

#[test]
fn conversion_adds_and_takes_what_the_version_knows() {
    let new = json!({"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "mtu": 9001}],
        "ips": [{"address": "10.0.0.1/32"}, {"address": "fd00::1/128"}]});
    let old = json!({"cniVersion": "0.4.0", "dns": {}, "interfaces": [{"name": "eth0"}],
        "ips": [{"version": "4", "address": "10.0.0.1/32"}, {"version": "6", "address": "fd00::1/128"}]});
    assert_eq!(parse(&new).unwrap().in_version(&version("0.4.0")).unwrap().to_value(), old);
    let back = parse(&old).unwrap().in_version(&version("1.0.0")).unwrap().to_value();
    assert_eq!(back["ips"], new["ips"]);
}

#[test]
fn results_from_before_0_3_0_are_handed_on_as_they_are() {
    let value = json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.1/32"}});
    let result = parse(&value).unwrap();
    assert_eq!(result.to_value(), value);
    assert!(result.clone().in_version(&version("0.2.0")).is_ok());
    assert!(matches!(result.in_version(&version("1.0.0")), Err(ResultError::Conversion { .. })));
}
