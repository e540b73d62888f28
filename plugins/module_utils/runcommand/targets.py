# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes a run is for, and how they are divided among commands. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..accounts import OptionError
from .request import NODES_A_COMMAND, TARGETS_A_COMMAND, VALUES_A_TARGET

_NODE_ID = re.compile(r"(i-[0-9a-f]{8}(?:[0-9a-f]{9})?|mi-[0-9a-f]{17})")


@dataclass(frozen=True)
class Named:
    """A node by id, and where it is, as far as the task says."""

    node_id: str
    account_id: str | None = None
    region: str | None = None


@dataclass(frozen=True)
class Targets:
    """What is run on: nodes by id, or targets that the service resolves in each place."""

    named: tuple[Named, ...] = ()
    criteria: tuple[tuple[str, tuple[str, ...]], ...] = ()  #: names and values as `Targets` of SendCommand has them

    def to_api(self) -> list[dict[str, Any]]:
        """`Targets` of SendCommand."""
        return [{"Key": key, "Values": list(values)} for key, values in self.criteria]

    def texts(self) -> list[str]:
        """For the mark."""
        return [f"{key}={value}" for key, values in self.criteria for value in values]

    @property
    def group(self) -> str | None:
        """The resource group, if it is one."""
        return next((values[0] for key, values in self.criteria if key == "resource-groups:Name"), None)


def read_targets(params: Mapping[str, Any]) -> Targets:
    """Of a module's parameters. :raises OptionError: if they name nothing, or cannot be meant so."""
    named = [Named(str(node_id)) for node_id in params.get("instance_ids") or ()]
    for number, entry in enumerate(params.get("nodes") or (), 1):
        node_id = entry.get("instance_id")
        if not node_id:
            raise OptionError(f"nodes[{number}] has no 'instance_id'.")
        named.append(Named(str(node_id), _text(entry.get("account_id")), _text(entry.get("region"))))
    wrong = [node.node_id for node in named if not _NODE_ID.fullmatch(node.node_id)]
    if wrong:
        raise OptionError(f"These are no ids of nodes (i-… or mi-…): {', '.join(wrong[:10])}. Name nodes by tag with 'tags'.")
    criteria = [(f"tag:{name}", _values(value, f"tags.{name}")) for name, value in (params.get("tags") or {}).items()]
    if params.get("resource_group"):
        criteria.append(("resource-groups:Name", (params["resource_group"],)))
        if params.get("resource_types"):
            criteria.append(("resource-groups:ResourceTypeFilters", tuple(params["resource_types"])))
    if len(criteria) > TARGETS_A_COMMAND:
        raise OptionError(f"'tags' has {len(criteria)} names, and the service takes {TARGETS_A_COMMAND}.")
    if not named and not criteria:
        raise OptionError("No node is named: set 'instance_ids', 'nodes', 'tags' or 'resource_group'.")
    return Targets(tuple(dict.fromkeys(named)), tuple(criteria))


def chunks(node_ids: Iterable[str], size: int = NODES_A_COMMAND) -> Iterator[tuple[str, ...]]:
    """Ids in pieces for one call."""
    ids = list(node_ids)
    for start in range(0, len(ids), size):
        yield tuple(ids[start : start + size])


def halves(node_ids: Sequence[str]) -> list[tuple[str, ...]]:
    """A command that is refused for a node that the answer does not name, divided."""
    middle = len(node_ids) // 2
    return [tuple(part) for part in (node_ids[:middle], node_ids[middle:]) if part]


def ids_in(text: str, node_ids: Iterable[str]) -> list[str]:
    """Those of the ids that a message of the service names."""
    named = set(_NODE_ID.findall(text))
    return [node_id for node_id in node_ids if node_id in named]


def _values(value: Any, where: str) -> tuple[str, ...]:
    values = value if isinstance(value, (list, tuple)) else [value]
    if not values or not all(isinstance(item, (str, int, float)) for item in values):
        raise OptionError(f"'{where}' needs a value or a list of values, not {value!r}.")
    if len(values) > VALUES_A_TARGET:
        raise OptionError(f"'{where}' has {len(values)} values, and the service takes {VALUES_A_TARGET}.")
    return tuple(str(item) for item in values)


def _text(value: Any) -> str | None:
    return str(value) if value else None
