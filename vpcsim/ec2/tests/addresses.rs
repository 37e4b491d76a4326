//! Addresses and prefixes: limits per ENI, free space per subnet, moving from one ENI to another, all or nothing. These are
//! the rules that an address pool is built on and that other emulators leave out, so each has a test of its own. A refused
//! call is compared with the world before it, whole.

mod common;

use common::Lab;
use vpcsim_ec2::Happening;

#[test]
fn assigned_addresses_are_free_ones_of_the_subnet_and_the_fabric_hears_of_them() {
    let mut lab = Lab::new();
    let (eni, free) = (lab.primary_eni("n1"), lab.free("a"));
    let got = lab.call(
        "AssignPrivateIpAddresses",
        &format!("NetworkInterfaceId={eni}&SecondaryPrivateIpAddressCount=9"),
    );
    let got = got.all("assignedPrivateIpAddressesSet/item/privateIpAddress");
    assert_eq!((got.len(), lab.free("a")), (9, free - 9));
    let happenings = lab.wait(0);
    let [Happening::EniChanged { eni: changed }] = happenings.as_slice() else { panic!("{happenings:?}") };
    assert_eq!(changed.secondary.iter().map(ToString::to_string).collect::<Vec<_>>(), got);
    // m5.large: ten per ENI, the primary one included.
    let one_more = format!("NetworkInterfaceId={eni}&SecondaryPrivateIpAddressCount=1");
    assert_eq!(lab.refusal("AssignPrivateIpAddresses", &one_more), "PrivateIpAddressLimitExceeded");
    lab.call(
        "UnassignPrivateIpAddresses",
        &format!("NetworkInterfaceId={eni}&PrivateIpAddress.1={}", got[0]),
    );
    assert_eq!(lab.free("a"), free - 8);
    lab.call("AssignPrivateIpAddresses", &one_more);
}

#[test]
fn a_full_subnet_gives_nothing_rather_than_a_part() {
    let mut lab = Lab::new();
    assert_eq!(lab.free("tiny"), 11);
    let eni = lab.create("tiny", "SecondaryPrivateIpAddressCount=8");
    assert_eq!(lab.free("tiny"), 2);
    let assign = |count| format!("NetworkInterfaceId={eni}&SecondaryPrivateIpAddressCount={count}");
    assert_eq!(lab.refusal("AssignPrivateIpAddresses", &assign(3)), "InsufficientFreeAddressesInSubnet");
    assert_eq!(lab.free("tiny"), 2);
    let create = format!("SubnetId={}&SecondaryPrivateIpAddressCount=2", lab.subnet("tiny"));
    assert_eq!(lab.refusal("CreateNetworkInterface", &create), "InsufficientFreeAddressesInSubnet");
    assert_eq!(lab.free("tiny"), 2);
    lab.call("AssignPrivateIpAddresses", &assign(2));
    assert_eq!(lab.free("tiny"), 0);
}

#[test]
fn named_addresses_must_be_the_subnets_own_free_and_not_reserved() {
    let mut lab = Lab::new();
    let eni = lab.primary_eni("n1");
    let mut refusal = |address: &str| {
        lab.refusal(
            "AssignPrivateIpAddresses",
            &format!("NetworkInterfaceId={eni}&PrivateIpAddress.1={address}"),
        )
    };
    for (address, why) in [
        ("10.0.0.1", "the router's"),
        ("10.0.0.255", "broadcast"),
        ("10.0.1.9", "another subnet's"),
        ("10.0.0.300", "no address"),
        ("fd00::1", "the other family's"),
    ] {
        assert_eq!(refusal(address), "InvalidParameterValue", "{why}");
    }
    let taken =
        format!("SubnetId={}&PrivateIpAddress={}", lab.subnet("a"), lab.ec2.eni(&eni).unwrap().primary);
    assert_eq!(lab.refusal("CreateNetworkInterface", &taken), "InvalidIPAddress.InUse");
}

#[test]
fn an_address_moves_only_when_the_caller_allows_it_and_never_a_primary_one() {
    let mut lab = Lab::new();
    let (from, to) = (lab.create("a", "SecondaryPrivateIpAddressCount=1"), lab.create("a", ""));
    let address = lab.ec2.eni(&from).unwrap().secondary[0];
    lab.wait(0);
    let take = format!("NetworkInterfaceId={to}&PrivateIpAddress.1={address}");
    assert_eq!(lab.refusal("AssignPrivateIpAddresses", &take), "InvalidParameterValue");
    let free = lab.free("a");
    lab.call("AssignPrivateIpAddresses", &format!("{take}&AllowReassignment=true"));
    assert_eq!(lab.free("a"), free);
    assert!(lab.ec2.eni(&from).unwrap().secondary.is_empty());
    assert_eq!(lab.ec2.eni(&to).unwrap().secondary, [address]);
    let changed: Vec<_> = lab
        .wait(0)
        .into_iter()
        .map(|happening| match happening {
            Happening::EniChanged { eni } => eni.id.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(changed, [from.clone(), to.clone()]);
    let primary = lab.ec2.eni(&from).unwrap().primary;
    let take = format!("NetworkInterfaceId={to}&PrivateIpAddress.1={primary}&AllowReassignment=true");
    assert_eq!(lab.refusal("AssignPrivateIpAddresses", &take), "InvalidParameterValue");
}

#[test]
fn a_failed_move_leaves_every_address_where_it_was() {
    let mut lab = Lab::new();
    let (from, to) = (lab.create("a", "SecondaryPrivateIpAddressCount=1"), lab.create("a", ""));
    let address = lab.ec2.eni(&from).unwrap().secondary[0];
    let before = lab.ec2.state();
    let both = format!(
        "NetworkInterfaceId={to}&PrivateIpAddress.1={address}&PrivateIpAddress.2=10.0.0.1&AllowReassignment=true"
    );
    assert_eq!(lab.refusal("AssignPrivateIpAddresses", &both), "InvalidParameterValue");
    assert_eq!(lab.ec2.state(), before);
}

#[test]
fn assigning_an_address_again_is_no_error_and_no_change() {
    let mut lab = Lab::new();
    let eni = lab.create("a", "SecondaryPrivateIpAddressCount=1");
    let address = lab.ec2.eni(&eni).unwrap().secondary[0].to_string();
    let before = lab.ec2.state();
    let again = lab
        .call("AssignPrivateIpAddresses", &format!("NetworkInterfaceId={eni}&PrivateIpAddress.1={address}"));
    assert_eq!(again.all("assignedPrivateIpAddressesSet/item/privateIpAddress"), [address]);
    assert_eq!(lab.ec2.state(), before);
}

#[test]
fn what_the_eni_does_not_have_cannot_be_taken_away() {
    let mut lab = Lab::new();
    let eni = lab.create("a", "SecondaryPrivateIpAddressCount=1");
    let (primary, secondary) = (lab.ec2.eni(&eni).unwrap().primary, lab.ec2.eni(&eni).unwrap().secondary[0]);
    let before = lab.ec2.state();
    for parameters in [
        format!("PrivateIpAddress.1={primary}"),
        format!("PrivateIpAddress.1={secondary}&PrivateIpAddress.2=10.0.0.77"),
        "Ipv4Prefix.1=10.0.0.16/28".to_owned(),
    ] {
        let all = format!("NetworkInterfaceId={eni}&{parameters}");
        assert_eq!(lab.refusal("UnassignPrivateIpAddresses", &all), "InvalidParameterValue", "{parameters}");
    }
    assert_eq!(lab.ec2.state(), before);
}

#[test]
fn a_prefix_takes_one_place_of_the_eni_and_sixteen_addresses_of_the_subnet() {
    let mut lab = Lab::new();
    let (eni, free) = (lab.primary_eni("n1"), lab.free("a"));
    let assign = |count| format!("NetworkInterfaceId={eni}&Ipv4PrefixCount={count}");
    let got = lab.call("AssignPrivateIpAddresses", &assign(9)).all("assignedIpv4PrefixSet/item/ipv4Prefix");
    assert_eq!((got.len(), lab.free("a")), (9, free - 9 * 16));
    assert_eq!(lab.refusal("AssignPrivateIpAddresses", &assign(1)), "PrivateIpAddressLimitExceeded");
    let view = lab.ec2.eni(&eni).unwrap();
    assert!(view.owns(view.prefixes[0].broadcast()));
    lab.call("UnassignPrivateIpAddresses", &format!("NetworkInterfaceId={eni}&Ipv4Prefix.1={}", got[0]));
    assert_eq!(lab.free("a"), free - 8 * 16);
}

#[test]
fn a_subnet_can_have_free_addresses_and_no_free_prefix() {
    let mut lab = Lab::new();
    let create = format!("SubnetId={}&Ipv4PrefixCount=1", lab.subnet("tiny"));
    assert_eq!(lab.refusal("CreateNetworkInterface", &create), "InsufficientCidrBlocks");
    assert_eq!(lab.free("tiny"), 11);
}

#[test]
fn instances_that_are_not_nitro_get_no_prefixes() {
    let mut lab = Lab::new();
    let assign = format!("NetworkInterfaceId={}&Ipv4PrefixCount=1", lab.primary_eni("old"));
    assert_eq!(lab.refusal("AssignPrivateIpAddresses", &assign), "UnsupportedOperation");
}
