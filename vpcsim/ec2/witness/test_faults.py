"""Faults as a client meets them: each error with its code and status, silence, lost replies, a lagging world.

They are set at run time, as a test of a client would do it. Whom a fault strikes and when is tested beside the model.
"""

import json
import time
import unittest
import urllib.error
import urllib.request

import botocore.exceptions

from world import WorldTest


class Faults(WorldTest):
    def ask(self, path, body=None):
        request = urllib.request.Request(f"{self.ready['endpoint']}/_vpcsim/{path}", data=body)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def set(self, *faults):
        return self.ask("faults", json.dumps(faults).encode())

    def silence(self, call, **arguments):
        """`call` must end without an answer."""
        with self.assertRaises((botocore.exceptions.ConnectionClosedError, botocore.exceptions.ReadTimeoutError)):
            call(**arguments)

    def test_an_empty_bucket(self):
        self.set({"kind": "throttle", "actions": ["DescribeVpcs"], "capacity": 2, "refillPerSecond": 0.001})
        self.ec2.describe_vpcs()
        self.ec2.describe_vpcs()
        self.refused("RequestLimitExceeded", self.ec2.describe_vpcs, status=503)
        self.ec2.describe_subnets()
        self.assertEqual(self.ask("record")[-2]["outcome"], "RequestLimitExceeded")

    def test_errors_of_the_service(self):
        for code, status in [("InternalError", 500), ("ServiceUnavailable", 503), ("RequestLimitExceeded", 503)]:
            self.set({"kind": "error", "code": code, "actions": ["CreateNetworkInterface"]})
            self.refused(code, self.ec2.create_network_interface, status=status, SubnetId=self.a)
        self.assertEqual(len(self.ec2.describe_network_interfaces()["NetworkInterfaces"]), len(self.nodes))

    def test_a_permission_that_is_taken_away(self):
        self.set({"kind": "deny", "actions": ["DescribeVpcs"], "nodes": ["n1"]})
        client = self.client(self.nodes["n1"]["accessKeyId"])
        self.refused("UnauthorizedOperation", client.describe_vpcs, status=403)
        self.set()
        client.describe_vpcs()

    def test_a_lost_reply_and_the_token_that_finds_it(self):
        for fault in [{"kind": "lostReply", "calls": [1]}, {"kind": "lostReply", "calls": [1], "code": "InternalError"}]:
            before = len(self.ec2.describe_network_interfaces()["NetworkInterfaces"])
            self.set(fault | {"actions": ["CreateNetworkInterface"]})
            arguments = {"SubnetId": self.a, "ClientToken": str(before)}
            if "code" in fault:
                self.refused("InternalError", self.ec2.create_network_interface, status=500, **arguments)
            else:
                self.silence(self.ec2.create_network_interface, **arguments)
            made = self.ec2.create_network_interface(**arguments)["NetworkInterface"]["NetworkInterfaceId"]
            after = {eni["NetworkInterfaceId"] for eni in self.ec2.describe_network_interfaces()["NetworkInterfaces"]}
            self.assertIn(made, after)
            self.assertEqual(len(after), before + 1)

    def test_a_timeout(self):
        self.set({"kind": "timeout", "millis": 60_000, "actions": ["CreateNetworkInterface"]})
        client = self.client(self.ready["accessKeyId"], read_timeout=0.3)
        self.silence(client.create_network_interface, SubnetId=self.a)
        self.set({"kind": "timeout", "millis": 10, "actions": ["CreateNetworkInterface"]})
        self.silence(self.ec2.create_network_interface, SubnetId=self.a)
        self.assertEqual(len(self.ec2.describe_network_interfaces()["NetworkInterfaces"]), len(self.nodes))

    def test_a_slow_answer(self):
        self.set({"kind": "slow", "millis": 300, "actions": ["DescribeVpcs"]})
        begun = time.monotonic()
        self.ec2.describe_vpcs()
        self.assertGreaterEqual(time.monotonic() - begun, 0.3)

    def test_a_stale_read(self):
        self.set({"kind": "stale", "lagMillis": 60_000, "every": 2})
        id = self.create(self.a)
        describe = self.ec2.describe_network_interfaces
        describe(NetworkInterfaceIds=[id])
        self.refused("InvalidNetworkInterfaceID.NotFound", describe, NetworkInterfaceIds=[id])
        describe(NetworkInterfaceIds=[id])

    def test_an_attachment_that_hangs(self):
        self.set({"kind": "stuck", "actions": ["AttachNetworkInterface"]})
        id = self.create(self.a)
        answer = self.ec2.attach_network_interface(
            NetworkInterfaceId=id, InstanceId=self.instance("n1"), DeviceIndex=1
        )
        time.sleep(0.5)
        self.assertEqual(self.eni(id)["Attachment"]["Status"], "attaching")
        detach = self.ec2.detach_network_interface
        self.refused("IncorrectState", detach, AttachmentId=answer["AttachmentId"])
        detach(AttachmentId=answer["AttachmentId"], Force=True)

    def test_an_eni_that_vanishes(self):
        id = self.create(self.a)
        self.attach(id)
        self.set({"kind": "vanish", "node": "n1", "deviceIndex": 1})
        self.refused("InvalidNetworkInterfaceID.NotFound", self.ec2.describe_network_interfaces, NetworkInterfaceIds=[id])

    def test_addresses_that_are_lost(self):
        id = self.create(self.a, SecondaryPrivateIpAddressCount=4)
        self.attach(id)
        self.set({"kind": "loseAddresses", "node": "n1", "deviceIndex": 1, "count": 3})
        self.assertEqual(len(self.eni(id)["PrivateIpAddresses"]), 2)

    def test_a_full_and_a_fragmented_subnet(self):
        self.set({"kind": "fillSubnet", "subnet": "a"})
        self.refused("InsufficientFreeAddressesInSubnet", self.ec2.create_network_interface, SubnetId=self.a)
        subnet = self.ec2.describe_subnets(SubnetIds=[self.a])["Subnets"][0]
        self.assertEqual(subnet["AvailableIpAddressCount"], 0)
        self.set({"kind": "fragmentSubnet", "subnet": "many"})
        id = self.create(self.many, SecondaryPrivateIpAddressCount=10)
        assign = self.ec2.assign_private_ip_addresses
        self.refused("InsufficientCidrBlocks", assign, NetworkInterfaceId=id, Ipv4PrefixCount=1)
        subnet = self.ec2.describe_subnets(SubnetIds=[self.many])["Subnets"][0]
        self.assertGreater(subnet["AvailableIpAddressCount"], 3_000)

    def test_a_terminated_instance(self):
        ids = [self.create(self.a), self.create(self.a)]
        attachments = [self.attach(id, index=index) for index, id in enumerate(ids, 1)]
        self.ec2.modify_network_interface_attribute(
            NetworkInterfaceId=ids[0], Attachment={"AttachmentId": attachments[0], "DeleteOnTermination": True}
        )
        self.set({"kind": "terminate", "node": "n1"})
        instance = self.ec2.describe_instances(InstanceIds=[self.instance("n1")])["Reservations"][0]["Instances"][0]
        self.assertEqual(instance["State"], {"Code": 48, "Name": "terminated"})
        self.assertEqual(instance["NetworkInterfaces"], [])
        describe = self.ec2.describe_network_interfaces
        self.refused("InvalidNetworkInterfaceID.NotFound", describe, NetworkInterfaceIds=[ids[0]])
        self.assertEqual(self.eni(ids[1])["Status"], "available")
        attach = self.ec2.attach_network_interface
        place = {"InstanceId": self.instance("n1"), "DeviceIndex": 1}
        self.refused("IncorrectState", attach, NetworkInterfaceId=ids[1], **place)

    def test_prefixes_of_an_instance(self):
        id = self.create(self.many, Ipv4PrefixCount=2)
        self.attach(id)
        shown = self.ec2.describe_instances(InstanceIds=[self.instance("n1")])["Reservations"][0]["Instances"][0]
        prefixes = [eni.get("Ipv4Prefixes", []) for eni in shown["NetworkInterfaces"]]
        self.assertEqual(sorted(map(len, prefixes)), [0, 2])
        subnet = self.ec2.describe_subnets(SubnetIds=[self.many])["Subnets"][0]
        self.assertEqual(subnet["AvailableIpAddressCount"], 4096 - 5 - 1 - 32)
        given = self.eni(id)["Ipv4Prefixes"]
        unassign = self.ec2.unassign_private_ip_addresses
        unassign(NetworkInterfaceId=id, Ipv4Prefixes=[prefix["Ipv4Prefix"] for prefix in given])
        self.assertEqual(self.eni(id).get("Ipv4Prefixes", []), [])

    def test_all_mistakes_are_told_at_once(self):
        with self.assertRaises(urllib.error.HTTPError) as caught:
            self.set({"kind": "sneeze"}, {"kind": "slow", "nodes": ["nobody"]})
        self.assertEqual(caught.exception.code, 400)
        with caught.exception as answer:
            mistakes = json.load(answer)["mistakes"]
        paths = [mistake["path"] for mistake in mistakes]
        self.assertEqual(paths, ["faults[0].kind", "faults[1].nodes[0]", "faults[1].millis"])
        self.assertEqual(self.ask("faults"), [])
        shown = self.set({"kind": "slow", "millis": 0, "name": "mine"})
        self.assertEqual(shown, [{"name": "mine", "fault": {"kind": "slow", "millis": 0, "name": "mine"}, "seen": 0, "fired": 0}])
