//! nf_tables against the kernel, with `nft -j` and real packets as witnesses.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use ipnet::Ipv4Net;
use serde_json::{Value, json};
use spur_datapath::Mark;
use spur_datapath::nft::{
    Base, Chain, ChainKind, Content, Expr, Family, Hook, NameMatch, Nft, Policy, Ports, Rule, Set, Table,
    TableDiff, Verdict,
};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::TestNs;

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn set(name: &str, content: Content) -> Set {
    Set { name: name.into(), content }
}

fn base(kind: ChainKind, hook: Hook, priority: i32) -> Option<Base> {
    Some(Base { kind, hook, priority, policy: Policy::Accept })
}

fn rule(expressions: Vec<Expr>) -> Rule {
    Rule::new("test", expressions)
}

/// One rule per expression that matches, so that the witness shows each.
fn matches() -> Vec<Rule> {
    let matches = [
        Expr::Input(NameMatch::Is("eth0".parse().unwrap())),
        Expr::Input(NameMatch::StartsWith("eni".into())),
        Expr::Output(NameMatch::StartsNotWith("eni".into())),
        Expr::Output(NameMatch::IsNot("eth0".parse().unwrap())),
        Expr::Source(net("10.1.2.3/32")),
        Expr::SourceNot(net("10.0.0.0/9")),
        Expr::Destination(net("10.0.0.0/8")),
        Expr::DestinationNot(net("10.1.2.3/32")),
        Expr::SourceIn("prefixes".into()),
        Expr::SourceNotIn("prefixes".into()),
        Expr::DestinationIn("prefixes".into()),
        Expr::DestinationNotIn("prefixes".into()),
        Expr::InputSourceIn("pairs".into()),
        Expr::InputSourceNotIn("pairs".into()),
        Expr::OutputDestinationNotIn("pairs".into()),
        Expr::Protocol(6),
        Expr::CtNew,
        Expr::CtReply,
        Expr::SourceNotFromHere,
    ];
    matches.into_iter().map(|one| rule(vec![one, Expr::Verdict(Verdict::Accept)])).collect()
}

/// One rule per expression that acts.
fn statements() -> Vec<Rule> {
    let mark = Mark { value: 3, mask: 0x7f };
    let accept = Expr::Verdict(Verdict::Accept);
    let mut rules = vec![
        rule(vec![Expr::Protocol(17), Expr::DestinationPort(53), Expr::SourcePort(1000), accept]),
        rule(vec![Expr::SetMark(mark)]),
        rule(vec![Expr::Count("seen".into())]),
        rule(vec![Expr::SourceVerdict("eni_of".into())]),
        rule(vec![Expr::DestinationVerdict("eni_of".into())]),
        rule(vec![Expr::CtOriginalDestinationVerdict("eni_of".into())]),
        rule(vec![Expr::CtReplyDestinationVerdict("eni_of".into())]),
        rule(vec![Expr::InputVerdict("by_name".into())]),
        rule(vec![Expr::OutputVerdict("by_name".into())]),
    ];
    for verdict in
        [Verdict::Drop, Verdict::Return, Verdict::Jump("leaf".into()), Verdict::Goto("leaf".into())]
    {
        rules.push(rule(vec![Expr::CtNew, Expr::Verdict(verdict)]));
    }
    rules
}

fn translations() -> Vec<Rule> {
    let ports = Some(Ports { first: 1024, last: 65535, fully_random: true });
    vec![
        rule(vec![Expr::Protocol(6), Expr::Snat("10.0.0.9".parse().unwrap(), ports)]),
        rule(vec![Expr::Snat("10.0.0.9".parse().unwrap(), None)]),
        rule(vec![Expr::Protocol(6), Expr::Masquerade(ports)]),
        rule(vec![Expr::Masquerade(None)]),
    ]
}

/// The place of the map `eni_of` among them.
const ENI_OF: usize = 2;

fn sets() -> Vec<Set> {
    let leaf = || Verdict::Goto("leaf".into());
    let many = ["10.0.0.0/8", "10.3.0.0/16", "224.0.0.0/4", "255.255.255.255/32"];
    vec![
        set("prefixes", Content::Prefixes(many.map(net).to_vec())),
        set(
            "pairs",
            Content::InterfaceAddresses(vec![("eth1".parse().unwrap(), "10.0.0.1".parse().unwrap())]),
        ),
        set(
            "eni_of",
            Content::PrefixVerdicts(vec![
                (net("10.0.1.0/28"), leaf()),
                (net("10.0.1.16/32"), Verdict::Accept),
            ]),
        ),
        set(
            "by_name",
            Content::InterfaceVerdicts(vec![("eth1".parse().unwrap(), Verdict::Jump("leaf".into()))]),
        ),
    ]
}

fn table() -> Table {
    let leaf = vec![rule(vec![Expr::SetMark(Mark { value: 3, mask: 0x7f })])];
    let pre = matches().into_iter().chain(statements()).collect();
    Table {
        family: Family::Ip,
        name: "t".into(),
        counters: vec!["seen".into(), "other".into()],
        sets: sets(),
        chains: vec![
            Chain { name: "pre".into(), base: base(ChainKind::Filter, Hook::Prerouting, -155), rules: pre },
            Chain {
                name: "post".into(),
                base: base(ChainKind::Nat, Hook::Postrouting, 105),
                rules: translations(),
            },
            Chain { name: "leaf".into(), base: None, rules: leaf },
        ],
    }
}

#[test]
#[ignore = "needs root"]
fn every_expression_is_what_nft_shows() {
    let ns = TestNs::new("n");
    Nft::open_in(&ns.ns).unwrap().replace(&table()).unwrap();
    let text = ns.exec("nft -n list table ip t");
    let comment = |line: &str| line.split(" comment ").next().unwrap().trim().to_owned();
    let shown: Vec<String> = text.lines().map(comment).collect();
    let expected = include_str!("golden/every_expression.nft");
    assert_eq!(shown.join("\n").trim(), expected.trim(), "{text}");
    let sets = ns.nft_json("list sets");
    assert_eq!(sets.len(), 2, "a map is no set");
    assert_eq!(ns.nft_json("list maps").len(), 2);
    assert_eq!(sets[0]["set"]["type"], "ipv4_addr");
}

#[test]
#[ignore = "needs root"]
fn what_was_put_is_read_back_and_is_in_sync() {
    let ns = TestNs::new("n");
    let mut nft = Nft::open_in(&ns.ns).unwrap();
    let table = table();
    assert_eq!(nft.observe(Family::Ip, "t").unwrap(), None);
    assert!(matches!(table.diff(None), TableDiff::Replace { .. }));
    nft.replace(&table).unwrap();
    let seen = nft.observe(Family::Ip, "t").unwrap().unwrap();
    assert_eq!(seen, table.shape());
    assert_eq!(table.diff(Some(&seen)), TableDiff::InSync);
    nft.replace(&table).unwrap();
    assert_eq!(nft.observe(Family::Ip, "t").unwrap().unwrap(), seen, "replacing doubles nothing");
    nft.delete_table(Family::Ip, "t").unwrap();
    nft.delete_table(Family::Ip, "t").unwrap();
    assert_eq!(ns.nft_json("list ruleset"), Vec::<Value>::new());
}

#[test]
#[ignore = "needs root"]
fn what_others_did_to_the_table_is_noticed_and_repaired() {
    let ns = TestNs::new("n");
    let mut nft = Nft::open_in(&ns.ns).unwrap();
    let table = table();
    for damage in [
        "flush chain ip t pre",
        "add rule ip t leaf drop",
        "insert rule ip t post accept",
        "add rule ip t leaf ip saddr { 10.0.0.1, 10.0.0.7 } drop",
        "add chain ip t plain && add rule ip t plain ip daddr { 10.0.0.1, 10.0.0.7 } goto leaf",
        "delete element ip t prefixes { 224.0.0.0/4 }",
        "add element ip t eni_of { 10.0.9.9 : drop }",
        "add chain ip t mine { type filter hook input priority 0 ; }",
        "add chain ip t plain",
        "add map ip t leads { type ipv4_addr : verdict ; elements = { 10.0.0.1 : goto leaf } ; }",
        "flush set ip t prefixes",
        "add table ip t { flags dormant ; }",
        "delete table ip t && add table ip t && add chain ip t pre { type filter hook input priority 0 ; }",
        "delete table ip t && add table ip t && add set ip t prefixes { type inet_service ; }",
        "add set ip t more { type ipv4_addr ; }",
        "add counter ip t more",
        "flush ruleset",
    ] {
        nft.replace(&table).unwrap();
        damage.split(" && ").for_each(|one| drop(ns.exec(&format!("nft {one}"))));
        let seen = nft.observe(Family::Ip, "t").unwrap();
        let diff = table.diff(seen.as_ref());
        assert_ne!(diff, TableDiff::InSync, "{damage}");
        nft.update(&table, &diff).unwrap();
        assert_eq!(nft.observe(Family::Ip, "t").unwrap(), Some(table.shape()), "{damage}");
    }
    let handle = ns
        .nft_json("-a list chain ip t leaf")
        .iter()
        .find_map(|item| item["rule"]["handle"].as_u64())
        .unwrap();
    ns.exec(&format!("nft replace rule ip t leaf handle {handle} drop"));
    let seen = nft.observe(Family::Ip, "t").unwrap();
    let TableDiff::Parts(parts) = table.diff(seen.as_ref()) else { panic!("replaced") };
    assert_eq!(parts.to_string(), "chains with other rules: leaf", "an exchanged rule is noticed");
}

#[test]
#[ignore = "needs root"]
fn a_new_leaf_and_new_elements_touch_nothing_else() {
    let ns = TestNs::new("n");
    let mut nft = Nft::open_in(&ns.ns).unwrap();
    let mut table = table();
    nft.replace(&table).unwrap();
    let handles = |ns: &TestNs| -> Vec<Value> {
        ns.nft_json("-a list chain ip t pre").iter().map(|item| item["rule"]["handle"].clone()).collect()
    };
    let before = handles(&ns);
    let leaf =
        Chain { name: "leaf2".into(), base: None, rules: vec![rule(vec![Expr::Verdict(Verdict::Accept)])] };
    table.chains.push(leaf);
    table.sets[ENI_OF].content =
        Content::PrefixVerdicts(vec![(net("10.0.2.0/28"), Verdict::Goto("leaf2".into()))]);
    let diff = table.diff(nft.observe(Family::Ip, "t").unwrap().as_ref());
    let TableDiff::Parts(parts) = &diff else { panic!("replaced") };
    assert_eq!(parts.to_string(), "new chains: leaf2; changed sets: eni_of");
    nft.update(&table, &diff).unwrap();
    assert_eq!(handles(&ns), before);
    table.chains.pop();
    table.sets[ENI_OF].content = Content::PrefixVerdicts(vec![]);
    let diff = table.diff(nft.observe(Family::Ip, "t").unwrap().as_ref());
    nft.update(&table, &diff).unwrap();
    assert_eq!(nft.observe(Family::Ip, "t").unwrap(), Some(table.shape()));
    assert_eq!(handles(&ns), before);
}

#[test]
#[ignore = "needs root"]
fn thousands_of_elements_go_in_by_one_transaction_and_come_back() {
    let ns = TestNs::new("n");
    let mut nft = Nft::open_in(&ns.ns).unwrap();
    let mut table = table();
    let address = |n: u32| Ipv4Net::from(std::net::Ipv4Addr::from(0x0a00_0000 + n * 2));
    let verdict = |n: u32| if n.is_multiple_of(2) { Verdict::Accept } else { Verdict::Goto("leaf".into()) };
    table.sets[0].content = Content::Prefixes((0..5000).map(address).collect());
    table.sets[ENI_OF].content =
        Content::PrefixVerdicts((0..3000).map(|n| (address(n), verdict(n))).collect());
    nft.replace(&table).unwrap();
    assert_eq!(nft.observe(Family::Ip, "t").unwrap(), Some(table.shape()));
    let shown = ns.nft_json("list set ip t prefixes");
    assert_eq!(shown[0]["set"]["elem"].as_array().unwrap().len(), 5000);
    table.sets[0] = set("prefixes", Content::Prefixes(vec![net("10.0.0.0/8")]));
    let diff = table.diff(nft.observe(Family::Ip, "t").unwrap().as_ref());
    nft.update(&table, &diff).unwrap();
    let shown = ns.nft_json("list set ip t prefixes");
    assert_eq!(shown[0]["set"]["elem"], json!([{"prefix": {"addr": "10.0.0.0", "len": 8}}]));
}

#[test]
#[ignore = "needs root"]
fn a_refused_transaction_changes_nothing_and_names_the_part() {
    let ns = TestNs::new("n");
    let mut nft = Nft::open_in(&ns.ns).unwrap();
    let table = table();
    nft.replace(&table).unwrap();
    let mut bad = table.clone();
    bad.chains[2].rules.push(Rule::new("no such set", vec![Expr::SourceIn("nothing".into())]));
    let error = nft.replace(&bad).unwrap_err();
    assert!(
        error.to_string().starts_with(r#"replace nft table t: add rule "no such set" to chain leaf"#),
        "{error}"
    );
    assert_eq!(nft.observe(Family::Ip, "t").unwrap(), Some(table.shape()));
    nft.replace(&table).unwrap();
}

#[test]
#[ignore = "needs root"]
fn named_counters_count_packets() {
    let ns = TestNs::new("n");
    let mut nft = Nft::open_in(&ns.ns).unwrap();
    let dropped = vec![
        Expr::Destination(net("127.0.0.9/32")),
        Expr::Count("dropped".into()),
        Expr::Verdict(Verdict::Drop),
    ];
    let table = Table {
        family: Family::Ip,
        name: "t".into(),
        counters: vec!["dropped".into()],
        sets: vec![],
        chains: vec![Chain {
            name: "raw".into(),
            base: base(ChainKind::Filter, Hook::Prerouting, -300),
            rules: vec![rule(dropped)],
        }],
    };
    nft.replace(&table).unwrap();
    assert_eq!(nft.counters(Family::Ip, "t").unwrap()["dropped"].packets, 0);
    assert!(ns.pings_in_vain("127.0.0.9"));
    assert!(ns.pings("127.0.0.8"));
    let counter = nft.counters(Family::Ip, "t").unwrap()["dropped"];
    assert_eq!((counter.packets, counter.bytes), (1, 84));
    assert!(nft.counters(Family::Ip, "absent").unwrap().is_empty());
}

#[test]
#[ignore = "needs root"]
fn an_unchanged_ruleset_is_not_read_again_however_long_it_is() {
    let ns = TestNs::new("n");
    let mut nft = Nft::open_in(&ns.ns).unwrap();
    nft.replace(&table()).unwrap();
    // As kube-proxy writes for some thousand services: the kernel lists them all to who asks for the chains of another table.
    let chains = (0..20_000).map(|number| format!("add chain ip nat KUBE-SEP-{number}\n"));
    let file = std::env::temp_dir().join(format!("{}.nft", ns.name));
    std::fs::write(&file, format!("add table ip nat\n{}", chains.collect::<String>())).unwrap();
    ns.exec(&format!("nft -f {}", file.display()));
    std::fs::remove_file(&file).unwrap();
    let mut observe = || {
        let begin = Instant::now();
        assert_eq!(nft.observe(Family::Ip, "t").unwrap(), Some(table().shape()));
        begin.elapsed()
    };
    let first = observe();
    let again = (0..5).map(|_| observe()).min().unwrap();
    assert!(again * 10 < first, "first {first:?}, again {again:?}");
    ns.exec("nft flush chain ip t pre");
    assert_ne!(nft.observe(Family::Ip, "t").unwrap(), Some(table().shape()));
}

/// From whatever elements to whatever others: the kernel takes each change, and has exactly those afterwards.
#[test]
#[ignore = "needs root"]
fn any_elements_become_any_others_by_their_difference() {
    let ns = TestNs::new("n");
    let mut nft = Nft::open_in(&ns.ns).unwrap();
    let mut state = 20_u32;
    let mut random = move |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 12) % below
    };
    let mut table = table();
    nft.replace(&table).unwrap();
    for round in 0..400 {
        let mut prefixes = || -> Vec<Ipv4Net> {
            let ends = [0, 64, 1 << 31, u32::MAX - 63];
            let one = |_| {
                let address = ends[random(4) as usize] + random(64);
                Ipv4Net::new(address.into(), [26, 28, 30, 31, 32, 32, 32][random(7) as usize]).unwrap()
            };
            (0..round % 20).map(one).collect()
        };
        table.sets[0].content = Content::Prefixes(prefixes());
        let leaf = |net: Ipv4Net| {
            if net.addr().octets()[3].is_multiple_of(3) {
                Verdict::Accept
            } else {
                Verdict::Goto("leaf".into())
            }
        };
        table.sets[ENI_OF].content =
            Content::PrefixVerdicts(prefixes().into_iter().map(|net| (net.trunc(), leaf(net))).collect());
        let diff = table.diff(nft.observe(Family::Ip, "t").unwrap().as_ref());
        nft.update(&table, &diff).unwrap();
        assert_eq!(nft.observe(Family::Ip, "t").unwrap(), Some(table.shape()), "round {round}");
    }
}

/// What leads to a mark, in two versions that have nothing in common but what becomes of a packet.
fn leading(version: &str, priority: i32) -> Table {
    let (map, leaf) = (format!("map_{version}"), format!("leaf_{version}"));
    let led = (net("127.0.0.0/8"), Verdict::Goto(leaf.clone()));
    let base = base(ChainKind::Filter, Hook::Prerouting, priority);
    Table {
        family: Family::Ip,
        name: "t".into(),
        counters: vec![version.into()],
        sets: vec![set(&map, Content::PrefixVerdicts(vec![led]))],
        chains: vec![
            Chain { name: "same".into(), base, rules: vec![rule(vec![Expr::SourceVerdict(map)])] },
            Chain {
                name: leaf,
                base: None,
                rules: vec![rule(vec![Expr::SetMark(Mark { value: 3, mask: 0x7f })])],
            },
        ],
    }
}

/// Packets that nothing led while one table became the other, back and forth.
fn missed_meanwhile(one: &Table, other: &Table) -> u64 {
    let ns = TestNs::new("n");
    let mut nft = Nft::open_in(&ns.ns).unwrap();
    nft.replace(one).unwrap();
    ns.exec("nft add table ip judge");
    ns.exec("nft add chain ip judge pre { type filter hook prerouting priority 0 ; }");
    ns.exec("nft add counter ip judge every");
    ns.exec("nft add counter ip judge missed");
    ns.exec("nft add rule ip judge pre counter name every");
    ns.exec("nft add rule ip judge pre mark 0 counter name missed");
    let stop = AtomicBool::new(false);
    let [to, from] = [(), ()].map(|()| ns.ns.run(|| UdpSocket::bind("127.0.0.1:0")).unwrap().unwrap());
    let mut changes = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                from.send_to(&[0], to.local_addr().unwrap()).unwrap();
            }
        });
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(2) {
            for wanted in [other, one] {
                let diff = wanted.diff(nft.observe(Family::Ip, "t").unwrap().as_ref());
                assert!(matches!(diff, TableDiff::Parts(_)), "{diff:?}");
                nft.update(wanted, &diff).unwrap();
                changes += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let mut count = |counter: &str| nft.counters(Family::Ip, "judge").unwrap()[counter].packets;
    let (all, missed) = (count("every"), count("missed"));
    println!("{changes} changes under {all} packets");
    assert!(changes > 20 && all > 1000, "{changes} changes under {all} packets prove nothing");
    missed
}

#[test]
#[ignore = "needs root"]
fn no_packet_passes_unled_while_a_table_becomes_another() {
    assert_eq!(missed_meanwhile(&leading("a", -95), &leading("b", -95)), 0, "other rules, maps and leaves");
    let mut more = leading("a", -95);
    more.sets[0].content = Content::PrefixVerdicts(vec![
        (net("127.0.0.0/8"), Verdict::Goto("leaf_a".into())),
        (net("128.0.0.0/32"), Verdict::Goto("leaf_a".into())),
    ]);
    assert_eq!(missed_meanwhile(&leading("a", -95), &more), 0, "another element behind it");
    let mut early = leading("a", -155);
    early.chains[0].name = "early".into();
    assert_eq!(missed_meanwhile(&early, &leading("b", -95)), 0, "at another place");
}
