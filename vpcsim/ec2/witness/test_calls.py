"""Every call of the API, by boto3, with answers as a user of EC2 expects them."""

import datetime

from world import WorldTest

# Members that EC2's answers always have (examples of the API reference): a client may rely on them.
ENI = {
    "AvailabilityZone",
    "Description",
    "Groups",
    "InterfaceType",
    "Ipv6Addresses",
    "MacAddress",
    "NetworkInterfaceId",
    "OwnerId",
    "PrivateDnsName",
    "PrivateIpAddress",
    "PrivateIpAddresses",
    "RequesterId",
    "RequesterManaged",
    "SourceDestCheck",
    "Status",
    "SubnetId",
    "TagSet",
    "VpcId",
}
ATTACHMENT = {
    "AttachTime",
    "AttachmentId",
    "DeleteOnTermination",
    "DeviceIndex",
    "InstanceId",
    "InstanceOwnerId",
    "NetworkCardIndex",
    "Status",
}
INSTANCE = {
    "AmiLaunchIndex",
    "Architecture",
    "ImageId",
    "InstanceId",
    "InstanceType",
    "LaunchTime",
    "Monitoring",
    "NetworkInterfaces",
    "Placement",
    "PrivateDnsName",
    "PrivateIpAddress",
    "PublicDnsName",
    "SecurityGroups",
    "SourceDestCheck",
    "State",
    "SubnetId",
    "VpcId",
}
SUBNET = {
    "AssignIpv6AddressOnCreation",
    "AvailabilityZone",
    "AvailabilityZoneId",
    "AvailableIpAddressCount",
    "CidrBlock",
    "DefaultForAz",
    "Ipv6CidrBlockAssociationSet",
    "MapPublicIpOnLaunch",
    "OwnerId",
    "State",
    "SubnetArn",
    "SubnetId",
    "VpcId",
}
VPC = {"CidrBlock", "CidrBlockAssociationSet", "DhcpOptionsId", "InstanceTenancy", "IsDefault", "OwnerId", "State", "VpcId"}
GROUP = {"Description", "GroupId", "GroupName", "IpPermissions", "IpPermissionsEgress", "OwnerId", "VpcId"}


class Calls(WorldTest):
    def has(self, members, found):
        self.assertEqual(members - set(found), set())

    def test_instances_show_their_interfaces(self):
        answer = self.ec2.describe_instances(Filters=[{"Name": "tag:Name", "Values": ["n1"]}])
        [instance] = answer["Reservations"][0]["Instances"]
        self.has(INSTANCE, instance)
        self.assertEqual(instance["State"], {"Code": 16, "Name": "running"})
        self.assertEqual(instance["InstanceType"], "m5.large")
        [eni] = instance["NetworkInterfaces"]
        self.assertEqual(eni["Attachment"]["DeviceIndex"], 0)
        self.assertTrue(eni["Attachment"]["DeleteOnTermination"])
        self.assertIsInstance(instance["LaunchTime"], datetime.datetime)
        everything = self.ec2.describe_instances()
        self.assertEqual(len(everything["Reservations"]), 4)

    def test_instances_come_in_pages(self):
        eni_pages = self.ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 5})
        self.assertEqual(sum(len(page["Reservations"]) for page in eni_pages), 4)

    def test_types_tell_their_limits(self):
        [found] = self.ec2.describe_instance_types(InstanceTypes=["m5.large"])["InstanceTypes"]
        self.assertEqual(found["Hypervisor"], "nitro")
        self.assertEqual(found["NetworkInfo"]["MaximumNetworkInterfaces"], 3)
        self.assertEqual(found["NetworkInfo"]["Ipv4AddressesPerInterface"], 10)
        pages = self.ec2.get_paginator("describe_instance_types").paginate()
        names = [found["InstanceType"] for page in pages for found in page["InstanceTypes"]]
        self.assertGreater(len(names), 500)
        self.assertEqual(len(names), len(set(names)))

    def test_subnets_count_what_is_free(self):
        [subnet] = self.ec2.describe_subnets(SubnetIds=[self.tiny])["Subnets"]
        self.has(SUBNET, subnet)
        self.assertEqual(subnet["AvailableIpAddressCount"], 11)
        [tagged] = self.ec2.describe_subnets(Filters=[{"Name": "tag:role", "Values": ["nodes"]}])["Subnets"]
        self.assertEqual(tagged["SubnetId"], self.a)
        self.assertEqual(tagged["Tags"], [{"Key": "role", "Value": "nodes"}])

    def test_the_vpc_has_all_its_cidrs(self):
        [vpc] = self.ec2.describe_vpcs()["Vpcs"]
        self.has(VPC, vpc)
        cidrs = [association["CidrBlock"] for association in vpc["CidrBlockAssociationSet"]]
        self.assertEqual(cidrs, ["10.0.0.0/16", "10.1.0.0/16"])
        self.assertEqual(self.ec2.describe_vpcs(VpcIds=[vpc["VpcId"]])["Vpcs"], [vpc])

    def test_security_groups_are_found_by_tag_and_name(self):
        for filter in ({"Name": "tag:role", "Values": ["pods"]}, {"Name": "group-name", "Values": ["po*"]}):
            [group] = self.ec2.describe_security_groups(Filters=[filter])["SecurityGroups"]
            self.has(GROUP, group)
            self.assertEqual(group["GroupName"], "pods")

    def test_the_life_of_an_interface(self):
        groups = self.ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["pods"]}])
        group = groups["SecurityGroups"][0]["GroupId"]
        made = self.ec2.create_network_interface(
            SubnetId=self.a,
            Description="<first & only>",
            Groups=[group],
            SecondaryPrivateIpAddressCount=2,
            ClientToken="token",
            TagSpecifications=[{"ResourceType": "network-interface", "Tags": [{"Key": "k", "Value": "v"}]}],
        )
        self.assertEqual(made["ClientToken"], "token")
        eni = made["NetworkInterface"]
        self.has(ENI, eni)
        self.assertEqual((eni["Status"], eni["Description"]), ("available", "<first & only>"))
        self.assertEqual([place["Primary"] for place in eni["PrivateIpAddresses"]], [True, False, False])
        self.assertEqual(eni["TagSet"], [{"Key": "k", "Value": "v"}])
        self.assertEqual([found["GroupId"] for found in eni["Groups"]], [group])
        id = eni["NetworkInterfaceId"]

        answer = self.ec2.attach_network_interface(
            NetworkInterfaceId=id, InstanceId=self.instance("n1"), DeviceIndex=1, NetworkCardIndex=0
        )
        self.assertEqual(answer["NetworkCardIndex"], 0)
        attaching = self.eni(id)["Attachment"]
        self.has(ATTACHMENT, attaching)
        self.assertEqual(attaching["Status"], "attaching")
        self.wait_for(lambda: self.eni(id)["Attachment"]["Status"] == "attached")
        self.assertLess(abs(attaching["AttachTime"].timestamp() - datetime.datetime.now().timestamp()), 60)

        attachment = answer["AttachmentId"]
        self.ec2.modify_network_interface_attribute(
            NetworkInterfaceId=id, Attachment={"AttachmentId": attachment, "DeleteOnTermination": True}
        )
        self.ec2.modify_network_interface_attribute(NetworkInterfaceId=id, SourceDestCheck={"Value": False})
        self.ec2.modify_network_interface_attribute(NetworkInterfaceId=id, Description={"Value": "changed"})
        self.ec2.create_tags(Resources=[id, self.a], Tags=[{"Key": "k", "Value": "ä & <b>"}])
        now = self.eni(id)
        self.assertTrue(now["Attachment"]["DeleteOnTermination"])
        self.assertFalse(now["SourceDestCheck"])
        self.assertEqual(now["Description"], "changed")
        self.assertEqual(now["TagSet"], [{"Key": "k", "Value": "ä & <b>"}])

        self.ec2.detach_network_interface(AttachmentId=attachment, Force=False)
        self.assertEqual(self.eni(id)["Attachment"]["Status"], "detaching")
        self.wait_for(lambda: self.eni(id)["Status"] == "available")
        self.ec2.delete_network_interface(NetworkInterfaceId=id)
        remaining = self.ec2.describe_network_interfaces()["NetworkInterfaces"]
        self.assertNotIn(id, [eni["NetworkInterfaceId"] for eni in remaining])

    def test_groups_of_an_interface_change(self):
        id = self.create(self.a)
        groups = self.ec2.describe_security_groups()["SecurityGroups"]
        pods = [group["GroupId"] for group in groups if group["GroupName"] == "pods"]
        self.ec2.modify_network_interface_attribute(NetworkInterfaceId=id, Groups=pods)
        self.assertEqual([group["GroupId"] for group in self.eni(id)["Groups"]], pods)

    def test_addresses_come_and_go(self):
        id = self.primary("n1")["NetworkInterfaceId"]
        answer = self.ec2.assign_private_ip_addresses(NetworkInterfaceId=id, SecondaryPrivateIpAddressCount=3)
        got = [place["PrivateIpAddress"] for place in answer["AssignedPrivateIpAddresses"]]
        self.assertEqual((answer["NetworkInterfaceId"], len(got)), (id, 3))
        shown = [place["PrivateIpAddress"] for place in self.eni(id)["PrivateIpAddresses"] if not place["Primary"]]
        self.assertEqual(shown, got)
        self.ec2.unassign_private_ip_addresses(NetworkInterfaceId=id, PrivateIpAddresses=got[:2])
        other = self.create(self.a)
        self.ec2.assign_private_ip_addresses(
            NetworkInterfaceId=other, PrivateIpAddresses=got[2:], AllowReassignment=True
        )
        self.assertEqual(len(self.eni(id)["PrivateIpAddresses"]), 1)
        self.assertEqual(self.eni(other)["PrivateIpAddresses"][1]["PrivateIpAddress"], got[2])

    def test_prefixes_come_and_go(self):
        id = self.create(self.a, Ipv4PrefixCount=1)
        answer = self.ec2.assign_private_ip_addresses(NetworkInterfaceId=id, Ipv4PrefixCount=1)
        [got] = [prefix["Ipv4Prefix"] for prefix in answer["AssignedIpv4Prefixes"]]
        self.assertEqual([prefix["Ipv4Prefix"] for prefix in self.eni(id)["Ipv4Prefixes"]][1:], [got])
        self.ec2.unassign_private_ip_addresses(NetworkInterfaceId=id, Ipv4Prefixes=[got])
        self.ec2.assign_private_ip_addresses(NetworkInterfaceId=id, Ipv4Prefixes=[got])
        named = self.create(self.b, Ipv4Prefixes=[{"Ipv4Prefix": "10.0.1.64/28"}])
        self.assertEqual(self.eni(named)["Ipv4Prefixes"], [{"Ipv4Prefix": "10.0.1.64/28"}])

    def test_named_addresses_are_given(self):
        addresses = [
            {"PrivateIpAddress": "10.0.1.50", "Primary": True},
            {"PrivateIpAddress": "10.0.1.51", "Primary": False},
        ]
        eni = self.eni(self.create(self.b, PrivateIpAddresses=addresses))
        self.assertEqual(eni["PrivateIpAddress"], "10.0.1.50")
        self.assertEqual(eni["PrivateIpAddresses"][1]["PrivateIpAddress"], "10.0.1.51")
        self.assertEqual(self.eni(self.create(self.b, PrivateIpAddress="10.0.1.60"))["PrivateIpAddress"], "10.0.1.60")

    def test_interfaces_come_in_pages_and_through_filters(self):
        made = {self.create(self.many, Description=f"pod {number}") for number in range(12)}
        pages = self.ec2.get_paginator("describe_network_interfaces").paginate(
            Filters=[
                {"Name": "subnet-id", "Values": [self.many]},
                {"Name": "description", "Values": ["pod ?", "pod 1?"]},
            ],
            PaginationConfig={"PageSize": 5},
        )
        sizes, seen = [], set()
        for page in pages:
            sizes.append(len(page["NetworkInterfaces"]))
            seen |= {eni["NetworkInterfaceId"] for eni in page["NetworkInterfaces"]}
        self.assertEqual((sizes, seen), ([5, 5, 2], made))

    def test_a_repeated_creation_makes_nothing_new(self):
        arguments = {"ClientToken": "same", "Description": "x"}
        self.assertEqual(self.create(self.a, **arguments), self.create(self.a, **arguments))
