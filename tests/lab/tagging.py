# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Resource Groups Tagging API as far as it is about managed instances, which moto does not know; the rest is moto's."""

from __future__ import annotations

from typing import Any

from .errors import AwsError
from .world import World

_KIND = "ssm:managed-instance"
_LARGEST_PAGE = 100


def answer(world: World, account: str, region: str, action: str, parameters: dict[str, Any]) -> dict[str, Any] | None:
    """The answer to a request for managed instances alone; None for any other one."""
    if action != "GetResources" or parameters.get("ResourceTypeFilters") != [_KIND]:
        return None
    token = parameters.get("PaginationToken") or "0"
    size = parameters.get("ResourcesPerPage", 50)
    if not token.isdigit():
        raise AwsError("PaginationTokenExpiredException", "The pagination token is not valid.")
    if not 1 <= size <= _LARGEST_PAGE:
        raise AwsError("InvalidParameterException", f"ResourcesPerPage must be 1 to {_LARGEST_PAGE}.")
    wanted = {entry["Key"]: entry.get("Values", []) for entry in parameters.get("TagFilters", [])}
    found = [
        {"ResourceARN": node.arn, "Tags": [{"Key": key, "Value": value} for key, value in node.tags.items()]}
        for node in world.nodes.within(account, region)
        # Untagged resources are not listed.
        if node.spec.hybrid
        and node.tags
        and all(key in node.tags and (not values or node.tags[key] in values) for key, values in wanted.items())
    ]
    begin, end = int(token), int(token) + size
    return {"ResourceTagMappingList": found[begin:end], "PaginationToken": str(end) if end < len(found) else ""}
