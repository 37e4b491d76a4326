//! Route tables through the API: what a call may write, who routes by which table, what reads show and for how long they
//! contradict each other, and what others put into a table.

mod common;

use common::{Doc, Lab};

const TABLES: &str = "
name: test
seed: 7
vpc: {cidrs: [10.0.0.0/16, 10.1.0.0/16]}
subnets:
  - {name: a, zone: eu-central-1a, cidr: 10.0.0.0/24}
  - {name: b, zone: eu-central-1b, cidr: 10.0.1.0/24}
routeTables:
  - {name: usual, main: true, tags: {role: pods}}
  - name: own
    subnets: [b]
    internet: false
    routes:
      - {destination: 192.168.0.0/16, target: vgw-0123456789abcdef0, origin: propagated}
      - {destination: 172.16.0.0/12, target: n1, origin: advertised}
      - {destination: 198.18.0.0/15, target: tgw-0123456789abcdef0}
nodes:
  - {name: n1, type: m5.large, subnet: a}
  - {name: n2, type: m5.large, subnet: b}
delays: {attachMillis: 1000, detachMillis: 1000}
";

struct Bench {
    lab: Lab,
    usual: String,
    own: String,
    eni: String,
}

fn bench() -> Bench {
    of(TABLES)
}

fn of(scenario: &str) -> Bench {
    let lab = Lab::of(scenario);
    let tables = lab.ec2.state().route_tables;
    let named = |name: &str| {
        let found = tables.iter().find(|(_, table)| table.name == name);
        found.map(|(id, _)| id.to_string()).unwrap_or_default()
    };
    let (usual, own, eni) = (named("usual"), named("own"), lab.primary_eni("n1"));
    Bench { lab, usual, own, eni }
}

impl Bench {
    fn create(&mut self, destination: &str) -> String {
        let (usual, eni) = (&self.usual, &self.eni);
        let wanted =
            format!("RouteTableId={usual}&DestinationCidrBlock={destination}&NetworkInterfaceId={eni}");
        let answer = self.lab.ask("CreateRoute", &wanted);
        if answer.status == 200 { String::new() } else { Doc::read(&answer.body).one("Errors/Error/Code") }
    }

    /// Destination, origin and state of each route of a table that a read shows.
    fn read(&mut self, table: &str) -> Vec<String> {
        let doc = self.lab.call("DescribeRouteTables", &format!("RouteTableId.1={table}&MaxResults=5"));
        let texts = |name: &str| doc.all(&format!("routeTableSet/item/routeSet/item/{name}"));
        let (to, origin, state) = (texts("destinationCidrBlock"), texts("origin"), texts("state"));
        to.iter()
            .zip(origin)
            .zip(state)
            .map(|((to, origin), state)| format!("{to} {origin} {state}"))
            .collect()
    }

    fn place(&mut self, routes: &str) {
        self.lab.ec2.place_routes(self.lab.now, routes).expect("a placement without mistakes");
    }
}

#[test]
fn a_table_shows_local_written_propagated_and_advertised_routes() {
    let mut bench = bench();
    let own = bench.own.clone();
    assert_eq!(
        bench.read(&own),
        [
            "10.0.0.0/16 CreateRouteTable active",
            "10.1.0.0/16 CreateRouteTable active",
            "198.18.0.0/15 CreateRoute active",
            "172.16.0.0/12 Advertisement active",
            "192.168.0.0/16 EnableVgwRoutePropagation active",
        ]
    );
    let doc = bench.lab.call("DescribeRouteTables", &format!("RouteTableId.1={own}"));
    assert_eq!(doc.one("routeTableSet/item/propagatingVgwSet/item/gatewayId"), "vgw-0123456789abcdef0");
    assert_eq!(doc.one("routeTableSet/item/routeSet/item/transitGatewayId"), "tgw-0123456789abcdef0");
}

#[test]
fn the_main_association_has_no_subnet_and_a_subnet_routes_by_its_own_table_or_by_that() {
    let mut bench = bench();
    let subnet = bench.lab.subnet("a");
    let filter = format!("Filter.1.Name=association.subnet-id&Filter.1.Value.1={subnet}");
    let doc = bench.lab.call("DescribeRouteTables", &filter);
    assert!(
        doc.all("routeTableSet/item/routeTableId").is_empty(),
        "the main table does not name its subnets"
    );
    let doc = bench.lab.call("DescribeRouteTables", "Filter.1.Name=association.main&Filter.1.Value.1=true");
    assert_eq!(doc.one("routeTableSet/item/routeTableId"), bench.usual);
    assert!(doc.all("routeTableSet/item/associationSet/item/subnetId").is_empty());
    let by = |bench: &Bench| {
        let subnets = bench.lab.ec2.state().subnets;
        subnets.iter().map(|subnet| subnet.route_table.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(by(&bench), [bench.usual.clone(), bench.own.clone()]);
    let (own, usual) = (bench.own.clone(), bench.usual.clone());
    let made = bench.lab.call("AssociateRouteTable", &format!("RouteTableId={own}&SubnetId={subnet}"));
    assert_eq!(by(&bench), [own.clone(), own.clone()]);
    let other = format!("RouteTableId={usual}&SubnetId={subnet}");
    assert_eq!(bench.lab.refusal("AssociateRouteTable", &other), "Resource.AlreadyAssociated");
    let id = made.one("associationId");
    let moved = format!("AssociationId={id}&RouteTableId={usual}");
    let moved = bench.lab.call("ReplaceRouteTableAssociation", &moved).one("newAssociationId");
    assert_eq!(
        bench.lab.refusal("DisassociateRouteTable", &format!("AssociationId={id}")),
        "InvalidAssociationID.NotFound"
    );
    bench.lab.call("DisassociateRouteTable", &format!("AssociationId={moved}"));
    assert_eq!(by(&bench), [usual, own]);
}

#[test]
fn another_table_can_become_the_main_one_but_there_is_always_one() {
    let mut bench = bench();
    let main = "Filter.1.Name=association.main&Filter.1.Value.1=true";
    let doc = bench.lab.call("DescribeRouteTables", main);
    let id = doc.one("routeTableSet/item/associationSet/item/routeTableAssociationId");
    let refused = bench.lab.refusal("DisassociateRouteTable", &format!("AssociationId={id}"));
    assert_eq!(refused, "InvalidParameterValue");
    let own = bench.own.clone();
    bench.lab.call("ReplaceRouteTableAssociation", &format!("AssociationId={id}&RouteTableId={own}"));
    assert_eq!(bench.lab.call("DescribeRouteTables", main).one("routeTableSet/item/routeTableId"), own);
    assert_eq!(bench.lab.refusal("DeleteRouteTable", &format!("RouteTableId={own}")), "DependencyViolation");
    let usual = bench.usual.clone();
    bench.lab.call("DeleteRouteTable", &format!("RouteTableId={usual}"));
    assert_eq!(
        bench.lab.refusal("DeleteRouteTable", &format!("RouteTableId={usual}")),
        "InvalidRouteTableID.NotFound"
    );
}

#[test]
fn a_destination_must_be_new_outside_the_vpc_and_nobodys() {
    let mut bench = bench();
    for (destination, code, why) in [
        ("10.4.0.0/25", "", "outside the VPC"),
        ("10.4.0.0/25", "RouteAlreadyExists", "it is there, whatever its target"),
        ("10.4.0.77/25", "RouteAlreadyExists", "host bits are cut off"),
        ("10.0.0.0/16", "RouteAlreadyExists", "the local route"),
        ("10.1.9.0/25", "InvalidParameterValue", "inside a secondary CIDR"),
        ("10.0.1.0/24", "", "a whole subnet may be led to an ENI"),
        ("10.0.1.0/25", "InvalidParameterValue", "a part of a subnet may not"),
        ("100.68.0.18/18", "", "becomes 100.68.0.0/18"),
        ("100.68.0.0/18", "RouteAlreadyExists", "which is there now"),
        ("10.0.0.0/8", "", "wider than the VPC"),
        ("169.254.169.0/24", "InvalidParameterValue", "EC2's own"),
        ("169.254.0.0/16", "", "wider than EC2's own"),
        ("10.4.0.0/33", "InvalidParameterValue", "no CIDR"),
    ] {
        assert_eq!(bench.create(destination), code, "{destination}: {why}");
    }
    let usual = bench.usual.clone();
    assert!(bench.read(&usual).contains(&"100.68.0.0/18 CreateRoute active".to_owned()));
}

#[test]
fn a_subnet_is_led_to_an_eni_only_and_a_local_route_nowhere() {
    let mut bench = bench();
    let internet = bench.lab.ec2.state().internet_gateway;
    let (to_subnet, gateway) = ("DestinationCidrBlock=10.0.1.0/24", format!("GatewayId={internet}"));
    let table = format!("RouteTableId={}", bench.usual);
    let wrong = format!("{table}&{to_subnet}&{gateway}");
    assert_eq!(bench.lab.refusal("CreateRoute", &wrong), "InvalidParameterValue");
    assert_eq!(bench.create("10.0.1.0/24"), "");
    assert_eq!(bench.lab.refusal("ReplaceRoute", &wrong), "InvalidParameterValue");
    // EC2 can do it; nobody shall believe that this world can.
    let local = format!("{table}&DestinationCidrBlock=10.0.0.0/16&NetworkInterfaceId={}", bench.eni);
    assert_eq!(bench.lab.refusal("ReplaceRoute", &local), "UnsupportedOperation");
}

#[test]
fn a_target_is_exactly_one_thing_that_exists() {
    let mut bench = bench();
    let to = format!("RouteTableId={}&DestinationCidrBlock=10.4.0.0/25", bench.usual);
    let (n1, n2) = (bench.lab.instance("n1"), bench.lab.instance("n2"));
    let second = bench.lab.create("a", "");
    bench.lab.attach(&second, "n1", 1);
    let internet = bench.lab.ec2.state().internet_gateway;
    for (target, code) in [
        (String::new(), "MissingParameter"),
        ("NetworkInterfaceId=eni-0123456789abcdef0".to_owned(), "InvalidNetworkInterfaceID.NotFound"),
        ("GatewayId=igw-0123456789abcdef0".to_owned(), "InvalidInternetGatewayID.NotFound"),
        ("TransitGatewayId=tgw-0123456789abcdef0".to_owned(), "UnsupportedOperation"),
        (format!("InstanceId={n2}&NetworkInterfaceId={}", bench.eni), "InvalidParameterCombination"),
        // Fact 3: an instance with several ENIs is no target.
        (format!("InstanceId={n1}"), "InvalidInstanceID"),
    ] {
        assert_eq!(bench.lab.refusal("CreateRoute", &format!("{to}&{target}")), code, "{target}");
    }
    bench.lab.call("CreateRoute", &format!("{to}&InstanceId={n2}"));
    bench.lab.call("ReplaceRoute", &format!("{to}&GatewayId={internet}"));
    let unknown = "RouteTableId=rtb-0123456789abcdef0&DestinationCidrBlock=10.4.0.0/25";
    let unknown = format!("{unknown}&NetworkInterfaceId={second}");
    assert_eq!(bench.lab.refusal("CreateRoute", &unknown), "InvalidRouteTableID.NotFound");
}

#[test]
fn replacing_needs_a_route_and_deleting_too() {
    let mut bench = bench();
    let (usual, own, eni) = (bench.usual.clone(), bench.own.clone(), bench.eni.clone());
    let to = format!("RouteTableId={usual}&DestinationCidrBlock=10.4.0.0/25");
    let answer = bench.lab.ask("ReplaceRoute", &format!("{to}&NetworkInterfaceId={eni}"));
    assert!(answer.body.contains("Use CreateRoute instead."), "{}", answer.body);
    assert_eq!(bench.lab.refusal("DeleteRoute", &to), "InvalidRoute.NotFound");
    assert_eq!(bench.create("10.4.0.0/25"), "");
    bench.lab.call("ReplaceRoute", &format!("{to}&NetworkInterfaceId={eni}"));
    bench.lab.call("DeleteRoute", &to);
    let local = format!("RouteTableId={usual}&DestinationCidrBlock=10.0.0.0/16");
    assert_eq!(bench.lab.refusal("DeleteRoute", &local), "InvalidParameterValue");
    // What was propagated is no call's to delete.
    let learnt = format!("RouteTableId={own}&DestinationCidrBlock=192.168.0.0/16");
    assert_eq!(bench.lab.refusal("DeleteRoute", &learnt), "InvalidRoute.NotFound");
    // But a call's route goes before it, and it is back when that is gone.
    bench.lab.call("CreateRoute", &format!("{learnt}&NetworkInterfaceId={eni}"));
    let origin =
        |bench: &mut Bench| bench.read(&own).into_iter().find(|line| line.starts_with("192.168")).unwrap();
    assert_eq!(origin(&mut bench), "192.168.0.0/16 CreateRoute active");
    bench.lab.call("DeleteRoute", &learnt);
    assert_eq!(origin(&mut bench), "192.168.0.0/16 EnableVgwRoutePropagation active");
}

#[test]
fn the_quota_holds_per_table_and_family() {
    let mut bench = of(&format!("{TABLES}quotas: {{routesPerTable: 5}}\n"));
    // Two local routes and the one to the internet are there.
    assert_eq!([bench.create("10.4.0.0/25"), bench.create("10.4.0.128/25")], ["", ""]);
    assert_eq!(bench.create("10.4.1.0/25"), "RouteLimitExceeded");
    let (usual, own, eni) = (bench.usual.clone(), bench.own.clone(), bench.eni.clone());
    for number in 0..5 {
        let to = format!("RouteTableId={usual}&DestinationIpv6CidrBlock=2001:db8:{number}::/80");
        bench.lab.call("CreateRoute", &format!("{to}&NetworkInterfaceId={eni}"));
    }
    let sixth =
        format!("RouteTableId={usual}&DestinationIpv6CidrBlock=2001:db8:9::/80&NetworkInterfaceId={eni}");
    assert_eq!(bench.lab.refusal("CreateRoute", &sixth), "RouteLimitExceeded");
    let reserved =
        format!("RouteTableId={usual}&DestinationIpv6CidrBlock=fd00:ec2::/64&NetworkInterfaceId={eni}");
    assert_eq!(bench.lab.refusal("CreateRoute", &reserved), "InvalidParameterValue");
    // In the other table, learnt routes do not count.
    for number in 0..2 {
        let to =
            format!("RouteTableId={own}&DestinationCidrBlock=10.5.{number}.0/25&NetworkInterfaceId={eni}");
        bench.lab.call("CreateRoute", &to);
    }
    let more = format!("RouteTableId={own}&DestinationCidrBlock=10.5.9.0/25&NetworkInterfaceId={eni}");
    assert_eq!(bench.lab.refusal("CreateRoute", &more), "RouteLimitExceeded");
}

#[test]
fn a_route_is_a_blackhole_while_its_eni_is_not_attached() {
    let mut bench = bench();
    bench.eni = bench.lab.create("a", "");
    assert_eq!(bench.create("10.4.0.0/25"), "");
    let usual = bench.usual.clone();
    let state = |bench: &mut Bench| {
        let routes = bench.read(&usual);
        routes.into_iter().find(|line| line.starts_with("10.4.")).unwrap()
    };
    assert_eq!(state(&mut bench), "10.4.0.0/25 CreateRoute blackhole");
    let eni = bench.eni.clone();
    let attachment = bench.lab.attach(&eni, "n1", 1);
    bench.lab.wait(1_000);
    assert_eq!(state(&mut bench), "10.4.0.0/25 CreateRoute active");
    bench.lab.call("DetachNetworkInterface", &format!("AttachmentId={attachment}"));
    bench.lab.wait(1_000);
    assert_eq!(state(&mut bench), "10.4.0.0/25 CreateRoute blackhole");
    bench.lab.call("DeleteNetworkInterface", &format!("NetworkInterfaceId={eni}"));
    assert_eq!(state(&mut bench), "10.4.0.0/25 CreateRoute blackhole", "it stays when its target is gone");
}

#[test]
fn a_route_is_a_blackhole_when_its_instance_is_terminated() {
    let mut bench = bench();
    assert_eq!(bench.create("10.4.0.0/25"), "");
    let usual = bench.usual.clone();
    bench.lab.ec2.set_faults(bench.lab.now, "[{kind: terminate, node: n1}]").unwrap();
    assert!(bench.read(&usual).contains(&"10.4.0.0/25 CreateRoute blackhole".to_owned()));
    // Of others, too, and it is no target any more.
    let own = bench.own.clone();
    assert!(bench.read(&own).contains(&"172.16.0.0/12 Advertisement blackhole".to_owned()));
    assert_eq!(bench.create("10.4.1.0/25"), "InvalidNetworkInterfaceID.NotFound");
}

#[test]
fn reads_flip_flop_until_a_write_has_settled() {
    let mut bench = of(&TABLES.replace("detachMillis: 1000", "detachMillis: 1000, routeSettleMillis: 5000"));
    let usual = bench.usual.clone();
    let seen = |bench: &mut Bench| {
        (0..40).map(|_| bench.read(&usual).iter().any(|line| line.starts_with("10.4."))).collect::<Vec<_>>()
    };
    assert_eq!(bench.create("10.4.0.0/25"), "");
    let during = seen(&mut bench);
    assert!(during.contains(&true) && during.contains(&false), "{during:?}");
    // The write itself is true at once.
    assert_eq!(bench.create("10.4.0.0/25"), "RouteAlreadyExists");
    bench.lab.wait(5_000);
    assert!(!seen(&mut bench).contains(&false));
    bench.lab.call("DeleteRoute", &format!("RouteTableId={usual}&DestinationCidrBlock=10.4.0.0/25"));
    let during = seen(&mut bench);
    assert!(during.contains(&true) && during.contains(&false), "{during:?}");
    bench.lab.wait(5_000);
    assert!(!seen(&mut bench).contains(&true));
}

#[test]
fn stale_reads_flip_flop_too() {
    let mut bench = of(&TABLES.replace("detachMillis: 1000", "detachMillis: 1000, routeSettleMillis: 5000"));
    bench.lab.ec2.set_faults(bench.lab.now, "[{kind: stale, lagMillis: 1000}]").unwrap();
    let usual = bench.usual.clone();
    assert_eq!(bench.create("10.4.0.0/25"), "");
    bench.lab.wait(1_500);
    let seen: Vec<bool> =
        (0..40).map(|_| bench.read(&usual).iter().any(|line| line.starts_with("10.4."))).collect();
    assert!(seen.contains(&true) && seen.contains(&false), "{seen:?}");
}

#[test]
fn an_unsettled_read_shows_the_table_before_one_of_the_writes_and_no_other() {
    let mut bench = of(&TABLES.replace("detachMillis: 1000", "detachMillis: 1000, routeSettleMillis: 5000"));
    let (usual, second) = (bench.usual.clone(), bench.lab.primary_eni("n2"));
    assert_eq!([bench.create("10.4.0.0/25"), bench.create("10.5.0.0/25")], ["", ""]);
    let to = format!("RouteTableId={usual}&DestinationCidrBlock=10.4.0.0/25");
    bench.lab.call("ReplaceRoute", &format!("{to}&NetworkInterfaceId={second}"));
    bench.lab.call("DeleteRoute", &format!("RouteTableId={usual}&DestinationCidrBlock=10.5.0.0/25"));
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let doc = bench.lab.call("DescribeRouteTables", &format!("RouteTableId.1={usual}"));
        let targets = doc.all("routeTableSet/item/routeSet/item/networkInterfaceId");
        seen.insert(targets);
    }
    let first = bench.eni.clone();
    // In the order of destinations: 10.4.0.0/25, then 10.5.0.0/25.
    let history: [&[&String]; 5] = [&[], &[&first], &[&first, &first], &[&second, &first], &[&second]];
    let history = history.map(|targets| targets.iter().map(|id| (*id).clone()).collect::<Vec<_>>());
    assert_eq!(seen, history.into());
}

#[test]
fn large_answers_must_be_asked_for_in_pages() {
    let mut bench = bench();
    for number in 0..125 {
        assert_eq!(bench.create(&format!("10.4.{number}.0/25")), "");
    }
    for unpaged in ["", "Filter.1.Name=vpc-id&Filter.1.Value.1=vpc-*"] {
        assert_eq!(bench.lab.refusal("DescribeRouteTables", unpaged), "OperationNotPermitted");
    }
    let usual = bench.usual.clone();
    for number in 0..7 {
        let made = bench.lab.call("CreateRouteTable", &format!("VpcId={}", bench.lab.ec2.state().vpc));
        assert_eq!(made.all("routeTable/routeSet/item/origin"), ["CreateRouteTable"; 2], "{number}");
    }
    let (mut token, mut sizes, mut ids) = (String::new(), Vec::new(), Vec::new());
    loop {
        let page = bench.lab.call("DescribeRouteTables", &format!("MaxResults=5{token}"));
        let tables = page.all("routeTableSet/item/routeTableId");
        sizes.push(tables.len());
        ids.extend(tables.iter().map(|id| (*id).to_owned()));
        let Some(next) = page.all("nextToken").first().map(|next| (*next).to_owned()) else { break };
        token = format!("&NextToken={next}");
    }
    assert_eq!(sizes, [5, 4]);
    assert!(ids.contains(&usual));
    assert_eq!(bench.lab.refusal("DescribeRouteTables", "MaxResults=101"), "InvalidParameterValue");
}

#[test]
fn a_secondary_cidr_may_not_equal_or_cover_a_route_and_is_local_in_every_table() {
    let mut bench = bench();
    let vpc = bench.lab.ec2.state().vpc.to_string();
    let ask = |cidr: &str| format!("VpcId={vpc}&CidrBlock={cidr}");
    assert_eq!(bench.create("10.4.0.0/24"), "");
    for cidr in ["10.4.0.0/24", "10.4.0.0/16", "10.0.128.0/20", "10.5.0.0/8", "10.5.0.0/29"] {
        assert_eq!(bench.lab.refusal("AssociateVpcCidrBlock", &ask(cidr)), "InvalidVpc.Range", "{cidr}");
    }
    // Inside a route it may be: the local route is the more specific one.
    let made = bench.lab.call("AssociateVpcCidrBlock", &ask("10.4.0.0/25"));
    assert_eq!(made.one("cidrBlockAssociation/cidrBlockState/state"), "associating");
    bench.lab.wait(500);
    let (usual, own) = (bench.usual.clone(), bench.own.clone());
    for table in [usual, own] {
        assert!(bench.read(&table).contains(&"10.4.0.0/25 CreateRouteTable active".to_owned()));
    }
    bench.lab.call("AssociateVpcCidrBlock", &ask("10.5.0.0/16"));
    bench.lab.call("AssociateVpcCidrBlock", &ask("10.6.0.0/16"));
    assert_eq!(bench.lab.refusal("AssociateVpcCidrBlock", &ask("10.7.0.0/16")), "CidrLimitExceeded");
    let id = format!("AssociationId={}", made.one("cidrBlockAssociation/associationId"));
    bench.lab.call("DisassociateVpcCidrBlock", &id);
    bench.lab.wait(500);
    let gone = bench.lab.refusal("DisassociateVpcCidrBlock", &id);
    assert_eq!(gone, "InvalidVpcCidrBlockAssociationID.NotFound");
    let doc = bench.lab.call("DescribeVpcs", "");
    let ids = doc.all("vpcSet/item/cidrBlockAssociationSet/item/associationId");
    let primary = bench.lab.refusal("DisassociateVpcCidrBlock", &format!("AssociationId={}", ids[0]));
    assert_eq!(primary, "OperationNotPermitted");
}

#[test]
fn a_cidr_takes_its_time_to_come_and_to_go() {
    let mut bench = of(&TABLES.replace("detachMillis: 1000", "detachMillis: 1000, cidrMillis: 3000"));
    let vpc = bench.lab.ec2.state().vpc.to_string();
    let seen = |bench: &mut Bench| {
        let usual = bench.usual.clone();
        let is_local = bench.read(&usual).contains(&"10.5.0.0/16 CreateRouteTable active".to_owned());
        let vpcs = bench.lab.call("DescribeVpcs", "");
        let states = vpcs.all("vpcSet/item/cidrBlockAssociationSet/item/cidrBlockState/state");
        assert_eq!(bench.lab.ec2.state().vpc_cidrs.len(), if is_local { 3 } else { 2 });
        (is_local, states.get(2).cloned().unwrap_or_default())
    };
    let made = bench.lab.call("AssociateVpcCidrBlock", &format!("VpcId={vpc}&CidrBlock=10.5.0.0/16"));
    let id = format!("AssociationId={}", made.one("cidrBlockAssociation/associationId"));
    bench.lab.wait(2_999);
    assert_eq!(seen(&mut bench), (false, "associating".to_owned()));
    // For whoever writes, it counts already.
    assert_eq!(bench.create("10.5.1.0/25"), "InvalidParameterValue");
    assert_eq!(bench.lab.refusal("DisassociateVpcCidrBlock", &id), "IncorrectState");
    let by_state = "Filter.1.Name=cidr-block-association.state&Filter.1.Value.1=associating";
    assert_eq!(bench.lab.call("DescribeVpcs", by_state).all("vpcSet/item/vpcId"), [vpc]);
    bench.lab.wait(1);
    assert_eq!(seen(&mut bench), (true, "associated".to_owned()));
    bench.lab.call("DisassociateVpcCidrBlock", &id);
    bench.lab.wait(2_999);
    assert_eq!(seen(&mut bench), (true, "disassociating".to_owned()));
    assert_eq!(bench.lab.refusal("DisassociateVpcCidrBlock", &id), "IncorrectState");
    bench.lab.wait(1);
    assert_eq!(seen(&mut bench), (false, String::new()));
    assert_eq!(bench.create("10.5.1.0/25"), "");
}

#[test]
fn filters_find_tables_by_what_the_api_reference_says() {
    let mut bench = bench();
    let (usual, own) = (bench.usual.clone(), bench.own.clone());
    let doc = bench.lab.call("DescribeRouteTables", &format!("RouteTableId.1={own}"));
    let association = doc.one("routeTableSet/item/associationSet/item/routeTableAssociationId");
    let (subnet, instance) = (bench.lab.subnet("b"), bench.lab.instance("n1"));
    let internet = bench.lab.ec2.state().internet_gateway.to_string();
    bench.lab.call("AssociateRouteTable", &format!("RouteTableId={usual}&GatewayId={internet}"));
    bench.place("[{table: own, destination: 192.0.0.0/28, target: nat-0123456789abcdef0}]");
    for (name, value, found) in [
        ("association.subnet-id", subnet.as_str(), vec![&own]),
        ("association.main", "true", vec![&usual]),
        ("association.main", "false", vec![&usual, &own]),
        ("association.route-table-association-id", &association, vec![&own]),
        ("association.gateway-id", &internet, vec![&usual]),
        ("route-table-id", &usual, vec![&usual]),
        ("route-table-id", "rtb-*", vec![&usual, &own]),
        ("route.destination-cidr-block", "198.18.?.0/15", vec![&own]),
        ("route.destination-cidr-block", "198.18.0.0/16", vec![]),
        ("route.origin", "Advertisement", vec![&own]),
        ("route.state", "blackhole", vec![]),
        ("route.gateway-id", &internet, vec![&usual]),
        ("route.gateway-id", "vgw-*", vec![&own]),
        ("route.instance-id", &instance, vec![&own]),
        ("route.nat-gateway-id", "nat-0123456789abcdef0", vec![&own]),
        ("route.transit-gateway-id", "tgw-*", vec![&own]),
        ("route.vpc-peering-connection-id", "*", vec![]),
        ("route.destination-prefix-list-id", "*", vec![]),
        ("owner-id", "111122223333", vec![&usual, &own]),
        ("tag-key", "role", vec![&usual]),
        ("tag:role", "p?ds", vec![&usual]),
    ] {
        let filter = format!("Filter.1.Name={name}&Filter.1.Value.1={value}");
        let doc = bench.lab.call("DescribeRouteTables", &filter);
        let mut found: Vec<String> = found.into_iter().cloned().collect();
        found.sort_unstable();
        assert_eq!(doc.all("routeTableSet/item/routeTableId"), found, "{name}={value}");
    }
    for unknown in ["route.network-interface-id", "association.state", "tag:", "name"] {
        let filter = format!("Filter.1.Name={unknown}&Filter.1.Value.1=x");
        assert_eq!(bench.lab.refusal("DescribeRouteTables", &filter), "InvalidParameterValue", "{unknown}");
    }
    let many = |count: usize| {
        let values: String = (1..=count).map(|at| format!("&Filter.1.Value.{at}=rtb-{at}")).collect();
        format!("Filter.1.Name=route-table-id{values}")
    };
    bench.lab.call("DescribeRouteTables", &many(200));
    assert_eq!(bench.lab.refusal("DescribeRouteTables", &many(201)), "FilterLimitExceeded");
    for size in ["4", "101"] {
        let pages = format!("MaxResults={size}");
        assert_eq!(bench.lab.refusal("DescribeRouteTables", &pages), "InvalidParameterValue");
    }
    // Unlike for instances and ENIs, nothing says that ids and pages exclude each other.
    bench.lab.call("DescribeRouteTables", &format!("MaxResults=5&RouteTableId.1={own}"));
}

#[test]
fn tags_of_tables_come_and_go_and_find_them() {
    let mut bench = bench();
    let usual = bench.usual.clone();
    let by_role = "Filter.1.Name=tag:role&Filter.1.Value.1=pods";
    assert_eq!(bench.lab.call("DescribeRouteTables", by_role).one("routeTableSet/item/routeTableId"), usual);
    let tag = format!("ResourceId.1={usual}&Tag.1.Key=claim&Tag.1.Value=us");
    bench.lab.call("CreateTags", &tag);
    // Another value than the tag's takes nothing away.
    bench.lab.call("DeleteTags", &tag.replace("=us", "=them"));
    let tags = |bench: &Bench| {
        let tables = bench.lab.ec2.state().route_tables;
        tables.values().find(|table| table.main).unwrap().tags.clone()
    };
    assert_eq!(tags(&bench).len(), 2);
    bench.lab.call("DeleteTags", &format!("ResourceId.1={usual}&Tag.1.Key=claim"));
    assert_eq!(tags(&bench).into_keys().collect::<Vec<_>>(), ["role"]);
    let unknown = "ResourceId.1=rtb-0123456789abcdef0&Tag.1.Key=claim";
    assert_eq!(bench.lab.refusal("DeleteTags", unknown), "InvalidRouteTableID.NotFound");
}

#[test]
fn others_put_routes_into_tables_and_take_them_out() {
    let mut bench = bench();
    let usual = bench.usual.clone();
    bench.place("[{table: usual, destination: 10.4.0.0/25, target: n2, origin: propagated}]");
    bench.place("[{table: main, destination: 10.4.1.0/25, target: tgw-0123456789abcdef0}]");
    let routes = bench.read(&usual).split_off(3);
    assert_eq!(routes, ["10.4.1.0/25 CreateRoute active", "10.4.0.0/25 EnableVgwRoutePropagation active"]);
    bench.place("[{table: usual, destination: 10.4.0.0/25, target: none}]");
    assert_eq!(bench.read(&usual).len(), 4);
    let now = bench.lab.now;
    let wrong = "[{table: nowhere, destination: 10.4.2.0/25, target: n1}, {table: usual, destination: 10.4.2.0/25, target: n1}]";
    let mistakes = bench.lab.ec2.place_routes(now, wrong).unwrap_err();
    assert_eq!(mistakes[0].path, "routes[0].table");
    assert_eq!(bench.read(&usual).len(), 4, "then nothing has changed");
}

#[test]
fn a_repeated_token_gives_the_first_table() {
    let mut bench = bench();
    let ask = format!("VpcId={}&ClientToken=one", bench.lab.ec2.state().vpc);
    let [first, second] =
        [(), ()].map(|()| bench.lab.call("CreateRouteTable", &ask).one("routeTable/routeTableId"));
    assert_eq!(first, second);
}

#[test]
fn faults_strike_the_calls_of_routes_like_all_others() {
    let mut bench = bench();
    let faults =
        "[{kind: throttle, actions: [CreateRoute]}, {kind: lostReply, actions: [ReplaceRoute], calls: [1]}]";
    bench.lab.ec2.set_faults(bench.lab.now, faults).unwrap();
    let outcomes: Vec<String> = (0..60).map(|number| bench.create(&format!("10.4.{number}.0/25"))).collect();
    assert_eq!(outcomes.iter().filter(|code| code.is_empty()).count(), 50, "EC2's bucket");
    assert_eq!(outcomes[50], "RequestLimitExceeded");
    bench.lab.wait(1_000);
    let after: Vec<String> = (60..70).map(|number| bench.create(&format!("10.4.{number}.0/25"))).collect();
    assert_eq!(after.iter().filter(|code| code.is_empty()).count(), 5, "and what comes back each second");
    let (usual, other) = (bench.usual.clone(), bench.lab.primary_eni("n2"));
    let to = format!("RouteTableId={usual}&DestinationCidrBlock=10.4.0.0/25&NetworkInterfaceId={other}");
    let answer = bench.lab.ask("ReplaceRoute", &to);
    assert!(answer.body.is_empty(), "{}", answer.body);
    assert_eq!(bench.lab.ec2.record().last().unwrap().outcome, "OK", "it was performed all the same");
}

#[test]
fn a_thousand_routes_in_three_tables_are_written_and_read_in_seconds() {
    let mut bench = of(&format!("{TABLES}quotas: {{routesPerTable: 1000}}\n"));
    let vpc = bench.lab.ec2.state().vpc;
    let third = bench.lab.call("CreateRouteTable", &format!("VpcId={vpc}")).one("routeTable/routeTableId");
    let eni = bench.eni.clone();
    let begun = std::time::Instant::now();
    for table in [bench.usual.clone(), bench.own.clone(), third] {
        for number in 0..990 {
            let to = format!(
                "RouteTableId={table}&DestinationCidrBlock=100.64.{}.{}/32",
                number / 256,
                number % 256
            );
            bench.lab.call("CreateRoute", &format!("{to}&NetworkInterfaceId={eni}"));
        }
    }
    let wrote = begun.elapsed();
    for _ in 0..10 {
        let answer = bench.lab.ask("DescribeRouteTables", "MaxResults=100");
        assert!(answer.body.matches("<state>active</state>").count() > 3 * 990);
    }
    let read = begun.elapsed() - wrote;
    println!("2,970 routes written in {wrote:?}, read ten times in {read:?}");
    assert!(wrote.as_secs() < 30 && read.as_secs() < 30, "{wrote:?}, {read:?}");
}
