"""A vpcsim of one's own for each test, and boto3 clients whose every answer is checked strictly.

A test gets the server's address from the one line that `vpcsim serve` prints, stops it by its process id, and never talks
to anything else. What was seen (codes, operations) is collected over all tests for the coverage test at the end.
"""

import json
import os
import pathlib
import subprocess
import time
import unittest

import boto3
import botocore
import botocore.config
import botocore.exceptions

import strict

HERE = pathlib.Path(__file__).parent

# One for all clients: reading botocore's model of EC2 takes longer than most tests.
SESSION = boto3.session.Session(region_name="eu-central-1")

# What the server has answered so far, over all tests.
CODES = set()
OPERATIONS = set()


class WorldTest(unittest.TestCase):
    """A test with a server: `self.ec2` is an operator's client."""

    scenario = HERE / "scenario.yaml"

    def setUp(self):
        command = [os.environ["VPCSIM"], "serve", "--scenario", str(self.scenario), "--listen", "127.0.0.1:0"]
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.addCleanup(self._stop)
        line = self.server.stdout.readline()
        self.assertTrue(line, "vpcsim serve ended without a word")
        self.ready = json.loads(line)
        self.ec2 = self.client(self.ready["accessKeyId"])
        self.nodes = {node["name"]: node for node in self.ready["nodes"]}
        subnets = self.ec2.describe_subnets()["Subnets"]
        self.subnets = {cidr: subnet["SubnetId"] for subnet in subnets for cidr in [subnet["CidrBlock"]]}
        self.a, self.b = self.subnets["10.0.0.0/24"], self.subnets["10.0.1.0/24"]
        self.tiny, self.many = self.subnets["10.1.0.0/28"], self.subnets["10.1.16.0/20"]

    def _stop(self):
        self.server.terminate()
        self.server.communicate(timeout=10)

    def client(self, key, **config):
        """A client that signs with `key`, retries nothing and checks everything."""
        config = botocore.config.Config(retries={"total_max_attempts": 1}, parameter_validation=False, **config)
        client = SESSION.client(
            "ec2",
            endpoint_url=self.ready["endpoint"],
            aws_access_key_id=key,
            aws_secret_access_key=key and "unchecked",
            config=config,
        )
        client.meta.events.register("before-parse.ec2.*", self._check)
        return client

    def _check(self, operation_model, response_dict, **_):
        status, body = response_dict["status_code"], response_dict["body"]
        content_type = response_dict["headers"].get("content-type", "")
        self.assertTrue(content_type.startswith("text/xml"), content_type)
        if status == 200:
            problems = strict.check(operation_model, body)
            OPERATIONS.add(operation_model.name)
        else:
            problems = strict.check_error(body)
        self.assertEqual(problems, [], body)

    def refused(self, code, call, status=400, **arguments):
        """`call` must fail with this code."""
        with self.assertRaises(botocore.exceptions.ClientError) as caught:
            call(**arguments)
        response = caught.exception.response
        self.assertEqual(response["Error"]["Code"], code, response["Error"]["Message"])
        self.assertEqual(response["ResponseMetadata"]["HTTPStatusCode"], status)
        self.assertTrue(response["ResponseMetadata"]["RequestId"])
        CODES.add(code)
        return response["Error"]["Message"]

    def instance(self, node):
        return self.nodes[node]["instanceId"]

    def create(self, subnet, **arguments):
        return self.ec2.create_network_interface(SubnetId=subnet, **arguments)["NetworkInterface"]["NetworkInterfaceId"]

    def attach(self, eni, node="n1", index=1):
        """Attaches and waits until it is there; the attachment's id."""
        answer = self.ec2.attach_network_interface(
            NetworkInterfaceId=eni, InstanceId=self.instance(node), DeviceIndex=index
        )
        self.wait_for(lambda: self.eni(eni)["Attachment"]["Status"] == "attached")
        return answer["AttachmentId"]

    def eni(self, eni):
        return self.ec2.describe_network_interfaces(NetworkInterfaceIds=[eni])["NetworkInterfaces"][0]

    def primary(self, node):
        instance = self.ec2.describe_instances(InstanceIds=[self.instance(node)])["Reservations"][0]["Instances"][0]
        return instance["NetworkInterfaces"][0]

    def wait_for(self, done, seconds=10):
        end = time.monotonic() + seconds
        while not done():
            self.assertLess(time.monotonic(), end, "waited too long")
            time.sleep(0.02)
