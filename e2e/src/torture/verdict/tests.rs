//! Tests of the comparison: a node at rest has no differences, and each single one is found and named.

use super::*;

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn live(number: u8) -> Live {
    Live { container: format!("c{number}"), name: format!("pod-{number}"), address: address(number) }
}

fn eni(index: u32, primary: u8, addresses: &[u8]) -> AttachedEni {
    AttachedEni {
        id: format!("eni-{index}"),
        device_index: index,
        subnet: "a".to_owned(),
        primary: address(primary),
        addresses: addresses.iter().copied().map(address).collect(),
    }
}

/// Pods 1 and 11, on the primary ENI and on a secondary one, with a free address on each.
fn enis() -> Vec<AttachedEni> {
    vec![eni(0, 100, &[1, 2]), eni(1, 101, &[11, 12])]
}

fn kernel_at_rest() -> KernelView {
    KernelView {
        routes: vec![(address(1), "eni1".to_owned()), (address(11), "eni11".to_owned())],
        veths: BTreeSet::from(["eni1".to_owned(), "eni11".to_owned()]),
        eni_links: BTreeSet::from(["eth0".to_owned(), "eth1".to_owned()]),
        rules: vec![(512, None), (1024, None), (1101, None), (1201, Some(address(101)))],
        translated: [1, 2, 11, 12].map(address).into(),
        marked: [11, 12].map(address).into(),
    }
}

/// Makes one thing wrong.
type Spoil = fn(&mut KernelView);

#[test]
fn a_kernel_at_rest_has_no_differences_and_each_single_one_is_named() {
    let pods = [live(1), live(11)];
    assert_eq!(kernel(&kernel_at_rest(), &pods, &enis()), Vec::<String>::new());
    let cases: [(&str, Spoil); 11] = [
        ("0 routes lead to 10.0.0.11", |view| drop(view.routes.pop())),
        ("2 routes lead to 10.0.0.1 ", |view| view.routes.push((address(1), "eni11".to_owned()))),
        ("a route leads to 10.0.0.2", |view| view.routes.push((address(2), "eni1".to_owned()))),
        ("no route leads over the veth eni3", |view| assert!(view.veths.insert("eni3".to_owned()))),
        ("a route leads over eni11, which is no veth", |view| assert!(view.veths.remove("eni11"))),
        ("lost: set of translated addresses: [10.0.0.2]", |view| {
            assert!(view.translated.remove(&address(2)))
        }),
        ("leaked: map from address to ENI: [10.0.0.1]", |view| assert!(view.marked.insert(address(1)))),
        ("lost: links of ENIs: [\"eth1\"]", |view| assert!(view.eni_links.remove("eth1"))),
        ("3 rules of ENIs and not 2", |view| view.rules.push((1102, None))),
        ("doubled: the rule (512, None)", |view| view.rules.push((512, None))),
        ("leaked: sources of rules: [10.0.0.9]", |view| view.rules[3].1 = Some(address(9))),
    ];
    for (words, spoil) in cases {
        let mut view = kernel_at_rest();
        spoil(&mut view);
        let lines = kernel(&view, &pods, &enis());
        assert!(lines.iter().any(|line| line.contains(words)), "no {words:?} in {lines:?}");
    }
}

const MOST: Most = Most { per_pod: 1, beyond: 2 };

#[test]
fn the_cloud_may_hold_what_pods_have_and_the_stock_and_nothing_else() {
    let view = |enis, unattached: &[&str]| CloudView {
        nodes: BTreeMap::from([("n".to_owned(), enis)]),
        free: BTreeMap::new(),
        unattached: unattached.iter().map(|id| (*id).to_owned()).collect(),
    };
    let nodes = [("n".to_owned(), vec![live(1), live(11)], Some(MOST))];
    assert_eq!(cloud(&view(enis(), &[]), &nodes), Vec::<String>::new());
    for (view, words) in [
        (view(enis(), &["eni-9"]), "eni-9 is attached to nothing"),
        (view(vec![eni(0, 100, &[1, 2])], &[]), "10.0.0.11 of pod-11 is on 0 ENIs"),
        (view(vec![eni(0, 100, &[1, 2, 3, 4, 5, 11])], &[]), "has 6 addresses for 2 pods"),
    ] {
        let lines = cloud(&view, &nodes);
        assert!(lines.len() == 1 && lines[0].contains(words), "{lines:?}");
    }
}

#[test]
fn every_table_leads_one_block_to_each_listed_node_and_nothing_else() {
    let route = |block: &str, target: &str, state: &str| Route {
        destination: block.parse().unwrap(),
        target: target.to_owned(),
        state: state.to_owned(),
    };
    let target = |name: &str| Target { name: name.to_owned(), eni: format!("eni-{name}") };
    let (first, second) =
        (route("10.200.0.0/25", "eni-a", "active"), route("10.200.0.128/25", "eni-b", "active"));
    let right = vec![first.clone(), second.clone()];
    let targets = [target("a"), target("b")];
    assert_eq!(routes(&[("main", right.clone()), ("b", right.clone())], &targets), Vec::<String>::new());
    for (wrong, words) in [
        (vec![first.clone()], "b has [] in b; it needs one active route"),
        (vec![first.clone(), route("10.200.0.128/25", "eni-b", "blackhole")], "blackhole"),
        (vec![first, route("10.200.1.0/25", "eni-b", "active")], "doubled: b has other blocks by table"),
        (
            [right.clone(), vec![route("10.200.1.0/25", "eni-c", "active")]].concat(),
            "leaked: b leads 10.200.1.0/25 to eni-c",
        ),
    ] {
        let lines = routes(&[("main", right.clone()), ("b", wrong)], &targets);
        assert!(lines.len() == 1 && lines[0].contains(words), "no {words:?} in {lines:?}");
    }
    let told =
        |names: &[(&str, bool)]| names.iter().map(|(name, ready)| ((*name).to_owned(), *ready)).collect();
    assert_eq!(grants(&told(&[("a", true), ("b", true)]), &targets), Vec::<String>::new());
    assert_eq!(grants(&told(&[("a", true), ("b", false)]), &targets), ["b is not ready by its grant"]);
    assert_eq!(
        grants(&told(&[("b", true), ("c", true)]), &targets),
        ["leaked: grants: [\"c\"]", "lost: grants: [\"a\"]"]
    );
}

#[test]
fn the_book_holds_the_pods_and_nothing_is_under_way() {
    let pods = [live(1), live(2)];
    let holdings = BTreeMap::from([("c1".to_owned(), address(1)), ("c2".to_owned(), address(2))]);
    let given_back = BTreeSet::from([address(9)]);
    let at_rest = StoreView { holdings, intents: Vec::new(), given_back };
    let enis = [eni(0, 100, &[1, 2])];
    assert_eq!(store(&at_rest, &pods, &enis), Vec::<String>::new());
    assert!(store(&at_rest, &pods[..1], &enis)[0].starts_with("leaked: assignments"));
    assert!(store(&StoreView::default(), &pods, &enis)[0].starts_with("lost: assignments"));
    let busy = StoreView { intents: vec!["create".to_owned()], ..at_rest.clone() };
    assert_eq!(store(&busy, &pods, &enis), ["leaked: an intent in the store: create"]);
    let kept = [eni(0, 100, &[1, 2, 9])];
    assert_eq!(store(&at_rest, &pods, &kept), ["leaked: 10.0.0.9 is to be given back and is not"]);
}

#[test]
fn an_address_of_two_pods_is_found_across_nodes() {
    assert_eq!(doubled(&[vec![live(1)], vec![live(2)]]), Vec::<String>::new());
    let twin = Live { name: "twin".to_owned(), ..live(1) };
    assert_eq!(doubled(&[vec![live(1)], vec![twin]]), ["doubled: 10.0.0.1 is held by pod-1 and twin"]);
}

#[test]
fn a_pod_has_its_address_and_a_deleted_one_nothing() {
    let has =
        |addresses: &[u8]| PodView { addresses: Some(addresses.iter().copied().map(address).collect()) };
    let nothing = PodView { addresses: None };
    assert_eq!(pods(&[(live(1), has(&[1]))], &[("gone".to_owned(), nothing.clone())]), Vec::<String>::new());
    for view in [has(&[2]), has(&[]), has(&[1, 2]), nothing] {
        assert!(pods(&[(live(1), view.clone())], &[])[0].starts_with("lost: pod-1"), "{view:?}");
    }
    assert!(pods(&[], &[("gone".to_owned(), has(&[]))])[0].starts_with("leaked: gone"));
}
