//! The plan against an oracle: walking it step by step ends in the wanted picture, and no step on the way breaks a rule.

use super::*;

fn port(index: u32, addresses: &[&str]) -> Port {
    Port {
        node: "a".to_owned(),
        card: 0,
        device_index: index,
        mac: MacAddr::new([2, 0, 0, 0, 0, 1]),
        subnet: "10.0.0.0/24".parse().unwrap(),
        primary: addresses[0].split('/').next().unwrap().parse().unwrap(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        check: AddressCheck::On,
        table: "rtb-1".to_owned(),
    }
}

fn walk(current: &Ports, wanted: &Ports) -> Vec<Step> {
    let steps = plan(current, wanted);
    let mut ports = current.clone();
    for step in &steps {
        advance(&mut ports, step);
        let all: Vec<_> = ports.values().flat_map(|port| &port.addresses).collect();
        let distinct: BTreeSet<_> = all.iter().collect();
        assert_eq!(all.len(), distinct.len(), "an address in two places after {step:?}");
        let names: BTreeSet<_> = ports.values().map(|port| (&port.node, port.netdev())).collect();
        assert_eq!(names.len(), ports.len(), "two netdevs of one name after {step:?}");
    }
    assert_eq!(&ports, wanted);
    assert!(plan(&ports, wanted).is_empty());
    steps
}

#[test]
fn an_address_that_moves_leaves_its_old_eni_first() {
    let before = Ports::from([
        ("eni-1".to_owned(), port(0, &["10.0.0.4/32", "10.0.0.9/32"])),
        ("eni-2".to_owned(), port(1, &["10.0.0.5/32"])),
    ]);
    let after = Ports::from([
        ("eni-1".to_owned(), port(0, &["10.0.0.4/32"])),
        ("eni-2".to_owned(), port(1, &["10.0.0.5/32", "10.0.0.9/32"])),
    ]);
    assert_eq!(walk(&before, &after).len(), 2);
    assert_eq!(walk(&after, &before).len(), 2);
}

#[test]
fn an_eni_that_replaces_another_at_its_index_waits_until_that_one_is_gone() {
    let before = Ports::from([("eni-2".to_owned(), port(1, &["10.0.0.5/32"]))]);
    let after = Ports::from([("eni-1".to_owned(), port(1, &["10.0.0.6/32"]))]);
    let steps = walk(&before, &after);
    assert!(matches!(steps[0], Step::Unplug { .. }), "{steps:?}");
}

#[test]
fn an_eni_that_comes_back_at_another_index_is_unplugged_in_between() {
    let before = Ports::from([("eni-2".to_owned(), port(1, &["10.0.0.5/32"]))]);
    let after = Ports::from([("eni-2".to_owned(), port(2, &["10.0.0.5/32"]))]);
    assert_eq!(walk(&before, &after).len(), 2);
}

#[test]
fn the_check_is_switched_without_unplugging() {
    let before = Ports::from([("eni-2".to_owned(), port(1, &["10.0.0.5/32"]))]);
    let mut after = before.clone();
    after.get_mut("eni-2").unwrap().check = AddressCheck::Off;
    let (check, table) = (AddressCheck::Off, "rtb-1".to_owned());
    assert_eq!(walk(&before, &after), [Step::SetGuard { eni: "eni-2".to_owned(), check, table }]);
}

#[test]
fn netdevs_are_named_by_device_index_and_only_card_0_has_a_primary_eni() {
    let mut port = port(1, &["10.0.0.5/32"]);
    assert_eq!((port.netdev().as_str(), port.is_primary_eni()), ("eth1", false));
    port.device_index = 0;
    assert!(port.is_primary_eni());
    port.card = 2;
    assert_eq!((port.netdev().as_str(), port.is_primary_eni()), ("eth0c2", false));
}
