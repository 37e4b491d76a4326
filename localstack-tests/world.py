"""Builds the world of a scenario in an EC2 endpoint and prints it as vpcsim prints its own: one JSON line.

    world.py SCENARIO.yaml ENDPOINT

The keys that it knows are those of contract.yaml. Needs boto3 and PyYAML, which LocalStack brings along.
"""

import json
import sys

import boto3
import yaml

KEY, SECRET = "test", "test"


def tags(kind, wanted):
    """A TagSpecifications argument; EC2 refuses one without tags."""
    pairs = [{"Key": key, "Value": value} for key, value in wanted.items()]
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": pairs}]} if pairs else {}


def build(ec2, scenario):
    first, *more = scenario["vpc"]["cidrs"]
    vpc = ec2.create_vpc(CidrBlock=first)["Vpc"]["VpcId"]
    for cidr in more:
        ec2.associate_vpc_cidr_block(VpcId=vpc, CidrBlock=cidr)
    for group in scenario["securityGroups"]:
        name = group["name"]
        ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc, **tags("security-group", group["tags"]))
    subnets = {}
    for subnet in scenario["subnets"]:
        made = ec2.create_subnet(
            VpcId=vpc, CidrBlock=subnet["cidr"], AvailabilityZone=subnet["zone"], **tags("subnet", subnet["tags"])
        )
        subnets[subnet["name"]] = made["Subnet"]["SubnetId"]
    for table in scenario["routeTables"]:
        # A VPC has its main table from the beginning.
        if table.get("main"):
            continue
        made = ec2.create_route_table(VpcId=vpc, **tags("route-table", table["tags"]))["RouteTable"]["RouteTableId"]
        for subnet in table.get("subnets", []):
            ec2.associate_route_table(RouteTableId=made, SubnetId=subnets[subnet])
    image = ec2.describe_images()["Images"][0]["ImageId"]
    nodes = []
    for node in scenario["nodes"]:
        subnet = subnets[node["subnet"]]
        started = ec2.run_instances(
            ImageId=image, MinCount=1, MaxCount=1, InstanceType=node["type"], SubnetId=subnet
        )
        nodes.append({"name": node["name"], "instanceId": started["Instances"][0]["InstanceId"], "subnet": subnet})
    return {"vpc": vpc, "nodes": nodes}


def main():
    path, endpoint = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        scenario = yaml.safe_load(file)
    region = scenario["region"]
    ec2 = boto3.client(
        "ec2", endpoint_url=endpoint, region_name=region, aws_access_key_id=KEY, aws_secret_access_key=SECRET
    )
    world = {"region": region, "endpoint": endpoint, "accessKeyId": KEY, "secretAccessKey": SECRET}
    print(json.dumps(world | build(ec2, scenario)))


main()
