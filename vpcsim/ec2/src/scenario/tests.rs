//! Good scenarios and every kind of mistake: each with the path that it must be reported under and the words that say what
//! would be right. One test has them all in one file and expects them all at once, in the order of the file's sections.
//! Contradictions between values are a table of one change each to a good scenario.

use super::*;

const GOOD: &str = "
name: demo
region: eu-west-1
vpc: {cidrs: [10.0.0.0/16, 10.1.0.0/20]}
subnets:
  - {name: a, zone: eu-west-1a, cidr: 10.0.0.0/20}
  - {name: b, zone: eu-west-1b, cidr: 10.1.0.0/24, tags: {role: pods}}
nodes:
  - {name: n1, type: m5.large, subnet: a}
  - {name: n2, type: t3.nano, subnet: b, securityGroups: [default], denyActions: [CreateTags]}
delays: {attachMillis: 10}
faults: []
";

fn mistakes(text: &str) -> Vec<String> {
    Scenario::parse(text).unwrap_err().iter().map(ToString::to_string).collect()
}

/// The mistakes of the good scenario with one text replaced.
fn with(good: &str, bad: &str) -> Vec<String> {
    assert!(GOOD.contains(good), "{good}");
    mistakes(&GOOD.replace(good, bad))
}

#[test]
fn a_good_scenario_is_read_with_its_defaults() {
    let scenario = Scenario::parse(GOOD).unwrap();
    assert_eq!((scenario.name.as_str(), scenario.seed), ("demo", 1));
    assert_eq!(scenario.vpc_cidrs.len(), 2);
    assert_eq!(scenario.security_groups[0].name, "default");
    assert_eq!(scenario.nodes[0].security_groups, ["default"]);
    assert_eq!(scenario.nodes[0].limits.enis(), 3);
    assert!(scenario.nodes[1].denied.contains("CreateTags"));
    assert_eq!(
        scenario.delays,
        Delays {
            attach: Duration::from_millis(10),
            detach: Duration::from_millis(500),
            cidr: Duration::from_millis(500),
            route_settle: Duration::ZERO
        }
    );
}

#[test]
fn all_mistakes_are_reported_at_once_each_with_its_path_and_what_would_be_right() {
    let bad = "
name: Demo
colour: red
vpc: {cidrs: [10.0.0.1/16, 10.0.0.0/30, x]}
subnets:
  - {name: a, cidr: 10.0.0.0/20, size: 3}
  - 7
nodes:
  - {name: n1, type: m5.tiny, subnet: a}
delays: {attachMillis: -1}
internet: {address: example.org}
faults: [{throttle: DescribeVpcs}]
";
    let found = mistakes(bad);
    let paths: Vec<&str> = found.iter().map(|line| line.split(": ").next().unwrap()).collect();
    let expected = [
        "colour",
        "name",
        "vpc.cidrs[0]",
        "vpc.cidrs[1]",
        "vpc.cidrs[2]",
        "subnets[0].size",
        "subnets[0].zone",
        "subnets[1]",
        "subnets[1].name",
        "subnets[1].zone",
        "subnets[1].cidr",
        "nodes[0].type",
        "delays.attachMillis",
        "internet.address",
        "faults[0].kind",
    ];
    assert_eq!(paths, expected, "{found:#?}");
    let lines = found.join("\n");
    for words in [
        "name: is \"Demo\"; expected a name of 1 to 32 lower-case letters",
        "vpc.cidrs[0]: is \"10.0.0.1/16\"; expected no bits behind the prefix: 10.0.0.0/16",
        "vpc.cidrs[1]: is \"10.0.0.0/30\"; expected a CIDR between /16 and /28",
        "nodes[0].type: is \"m5.tiny\"; expected an instance type of EC2",
        "faults[0].kind: is a mapping; expected one of throttle, error, deny",
    ] {
        assert!(lines.contains(words), "{words}\n{lines}");
    }
}

#[test]
fn what_contradicts_something_else_is_a_mistake() {
    for (good, bad, expected) in [
        ("10.1.0.0/20]", "10.0.16.0/20]", "vpc.cidrs[1]: is 10.0.16.0/20, which overlaps 10.0.0.0/16"),
        ("10.1.0.0/20]", "192.0.0.0/16]", "vpc.cidrs[1]: is 192.0.0.0/16, which overlaps 192.0.2.0/24"),
        ("cidr: 10.1.0.0/24", "cidr: 10.2.0.0/24", "subnets[1].cidr: is 10.2.0.0/24, outside the VPC"),
        (
            "cidr: 10.1.0.0/24",
            "cidr: 10.0.1.0/24",
            "subnets[1].cidr: is 10.0.1.0/24, which overlaps 10.0.0.0/20",
        ),
        (
            "zone: eu-west-1b",
            "zone: eu-central-1b",
            "subnets[1].zone: is \"eu-central-1b\"; expected a zone of the region",
        ),
        ("subnet: b", "subnet: c", "nodes[1].subnet: is \"c\"; expected the name of a subnet: a, b"),
        ("name: n2", "name: n1", "nodes[1].name: is \"n1\" again"),
        ("name: b", "name: a", "subnets[1].name: is \"a\" again"),
        (
            "[default]",
            "[pods]",
            "nodes[1].securityGroups[0]: is \"pods\"; expected the name of a security group: default",
        ),
        (
            "[CreateTags]",
            "[Fly]",
            "nodes[1].denyActions[0]: is \"Fly\"; expected one of AssignPrivateIpAddresses",
        ),
        ("faults: []", "internet: {address: 10.0.0.9}", "internet.address: is 10.0.0.9, inside the VPC"),
        ("faults: []", "internet: {address: 192.0.2.1}", "internet.address: is 192.0.2.1 in 192.0.2.0/24"),
    ] {
        let found = with(good, bad);
        assert!(found.iter().any(|line| line.starts_with(expected)), "{expected}\n{found:#?}");
    }
}

#[test]
fn a_subnet_must_hold_its_nodes() {
    let nodes: String =
        (0..12).map(|at| format!("  - {{name: m{at}, type: m5.large, subnet: t}}\n")).collect();
    let text = format!(
        "name: x\nvpc: {{cidrs: [10.0.0.0/16]}}\nsubnets: [{{name: t, zone: eu-central-1a, cidr: 10.0.0.0/28}}]\nnodes:\n{nodes}"
    );
    assert_eq!(
        mistakes(&text),
        ["subnets[0].cidr: is 10.0.0.0/28 with room for 11 addresses; 12 nodes need one each"]
    );
}

#[test]
fn a_file_that_is_no_mapping_is_refused_with_one_clear_word() {
    for text in ["- a", "7", "name: [", "\t"] {
        let found = mistakes(text);
        assert!(found[0].starts_with("(file): "), "{text:?}: {found:?}");
    }
    // An empty file has everything missing.
    assert!(mistakes("").iter().any(|line| line.starts_with("name: is missing")));
}

#[test]
fn route_tables_are_read_with_their_defaults_and_what_they_name_must_exist() {
    let tables = "
routeTables:
  - {name: usual, main: true}
  - {name: own, subnets: [b], internet: false, routes: [{destination: 172.16.0.0/12, target: n1, origin: advertised}]}
quotas: {routesPerTable: 1000}
";
    let scenario = Scenario::parse(&format!("{GOOD}{tables}")).unwrap();
    let [usual, own] = &scenario.route_tables[..] else { panic!("{:?}", scenario.route_tables) };
    assert_eq!(
        (usual.is_main, usual.has_internet, own.is_main, own.has_internet),
        (true, true, false, false)
    );
    assert_eq!(own.routes[0].origin, RouteOrigin::Advertised);
    assert_eq!(scenario.quotas, Quotas { routes_per_table: 1_000 });
    for (good, bad, expected) in [
        (
            "main: true",
            "main: true, subnets: [b]",
            "routeTables[1].subnets[0]: is \"b\", which has the table \"usual\" already",
        ),
        (
            "subnets: [b]",
            "subnets: [c]",
            "routeTables[1].subnets[0]: is \"c\"; expected the name of a subnet",
        ),
        ("subnets: [b]", "main: true", "routeTables[1].main: is true again; expected one main table"),
        ("name: own", "name: usual", "routeTables[1].name: is \"usual\" again; expected a name of its own"),
        (
            "target: n1",
            "target: n9",
            "routeTables[1].routes[0].target: is \"n9\"; expected internet, the name of a node, or an id such as tgw-0123456789abcdef0",
        ),
        (
            "172.16.0.0/12",
            "172.16.0.1/12",
            "routeTables[1].routes[0].destination: is \"172.16.0.1/12\"; expected no bits behind the prefix: 172.16.0.0/12",
        ),
        (
            "advertised",
            "invented",
            "routeTables[1].routes[0].origin: is \"invented\"; expected created, propagated or advertised",
        ),
        (
            "1000",
            "1001",
            "quotas.routesPerTable: is 1001; expected a number from 1 to 1000, the most that EC2 gives",
        ),
    ] {
        assert!(tables.contains(good), "{good}");
        assert_eq!(mistakes(&format!("{GOOD}{}", tables.replace(good, bad))), [expected], "{bad}");
    }
}
