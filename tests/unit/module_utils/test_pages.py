# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of pages is what botocore reads of them, but for members that nobody asks for, and times, which stay as they came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from botocore.session import Session

from ansible_collections.fleet.ssm.plugins.module_utils.accounts import BaseIdentity
from ansible_collections.fleet.ssm.plugins.module_utils.clients import _MEMBERS, ClientPool

NAMESPACE = b'xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"'
INSTANCES = b"""<?xml version="1.0" encoding="UTF-8"?>
<DescribeInstancesResponse %b><requestId>1</requestId>
 <reservationSet>
  <item><reservationId>r-1</reservationId><ownerId>111111111111</ownerId><groupSet/><instancesSet>
   <item><instanceId>i-1</instanceId>
    <networkInterfaceSet><item><sourceDestCheck>true</sourceDestCheck></item></networkInterfaceSet>
    <metadataOptions><httpPutResponseHopLimit>2</httpPutResponseHopLimit><httpTokens>required</httpTokens></metadataOptions>
    <launchTime>2026-01-02T03:04:05.000Z</launchTime><instanceState><code>16</code><name>running</name></instanceState><privateDnsName/>
    <groupSet><item><groupId>sg-1</groupId><groupName>a</groupName></item></groupSet><blockDeviceMapping/>
    <placement><availabilityZone>eu-central-1a</availabilityZone><tenancy>default</tenancy></placement><unheardOf><item>1</item></unheardOf>
    <tagSet><item><key>Name</key><value>&lt;networkInterfaceSet&gt; \xc3\xa4</value></item><item><key>Empty</key><value/></item></tagSet></item>
   <item><instanceId>i-2</instanceId><tagSet/></item></instancesSet></item>
  <item><ownerId>222222222222</ownerId><instancesSet><item><instanceId>i-3</instanceId></item></instancesSet></item>
 </reservationSet><nextToken>more</nextToken></DescribeInstancesResponse>""" % NAMESPACE
NONE = b"<DescribeInstancesResponse %b><requestId>1</requestId><reservationSet/></DescribeInstancesResponse>" % NAMESPACE
REFUSED = b"<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error></Errors><RequestID>1</RequestID></Response>"
INFORMATION = b'{"InstanceInformationList": [{"InstanceId": "i-1", "LastPingDateTime": 1.5, "IsLatestVersion": true}], "NextToken": "x"}'


class Raw:
    """A body as urllib3 gives it."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_unused: Any) -> list[bytes]:
        return [self._body]


def answering(session: Session, body: bytes, status: int = 200) -> Session:
    """Every request is answered so, whatever it is."""
    session.register("before-send", lambda request, **_unused: AWSResponse(request.url, status, {}, Raw(body)))
    return session


def ask(session: Session, service: str, operation: str) -> dict[str, Any]:
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
    answer: dict[str, Any] = getattr(session.create_client(service, region_name="eu-central-1", **keys), operation)()
    answer.pop("ResponseMetadata")
    return answer


def lean(details: frozenset[str] = frozenset()) -> Session:
    session: Session = ClientPool(details=details, retries=False).sessions(BaseIdentity()).data
    return session


def plain() -> Session:
    session = Session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=lambda value: value)
    return session


def cut(answer: dict[str, Any], wanted: frozenset[str]) -> dict[str, Any]:
    """What is asked for, of botocore's answer."""
    for reservation in answer["Reservations"]:
        reservation.pop("ReservationId", None)
        reservation.pop("Groups", None)
        reservation["Instances"] = [{name: value for name, value in instance.items() if name in wanted} for instance in reservation["Instances"]]
        for instance in reservation["Instances"]:
            instance.get("State", {}).pop("Code", None)
            instance.get("Placement", {}).pop("Tenancy", None)
            for group in instance.get("SecurityGroups", ()):
                group.pop("GroupName")
    return answer


@pytest.mark.parametrize("details", [frozenset(), frozenset({"MetadataOptions", "NetworkInterfaces"})])
def test_instances(details: frozenset[str]) -> None:
    found = ask(answering(lean(details), INSTANCES), "ec2", "describe_instances")
    whole = ask(answering(plain(), INSTANCES), "ec2", "describe_instances")
    expected = cut(whole, _MEMBERS["ec2"]["Instance"] | details)
    assert found == expected
    assert found["NextToken"] == "more"


@pytest.mark.parametrize("session", [lean, plain])
def test_no_instances(session: Callable[[], Session]) -> None:
    assert ask(answering(session(), NONE), "ec2", "describe_instances") == {"Reservations": []}


def test_information() -> None:
    both = [ask(answering(session, INFORMATION), "ssm", "describe_instance_information") for session in (lean(), plain())]
    assert both[0] == both[1] and both[0]["NextToken"] == "x"


def test_what_is_no_page_is_botocores_to_explain() -> None:
    with pytest.raises(ResponseParserError):
        ask(answering(lean(), INSTANCES.replace(b"</item></tagSet>", b"")), "ec2", "describe_instances")


@pytest.mark.parametrize(
    ("service", "operation", "body"),
    [
        ("ec2", "describe_instances", REFUSED),
        ("ssm", "describe_instance_information", b'{"__type": "AccessDeniedException", "message": "no"}'),
    ],
)
def test_errors(service: str, operation: str, body: bytes) -> None:
    with pytest.raises(ClientError, match="no"):
        ask(answering(lean(), body, 403), service, operation)
