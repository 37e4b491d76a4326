//! The life of an ENI as EC2 tells it: made, attached some time after the call, changed, detached, deleted; who may do
//! what in which state; what the fabric hears about it.
//!
//! Time is chosen by each test, so nothing here waits.

mod common;

use common::{Lab, START};
use vpcsim_ec2::{Caller, Ec2, Happening, Scenario};

#[test]
fn primary_enis_arrive_with_the_first_look() {
    let mut ec2 = Ec2::new(&Scenario::parse(common::WORLD).unwrap(), START);
    assert_eq!(ec2.next_event(), Some(START));
    let happenings = ec2.advance(START);
    let nodes: Vec<_> = happenings
        .iter()
        .map(|happening| match happening {
            Happening::EniArrived { eni } => {
                let place = eni.attachment.as_ref().unwrap();
                (place.node.clone(), place.device_index, place.status)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let expected: Vec<_> = ["n1", "n2", "old", "cards"].map(|node| (node.to_owned(), 0, "attached")).into();
    assert_eq!(nodes, expected);
    assert_eq!(ec2.next_event(), None);
}

#[test]
fn the_same_scenario_has_the_same_ids_and_addresses() {
    let (mut one, mut two) = (Lab::new(), Lab::new());
    one.call("DescribeSubnets", "");
    one.create("a", "SecondaryPrivateIpAddressCount=3");
    two.create("a", "SecondaryPrivateIpAddressCount=3");
    assert_eq!(one.ec2.state(), two.ec2.state());
    let other = Lab::of(&common::WORLD.replace("seed: 7", "seed: 8"));
    assert_ne!(other.primary_eni("n1"), one.primary_eni("n1"));
}

#[test]
fn an_attachment_lands_after_its_delay_and_says_so_once() {
    let mut lab = Lab::new();
    let eni = lab.create("a", "SecondaryPrivateIpAddressCount=2");
    let attachment = lab.attach(&eni, "n1", 1);
    let seen = lab.call("DescribeNetworkInterfaces", &format!("NetworkInterfaceId.1={eni}"));
    assert_eq!(seen.one("networkInterfaceSet/item/attachment/status"), "attaching");
    assert_eq!(seen.one("networkInterfaceSet/item/status"), "in-use");
    assert!(lab.wait(999).is_empty());
    assert_eq!(lab.ec2.next_event(), Some(START.after(std::time::Duration::from_millis(1000))));
    let happenings = lab.wait(1);
    let [Happening::EniArrived { eni: arrived }] = happenings.as_slice() else { panic!("{happenings:?}") };
    assert_eq!((arrived.id.as_str(), arrived.secondary.len()), (eni.as_str(), 2));
    assert!(lab.wait(10_000).is_empty());

    lab.call("DetachNetworkInterface", &format!("AttachmentId={attachment}"));
    assert_eq!(
        lab.refusal("DetachNetworkInterface", &format!("AttachmentId={attachment}")),
        "IncorrectState"
    );
    assert_eq!(
        lab.refusal("DeleteNetworkInterface", &format!("NetworkInterfaceId={eni}")),
        "InvalidParameterValue"
    );
    let happenings = lab.wait(2_000);
    assert!(
        matches!(happenings.as_slice(), [Happening::EniLeft { node, device_index: 1, .. }] if node == "n1")
    );
    assert_eq!(
        lab.refusal("DetachNetworkInterface", &format!("AttachmentId={attachment}")),
        "InvalidAttachmentID.NotFound"
    );
    let free = lab.free("a");
    lab.call("DeleteNetworkInterface", &format!("NetworkInterfaceId={eni}"));
    assert_eq!(lab.free("a"), free + 3);
    assert_eq!(
        lab.refusal("DeleteNetworkInterface", &format!("NetworkInterfaceId={eni}")),
        "InvalidNetworkInterfaceID.NotFound"
    );
}

#[test]
fn an_attachment_forced_off_before_it_landed_never_arrives() {
    let mut lab = Lab::new();
    let eni = lab.create("a", "");
    let attachment = lab.attach(&eni, "n1", 1);
    assert_eq!(
        lab.refusal("DetachNetworkInterface", &format!("AttachmentId={attachment}")),
        "IncorrectState"
    );
    lab.call("DetachNetworkInterface", &format!("AttachmentId={attachment}&Force=true"));
    assert!(lab.wait(60_000).is_empty());
    assert_eq!(lab.ec2.eni(&eni).unwrap().status, "available");
}

#[test]
fn the_primary_eni_stays() {
    let mut lab = Lab::new();
    let eni = lab.primary_eni("n1");
    let seen = lab.call("DescribeNetworkInterfaces", &format!("NetworkInterfaceId.1={eni}"));
    let attachment = seen.one("networkInterfaceSet/item/attachment/attachmentId");
    assert_eq!(
        lab.refusal("DetachNetworkInterface", &format!("AttachmentId={attachment}")),
        "OperationNotPermitted"
    );
}

#[test]
fn an_instance_has_as_many_enis_as_its_type_may_have() {
    let mut lab = Lab::new();
    for index in 1..3 {
        let eni = lab.create("a", "");
        lab.attach(&eni, "n1", index);
    }
    let (eni, instance) = (lab.create("a", ""), lab.instance("n1"));
    let attach = |index| format!("NetworkInterfaceId={eni}&InstanceId={instance}&DeviceIndex={index}");
    // The ones still on their way count: otherwise two fast calls would both succeed.
    assert_eq!(lab.refusal("AttachNetworkInterface", &attach(3)), "AttachmentLimitExceeded");
    assert_eq!(lab.refusal("AttachNetworkInterface", &attach(2)), "InvalidParameterValue");
}

#[test]
fn each_network_card_has_its_own_quota_and_its_own_indexes() {
    let mut lab = Lab::new();
    let instance = lab.instance("cards");
    let attach = |lab: &mut Lab, index: u32, card: u32| {
        let eni = lab.create("a", "");
        format!("NetworkInterfaceId={eni}&InstanceId={instance}&DeviceIndex={index}&NetworkCardIndex={card}")
    };
    for index in 0..8 {
        let on_second = attach(&mut lab, index, 1);
        assert_eq!(lab.call("AttachNetworkInterface", &on_second).one("networkCardIndex"), "1");
    }
    let ninth = attach(&mut lab, 8, 1);
    assert_eq!(lab.refusal("AttachNetworkInterface", &ninth), "AttachmentLimitExceeded");
    let third = attach(&mut lab, 1, 2);
    assert_eq!(lab.refusal("AttachNetworkInterface", &third), "InvalidParameterValue");
    let first = attach(&mut lab, 1, 0);
    lab.call("AttachNetworkInterface", &first);
}

#[test]
fn an_eni_goes_to_one_instance_of_its_own_zone() {
    let mut lab = Lab::new();
    let eni = lab.create("b", "");
    let instance = lab.instance("n1");
    let attach = format!("NetworkInterfaceId={eni}&InstanceId={instance}&DeviceIndex=1");
    assert_eq!(lab.refusal("AttachNetworkInterface", &attach), "InvalidParameterCombination");
    lab.attach(&eni, "n2", 1);
    let again = format!("NetworkInterfaceId={eni}&InstanceId={}&DeviceIndex=2", lab.instance("n2"));
    assert_eq!(lab.refusal("AttachNetworkInterface", &again), "InvalidNetworkInterface.InUse");
}

#[test]
fn a_repeated_creation_gives_the_same_eni_and_another_with_its_token_is_refused() {
    let mut lab = Lab::new();
    let free = lab.free("a");
    let eni = lab.create("a", "ClientToken=t1&Description=x");
    assert_eq!(lab.create("a", "ClientToken=t1&Description=x"), eni);
    assert_eq!(lab.free("a"), free - 1);
    let other = format!("SubnetId={}&ClientToken=t1&Description=y", lab.subnet("a"));
    assert_eq!(lab.refusal("CreateNetworkInterface", &other), "IdempotentParameterMismatch");
    assert_ne!(lab.create("a", "ClientToken=t2&Description=x"), eni);
    lab.call("DeleteNetworkInterface", &format!("NetworkInterfaceId={eni}"));
    // A token outlives its ENI: repeating it makes no second one.
    assert_eq!(lab.create("a", "ClientToken=t1&Description=x"), eni);
    assert!(lab.ec2.eni(&eni).is_none());
}

#[test]
fn a_dry_run_says_what_would_happen_and_changes_nothing() {
    let mut lab = Lab::new();
    let before = lab.ec2.state();
    let create = format!("SubnetId={}&DryRun=true", lab.subnet("a"));
    assert_eq!(lab.refusal("CreateNetworkInterface", &create), "DryRunOperation");
    let delete = format!("NetworkInterfaceId={}&DryRun=true", lab.primary_eni("n1"));
    assert_eq!(lab.refusal("DeleteNetworkInterface", &delete), "InvalidParameterValue");
    assert_eq!(lab.refusal("DescribeVpcs", "DryRun=true"), "DryRunOperation");
    assert_eq!(lab.ec2.state(), before);
    assert_eq!(lab.ec2.next_event(), None);
}

#[test]
fn attributes_are_modified_one_at_a_time() {
    let mut lab = Lab::new();
    let eni = lab.create("a", "");
    let attachment = lab.attach(&eni, "n1", 1);
    lab.wait(1_000);
    let name = format!("NetworkInterfaceId={eni}");
    lab.call(
        "ModifyNetworkInterfaceAttribute",
        &format!("{name}&Attachment.AttachmentId={attachment}&Attachment.DeleteOnTermination=true"),
    );
    lab.call("ModifyNetworkInterfaceAttribute", &format!("{name}&Description.Value=hello+world"));
    lab.call("ModifyNetworkInterfaceAttribute", &format!("{name}&SourceDestCheck.Value=false"));
    let two = format!("{name}&SourceDestCheck.Value=false&Description.Value=x");
    assert_eq!(lab.refusal("ModifyNetworkInterfaceAttribute", &two), "InvalidParameterCombination");
    let seen = lab.ec2.eni(&eni).unwrap();
    assert!(seen.attachment.unwrap().delete_on_termination);
    assert_eq!((seen.description.as_str(), seen.source_dest_check), ("hello world", false));
    let happenings = lab.wait(0);
    assert!(matches!(happenings.as_slice(), [Happening::EniChanged { eni }] if !eni.source_dest_check));
}

#[test]
fn calls_are_recorded_under_the_name_of_the_node_that_signed_them() {
    let mut lab = Lab::new();
    let key = lab.ec2.state().nodes[0].access_key.clone();
    let header = format!(
        "AWS4-HMAC-SHA256 Credential={key}/20260101/eu-central-1/ec2/aws4_request, SignedHeaders=host"
    );
    lab.caller = Caller::of_header(Some(&header));
    lab.call("DescribeVpcs", "");
    lab.caller = Caller::of_header(None);
    assert_eq!(lab.refusal("DescribeVpcs", ""), "MissingAuthenticationToken");
    let seen: Vec<_> =
        lab.ec2.record().iter().map(|call| (call.caller.as_str(), call.outcome.as_str())).collect();
    assert_eq!(seen, [("n1", "OK"), ("anonymous", "MissingAuthenticationToken")]);
    assert_eq!(lab.ec2.take_record().len(), 2);
    assert!(lab.ec2.record().is_empty());
}

#[test]
fn a_denied_action_is_denied_to_that_node_only() {
    let world = common::WORLD.replace("name: n1,", "name: n1, denyActions: [CreateNetworkInterface],");
    let mut lab = Lab::of(&world);
    let create = format!("SubnetId={}", lab.subnet("a"));
    for (node, expected) in [(0, "UnauthorizedOperation"), (1, "DryRunOperation")] {
        lab.caller = Caller::Key(lab.ec2.state().nodes[node].access_key.clone());
        assert_eq!(lab.refusal("CreateNetworkInterface", &format!("{create}&DryRun=true")), expected);
    }
}
