//! The fabric routes real packets by the route tables: to the ENI that a route names, by the table of the sender's subnet,
//! and only if that ENI takes what is not its own. `a1` and `a2` route by the main table, `b1` by one of its own.

use super::support::{
    THREE, World, call, datagram, enter, eventually, give, inside, is_lost, request, scenario, words,
};
use std::net::UdpSocket;
use std::time::Duration;

const POD: &str = "10.4.0.5";
const PODS: &str = "10.4.0.0/25";

struct Bench {
    world: World,
    main: String,
    own: String,
}

fn bench() -> Bench {
    let tables =
        "routeTables:\n- { name: usual, main: true }\n- { name: own, subnets: [b], internet: false }\n";
    let world = World::up(&(scenario(THREE) + tables));
    let state = world.inspect("state");
    let tables = state["route_tables"].as_object().unwrap();
    let of = |name: &str| tables.iter().find(|(_, table)| table["name"] == name).unwrap().0.clone();
    let (main, own) = (of("usual"), of("own"));
    give(&world, "a2", POD);
    Bench { world, main, own }
}

impl Bench {
    fn eni(&self, node: &str) -> String {
        let filter =
            [("Filter.1.Name", "private-ip-address"), ("Filter.1.Value.1", self.world.address(node))];
        self.world.must(node, "DescribeNetworkInterfaces", &filter, "networkInterfaceId")
    }

    fn route(&self, action: &str, table: &str, destination: &str, node: &str) {
        let (eni, to) = (self.eni(node), destination.replace('/', "%2F"));
        let route = [
            ("RouteTableId", table),
            ("DestinationCidrBlock", to.as_str()),
            ("NetworkInterfaceId", eni.as_str()),
        ];
        self.world.must(node, action, &route[..if action == "DeleteRoute" { 2 } else { 3 }], "return");
    }

    fn check(&self, node: &str, value: &str) {
        let eni = self.eni(node);
        let check = [("NetworkInterfaceId", eni.as_str()), ("SourceDestCheck.Value", value)];
        self.world.must(node, "ModifyNetworkInterfaceAttribute", &check, "return");
    }

    /// Who a pod's address on `to` saw, when `from` sent to it.
    fn to_pod(&self, from: &str, to: &str) -> Option<String> {
        let world = &self.world;
        datagram(world.netns(from), world.address(from), world.netns(to), POD)
    }

    /// Whether a pod's address on `to` gets nothing that `from` sends to it.
    fn cut_off(&self, from: &str, to: &str) -> bool {
        let world = &self.world;
        is_lost(world.netns(from), world.address(from), world.netns(to), POD)
    }
}

#[test]
#[ignore = "needs root"]
fn a_route_leads_to_its_eni_if_that_takes_what_is_not_its_own() {
    let bench = bench();
    let world = &bench.world;
    assert!(bench.cut_off("a1", "a2"), "no route yet");
    bench.route("CreateRoute", &bench.main, PODS, "a2");
    assert!(bench.cut_off("a1", "a2"));
    assert_eq!(world.dropped("check"), 1, "{}", world.inspect("drops"));
    bench.check("a2", "false");
    assert_eq!(bench.to_pod("a1", "a2").as_deref(), Some(world.address("a1")));
    // And back from the pod's address, which is not the ENI's either.
    let back = datagram(world.netns("a2"), POD, world.netns("a1"), world.address("a1"));
    assert_eq!(back.as_deref(), Some(POD));
    bench.check("a2", "true");
    assert!(bench.cut_off("a1", "a2"));
    assert!(is_lost(world.netns("a2"), POD, world.netns("a1"), world.address("a1")));
    assert_eq!((world.dropped("check"), world.dropped("source")), (2, 1));
}

#[test]
#[ignore = "needs root"]
fn each_subnet_routes_by_its_own_table() {
    let bench = bench();
    let world = &bench.world;
    bench.check("a2", "false");
    bench.route("CreateRoute", &bench.main, PODS, "a2");
    assert!(bench.to_pod("a1", "a2").is_some());
    assert!(bench.cut_off("b1", "a2"), "an uncovered table");
    assert_eq!(world.dropped("route"), 1, "{}", world.inspect("drops"));
    let internet = world.ready["internet"]["netns"].as_str().unwrap();
    assert!(is_lost(world.netns("b1"), world.address("b1"), internet, "203.0.113.10"));
    assert_eq!(world.dropped("route"), 2, "no route to the internet either");
    assert!(
        datagram(world.netns("b1"), world.address("b1"), world.netns("a1"), world.address("a1")).is_some()
    );
    bench.route("CreateRoute", &bench.own, PODS, "a2");
    assert!(bench.to_pod("b1", "a2").is_some());
    bench.route("DeleteRoute", &bench.own, PODS, "a2");
    assert!(bench.cut_off("b1", "a2"));
    // The subnet moves to the main table, and has all that it has.
    let filter = [("Filter.1.Name", "route-table-id"), ("Filter.1.Value.1", bench.own.as_str())];
    let id = world.must("b1", "DescribeRouteTables", &filter, "routeTableAssociationId");
    world.must("b1", "DisassociateRouteTable", &[("AssociationId", id.as_str())], "return");
    assert!(bench.to_pod("b1", "a2").is_some());
    assert!(datagram(world.netns("b1"), world.address("b1"), internet, "203.0.113.10").is_some());
}

#[test]
#[ignore = "needs root"]
fn replacing_a_route_moves_packets_without_a_gap() {
    let bench = bench();
    let world = &bench.world;
    bench.check("a2", "false");
    bench.check("b1", "false");
    bench.route("CreateRoute", &bench.main, PODS, "a2");
    give(world, "b1", POD);
    let receivers =
        ["a2", "b1"].map(|node| enter(world.netns(node), || UdpSocket::bind((POD, 7000)).unwrap()));
    let sender = enter(world.netns("a1"), || UdpSocket::bind((world.address("a1"), 0)).unwrap());
    for socket in &receivers {
        socket.set_nonblocking(true).unwrap();
    }
    // Read while more is sent: a socket that nobody reads holds a few hundred datagrams.
    let (mut sent, mut arrived) = (0, [0, 0]);
    let read = |arrived: &mut [u32; 2]| {
        for (socket, count) in receivers.iter().zip(arrived) {
            while socket.recv(&mut [0; 8]).is_ok() {
                *count += 1;
            }
        }
    };
    let mut send_until = |done: &dyn Fn(u32) -> bool| {
        let begin = sent;
        while !done(sent - begin) {
            sender.send_to(b"x", (POD, 7000)).unwrap();
            sent += 1;
            read(&mut arrived);
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let (endpoint, key) = (world.endpoint(), world.node("b1")["accessKeyId"].as_str().unwrap());
    let (eni, main) = (bench.eni("b1"), bench.main.as_str());
    send_until(&|sent| sent == 20);
    std::thread::scope(|scope| {
        let replaced = scope.spawn(|| {
            let route = [
                ("RouteTableId", main),
                ("DestinationCidrBlock", "10.4.0.0%2F25"),
                ("NetworkInterfaceId", eni.as_str()),
            ];
            let (status, body) = call(endpoint, key, "ReplaceRoute", &route);
            assert_eq!(status, 200, "{body}");
        });
        send_until(&|_| replaced.is_finished());
    });
    send_until(&|sent| sent == 20);
    eventually("the arrival of every datagram", || {
        read(&mut arrived);
        (arrived.iter().sum::<u32>() == sent).then_some(())
    });
    assert!(arrived.iter().all(|count| *count > 0), "{arrived:?}");
}

#[test]
#[ignore = "needs root"]
fn a_route_whose_eni_goes_is_a_blackhole_for_packets_too() {
    let bench = bench();
    let world = &bench.world;
    let subnet = world.inspect("state")["subnets"][0]["id"].as_str().unwrap().to_owned();
    let eni = world.must("a1", "CreateNetworkInterface", &[("SubnetId", &subnet)], "networkInterfaceId");
    let instance = world.node("a2")["instanceId"].as_str().unwrap();
    let attach = [("NetworkInterfaceId", eni.as_str()), ("InstanceId", instance), ("DeviceIndex", "1")];
    let attachment = world.must("a1", "AttachNetworkInterface", &attach, "attachmentId");
    eventually("the attachment", || {
        world.on("a2", &["ip", "link", "set", "eth1", "up"]).status.success().then_some(())
    });
    let off = [("NetworkInterfaceId", eni.as_str()), ("SourceDestCheck.Value", "false")];
    world.must("a1", "ModifyNetworkInterfaceAttribute", &off, "return");
    let main = bench.main.as_str();
    let route =
        [("RouteTableId", main), ("DestinationCidrBlock", "10.4.0.0%2F25"), ("NetworkInterfaceId", &eni)];
    world.must("a1", "CreateRoute", &route, "return");
    assert!(bench.to_pod("a1", "a2").is_some());
    let before = world.dropped("route");
    world.must("a1", "DetachNetworkInterface", &[("AttachmentId", &attachment)], "return");
    eventually("the blackhole", || {
        (bench.cut_off("a1", "a2") && world.dropped("route") > before).then_some(())
    });
    assert_eq!(
        world.must("a1", "DescribeRouteTables", &[("RouteTableId.1", main)], "networkInterfaceId"),
        eni
    );
    let state = world.inspect("state");
    let routes = state["route_tables"][main]["routes"].as_array().unwrap();
    assert!(
        routes.iter().any(|route| route["destination"] == PODS && route["state"] == "blackhole"),
        "{state}"
    );
}

#[test]
#[ignore = "needs root"]
fn the_internet_never_sees_a_pods_address_and_reaches_none() {
    let bench = bench();
    let world = &bench.world;
    bench.check("a2", "false");
    bench.route("CreateRoute", &bench.main, PODS, "a2");
    let internet = world.ready["internet"]["netns"].as_str().unwrap();
    assert!(is_lost(world.netns("a2"), POD, internet, "203.0.113.10"));
    assert_eq!(world.dropped("internet"), 1);
    // Not even if it knew a way to the VPC.
    let way = ["ip", "route", "add", PODS, "via", "10.0.0.1", "dev", "eth0", "onlink"];
    let added = inside(internet, &way);
    assert!(added.status.success(), "{}", words(&added));
    assert!(is_lost(internet, "203.0.113.10", world.netns("a2"), POD));
}

#[test]
#[ignore = "needs root"]
fn what_others_put_into_a_table_and_a_secondary_cidr_change_the_way_of_packets() {
    let bench = bench();
    let world = &bench.world;
    bench.check("a2", "false");
    bench.route("CreateRoute", &bench.main, PODS, "a2");
    let place = |text: &str| {
        let (status, _, body) = request(world.endpoint(), "POST", "/_vpcsim/routes", &[], text);
        assert_eq!(status, 200, "{body}");
    };
    // More specific, and out of this world.
    place("[{table: main, destination: 10.4.0.4/31, target: vgw-0123456789abcdef0, origin: propagated}]");
    assert!(bench.cut_off("a1", "a2"));
    assert_eq!(world.dropped("route"), 1);
    place("[{table: main, destination: 10.4.0.4/31, target: none}]");
    assert!(bench.to_pod("a1", "a2").is_some());
    // Of several words on one destination the last one counts.
    place(
        "[{table: main, destination: 10.4.0.4/31, target: vgw-0123456789abcdef0}, \
          {table: main, destination: 10.4.0.4/31, target: none}]",
    );
    assert!(bench.to_pod("a1", "a2").is_some());
    // A CIDR inside the route takes its addresses away from it: they are the VPC's, and nobody has them.
    let state = world.inspect("state");
    let cidr = [("VpcId", state["vpc"].as_str().unwrap()), ("CidrBlock", "10.4.0.0%2F26")];
    let id = world.must("a1", "AssociateVpcCidrBlock", &cidr, "associationId");
    eventually("the range", || bench.cut_off("a1", "a2").then_some(()));
    assert_eq!(world.dropped("destination"), 1);
    world.must("a1", "DisassociateVpcCidrBlock", &[("AssociationId", &id)], "associationId");
    eventually("the route's way again", || (!bench.cut_off("a1", "a2")).then_some(()));
    let rules = words(&inside(world.ready["fabricNetns"].as_str().unwrap(), &["ip", "rule"]));
    assert_eq!(rules.matches("fwmark").count(), 2, "one rule per table: {rules}");
}

#[test]
#[ignore = "needs root"]
fn a_route_costs_the_same_however_many_there_are() {
    let tables = "quotas: { routesPerTable: 1000 }\nrouteTables:\n\
         - { name: usual, main: true }\n- { name: own, subnets: [b] }\n- { name: third }\n";
    let world = World::up(&(scenario(THREE) + tables));
    let state = world.inspect("state");
    let tables: Vec<&String> = state["route_tables"].as_object().unwrap().keys().collect();
    let bench = Bench { main: tables[0].clone(), own: tables[1].clone(), world };
    let world = &bench.world;
    let enis = ["a1", "a2", "b1"].map(|node| bench.eni(node));
    // One of them takes only what is its own.
    bench.check("a2", "false");
    bench.check("b1", "false");
    let write = |number: usize| {
        let to = format!("100.{}.{}.0%2F25", 64 + number / 256, number % 256);
        for table in &tables {
            let route = [
                ("RouteTableId", table.as_str()),
                ("DestinationCidrBlock", &to),
                ("NetworkInterfaceId", &enis[number % 3]),
            ];
            world.must("a1", "CreateRoute", &route, "return");
        }
    };
    // In processor time, and the best of several hundreds: what others do on this machine is not our cost.
    let hundreds: Vec<Duration> = (0..9)
        .map(|hundred| {
            let begun = world.processor_time();
            (0..110).for_each(|number| write(hundred * 110 + number));
            (world.processor_time() - begun) / 330
        })
        .collect();
    println!("a call, by hundreds of routes in each of three tables: {hundreds:?}");
    let best = |of: &[Duration]| of.iter().min().copied().unwrap();
    assert!(best(&hundreds[6..]) < 2 * best(&hundreds[..3]), "{hundreds:?}");
    let fabric = world.ready["fabricNetns"].as_str().unwrap();
    let routes = words(&inside(fabric, &["ip", "-4", "route", "show", "table", "all"]));
    assert_eq!(routes.lines().filter(|line| line.starts_with("100.")).count(), 2_970);
}
