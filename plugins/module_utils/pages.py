# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages of nodes, read in a fraction of botocore's time, which is most of what a large inventory takes.

Both are handlers of botocore's event `before-parse`. They read what there are thousands of in an answer, and leave the rest of it to botocore.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from xml.etree import ElementTree

Read = Callable[[ElementTree.Element], Any]

_TAG = b"reservationSet"
#: More than half of the text. Nothing else is called so within an instance.
_LONG = {"NetworkInterfaces": b"networkInterfaceSet", "BlockDeviceMappings": b"blockDeviceMapping"}
_SCALARS: Mapping[str, Callable[[str], Any]] = {
    "string": str,
    "timestamp": str,  # of times nobody here needs more than their text, which a host variable is to be
    "boolean": "true".__eq__,
    "integer": int,
    "long": int,
    "float": float,
    "double": float,
}


def read_information(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_unused: Any) -> None:
    """A page of DescribeInstanceInformation: its JSON is as it is wanted, with seconds for times, so nothing needs to be made of it."""
    if response_dict["status_code"] == 200:
        with suppress(ValueError):  # botocore has an error for it
            customized_response_dict.update(json.loads(response_dict["body"]))
            response_dict["body"] = b"{}"


def read_instances(operation_model: Any, response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_unused: Any) -> None:
    """A page of DescribeInstances. botocore looks for each member that an element could have; here each element that is there is looked up once."""
    reservations = operation_model.output_shape.members["Reservations"]
    read = reservations.member.members["Instances"].member.members
    body = response_dict["body"]
    for name in _LONG.keys() - read.keys():
        body = _without(body, _LONG[name])
    head, begin, rest = body.partition(b"<%b>" % _TAG)
    inner, end, tail = rest.rpartition(b"</%b>" % _TAG)
    if not (begin and end):
        return
    with suppress(ElementTree.ParseError):  # botocore has an error for it
        page = ElementTree.XML(begin + inner + end)  # without the namespace, which the root has declared
        customized_response_dict["Reservations"] = _reader(reservations)(page)
        response_dict["body"] = head + tail


def _without(text: bytes, tag: bytes) -> bytes:
    """Cut such elements out."""
    first, *others = text.split(b"<%b>" % tag)
    return first + b"".join([other.partition(b"</%b>" % tag)[2] for other in others])


def _reader(shape: Any) -> Read:
    """What makes of an element what botocore makes of it. :param shape: botocore's."""
    if shape.type_name == "structure":
        members = {member.serialization.get("name", name): (name, _reader(member)) for name, member in shape.members.items()}

        def structure(element: ElementTree.Element) -> dict[str, Any]:
            found = {}
            for child in element:
                if child.tag in members:
                    name, read = members[child.tag]
                    found[name] = read(child)
            return found

        return structure
    if shape.type_name == "list":
        item = _reader(shape.member)
        return lambda element: [item(child) for child in element]
    scalar = _SCALARS[shape.type_name]
    return lambda element: scalar(element.text or "")
