# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes SendCommand's Targets mean: those that match all of them, and of each one at least one value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import AwsError
from ..state import ManagedNode

#: The query of a resource group; raises `AwsError`.
GroupQuery = Callable[[str], Mapping[str, Any]]
TagsOf = Callable[[ManagedNode], Mapping[str, str]]


def resolve(
    nodes: Sequence[ManagedNode], targets: Sequence[Mapping[str, Sequence[str]]], tags_of: TagsOf, query_of: GroupQuery
) -> list[ManagedNode]:
    """The nodes; raises `AwsError` for a key that is none."""
    types = [value for target in targets if target["Key"] == "resource-groups:ResourceTypeFilters" for value in target["Values"]]
    for target in targets:
        values = target.get("Values") or []
        if len(values) > 50:
            raise AwsError("ValidationException", "A target can have at most 50 values.")
        nodes = _matching(nodes, str(target["Key"]), values, types, tags_of, query_of)
    return list(nodes)


def _matching(
    nodes: Sequence[ManagedNode],
    key: str,
    values: Sequence[str],
    types: Sequence[str],
    tags_of: TagsOf,
    query_of: GroupQuery,
) -> Sequence[ManagedNode]:
    wanted = set(values)
    if key.lower() == "instanceids":
        return list(nodes) if "*" in wanted else [node for node in nodes if node.node_id in wanted]
    if key.startswith("tag:"):
        return [node for node in nodes if tags_of(node).get(key[4:]) in wanted]
    if key == "tag-key":
        return [node for node in nodes if wanted & tags_of(node).keys()]
    if key == "resource-groups:Name":
        queries = [query_of(name) for name in values]
        return [node for node in nodes if any(_in_group(node, query, types, tags_of(node)) for query in queries)]
    if key == "resource-groups:ResourceTypeFilters":
        return nodes
    raise AwsError("InvalidTarget", f"The target {key} is not valid.")


def _in_group(node: ManagedNode, query: Mapping[str, Any], types: Sequence[str], tags: Mapping[str, str]) -> bool:
    """Whether a group's TAG_FILTERS_1_0 query finds a node, as a resource of one of the types (any if none are named)."""
    kind = "AWS::SSM::ManagedInstance" if node.spec.hybrid else "AWS::EC2::Instance"
    for wanted in (query.get("ResourceTypeFilters") or (), types):
        if wanted and kind not in wanted and "AWS::AllSupported" not in wanted:
            return False
    filters = query.get("TagFilters") or ()
    return bool(filters) and all(
        entry["Key"] in tags and (not entry.get("Values") or tags[entry["Key"]] in entry["Values"]) for entry in filters
    )
