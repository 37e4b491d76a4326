//! Golden results: what runtimes and chained plugins read, per spec version. The text is compared byte for byte, so that a key
//! that moves, appears or is renamed shows here and not on somebody's node.
//! That the kernel is as these results say is for the tests that wire real pods.

use super::*;

fn wired(addresses: &[(&str, &str)]) -> Wired {
    Wired {
        host_if_name: "eni0123456789a".into(),
        host_mac: "02:00:00:00:00:01".into(),
        pod_if_name: "eth0".into(),
        pod_mac: "02:00:00:00:00:02".into(),
        sandbox: "/var/run/netns/x".into(),
        mtu_bytes: 9001,
        addresses: addresses.iter().map(|(a, g)| (a.parse().unwrap(), g.parse().unwrap())).collect(),
    }
}

fn printed(version: SpecVersion, dns: &Dns) -> String {
    let wired = wired(&[("10.0.1.7", "169.254.1.1")]);
    serde_json::to_string(&CniResult::new(version, &wired, dns)).unwrap()
}

#[test]
fn c19_golden_result_up_to_0_2_0_has_one_address_per_family() {
    for version in [SpecVersion::V0_1_0, SpecVersion::V0_2_0] {
        let expected = concat!(
            r#"{"cniVersion":"VERSION","ip4":{"ip":"10.0.1.7/32","gateway":"169.254.1.1","#,
            r#""routes":[{"dst":"0.0.0.0/0","gw":"169.254.1.1"}]},"dns":{}}"#
        );
        assert_eq!(printed(version, &Dns::default()), expected.replace("VERSION", version.as_str()));
    }
    let wired = wired(&[("fd00::7", "fe80::1")]);
    let result = serde_json::to_value(CniResult::new(SpecVersion::V0_2_0, &wired, &Dns::default())).unwrap();
    let ip6 = serde_json::json!({"ip": "fd00::7/128", "gateway": "fe80::1", "routes": [{"dst": "::/0", "gw": "fe80::1"}]});
    assert_eq!((&result["ip4"], &result["ip6"]), (&Value::Null, &ip6));
}

#[test]
fn c19_golden_result_from_0_3_0_to_0_4_0_names_the_family() {
    for version in [SpecVersion::V0_3_0, SpecVersion::V0_3_1, SpecVersion::V0_4_0] {
        let expected = concat!(
            r#"{"cniVersion":"VERSION","interfaces":[{"name":"eni0123456789a","mac":"02:00:00:00:00:01","sandbox":""},"#,
            r#"{"name":"eth0","mac":"02:00:00:00:00:02","sandbox":"/var/run/netns/x"}],"#,
            r#""ips":[{"version":"4","interface":1,"address":"10.0.1.7/32","gateway":"169.254.1.1"}],"#,
            r#""routes":[{"dst":"0.0.0.0/0","gw":"169.254.1.1"}],"dns":{}}"#
        );
        assert_eq!(printed(version, &Dns::default()), expected.replace("VERSION", version.as_str()));
    }
}

#[test]
fn c19_golden_result_of_1_0_0_has_neither_family_nor_mtu() {
    let dns = Dns {
        nameservers: vec!["10.0.0.2".into()],
        domain: Some("cluster.local".into()),
        search: vec!["a.b".into()],
        options: vec!["ndots:5".into()],
    };
    assert_eq!(
        printed(SpecVersion::V1_0_0, &dns),
        concat!(
            r#"{"cniVersion":"1.0.0","interfaces":[{"name":"eni0123456789a","mac":"02:00:00:00:00:01","sandbox":""},"#,
            r#"{"name":"eth0","mac":"02:00:00:00:00:02","sandbox":"/var/run/netns/x"}],"#,
            r#""ips":[{"interface":1,"address":"10.0.1.7/32","gateway":"169.254.1.1"}],"#,
            r#""routes":[{"dst":"0.0.0.0/0","gw":"169.254.1.1"}],"dns":{"nameservers":["10.0.0.2"],"#,
            r#""domain":"cluster.local","search":["a.b"],"options":["ndots:5"]}}"#
        )
    );
}

#[test]
fn c19_golden_result_of_1_1_0_carries_the_mtu() {
    assert_eq!(
        printed(SpecVersion::V1_1_0, &Dns::default()),
        concat!(
            r#"{"cniVersion":"1.1.0","interfaces":[{"name":"eni0123456789a","mac":"02:00:00:00:00:01","mtu":9001,"sandbox":""},"#,
            r#"{"name":"eth0","mac":"02:00:00:00:00:02","mtu":9001,"sandbox":"/var/run/netns/x"}],"#,
            r#""ips":[{"interface":1,"address":"10.0.1.7/32","gateway":"169.254.1.1"}],"#,
            r#""routes":[{"dst":"0.0.0.0/0","gw":"169.254.1.1"}],"dns":{}}"#
        )
    );
}

#[test]
fn dual_stack_has_an_address_and_a_default_route_per_family() {
    let wired = wired(&[("10.0.1.7", "169.254.1.1"), ("fd00::7", "fe80::1")]);
    let result = serde_json::to_value(CniResult::new(SpecVersion::V0_4_0, &wired, &Dns::default())).unwrap();
    assert_eq!(result["ips"][1]["version"], "6");
    assert_eq!(result["ips"][1]["address"], "fd00::7/128");
    assert_eq!(result["routes"][1], serde_json::json!({"dst": "::/0", "gw": "fe80::1"}));
}

#[test]
fn a_previous_result_stays_as_it_is_and_ours_follows() {
    let previous = serde_json::json!({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "ifb0", "x": 1}],
        "routes": null,
        "dns": {"domain": "theirs"},
        "unknown": [1, 2],
    });
    let ours = CniResult::new(SpecVersion::V1_0_0, &wired(&[("10.0.1.7", "169.254.1.1")]), &Dns::default());
    let merged = ours.after(previous.as_object()).unwrap();
    assert_eq!(merged["interfaces"][0], previous["interfaces"][0]);
    assert_eq!(merged["interfaces"][2]["name"], "eth0");
    assert_eq!(merged["ips"][0]["interface"], 2);
    assert_eq!(merged["routes"][0]["dst"], "0.0.0.0/0");
    assert_eq!(merged["dns"], previous["dns"]);
    assert_eq!(merged["unknown"], previous["unknown"]);
}

#[test]
fn c24_a_previous_result_of_the_old_shape_keeps_its_address() {
    let wired = wired(&[("10.0.1.7", "169.254.1.1"), ("fd00::7", "fe80::1")]);
    let merged = |previous: Value| {
        let ours = CniResult::new(SpecVersion::V0_2_0, &wired, &Dns::default());
        ours.after(previous.as_object()).unwrap()
    };
    let theirs = serde_json::json!({"ip": "192.0.2.1/24", "routes": null});
    let both = merged(serde_json::json!({"cniVersion": "0.2.0", "ip4": theirs, "unknown": [1, 2]}));
    assert_eq!((&both["ip4"], &both["unknown"]), (&theirs, &serde_json::json!([1, 2])));
    assert_eq!(both["ip6"]["ip"], "fd00::7/128");
    assert_eq!(merged(serde_json::json!({"cniVersion": "0.2.0"}))["ip4"]["ip"], "10.0.1.7/32");
}
