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
        "delete element ip t prefixes { 224.0.0.0/4 }",
        "add element ip t eni_of { 10.0.9.9 : drop }",
        "add chain ip t mine { type filter hook input priority 0 ; }",
        "add chain ip t plain",
        "add set ip t more { type ipv4_addr ; }",
        "add counter ip t more",
        "flush ruleset",
    ] {
        nft.replace(&table).unwrap();
        ns.exec(&format!("nft {damage}"));
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
    assert!(matches!(table.diff(seen.as_ref()), TableDiff::Replace { .. }), "an exchanged rule is noticed");
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
    let parts = TableDiff::Parts {
        new_chains: vec!["leaf2".into()],
        sets: vec!["eni_of".into()],
        old_chains: vec![],
    };
    assert_eq!(diff, parts);
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
    let one = set("prefixes", Content::Prefixes(vec![net("10.0.0.0/8")]));
    nft.set_elements(Family::Ip, "t", &one).unwrap();
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
    assert!(!ns.pings("127.0.0.9"));
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
        let begin = std::time::Instant::now();
        assert_eq!(nft.observe(Family::Ip, "t").unwrap(), Some(table().shape()));
        begin.elapsed()
    };
    let first = observe();
    let again = (0..5).map(|_| observe()).min().unwrap();
    assert!(again * 10 < first, "first {first:?}, again {again:?}");
    ns.exec("nft flush chain ip t pre");
    assert_ne!(nft.observe(Family::Ip, "t").unwrap(), Some(table().shape()));
}
