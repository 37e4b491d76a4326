//! Sets in normal form: aggregation, nesting, the top of the address space, and the way to elements and back.

use super::set::{Element, elements, entries_of};
use super::*;
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

fn nets(texts: &[&str]) -> Vec<Ipv4Net> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn shown(entries: &[Entry]) -> Vec<String> {
    let ip = |bytes: &[u8]| Ipv4Addr::from(<[u8; 4]>::try_from(bytes).unwrap());
    let verdict =
        |entry: &Entry| entry.verdict.as_ref().map(|verdict| format!(" {verdict:?}")).unwrap_or_default();
    entries
        .iter()
        .map(|entry| format!("{}-{}{}", ip(&entry.first), ip(&entry.last), verdict(entry)))
        .collect()
}

#[test]
fn prefixes_are_joined_whatever_their_order_and_overlap() {
    let content =
        Content::Prefixes(nets(&["10.1.0.0/16", "10.0.0.0/16", "10.0.7.0/24", "10.9.0.1/32", "10.9.0.3/8"]));
    assert_eq!(shown(&content.entries()), ["10.0.0.0-10.255.255.255"]);
    let content = Content::Prefixes(nets(&["10.0.0.2/32", "10.0.0.0/32", "10.0.0.1/32", "10.0.0.1/32"]));
    assert_eq!(shown(&content.entries()), ["10.0.0.0-10.0.0.2"]);
    assert_eq!(aggregate(&nets(&["10.0.0.0/25", "10.0.0.200/25"])), nets(&["10.0.0.0/24"]));
}

#[test]
fn in_a_map_the_longer_prefix_wins() {
    let verdict = |name: &str| Verdict::Goto(name.into());
    let content = Content::PrefixVerdicts(vec![
        ("10.0.0.0/28".parse().unwrap(), verdict("a")),
        ("10.0.0.4/30".parse().unwrap(), verdict("b")),
        ("10.0.0.16/32".parse().unwrap(), verdict("a")),
        ("10.0.0.17/32".parse().unwrap(), verdict("b")),
    ]);
    let expected = [
        "10.0.0.0-10.0.0.3 Goto(\"a\")",
        "10.0.0.4-10.0.0.7 Goto(\"b\")",
        "10.0.0.8-10.0.0.15 Goto(\"a\")",
        "10.0.0.16-10.0.0.16 Goto(\"a\")",
        "10.0.0.17-10.0.0.17 Goto(\"b\")",
    ];
    assert_eq!(shown(&content.entries()), expected);
}

#[test]
fn a_range_up_to_the_last_address_has_no_end_element() {
    let content = Content::Prefixes(nets(&["255.255.255.255/32", "224.0.0.0/4"]));
    let entries = content.entries();
    assert_eq!(shown(&entries), ["224.0.0.0-239.255.255.255", "255.255.255.255-255.255.255.255"]);
    assert_eq!(elements(&entries, true).len(), 3);
    let all = Content::Prefixes(nets(&["0.0.0.0/0"])).entries();
    assert_eq!((shown(&all), elements(&all, true).len()), (vec!["0.0.0.0-255.255.255.255".to_owned()], 1));
}

#[test]
fn elements_read_back_in_any_order_give_the_same_entries() {
    let mut state = 7_u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    for _ in 0..500 {
        let prefixes: Vec<_> = (0..random() % 12)
            .map(|_| {
                let net = Ipv4Net::new(
                    Ipv4Addr::from((random() << 22) | (random() % 64)),
                    [26, 27, 28, 30, 32][random() as usize % 5],
                )
                .unwrap();
                (net, Verdict::Jump(format!("c{}", random() % 3)))
            })
            .collect();
        let entries = Content::PrefixVerdicts(prefixes.clone()).entries();
        // The oracle looks every address of interest up by longest prefix.
        for (net, _) in &prefixes {
            for address in [net.network(), net.broadcast()] {
                let longest = prefixes
                    .iter()
                    .filter(|(net, _)| net.contains(&address))
                    .map(|(net, _)| net.prefix_len())
                    .max();
                let allowed: Vec<_> = prefixes
                    .iter()
                    .filter(|(net, _)| net.contains(&address) && Some(net.prefix_len()) == longest)
                    .map(|(_, verdict)| verdict)
                    .collect();
                let key = address.octets().to_vec();
                let found: Vec<_> =
                    entries.iter().filter(|entry| entry.first <= key && key <= entry.last).collect();
                assert_eq!(found.len(), 1);
                assert!(allowed.contains(&found[0].verdict.as_ref().unwrap()));
            }
        }
        let mut sent = elements(&entries, true);
        sent.reverse();
        assert_eq!(entries_of(sent, true), Some(entries));
    }
}

#[test]
fn a_rules_tag_changes_with_its_expressions() {
    let rule =
        |name| Rule::new("why", vec![Expr::SourceIn(String::from(name)), Expr::Verdict(Verdict::Drop)]);
    assert_ne!(rule("a").tag(), rule("b").tag());
    assert_eq!(rule("a").tag(), rule("a").tag());
    assert!(rule("a").tag().starts_with("why #"));
}

#[test]
fn ipv6_prefixes_become_ranges_that_read_back_the_same() {
    let nets =
        |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<ipnet::Ipv6Net>>();
    for (prefixes, ranges, sent) in [
        (nets(&["fe80::/10", "ff00::/8"]), 2, 3),
        (nets(&["fd00::/49", "fd00:0:0:8000::/49", "fd00::1/128"]), 1, 2),
        (nets(&["fd00::1/128", "fd00::2/127"]), 1, 2),
        (nets(&["::/0", "fd00::/8"]), 1, 1),
        (nets(&[]), 0, 0),
    ] {
        let entries = Content::Prefixes6(prefixes.clone()).entries();
        let mut elements = elements(&entries, true);
        assert_eq!((entries.len(), elements.len()), (ranges, sent), "{prefixes:?}");
        elements.reverse();
        assert_eq!(entries_of(elements, true), Some(entries), "{prefixes:?}");
    }
}

#[test]
fn elements_that_are_no_ranges_are_told_from_those_that_are() {
    let element = |last: u8, is_end| Element { key: vec![10, 0, 0, last], is_end, verdict: None };
    let read = |elements: &[Element]| entries_of(elements.to_vec(), true).map(|entries| shown(&entries));
    let two = [element(1, false), element(3, true), element(3, false), element(5, true)];
    assert_eq!(read(&two).unwrap(), ["10.0.0.1-10.0.0.2", "10.0.0.3-10.0.0.4"], "as they are, not joined");
    let zero = Element { key: vec![0; 4], is_end: true, verdict: None };
    assert_eq!(read(&[&[zero], &two[..]].concat()), read(&two), "nft begins a set so");
    assert_eq!(read(&two[..3]).unwrap()[1], "10.0.0.3-255.255.255.255");
    for broken in [
        &two[1..],
        &[two[0].clone(), two[2].clone(), two[3].clone()],
        &[two[0].clone(), two[1].clone(), two[3].clone()],
    ] {
        assert_eq!(read(broken), None, "{broken:?}");
    }
}

fn table(sets: &[(&str, &[&str])], chains: &[(&str, bool, &str)]) -> Table {
    let base = Base { kind: ChainKind::Filter, hook: Hook::Prerouting, priority: 0, policy: Policy::Accept };
    Table {
        family: Family::Ip,
        name: "t".into(),
        counters: Vec::new(),
        sets: sets
            .iter()
            .map(|(name, prefixes)| Set { name: (*name).into(), content: Content::Prefixes(nets(prefixes)) })
            .collect(),
        chains: chains
            .iter()
            .map(|(name, is_base, set)| Chain {
                name: (*name).into(),
                base: is_base.then_some(base),
                rules: vec![Rule::new("test", vec![Expr::SourceIn((*set).into())])],
            })
            .collect(),
    }
}

#[test]
fn a_table_that_packets_pass_is_changed_in_its_parts_and_never_taken_away() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let old = table(
        &[("kept", &["10.0.0.1/32", "10.0.0.5/32"]), ("old", &["10.9.0.0/16"])],
        &[("pre", true, "old"), ("gone", true, "old"), ("leaf", false, "kept")],
    );
    let new = table(
        &[("kept", &["10.0.0.1/32", "10.0.0.7/32"]), ("new", &["10.8.0.0/16"])],
        &[("pre", true, "new"), ("post", true, "kept"), ("leaf2", false, "kept")],
    );
    let TableDiff::Parts(parts) = new.diff(Some(&old.shape())) else { panic!("replaced") };
    let entries = |prefixes: &[&str]| Content::Prefixes(nets(prefixes)).entries();
    let expected = Parts {
        new_counters: vec![],
        new_sets: names(&["new"]),
        new_chains: names(&["leaf2"]),
        new_bases: names(&["post"]),
        other_rules: names(&["pre"]),
        elements: vec![SetDiff {
            name: "kept".into(),
            gone: Some(entries(&["10.0.0.5/32"])),
            new: entries(&["10.0.0.7/32"]),
        }],
        old: OldParts { chains: names(&["gone", "leaf"]), sets: names(&["old"]), counters: vec![] },
    };
    assert_eq!(parts, expected);
    assert_eq!(
        parts.to_string(),
        "new sets: new; new chains: leaf2, post; chains with other rules: pre; changed sets: kept; \
         old chains: gone, leaf; old sets: old"
    );
    assert_eq!(new.diff(Some(&new.shape())), TableDiff::InSync);
}

#[test]
fn a_set_whose_elements_are_no_ranges_is_written_anew() {
    let wanted = table(&[("set", &["10.0.0.1/32"])], &[]);
    let mut odd = wanted.shape();
    odd.sets.get_mut("set").unwrap().1 = None;
    let TableDiff::Parts(parts) = wanted.diff(Some(&odd)) else { panic!("replaced") };
    assert_eq!((&parts.elements[0].gone, parts.elements[0].new.len()), (&None, 1));
}
