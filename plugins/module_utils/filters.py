# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes are wanted: filters in the words of EC2's DescribeInstances, asked of the API and of what we know. No I/O.

EC2 applies its filters itself. Hybrid nodes are unknown to EC2, and an exclusion should not cost a call; for both the same
filters are judged here by the same rules: all keys of a filter must match, any value of a key is enough, `*` and `?` are
wildcards, letters' case counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .accounts import OptionError
from .nodes import Node

#: Values that one filter of EC2 takes.
FILTER_VALUES = 200
#: EC2's names of filters that a node's own fields answer.
_FIELDS: Mapping[str, str] = {
    "architecture": "architecture",
    "availability-zone": "availability_zone",
    "dns-name": "public_dns_name",
    "iam-instance-profile.arn": "instance_profile_arn",
    "image-id": "image_id",
    "instance-id": "instance_id",
    "instance-state-name": "state",
    "instance-type": "instance_type",
    "instance.group-id": "security_group_ids",
    "ip-address": "public_ip_address",
    "key-name": "key_name",
    "owner-id": "account_id",
    "private-dns-name": "private_dns_name",
    "private-ip-address": "private_ip_address",
    "subnet-id": "subnet_id",
    "vpc-id": "vpc_id",
}


@dataclass(frozen=True)
class Ec2Filter:
    """One mapping of filter names to values; a node must match all of the names."""

    conditions: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def known(self) -> bool:
        """Whether `matches` can judge every condition, so that no API call is needed for it."""
        return all(name in _FIELDS or name == "tag-key" or name.startswith("tag:") for name, _values in self.conditions)

    def matches(self, node: Node) -> bool:
        """Whether the node has what is asked for. A condition that is not `known` matches no node."""
        return all(_any_matches(_node_values(node, name), patterns) for name, patterns in self.conditions)

    def to_api(self) -> list[dict[str, Any]]:
        """As the parameter `Filters` of DescribeInstances."""
        return [{"Name": name, "Values": list(values)} for name, values in self.conditions]

    def has(self, name: str) -> bool:
        return any(condition == name for condition, _values in self.conditions)


@dataclass(frozen=True)
class Selection:
    """All that decides which nodes are in the inventory."""

    include: tuple[Ec2Filter, ...] = ()  #: any of them is enough; empty: every node
    exclude: tuple[Ec2Filter, ...] = ()  #: none of them may match
    states: tuple[str, ...] = ("running",)  #: of EC2 instances, unless a filter names states itself; empty: every state
    platforms: tuple[str, ...] = ()  #: linux, windows, macos; empty: every platform
    ping_status: tuple[str, ...] = ()  #: online, connection_lost, inactive; empty: whatever it is
    hybrid: bool = True
    unmanaged: bool = False

    def ec2_queries(self) -> list[list[dict[str, Any]]]:
        """The `Filters` of each DescribeInstances query that has to be made; their union is what is included."""
        return [self._with_states(entry).to_api() for entry in self.include or (Ec2Filter(()),)]

    def ec2_exclusions(self) -> list[list[dict[str, Any]]]:
        """The same for exclusions that only EC2 can judge."""
        return [entry.to_api() for entry in self.exclude if not entry.known]

    @property
    def narrow(self) -> bool:
        """Whether EC2 will name fewer instances than there are, so that asking SSM by id saves calls."""
        return bool(self.include) and all(entry.conditions for entry in self.include)

    def ssm_filters(self) -> list[dict[str, Any]]:
        """The `Filters` of DescribeInstanceInformation.

        With unmanaged instances wanted it has none: a node that SSM leaves out for its state would look unmanaged.
        """
        if self.unmanaged:
            return []
        filters = []
        if self.ping_status:
            filters.append({"Key": "PingStatus", "Values": [PING_STATUS[value] for value in self.ping_status]})
        if self.platforms:
            filters.append({"Key": "PlatformTypes", "Values": [PLATFORMS[value] for value in self.platforms]})
        return filters

    def wants(self, node: Node) -> bool:
        """Judge a joined node by everything that is known here (an EC2 instance has passed EC2's own filters already)."""
        if not node["managed"] and not self.unmanaged:
            return False
        if self.platforms and node["platform"] not in self.platforms:
            return False
        if self.ping_status and node["managed"] and node["ping_status"] not in self.ping_status:
            return False
        if node["resource_type"] == "hybrid" and not (self.hybrid and self._includes(node)):
            return False
        return not any(entry.known and entry.matches(node) for entry in self.exclude)

    def _includes(self, node: Node) -> bool:
        return not self.include or any(entry.matches(node) for entry in self.include)

    def _with_states(self, entry: Ec2Filter) -> Ec2Filter:
        if not self.states or entry.has("instance-state-name"):
            return entry
        return Ec2Filter((*entry.conditions, ("instance-state-name", self.states)))


PING_STATUS: Mapping[str, str] = {"online": "Online", "connection_lost": "ConnectionLost", "inactive": "Inactive"}
PLATFORMS: Mapping[str, str] = {"linux": "Linux", "windows": "Windows", "macos": "MacOS"}


def parse_filters(value: Any, option: str) -> tuple[Ec2Filter, ...]:
    """Read a mapping, or a list of mappings, of filter names to a value or a list of values. `instance-id: "*"` is how all are meant: no condition.

    :raises OptionError: if it has another shape; empty mappings are refused because they would match everything.
    """
    entries = value if isinstance(value, list) else [value] if value else []
    result = []
    for entry in entries:
        if not isinstance(entry, Mapping) or not entry:
            raise OptionError(f"'{option}' must hold mappings such as {{'tag:Role': 'web'}}, not {entry!r}.")
        conditions = ((str(name), _strings(values, f"{option}: {name}")) for name, values in entry.items())
        result.append(Ec2Filter(tuple((name, values) for name, values in conditions if name != "instance-id" or "*" not in values)))
    return tuple(result)


def with_ids(filters: tuple[Ec2Filter, ...], ids: Sequence[str]) -> tuple[Ec2Filter, ...]:
    """The same filters for these instances alone, in as many as a filter's number of values makes necessary."""
    distinct = list(dict.fromkeys(ids))
    chunks = [tuple(distinct[start : start + FILTER_VALUES]) for start in range(0, len(distinct), FILTER_VALUES)]
    if not chunks:
        return filters
    return tuple(Ec2Filter((*entry.conditions, ("instance-id", chunk))) for entry in filters or (Ec2Filter(()),) for chunk in chunks)


def _strings(value: Any, where: str) -> tuple[str, ...]:
    values: Sequence[Any] = value if isinstance(value, (list, tuple)) else [value]
    if not values or not all(isinstance(item, (str, int, float)) for item in values):
        raise OptionError(f"'{where}' needs a value or a list of values, not {value!r}.")
    return tuple(str(item).lower() if isinstance(item, bool) else str(item) for item in values)


def _node_values(node: Node, name: str) -> Iterable[str]:
    tags: Mapping[str, str] = node["tags"]
    if name.startswith("tag:"):
        key = name.removeprefix("tag:")
        return (tags[key],) if key in tags else ()
    if name == "tag-key":
        return tags
    value = node.get(_FIELDS.get(name, ""))
    if value is None:
        return ()
    return value if isinstance(value, list) else (str(value),)


def _any_matches(values: Iterable[str], patterns: Iterable[str]) -> bool:
    return any(_matcher(pattern)(value) for value in values for pattern in patterns)


@lru_cache(maxsize=1024)
def _matcher(pattern: str) -> Callable[[str], object]:
    """EC2's wildcards; a backslash takes the next character literally."""
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    regex = "".join({"*": ".*", "?": "."}.get(part) or re.escape(part[-1]) for part in parts)
    return re.compile(regex, re.DOTALL).fullmatch
