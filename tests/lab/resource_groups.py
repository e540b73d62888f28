# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ListGroupResources, which moto has not: the nodes that a group's query by tags finds."""

from __future__ import annotations

from typing import Any

from .errors import AwsError
from .moto_bridge import group_query
from .run_command.targets import resolve
from .ssm_api.instances import node_tags
from .world import World

_PAGE = 50


def answer(world: World, account: str, region: str, action: str, parameters: dict[str, Any]) -> dict[str, Any] | None:
    """The answer; `None`: moto has it. Raises `AwsError`."""
    if action != "ListGroupResources":
        return None
    name = str(parameters.get("Group") or parameters.get("GroupName"))
    query = group_query(account, region, name)
    if query is None:
        raise AwsError("NotFoundException", f"Cannot find group: {name}", 404)
    nodes = [node for node in world.nodes.within(account, region) if node.registered is not None]
    found = resolve(nodes, [{"Key": "resource-groups:Name", "Values": [name]}], node_tags, lambda _name: query)
    first, size = int(parameters.get("NextToken") or 0), int(parameters.get("MaxResults") or _PAGE)
    entries = [{"ResourceArn": node.arn, "ResourceType": f"AWS::{'SSM::Managed' if node.spec.hybrid else 'EC2::'}Instance"} for node in found]
    page: dict[str, Any] = {"Resources": [{"Identifier": entry} for entry in entries[first : first + size]]}
    return {**page, "NextToken": str(first + size)} if len(entries) > first + size else page
