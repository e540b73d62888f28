# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab shall consist of: from a YAML file, from a test, or the default of six nodes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .model import NodeKind, NodeUser

ACCOUNTS = ("111111111111", "222222222222")
REGIONS = ("eu-central-1", "us-east-1")

#: What every account has: a user with a key, two roles that the operators of all accounts may assume, the nodes' role.
OPERATOR_USER = "operator"
OPERATOR_ROLE = "FleetOperator"
PLATFORM_ROLE = "FleetPlatform"
NODE_ROLE = "FleetNode"

#: The default fleet: name, role, account, region.
_DEFAULT = (
    ("web-1", "web", 0, 0),
    ("web-2", "web", 0, 1),
    ("db-1", "db", 0, 0),
    ("web-3", "web", 1, 0),
    ("web-4", "web", 1, 1),
    ("db-2", "db", 1, 1),
)
_ENVIRONMENTS = ("prod", "staging")  #: by account


@dataclass(frozen=True)
class NodeDefinition:
    """A node to be made, before it has an id."""

    name: str
    account: str = ACCOUNTS[0]
    region: str = REGIONS[0]
    kind: NodeKind = NodeKind.PROCESS
    tags: Mapping[str, str] = field(default_factory=dict)  #: Name is added
    users: Sequence[NodeUser] = ()
    python: bool = True
    hybrid: bool = False
    profile: str | None = NODE_ROLE  #: instance profile of EC2 nodes; None: none, so the agent has no credentials
    state: str = "running"  #: running | stopped | terminated
    age: float = 0.0  #: seconds since the instance was launched, with its profile
    registered: bool = False  #: known to SSM before its agent ever runs; simulated nodes that run and have a role always are
    platform_type: str = "Linux"
    agent_version: str = "3.3.0.0"
    options: Mapping[str, Any] = field(default_factory=dict)
    count: int = 1  #: so many of them, named NAME-1, NAME-2, …

    def each(self) -> Iterator[NodeDefinition]:
        """The definitions of single nodes that this one stands for."""
        if self.count == 1:
            yield self
            return
        for number in range(1, self.count + 1):
            yield dataclasses.replace(self, name=f"{self.name}-{number}", count=1)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> NodeDefinition:
        """From JSON or YAML; raises `ValueError` naming what it has not."""
        known = {entry.name for entry in dataclasses.fields(cls)}
        unknown = set(values) - known
        if unknown:
            raise ValueError(f"a node has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}")
        chosen = dict(values)
        chosen["kind"] = NodeKind(chosen.get("kind", NodeKind.PROCESS))
        if chosen["kind"] is NodeKind.WINDOWS:
            chosen.setdefault("platform_type", "Windows")
        chosen["users"] = tuple(_user(entry) for entry in chosen.get("users") or ())
        if chosen.get("state", "running") not in ("running", "stopped", "terminated"):
            raise ValueError(f"the state of {chosen.get('name')} must be running, stopped or terminated")
        if not str(chosen.get("account", ACCOUNTS[0])).isdigit():
            raise ValueError(f"the account of {chosen.get('name')} must be 12 digits")
        return cls(**chosen)

    def as_json(self) -> dict[str, Any]:
        """The other way."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class LabSpec:
    """A whole lab."""

    nodes: tuple[NodeDefinition, ...] = ()
    accounts: tuple[str, ...] = ACCOUNTS
    regions: tuple[str, ...] = REGIONS
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> LabSpec:
        """From JSON or YAML; without `nodes` the default ones."""
        unknown = set(values) - {"nodes", "accounts", "regions", "settings"}
        if unknown:
            raise ValueError(f"a lab has no {', '.join(sorted(unknown))}; it has nodes, accounts, regions and settings")
        given = values.get("nodes", len(_DEFAULT))
        nodes = default_nodes(given) if isinstance(given, int) else tuple(NodeDefinition.of(entry) for entry in given)
        accounts = [str(account) for account in values.get("accounts", ACCOUNTS)]
        regions = list(values.get("regions", REGIONS))
        return cls(
            nodes=nodes,
            accounts=tuple(dict.fromkeys([*accounts, *(node.account for node in nodes)])),
            regions=tuple(dict.fromkeys([*regions, *(node.region for node in nodes)])),
            settings=dict(values.get("settings") or {}),
        )

    @classmethod
    def read(cls, path: Path) -> LabSpec:
        """From a YAML file."""
        return cls.of(yaml.safe_load(path.read_text(encoding="utf-8")) or {})

    def as_json(self) -> dict[str, Any]:
        """The other way."""
        return {
            "nodes": [node.as_json() for node in self.nodes],
            "accounts": list(self.accounts),
            "regions": list(self.regions),
            "settings": dict(self.settings),
        }


def default_nodes(count: int = len(_DEFAULT), kind: NodeKind = NodeKind.PROCESS) -> tuple[NodeDefinition, ...]:
    """The first nodes of the default fleet; beyond six, further web nodes."""
    rows = list(_DEFAULT[:count])
    rows += [(f"web-{number - 1}", "web", number % 2, (number // 2) % 2) for number in range(len(rows) + 1, count + 1)]
    return tuple(
        NodeDefinition(
            name=name,
            account=ACCOUNTS[account],
            region=REGIONS[region],
            kind=kind,
            tags={"Role": role, "Env": _ENVIRONMENTS[account]},
        )
        for name, role, account, region in rows
    )


def _user(values: Any) -> NodeUser:
    if isinstance(values, NodeUser):
        return values
    return NodeUser(**{**values, "groups": tuple(values.get("groups", ()))})
