"""Every error that the API can return. The list is `codes.txt`; the last test fails for a code that no test has seen."""

import unittest

import botocore

import world
from world import HERE, WorldTest

ENI = "eni-0123456789abcdef0"
ATTACHMENT = "eni-attach-0123456789abcdef0"
INSTANCE = "i-0123456789abcdef0"
GROUP = "sg-0123456789abcdef0"
SUBNET = "subnet-0123456789abcdef0"
VPC = "vpc-0123456789abcdef0"


class Requests(WorldTest):
    """What is wrong before any action is performed."""

    def changed(self, change):
        """A client whose requests pass through `change` before they are signed."""

        def handler(params, **_):
            # What a handler returns would be taken for the answer.
            change(params)

        client = self.client(self.ready["accessKeyId"])
        client.meta.events.register("before-call.ec2.*", handler)
        return client

    def test_an_unknown_action(self):
        client = self.changed(lambda params: params["body"].update(Action="RunAway"))
        self.refused("InvalidAction", client.describe_vpcs)

    def test_no_action(self):
        client = self.changed(lambda params: params["body"].pop("Action"))
        self.refused("MissingAction", client.describe_vpcs)

    def test_another_version(self):
        client = self.changed(lambda params: params["body"].update(Version="2010-08-31"))
        self.refused("NoSuchVersion", client.describe_vpcs)

    def test_an_unknown_parameter(self):
        client = self.changed(lambda params: params["body"].update(Colour="red"))
        self.refused("UnknownParameter", client.describe_vpcs)

    def test_bytes_that_are_no_text(self):
        client = self.changed(lambda params: params.update(body=b"Action=DescribeVpcs&Version=%ff"))
        self.refused("MalformedQueryString", client.describe_vpcs, status=404)

    def test_no_signature(self):
        client = self.client(None, signature_version=botocore.UNSIGNED)
        self.refused("MissingAuthenticationToken", client.describe_vpcs, status=403)

    def test_an_unknown_session(self):
        client = self.client("ASIA0000000000000000")
        self.refused("AuthFailure", client.describe_vpcs, status=401)

    def test_a_denied_action(self):
        client = self.client(self.nodes["n2"]["accessKeyId"])
        client.describe_vpcs()
        self.refused("UnauthorizedOperation", client.create_network_interface, status=403, SubnetId=self.a)

    def test_a_dry_run_of_every_call_that_knows_it(self):
        eni = self.create(self.a)
        attached = self.create(self.a)
        attachment = self.attach(attached)
        instance = self.instance("n1")
        for call, arguments in [
            (self.ec2.describe_instances, {}),
            (self.ec2.describe_instance_types, {}),
            (self.ec2.describe_subnets, {}),
            (self.ec2.describe_vpcs, {}),
            (self.ec2.describe_security_groups, {}),
            (self.ec2.describe_network_interfaces, {}),
            (self.ec2.create_network_interface, {"SubnetId": self.a}),
            (
                self.ec2.attach_network_interface,
                {"NetworkInterfaceId": eni, "InstanceId": instance, "DeviceIndex": 2},
            ),
            (self.ec2.detach_network_interface, {"AttachmentId": attachment}),
            (self.ec2.delete_network_interface, {"NetworkInterfaceId": eni}),
            (
                self.ec2.modify_network_interface_attribute,
                {"NetworkInterfaceId": eni, "SourceDestCheck": {"Value": False}},
            ),
            (self.ec2.create_tags, {"Resources": [eni], "Tags": [{"Key": "a", "Value": "b"}]}),
        ]:
            self.refused("DryRunOperation", call, status=412, DryRun=True, **arguments)
        self.assertEqual(self.eni(eni)["Status"], "available")
        self.assertTrue(self.eni(eni)["SourceDestCheck"])

    def test_missing_parameters(self):
        eni = self.create(self.a)
        for call, arguments in [
            (self.ec2.create_network_interface, {}),
            (self.ec2.attach_network_interface, {"NetworkInterfaceId": eni, "InstanceId": self.instance("n1")}),
            (self.ec2.attach_network_interface, {"InstanceId": INSTANCE, "DeviceIndex": 1}),
            (self.ec2.detach_network_interface, {}),
            (self.ec2.delete_network_interface, {}),
            (self.ec2.modify_network_interface_attribute, {}),
            (self.ec2.modify_network_interface_attribute, {"NetworkInterfaceId": eni, "Attachment": {"AttachmentId": ATTACHMENT}}),
            (self.ec2.assign_private_ip_addresses, {"NetworkInterfaceId": eni}),
            (self.ec2.unassign_private_ip_addresses, {"NetworkInterfaceId": eni}),
            (self.ec2.create_tags, {"Tags": [{"Key": "a", "Value": "b"}]}),
            (self.ec2.create_tags, {"Resources": [eni]}),
            (self.ec2.describe_vpcs, {"Filters": [{"Values": ["x"]}]}),
        ]:
            self.refused("MissingParameter", call, **arguments)


class Reads(WorldTest):
    """The Describe calls."""

    def test_ids_of_nothing(self):
        for code, call, argument, id in [
            ("InvalidInstanceID.NotFound", self.ec2.describe_instances, "InstanceIds", INSTANCE),
            ("InvalidInstanceID.Malformed", self.ec2.describe_instances, "InstanceIds", "n1"),
            ("InvalidSubnetID.NotFound", self.ec2.describe_subnets, "SubnetIds", SUBNET),
            ("InvalidSubnetID.Malformed", self.ec2.describe_subnets, "SubnetIds", "a"),
            ("InvalidVpcID.NotFound", self.ec2.describe_vpcs, "VpcIds", VPC),
            ("InvalidVpcID.Malformed", self.ec2.describe_vpcs, "VpcIds", "v"),
            ("InvalidGroup.NotFound", self.ec2.describe_security_groups, "GroupIds", GROUP),
            ("InvalidGroupId.Malformed", self.ec2.describe_security_groups, "GroupIds", "g"),
            ("InvalidNetworkInterfaceID.NotFound", self.ec2.describe_network_interfaces, "NetworkInterfaceIds", ENI),
            ("InvalidNetworkInterfaceId.Malformed", self.ec2.describe_network_interfaces, "NetworkInterfaceIds", "e"),
            ("InvalidInstanceType", self.ec2.describe_instance_types, "InstanceTypes", "m5.tiny"),
        ]:
            message = self.refused(code, call, **{argument: [id]})
            self.assertIn(id, message)

    def test_filters_and_pages(self):
        for call in [
            self.ec2.describe_instances,
            self.ec2.describe_instance_types,
            self.ec2.describe_network_interfaces,
            self.ec2.describe_security_groups,
            self.ec2.describe_subnets,
            self.ec2.describe_vpcs,
        ]:
            self.refused("InvalidParameterValue", call, Filters=[{"Name": "colour", "Values": ["red"]}])
            self.refused("InvalidParameterValue", call, MaxResults=4)
            self.refused("InvalidPaginationToken", call, NextToken="abc")
        values = [f"pod {number}" for number in range(201)]
        filters = [{"Name": "description", "Values": values}]
        self.refused("FilterLimitExceeded", self.ec2.describe_network_interfaces, Filters=filters)
        eni = self.primary("n1")["NetworkInterfaceId"]
        call = self.ec2.describe_network_interfaces
        self.refused("InvalidParameterCombination", call, NetworkInterfaceIds=[eni], MaxResults=5)


class Changes(WorldTest):
    """The calls that change something."""

    def test_creation(self):
        create = self.ec2.create_network_interface
        for code, arguments in [
            ("InvalidSubnetID.NotFound", {"SubnetId": SUBNET}),
            ("InvalidSecurityGroupID.NotFound", {"Groups": [GROUP]}),
            ("InvalidIPAddress.InUse", {"PrivateIpAddress": self.primary("n1")["PrivateIpAddress"]}),
            ("InvalidParameterValue", {"PrivateIpAddress": "10.0.0.1"}),
            ("InvalidParameterValue", {"PrivateIpAddress": "10.9.9.9"}),
            ("InvalidParameterValue", {"PrivateIpAddress": "x"}),
            ("InvalidParameterValue", {"SecondaryPrivateIpAddressCount": -1}),
            ("InvalidParameterValue", {"ClientToken": "t" * 65}),
            ("InvalidParameterValue", {"TagSpecifications": [{"ResourceType": "subnet", "Tags": [{"Key": "a"}]}]}),
            ("InvalidParameterCombination", {"SecondaryPrivateIpAddressCount": 1, "Ipv4PrefixCount": 1}),
            ("InvalidParameterCombination", {"PrivateIpAddresses": [{"PrivateIpAddress": "10.0.0.9", "Primary": False}]}),
            ("PrivateIpAddressLimitExceeded", {"SecondaryPrivateIpAddressCount": 64}),
            ("UnsupportedOperation", {"Ipv6AddressCount": 1}),
            ("InsufficientFreeAddressesInSubnet", {"SubnetId": self.tiny, "SecondaryPrivateIpAddressCount": 11}),
            ("InsufficientCidrBlocks", {"SubnetId": self.tiny, "Ipv4PrefixCount": 1}),
        ]:
            self.refused(code, create, **{"SubnetId": self.a, **arguments})
        groups = [group["GroupId"] for group in self.ec2.describe_security_groups()["SecurityGroups"]]
        self.assertEqual(len(groups), 6)
        self.refused("SecurityGroupsPerInterfaceLimitExceeded", create, SubnetId=self.a, Groups=groups)
        self.create(self.a, ClientToken="token")
        self.refused("IdempotentParameterMismatch", create, SubnetId=self.b, ClientToken="token")

    def test_attachment(self):
        attach = self.ec2.attach_network_interface
        first, second, third = self.create(self.a), self.create(self.a), self.create(self.a)
        n1 = self.instance("n1")
        self.refused("InvalidNetworkInterfaceID.NotFound", attach, NetworkInterfaceId=ENI, InstanceId=n1, DeviceIndex=1)
        self.refused("InvalidNetworkInterfaceId.Malformed", attach, NetworkInterfaceId="x", InstanceId=n1, DeviceIndex=1)
        self.refused("InvalidInstanceID.NotFound", attach, NetworkInterfaceId=first, InstanceId=INSTANCE, DeviceIndex=1)
        self.refused("InvalidInstanceID.Malformed", attach, NetworkInterfaceId=first, InstanceId="x", DeviceIndex=1)
        self.refused("InvalidParameterValue", attach, NetworkInterfaceId=first, InstanceId=n1, DeviceIndex=0)
        self.refused(
            "InvalidParameterValue", attach, NetworkInterfaceId=first, InstanceId=n1, DeviceIndex=1, NetworkCardIndex=1
        )
        self.refused(
            "InvalidParameterCombination", attach, NetworkInterfaceId=first, InstanceId=self.instance("n2"), DeviceIndex=1
        )
        wide = self.create(self.a, SecondaryPrivateIpAddressCount=10)
        self.refused("PrivateIpAddressLimitExceeded", attach, NetworkInterfaceId=wide, InstanceId=n1, DeviceIndex=1)
        prefixed = self.create(self.a, Ipv4PrefixCount=1)
        old = self.instance("old")
        self.refused("UnsupportedOperation", attach, NetworkInterfaceId=prefixed, InstanceId=old, DeviceIndex=1)
        attachment = self.attach(first, index=1)
        self.attach(second, index=2)
        self.refused("InvalidNetworkInterface.InUse", attach, NetworkInterfaceId=first, InstanceId=n1, DeviceIndex=3)
        self.refused("AttachmentLimitExceeded", attach, NetworkInterfaceId=third, InstanceId=n1, DeviceIndex=3)

        detach = self.ec2.detach_network_interface
        self.refused("InvalidAttachmentID.NotFound", detach, AttachmentId=ATTACHMENT)
        self.refused("InvalidNetworkInterfaceAttachmentId.Malformed", detach, AttachmentId=first)
        primary = self.primary("n1")["Attachment"]["AttachmentId"]
        self.refused("OperationNotPermitted", detach, AttachmentId=primary)
        delete = self.ec2.delete_network_interface
        self.refused("InvalidParameterValue", delete, NetworkInterfaceId=first)
        detach(AttachmentId=attachment)
        self.refused("IncorrectState", detach, AttachmentId=attachment)
        self.refused("InvalidNetworkInterfaceID.NotFound", delete, NetworkInterfaceId=ENI)
        self.refused("InvalidNetworkInterfaceId.Malformed", delete, NetworkInterfaceId="x")

    def test_addresses(self):
        assign, unassign = self.ec2.assign_private_ip_addresses, self.ec2.unassign_private_ip_addresses
        n1, other = self.primary("n1"), self.primary("spare")
        id = n1["NetworkInterfaceId"]
        for code, arguments in [
            ("InvalidParameterValue", {"SecondaryPrivateIpAddressCount": 0}),
            ("InvalidParameterValue", {"PrivateIpAddresses": ["10.0.0.2"]}),
            ("InvalidParameterValue", {"PrivateIpAddresses": [other["PrivateIpAddress"]]}),
            ("InvalidParameterValue", {"PrivateIpAddresses": [n1["PrivateIpAddress"]]}),
            ("InvalidParameterValue", {"PrivateIpAddresses": [other["PrivateIpAddress"]], "AllowReassignment": True}),
            ("InvalidParameterValue", {"Ipv4Prefixes": ["10.0.0.8/29"]}),
            ("InvalidParameterCombination", {"SecondaryPrivateIpAddressCount": 1, "Ipv4PrefixCount": 1}),
            ("PrivateIpAddressLimitExceeded", {"SecondaryPrivateIpAddressCount": 10}),
            ("InvalidNetworkInterfaceID.NotFound", {"NetworkInterfaceId": ENI, "SecondaryPrivateIpAddressCount": 1}),
            # These two calls know no dry run.
            ("UnknownParameter", {"SecondaryPrivateIpAddressCount": 1, "NetworkInterfaceId": id}),
        ]:
            call = self.with_dry_run().assign_private_ip_addresses if code == "UnknownParameter" else assign
            self.refused(code, call, **{"NetworkInterfaceId": id, **arguments})
        taken = self.create(self.a, SecondaryPrivateIpAddressCount=1)
        address = self.eni(taken)["PrivateIpAddresses"][1]["PrivateIpAddress"]
        message = self.refused("InvalidParameterValue", assign, NetworkInterfaceId=id, PrivateIpAddresses=[address])
        self.assertIn("move is not allowed", message)
        prefix = self.eni(self.create(self.a, Ipv4PrefixCount=1))["Ipv4Prefixes"][0]["Ipv4Prefix"]
        self.refused("InvalidIPAddress.InUse", assign, NetworkInterfaceId=id, Ipv4Prefixes=[prefix])
        old = self.primary("old")["NetworkInterfaceId"]
        self.refused("UnsupportedOperation", assign, NetworkInterfaceId=old, Ipv4PrefixCount=1)
        for addresses in [["10.0.0.200"], [n1["PrivateIpAddress"]]]:
            self.refused("InvalidParameterValue", unassign, NetworkInterfaceId=id, PrivateIpAddresses=addresses)
        self.refused("InvalidNetworkInterfaceID.NotFound", unassign, NetworkInterfaceId=ENI, PrivateIpAddresses=["10.0.0.9"])

    def with_dry_run(self):
        client = self.client(self.ready["accessKeyId"])
        client.meta.events.register("before-call.ec2.*", lambda params, **_: params["body"].update(DryRun="true"))
        return client

    def test_attributes(self):
        modify = self.ec2.modify_network_interface_attribute
        id = self.create(self.a)
        self.refused("InvalidParameterCombination", modify, NetworkInterfaceId=id)
        both = {"SourceDestCheck": {"Value": True}, "Description": {"Value": "x"}}
        self.refused("InvalidParameterCombination", modify, NetworkInterfaceId=id, **both)
        self.refused("InvalidNetworkInterfaceID.NotFound", modify, NetworkInterfaceId=ENI, Description={"Value": "x"})
        self.refused("InvalidSecurityGroupID.NotFound", modify, NetworkInterfaceId=id, Groups=[GROUP])
        self.refused("UnsupportedOperation", modify, NetworkInterfaceId=id, EnablePrimaryIpv6=True)
        attachment = {"AttachmentId": ATTACHMENT, "DeleteOnTermination": True}
        self.refused("InvalidAttachmentID.NotFound", modify, NetworkInterfaceId=id, Attachment=attachment)

    def test_tags(self):
        create = self.ec2.create_tags
        id = self.create(self.a)
        one = [{"Key": "a", "Value": "b"}]
        for code, resource in [
            ("InvalidID", "pod-1"),
            ("InvalidNetworkInterfaceID.NotFound", ENI),
            ("InvalidInstanceID.NotFound", INSTANCE),
            ("InvalidSubnetID.NotFound", SUBNET),
            ("InvalidVpcID.NotFound", VPC),
            ("InvalidGroup.NotFound", GROUP),
        ]:
            # The good resource before the bad one stays untouched.
            self.refused(code, create, Resources=[id, resource], Tags=one)
        self.assertEqual(self.eni(id)["TagSet"], [])
        many = [{"Key": f"k{number}", "Value": ""} for number in range(51)]
        self.refused("TagLimitExceeded", create, Resources=[id], Tags=many)
        create(Resources=[id], Tags=many[:50])
        self.refused("TagLimitExceeded", create, Resources=[id], Tags=one)
        for tag in [{"Key": "aws:a", "Value": "b"}, {"Key": "k" * 129, "Value": ""}, {"Key": "k", "Value": "v" * 257}]:
            self.refused("InvalidParameterValue", create, Resources=[id], Tags=[tag])


class Coverage(unittest.TestCase):
    """Runs last."""

    def test_every_code_and_every_call_was_seen(self):
        codes = set((HERE / "codes.txt").read_text().split())
        self.assertEqual(codes - world.CODES, set(), "codes that no test has seen")
        self.assertEqual(world.CODES - codes, set(), "codes that the list does not have")
        self.assertEqual(len(world.OPERATIONS), 26, sorted(world.OPERATIONS))
