"""Route tables by boto3: every call as a user of EC2 expects it, and every way in which one is refused."""

from world import WorldTest

TABLE = "rtb-0123456789abcdef0"
ASSOCIATION = "rtbassoc-0123456789abcdef0"
GATEWAY = "igw-0123456789abcdef0"
ENI = "eni-0123456789abcdef0"
PODS = "10.4.0.0/25"


class Routes(WorldTest):
    def setUp(self):
        super().setUp()
        self.vpc = self.ready["vpc"]
        self.main = self.table(Filters=[{"Name": "association.main", "Values": ["true"]}])["RouteTableId"]
        self.n1 = self.primary("n1")["NetworkInterfaceId"]

    def table(self, **arguments):
        [table] = self.ec2.describe_route_tables(**arguments)["RouteTables"]
        return table

    def made(self):
        return self.ec2.create_route_table(VpcId=self.vpc)["RouteTable"]["RouteTableId"]

    def cidr_state(self, id):
        [vpc] = self.ec2.describe_vpcs()["Vpcs"]
        found = [cidr for cidr in vpc["CidrBlockAssociationSet"] if cidr["AssociationId"] == id]
        return found[0]["CidrBlockState"]["State"] if found else None

    def route(self, table, destination):
        routes = self.table(RouteTableIds=[table])["Routes"]
        found = [route for route in routes if destination in route.values()]
        return found[0] if found else None

    def test_the_life_of_a_route(self):
        route = {"RouteTableId": self.main, "DestinationCidrBlock": PODS}
        self.assertTrue(self.ec2.create_route(**route, NetworkInterfaceId=self.n1)["Return"])
        expected = {
            "DestinationCidrBlock": PODS,
            "InstanceId": self.instance("n1"),
            "InstanceOwnerId": "111122223333",
            "NetworkInterfaceId": self.n1,
            "Origin": "CreateRoute",
            "State": "active",
        }
        self.assertEqual(self.route(self.main, PODS), expected)
        self.ec2.replace_route(**route, InstanceId=self.instance("n2"))
        self.assertEqual(self.route(self.main, PODS)["InstanceId"], self.instance("n2"))
        self.ec2.delete_route(**route)
        self.assertIsNone(self.route(self.main, PODS))
        v6 = {"RouteTableId": self.main, "DestinationIpv6CidrBlock": "2001:db8::/80"}
        self.ec2.create_route(**v6, NetworkInterfaceId=self.n1)
        self.assertEqual(self.route(self.main, "2001:db8::/80")["State"], "active")
        self.ec2.delete_route(**v6)

    def test_a_destination_is_brought_into_its_canonical_form(self):
        self.ec2.create_route(RouteTableId=self.main, DestinationCidrBlock="100.68.0.18/18", NetworkInterfaceId=self.n1)
        self.assertIsNotNone(self.route(self.main, "100.68.0.0/18"))

    def test_another_table_becomes_the_main_one(self):
        [old] = self.table(RouteTableIds=[self.main])["Associations"]
        table = self.made()
        moved = self.ec2.replace_route_table_association(AssociationId=old["RouteTableAssociationId"], RouteTableId=table)
        [new] = self.table(Filters=[{"Name": "association.main", "Values": ["true"]}])["Associations"]
        self.assertEqual((new["RouteTableId"], new["RouteTableAssociationId"]), (table, moved["NewAssociationId"]))
        self.refused("DependencyViolation", self.ec2.delete_route_table, RouteTableId=table)
        self.ec2.delete_route_table(RouteTableId=self.main)

    def test_filters_find_a_table(self):
        self.ec2.create_route(RouteTableId=self.main, DestinationCidrBlock=PODS, NetworkInterfaceId=self.n1)
        for name, value in [
            ("association.main", "true"),
            ("owner-id", "111122223333"),
            ("route-table-id", self.main),
            ("route.destination-cidr-block", "10.4.?.0/25"),
            ("route.gateway-id", "igw-*"),
            ("route.instance-id", self.instance("n1")),
            ("route.origin", "CreateRoute"),
            ("route.state", "active"),
            ("vpc-id", self.vpc),
        ]:
            found = self.table(Filters=[{"Name": name, "Values": [value]}])
            self.assertEqual(found["RouteTableId"], self.main, name)
        for name in ["route.state", "route.nat-gateway-id", "route.destination-prefix-list-id", "association.subnet-id"]:
            answer = self.ec2.describe_route_tables(Filters=[{"Name": name, "Values": ["blackhole"]}])
            self.assertEqual(answer["RouteTables"], [], name)
        many = [{"Name": "route-table-id", "Values": [f"rtb-{number}" for number in range(201)]}]
        self.refused("FilterLimitExceeded", self.ec2.describe_route_tables, Filters=many)

    def test_the_main_table_is_there_from_the_beginning(self):
        table = self.table(RouteTableIds=[self.main])
        [association] = table["Associations"]
        self.assertNotIn("SubnetId", association)
        self.assertEqual((association["Main"], association["AssociationState"]), (True, {"State": "associated"}))
        self.assertEqual([route["GatewayId"][:5] for route in table["Routes"]], ["local", "local", "igw-0"])
        self.assertEqual((table["VpcId"], table["PropagatingVgws"], table["Tags"]), (self.vpc, [], []))

    def test_the_life_of_a_table(self):
        specification = [{"ResourceType": "route-table", "Tags": [{"Key": "claim", "Value": "us"}]}]
        answer = self.ec2.create_route_table(VpcId=self.vpc, TagSpecifications=specification, ClientToken="one")
        self.assertEqual(answer["ClientToken"], "one")
        table = answer["RouteTable"]["RouteTableId"]
        self.assertEqual({route["Origin"] for route in answer["RouteTable"]["Routes"]}, {"CreateRouteTable"})
        self.assertEqual(self.table(Filters=[{"Name": "tag:claim", "Values": ["us"]}])["RouteTableId"], table)
        self.ec2.delete_tags(Resources=[table], Tags=[{"Key": "claim"}])
        self.assertEqual(self.table(RouteTableIds=[table])["Tags"], [])
        first = self.ec2.associate_route_table(RouteTableId=table, SubnetId=self.a)
        self.assertEqual(first["AssociationState"], {"State": "associated"})
        self.assertEqual(self.table(Filters=[{"Name": "association.subnet-id", "Values": [self.a]}])["RouteTableId"], table)
        moved = self.ec2.replace_route_table_association(AssociationId=first["AssociationId"], RouteTableId=self.main)
        self.ec2.disassociate_route_table(AssociationId=moved["NewAssociationId"])
        self.ec2.delete_route_table(RouteTableId=table)

    def test_tables_come_in_pages(self):
        made = {self.made() for _ in range(11)}
        pages = self.ec2.get_paginator("describe_route_tables").paginate(PaginationConfig={"PageSize": 5})
        pages = [[table["RouteTableId"] for table in page["RouteTables"]] for page in pages]
        self.assertEqual([len(page) for page in pages], [5, 5, 2])
        self.assertEqual(made | {self.main}, {table for page in pages for table in page})
        for number in range(123):
            route = {"RouteTableId": self.main, "DestinationCidrBlock": f"10.4.{number}.0/25"}
            self.ec2.create_route(**route, NetworkInterfaceId=self.n1)
        self.refused("OperationNotPermitted", self.ec2.describe_route_tables)

    def test_a_route_turns_black_and_back(self):
        eni = self.create(self.a)
        self.ec2.create_route(RouteTableId=self.main, DestinationCidrBlock=PODS, NetworkInterfaceId=eni)
        self.assertEqual(self.route(self.main, PODS)["State"], "blackhole")
        attachment = self.attach(eni)
        self.assertEqual(self.route(self.main, PODS)["State"], "active")
        self.ec2.detach_network_interface(AttachmentId=attachment)
        self.wait_for(lambda: self.route(self.main, PODS)["State"] == "blackhole")

    def test_a_cidr_comes_and_goes(self):
        answer = self.ec2.associate_vpc_cidr_block(VpcId=self.vpc, CidrBlock="10.2.0.0/16")
        self.assertEqual(answer["CidrBlockAssociation"]["CidrBlockState"], {"State": "associating"})
        id = answer["CidrBlockAssociation"]["AssociationId"]
        self.assertEqual(self.cidr_state(id), "associating")
        self.refused("IncorrectState", self.ec2.disassociate_vpc_cidr_block, AssociationId=id)
        self.assertIsNone(self.route(self.main, "10.2.0.0/16"))
        self.wait_for(lambda: self.cidr_state(id) == "associated")
        self.assertEqual(self.route(self.main, "10.2.0.0/16")["GatewayId"], "local")
        answer = self.ec2.disassociate_vpc_cidr_block(AssociationId=id)
        self.assertEqual(answer["CidrBlockAssociation"]["CidrBlockState"], {"State": "disassociating"})
        self.wait_for(lambda: self.cidr_state(id) is None)
        self.assertIsNone(self.route(self.main, "10.2.0.0/16"))
        self.refused("InvalidVpcCidrBlockAssociationID.NotFound", self.ec2.disassociate_vpc_cidr_block, AssociationId=id)

    def test_refused_routes(self):
        create, replace, delete = self.ec2.create_route, self.ec2.replace_route, self.ec2.delete_route
        second = self.create(self.a)
        self.attach(second)
        good = {"RouteTableId": self.main, "DestinationCidrBlock": PODS, "NetworkInterfaceId": self.n1}
        for code, arguments in [
            ("InvalidRouteTableID.NotFound", {"RouteTableId": TABLE}),
            ("InvalidRouteTableId.Malformed", {"RouteTableId": "main"}),
            ("InvalidNetworkInterfaceID.NotFound", {"NetworkInterfaceId": ENI}),
            ("InvalidInternetGatewayID.NotFound", {"NetworkInterfaceId": None, "GatewayId": GATEWAY}),
            ("InvalidInternetGatewayId.Malformed", {"NetworkInterfaceId": None, "GatewayId": "internet"}),
            ("InvalidInstanceID", {"NetworkInterfaceId": None, "InstanceId": self.instance("n1")}),
            ("InvalidParameterCombination", {"InstanceId": self.instance("n2")}),
            ("InvalidParameterCombination", {"DestinationIpv6CidrBlock": "2001:db8::/80"}),
            ("UnsupportedOperation", {"TransitGatewayId": "tgw-0123456789abcdef0"}),
            ("InvalidParameterValue", {"DestinationCidrBlock": "10.0.9.0/24"}),
            ("InvalidParameterValue", {"DestinationCidrBlock": None, "DestinationIpv6CidrBlock": "fd00:ec2:1::/48"}),
            ("InvalidParameterValue", {"DestinationCidrBlock": "169.254.168.0/24"}),
            ("InvalidParameterValue", {"DestinationCidrBlock": "pods"}),
            ("MissingParameter", {"NetworkInterfaceId": None}),
            ("MissingParameter", {"DestinationCidrBlock": None}),
            ("RouteAlreadyExists", {"DestinationCidrBlock": "10.0.0.0/16"}),
        ]:
            wanted = {name: value for name, value in {**good, **arguments}.items() if value is not None}
            self.refused(code, create, **wanted)
        self.assertIn("Use CreateRoute instead.", self.refused("InvalidParameterValue", replace, **good))
        self.refused("UnsupportedOperation", replace, **{**good, "DestinationCidrBlock": "10.0.0.0/16"})
        self.refused("InvalidRoute.NotFound", delete, RouteTableId=self.main, DestinationCidrBlock=PODS)
        self.refused("InvalidParameterValue", delete, RouteTableId=self.main, DestinationCidrBlock="10.0.0.0/16")
        for number in range(497):
            destination = f"100.64.{number // 256}.{number % 256}/32"
            create(RouteTableId=self.main, DestinationCidrBlock=destination, NetworkInterfaceId=self.n1)
        self.refused("RouteLimitExceeded", create, **good)

    def test_refused_tables(self):
        table = self.made()
        associate, move = self.ec2.associate_route_table, self.ec2.replace_route_table_association
        [main] = self.table(RouteTableIds=[self.main])["Associations"]
        main = main["RouteTableAssociationId"]
        associate(RouteTableId=table, SubnetId=self.a)
        self.refused("Resource.AlreadyAssociated", associate, RouteTableId=self.main, SubnetId=self.a)
        self.refused("InvalidSubnetID.NotFound", associate, RouteTableId=table, SubnetId="subnet-0123456789abcdef0")
        self.refused("MissingParameter", associate, RouteTableId=table)
        self.refused("InvalidAssociationID.NotFound", move, AssociationId=ASSOCIATION, RouteTableId=table)
        self.refused("InvalidRouteTableAssociationId.Malformed", move, AssociationId="main", RouteTableId=table)
        self.refused("InvalidParameterValue", self.ec2.disassociate_route_table, AssociationId=main)
        self.refused("DependencyViolation", self.ec2.delete_route_table, RouteTableId=table)
        self.refused("InvalidRouteTableID.NotFound", self.ec2.describe_route_tables, RouteTableIds=[TABLE])
        self.refused("InvalidRouteTableID.NotFound", self.ec2.create_tags, Resources=[TABLE], Tags=[{"Key": "a"}])
        self.refused("InvalidVpcID.NotFound", self.ec2.create_route_table, VpcId="vpc-0123456789abcdef0")
        for arguments in [{"MaxResults": 4}, {"MaxResults": 101}, {"Filters": [{"Name": "colour", "Values": ["red"]}]}]:
            self.refused("InvalidParameterValue", self.ec2.describe_route_tables, **arguments)
        for _ in range(198):
            self.made()
        self.refused("RouteTableLimitExceeded", self.ec2.create_route_table, VpcId=self.vpc)

    def test_refused_cidrs(self):
        associate, disassociate = self.ec2.associate_vpc_cidr_block, self.ec2.disassociate_vpc_cidr_block
        self.ec2.create_route(RouteTableId=self.main, DestinationCidrBlock=PODS, NetworkInterfaceId=self.n1)
        for cidr in [PODS, "10.4.0.0/16", "10.0.0.0/16", "10.5.0.0/15"]:
            self.refused("InvalidVpc.Range", associate, VpcId=self.vpc, CidrBlock=cidr)
        self.refused("InvalidParameterValue", associate, VpcId=self.vpc, CidrBlock="pods")
        [vpc] = self.ec2.describe_vpcs()["Vpcs"]
        ids = [cidr["AssociationId"] for cidr in vpc["CidrBlockAssociationSet"]]
        self.refused("OperationNotPermitted", disassociate, AssociationId=ids[0])
        self.refused("InvalidCidrBlock.InUse", disassociate, AssociationId=ids[1])
        for number in range(5, 8):
            associate(VpcId=self.vpc, CidrBlock=f"10.{number}.0.0/16")
        self.refused("CidrLimitExceeded", associate, VpcId=self.vpc, CidrBlock="10.8.0.0/16")

    def test_a_dry_run_of_every_call_that_knows_it(self):
        table = self.made()
        association = self.ec2.associate_route_table(RouteTableId=table, SubnetId=self.a)["AssociationId"]
        route = {"RouteTableId": self.main, "DestinationCidrBlock": PODS}
        self.ec2.create_route(RouteTableId=table, DestinationCidrBlock=PODS, NetworkInterfaceId=self.n1)
        there = {"RouteTableId": table, "DestinationCidrBlock": PODS}
        for call, arguments in [
            (self.ec2.describe_route_tables, {}),
            (self.ec2.create_route_table, {"VpcId": self.vpc}),
            (self.ec2.delete_route_table, {"RouteTableId": self.made()}),
            (self.ec2.create_route, {**route, "NetworkInterfaceId": self.n1}),
            (self.ec2.replace_route, {**there, "NetworkInterfaceId": self.n1}),
            (self.ec2.delete_route, there),
            (self.ec2.associate_route_table, {"RouteTableId": table, "SubnetId": self.b}),
            (self.ec2.disassociate_route_table, {"AssociationId": association}),
            (self.ec2.replace_route_table_association, {"AssociationId": association, "RouteTableId": self.main}),
            (self.ec2.delete_tags, {"Resources": [table]}),
        ]:
            self.refused("DryRunOperation", call, status=412, DryRun=True, **arguments)
        self.assertIsNone(self.route(self.main, PODS))
        self.assertIsNotNone(self.route(table, PODS))
