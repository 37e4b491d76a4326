"""Strict reading of EC2's answers by botocore's own model.

botocore itself is lenient: it skips elements that it does not know and leaves out members that are not there. Here every
element of the raw answer must be a member of the operation's output shape, every value must parse as its type, enums must be
among the listed values, and each container must be what the shape says. Nothing here knows vpcsim.
"""

import re
import xml.etree.ElementTree as ElementTree

NAMESPACE = "{http://ec2.amazonaws.com/doc/2016-11-15/}"

# What EC2 sends although the model does not list it: the request id is metadata, and the answers of actions without
# output carry <return>true</return> (see the examples of each action in the API reference).
ENVELOPE = {"requestId"}
WITH_RETURN = {
    "AssignPrivateIpAddresses",
    "CreateTags",
    "DeleteNetworkInterface",
    "DeleteRoute",
    "DeleteRouteTable",
    "DeleteTags",
    "DetachNetworkInterface",
    "DisassociateRouteTable",
    "ModifyNetworkInterfaceAttribute",
    "ReplaceRoute",
    "UnassignPrivateIpAddresses",
}
# Values beyond the model's enums. The table of instance types is made from what the VPC CNI project publishes, which has
# four types that EC2 never offered under these names.
BEYOND = {"InstanceType": {"bmn-sf1.metal", "c5a.metal", "c5ad.metal", "c7i.32xlarge"}}

REQUEST_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def check(operation, body):
    """All that is wrong with the answer `body` of an operation's model."""
    root = ElementTree.fromstring(body)
    problems = []
    if root.tag != f"{NAMESPACE}{operation.name}Response":
        problems.append(f"the root is {root.tag}")
    known = dict(members(operation.output_shape)) if operation.output_shape else {}
    seen = set()
    for child in root:
        name = local(child, problems)
        if name in seen:
            problems.append(f"{name} appears twice")
        seen.add(name)
        if name in known:
            value(child, known[name], name, problems)
        elif name == "return" and operation.name in WITH_RETURN:
            if child.text != "true":
                problems.append(f"return is {child.text!r}")
        elif name not in ENVELOPE:
            problems.append(f"{name} is unknown to {operation.name}")
    request_id = root.findtext(f"{NAMESPACE}requestId")
    if not request_id or not REQUEST_ID.fullmatch(request_id):
        problems.append(f"the request id is {request_id!r}")
    # An operation with output has to say something of it.
    if known and not seen & set(known):
        problems.append("the answer has nothing of its shape")
    return problems


def check_error(body):
    """All that is wrong with an error answer."""
    root = ElementTree.fromstring(body)
    problems = []
    if root.tag != "Response":
        problems.append(f"the root is {root.tag}")
    if [child.tag for child in root] != ["Errors", "RequestID"]:
        problems.append(f"the parts are {[child.tag for child in root]}")
    if [part.tag for part in root.findall("Errors/Error/*")] != ["Code", "Message"]:
        problems.append("an error has one code and one message")
    if not root.findtext("Errors/Error/Code") or not root.findtext("Errors/Error/Message"):
        problems.append("code or message is empty")
    if not REQUEST_ID.fullmatch(root.findtext("RequestID") or ""):
        problems.append(f"the request id is {root.findtext('RequestID')!r}")
    return problems


def members(shape):
    for name, member in shape.members.items():
        yield member.serialization.get("name", name), member


def local(element, problems):
    if not element.tag.startswith(NAMESPACE):
        problems.append(f"{element.tag} is outside the name space")
    return element.tag.removeprefix(NAMESPACE)


def value(element, shape, path, problems):
    if element.attrib:
        problems.append(f"{path} has attributes")
    if shape.type_name == "structure":
        structure(element, shape, path, problems)
    elif shape.type_name == "list":
        item_name = shape.member.serialization.get("name", "member")
        for item in element:
            if local(item, problems) != item_name:
                problems.append(f"{path} has {item.tag}, expected {item_name}")
            value(item, shape.member, f"{path}[]", problems)
        blank(element, path, problems)
    else:
        scalar(element, shape, path, problems)


def structure(element, shape, path, problems):
    known = dict(members(shape))
    seen = set()
    for child in element:
        name = local(child, problems)
        if name in seen:
            problems.append(f"{path}.{name} appears twice")
        seen.add(name)
        if name in known:
            value(child, known[name], f"{path}.{name}", problems)
        else:
            problems.append(f"{path}.{name} is unknown to {shape.name}")
    blank(element, path, problems)


def blank(element, path, problems):
    texts = [element.text, *(child.tail for child in element)]
    if any(text and text.strip() for text in texts):
        problems.append(f"{path} has text beside its elements")


def scalar(element, shape, path, problems):
    text = element.text or ""
    if len(element):
        problems.append(f"{path} is a {shape.type_name} and has elements")
    elif shape.type_name == "boolean" and text not in ("true", "false"):
        problems.append(f"{path} is {text!r}, no boolean")
    elif shape.type_name in ("integer", "long") and not re.fullmatch(r"-?\d{1,19}", text):
        problems.append(f"{path} is {text!r}, no integer")
    elif shape.type_name in ("double", "float") and not re.fullmatch(r"-?\d+(\.\d+)?", text):
        problems.append(f"{path} is {text!r}, no number")
    elif shape.type_name == "timestamp" and not TIMESTAMP.fullmatch(text):
        problems.append(f"{path} is {text!r}, no timestamp")
    elif shape.type_name == "string" and shape.enum and text not in {*shape.enum, *BEYOND.get(shape.name, ())}:
        problems.append(f"{path} is {text!r}, which {shape.name} does not list")
