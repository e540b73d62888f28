# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an instance can reach Systems Manager, as far as route tables and VPC endpoints tell.

Two calls for all networks of a place. Security groups, network ACLs, firewalls and DNS are not looked at, and every default route but that to an
internet gateway is taken to lead out: a way that is not blocked here may be blocked elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..nodes import Node
from ..scope import Place
from .evidence import Way

#: The endpoints without which no agent is online.
SERVICES = ("ssm", "ssmmessages")
_TARGETS = (
    "GatewayId", "NatGatewayId", "TransitGatewayId", "NetworkInterfaceId", "InstanceId", "VpcPeeringConnectionId", "LocalGatewayId", "CarrierGatewayId",
    "CoreNetworkArn",
)  # fmt: skip


class Ways:
    """Route tables and interface endpoints of some networks.

    :param tables: entries of DescribeRouteTables.
    :param endpoints: entries of DescribeVpcEndpoints.
    """

    def __init__(self, region: str, tables: Iterable[Mapping[str, Any]], endpoints: Iterable[Mapping[str, Any]]) -> None:
        self._region = region
        self._by_subnet: dict[str, str | None] = {}
        self._main: dict[str, str | None] = {}
        for table in tables:
            target = _default_target(table.get("Routes", ()))
            for association in table.get("Associations", ()):
                if association.get("SubnetId"):
                    self._by_subnet[association["SubnetId"]] = target
                elif association.get("Main"):
                    self._main[table["VpcId"]] = target
        self._endpoints: dict[str, set[str]] = {}
        for endpoint in endpoints:
            service = str(endpoint["ServiceName"]).rpartition(f".{region}.")[2]
            if endpoint.get("VpcEndpointType") == "Interface" and endpoint.get("State") == "available" and endpoint.get("PrivateDnsEnabled"):
                self._endpoints.setdefault(endpoint["VpcId"], set()).add(service)

    @classmethod
    def ask(cls, place: Place, networks: Sequence[str]) -> Ways:
        """Of these VPCs. :raises CollectError: if AWS refuses."""
        filters = [{"Name": "vpc-id", "Values": list(networks)}]
        tables = list(place.pages("DescribeRouteTables", "RouteTables", service="ec2", Filters=filters, MaxResults=100))
        return cls(place.region, tables, place.pages("DescribeVpcEndpoints", "VpcEndpoints", service="ec2", Filters=filters, MaxResults=1000))

    def of(self, node: Node) -> Way | None:
        """The way of an instance; None if its network was not seen."""
        network, subnet = node["vpc_id"], node["subnet_id"]
        if subnet not in self._by_subnet and network not in self._main:
            return None
        target = self._by_subnet[subnet] if subnet in self._by_subnet else self._main[network]
        to_internet = target is not None and target.startswith("igw-")
        if target is not None and (not to_internet or node["public_ip_address"]):
            return Way(None)
        lacking = [service for service in SERVICES if service not in self._endpoints.get(network, ())]
        if not lacking:
            return Way(None)
        if to_internet:
            out = f"The default route of its subnet {subnet} leads to the internet gateway {target}, but it has no public address"
        else:
            out = f"Its subnet {subnet} has no default route that leads anywhere"
        named = ", ".join(f"com.amazonaws.{self._region}.{service}" for service in lacking)
        return Way(
            f"{out}, and {network} has no endpoint with private DNS for {' and '.join(lacking)}.",
            f"Create the interface endpoints {named}, with private DNS and a security group that lets the instance in on port 443, or give the subnet a "
            "default route to a NAT gateway.",
        )


def _default_target(routes: Iterable[Mapping[str, Any]]) -> str | None:
    """Where everything else goes, None for nowhere."""
    for route in routes:
        if route.get("DestinationCidrBlock") == "0.0.0.0/0" and route.get("State") != "blackhole":
            return next((str(route[name]) for name in _TARGETS if route.get(name)), None)
    return None
