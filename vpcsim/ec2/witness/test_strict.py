"""The judge judged: answers with a known fault must be found faulty, or its silence would prove nothing."""

import unittest

import botocore.session

import strict

MODEL = botocore.session.get_session().get_service_model("ec2")


def answer(content, operation="DescribeVpcs"):
    request_id = "<requestId>01234567-89ab-4def-8123-456789abcdef</requestId>"
    space = "http://ec2.amazonaws.com/doc/2016-11-15/"
    return f'<{operation}Response xmlns="{space}">{request_id}{content}</{operation}Response>'


class Strict(unittest.TestCase):
    def problems(self, content, operation="DescribeVpcs"):
        return strict.check(MODEL.operation_model(operation), answer(content, operation))

    def test_a_right_answer_passes(self):
        vpc = "<item><vpcId>vpc-1</vpcId><isDefault>true</isDefault><state>available</state></item>"
        self.assertEqual(self.problems(f"<vpcSet>{vpc}</vpcSet>"), [])

    def test_each_fault_is_found(self):
        for content, why in [
            ("", "nothing of the shape"),
            ("<vpcSet/><colour>red</colour>", "an unknown element"),
            ("<vpcSet><item><colour>red</colour></item></vpcSet>", "an unknown member"),
            ("<vpcSet><member/></vpcSet>", "another name of the items"),
            ("<vpcSet><item><isDefault>yes</isDefault></item></vpcSet>", "no boolean"),
            ("<vpcSet><item><state>happy</state></item></vpcSet>", "not of the enum"),
            ("<vpcSet><item><vpcId><id/></vpcId></item></vpcSet>", "elements in a text"),
            ("<vpcSet>text</vpcSet>", "text in a list"),
            ("<vpcSet/><vpcSet/>", "twice"),
            ("<vpcSet/><return>true</return>", "a return that this action does not have"),
        ]:
            self.assertNotEqual(self.problems(content), [], why)
        time = "<networkInterfaceSet><item><attachment><attachTime>now</attachTime></attachment></item></networkInterfaceSet>"
        self.assertNotEqual(self.problems(time, "DescribeNetworkInterfaces"), [])
        self.assertNotEqual(strict.check(MODEL.operation_model("DescribeVpcs"), "<DescribeVpcsResponse/>"), [])
