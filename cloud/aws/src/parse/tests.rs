//! Good answers become domain types, and each kind of nonsense is refused by the name of its field.

use super::*;
use aws_sdk_ec2::types::builders::RouteBuilder;
use aws_sdk_ec2::types::{
    AttachmentStatus, GroupIdentifier, Instance as SdkInstance, InstanceState, InstanceStateName,
    InstanceTypeHypervisor, InstanceTypeInfo, Ipv4PrefixSpecification, NetworkCardInfo, NetworkInfo,
    NetworkInterface, NetworkInterfaceAttachment, NetworkInterfacePrivateIpAddress, NetworkInterfaceStatus,
    Subnet as SdkSubnet, Tag, Vpc as SdkVpc, VpcCidrBlockAssociation, VpcCidrBlockState,
    VpcCidrBlockStateCode,
};
use aws_sdk_ec2::types::{
    Route as SdkRoute, RouteOrigin as SdkOrigin, RouteState as SdkState, RouteTable as SdkTable,
    RouteTableAssociation, RouteTableAssociationState, RouteTableAssociationStateCode as Code,
};
use spur_cloud::{
    Api, Association, CloudError, Destination, ErrorClass, RouteOrigin, RouteState, RouteTarget,
};
use std::collections::BTreeSet;

const ANSWER: Answer = Answer::of(Api::DescribeNetworkInterfaces);

fn address(text: &str, primary: bool) -> NetworkInterfacePrivateIpAddress {
    NetworkInterfacePrivateIpAddress::builder().private_ip_address(text).primary(primary).build()
}

fn prefix(text: &str) -> Ipv4PrefixSpecification {
    Ipv4PrefixSpecification::builder().ipv4_prefix(text).build()
}

fn good() -> NetworkInterface {
    let attachment = NetworkInterfaceAttachment::builder()
        .attachment_id("eni-attach-1")
        .instance_id("i-1")
        .device_index(1)
        .status(AttachmentStatus::Attached)
        .delete_on_termination(true);
    NetworkInterface::builder()
        .network_interface_id("eni-1")
        .mac_address("0a:00:00:00:00:01")
        .subnet_id("subnet-1")
        .vpc_id("vpc-1")
        .availability_zone("eu-central-1a")
        .groups(GroupIdentifier::builder().group_id("sg-1").build())
        .private_ip_address("10.0.0.4")
        .private_ip_addresses(address("10.0.0.4", true))
        .private_ip_addresses(address("10.0.0.5", false))
        .ipv4_prefixes(prefix("10.0.0.32/28"))
        .status(NetworkInterfaceStatus::InUse)
        .attachment(attachment.build())
        .source_dest_check(true)
        .description("pods")
        .tag_set(Tag::builder().key("k").value("v").build())
        .build()
}

/// The message without what all messages share.
fn complaint<T>(result: Result<T, CloudError>) -> String {
    let error = result.err().expect("nonsense is refused");
    assert_eq!(error.class(), ErrorClass::Bug);
    error.message.strip_prefix("EC2's answer makes no sense: ").expect("it says whose fault it is").to_owned()
}

#[test]
fn an_eni_is_read_whole() {
    let eni = eni(&ANSWER, &good()).unwrap();
    assert_eq!(eni.id.as_str(), "eni-1");
    assert_eq!(eni.primary.to_string(), "10.0.0.4");
    assert_eq!(eni.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.5"]);
    assert_eq!(eni.prefixes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.32/28"]);
    assert_eq!(eni.tags["k"], "v");
    let attachment = eni.attachment.unwrap();
    assert_eq!((attachment.device_index.0, attachment.card.0), (1, 0));
    assert!(attachment.delete_on_termination);
}

#[test]
fn each_nonsense_about_an_eni_names_its_field_and_what_would_be_right() {
    type Spoil = fn(&mut NetworkInterface);
    let rows: [(Spoil, &str); 12] = [
        (|eni| eni.network_interface_id = None, "networkInterfaceId is missing"),
        (
            |eni| eni.mac_address = Some("02:00:00:17702x:00:01".to_owned()),
            "eni-1: macAddress \"02:00:00:17702x:00:01\" is no MAC address: \
             expected six pairs of hexadecimal digits joined by ':'",
        ),
        (
            |eni| eni.subnet_id = Some("vpc-1".to_owned()),
            "eni-1: subnetId \"vpc-1\" is no subnet id: expected subnet- and lower-case letters or digits",
        ),
        (|eni| eni.private_ip_address = None, "eni-1: privateIpAddress is missing"),
        (
            |eni| eni.private_ip_address = Some("fd00::1".to_owned()),
            "eni-1: privateIpAddress is \"fd00::1\", expected an IPv4 address",
        ),
        (
            |eni| eni.private_ip_address = Some("10.0.0.6".to_owned()),
            "eni-1: privateIpAddressesSet does not mark 10.0.0.6, the ENI's privateIpAddress, as primary",
        ),
        (
            |eni| eni.private_ip_addresses = None,
            "eni-1: privateIpAddressesSet has 0 primary addresses, expected one",
        ),
        (
            |eni| eni.private_ip_addresses.as_mut().unwrap().push(address("10.0.0.5", false)),
            "eni-1: privateIpAddressesSet has 10.0.0.5 twice, expected each address once",
        ),
        (
            |eni| eni.ipv4_prefixes = Some(vec![prefix("10.0.0.32/27")]),
            "eni-1: ipv4PrefixSet.ipv4Prefix is 10.0.0.32/27, expected a /28",
        ),
        (
            |eni| eni.ipv4_prefixes = Some(vec![prefix("10.0.0.33/28")]),
            "eni-1: ipv4PrefixSet.ipv4Prefix is \"10.0.0.33/28\", expected an IPv4 CIDR without host bits",
        ),
        (
            |eni| eni.status = Some("gone".into()),
            "eni-1: status is \"gone\", expected pending, available, attaching, in-use or detaching",
        ),
        (
            |eni| eni.attachment.as_mut().unwrap().device_index = Some(-1),
            "eni-1: attachment.deviceIndex is -1, expected 0 or more",
        ),
    ];
    for (spoil, expected) in rows {
        let mut spoiled = good();
        spoil(&mut spoiled);
        assert_eq!(complaint(eni(&ANSWER, &spoiled)), expected);
    }
}

fn good_subnet(free: i32) -> SdkSubnet {
    SdkSubnet::builder()
        .subnet_id("subnet-1")
        .vpc_id("vpc-1")
        .availability_zone("eu-central-1a")
        .cidr_block("10.0.0.0/28")
        .available_ip_address_count(free)
        .build()
}

#[test]
fn a_subnet_has_as_many_free_addresses_as_can_be() {
    assert_eq!(subnet(&ANSWER, &good_subnet(11)).unwrap().free_addresses, 11);
    assert_eq!(
        complaint(subnet(&ANSWER, &good_subnet(-2))),
        "subnet-1: availableIpAddressCount is -2, expected 0 or more"
    );
    assert_eq!(
        complaint(subnet(&ANSWER, &good_subnet(17))),
        "subnet-1: availableIpAddressCount is 17, but 10.0.0.0/28 has only 16 addresses"
    );
}

#[test]
fn a_vpc_has_its_primary_cidr_first_and_no_cidr_that_is_no_longer_associated() {
    let association = |cidr: &str, state| {
        let state = VpcCidrBlockState::builder().state(state).build();
        VpcCidrBlockAssociation::builder().cidr_block(cidr).cidr_block_state(state).build()
    };
    let from = SdkVpc::builder()
        .vpc_id("vpc-1")
        .cidr_block("10.1.0.0/16")
        .cidr_block_association_set(association("10.0.0.0/16", VpcCidrBlockStateCode::Associated))
        .cidr_block_association_set(association("10.1.0.0/16", VpcCidrBlockStateCode::Associated))
        .cidr_block_association_set(association("10.2.0.0/16", VpcCidrBlockStateCode::Disassociated))
        .build();
    let cidrs: Vec<String> = vpc(&ANSWER, &from).unwrap().cidrs.iter().map(ToString::to_string).collect();
    assert_eq!(cidrs, ["10.1.0.0/16", "10.0.0.0/16"]);
}

#[test]
fn a_terminated_instance_counts_as_not_found() {
    let state = InstanceState::builder().name(InstanceStateName::Terminated).build();
    let from = SdkInstance::builder().instance_id("i-1").state(state).build();
    assert_eq!(instance(&ANSWER, &from).unwrap_err().class(), ErrorClass::NotFound);
    let without = SdkInstance::builder().instance_id("i-1").build();
    assert_eq!(complaint(instance(&ANSWER, &without)), "i-1: instanceType is missing");
}

fn good_type(enis: i32, default_card: i32) -> InstanceTypeInfo {
    let card =
        |index| NetworkCardInfo::builder().network_card_index(index).maximum_network_interfaces(15).build();
    let network = NetworkInfo::builder()
        .maximum_network_interfaces(enis)
        .ipv4_addresses_per_interface(50)
        .default_network_card_index(default_card)
        .network_cards(card(0))
        .network_cards(card(1));
    InstanceTypeInfo::builder()
        .instance_type("p4d.24xlarge".into())
        .bare_metal(false)
        .hypervisor(InstanceTypeHypervisor::Nitro)
        .network_info(network.build())
        .build()
}

#[test]
fn an_instance_type_has_limits_that_agree() {
    let (name, limits) = limits(&ANSWER, &good_type(30, 0)).unwrap();
    assert_eq!(name.as_str(), "p4d.24xlarge");
    assert_eq!((limits.enis(), limits.ipv4_per_eni(), limits.cards().len()), (30, 50, 2));
    assert!(limits.prefix_delegation());
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    assert_eq!(
        complaint(limits(&ANSWER, &good_type(0, 0))),
        "p4d.24xlarge: networkInfo maximum number of ENIs is 0, but every instance has at least one"
    );
    assert_eq!(
        complaint(limits(&ANSWER, &good_type(30, 7))),
        "p4d.24xlarge: networkInfo default network card 7 is not among the cards"
    );
}

fn sdk_route(destination: &str) -> RouteBuilder {
    SdkRoute::builder()
        .destination_cidr_block(destination)
        .origin(SdkOrigin::CreateRoute)
        .state(SdkState::Active)
}

fn table_of(route: SdkRoute) -> SdkTable {
    SdkTable::builder().route_table_id("rtb-1").vpc_id("vpc-1").routes(route).build()
}

#[test]
fn a_route_table_is_read_with_what_is_in_force() {
    let state = |code: Code| RouteTableAssociationState::builder().state(code).build();
    let of_subnet = |subnet: &str, code: Code| {
        RouteTableAssociation::builder().subnet_id(subnet).main(false).association_state(state(code)).build()
    };
    let from = SdkTable::builder()
        .route_table_id("rtb-1")
        .vpc_id("vpc-1")
        .associations(RouteTableAssociation::builder().main(true).build())
        .associations(of_subnet("subnet-1", Code::Associated))
        .associations(of_subnet("subnet-2", Code::Disassociated))
        .associations(RouteTableAssociation::builder().gateway_id("igw-1").build())
        .routes(sdk_route("10.0.0.0/16").gateway_id("local").origin(SdkOrigin::CreateRouteTable).build())
        .routes(sdk_route("10.4.0.0/25").network_interface_id("eni-1").instance_id("i-1").build())
        .tags(Tag::builder().key("k").value("v").build())
        .build();
    let table = route_table(&ANSWER, &from).unwrap();
    assert_eq!(
        table.associations,
        BTreeSet::from([
            Association::Main,
            Association::Subnet("subnet-1".parse().unwrap()),
            Association::Gateway("igw-1".to_owned()),
        ])
    );
    assert!(table.is_main() && table.is_edge());
    assert_eq!(table.routes[0].target, RouteTarget::Local);
    let ours = table.route("10.4.0.0/25".parse().unwrap()).unwrap();
    assert_eq!(ours.target, RouteTarget::Eni("eni-1".parse().unwrap()), "not the instance beside it");
    assert_eq!((&ours.origin, &ours.state), (&RouteOrigin::CreateRoute, &RouteState::Active));
}

#[test]
fn what_ec2_may_add_later_leaves_a_table_readable() {
    let strange =
        sdk_route("10.4.0.0/25").origin(SdkOrigin::from("Dream")).state(SdkState::from("lost")).build();
    let table = route_table(&ANSWER, &table_of(strange)).unwrap();
    assert_eq!(table.routes[0].origin, RouteOrigin::Other("Dream".to_owned()));
    assert_eq!(table.routes[0].state, RouteState::Other("lost".to_owned()));
    assert_eq!(table.routes[0].target, RouteTarget::Other(String::new()));
    let list = SdkRoute::builder().destination_prefix_list_id("pl-1").gateway_id("vpce-1");
    let list = list.origin(SdkOrigin::CreateRoute).state(SdkState::Blackhole).build();
    let table = route_table(&ANSWER, &table_of(list)).unwrap();
    assert_eq!(table.routes[0].destination, Destination::PrefixList("pl-1".to_owned()));
    assert_eq!(table.routes[0].target, RouteTarget::Other("vpce-1".to_owned()));
    assert_eq!(table.routes[0].state, RouteState::Blackhole);
}

#[test]
fn nonsense_in_a_route_table_is_refused_by_the_name_of_its_field() {
    let host_bits = route_table(&ANSWER, &table_of(sdk_route("10.4.0.1/25").build()));
    assert_eq!(
        complaint(host_bits),
        "rtb-1: routeSet.destinationCidrBlock is \"10.4.0.1/25\", expected a CIDR without host bits"
    );
    let nowhere = SdkRoute::builder().origin(SdkOrigin::CreateRoute).state(SdkState::Active).build();
    assert_eq!(
        complaint(route_table(&ANSWER, &table_of(nowhere))),
        "rtb-1: routeSet.destinationCidrBlock is missing"
    );
    let no_eni = sdk_route("10.4.0.0/25").network_interface_id("subnet-1").build();
    assert!(complaint(route_table(&ANSWER, &table_of(no_eni))).contains("routeSet.networkInterfaceId"));
    let nobody = RouteTableAssociation::builder().main(false).build();
    let nobody = SdkTable::builder().route_table_id("rtb-1").vpc_id("vpc-1").associations(nobody).build();
    assert_eq!(
        complaint(route_table(&ANSWER, &nobody)),
        "rtb-1: associationSet has one without subnet, gateway or main"
    );
}
