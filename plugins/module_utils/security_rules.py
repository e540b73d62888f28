# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of security groups: what each lets through, and for whom."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from .instances import described
from .scope import Place

_EVERYTHING = "-1"
_NUMBERS = {"tcp": "6", "udp": "17"}
_ANYWHERE = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True)
class SecurityRule:
    """An entry of DescribeSecurityGroupRules."""

    rule_id: str
    group_id: str
    egress: bool
    protocol: str  #: tcp, udp, a number, or -1 for all, which has no ports
    first: int
    last: int
    source: str  #: or destination: a CIDR, the id of a group, or that of a prefix list

    @property
    def anywhere(self) -> bool:
        """Whether it is for all addresses of IPv4 or of IPv6."""
        return self.source in _ANYWHERE

    @property
    def everything(self) -> bool:
        """Whether it is for all protocols and ports."""
        return self.protocol == _EVERYTHING

    def covers(self, port: int, protocol: str = "tcp") -> bool:
        """Whether it lets a port through."""
        return self.everything or (self.protocol in (protocol, _NUMBERS[protocol]) and self.first <= port <= self.last)

    def is_for(self, cidr: str, groups: Collection[str]) -> bool:
        """Whether addresses of a network, or interfaces of some groups, are meant. What a prefix list holds is not known, so it may be."""
        if self.source in groups or self.source.startswith("pl-"):
            return True
        if "/" not in self.source:
            return False
        theirs, ours = ipaddress.ip_network(self.source, strict=False), ipaddress.ip_network(cidr, strict=False)
        return isinstance(theirs, type(ours)) and ours.subnet_of(theirs)  # type: ignore[arg-type]

    def __str__(self) -> str:
        what = "everything" if self.everything else f"{self.protocol} {self.first}" if self.first == self.last else f"{self.protocol} {self.first}-{self.last}"
        return f"{what} {'to' if self.egress else 'from'} {self.source}"


def rules_of(place: Place, groups: Collection[str]) -> list[SecurityRule]:
    """The rules of security groups. :raises CollectError: if they cannot be seen."""
    return [_rule(entry) for entry in described(place, "DescribeSecurityGroupRules", "SecurityGroupRules", "group-id", groups)]


def _rule(entry: Mapping[str, Any]) -> SecurityRule:
    group = entry.get("ReferencedGroupInfo") or {}
    source = entry.get("CidrIpv4") or entry.get("CidrIpv6") or entry.get("PrefixListId") or group.get("GroupId") or ""
    return SecurityRule(
        rule_id=entry["SecurityGroupRuleId"],
        group_id=entry["GroupId"],
        egress=entry["IsEgress"],
        protocol=entry["IpProtocol"],
        first=entry.get("FromPort", -1),
        last=entry.get("ToPort", -1),
        source=source,
    )
