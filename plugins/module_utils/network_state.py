# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What decides whether the instances of a place reach Systems Manager, read from EC2."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from .instances import described
from .nodes import Node
from .reachability import Endpoint, Groups, Judgement, RouteTable, Stand, Vpc, default_route, judge, service_name
from .scope import Place
from .security_rules import SecurityRule, rules_of

_DNS = ("enableDnsSupport", "enableDnsHostnames")


@dataclass(frozen=True)
class Judged:
    """Instances that stand alike, and how they reach the services."""

    stand: Stand
    vpc_id: str
    instance_ids: tuple[str, ...]
    judgement: Judgement


def judged(place: Place, instances: Iterable[Node], names: Sequence[str]) -> list[Judged]:
    """How instances reach services, by few calls for all of them. Those that have no subnet (terminated ones) are left out.

    :raises CollectError: if something cannot be seen.
    """
    nodes = [node for node in instances if node["subnet_id"]]
    if not nodes:
        return []
    subnets = {entry["SubnetId"]: entry["CidrBlock"] for entry in described(place, "DescribeSubnets", "Subnets", "subnet-id", _all(nodes, "subnet_id"))}
    tables = _tables(place, _all(nodes, "vpc_id"))
    vpcs = _vpcs(place, _all(nodes, "vpc_id"), {service_name(name, place.region) for name in names})
    groups = _groups(place, nodes, vpcs.values())
    alike: dict[tuple[str, bool, frozenset[str]], list[Node]] = {}
    for node in nodes:
        key = (node["subnet_id"], bool(node["public_ip_address"]), frozenset(node["security_group_ids"]))
        alike.setdefault(key, []).append(node)
    found = []
    for (subnet_id, public, of_group), members in sorted(alike.items(), key=lambda item: (item[0][0], item[0][1], sorted(item[0][2]))):
        vpc_id = members[0]["vpc_id"]
        stand = Stand(subnet_id, subnets[subnet_id], public, of_group, tables.get(subnet_id) or tables.get(vpc_id))
        judgement = judge(stand, vpcs[vpc_id], groups, names, place.region)
        found.append(Judged(stand, vpc_id, tuple(node["instance_id"] for node in members), judgement))
    return found


def _all(nodes: Iterable[Node], field: str) -> set[str]:
    return {node[field] for node in nodes}


def _tables(place: Place, vpc_ids: Collection[str]) -> dict[str, RouteTable]:
    """Route tables by the subnets that have them; the main one of a VPC by the VPC."""
    found = {}
    for entry in described(place, "DescribeRouteTables", "RouteTables", "vpc-id", vpc_ids):
        table = RouteTable(entry["RouteTableId"], *default_route(entry["Routes"]))
        for association in entry["Associations"]:
            if association.get("AssociationState", {}).get("State", "associated") != "associated":
                continue
            if association.get("Main"):
                found[entry["VpcId"]] = table
            elif "SubnetId" in association:
                found[association["SubnetId"]] = table
    return found


def _vpcs(place: Place, vpc_ids: Collection[str], services: Collection[str]) -> dict[str, Vpc]:
    endpoints: dict[str, list[Endpoint]] = {vpc_id: [] for vpc_id in vpc_ids}
    for entry in described(place, "DescribeVpcEndpoints", "VpcEndpoints", "vpc-id", vpc_ids):
        if entry["ServiceName"] in services:
            endpoints[entry["VpcId"]].append(
                Endpoint(
                    endpoint_id=entry["VpcEndpointId"],
                    service=entry["ServiceName"],
                    gateway=entry["VpcEndpointType"] == "Gateway",
                    available=str(entry["State"]).lower() == "available",
                    private_dns=bool(entry.get("PrivateDnsEnabled")),
                    groups=frozenset(group["GroupId"] for group in entry.get("Groups", ())),
                    tables=frozenset(entry.get("RouteTableIds", ())),
                )
            )
    return {vpc_id: Vpc(vpc_id, tuple(found), _dns(place, vpc_id, found)) for vpc_id, found in endpoints.items()}


def _dns(place: Place, vpc_id: str, endpoints: Iterable[Endpoint]) -> bool:
    """Whether names of endpoints mean anything in a VPC; asked only where one has private DNS."""
    if not any(endpoint.private_dns and not endpoint.gateway for endpoint in endpoints):
        return True
    answers = [place.call("DescribeVpcAttribute", service="ec2", VpcId=vpc_id, Attribute=attribute) for attribute in _DNS]
    return all(answer[attribute[0].upper() + attribute[1:]]["Value"] for attribute, answer in zip(_DNS, answers, strict=True))


def _groups(place: Place, nodes: Iterable[Node], vpcs: Iterable[Vpc]) -> Groups:
    ids = {group for node in nodes for group in node["security_group_ids"]}
    ids |= {group for vpc in vpcs for endpoint in vpc.endpoints for group in endpoint.groups}
    rules: dict[str, list[SecurityRule]] = {}
    for rule in rules_of(place, ids):
        rules.setdefault(rule.group_id, []).append(rule)
    return Groups(rules)
