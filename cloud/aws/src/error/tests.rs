//! The class of every code that Spur decides on, and of failures that have no code.

use super::*;

#[test]
fn the_table_is_sorted_so_that_it_can_be_searched() {
    assert!(BY_CODE.is_sorted_by(|left, right| left.0 < right.0));
}

#[test]
fn each_code_has_the_class_that_callers_decide_on() {
    use Api::{
        AssignPrivateIpAddresses as Assign, AttachNetworkInterface as Attach,
        CreateNetworkInterface as Create, DeleteNetworkInterface as Delete, DescribeInstanceTypes as Types,
        DescribeSubnets as Subnets, DetachNetworkInterface as Detach, UnassignPrivateIpAddresses as Unassign,
    };
    let rows = [
        (Create, "RequestLimitExceeded", Some(ErrorClass::Throttled), "EC2's own throttle"),
        (
            Create,
            "Throttling",
            Some(ErrorClass::Throttled),
            "the throttle of other services, seen through proxies",
        ),
        (Create, "InsufficientFreeAddressesInSubnet", Some(ErrorClass::SubnetFull), "try the next subnet"),
        (
            Assign,
            "InsufficientCidrBlocks",
            Some(ErrorClass::SubnetFull),
            "no /28: fall back to single addresses",
        ),
        (Assign, "PrivateIpAddressLimitExceeded", Some(ErrorClass::QuotaExceeded), "the ENI is full"),
        (Attach, "AttachmentLimitExceeded", Some(ErrorClass::QuotaExceeded), "the instance is full"),
        (Create, "NetworkInterfaceLimitExceeded", Some(ErrorClass::QuotaExceeded), "the account's quota"),
        (Attach, "InvalidNetworkInterface.InUse", Some(ErrorClass::Conflict), "somebody attached it first"),
        (Delete, "InvalidNetworkInterface.InUse", Some(ErrorClass::Conflict), "not yet detached"),
        (
            Delete,
            "InvalidParameterValue",
            Some(ErrorClass::Conflict),
            "the other way EC2 says that it is in use",
        ),
        (
            Attach,
            "InvalidParameterValue",
            Some(ErrorClass::Conflict),
            "the device index is taken: look and choose another",
        ),
        (Unassign, "InvalidParameterValue", Some(ErrorClass::NotFound), "the address is not there: look"),
        (Create, "InvalidParameterValue", None, "a malformed request elsewhere is a bug"),
        (Detach, "IncorrectState", Some(ErrorClass::Conflict), "still attaching"),
        (Detach, "InvalidAttachmentID.NotFound", Some(ErrorClass::NotFound), "already gone"),
        (Delete, "InvalidNetworkInterfaceID.NotFound", Some(ErrorClass::NotFound), "already gone"),
        (
            Subnets,
            "InvalidSomethingNew.NotFound",
            Some(ErrorClass::NotFound),
            "all kinds of things end in .NotFound",
        ),
        (Api::CreateTags, "InvalidID", Some(ErrorClass::NotFound), "nothing to tag: already gone"),
        (Types, "InvalidInstanceType", Some(ErrorClass::NotFound), "no such type"),
        (Create, "UnauthorizedOperation", Some(ErrorClass::Denied), "the policy misses a permission"),
        (Create, "AuthFailure", Some(ErrorClass::Denied), "bad credentials"),
        (Create, "ExpiredToken", Some(ErrorClass::Denied), "old credentials"),
        (Create, "InternalError", Some(ErrorClass::Transient), "EC2's own trouble"),
        (Create, "Unavailable", Some(ErrorClass::Transient), "EC2's own trouble"),
        (Create, "InvalidSubnetId.Malformed", None, "by status: 4xx is a bug"),
    ];
    for (api, code, class, why) in rows {
        assert_eq!(class_of_code(api, code), class, "{api} {code}: {why}");
    }
}

#[test]
fn each_code_of_a_route_says_what_the_controller_does_next() {
    use Api::{CreateRoute, DeleteRoute, ReplaceRoute};
    let rows = [
        (CreateRoute, "RouteAlreadyExists", Some(ErrorClass::Conflict), "look whose it is"),
        (CreateRoute, "RouteLimitExceeded", Some(ErrorClass::QuotaExceeded), "the table is full"),
        (CreateRoute, "InvalidParameterValue", None, "a destination that EC2 does not take stays a bug"),
        (CreateRoute, "InvalidRouteTableID.NotFound", Some(ErrorClass::NotFound), "the table is gone"),
        (CreateRoute, "InvalidNetworkInterfaceID.NotFound", Some(ErrorClass::NotFound), "the ENI is gone"),
        (ReplaceRoute, "InvalidParameterValue", Some(ErrorClass::NoRoute), "\"Use CreateRoute instead.\""),
        (ReplaceRoute, "InvalidRoute.NotFound", Some(ErrorClass::NoRoute), "as the documentation has it"),
        (DeleteRoute, "InvalidRoute.NotFound", Some(ErrorClass::NoRoute), "already gone"),
        (DeleteRoute, "InvalidRouteTableID.NotFound", Some(ErrorClass::NotFound), "the whole table is gone"),
    ];
    for (api, code, class, why) in rows {
        assert_eq!(class_of_code(api, code), class, "{api} {code}: {why}");
    }
}

#[test]
fn without_a_known_code_the_status_says_who_is_to_blame() {
    let rows = [
        (400, ErrorClass::Bug),
        (401, ErrorClass::Denied),
        (403, ErrorClass::Denied),
        (429, ErrorClass::Throttled),
        (500, ErrorClass::Transient),
        (503, ErrorClass::Transient),
    ];
    for (status, class) in rows {
        assert_eq!(class_of_status(status), class, "{status}");
    }
}
