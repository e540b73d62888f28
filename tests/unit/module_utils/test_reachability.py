# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which services instances reach, by route tables, endpoints and security groups as EC2 describes them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.reachability import (
    Endpoint,
    Groups,
    Judgement,
    RouteTable,
    Stand,
    Vpc,
    default_route,
    judge,
    service_name,
)
from ansible_collections.fleet.ssm.plugins.module_utils.security_rules import SecurityRule

REGION = "eu-central-1"
SSM, S3 = f"com.amazonaws.{REGION}.ssm", f"com.amazonaws.{REGION}.s3"
CLOSED = RouteTable("rtb-1")
STAND = Stand("subnet-1", "10.0.1.0/24", False, frozenset({"sg-node"}), CLOSED)
OUT = SecurityRule("sgr-out", "sg-node", True, "-1", -1, -1, "0.0.0.0/0")
IN = SecurityRule("sgr-in", "sg-vpce", False, "tcp", 443, 443, "10.0.0.0/16")
INTERFACE = Endpoint("vpce-1", SSM, gateway=False, available=True, private_dns=True, groups=frozenset({"sg-vpce"}))
GATEWAY = Endpoint("vpce-2", S3, gateway=True, available=True, private_dns=False, tables=frozenset({"rtb-1"}))


def groups(*rules: SecurityRule) -> Groups:
    found: dict[str, list[SecurityRule]] = {}
    for rule in rules:
        found.setdefault(rule.group_id, []).append(rule)
    return Groups(found)


ALL = groups(OUT, IN)


def said(judgement: Judgement) -> str:
    return "; ".join(str(fault) for fault in judgement.faults)


@pytest.mark.parametrize(
    ("table", "public", "problem"),
    [
        (RouteTable("rtb-1", "nat-1"), False, ""),
        (RouteTable("rtb-1", "tgw-1"), False, ""),
        (RouteTable("rtb-1", "eni-1"), False, ""),
        (RouteTable("rtb-1", "igw-1"), True, ""),
        (RouteTable("rtb-1", "igw-1"), False, "leads to igw-1, but the instances have no public address"),
        (RouteTable("rtb-1", "nat-1", blackhole=True), False, "leads to nat-1, which is not there any more"),
        (RouteTable("rtb-1"), True, "route table rtb-1 has no default route"),
        (None, False, ""),
    ],
)
def test_default_routes(table: RouteTable | None, public: bool, problem: str) -> None:
    found = judge(replace(STAND, table=table, public=public), Vpc("vpc-1"), ALL, ["ssm"], REGION)
    assert found.unreached == (["ssm"] if problem else []) and problem in said(found) and bool(said(found)) == bool(problem)
    assert found.missing == ([SSM] if problem else [])


@pytest.mark.parametrize(
    ("endpoint", "dns", "rules", "problem"),
    [
        (INTERFACE, True, [OUT, IN], ""),
        (replace(INTERFACE, available=False), True, [OUT, IN], "it is not available"),
        (replace(INTERFACE, private_dns=False), True, [OUT, IN], "its private DNS is off"),
        (INTERFACE, False, [OUT, IN], "DNS host names, which are off in vpc-1"),
        (INTERFACE, True, [OUT], "its security groups (sg-vpce) let no HTTPS in from the subnet 10.0.1.0/24"),
        (INTERFACE, True, [OUT, replace(IN, source="10.0.2.0/24")], "let no HTTPS in"),
        (INTERFACE, True, [OUT, replace(IN, source="10.0.1.128/25")], "let no HTTPS in"),
        (INTERFACE, True, [OUT, replace(IN, first=80, last=442)], "let no HTTPS in"),
        (INTERFACE, True, [OUT, replace(IN, protocol="udp")], "let no HTTPS in"),
        (INTERFACE, True, [OUT, replace(IN, source="::/0")], "let no HTTPS in"),
        (INTERFACE, True, [OUT, replace(IN, protocol="6", first=0, last=65535)], ""),
        (INTERFACE, True, [OUT, replace(IN, protocol="-1", first=-1, last=-1)], ""),
        (INTERFACE, True, [OUT, replace(IN, source="sg-node")], ""),
        (INTERFACE, True, [OUT, replace(IN, source="pl-1")], ""),
        (INTERFACE, True, [replace(OUT, protocol="tcp", first=5432, last=5432), IN], "no security group of theirs (sg-node) lets HTTPS out"),
    ],
)
def test_interface_endpoints(endpoint: Endpoint, dns: bool, rules: list[SecurityRule], problem: str) -> None:
    found = judge(STAND, Vpc("vpc-1", (endpoint,), dns), groups(*rules), ["ssm"], REGION)
    assert found.unreached == (["ssm"] if problem else []) and problem in said(found)
    assert found.missing == [], "it is there"
    assert problem or found.ways[0].through == "vpce-1"


def test_an_endpoint_that_lets_nobody_in_is_worse_than_none() -> None:
    routed = replace(STAND, table=RouteTable("rtb-1", "nat-1"))
    assert judge(routed, Vpc("vpc-1", (INTERFACE,)), groups(OUT), ["ssm"], REGION).unreached == ["ssm"]
    for harmless in (replace(INTERFACE, private_dns=False), replace(INTERFACE, available=False)):
        assert judge(routed, Vpc("vpc-1", (harmless,)), groups(OUT), ["ssm"], REGION).unreached == []
    good = replace(INTERFACE, endpoint_id="vpce-3", groups=frozenset({"sg-other"}))
    rules = groups(OUT, replace(IN, group_id="sg-other"))
    assert judge(STAND, Vpc("vpc-1", (INTERFACE, good)), rules, ["ssm"], REGION).ways[0].through == "vpce-3"


def test_s3_by_a_gateway_endpoint_in_the_route_table() -> None:
    assert judge(STAND, Vpc("vpc-1", (GATEWAY,)), ALL, ["s3"], REGION).unreached == []
    elsewhere = replace(GATEWAY, tables=frozenset({"rtb-2"}))
    found = judge(STAND, Vpc("vpc-1", (elsewhere,)), ALL, ["s3"], REGION)
    assert found.unreached == ["s3"] and "vpce-2): it is not in the subnet's route table rtb-1" in said(found)
    assert judge(replace(STAND, table=RouteTable("rtb-1", "nat-1")), Vpc("vpc-1", (elsewhere,)), ALL, ["s3"], REGION).unreached == []


def test_all_that_is_missing_is_named_in_one_sentence() -> None:
    found = judge(STAND, Vpc("vpc-1", (INTERFACE,)), ALL, ["ssm", "ssmmessages", "s3"], REGION)
    assert found.unreached == ["ssmmessages", "s3"] and found.missing == [f"com.amazonaws.{REGION}.ssmmessages", S3]
    assert said(found) == (
        f"route table rtb-1 has no default route, and there is no endpoint for com.amazonaws.{REGION}.ssmmessages, {S3}: make them, or a NAT gateway"
    )


def test_names_of_endpoints_in_china() -> None:
    assert service_name("ssm", "cn-north-1") == "cn.com.amazonaws.cn-north-1.ssm"
    assert service_name("s3", "cn-north-1") == "com.amazonaws.cn-north-1.s3"


def test_default_routes_as_ec2_describes_them() -> None:
    local = {"DestinationCidrBlock": "10.0.0.0/16", "GatewayId": "local", "State": "active"}
    assert default_route([local]) == ("", False)
    assert default_route([local, {"DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": "nat-1", "State": "active"}]) == ("nat-1", False)
    router = {"DestinationCidrBlock": "0.0.0.0/0", "InstanceId": "i-1", "InstanceOwnerId": "111111111111", "NetworkInterfaceId": "eni-1", "State": "active"}
    assert default_route([router]) == ("i-1", False)
    assert default_route([{"DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": "nat-1", "State": "blackhole"}]) == ("nat-1", True)
    core = "arn:aws:networkmanager::111111111111:core-network/core-network-1"
    assert default_route([{"DestinationCidrBlock": "0.0.0.0/0", "CoreNetworkArn": core, "State": "active"}]) == (core, False)
